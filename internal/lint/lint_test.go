package lint

import (
	"os"
	"slices"
	"strings"
	"testing"

	"firedrill/internal/drill"
)

// clean is a service file without traps; each test plants one.
const clean = `service: shop
endpoint: http://shop.example.test/
objectives: {rto: 30s, rpo: 0s}
environments:
  blue:  {hosts: [{name: b1, address: 10.0.0.1}]}
  green: {hosts: [{name: g1, address: 10.0.0.2}]}
clients:
  fresh: {http: /, ledger: /ledger}
  kept: {http: /, keep_alive: true, resolver: "10.0.0.9:53"}
deploy: {source: {git: /srv/shop}, directory: /srv/app, healthy: {http: /}}
watch: {url: "http://control:7070"}
metrics:
  alive: {heartbeat: true, every: 500ms}
  page: {http: "http://{address}/", from: watch, every: 1s}
  late: {http: "http://{address}/", from: watch, value: latency, every: 100ms, timeout: 90ms}
  free: {command: [df], every: 1s}
alarms:
  "{host}-dead": {metric: alive, absent: 2s}
  "{host}-down": {metric: page, average: "< 1", period: 1s, datapoints: 3 of 3}
actions:
  team: {exec: [/bin/true]}
failover:
  shop.example.test:
    servers: [ns1, ns2]
    primary: blue
    secondary: green
    unhealthy_when: ["{host}-dead", "{host}-down"]
drills:
  lose:
    on: active environment
    attack: {shutdown: {reboot: true}}
    expect:
      - alarm "{host}-dead" within 10s
      - answer moves to the other environment within 12s
      - clients recover within 15s
`

func parse(t *testing.T, text string) drill.Service {
	t.Helper()
	service, err := drill.ParseService([]byte(text), "firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return service
}

func rules(all []Finding) []string {
	found := []string{}
	for _, one := range all {
		found = append(found, one.Rule)
	}
	return found
}

func TestCleanServiceHasNoTraps(t *testing.T) {
	if found := Service(parse(t, clean)); len(found) > 0 {
		t.Errorf("%+v", found)
	}
}

func TestEachTrapOfAServiceIsFound(t *testing.T) {
	watched := `unhealthy_when: ["{host}-dead", "{host}-down"]`
	for _, row := range []struct{ rule, severity, old, new string }{
		{"dead-host-unnoticed", Error, watched, `unhealthy_when: ["{host}-full"]`},
		{"dead-host-unnoticed", Error, `{metric: alive, absent: 2s}`, `{metric: alive, minimum: "< 1", period: 1s}`},
		{"rto-out-of-reach", Error, "rto: 30s", "rto: 6s"},
		{"slow-silence", Warning, `{metric: alive, absent: 2s}`, `{metric: alive, minimum: "< 1", period: 5s, missing: breaching}`},
		{"alarm-disabled", Error, "absent: 2s", "absent: 2s, disabled: true"},
		{"ttl-long", Warning, "primary: blue", "primary: blue\n    ttl: 20s"},
		{"one-name-server", Warning, "[ns1, ns2]", "[ns1]"},
		{"failback-flaps", Warning, "primary: blue", "primary: blue\n    failback: auto"},
		{"name-frozen", Error, "primary: blue", "primary: blue\n    frozen: true"},
		{"alarm-moves-nothing", Warning, watched, `unhealthy_when: ["{host}-dead"]`},
		{"period-without-data", Error, `{http: "http://{address}/", from: watch, every: 1s}`, `{http: "http://{address}/", from: watch, every: 5s}`},
		{"percentile-few-samples", Warning, "actions:", "  \"{host}-slow\": {metric: late, statistic: p99, is: \"> 0.05\", period: 10s}\nactions:"},
		{"percentile-never", Error, "actions:", "  \"{host}-slow\": {metric: late, statistic: p99, is: \"> 0.05\", period: 10s, low_samples: ignore}\nactions:"},
		{"drill-expects-no-alarm", Warning, "      - alarm \"{host}-dead\" within 10s\n", ""},
		{"drill-expects-no-answer", Warning, "      - answer moves to the other environment within 12s\n", ""},
		{"drill-forgets-clients", Warning, "      - clients recover within 15s\n", ""},
		{"no-way-back", Error, "drills:", "pipeline: [deploy idle, deploy other, drill lose on active]\ndrills:"},
		{"no-clients", Error, clean[strings.Index(clean, "clients:"):strings.Index(clean, "deploy:")], ""},
		{"no-keep-alive-client", Warning, "keep_alive: true, ", ""},
		{"no-caching-client", Warning, `, resolver: "10.0.0.9:53"`, ""},
		{"rpo-unmeasured", Warning, ", ledger: /ledger", ""},
		{"client-too-slow", Warning, "{http: /, ledger", "{http: /, every: 20s, ledger"},
		{"nobody-told", Warning, "actions:\n  team: {exec: [/bin/true]}\n", ""},
	} {
		text := clean
		if strings.Contains(row.new, "{host}-full") {
			text = strings.Replace(text, "actions:", "  \"{host}-full\": {metric: free, average: \"< 1\", period: 1s}\nactions:", 1)
		}
		if strings.Contains(row.old, "metric: alive") { // else the other alarm notices the dead host
			text = strings.Replace(text, watched, `unhealthy_when: ["{host}-dead"]`, 1)
		}
		changed := strings.Replace(text, row.old, row.new, 1)
		if changed == text {
			t.Errorf("%s: nothing was planted", row.rule)
			continue
		}
		found := Service(parse(t, changed))
		i := slices.Index(rules(found), row.rule)
		if i < 0 || found[i].Severity != row.severity || found[i].Cure == "" || found[i].Problem == "" {
			t.Errorf("%s: found %+v", row.rule, found)
			continue
		}
		if line, _ := drill.Place([]byte(changed), found[i].Where); line < 1 {
			t.Errorf("%s: %q has no place in the file", row.rule, found[i].Where)
		}
	}
}

// What is right is not accused: one percentile with enough samples, a deployment of both sides after the drills.
func TestWhatIsRightIsLeftAlone(t *testing.T) {
	for _, row := range []struct{ rule, old, new string }{
		{"percentile-few-samples", "actions:", "  \"{host}-slow\": {metric: late, statistic: p99, is: \"> 0.05\", period: 100s}\nactions:"},
		{"percentile-few-samples", "actions:", "  \"{host}-slow\": {metric: late, statistic: p90, is: \"> 0.05\", period: 10s}\nactions:"},
		{"no-way-back", "drills:", "pipeline: [deploy idle, drill lose on idle, promote, drill lose on active, deploy other]\ndrills:"},
		{"no-way-back", "drills:", "pipeline: [deploy idle, deploy other]\ndrills:"},
		{"failback-flaps", "primary: blue", "primary: blue\n    failback: auto\n    min_hold: 1m"},
	} {
		if found := rules(Service(parse(t, strings.Replace(clean, row.old, row.new, 1)))); slices.Contains(found, row.rule) {
			t.Errorf("%q: %v", row.new, found)
		}
	}
	for _, file := range []string{"../../drills/bookstore/firedrill.yaml", "../../drills/cdn/firedrill.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range Service(parse(t, string(text))) {
			if one.Severity == Error {
				t.Errorf("%s: %+v", file, one)
			}
		}
	}
}

