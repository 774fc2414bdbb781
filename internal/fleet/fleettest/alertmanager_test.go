package fleettest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/fleet"
	"firedrill/internal/fleet/httpapi"
	"firedrill/internal/tether"
)

// alertmanager starts Debian's, which tells hook of alarms with the token in a file, and returns its address.
func (w *world) alertmanager(hook, token string) string {
	w.t.Helper()
	path, err := exec.LookPath("prometheus-alertmanager")
	if err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "prometheus") {
			w.t.Fatal(err)
		}
		w.t.Skip("apt-get install prometheus-alertmanager")
	}
	directory := w.t.TempDir()
	config := fmt.Sprintf(`route: {receiver: firedrill, group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers:
  - name: firedrill
    webhook_configs:
      - url: %s
        http_config: {authorization: {credentials_file: %s/token}}
`, hook, directory)
	for name, text := range map[string]string{"alertmanager.yml": config, "token": token} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	said := &lockedLog{}
	command := exec.Command(path, "--config.file="+directory+"/alertmanager.yml", "--storage.path="+directory+"/kept", "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	command.Stdout, command.Stderr = said, said
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	wait, err := tether.Start(command)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = wait()
		if w.t.Failed() {
			w.t.Logf("Alertmanager said:\n%s", said)
		}
	})
	listening := regexp.MustCompile(`msg="?Listening on"? address=(127\.0\.0\.1:\d+)`)
	var address string
	w.await("Alertmanager", func() error {
		found := listening.FindStringSubmatch(said.String())
		if found == nil {
			return errors.New("it does not listen yet")
		}
		address = found[1]
		return nil
	})
	return address
}

// A webhook of Debian's Alertmanager, as it comes, halts everything; the one that says that the alarm is over does not halt again.
func TestAlertmanagerHaltsEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	h := w.join("web1", web(), nil)
	w.join("web2", web(), nil)
	// What was answered to webhooks with a status: a slow halt may be told twice, which is as good.
	var mu sync.Mutex
	answered := map[string][]string{}
	api := httpapi.Handler(w.control)
	server := httptest.NewServer(http.HandlerFunc(func(to http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		api.ServeHTTP(answer, r)
		var said struct {
			Status string `json:"status"`
		}
		_ = json.Unmarshal(body, &said)
		mu.Lock()
		answered[said.Status] = append(answered[said.Status], answer.Body.String())
		mu.Unlock()
		to.WriteHeader(answer.Code)
		_, _ = to.Write(answer.Body.Bytes())
	}))
	t.Cleanup(server.Close)
	answers := func(status string) error {
		mu.Lock()
		defer mu.Unlock()
		if len(answered[status]) == 0 {
			return fmt.Errorf("no %s alarm was answered", status)
		}
		return nil
	}
	manager := w.alertmanager(server.URL+"/v1/halt", w.apiToken("alertmanager", "halt"))
	tell := func(more string) error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+manager+"/api/v2/alerts", strings.NewReader(
			`[{"labels":{"alertname":"Unserved","severity":"page"},"annotations":{"summary":"nobody can buy"}`+more+`}]`))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	}
	run := w.begun("60", "web1")
	w.await("the impact", h.inForce)
	w.await("the alarm", func() error { return tell("") })
	w.await("the end of the impact", func() error {
		if h.hit() {
			return errors.New("it is in force")
		}
		return nil
	})
	if end := w.ended(run.ID).Hosts[0]; !end.Reverted || !strings.Contains(end.Reason, "halt by token alertmanager") {
		t.Errorf("the account is %+v", end)
	}
	var lever fleet.Lever
	w.must("lever", nil, &lever)
	if !lever.Engaged || lever.Reason != "alarm Unserved: nobody can buy" {
		t.Errorf("the lever is %+v", lever)
	}
	w.await("its answer", func() error { return answers("firing") })
	if err := tell(`,"endsAt":"` + time.Now().UTC().Format(time.RFC3339Nano) + `"`); err != nil {
		t.Fatal(err)
	}
	w.await("the alarm's end", func() error { return answers("resolved") })
	mu.Lock()
	defer mu.Unlock()
	for _, text := range answered["resolved"] {
		if !strings.Contains(text, `"ignored"`) {
			t.Errorf("an alarm that is over has halted: %s", text)
		}
	}
}
