package lint

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
)

const (
	ttlLong      = 10 * time.Second // clients follow a failover so much later, whatever else is fast
	silenceSlow  = 10 * time.Second
	hostInName   = "{host}"
	rangeBeyond  = 2  // periods that are looked at beyond those of an alarm before missing data counts
	samplesShare = 10 // a percentile needs 10/(1-p) samples
)

// Service returns the traps in a service file that was read without mistakes.
func Service(s drill.Service) []Finding {
	var f findings
	for _, name := range s.Failover {
		f.name(s, name)
	}
	for _, alarm := range s.Alarms {
		f.alarm(s, alarm)
	}
	for _, d := range s.Drills {
		f.drill(s, d)
	}
	f.pipeline(s)
	f.clients(s)
	if len(s.Alarms) > 0 && len(s.Actions) == 0 {
		f.add(Warning, "nobody-told", "alarms", "Write actions: with webhook, slack, pagerduty, email, sns or exec.", "alarms are raised, and nobody is told")
	}
	return f.sorted()
}

// detects returns after how long at least an alarm is raised when its host dies, and whether it is at all.
func detects(s drill.Service, alarm drill.Alarm) (after time.Duration, ever bool) {
	metric := s.Metric(alarm.Metric)
	switch {
	case alarm.Disabled:
		return 0, false
	case alarm.Source != nil:
		return alarm.Source.Every.Duration(), true // how it is made elsewhere is not known
	case metric == nil:
		return 0, false
	case alarm.Absent > 0:
		return alarm.Absent.Duration(), metric.From != drill.FromWatch
	case metric.From == drill.FromWatch && !metric.Received() && metric.Prometheus == "":
		return time.Duration(alarm.Datapoints.M) * alarm.Period.Duration(), true
	case alarm.Missing == "breaching":
		return silence(alarm), true
	}
	return 0, false
}

// silence is how long nothing must come before missing data is looked at: real points win as long as there are enough in the range.
func silence(alarm drill.Alarm) time.Duration {
	return time.Duration(alarm.Datapoints.N+rangeBeyond) * alarm.Period.Duration()
}

// name is what can be wrong with a failover name.
func (f *findings) name(s drill.Service, name drill.Failover) {
	path := "failover." + name.Name
	var fastest time.Duration
	noticed := false
	for _, wanted := range name.UnhealthyWhen {
		i := slices.IndexFunc(s.Alarms, func(a drill.Alarm) bool { return a.Name == wanted })
		if i < 0 {
			continue
		}
		if s.Alarms[i].Disabled {
			f.add(Error, "alarm-disabled", "alarms."+wanted, "Take disabled: true out.", "%s moves %s, and is disabled: it keeps its state", wanted, name.Name)
		}
		if after, ever := detects(s, s.Alarms[i]); ever && (!noticed || after < fastest) {
			noticed, fastest = true, after
		}
	}
	ttl := name.TTL.Duration()
	if name.Provider == drill.ProviderHAProxy || name.Provider == drill.ProviderNginx || name.Provider == drill.ProviderHosts {
		ttl = 0
	}
	rto := s.Objectives.RTO.Duration()
	switch {
	case !noticed:
		f.add(Error, "dead-host-unnoticed", path+".unhealthy_when", `Add an alarm on silence: {metric: a heartbeat, absent: 2s}; or missing: breaching.`,
			"no alarm here is raised when a host dies: without data they become INSUFFICIENT_DATA, and %s stays where it is", name.Name)
	case rto > 0 && fastest+ttl > rto:
		f.add(Error, "rto-out-of-reach", path, "Shorten periods and datapoints, use absent:, or lower the ttl; or admit a longer objective.",
			"a dead host is noticed after %s at the earliest, and clients follow within the TTL of %s: the objective of %s cannot be met", fastest, ttl, rto)
	case fastest > silenceSlow:
		f.add(Warning, "slow-silence", path+".unhealthy_when", "Add an alarm with absent: 2s on a heartbeat.",
			"a dead host is noticed after %s: missing data counts only once no real datapoints are left in the range", fastest)
	}
	if ttl > ttlLong {
		f.add(Warning, "ttl-long", path+".ttl", "Write ttl: 5s or less.", "clients keep the old answer for %s after each move", ttl)
	}
	if len(name.Servers) == 1 && (name.Provider == drill.ProviderAuthority || name.Provider == drill.ProviderRFC2136) {
		f.add(Warning, "one-name-server", path+".servers", "Run two or more that agree, and name them.", "%s has one name server: without it there is no answer, and resolvers remember that", name.Name)
	}
	if name.Failback == "auto" && name.MinHold == 0 {
		f.add(Warning, "failback-flaps", path, "Write min_hold: 1m, or failback: manual.", "the answer goes back at once when the primary is healthy, and a primary that comes and goes takes the clients with it")
	}
	if name.Frozen {
		f.add(Error, "name-frozen", path+".frozen", "Take frozen: true out when the maintenance is over.", "%s never moves", name.Name)
	}
}

