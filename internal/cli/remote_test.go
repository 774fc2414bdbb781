package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/fleet"
)

// takesServer reports whether a command acts through the server of a fleet, as far as its flags say.
func takesServer(command *cobra.Command) bool {
	flag := command.Flag(serverFlag)
	return flag != nil && !flag.Hidden
}

// undecided names the commands that neither take --server nor stand in the list of those of this machine, those that do both, and entries of the list
// that are of no command.
func undecided(root *cobra.Command) []string {
	var wrong []string
	used := map[string]bool{}
	forEach(root, func(command *cobra.Command) {
		name := operation(command)
		if command == root {
			return
		}
		_, here := hereAlone(command)
		switch takes := takesServer(command); {
		case takes && here:
			wrong = append(wrong, name+" takes --server, and is said to be of this machine alone")
		case !takes && !here:
			wrong = append(wrong, name+" takes no --server, and nothing says why")
		}
		used[name] = true
	})
	for name, one := range ofThisMachine {
		if !used[name] {
			wrong = append(wrong, name+" is in the list, and no command")
		}
		if one.why == "" {
			wrong = append(wrong, name+" is in the list without a reason")
		}
	}
	return wrong
}

func TestEveryCommandTakesTheServerOrSaysWhyNot(t *testing.T) {
	for _, wrong := range undecided(Command()) {
		t.Error(wrong)
	}
	planted := func(change func(root *cobra.Command)) int {
		root := Command()
		change(root)
		return len(undecided(root))
	}
	if planted(func(root *cobra.Command) { root.AddCommand(&cobra.Command{Use: "planted"}) }) != 1 {
		t.Error("a new command that is in neither is not caught")
	}
	if planted(func(root *cobra.Command) {
		child := &cobra.Command{Use: "lab"}
		child.Flags().String(serverFlag, "", "planted")
		root.RemoveCommand(childOf(root, "lab"))
		root.AddCommand(child)
	}) != 1 {
		t.Error("one of the list that takes --server is not caught")
	}
	if planted(func(root *cobra.Command) { root.RemoveCommand(childOf(root, "lab")) }) != 1 {
		t.Error("an entry that is of no command is not caught")
	}
}

func TestServerIsRefusedWithTheReasonWhereNoneIsAsked(t *testing.T) {
	for _, path := range paths() {
		command, _, err := Command().Find(path)
		if err != nil {
			t.Fatal(err)
		}
		one, here := hereAlone(command)
		if !here {
			continue
		}
		for _, args := range [][]string{append(slices.Clone(path), "--server", "https://control.example.test"), append([]string{"--server", "x"}, path...), append(slices.Clone(path), "--server=")} {
			code, out, errOut := runRoot(disarm, args...)
			if command.HasSubCommands() && args[0] == "--server" {
				continue // the flag is of the program there, and shows its page
			}
			if code != exitUsage || out != "" || !strings.Contains(errOut, one.why) || !strings.Contains(errOut, one.cure) {
				t.Errorf("firedrill %s: exit code %d, %s%s", strings.Join(args, " "), code, out, errOut)
			}
		}
	}
	var stdout, stderr bytes.Buffer // an attack has a command line of its own
	if code := Main([]string{"firedrill", "attack", "cpu", "-l", "1", "--server", "x"}, brokenReader{}, &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "firedrill fleet attack --server URL") {
		t.Errorf("exit code %d, %s%s", code, stdout.String(), stderr.String())
	}
}

// askedServer stands for a server that refuses whatever it is asked, and remembers it.
type askedServer struct {
	*httptest.Server
	mu     sync.Mutex // guards the fields below
	asked  []string
	strays []string // what came without the token, or to another place
}

const tokenOfTest = "fda.of-a-test"

func newAskedServer(t *testing.T) *askedServer {
	t.Helper()
	a := &askedServer{}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		call, is := strings.CutPrefix(r.URL.Path, fleet.CallsPath)
		if is && r.Header.Get("Authorization") == "Bearer "+tokenOfTest && r.Method == http.MethodPost {
			a.asked = append(a.asked, call)
		} else {
			a.strays = append(a.strays, r.Method+" "+r.URL.Path)
		}
		a.mu.Unlock()
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"text": "the token of a test may nothing", "hint": "so it is"}})
	}))
	t.Cleanup(a.Close)
	t.Setenv(envToken, tokenOfTest)
	return a
}

// address is what --server takes, with the pin.
func (a *askedServer) address() string { return a.URL + "#" + fleet.Pin(a.Certificate()) }

// take returns what was asked since the last time.
func (a *askedServer) take() (asked, strays []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked, strays = a.asked, a.strays
	a.asked, a.strays = nil, nil
	return asked, strays
}

