package guard

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func says(got, want string) bool {
	return (got == "") == (want == "") && strings.Contains(got, want)
}

func anyBegins(wrong map[string]string, prefix string) bool {
	for name := range wrong {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// The planted bugs: deciders that overlook one fact. They see it as good and go on.
var (
	deafToAlarms = func(w *World) {
		for _, alarm := range w.plan.Alarms {
			w.alarms[alarm.Name] = history.AlarmOK
		}
	}
	blindToHosts = func(w *World) {
		for _, environment := range w.plan.Environments {
			for _, host := range environment.Hosts {
				w.hosts[host.Name] = true
			}
		}
	}
	blindToAttacks = func(w *World) { clear(w.attacked) }
	needsNoWatch   = func(w *World) { w.watch = true }
	takesAnyAnswer = func(w *World) {
		w.answers = map[string]history.Answer{"ns-1:53": w.answers["ns-1:53"], "ns-2:53": w.answers["ns-1:53"]}
	}
	asksNoNameServer = func(w *World) {
		w.plan.Failover[0].Servers = nil
		w.answers = map[string]history.Answer{"ns-1:53": {Name: "shop.test", Server: "ns-1", Addresses: []string{"10.0.0.1"}}}
	}
	needsOneNameServer = func(w *World) { w.plan.Failover[0].Servers = nil }
	needsNoSamples     = func(w *World) { w.plan.Clients = nil }
)

// seesReleases makes a planted bug that takes each look at a host for better than it was.
func seesReleases(better func(*Release)) func(*World) {
	return func(w *World) {
		for host, release := range w.releases {
			better(&release)
			w.releases[host] = release
		}
	}
}

// doubtful are the rows that hold of both environments' being relied on, for the host given and its alarm.
func doubtful(host string) []row {
	return []row{
		{host + " is down", func(s *scene) { s.host(host, false) }, host + " is not seen up"},
		{host + " was never seen up", func(s *scene) {
			s.without(func(fact history.Fact) bool { seen, is := fact.(*history.Host); return is && seen.Host == host })
		}, host + " is not seen up"},
		{host + " has its alarm raised", func(s *scene) { s.alarm(host+"-db", history.AlarmRaised) }, host + "-db is ALARM"},
		{host + " has an alarm without data", func(s *scene) { s.alarm(host+"-db", history.AlarmInsufficient) }, host + "-db is INSUFFICIENT_DATA"},
		{host + " has an alarm that was never heard of", func(s *scene) {
			s.without(func(fact history.Fact) bool { seen, is := fact.(*history.Alarm); return is && seen.Name == host+"-db" })
		}, host + "-db is not heard of"},
		{host + " is under attack", func(s *scene) { s.inForce(host, "g1", "nothing") }, host + " is under attack (g1)"},
		{host + " was attacked and something is left", func(s *scene) { s.inForce(host, "g1", "nothing"); s.reverted(host, "g1", "table") }, host + " is under attack (g1)"},
		{host + " is under the second of two attacks", func(s *scene) {
			s.inForce(host, "g1", "nothing")
			s.inForce(host, "g2", "nothing")
			s.reverted(host, "g1")
		}, host + " is under attack (g2)"},
		{host + " is under the first of two attacks", func(s *scene) {
			s.inForce(host, "g1", "nothing")
			s.inForce(host, "g2", "nothing")
			s.reverted(host, "g2")
		}, host + " is under attack (g1)"},
	}
}

var watchRows = []row{
	{"watch is not heard any more", func(s *scene) { s.heard(false) }, "the watch is not heard"},
	{"watch was never heard", func(s *scene) {
		s.without(func(fact history.Fact) bool { seen, is := fact.(*history.Host); return is && seen.Host == WatchHost })
	}, "the watch is not heard"},
	{"watch is heard again and has not told of the hosts", func(s *scene) { s.heard(false); s.heard(true) }, "not seen up"},
}

// unfit are the rows that hold of an environment which must be able to serve alone.
func unfit(host string) []row {
	return append(doubtful(host), []row{
		{host + " runs an unknown release", func(s *scene) {
			s.without(func(fact history.Fact) bool { seen, is := fact.(*history.Inspected); return is && seen.Host == host })
		}, "what " + host + " runs is not known"},
		{host + " was looked at too long ago", func(s *scene) {
			s.release(host, Release{Name: "r1", Healthy: true, At: moment.Add(-inspectionAge - time.Nanosecond)})
		}, "what " + host + " runs is not known"},
		{host + " could not be looked at", func(s *scene) { s.release(host, Release{Error: "no route to host"}) }, host + " could not be looked at: no route to host"},
		{host + " is found under attack", func(s *scene) { s.release(host, Release{Name: "r1", Healthy: true, InForce: []string{"blackhole g9"}}) }, "under attack already: blackhole g9"},
		{host + " has no release", func(s *scene) { s.release(host, Release{Healthy: true}) }, host + " has no release"},
		{host + " is not healthy", func(s *scene) { s.release(host, Release{Name: "r1", Detail: "status 503"}) }, host + " is not healthy: status 503"},
	}...)
}

var answerRows = []row{
	{"answer is not heard at all", func(s *scene) {
		s.without(func(fact history.Fact) bool { _, is := fact.(*history.Answer); return is })
	}, "no name server has answered yet"},
	{"answer of one server is not heard", func(s *scene) {
		s.without(func(fact history.Fact) bool { seen, is := fact.(*history.Answer); return is && seen.Server == "ns-2" })
	}, "ns-2 was not heard yet"},
	{"answer of one server fails", func(s *scene) {
		s.add(moment, "ci", &history.Answer{Name: "shop.test", Server: "ns-2", Error: "i/o timeout"})
	}, "ns-2:53 does not answer: i/o timeout"},
	{"answer is empty", func(s *scene) { s.answer("ns-2") }, "ns-2:53 answers with no address"},
	{"answer leads elsewhere", func(s *scene) { s.answer("ns-2", "192.0.2.1") }, "192.0.2.1, which is no host of shop"},
	{"answer of the same address on another port is not heard", func(s *scene) { s.plan.Failover[0].Servers = []string{"ns-1:5353", "ns-2"} }, "ns-1:5353 was not heard yet"},
	{"answers disagree", func(s *scene) { s.answer("ns-2", "10.0.0.2") }, "the name servers disagree"},
}

// fineRows change what must not matter.
var fineRows = []row{
	{"fine as it is", nil, ""},
	{"fine: an attack was taken back", func(s *scene) { s.inForce("green-1", "g1", "nothing"); s.reverted("green-1", "g1") }, ""},
	{"fine: a host went down as ordered and is back", func(s *scene) {
		s.inForce("green-1", "g1", "one-way")
		s.host("green-1", false)
		s.host("green-1", true)
	}, ""},
	{"fine: an alarm that is switched off", func(s *scene) { s.plan.Alarms[0].Disabled = true; s.alarm("blue-1-db", history.AlarmRaised) }, ""},
	{"fine: another name of the same server leads elsewhere", func(s *scene) {
		s.add(moment, "ci", &history.Answer{Name: "shop-old.test", Server: "ns-1", Addresses: []string{"10.0.0.2"}})
	}, ""},
	{"fine: what the watch has decided is not what a server answers", func(s *scene) {
		s.add(moment, "watch", &history.Answer{Name: "shop.test", Decided: true, Addresses: []string{"10.0.0.2"}})
	}, ""},
	{"fine: a host of nobody is attacked", func(s *scene) { s.inForce("elsewhere", "g1", "nothing") }, ""},
	{"fine: a server that is written with its port", func(s *scene) { s.plan.Failover[0].Servers = []string{"ns-1:53", "ns-2"} }, ""},
	{"fine: a plan without servers takes those that were heard", func(s *scene) { s.plan.Failover[0].Servers = nil }, ""},
}

var unwellTwins = []twin{
	{"ignores alarms", "green-2 has an alarm", deafToAlarms},
	{"ignores whether hosts are up", "green-2 is down", blindToHosts},
	{"ignores attacks", "green-2 is under", blindToAttacks},
	{"does not need the watch", "watch is not heard", func(w *World) { needsNoWatch(w); deafToAlarms(w); blindToHosts(w) }},
	{"takes the answer of the first server for all", "answers disagree", takesAnyAnswer},
	{"asks no name server", "answer leads elsewhere", asksNoNameServer},
	{"is content with one name server", "answer of one server is not heard", needsOneNameServer},
}

func TestSteadyOnlyWhenAllIsWell(t *testing.T) {
	rows := append(doubtful("blue-1"), doubtful("green-2")...)
	rows = append(append(append(rows, watchRows...), answerRows...), fineRows...)
	rows = append(rows, []row{
		{"answer is the other environment", func(s *scene) { s.answer("ns-1", "10.0.0.2"); s.answer("ns-2", "10.0.0.3") }, "green is answered, not blue"},
		{"client failed once in the window", func(s *scene) { s.sample(moment.Add(-2*time.Second), false) }, "client failed (connect)"},
		{"client fails now", func(s *scene) { s.sample(moment, false) }, "client failed (connect)"},
		{"client gave nothing", func(s *scene) { s.without(noSamples) }, "client gave 0 samples where 30 belong"},
		{"client gave too few", func(s *scene) { s.without(noSamples); s.served(time.Second, time.Second, true) }, "samples where 30 belong"},
		{"client fell silent", func(s *scene) { s.without(noSamples); s.served(10*time.Second, 10*time.Second, true) }, "client gave 0 samples"},
		{"client that samples rarely gave nothing", func(s *scene) {
			s.plan.Clients[0].Every = drill.Seconds(5 * time.Second)
			s.without(noSamples)
		}, "client gave 0 samples where 2 belong"},
		{"fine: a client that samples rarely", func(s *scene) {
			s.plan.Clients[0].Every = drill.Seconds(5 * time.Second)
			s.without(noSamples)
			s.sample(moment.Add(-8*time.Second), true)
		}, ""},
		{"fine: a failure before the window", func(s *scene) { s.sample(moment.Add(-9*time.Second), false) }, ""},
		{"fine: samples that end in another order", func(s *scene) {
			s.sample(moment, true)
			s.sample(moment.Add(-9*time.Second), false)
		}, ""},
		{"fine: a probe that is no client", func(s *scene) {
			s.add(moment, "blue-1", &history.Sample{Probe: "db-connectivity", Scheduled: moment})
		}, ""},
	}...)
	twins := append([]twin{
		{"ignores clients", "client", needsNoSamples},
		{"wants no number of samples", "client gave nothing", func(w *World) {
			w.samples["client"] = append(w.samples["client"], manyGood()...)
		}},
		{"takes any environment for the one that is answered", "answer is the other", asksNoNameServer},
	}, unwellTwins...)
	checkTable(t, rows, twins, func(w *World) string {
		ok, why := Steady(w, "blue", moment, 3*time.Second)
		if ok != (why == "") {
			t.Errorf("steady=%t with the reason %q", ok, why)
		}
		return why
	})
}

func manyGood() []history.Sample {
	s := &scene{plan: shop()}
	s.served(0, 10*time.Second, true)
	var all []history.Sample
	for _, event := range s.events {
		all = append(all, *event.Fact.(*history.Sample))
	}
	return all
}

// against returns the reason of a refusal, or "" when the step is admitted.
func against(t *testing.T, step int) func(*World) string {
	return func(w *World) string {
		permit := Admit(w, step, moment)
		if permit.Step != step || permit.Reason == "" {
			t.Errorf("permit %+v does not name its step and its grounds", permit)
		}
		if permit.Granted {
			return ""
		}
		if permit.Cure == "" {
			t.Errorf("refused without a cure: %s", permit.Reason)
		}
		return permit.Reason
	}
}

func TestAdmitNeedsSomewhereToGoBackTo(t *testing.T) {
	releaseTwins := []twin{
		{"takes an old look for a new one", "was looked at too long ago", seesReleases(func(r *Release) { r.At = moment })},
		{"ignores that a look failed", "could not be looked at", seesReleases(func(r *Release) {
			if r.Error != "" {
				*r = Release{Name: "r1", Healthy: true, At: r.At}
			}
		})},
		{"ignores what a look finds in force", "is found under attack", seesReleases(func(r *Release) { r.InForce = nil })},
		{"needs no release", "has no release", func(w *World) { w.plan.Deploy = nil }},
		{"needs no health", "is not healthy", seesReleases(func(r *Release) { r.Healthy = true })},
		{"needs no look at all", "runs an unknown release", func(w *World) {
			for _, environment := range w.plan.Environments {
				for _, host := range environment.Hosts {
					if _, seen := w.releases[host.Name]; !seen {
						w.releases[host.Name] = Release{Name: "r1", Healthy: true, At: moment}
					}
				}
			}
		}},
	}
	common := append(append(append([]row{}, watchRows...), answerRows...), fineRows...)
	replanned := row{"plan was made for the other environment", func(s *scene) { s.answer("ns-1", "10.0.0.2"); s.answer("ns-2", "10.0.0.2") }, "the plan was made for blue being answered, and green is"}
	both := append(append(append(unfit("blue-1"), unfit("green-2")...), common...), replanned)
	for step, what := range map[int]struct {
		rows  []row
		twins []twin
		stays string // a host of the environment that stays
	}{
		drillGreen:   {both, unwellTwins, "blue-1"},
		drillBlue:    {both, unwellTwins, "green-2"},
		promoteGreen: {both, unwellTwins, "blue-1"},
		deployGreen: {append(append(unfit("blue-1"), common...), []row{
			{"answered is what is deployed to", func(s *scene) { s.answer("ns-1", "10.0.0.2"); s.answer("ns-2", "10.0.0.2") }, "green is answered now"},
			{"fine: what is deployed to is not healthy", func(s *scene) { s.release("green-2", Release{Name: "r1"}) }, ""},
			{"fine: what is deployed to has an alarm raised", func(s *scene) { s.alarm("green-1-db", history.AlarmRaised) }, ""},
			{"fine: one host of what is deployed to has no release", func(s *scene) { s.release("green-2", Release{}) }, ""},
			{"fine: the first release anywhere", func(s *scene) {
				for _, host := range []string{"blue-1", "green-1", "green-2"} {
					s.release(host, Release{})
				}
			}, ""},
			{"first release, but one look failed", func(s *scene) {
				s.release("blue-1", Release{})
				s.release("green-1", Release{})
				s.release("green-2", Release{Error: "no route to host"})
			}, "blue-1 has no release"},
			{"first release, but one look is old", func(s *scene) {
				s.release("blue-1", Release{})
				s.release("green-1", Release{})
				s.release("green-2", Release{At: moment.Add(-inspectionAge - time.Second)})
			}, "blue-1 has no release"},
		}...), []twin{
			{"deploys to what is answered", "answered is what is deployed to", asksNoNameServer},
			{"deploys to a first environment that it could not see", "first release, but one look failed", seesReleases(func(r *Release) { r.Error = "" })},
		}, "blue-1"},
		deployBlue: {[]row{
			{"answered has a release", nil, "blue is answered now, and a deployment would take it from its clients"},
			{"answered has no release, but was looked at too long ago", func(s *scene) {
				s.release("blue-1", Release{At: moment.Add(-inspectionAge - time.Second)})
			}, "blue is answered now"},
			{"fine: what is answered has no release yet", func(s *scene) { s.release("blue-1", Release{}) }, ""},
		}, []twin{
			{"deploys to what is answered", "answered has a release", func(w *World) {
				for server := range w.answers {
					w.answers[server] = history.Answer{Name: "shop.test", Server: server, Addresses: []string{"10.0.0.2"}}
				}
			}},
			{"takes an old look for a new one", "answered has no release, but", seesReleases(func(r *Release) { r.At = moment })},
		}, ""},
	} {
		var twins []twin
		for _, planted := range what.twins {
			planted.caught = strings.Replace(planted.caught, "green-2", what.stays, 1)
			twins = append(twins, planted)
		}
		for _, planted := range releaseTwins {
			if what.stays != "" {
				planted.caught = what.stays + " " + planted.caught
				twins = append(twins, planted)
			}
		}
		checkTable(t, what.rows, twins, against(t, step))
	}
}

// A decider that forgets one of the two environments, or that the plan was made for another answer, is caught too.
func TestAdmitOfTheWrongEnvironmentIsCaught(t *testing.T) {
	rows := append(unfit("blue-1"), row{"plan was made for the other environment", func(s *scene) { s.answer("ns-1", "10.0.0.2"); s.answer("ns-2", "10.0.0.2") }, "the plan was made"})
	for name, planted := range map[string]func(*World) string{
		"looks only at what is attacked": func(w *World) string { return w.unready("green", moment) },
		"never refuses":                  func(*World) string { return "" },
		"does not ask what the plan was made for": func(w *World) string {
			w.plan.Steps[drillGreen].Live = w.Live()
			return against(t, drillGreen)(w)
		},
	} {
		if wrong := holds(rows, planted); len(wrong) == 0 {
			t.Errorf("the planted bug %q is not caught", name)
		}
	}
}

func TestAdmitNamesAnEnvironmentThatIsNotThere(t *testing.T) {
	s := allWell()
	s.plan.Failover[0].Secondary = "gray"
	s.plan.Steps[drillBlue].Environment = "blue"
	if got := against(t, drillBlue)(s.world()); !strings.Contains(got, "there is no environment gray") {
		t.Errorf("reason %q", got)
	}
	s.plan.Steps[deployGreen].Environment = "gray"
	if s.world().first("gray", moment) {
		t.Error("an environment that is not there is taken for one without a release")
	}
}

func TestAServiceWithoutDeploymentsNeedsNoRelease(t *testing.T) {
	s := allWell()
	s.plan.Deploy = nil
	for _, host := range []string{"blue-1", "green-1", "green-2"} {
		s.release(host, Release{Healthy: true})
	}
	permit := Admit(s.world(), drillGreen, moment)
	if !permit.Granted || !strings.Contains(permit.Reason, "no release of ours") {
		t.Errorf("permit %+v", permit)
	}
}
