package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
)

var known = []string{"blackhole", "shutdown", "dns", "time_travel"}

func mustParse(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := Parse([]byte(text), "policy.yaml", known)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rules is a policy with every rule in it; its lines are counted from 1.
const rules = `kinds: [blackhole, shutdown, dns]
deny: [time_travel]
max_length: 10m
max_parallel: 2
time_zone: Europe/Berlin
hours:
  - Mon-Fri 09:00-15:00
  - Sat 22:00-02:00
freezes:
  - 2026-12-18..2027-01-04
  - 2026-03-03
require_consent: [shutdown]
never_hit: [10.0.0.0/8, control.example.test, "2001:db8::7"]
narrow_only: [dns]
users: [www-data, "4001"]
pod_namespaces: [shop, staging]
`

// local reads a time of Berlin. With an offset, as 02:30+02:00, the clock stands there twice or never.
func local(text string) time.Time {
	if t, err := time.Parse("2006-01-02 15:04-07:00", text); err == nil {
		return t
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	t, err := time.ParseInLocation("2006-01-02 15:04", text, berlin)
	if err != nil {
		panic(err)
	}
	return t.UTC() // the host's own zone must not matter
}

// admission is one order at one time, and why it must be refused: "" when it must not.
type admission struct {
	name string
	at   string // 2026-11-23 is a Monday
	o    Order
	why  string // a part of the error
	line int
	cure string // a part of the hint
}

func blackhole(length time.Duration) Order { return Order{Kind: "blackhole", Length: length} }

var admissions = []admission{
	{name: "all rules kept", at: "2026-11-23 10:00", o: blackhole(4 * time.Minute)},
	{name: "exactly the longest", at: "2026-11-23 10:00", o: blackhole(10 * time.Minute)},
	{name: "too long", at: "2026-11-23 10:00", o: blackhole(10*time.Minute + time.Second), why: "longer than 10m0s", line: 3, cure: "-l 600"},
	{name: "denied", at: "2026-11-23 10:00", o: Order{Kind: "time_travel", Length: time.Minute}, why: "denies time_travel", line: 2, cure: "deny"},
	{name: "not among the kinds", at: "2026-11-23 10:00", o: Order{Kind: "cpu", Length: time.Minute}, why: "allows only blackhole, shutdown, dns", line: 1, cure: "kinds"},
	{name: "without consent", at: "2026-11-23 10:00", o: Order{Kind: "shutdown"}, why: "consent to shutdown", line: 12, cure: "--yes"},
	{name: "with consent", at: "2026-11-23 10:00", o: Order{Kind: "shutdown", Consent: true}},
	{name: "as wide as the host", at: "2026-11-23 10:00", o: Order{Kind: "dns", Network: true}, why: "dns only on a part of it", line: 14, cure: "--user"},
	{name: "narrow", at: "2026-11-23 10:00", o: Order{Kind: "dns", Network: true, Narrow: true}},
	{name: "another kind may be wide", at: "2026-11-23 10:00", o: Order{Kind: "blackhole", Network: true}},
	{name: "a user of the list", at: "2026-11-23 10:00", o: Order{Kind: "dns", Network: true, Narrow: true, User: "4001"}},
	{name: "another user", at: "2026-11-23 10:00", o: Order{Kind: "blackhole", Network: true, Narrow: true, User: "root"}, why: "users www-data, 4001, not of root", line: 15, cure: "as it is written"},
	{name: "pods of the list", at: "2026-11-23 10:00", o: Order{Kind: "dns", Network: true, Narrow: true, Namespaces: []string{"staging", "shop"}}},
	{name: "a pod of another namespace", at: "2026-11-23 10:00", o: Order{Kind: "dns", Network: true, Narrow: true, Namespaces: []string{"shop", "kube-system"}}, why: "namespaces shop, staging, not of kube-system", line: 16, cure: "--pod-namespace"},
	{name: "a container of nobody knows where", at: "2026-11-23 10:00", o: Order{Kind: "dns", Network: true, Narrow: true, Container: true}, why: "may be of any", line: 16, cure: "--pod"},
	{name: "one beside it", at: "2026-11-23 10:00", o: Order{Kind: "blackhole", Length: time.Minute, Running: []string{"cpu"}}},
	{name: "two beside it", at: "2026-11-23 10:00", o: Order{Kind: "blackhole", Length: time.Minute, Running: []string{"cpu", "cpu"}}, why: "2 are running: cpu, cpu", line: 4, cure: "firedrill status"},
	{name: "while the clock is shifted", at: "2026-11-23 10:00", o: Order{Kind: "blackhole", Length: time.Minute, Running: []string{"time_travel"}}, why: "shifted the clock", line: 7, cure: "firedrill status"},
	{name: "while one does not answer", at: "2026-11-23 10:00", o: Order{Kind: "blackhole", Length: time.Minute, Running: []string{Silent}}, why: "shifted the clock", line: 7},

	{name: "a minute early", at: "2026-11-23 08:59", o: blackhole(time.Minute), why: "outside of the hours", line: 7, cure: "Mon 2026-11-23 09:00 CET"},
	{name: "to the last second", at: "2026-11-23 14:55", o: blackhole(5 * time.Minute)},
	{name: "over the end", at: "2026-11-23 14:55", o: blackhole(5*time.Minute + time.Second), why: "at Mon 2026-11-23 15:00 CET it is outside", line: 7, cure: "Tue 2026-11-24 09:00 CET"},
	{name: "delayed into the hours", at: "2026-11-23 08:30", o: Order{Kind: "blackhole", Delay: 30 * time.Minute, Length: time.Minute}},
	{name: "delayed out of the hours", at: "2026-11-23 14:30", o: Order{Kind: "shutdown", Consent: true, Delay: 30 * time.Minute}, why: "15:00 CET", line: 7},
	{name: "on a Sunday", at: "2026-11-22 10:00", o: blackhole(time.Minute), why: "outside of the hours", line: 7, cure: "Mon 2026-11-23 09:00 CET"},
	{name: "Saturday night", at: "2026-11-21 23:00", o: blackhole(time.Minute)},
	{name: "over midnight", at: "2026-11-21 23:58", o: blackhole(5 * time.Minute)},
	{name: "the night after Saturday", at: "2026-11-22 01:59", o: blackhole(time.Minute)},
	{name: "the night before Saturday", at: "2026-11-21 01:00", o: blackhole(time.Minute), why: "outside of the hours", line: 7},
	{name: "summer, by the wall clock", at: "2026-07-06 09:00", o: blackhole(time.Minute)},
	{name: "summer, an hour early", at: "2026-07-06 08:00", o: blackhole(time.Minute), why: "08:00 CEST", line: 7},

	{name: "the day before a freeze", at: "2026-12-17 10:00", o: blackhole(time.Minute)},
	{name: "first day of a freeze", at: "2026-12-18 10:00", o: blackhole(time.Minute), why: "freeze 2026-12-18..2027-01-04", line: 10},
	{name: "last day of a freeze", at: "2027-01-04 10:00", o: blackhole(time.Minute), why: "freeze", line: 10, cure: "Tue 2027-01-05 09:00 CET"},
	{name: "a freeze of a day", at: "2026-03-03 10:00", o: blackhole(time.Minute), why: "freeze 2026-03-03", line: 11, cure: "Wed 2026-03-04 09:00 CET"},
}

// check holds a way of admitting against all cases and returns what it does wrong.
func check(p *Policy, admit func(*Policy, Order, time.Time) error) (wrong []string) {
	for _, a := range admissions {
		err := admit(p, a.o, local(a.at))
		switch {
		case err == nil && a.why != "":
			wrong = append(wrong, a.name+": admitted")
		case err == nil:
		case a.why == "":
			wrong = append(wrong, fmt.Sprintf("%s: refused: %v", a.name, err))
		case !strings.Contains(err.Error(), "not attacking: ") || !strings.Contains(err.Error(), a.why) || !strings.Contains(err.Error(), fmt.Sprintf("(policy.yaml:%d)", a.line)):
			wrong = append(wrong, fmt.Sprintf("%s: %v; want %q of line %d", a.name, err, a.why, a.line))
		case drill.KindOf(err) != drill.Refused || drill.HintOf(err) == "" || !strings.Contains(drill.HintOf(err), a.cure):
			wrong = append(wrong, fmt.Sprintf("%s: kind %s, hint %q; want one with %q", a.name, drill.KindOf(err), drill.HintOf(err), a.cure))
		}
	}
	return wrong
}

func TestEachRuleRefusesWithItsLineAndTheCure(t *testing.T) {
	for _, wrong := range check(mustParse(t, rules), (*Policy).Admit) {
		t.Error(wrong)
	}
}

// The planted bugs: each rule ignored, or read in a way that is near at hand and wrong.
func TestARuleIgnoredIsCaught(t *testing.T) {
	without := func(change func(*Policy)) func(*Policy, Order, time.Time) error {
		return func(p *Policy, o Order, now time.Time) error {
			less := *p
			change(&less)
			return less.Admit(o, now)
		}
	}
	for name, admit := range map[string]func(*Policy, Order, time.Time) error{
		"kinds":           without(func(p *Policy) { p.Kinds = nil }),
		"deny":            without(func(p *Policy) { p.Deny = nil }),
		"max_length":      without(func(p *Policy) { p.MaxLength = nil }),
		"max_parallel":    without(func(p *Policy) { p.MaxParallel = nil }),
		"hours":           without(func(p *Policy) { p.Hours = nil }),
		"freezes":         without(func(p *Policy) { p.Freezes = nil }),
		"require_consent": without(func(p *Policy) { p.RequireConsent = nil }),
		"narrow_only":     without(func(p *Policy) { p.NarrowOnly = nil }),
		"users":           without(func(p *Policy) { p.Users = nil }),
		"pod_namespaces":  without(func(p *Policy) { p.PodNamespaces = nil }),
		"any container":   func(p *Policy, o Order, now time.Time) error { o.Container = false; return p.Admit(o, now) },
		"the first pod alone": func(p *Policy, o Order, now time.Time) error {
			o.Namespaces = o.Namespaces[:min(1, len(o.Namespaces))]
			return p.Admit(o, now)
		},
		"time_zone":  without(func(p *Policy) { p.TimeZone = &rule[Zone]{Value: Zone{location: time.UTC}} }),
		"everything": func(*Policy, Order, time.Time) error { return nil },
		"only the begin": func(p *Policy, o Order, now time.Time) error {
			o.Length = min(o.Length, time.Minute)
			return p.Admit(o, now)
		},
		"delay forgotten": func(p *Policy, o Order, now time.Time) error { o.Delay = 0; return p.Admit(o, now) },
		"all consented":   func(p *Policy, o Order, now time.Time) error { o.Consent = true; return p.Admit(o, now) },
		"nothing runs":    func(p *Policy, o Order, now time.Time) error { o.Running = nil; return p.Admit(o, now) },
		"winter time for ever": without(func(p *Policy) {
			p.TimeZone = &rule[Zone]{Value: Zone{location: time.FixedZone("CET", 3600)}}
		}),
	} {
		if len(check(mustParse(t, rules), admit)) == 0 {
			t.Errorf("%s: nothing catches this bug", name)
		}
	}
}

// On 2026-03-29 Berlin's clock goes from 02:00 to 03:00, and on 2026-10-25 from 03:00 back to 02:00.
func TestHoursFollowTheWallClockThroughSummerTime(t *testing.T) {
	for _, c := range []struct {
		hours, at string
		length    time.Duration
		admitted  bool
	}{
		{"daily 01:00-04:00", "2026-03-29 01:30+01:00", 90 * time.Minute, true}, // 01:30 to 04:00 on the clock
		{"daily 01:00-04:00", "2026-03-29 01:30+01:00", 91 * time.Minute, false},
		{"daily 02:00-03:00", "2026-03-29 01:59+01:00", 2 * time.Minute, false},
		{"daily 02:00-03:00", "2026-03-29 03:00+02:00", time.Minute, false},  // that hour does not exist
		{"daily 01:00-04:00", "2026-10-25 01:00+02:00", 4 * time.Hour, true}, // the night is an hour longer
		{"daily 02:00-03:00", "2026-10-25 02:00+02:00", 2 * time.Hour, true}, // both of these hours
		{"daily 02:00-02:30", "2026-10-25 02:00+02:00", 31 * time.Minute, false},
		{"daily 02:00-02:30", "2026-10-25 02:00+01:00", 30 * time.Minute, true}, // its second time
		{"daily 00:00-24:00", "2026-10-25 00:00+02:00", 25 * time.Hour, true},
	} {
		p := mustParse(t, "time_zone: Europe/Berlin\nhours: "+c.hours+"\n")
		if err := p.Admit(blackhole(c.length), local(c.at)); (err == nil) != c.admitted {
			t.Errorf("%s from %s in %s: %v", c.length, c.at, c.hours, err)
		}
	}
}

func TestNobodysPolicyBoundsNothing(t *testing.T) {
	var p *Policy
	if err := p.Admit(Order{Kind: "shutdown", Length: 1000 * time.Hour, Running: []string{Silent}}, local("2026-11-22 03:00")); err != nil {
		t.Error(err)
	}
	if p.AsksForOthers() || len(p.Spares()) > 0 {
		t.Error("no policy asks for something")
	}
}

func TestAllIsDenied(t *testing.T) {
	if err := mustParse(t, "deny: all\n").Admit(blackhole(time.Second), local("2026-11-23 10:00")); drill.KindOf(err) != drill.Refused || err == nil {
		t.Errorf("%v", err)
	}
}

func TestSparesAreWhatTheFileNames(t *testing.T) {
	var got []string
	for _, target := range mustParse(t, rules).Spares() {
		got = append(got, target.String())
	}
	if want := "10.0.0.0/8 control.example.test 2001:db8::7"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// wrongFiles must each be refused: with a reader that is less strict the rule would be silently lost.
var wrongFiles = []struct{ name, text, problem string }{
	{"nothing", "", "empty"},
	{"only a comment", "# allow all\n", "empty"},
	{"a misspelt rule", "max_lenght: 60s\n", `did you mean "max_length"?`},
	{"a misspelt kind", "deny: [shutdwon]\n", `did you mean "shutdown"?`},
	{"a misspelt kind of narrow attacks", "narrow_only: [blackhoel]\n", "policy.yaml:1:"},
	{"a misspelt kind of consent", "require_consent:\n  - shut_down\n", "policy.yaml:2:"},
	{"all as a kind", "kinds: all\n", "leave kinds out"},
	{"a rule twice", "deny: [shutdown]\ndeny: [blackhole]\n", ""},
	{"an empty list", "kinds: []\n", "empty list"},
	{"a rule without a value", "max_length:\n", "max_length"},
	{"an empty item", "deny: [\"\"]\n", "a single value"},
	{"a mapping", "deny: {shutdown: true}\n", "a single value"},
	{"no mapping", "- deny\n", "mapping"},
	{"a second document", "max_length: 60s\n---\ndeny: [shutdown]\n", "second document"},
	{"rubbish behind", "max_length: 60s\n...\n}{\n", "policy.yaml:3:1: line 3"},
	{"no length", "max_length: 0\n", "deny: all"},
	{"a negative length", "max_length: -5\n", "negative"},
	{"no parallel", "max_parallel: 0\n", "deny: all"},
	{"half an attack", "max_parallel: 1.5\n", "number"},
	{"hours without a zone", "hours: Mon-Fri 09:00-15:00\n", "time_zone"},
	{"a freeze without a zone", "freezes: 2026-12-24\n", "time_zone"},
	{"no zone", "time_zone: Europe/Berlino\nhours: daily 09:00-15:00\n", "not a time zone"},
	{"the zone of whoever asks", "time_zone: Local\nhours: daily 09:00-15:00\n", "not a time zone"},
	{"an hour that is none", "time_zone: UTC\nhours: daily 09:00-25:00\n", "span of hours"},
	{"a span of nothing", "time_zone: UTC\nhours: daily 09:00-09:00\n", "span of hours"},
	{"a short hour", "time_zone: UTC\nhours: daily 9:00-15:00\n", "span of hours"},
	{"days that are none", "time_zone: UTC\nhours: Mo-Fr 09:00-15:00\n", "days"},
	{"no days", "time_zone: UTC\nhours: 09:00-15:00\n", "not a window"},
	{"a freeze that is no day", "time_zone: UTC\nfreezes: 2026-02-30\n", "not a day"},
	{"a freeze backwards", "time_zone: UTC\nfreezes: 2027-01-04..2026-12-18\n", "ends before"},
	{"half an address", "never_hit: [10.0.0.300]\n", "no address"},
	{"half a network", "never_hit: [10.0.0.0/33]\n", "no address"},
	{"a name with a space", "never_hit: [\"db example\"]\n", "no address"},
	{"a spared spare", "never_hit: [^10.0.0.1]\n", "no address"},
	{"two in one", "never_hit: [\"10.0.0.1,10.0.0.2\"]\n", "no address"},
}

func TestWhatIsNotUnderstoodIsRefusedWithItsLine(t *testing.T) {
	for _, c := range wrongFiles {
		p, err := Parse([]byte(c.text), "policy.yaml", known)
		var mistake drill.Mistake
		if err == nil || p != nil || !errors.As(err, &mistake) || mistake.Line < 1 || !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %v; want %q", c.name, err, c.problem)
		}
	}
}

// The planted bug: plain decoding loses the rule in some of these files.
func TestPlainDecodingIsCaught(t *testing.T) {
	lost := 0
	for _, c := range wrongFiles {
		if drill.Decode([]byte(c.text), "policy.yaml", new(Policy)) == nil {
			lost++
		}
	}
	if lost == 0 {
		t.Error("the cases hold nothing that only Parse refuses")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(rules)
	for _, c := range wrongFiles {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse([]byte(text), "policy.yaml", known)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil {
			if drill.KindOf(err) != drill.Invalid {
				t.Fatalf("%v", err)
			}
			return
		}
		if err := p.Admit(Order{Kind: "blackhole", Length: time.Hour, Delay: time.Minute}, local("2026-11-23 10:00")); err != nil && drill.KindOf(err) != drill.Refused {
			t.Fatalf("%v", err)
		}
		for _, target := range p.Spares() {
			if text := target.String(); text == "" || strings.ContainsAny(text, "^, @") {
				t.Fatalf("a spare %q would not be read as one", text)
			}
		}
	})
}

func TestAHostIsAClientOfWhatItsOwnerNamesAlone(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
	for _, row := range []struct {
		policy, name string
		want         string // the addresses, or a part of the refusal
	}{
		{"", "shop.example.test", "[10.0.0.1/32]"},
		{"max_length: 10m", "shop.example.test", "looks at no service as a client"},
		{"clients: [shop.example.test]", "Shop.Example.Test.", "[0.0.0.0/0 ::/0]"},
		{"clients: [shop.example.test]", "other.example.test", "does not look at other.example.test (policy.yaml:1)"},
		{"clients: [other.example.test, 10.1.0.0/16, 10.2.0.1]", "shop.example.test", "[10.1.0.0/16 10.2.0.1/32]"},
		{"clients: [shop.example.test]\ndeny: [all]", "shop.example.test", "this host denies all (policy.yaml:2)"},
		{"clients: [shop.example.test]\ndeny: [blackhole]", "shop.example.test", "[0.0.0.0/0 ::/0]"},
	} {
		var p *Policy
		if row.policy != "" {
			p = mustParse(t, row.policy)
		}
		within, err := p.AdmitClient(row.name, own)
		said := fmt.Sprint(within)
		if err != nil {
			said = err.Error()
			if drill.KindOf(err) != drill.Refused || drill.HintOf(err) == "" {
				t.Errorf("%q: %v has no cure", row.policy, err)
			}
		}
		if !strings.Contains(said, row.want) {
			t.Errorf("%q on %s: %s, and not %s", row.policy, row.name, said, row.want)
		}
	}
}
