package drill

import (
	"os"
	"strings"
	"testing"
)

// The examples of docs/drills.md are a service file when what they name is put before them.
func TestExamplesOfTheDrillsPageCompile(t *testing.T) {
	page, err := os.ReadFile("../../docs/drills.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(severalHead, "probes: {orders: {command: [./orders, --fast], host: b}}\n", "dependencies: {db: {address: \"db:5432\"}}\n", 1)
	text = strings.Replace(text, `alarms: {"{host}-beat": {metric: beat, absent: 3s}}`,
		`alarms: {"{host}-beat": {metric: beat, absent: 3s}, "{host}-checkout": {metric: beat, absent: 3s}, "{host}-db-connectivity-failed": {metric: beat, absent: 3s}}`, 1)
	text = strings.Replace(text, "{name: g,", "{name: shop-blue-1,", 1)
	for line := range strings.Lines(string(page)) {
		if code, is := strings.CutPrefix(line, "    "); is {
			text += code
		}
	}
	service, err := ParseService([]byte(text), "drills.md")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Compile(service, Facts{Live: "blue", Kinds: severalKinds(), File: "f", Seed: 7}, []string{"drill database-gone-under-load"})
	if err != nil {
		t.Fatal(err)
	}
	if d := plan.Steps[0].Drill; len(d.Orders()) != 2 || len(d.StopWhen) != 5 || len(d.Expectations) != 6 {
		t.Errorf("%+v", d)
	}
}
