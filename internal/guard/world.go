package guard

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// samplesKept bounds the memory of client samples: a minute at 100 a second, longer than any window that is asked for. Up to twice as
// many are there at times.
const samplesKept = 6000

// Release is what a host was last seen to run.
type Release struct {
	Name, Revision string
	Healthy        bool
	Detail         string
	InForce        []string // attacks found in force there
	Locked         *history.Reservation
	Error          string // the look failed; then nothing else is known
	At             time.Time
}

// World is what the events say of the moment: alarms, answers, hosts, releases, samples, attacks. The zero value knows nothing.
type World struct {
	plan     drill.Plan
	alarms   map[string]string           // alarm to state
	answers  map[string]history.Answer   // name server to what it answered last
	hosts    map[string]bool             // host to whether it is up
	releases map[string]Release          // host to release
	attacked map[string]string           // GUID of what is in force to its host
	oneWay   map[string]bool             // GUIDs of attacks that take a host down
	samples  map[string][]history.Sample // client to its latest samples, oldest first
	failing  map[string]time.Time        // client to since when all was failure before its oldest sample that is kept
	watch    bool                        // the watch is heard
	servers  map[server]history.Database // what each server of a database was last found to be
	lines    map[logLine]time.Time       // when a line that is asked for was written last
	followed map[logLine]bool            // log files, without a pattern, that are being read
}

// server is one server of a database.
type server struct{ database, host string }

// logLine is a pattern in a log file of a host.
type logLine struct{ host, file, pattern string }

// NewWorld returns a world in which nothing has been seen yet.
func NewWorld(plan drill.Plan) *World {
	return &World{
		plan: plan, alarms: map[string]string{}, answers: map[string]history.Answer{}, hosts: map[string]bool{},
		releases: map[string]Release{}, attacked: map[string]string{}, oneWay: map[string]bool{}, samples: map[string][]history.Sample{},
		failing: map[string]time.Time{}, servers: map[server]history.Database{}, lines: map[logLine]time.Time{}, followed: map[logLine]bool{},
	}
}

// remainsOneWay is AttackPlanned.Remains of a kind that has nothing to take back.
const remainsOneWay = "one-way"

// WatchHost is the Host of a history.Host fact that tells whether the watch is heard.
const WatchHost = "watch"

// Fold takes one event in.
func (w *World) Fold(event history.Event) {
	switch fact := event.Fact.(type) {
	case *history.Alarm:
		w.alarms[fact.Name] = fact.To
	case *history.Answer:
		// Of other names of the service nothing is asked here; on the same server they may lead elsewhere.
		if fact.Server != "" && fact.Name == w.plan.Failover[0].Name {
			w.answers[withPort(fact.Server)] = *fact
		}
	case *history.Host:
		if fact.Host == WatchHost {
			w.watch = fact.Up
			if !fact.Up {
				clear(w.alarms) // what is not heard is not known
				clear(w.hosts)
			}
			return
		}
		w.hosts[fact.Host] = fact.Up
	case *history.Inspected:
		w.releases[fact.Host] = Release{
			Name: fact.Release, Revision: fact.Revision, Healthy: fact.Healthy, Detail: fact.Detail,
			InForce: fact.InForce, Locked: fact.Locked, Error: fact.Error, At: event.At,
		}
	case *history.AttackPlanned:
		if fact.Remains == remainsOneWay {
			w.oneWay[fact.GUID] = true
		}
	case *history.AttackInForce:
		if !w.oneWay[fact.GUID] { // a host that goes down is seen down, and nothing is left on it to be taken back
			w.attacked[fact.GUID] = event.Source
		}
	case *history.AttackReverted:
		if len(fact.Residue) == 0 {
			delete(w.attacked, fact.GUID)
		}
	case *history.Database:
		w.servers[server{fact.Database, fact.Host}] = *fact
	case *history.Line:
		w.lines[logLine{fact.Host, fact.File, fact.Pattern}] = event.At
	case *history.Followed:
		w.followed[logLine{host: fact.Host, file: fact.File}] = fact.Up
	case *history.Sample:
		w.foldSample(*fact)
	}
}

func (w *World) foldSample(sample history.Sample) {
	if !slices.ContainsFunc(w.measured(), func(c drill.Client) bool { return c.Name == sample.Probe }) {
		return
	}
	all := append(w.samples[sample.Probe], sample)
	// Samples arrive in the order in which they ended; windows are asked for in the order in which they were scheduled.
	for i := len(all) - 1; i > 0 && all[i].Scheduled.Before(all[i-1].Scheduled); i-- {
		all[i], all[i-1] = all[i-1], all[i]
	}
	if len(all) == 2*samplesKept { // not at each sample: moving the rest costs more than keeping some
		w.forget(all[:samplesKept])
		all = slices.Delete(all, 0, samplesKept)
	}
	w.samples[sample.Probe] = all
}