func weight(n int64) *int64 { return &n }

// pairZone is a failover pair without traps.
func pairZone() Zone {
	check := func(id, address string) Check {
		return Check{ID: id, Kind: "HTTP", Interval: 10, Failures: 1, Address: address}
	}
	return Zone{
		Name: "example.test.", Public: true,
		Records: []Record{
			{Name: "example.test.", Type: "SOA", TTL: 60, Values: []string{"ns1. admin. 1 7200 900 1209600 5"}},
			{Name: "www.example.test.", Type: "A", ID: "p", Failover: "PRIMARY", TTL: 10, Values: []string{"203.0.113.1"}, Check: "one"},
			{Name: "www.example.test.", Type: "A", ID: "s", Failover: "SECONDARY", TTL: 10, Values: []string{"203.0.113.2"}, Check: "two"},
		},
		Checks: map[string]Check{"one": check("one", "203.0.113.1"), "two": check("two", "203.0.113.2")},
	}
}

func alarmCheck(change func(*Check)) Check {
	settings := AlarmSettings{Namespace: "N", Metric: "m", Statistic: "Average", Comparison: "LessThanThreshold", Period: 60, Periods: 2, Threshold: 1}
	copied, now := settings, settings
	c := Check{ID: "one", Kind: "CLOUDWATCH_METRIC", Insufficient: "Unhealthy", AlarmName: "a", Copied: &copied, Alarm: &now}
	change(&c)
	return c
}

