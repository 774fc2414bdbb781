package ready

import (
	"os"
	"slices"
	"strings"
	"testing"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/drill"
)

var everything = Choices{Process: "bookstore serve", Directory: "/var/lib/app", Connect: "shop.example.com:443"}

func bookstore(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../../drills/bookstore/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// The failures that the catalogue of drills promises.
var promised = []string{
	"certificate-expiry", "clock-jump", "full-disk", "hung-process", "lose-database-primary", "lose-dependency", "lose-dns", "lose-host",
	"lose-zone", "retry-storm", "slow-dependency",
}

func TestEveryReadyMadeDrillIsAddedAndCompiles(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Name)
		for _, section := range []string{"A healthy service", "## What to expect", "## What it needs"} {
			if !strings.Contains(d.Page, section) {
				t.Errorf("%s: its page has no %q", d.Name, section)
			}
		}
		text := string(bookstore(t))
		if d.Name == "lose-host" { // the Bookstore has one of its own
			text = strings.Replace(text, "\n  lose-host:", "\n  lose-hosts:", 1)
			text = strings.Replace(text, "drill lose-host on", "drill lose-hosts on", 1)
		}
		added, err := d.Add([]byte(text), "firedrill.yaml", everything)
		if err != nil {
			t.Errorf("%s: %v", d.Name, err)
			continue
		}
		for line := range strings.Lines(text) { // nothing else is changed
			if !strings.Contains(string(added), line) {
				t.Errorf("%s: the line %q is gone", d.Name, line)
			}
		}
		service, err := drill.ParseService(added, "firedrill.yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, on := range []string{"active", "idle"} {
			plan, err := drill.Compile(service, drill.Facts{Live: "blue", Kinds: kinds.Describe(), Seed: 1}, []string{"drill " + d.Name + " on " + on})
			if err != nil {
				t.Errorf("%s on %s: %v", d.Name, on, err)
			} else if len(plan.Steps[0].Drill.Expectations) == 0 {
				t.Errorf("%s on %s expects nothing", d.Name, on)
			}
		}
	}
	if !slices.Equal(names, promised) {
		t.Errorf("there are %v, want %v", names, promised)
	}
}

// An environment of several hosts does not lose its answer with one of them.
func TestDrillsFitTheService(t *testing.T) {
	service, err := drill.ParseService(bookstore(t), "firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lost, err := Find("lose-host")
	if err != nil {
		t.Fatal(err)
	}
	one, err := lost.Fill(service, Choices{})
	if err != nil || !strings.Contains(one, "answer moves") {
		t.Errorf("one host: %v\n%s", err, one)
	}
	more := service.Environments[0].Hosts[0]
	service.Environments[0].Hosts = append(service.Environments[0].Hosts, more)
	several, err := lost.Fill(service, Choices{})
	if err != nil || !strings.Contains(several, "answer stays") {
		t.Errorf("several hosts: %v\n%s", err, several)
	}
}

func TestWhatIsMissingIsNamedWithItsCure(t *testing.T) {
	for _, test := range []struct {
		drill, old, planted string
		choices             Choices
		want                string
	}{
		{"hung-process", "", "", Choices{}, "--process"},
		{"full-disk", "", "", Choices{}, "--directory"},
		{"certificate-expiry", "", "", Choices{}, "--connect"},
		{"slow-dependency", "", "", Choices{Dependency: "dbb"}, `"db"`},
		{"lose-database-primary", "", "", Choices{}, ""},
	} {
		d, err := Find(test.drill)
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Add(bookstore(t), "firedrill.yaml", test.choices)
		if test.want == "" && err != nil || test.want != "" && (drill.KindOf(err) != drill.Invalid || !strings.Contains(drill.HintOf(err), test.want)) {
			t.Errorf("%s: %v, cure %q, want one with %q", test.drill, err, drill.HintOf(err), test.want)
		}
	}
	if _, err := Find("lose-hosts"); err == nil || drill.HintOf(err) != `did you mean "lose-host"?` {
		t.Errorf("a wrong name: %v, %q", err, drill.HintOf(err))
	}
	own, _ := Find("lose-host")
	if _, err := own.Add(bookstore(t), "firedrill.yaml", Choices{}); drill.KindOf(err) != drill.Refused {
		t.Errorf("a second drill of one name: %v", err)
	}
}

func TestDrillsAreBegunWhereThereAreNone(t *testing.T) {
	text := string(bookstore(t))
	head, _, _ := strings.Cut(text, "drills:\n")
	d, err := Find("retry-storm")
	if err != nil {
		t.Fatal(err)
	}
	added, err := d.Add([]byte(head), "firedrill.yaml", everything)
	if err != nil {
		t.Fatal(err)
	}
	service, err := drill.ParseService(added, "firedrill.yaml")
	if err != nil || len(service.Drills) != 1 {
		t.Errorf("%d drills, %v", len(service.Drills), err)
	}
	if _, err := d.Add([]byte(head+"drills: {a: {attack: {dns: {}}, expect: [answer stays]}}\n"), "firedrill.yaml", everything); drill.KindOf(err) != drill.Unsupported || drill.HintOf(err) == "" {
		t.Errorf("drills in braces: %v", err)
	}
}
