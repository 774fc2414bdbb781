package drill

import (
	"strings"
	"testing"
	"time"
)

const severalHead = `service: s
endpoint: http://s.example.com/
environments: {blue: {hosts: [{name: b, address: 10.0.0.1}]}, green: {hosts: [{name: g, address: 10.0.0.2}, {name: h, address: 10.0.0.3}]}}
clients: {c: {every: 100ms}}
probes: {orders: {command: [./orders, --fast], host: b}}
metrics: {beat: {heartbeat: true}}
alarms: {"{host}-beat": {metric: beat, absent: 3s}}
failover: {s.example.com: {primary: blue, secondary: green, unhealthy_when: ["{host}-beat"]}}
`

func severalKinds() []AttackKind {
	length := AttackFlag{Name: "length", Type: "seconds"}
	return []AttackKind{
		{Name: "blackhole", Flags: []AttackFlag{length, {Name: "hostname", Type: "list"}}}, {Name: "cpu", Flags: []AttackFlag{length}},
		{Name: "shutdown", OneWay: true, Flags: []AttackFlag{{Name: "reboot", Type: "bool"}, {Name: "delay", Type: "minutes"}}},
	}
}

func compileSeveral(t *testing.T, written string) (Plan, error) {
	t.Helper()
	service, err := ParseService([]byte(severalHead+"drills:\n  d:\n    on: green\n"+written), "f")
	if err != nil {
		return Plan{}, err
	}
	return Compile(service, Facts{Live: "blue", Kinds: severalKinds(), File: "f", Seed: 7}, []string{"drill d"})
}

func TestADrillMayHaveSeveralAttacks(t *testing.T) {
	plan, err := compileSeveral(t, `    hosts: 50%
    attacks: [{cpu: {length: 5s}}, {blackhole: {length: 7s}}]
    together: true
    expect: ['line "refused" in /var/log/s.log within 9s', 'probe "orders" stays good', 'no line "panic (a|b)" in journal of s']
    stop_when: ['alarm "{host}-beat" is raised', 'clients fail for 5s', 'availability below 90% over 10s', 'probe "orders" fails for 3s', 'line "corrupt" in /var/log/s.log']
`)
	if err != nil {
		t.Fatal(err)
	}
	d := plan.Steps[0].Drill
	if len(d.Hosts) != 1 || d.Seed != 7 || !strings.Contains(plan.Steps[0].Name, "1 of 2 hosts, seed 7") {
		t.Errorf("hosts %v, seed %d, %q", d.Hosts, d.Seed, plan.Steps[0].Name)
	}
	orders := d.Orders()
	if len(orders) != 2 || orders[0].Attack != "cpu" || orders[1].Length != Seconds(7*time.Second) || !d.Together || d.InSequence() {
		t.Errorf("%+v", orders)
	}
	host := d.Hosts[0].Name
	if e := d.Expectations[0]; e.Host != host || e.File != "/var/log/s.log" || e.Line != "refused" || e.Within != Seconds(9*time.Second) {
		t.Errorf("%+v", e)
	}
	if e := d.Expectations[2]; e.File != "journal of s" || e.Line != "panic (a|b)" {
		t.Errorf("%+v", e)
	}
	if len(d.StopWhen) != 5 || d.StopWhen[0].Alarm != host+"-beat" || d.StopWhen[2].Value != 90 || d.StopWhen[4].Host != host {
		t.Errorf("%+v", d.StopWhen)
	}
	if len(plan.Probes) != 1 || plan.Probes[0].Every != Seconds(time.Second) || plan.Probes[0].Timeout != Seconds(time.Second) {
		t.Errorf("%+v", plan.Probes)
	}
}

func TestMistakesInSeveralAttacksAndStopConditionsAreNamed(t *testing.T) {
	const one = "    attack: {cpu: {}}\n    expect: [answer stays]\n"
	for written, want := range map[string]string{
		"    expect: [answer stays]\n":     "attack is missing",
		one + "    attacks: [{cpu: {}}]\n": "stands beside attack",
		one + "    together: true\n":       "is about several attacks",
		"    attacks: [{cpu: {}}, {shutdown: {reboot: true}}]\n    expect: [answer stays]\n":                                      "a drill of its own",
		one + "    stop_when: [clients cry]\n":                                                                                    "is no stop condition",
		one + "    stop_when: ['alarm \"x\" is raised']\n":                                                                        `no alarm "x"`,
		one + "    stop_when: ['probe \"order\" fails for 3s']\n":                                                                 `did you mean "orders"`,
		one + "    stop_when: [clients fail for 5m]\n":                                                                            "looks back further",
		"    attack: {cpu: {}}\n    expect: ['probe \"x\" stays good']\n":                                                         `no probe "x"`,
		"    attack: {cpu: {}}\n    expect: ['line \"(\" in /a within 1s']\n":                                                     "missing closing",
		"    attack: {cpu: {}}\n    expect: ['alarm \"g-beat\" within 5s']\n    stop_when: ['alarm \"{host}-beat\" is raised']\n": "stops the drill by what it expects",
	} {
		if _, err := compileSeveral(t, written); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot %v, want %q", written, err, want)
		}
	}
	for probes, want := range map[string]string{
		"probes: {c: {command: [x]}}":               "a client has this name",
		"probes: {p: {command: [x], host: nobody}}": `no host "nobody"`,
		"probes: {p: {command: [x], every: 1ms}}":   "is not from",
	} {
		text := strings.Replace(severalHead, "probes: {orders: {command: [./orders, --fast], host: b}}", probes, 1)
		if _, err := ParseService([]byte(text), "f"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot %v, want %q", probes, err, want)
		}
	}
}