func TestEachTrapOfAZoneIsFound(t *testing.T) {
	if found := InZone(pairZone(), drill.Service{}, nil); len(found) > 0 {
		t.Fatalf("a zone without traps: %+v", found)
	}
	one := func(change func(*Check)) func(*Zone) {
		return func(z *Zone) {
			c := z.Checks["one"]
			change(&c)
			z.Checks["one"] = c
		}
	}
	alarm := func(change func(*Check)) func(*Zone) {
		return func(z *Zone) { z.Checks["one"] = alarmCheck(change) }
	}
	sum := func(threshold int, children ...string) func(*Zone) {
		return func(z *Zone) {
			z.Checks["sum"] = Check{ID: "sum", Kind: "CALCULATED", Threshold: threshold, Children: children}
			z.Records[1].Check = "sum"
		}
	}
	for _, row := range []struct {
		rule, severity string
		plant          func(*Zone)
	}{
		{"failover-half", Error, func(z *Zone) { z.Records = z.Records[:2] }},
		{"primary-unchecked", Error, func(z *Zone) { z.Records[1].Check = "" }},
		{"secondary-unchecked", Warning, func(z *Zone) { z.Records[2].Check = "" }},
		{"check-shared", Error, func(z *Zone) { z.Records[2].Check = "one" }},
		{"check-crosses", Error, sum(2, "one", "two")},
		{"check-crosses", Error, func(z *Zone) { sum(2, "one", "two")(z); z.Records[2].Check = "" }},
		{"calculated-always-healthy", Error, sum(0, "one")},
		{"calculated-never-healthy", Error, sum(2, "one")},
		{"check-missing", Error, func(z *Zone) { delete(z.Checks, "one") }},
		{"check-disabled", Error, one(func(c *Check) { c.Disabled = true })},
		{"check-inverted", Error, one(func(c *Check) { c.Inverted = true })},
		{"check-private", Error, one(func(c *Check) { c.Address = "10.0.0.1" })},
		{"check-slow", Warning, one(func(c *Check) { c.Interval, c.Failures = 30, 3 })},
		{"record-ttl-long", Warning, func(z *Zone) { z.Records[1].TTL = 300 }},
		{"no-is-remembered", Warning, func(z *Zone) {
			z.Records[0].TTL, z.Records[0].Values = 900, []string{"ns1. admin. 1 7200 900 1209600 86400"}
		}},
		{"alias-unevaluated", Error, func(z *Zone) {
			z.Records[1].Check, z.Records[1].Values, z.Records[1].Alias = "", nil, "lb.example.test."
		}},
		{"weights-all-zero", Warning, func(z *Zone) {
			for i := range 2 {
				z.Records[i+1].Failover, z.Records[i+1].Weight = "", weight(0)
			}
		}},
		{"record-unchecked", Warning, func(z *Zone) {
			for i := range 2 {
				z.Records[i+1].Failover, z.Records[i+1].Multivalue, z.Records[i+1].Check = "", true, ""
			}
		}},
		{"multivalue-too-many", Warning, func(z *Zone) {
			for range 9 {
				z.Records = append(z.Records, Record{Name: "many.example.test.", Type: "A", Multivalue: true, TTL: 5, Check: "one", Values: []string{"203.0.113.9"}})
			}
		}},
		{"silence-is-healthy", Error, alarm(func(c *Check) { c.Insufficient = "LastKnownStatus" })},
		{"alarm-gone", Error, alarm(func(c *Check) { c.Alarm = nil })},
		{"alarm-changed", Error, alarm(func(c *Check) { c.Alarm.Threshold = 2 })},
		{"alarm-m-of-n", Error, alarm(func(c *Check) { c.Alarm.Datapoints = 1 })},
		{"alarm-extended", Error, alarm(func(c *Check) { c.Alarm.Extended = "p99" })},
		{"alarm-math", Error, alarm(func(c *Check) { c.Alarm.Math = true })},
		{"alarm-high-resolution", Error, alarm(func(c *Check) { c.Alarm.Period = 10 })},
		{"alarm-missing-data", Warning, alarm(func(c *Check) { c.Alarm.Missing = "breaching" })},
	} {
		z := pairZone()
		row.plant(&z)
		found := InZone(z, drill.Service{}, nil)
		if i := slices.Index(rules(found), row.rule); i < 0 || found[i].Severity != row.severity || found[i].Cure == "" {
			t.Errorf("%s: found %+v", row.rule, found)
		}
	}
	z := pairZone()
	alarm(func(*Check) {})(&z)
	if found := InZone(z, drill.Service{}, nil); len(found) > 0 {
		t.Errorf("a check on an alarm that can be copied: %+v", found)
	}
}

func TestZoneIsHeldAgainstTheServiceFile(t *testing.T) {
	service := parse(t, strings.Replace(clean, "    servers: [ns1, ns2]\n", "    provider: route53\n    route53: {checks: {blue: one, green: two}}\n", 1))
	named := func(z *Zone) {
		for i := range z.Records {
			z.Records[i].Name = strings.Replace(z.Records[i].Name, "www.example.test.", "shop.example.test.", 1)
		}
		z.Records[1].Values, z.Records[2].Values = []string{"10.0.0.1"}, []string{"10.0.0.2"}
		for _, id := range []string{"one", "two"} {
			z.Checks[id] = Check{ID: id, Kind: "HTTP", Interval: 10, Failures: 1, Address: "203.0.113.9", Disabled: true}
		}
	}
	for _, row := range []struct {
		rule  string // "": none
		plant func(*Zone, *drill.Service)
	}{
		{"", func(*Zone, *drill.Service) {}},
		{"turned-without-record", func(z *Zone, _ *drill.Service) { z.Records[2].Check = "" }},
		{"leads-elsewhere", func(z *Zone, _ *drill.Service) { z.Records[2].Values = []string{"10.9.9.9"} }},
		{"check-too-slow", func(_ *Zone, s *drill.Service) { s.Objectives.RTO = drill.Seconds(5e9) }},
		{"name-not-plain", func(_ *Zone, s *drill.Service) { s.Failover[0].Route53 = &drill.Route53{} }},
	} {
		z, s := pairZone(), service
		s.Failover = slices.Clone(service.Failover)
		named(&z)
		row.plant(&z, &s)
		found := InZone(z, s, []string{"shop.example.test"})
		if (row.rule == "" && len(found) > 0) || (row.rule != "" && !slices.Contains(rules(found), row.rule)) {
			t.Errorf("%q: found %+v", row.rule, found)
		}
	}
}