// remoteArgs are what commands need beside --server before they ask.
func remoteArgs(t *testing.T) map[string][]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "firedrill.yaml")
	if err := os.WriteFile(file, []byte(bookstoreFile(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string][]string{
		"judge": {"0a1b2c"}, "report": {"0a1b2c"}, "verify": {"0a1b2c"}, "attest": {"0a1b2c", "--out", t.TempDir()}, "stage": {"--file", file}, "run": {"lose-host", "--file", file},
		"fleet attack": {"--all", "cpu"}, "fleet service put": {file}, "fleet service show": {"bookstore"},
		"fleet drill start": {"bookstore", "lose-host"}, "fleet drill follow": {"0a1b2c"}, "fleet drill stop": {"0a1b2c"},
		"fleet schedule add":    {"weekly", "--service", "bookstore", "--drill", "lose-host", "--cron", "0 10 * * TUE"},
		"fleet schedule remove": {"weekly"}, "fleet schedule leash": {"weekly"}, "fleet schedule unleash": {"weekly"}, "fleet schedule run": {"weekly"},
		"fleet schedule freeze": {"2026-12-18"}, "fleet schedule unfreeze": {"2026-12-18"},
		"fleet run": {"0a1b2c"}, "fleet journal": {"0a1b2c", "web1"}, "fleet stop": {"0a1b2c"}, "fleet api-token": {"ci", "--may", "halt"},
		"fleet add": {"ann", "--out", filepath.Join(t.TempDir(), "ann.json")}, "fleet revoke": {"ann"}, "fleet keys rotate": {"agents"},
	}
}

func bookstoreFile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../drills/bookstore/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// deaf says what is wrong with how a command asks the server that it is given.
func deaf(a *askedServer, change func(*cobra.Command), args []string) string {
	code, out, errOut := runRoot(change, append(args, "--server", a.address())...)
	asked, strays := a.take()
	switch {
	case len(strays) > 0:
		return fmt.Sprintf("it asked otherwise: %q", strays)
	case len(asked) == 0:
		return fmt.Sprintf("it asked nothing: exit code %d, %s%s", code, out, errOut)
	case code != exitRefused || !strings.Contains(errOut, "the token of a test may nothing") || !strings.Contains(errOut, "so it is"):
		return fmt.Sprintf("a server that refuses is told as exit code %d, %s%s", code, out, errOut)
	}
	return ""
}

func TestEveryCommandThatTakesTheServerAsksIt(t *testing.T) {
	a := newAskedServer(t)
	more := remoteArgs(t)
	checked := 0
	forEach(Command(), func(command *cobra.Command) {
		name := operation(command)
		if !command.HasParent() || command.HasSubCommands() && name != "fleet keys" || !takesServer(command) || name == "fleet keys renew" {
			return
		}
		args := slices.Concat(strings.Fields(name), more[name])
		if slices.Contains(strings.Fields(name), "attack") { // what follows the kind is of the attack
			args = append([]string{"--server", a.address()}, args...)
		}
		checked++
		if wrong := deaf(a, nil, args); wrong != "" {
			t.Errorf("%s: %s", name, wrong)
		}
	})
	if checked < 30 {
		t.Errorf("only %d commands were tried", checked)
	}
	if deaf(a, func(root *cobra.Command) {
		childOf(root, "status").RunE = func(*cobra.Command, []string) error { return nil }
	}, []string{"status"}) == "" {
		t.Error("a command that takes --server and asks nothing is not caught")
	}
	if code, _, errOut := runRoot(nil, "fleet", "keys", "renew", "--server", a.address()); code != exitUsage || !strings.Contains(errOut, "a token is no key") {
		t.Errorf("a token renewed: exit code %d, %s", code, errOut)
	}
}

func TestATokenGoesToTheHolderOfThePinAlone(t *testing.T) {
	a, other := newAskedServer(t), newAskedServer(t)
	for _, row := range []struct {
		server, says string
		code         int
	}{
		{a.URL + "#" + fleet.Pin(a.Certificate()), "the token of a test", exitRefused},
		{a.URL, "name the key of the server", exitRefused},
		{a.URL + "#sha256//" + strings.Repeat("A", 43) + "=", "somebody else answers there", exitRefused},
		{a.URL + "#short", "is no pin", exitUsage},
		{"http://127.0.0.1:1", "is not https://", exitUsage},
		{"https://user:word@127.0.0.1", "is not https://", exitUsage},
		{"https://127.0.0.1:1", "does the server run", exitInconclusive},
	} {
		code, out, errOut := runRoot(nil, "fleet", "lever", "--server", row.server)
		if code != row.code || out != "" || !strings.Contains(errOut, row.says) {
			t.Errorf("%s: exit code %d, %s", row.server, code, errOut)
		}
	}
	if asked, strays := a.take(); len(asked) != 1 || len(strays) > 0 {
		t.Errorf("asked %q %q", asked, strays)
	}
	t.Setenv(envToken, "")
	if code, _, errOut := runRoot(nil, "fleet", "lever", "--server", other.address()); code != exitUsage || !strings.Contains(errOut, "FIREDRILL_TOKEN") {
		t.Errorf("without a token: exit code %d, %s", code, errOut)
	}
}

// A host that has just been ordered to begin has not said so yet, and is shown all the same; one that is not there, and one attacked by hand, too.
func TestTheStatusOfAFleetShowsWhatMayBeInForce(t *testing.T) {
	var out bytes.Buffer
	now := time.Now()
	status := fleetStatus{Hosts: []fleet.HostView{
		{Name: "idle", Online: true, Heard: now}, {Name: "ordered", Online: true, Heard: now, Run: "01a2"}, {Name: "gone", Heard: now.Add(-time.Minute)},
		{Name: "hand", Online: true, Heard: now, Running: []fleet.Running{{Kind: "cpu"}}},
	}}
	if err := printFleetStatus(streams{out: &out}, status, now); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"4 hosts: something is, or may be, in force on 2, 1 are not there\n", "ordered  part of run 01a2", "gone     nothing known", "hand     cpu (by hand)"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no %q in\n%s", line, out.String())
		}
	}
	if strings.Contains(out.String(), "idle") {
		t.Errorf("a host on which nothing is in force is listed:\n%s", out.String())
	}
}