// measured are the clients, and the probes of the user, which are asked the same way.
func (w *World) measured() []drill.Client {
	if len(w.plan.Probes) == 0 {
		return w.plan.Clients
	}
	all := slices.Clone(w.plan.Clients)
	for _, probe := range w.plan.Probes {
		all = append(all, drill.Client{Name: probe.Name, Every: probe.Every, Timeout: probe.Timeout})
	}
	return all
}

// forget keeps of samples only since when they have been failures without a break: an outage may be longer than what is kept.
func (w *World) forget(samples []history.Sample) {
	for _, sample := range samples {
		if began := w.failing[sample.Probe]; sample.OK {
			w.failing[sample.Probe] = time.Time{}
		} else if began.IsZero() {
			w.failing[sample.Probe] = sample.Scheduled
		}
	}
}

// EnvironmentOf returns the name of the environment that an address belongs to, or "".
func EnvironmentOf(plan drill.Plan, address string) string {
	for _, environment := range plan.Environments {
		for _, host := range environment.Hosts {
			if host.Address.String() == address {
				return environment.Name
			}
		}
	}
	return ""
}

// answered returns the environment that every name server leads to, or "" with the reason. A plan that names no servers takes those
// that were heard.
func (w *World) answered() (environment, why string) {
	if len(w.answers) == 0 {
		return "", "no name server has answered yet"
	}
	for _, server := range w.plan.Failover[0].Places() {
		if _, heard := w.answers[withPort(server)]; !heard {
			return "", server + " was not heard yet"
		}
	}
	servers := slices.SortedFunc(maps.Keys(w.answers), cmp.Compare)
	for _, server := range servers {
		answer := w.answers[server]
		if answer.Error != "" {
			return "", server + " does not answer: " + answer.Error
		}
		found := ""
		for _, address := range answer.Addresses {
			found = EnvironmentOf(w.plan, address)
			if found == "" {
				return "", server + " answers " + address + ", which is no host of " + w.plan.Service
			}
		}
		if found == "" {
			return "", server + " answers with no address"
		}
		if environment != "" && found != environment {
			return "", "the name servers disagree: " + environment + " and " + found
		}
		environment = found
	}
	return environment, ""
}

// withPort makes two ways of writing the same name server equal. What is asked by a URL has only one.
func withPort(server string) string {
	if strings.Contains(server, "://") {
		return server
	}
	if _, _, err := net.SplitHostPort(server); err == nil {
		return server
	}
	return net.JoinHostPort(server, "53")
}

// Live returns the environment that is answered now, or "" when that is not certain.
func (w *World) Live() string {
	environment, _ := w.answered()
	return environment
}

func (w *World) environment(name string) *drill.Environment {
	if i := slices.IndexFunc(w.plan.Environments, func(e drill.Environment) bool { return e.Name == name }); i >= 0 {
		return &w.plan.Environments[i]
	}
	return nil
}

// unwell returns why an environment cannot be relied on, or "".
func (w *World) unwell(name string) string {
	if reason := w.down(name); reason != "" {
		return reason
	}
	return w.alarmed(name)
}

// down says why an environment cannot be taken for one that runs and is not under attack, whatever its alarms say, or "".
func (w *World) down(name string) string {
	environment := w.environment(name)
	if environment == nil {
		return "there is no environment " + name
	}
	if !w.watch {
		return "the watch is not heard"
	}
	for _, host := range environment.Hosts {
		for _, guid := range slices.Sorted(maps.Keys(w.attacked)) {
			if w.attacked[guid] == host.Name {
				return host.Name + " is under attack (" + guid + ")"
			}
		}
		if up, known := w.hosts[host.Name]; !known || !up {
			return host.Name + " is not seen up"
		}
	}
	return ""
}

// alarmed returns which alarm of an environment is not OK, or ""; with no environment it is about the alarms of the service as a whole.
func (w *World) alarmed(name string) string {
	for _, alarm := range w.plan.Alarms {
		if alarm.Environment != name || alarm.Disabled {
			continue
		}
		if state := w.alarms[alarm.Name]; state != history.AlarmOK {
			return alarm.Name + " is " + cmp.Or(state, "not heard of")
		}
	}
	return ""
}

// Attacked says which of the hosts an attack is in force on as far as the events tell, or "".
func (w *World) Attacked(hosts []drill.Host) string {
	for _, guid := range slices.Sorted(maps.Keys(w.attacked)) {
		if slices.ContainsFunc(hosts, func(h drill.Host) bool { return h.Name == w.attacked[guid] }) {
			return w.attacked[guid] + " (" + guid + ")"
		}
	}
	return ""
}
