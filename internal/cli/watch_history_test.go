//go:build !hostpart

package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/history"
)

func TestWatchHistoryTellsMovesWithTheirReasons(t *testing.T) {
	at := time.Now().Add(-time.Hour)
	past := []history.Event{
		history.New(at, "watch", &history.Alarm{Name: "b1-down", Host: "b1", From: "OK", To: "ALARM", Reason: "Threshold Crossed", ReasonData: json.RawMessage(`{"version":"1.0"}`)}),
		history.New(at.Add(50*time.Minute), "watch", &history.Answer{Name: "shop.test", Environment: "green", Addresses: []string{"10.0.0.2"}, Reason: "b1 is ill"}),
		history.New(at.Add(55*time.Minute), "watch", &history.Host{Host: "b1", Detail: "silent"}),
	}
	cut := false
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		asked = in.URL.RawQuery
		for _, event := range past {
			text, _ := json.Marshal(event)
			if cut {
				text = text[:20]
			}
			_, _ = out.Write(append(text, '\n'))
		}
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "firedrill.yaml")
	service := "service: shop\nendpoint: http://shop.test/\nenvironments: {blue: {hosts: [{name: b1, address: 10.0.0.1}]}, green: {hosts: [{name: g1, address: 10.0.0.2}]}}\nwatch: {url: \"" + server.URL + "\"}\n"
	if err := os.WriteFile(file, []byte(service), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args      []string
		code      int
		says, not string
	}{
		{nil, exitPassed, "OK -> ALARM", "{"},
		{[]string{"--since", "15m"}, exitPassed, "leads to green 10.0.0.2", "ALARM"},
		{[]string{"--name", "b1-down", "--json"}, exitPassed, `"reason_data":{"version":"1.0"}`, "shop.test"},
		{[]string{"--kind", "alarm,host"}, exitPassed, "down", "purple"},
		{[]string{"--kind", "alarms"}, exitUsage, `did you mean "alarm"`, ""},
		{[]string{"--since", "yesterday"}, exitUsage, "neither a length nor a time", ""},
	} {
		code, out, errOut := runRoot(nil, append([]string{"watch", "history", "--file", file}, row.args...)...)
		if code != row.code || !strings.Contains(out+errOut, row.says) || (row.not != "" && strings.Contains(out, row.not)) {
			t.Errorf("%v: exit code %d, want %d with %q and without %q:\n%s%s", row.args, code, row.code, row.says, row.not, out, errOut)
		}
	}
	if !strings.Contains(asked, "kinds=alarm%2Chost") {
		t.Errorf("asked %q", asked)
	}
	cut = true
	if code, out, _ := runRoot(nil, "watch", "history", "--file", file); code != exitInconclusive {
		t.Errorf("an answer that was cut short: exit code %d, %s", code, out)
	}
}
