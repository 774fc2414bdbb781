//go:build !hostpart

package cli

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/notify"
	"firedrill/internal/stage"
	"firedrill/internal/verdict"
	"firedrill/internal/watch"
)

func TestAWebhookIsToldOfACadenceAndCanTellWhoSaidIt(t *testing.T) {
	t.Parallel()
	var body []byte
	var signature string
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		signature = r.Header.Get(notify.SignatureHeader)
	}))
	defer receiver.Close()
	directory := t.TempDir()
	address, key := filepath.Join(directory, "address"), filepath.Join(directory, "key")
	for path, text := range map[string]string{address: receiver.URL, key: "not to be guessed"} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tell, err := newsTeller(address, key)
	if err != nil {
		t.Fatal(err)
	}
	one := fleet.News{Service: "shop", Name: "cadence-lose-db", To: fleet.NewsAlarm, Text: "no drill of lose-db for 29 days: due"}
	if err := tell(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte("not to be guessed"))
	mac.Write(body)
	var told notify.Notice
	if err := json.Unmarshal(body, &told); err != nil || signature != hex.EncodeToString(mac.Sum(nil)) {
		t.Errorf("%s, %s, %v", body, signature, err)
	}
	if told.Service != "shop" || told.Alarm != "cadence-lose-db" || told.To != "ALARM" || told.Reason != one.Text {
		t.Errorf("%+v", told)
	}
	for _, wrong := range [][2]string{{filepath.Join(directory, "nothing"), ""}, {address, filepath.Join(directory, "nothing")}, {"", key}} {
		if _, err := newsTeller(wrong[0], wrong[1]); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if tell, err := newsTeller("", ""); tell != nil || err != nil {
		t.Errorf("nobody is told: %v", err)
	}
	receiver.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tell(ended, one); err == nil {
		t.Error("a receiver that is gone was told")
	}
}

func TestAServiceIsUnfitWhereItsWatchSaysSoOrSaysNothing(t *testing.T) {
	t.Parallel()
	state := watch.Snapshot{Alarms: []watch.AlarmStatus{{Name: "calm", State: "OK"}, {Name: "unknown", State: "INSUFFICIENT_DATA"}, {Name: "off", State: "ALARM", Disabled: true}}}
	up := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(state)
	}))
	defer server.Close()
	service := drill.Service{Name: "shop", Watch: &drill.Watch{URL: server.URL}}
	unfit := func() string { return fleetConductor{}.Unfit(t.Context(), service) }
	if why := unfit(); why != "" {
		t.Errorf("fit: %s", why)
	}
	state.Alarms = append(state.Alarms, watch.AlarmStatus{Name: "web1-beat", State: "ALARM", Reason: "no beat", Since: time.Unix(0, 0)})
	if why := unfit(); why != "the service is unhealthy: alarm web1-beat is raised since 1970-01-01T00:00:00Z: no beat" {
		t.Errorf("%q", why)
	}
	if up = false; unfit() == "" {
		t.Error("a watch that says nothing is taken for one that says that all is well")
	}
}

func TestARecordSaysWhatADrillHasCost(t *testing.T) {
	t.Parallel()
	judged := verdict.Verdict{Service: "shop", Outcome: "passed", Steps: []verdict.StepVerdict{{Name: "deploy green"}, {Name: "drill lose-db", Kind: drill.StepDrill, Checks: []verdict.Check{{Name: errorBudgetCheck, Measured: &verdict.Quantity{Value: 2.5, Unit: "s"}}}}}}
	record, err := recordOfVerdict(judged)
	if err != nil || len(record.Steps) != 2 || record.Steps[0].Unserved != 0 || record.Steps[1].Unserved.Duration() != 2500*time.Millisecond {
		t.Errorf("%+v, %v", record, err)
	}
	// The names are another package's.
	if !stage.HoldsAtMost(control.ProofLife) {
		t.Error("evidence for a stage may hold for longer than a server keeps the logs of drills")
	}
}
