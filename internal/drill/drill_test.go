package drill

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func catalogue() []AttackKind {
	return []AttackKind{
		{Name: "blackhole", Group: "network", Flags: []AttackFlag{{Name: "length", Short: "l", Type: "seconds"}, {Name: "hostname", Short: "h", Type: "list"}, {Name: "ipaddress", Short: "i", Type: "list"}, {Name: "egress_port", Short: "p", Type: "list"},
			{Name: "percent", Short: "r", Type: "float", Unit: "%", Range: PercentRange}, {Name: "ipprotocol", Short: "P", Type: "string", OneOf: []string{"TCP", "UDP", "ICMP"}}}},
		{Name: "shutdown", Group: "state", OneWay: true, Flags: []AttackFlag{{Name: "delay", Short: "d", Type: "minutes"}, {Name: "reboot", Short: "r", Type: "bool"}}},
	}
}

func bookstore(t *testing.T) Service {
	t.Helper()
	text, err := os.ReadFile("../../drills/bookstore/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	service, err := ParseService(text, "firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return service
}

func TestBookstorePipelineFollowsTheAnswerFromStepToStep(t *testing.T) {
	service := bookstore(t)
	plan, err := Compile(service, Facts{Live: "blue", Kinds: catalogue()}, service.Pipeline)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, step := range plan.Steps {
		got = append(got, step.Name+" ("+step.Live+" to "+step.LiveAfter+")")
	}
	want := []string{
		"deploy to green (blue to blue)",
		"drill lose-dependencies on green (blue to blue)",
		"promote green (blue to green)",
		"drill lose-dependencies on green (green to blue)",
		"drill lose-host on blue (blue to green)",
		"deploy to blue (green to green)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestOrderHoldsTheArgumentsOfTheCommandLine(t *testing.T) {
	service := bookstore(t)
	plan, err := Compile(service, Facts{Live: "blue", Kinds: catalogue()}, []string{"drill lose-dependencies on active", "drill lose-host on active"})
	if err != nil {
		t.Fatal(err)
	}
	want := Order{
		Attack:   "blackhole",
		Args:     []string{"--hostname=^control.bookstore.example.test,cdn.bookstore.example.test,db.bookstore.example.test", "--length=60"},
		Length:   Seconds(time.Minute),
		Canaries: []string{"cdn.bookstore.example.test:80", "db.bookstore.example.test:5432"},
	}
	if diff := cmp.Diff(want, plan.Steps[0].Drill.Attack); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	want = Order{Attack: "shutdown", Args: []string{"--delay=500ms", "--reboot=true"}, Delay: Seconds(500 * time.Millisecond), OneWay: true}
	if diff := cmp.Diff(want, plan.Steps[1].Drill.Attack); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestExpectationsOnTheIdleEnvironmentTurnIntoTheirOpposites(t *testing.T) {
	service := bookstore(t)
	plan, err := Compile(service, Facts{Live: "blue", Kinds: catalogue()}, []string{"drill lose-dependencies on idle", "drill lose-dependencies on active"})
	if err != nil {
		t.Fatal(err)
	}
	texts := func(step int) (all []string) {
		for _, expectation := range plan.Steps[step].Drill.Expectations {
			all = append(all, expectation.Text)
		}
		return all
	}
	want := []string{
		`alarm "bookstore-api-green-db-connectivity-failed" within 10s`, `alarm "bookstore-api-green-cdn-connectivity-failed" within 10s`,
		"no other alarm", "answer stays on blue", "clients see no failure", "no acknowledged write is lost", "steady state within 30s of the revert",
	}
	if diff := cmp.Diff(want, texts(0)); diff != "" {
		t.Errorf("idle (-want +got)\n%s", diff)
	}
	want = []string{
		`alarm "bookstore-api-blue-db-connectivity-failed" within 10s`, `alarm "bookstore-api-blue-cdn-connectivity-failed" within 10s`,
		"no other alarm", "answer moves to green within 12s", "clients recover within 15s", "no acknowledged write is lost", "steady state within 30s of the revert",
	}
	if diff := cmp.Diff(want, texts(1)); diff != "" {
		t.Errorf("active (-want +got)\n%s", diff)
	}
}

func TestCompileRefusesWhatCannotBeRehearsed(t *testing.T) {
	service := bookstore(t)
	for _, test := range []struct {
		live  string
		items []string
		want  string
	}{
		{"blue", nil, "nothing to do"},
		{"red", []string{"promote"}, `"red" is answered now`},
		{"blue", []string{"deploy blue"}, "blue is answered then"},
		{"blue", []string{"promote blue"}, "blue is answered already"},
		{"blue", []string{"deploy idle", "promote", "deploy other", "promote", "deploy other"}, "both environments are deployed to already"},
		{"blue", []string{"deploy active"}, "deploy to the idle one"},
		{"blue", []string{"drill lose-hots"}, `did you mean "lose-host"?`},
		{"blue", []string{"dril lose-host"}, `did you mean "drill"?`},
	} {
		_, err := Compile(service, Facts{Live: test.live, Kinds: catalogue(), File: "firedrill.yaml"}, test.items)
		if err == nil || !strings.Contains(err.Error(), test.want) || KindOf(err) != Invalid {
			t.Errorf("%v: error %v, want one with %q", test.items, err, test.want)
		}
	}
}

// Each mistake is planted in the Bookstore's own file; the answer must name line, column and the cure.
const hostsProvider = "provider: hosts"

func TestMistakesAreAnsweredWithPlaceAndCure(t *testing.T) {
	text, err := os.ReadFile("../../drills/bookstore/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ old, planted, want string }{
		{"service: bookstore", "servise: bookstore", `servise: unknown field; did you mean "service"?`},
		{"service: bookstore", "", "service is missing"},
		{"rto: 15s", "rto: fifteen", `objectives.rto: "fifteen" is not a duration; write 30s`},
		{"address: 10.77.1.20", "address: 10.77.1.10", "10.77.1.10 is the address of bookstore-api-blue already"},
		{"address: 10.77.1.20", "address: green", `"green" is not an IP address`},
		{`average: "< 1"`, `average: "below 1"`, `"below 1" is not a comparison; write one such as "< 1"`},
		{"datapoints: 2 of 2", "datapoints: 3 of 2", "3 of 2 cannot be"},
		{"metric: db-connectivity", "metric: db-conectivity", `did you mean "db-connectivity"?`},
		{"connect: db,", "connect: dbb,", "metrics.db-connectivity.connect"},
		{"secondary: green", "secondary: blue", "is the primary too"},
		{"failback: manual", "failback: sometimes", `"sometimes" is not known`},
		{"- no other alarm", "- no other alarms", "is not an expectation"},
		{"- no other alarm", "- most of requests answered within 1s", "is not a share"},
		{"- no other alarm", "- answer moves back within soon of the revert", "is not a duration"},
		{"on: active environment", "hosts: some", "is neither a number of hosts nor a share"},
		{"on: active environment", "seed: 7", "chooses among hosts"},
		{"on: active environment", "on: the active one", "is no place"},
		{"{host}-StatusCheckFailed\":", "StatusCheckFailed\":", "the name must hold {host}"},
		{"ttl: 1s", "ttl: 5m", "60s is the most"},
		{"provider: authority\n    servers: [\"ns.bookstore.example.test\"]", hostsProvider, "witness is missing; without it no drill sees"},
		{"provider: authority\n    servers: [\"ns.bookstore.example.test\"]", hostsProvider + "\n    servers: [ns]\n    witness: {urls: [\"http://x\"], header: X}", "are name servers, and provider hosts has none"},
		{"provider: authority\n    servers: [\"ns.bookstore.example.test\"]", hostsProvider + "\n    witness: {urls: [x], header: X}", `"x" is not a URL`},
		{"provider: authority\n    servers: [\"ns.bookstore.example.test\"]", hostsProvider + "\n    witness: {urls: [\"http://x\"], header: X, from: clent}", `no client "clent"; did you mean "client"?`},
		{`unhealthy_when: ["{host}-StatusCheckFailed",`, `unhealthy_when: [both-failed,`, "cannot say which side is unhealthy"},
		{"ttl: 1s", "ttl: 1s\n    witness: {urls: [\"http://x\"], header: X}", "belongs to providers haproxy, nginx and hosts"},
		{"ttl: 1s", "ttl: 1s\n    ttl: 2s", "written twice"},
		{"- deploy other", "- deploy othr", `did you mean "other"?`},
		{"pipeline:", "\tpipeline:", "found a tab character"},
		{"directory: /home", "directory: home", "is not an absolute directory"},
		{"pipeline:", "---\npipeline:", "a second document begins"},
		{"pipeline:", "composites: {both: {}}\npipeline:", "composites.both: rule is missing"},
		{"pipeline:", "composites: {\"{host}-x\": {rule: \"TRUE\"}}\npipeline:", "a composite alarm is there once"},
		{"pipeline:", "actions: {page: {}}\npipeline:", "needs exactly one of webhook, slack, pagerduty, email, sns, exec"},
		{"pipeline:", "actions: {page: {exec: [true], slack: {url: \"http://x\"}}}\npipeline:", "needs exactly one of webhook"},
		{"pipeline:", "actions: {page: {slack: {url: \"hooks\"}}}\npipeline:", `"hooks" is not a URL`},
		{"pipeline:", "actions: {page: {slack: {}}}\npipeline:", "needs exactly one of url, url_file"},
		{"pipeline:", "actions: {page: {exec: [x], alarms: [StatusCheckFaild]}}\npipeline:", `no alarm "StatusCheckFaild"`},
		{"pipeline:", "actions: {page: {exec: [x], states: [RED]}}\npipeline:", `"RED" is no state of an alarm`},
		{"pipeline:", "actions: {page: {exec: [x], wait: 5s}}\npipeline:", "wait and extension are about suppressed_by"},
		{"pipeline:", "actions: {page: {exec: [x], suppressed_by: nobody}}\npipeline:", `no alarm "nobody"`},
		{"pipeline:", "actions: {page: {email: {server: mail, from: a, to: [b]}}}\npipeline:", `"mail" is not host:port`},
		{"pipeline:", "actions: {page: {sns: {topic: alarms}}}\npipeline:", `"alarms" is not the ARN of a topic`},
		{"pipeline:", "aws: {endpoint: somewhere}\npipeline:", `"somewhere" is not a URL`},
		{"pipeline:", "actions: {page: {email: {server: \"mail:25\", from: a, to: [b], user: c}}}\npipeline:", "user and password_file belong together"},
	} {
		planted := strings.Replace(string(text), test.old, test.planted, 1)
		_, err := ParseService([]byte(planted), "firedrill.yaml")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q for %q:\n error %v\n want one with %q", test.planted, test.old, err, test.want)
			continue
		}
		var mistake Mistake
		if KindOf(err) != Invalid || !errors.As(err, &mistake) || mistake.Line < 1 {
			t.Errorf("%q: %v is not an invalid-input error with a line", test.planted, err)
		}
	}
}

func TestFurtherExpectationsAreMadeConcrete(t *testing.T) {
	service := bookstore(t)
	service.Drills[0].Expect = []string{"95% of requests answered within 300ms", "both environments run the same release", "answer moves back within 20s of the revert"}
	if _, err := Compile(service, Facts{Live: "blue", Kinds: catalogue()}, []string{"drill lose-dependencies on active"}); err == nil || !strings.Contains(err.Error(), "needs failback: auto") {
		t.Errorf("manual failback: %v", err)
	}
	service.Failover[0].Failback = "auto"
	for on, want := range map[string][]Expectation{
		"active": {
			{Kind: ExpectLatency, Text: "95% of requests answered within 300ms", Value: 95, Within: Seconds(300 * time.Millisecond)},
			{Kind: ExpectSameRelease, Text: "both environments run the same release"},
			{Kind: ExpectMovesBack, Text: "answer moves back within 20s of the revert", Environment: "blue", Within: Seconds(20 * time.Second)},
		},
		"idle": {
			{Kind: ExpectLatency, Text: "95% of requests answered within 300ms", Value: 95, Within: Seconds(300 * time.Millisecond)},
			{Kind: ExpectSameRelease, Text: "both environments run the same release"},
		},
	} {
		plan, err := Compile(service, Facts{Live: "blue", Kinds: catalogue()}, []string{"drill lose-dependencies on " + on})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, plan.Steps[0].Drill.Expectations); diff != "" {
			t.Errorf("%s (-want +got)\n%s", on, diff)
		}
	}
}

func TestPartOfTheHostsIsChosenBySeed(t *testing.T) {
	service := bookstore(t)
	for i := range 9 {
		host := service.Environments[0].Hosts[0]
		host.Name = "blue-" + string(rune('a'+i))
		service.Environments[0].Hosts = append(service.Environments[0].Hosts, host)
	}
	chosen := func(hosts string, own, given int64) (string, error) {
		service.Drills[0].Hosts, service.Drills[0].Seed = hosts, own
		plan, err := Compile(service, Facts{Live: "blue", Kinds: catalogue(), Seed: given}, []string{"drill lose-dependencies on blue"})
		if err != nil {
			return "", err
		}
		var names []string
		for _, host := range plan.Steps[0].Drill.Hosts {
			names = append(names, host.Name)
		}
		if want := len(names) < 10; want != strings.Contains(plan.Steps[0].Name, "seed") {
			t.Errorf("%s: the step is named %q", hosts, plan.Steps[0].Name)
		}
		alarms := 0
		for _, e := range plan.Steps[0].Drill.Expectations {
			if e.Kind == ExpectAlarm {
				alarms++
			}
		}
		if alarms != 2*len(names) {
			t.Errorf("%s: %d alarms are expected of %d hosts", hosts, alarms, len(names))
		}
		return strings.Join(names, " "), nil
	}
	for hosts, count := range map[string]int{"1": 1, "3": 3, "25%": 3, "1%": 1, "100%": 10, "40": 10, "": 10} {
		if names, err := chosen(hosts, 0, 7); err != nil || len(strings.Fields(names)) != count {
			t.Errorf("%q: %q, %v; want %d hosts", hosts, names, err, count)
		}
	}
	first, _ := chosen("3", 0, 7)
	again, _ := chosen("3", 7, 99)
	if first != again {
		t.Errorf("the same seed chose %q and %q", first, again)
	}
	differs := false
	for seed := int64(1); seed < 20; seed++ {
		names, _ := chosen("3", 0, seed)
		differs = differs || names != first
	}
	if !differs {
		t.Error("every seed chooses the same hosts")
	}
	if _, err := chosen("3", 0, 0); err == nil {
		t.Error("chosen without a seed")
	}
}

func TestUnknownAttackOptionIsAnsweredWithItsLine(t *testing.T) {
	text, err := os.ReadFile("../../drills/bookstore/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, test := range []struct{ old, planted, want string }{
		{"blackhole: {", "blackole: {", `no attack "blackole"; did you mean "blackhole"?`},
		{"hostnames: [", "hostnam: [", `blackhole has no option "hostnam"; did you mean "hostname"?`},
		{"length: 60s", "length: 0s", "is not a duration of at least 1s"},
		{"hostnames: [", "percent: 500, hostnames: [", "percent: 500 is outside: it goes above 0 % to 100 %"},
		{"hostnames: [", "percent: many, hostnames: [", `percent: "many" is not a number`},
		{"hostnames: [", "ipprotocol: SCTP, hostnames: [", `ipprotocol: "SCTP" is none of TCP, UDP, ICMP`},
		{", reboot: true", "", "without reboot: true leaves the host off"},
	} {
		service, err := ParseService([]byte(strings.Replace(string(text), test.old, test.planted, 1)), "firedrill.yaml")
		if err != nil {
			t.Fatal(err)
		}
		_, err = Compile(service, Facts{Live: "blue", Kinds: catalogue(), File: "firedrill.yaml"}, service.Pipeline)
		var mistake Mistake
		if !errors.As(err, &mistake) || !strings.Contains(mistake.Problem, test.want) {
			t.Errorf("%q: error %v, want one with %q", test.planted, err, test.want)
			continue
		}
		if line := lines[mistake.Line-1]; !strings.Contains(line, "attack:") {
			t.Errorf("%q: placed at line %d, which is %q", test.planted, mistake.Line, line)
		}
	}
}

func TestSecondsRoundTrip(t *testing.T) {
	for text, want := range map[string]time.Duration{"30": 30 * time.Second, "30s": 30 * time.Second, "250ms": 250 * time.Millisecond, "7d": 168 * time.Hour, "1m30s": 90 * time.Second} {
		got, err := ParseSeconds(text)
		if err != nil || got.Duration() != want {
			t.Errorf("ParseSeconds(%q) = %v, %v; want %v", text, got.Duration(), err, want)
		}
		wire, err := got.MarshalJSON()
		var back Seconds
		if err != nil || back.UnmarshalJSON(wire) != nil || back != got {
			t.Errorf("%q goes through JSON as %s and comes back as %v", text, wire, back)
		}
	}
	for _, text := range []string{"", "-1", "-3s", "soon", "1.5"} {
		if _, err := ParseSeconds(text); err == nil {
			t.Errorf("ParseSeconds(%q) gave no error", text)
		}
	}
}

func FuzzParseService(f *testing.F) {
	text, err := os.ReadFile("../../drills/bookstore/firedrill.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		service, err := ParseService(text, "firedrill.yaml")
		if err != nil {
			if KindOf(err) != Invalid {
				t.Errorf("a bad file gave an error of kind %v: %v", KindOf(err), err)
			}
			return
		}
		_, _ = Compile(service, Facts{Live: "blue", Kinds: catalogue()}, service.Pipeline)
	})
}

func TestExpectationsMeanOneKindOfClients(t *testing.T) {
	for text, want := range map[string]Expectation{
		"clients recover within 30s":                  {Kind: ExpectRecover, Within: Seconds(30 * time.Second)},
		"keep-alive clients recover within 1m":        {Kind: ExpectRecover, Within: Seconds(time.Minute), Clients: ClientsKept},
		"new-connection clients recover within 500ms": {Kind: ExpectRecover, Within: Seconds(500 * time.Millisecond), Clients: ClientsNew},
		"keep-alive clients see no failure":           {Kind: ExpectNoFailure, Clients: ClientsKept},
	} {
		want.Text = text
		if got, err := parseExpectation(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	if _, err := parseExpectation("kept clients recover within 1s"); err == nil {
		t.Error("a kind that is not known is taken")
	}
}
