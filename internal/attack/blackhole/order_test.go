package blackhole

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/drill"
)

func facts() attack.Facts {
	addrs := func(texts ...string) attack.Resolution {
		var r attack.Resolution
		for _, text := range texts {
			r.Addresses = append(r.Addresses, netip.MustParseAddr(text))
		}
		return r
	}
	return attack.Facts{GUID: at.GUID, Host: "blue", Interfaces: []string{"eth0", "lo"}, Names: map[string]attack.Resolution{
		"control": addrs("10.77.0.10"), "cdn": addrs("10.77.3.1", "10.77.3.2", "10.77.0.10"), "db": addrs("10.77.2.10", "fd00::10"),
	}, Control: []attack.Connection{{Local: netip.MustParseAddrPort("10.77.1.10:22"), Remote: netip.MustParseAddrPort("10.77.0.20:50000")}}}
}

func TestPlanSaysWhatWillBeDone(t *testing.T) {
	flags := attack.Values{"length": {"240"}, "hostname": {"^control,cdn,db"}, "egress_port": {"80,5432"}, "device": {"eth0"}}
	if err := at.Deterministic(Kind{}, flags, facts()); err != nil {
		t.Error(err)
	}
	order, err := Kind{}.Order(flags)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := order.Plan(facts())
	if err != nil {
		t.Fatal(err)
	}
	want := `blackhole on blue, guid 0367cfe2-f9fc-11e8-acea-0242db4d1180, for 4m0s
if all of us die, remains: nothing
  create table inet firedrill-0367cfe2-f9fc-11e8-acea-0242db4d1180, owned by this process, alive for 4s at a time and never past the deadline
  spare our SSH connection: 10.77.0.20 to port 22
  spare 10.77.0.10 (control)
  drop egress to and ingress from 10.77.3.1 (cdn), 10.77.3.2 (cdn), 10.77.2.10 (db), fd00::10 (db); only remote ports 80, 5432; only device eth0
  resolve again, and only ever add: cdn, control, db
`
	if got := plan.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if plan.Length != 240*time.Second || plan.OneWay() {
		t.Errorf("length %s, one-way %t", plan.Length, plan.OneWay())
	}
}

func TestOrdersThatCannotBeMeantAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		flags attack.Values
		want  drill.ErrorKind
		text  string
	}{
		"unknown flag":      {attack.Values{"loudness": {"5"}}, drill.Invalid, "no flag --loudness"},
		"given twice":       {attack.Values{"device": {"a", "b"}}, drill.Invalid, "2 times"},
		"no such device":    {attack.Values{"device": {"eth7"}}, drill.Invalid, "eth0, lo"},
		"bad length":        {attack.Values{"length": {"0"}}, drill.Invalid, "1 second"},
		"all is spared too": {attack.Values{"hostname": {"db"}, "ipaddress": {"^10.77.2.0/24,^fd00::/8"}}, drill.Refused, "nothing would be hit"},
	} {
		order, err := Kind{}.Order(test.flags)
		if err == nil {
			_, err = order.Plan(facts())
		}
		if drill.KindOf(err) != test.want || err == nil || !strings.Contains(err.Error(), test.text) || drill.HintOf(err) == "" && name != "given twice" {
			t.Errorf("%s: %v (kind %s, hint %q)", name, err, drill.KindOf(err), drill.HintOf(err))
		}
	}
}

func TestBlackholeIsDescribed(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	var shorts string
	for _, flag := range (Kind{}).Describe().Flags {
		shorts += flag.Short
	}
	if !strings.HasPrefix(shorts, "lihdpnP") {
		t.Errorf("short flags are %q, want those of the catalogue", shorts)
	}
}

func TestRevertWithoutApplyAndTwiceIsNothing(t *testing.T) {
	order, err := Kind{}.Order(attack.Values{"ipaddress": {"10.9.0.2"}})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := order.Plan(facts())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := plan.Steps[0].Revert(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