// alarm is what can be wrong with one alarm.
func (f *findings) alarm(s drill.Service, alarm drill.Alarm) {
	path := "alarms." + alarm.Name
	used := func(name drill.Failover) bool { return slices.Contains(name.UnhealthyWhen, alarm.Name) }
	inRule := func(c drill.Composite) bool {
		return strings.Contains(c.Rule, strings.Trim(strings.ReplaceAll(alarm.Name, hostInName, ""), "-_."))
	}
	if strings.Contains(alarm.Name, hostInName) && len(s.Failover) > 0 && !slices.ContainsFunc(s.Failover, used) && !slices.ContainsFunc(s.Composites, inRule) {
		f.add(Warning, "alarm-moves-nothing", path, "Name it in unhealthy_when, if its host should then be left.", "it speaks for a host and moves no name: clients stay with that host")
	}
	metric := s.Metric(alarm.Metric)
	if metric == nil || alarm.Absent > 0 || alarm.Source != nil {
		return
	}
	if !metric.Received() && alarm.Period < metric.Every {
		f.add(Error, "period-without-data", path+".period", "Write a period of at least every of its metric.",
			"periods of %s, and %s is measured every %s: most periods are missing data", alarm.Period, metric.Name, metric.Every)
	}
	need, ok := samplesFor(alarm.Statistic)
	if samples := int(alarm.Period / max(1, metric.Every)); ok && !metric.Received() && samples < need {
		if alarm.LowSamples == "ignore" {
			f.add(Error, "percentile-never", path+".statistic", "Lengthen the period, measure more often, or take a lower percentile.",
				"%s needs %d samples, a period has %d, and low_samples is ignore: it is never evaluated", alarm.Statistic, need, samples)
		} else {
			f.add(Warning, "percentile-few-samples", path+".statistic", "Lengthen the period, measure more often, or take a lower percentile.",
				"%s of %d samples is their maximum, or nearly: it says something from %d samples on", alarm.Statistic, samples, need)
		}
	}
}

// samplesFor returns how many samples a percentile such as p99 needs.
func samplesFor(statistic string) (int, bool) {
	number, is := strings.CutPrefix(strings.ToLower(statistic), "p")
	share, err := strconv.ParseFloat(number, 64)
	if !is || err != nil || share <= 0 || share >= 100 {
		return 0, false
	}
	rest := min(share, 100-share) / 100
	return int(math.Ceil(samplesShare/rest - 1e-9)), true
}

// drill is what can be wrong with a drill.
func (f *findings) drill(s drill.Service, d drill.Drill) {
	path := "drills." + d.Name
	expects := func(part string) bool {
		return slices.ContainsFunc(d.Expect, func(text string) bool { return strings.Contains(text, part) })
	}
	if !expects("alarm \"") {
		f.add(Warning, "drill-expects-no-alarm", path+".expect", `Write alarm "..." within ...`, "no alarm is expected: one that is never raised goes unnoticed")
	}
	if d.On == "active environment" && len(s.Failover) > 0 && !expects("answer ") {
		f.add(Warning, "drill-expects-no-answer", path+".expect", "Write answer moves to the other environment within ..., or answer stays.", "the active environment is attacked, and nothing is said of where the name must lead")
	}
	if d.On == "active environment" && !expects("clients") && !expects("availability") && !expects("requests answered") {
		f.add(Warning, "drill-forgets-clients", path+".expect", "Write clients recover within ...", "nothing is expected of what clients see")
	}
}

// pipeline looks for releases on both environments before the first drill: then there is nothing to go back to.
func (f *findings) pipeline(s drill.Service) {
	deployed := 0
	for i, item := range s.Pipeline {
		switch {
		case strings.HasPrefix(item, "drill "):
			return
		case strings.HasPrefix(item, "deploy "):
			deployed++
		}
		if deployed == 2 && slices.ContainsFunc(s.Pipeline[i:], func(later string) bool { return strings.HasPrefix(later, "drill ") }) {
			f.add(Error, "no-way-back", "pipeline["+strconv.Itoa(i)+"]", "Deploy to the other environment after the last drill.",
				"both environments run the new release before the first drill: when it fails, no host runs the old one")
			return
		}
	}
}

// clients is what measuring misses.
func (f *findings) clients(s drill.Service) {
	if len(s.Drills) == 0 {
		return
	}
	any := func(has func(drill.Client) bool) bool { return slices.ContainsFunc(s.Clients, has) }
	if len(s.Clients) == 0 {
		f.add(Error, "no-clients", "clients", "Write clients: with at least one place.", "nobody measures what clients see, so no drill can prove a recovery")
		return
	}
	byDNS := slices.ContainsFunc(s.Failover, func(n drill.Failover) bool {
		return n.Provider == drill.ProviderAuthority || n.Provider == drill.ProviderRFC2136 || n.Provider == drill.ProviderRoute53
	})
	if byDNS && !any(func(c drill.Client) bool { return c.Keep }) {
		f.add(Warning, "no-keep-alive-client", "clients", "Add one with keep_alive: true.", "clients that keep connections stay on a sick host that still answers, whatever DNS says, and nobody measures that")
	}
	if byDNS && !any(func(c drill.Client) bool { return c.Resolver != "" }) {
		f.add(Warning, "no-caching-client", "clients", "Add one with resolver: of a caching name server.", "recovery is measured without the cache that clients ask through")
	}
	if s.Objectives.RPO != nil && !any(func(c drill.Client) bool { return c.Ledger != "" }) {
		f.add(Warning, "rpo-unmeasured", "objectives.rpo", "Give a client a ledger:.", "an RPO is promised, and nobody counts acknowledged writes")
	}
	for _, client := range s.Clients {
		if rto := s.Objectives.RTO; rto > 0 && 2*client.Every > rto {
			f.add(Warning, "client-too-slow", "clients."+client.Name+".every", "Write every: 100ms.", "it looks every %s: the error of a measured recovery is as large as the objective of %s", client.Every, rto)
		}
	}
}
