package fleettest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/fleet/httpapi"
)

// liar stands before the API of a server, and changes what it answers.
type liar struct {
	next   http.Handler
	change func(call string, answer []byte) []byte // nil: it breaks off in the middle
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	recorded := httptest.NewRecorder()
	l.next.ServeHTTP(recorded, r)
	text := recorded.Body.Bytes()
	if l.change != nil {
		if text = l.change(strings.TrimPrefix(r.URL.Path, fleet.CallsPath), text); text == nil {
			panic(http.ErrAbortHandler)
		}
	}
	w.WriteHeader(recorded.Code)
	_, _ = w.Write(text)
}

// changed changes the result of a reply.
func changed[T any](t *testing.T, answer []byte, change func(*T)) []byte {
	t.Helper()
	var reply fleet.Reply
	var result T
	if err := errors.Join(json.Unmarshal(answer, &reply), json.Unmarshal(reply.Result, &result)); err != nil {
		t.Error(err)
		return answer
	}
	change(&result)
	var err error
	if reply.Result, err = json.Marshal(result); err != nil {
		t.Error(err)
	}
	if answer, err = json.Marshal(reply); err != nil {
		t.Error(err)
	}
	return answer
}

// within are all files below a directory with what they hold.
func within(t *testing.T, directory string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(directory, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, relErr := filepath.Rel(directory, path)
		all[name] = string(text)
		return errors.Join(err, relErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What a drill of a server proved is proven here, with a key that is kept here: whatever the server hands out in its place is noticed.
func TestADrillOfAServerIsProvenHere(t *testing.T) {
	w := newWorld(t, func(o *control.Options) { o.Conductor = stagehand{} })
	w.join("web1", map[string]string{"service": "shop"}, nil)
	w.join("web2", map[string]string{"service": "shop"}, nil)
	w.must("putservice", fleet.PutService{Text: stageFile}, nil)
	honest := httpapi.Handler(w.control)
	front := &liar{next: honest}
	server := httptest.NewTLSServer(front)
	t.Cleanup(server.Close)
	here := t.TempDir()
	t.Setenv("TMPDIR", t.TempDir())
	keys := map[string]string{"server": filepath.Join(here, "server.key"), "team": filepath.Join(here, "team.key"), "other": filepath.Join(here, "other.key")}
	for _, key := range keys {
		if code, _, errOut := typed("key", "new", key, "--no-password"); code != 0 {
			t.Fatal(errOut)
		}
	}
	var drills []fleet.DrillRun
	for range 2 {
		run, err := w.drill("busy")
		for err != nil { // the permit of the one before is given back a moment after its end is known
			w.await("a drill", func() error { run, err = w.drill("busy"); return err })
		}
		run = w.drillEnded(run.ID)
		drills = append(drills, run)
		if code, out, errOut := typed("attest", filepath.Join(w.control.DrillsDirectory(), run.Result), "--sign", keys["server"]); code != 0 {
			t.Fatal(out, errOut)
		}
	}
	id, short := drills[0].ID, drills[0].ID[len(drills[0].ID)-6:]
	kept := filepath.Join(w.control.DrillsDirectory(), drills[0].Result)
	byKey := []string{"--server", w.options.Listen, "--fleet", filepath.Join(w.directory, control.AdminFile)}
	byToken := []string{"--server", server.URL + "#" + fleet.Pin(server.Certificate())}
	ci, blind := w.apiToken("ci", "drills", "service", "drillrun", "drillfiles", "drillfile", "drill", "stopdrill"), w.apiToken("blind", "drillrun", "drillfiles")
	t.Setenv("FIREDRILL_TOKEN", ci)
	as := func(way []string, args ...string) []string { return append(args, way...) }
	trusted := []string{"--key", keys["server"] + ".pub"}

	for _, way := range [][]string{byKey, byToken} {
		for _, row := range []struct {
			args []string
			code int
			says string
		}{
			{trusted, 0, "✓ server "},
			{[]string{"--unsigned"}, 0, "✓ drill "},
			{nil, 3, "? signature "},
			{[]string{"--key", keys["other"] + ".pub"}, 1, "✗ signature "},
		} {
			if code, out, errOut := typed(as(way, append([]string{"verify", short}, row.args...)...)...); code != row.code || !strings.Contains(out, row.says) {
				t.Errorf("verify %q: exit code %d, %s%s", row.args, code, out, errOut)
			}
		}
	}
	if code, out, _ := typed(as(byToken, "verify", id, "--json", "--key", keys["server"]+".pub")...); code != 0 || !json.Valid([]byte(out)) || !strings.Contains(out, `"answer": "holds"`) {
		t.Errorf("as JSON: exit code %d, %s", code, out)
	}
	archive := filepath.Join(here, "archive")
	if code, out, errOut := typed(as(byToken, "verify", id, "--unsigned", "--out", archive)...); code != 0 || !strings.Contains(out, "kept in "+filepath.Join(archive, drills[0].Result)) {
		t.Errorf("kept: exit code %d, %s%s", code, out, errOut)
	}
	want := within(t, kept)
	if got := within(t, filepath.Join(archive, drills[0].Result)); len(got) < 6 || len(got) != len(want) || got["run.jsonl"] != want["run.jsonl"] || got["attestation.json.minisig"] != want["attestation.json.minisig"] {
		t.Errorf("kept are %d files of %d", len(got), len(want))
	}
	w.attestedHere(as(byToken), drills[0], keys["team"])

	w.stageIsToldHere(as(byToken), front, drills, keys)

	// Each is noticed as where it lies; but that files are of another drill only who asked for this one can say.
	for what, planted := range map[string]struct {
		change     func(files map[string]string)
		near, far  int
		says, sign string
	}{
		"a log that was altered": {func(files map[string]string) {
			files["run.jsonl"] = strings.Replace(files["run.jsonl"], `"shop"`, `"ship"`, 1)
		}, 2, 2, "", ""},
		"a log whose end was altered":  {func(files map[string]string) { alterEnd(files) }, 1, 1, "✗ log ", ""},
		"a log that was cut off":       {func(files map[string]string) { cutEnd(files) }, 1, 1, "✗ server ", ""},
		"a log that was cut, unsigned": {func(files map[string]string) { cutEnd(files); unsign(files) }, 3, 1, "✗ server ", ""},
		"a page that was altered":      {func(files map[string]string) { files["report.html"] += " " }, 1, 1, "✗ files ", ""},
		"no attestation":               {unsign, 3, 3, "? attestation ", ""},
		"no log":                       {func(files map[string]string) { delete(files, "run.jsonl") }, 2, 3, "", ""},
		"the files of another drill": {func(files map[string]string) {
			swapped(files, within(t, filepath.Join(w.control.DrillsDirectory(), drills[1].Result)))
		}, 0, 1, "✗ drill ", ""},
		"one that somebody else signed": {func(map[string]string) {}, 1, 1, "✗ signature ", keys["other"]},
	} {
		put(t, kept, want)
		files := within(t, kept)
		planted.change(files)
		put(t, kept, files)
		if planted.sign != "" {
			if code, _, errOut := typed("attest", kept, "--sign", planted.sign); code != 0 {
				t.Fatal(errOut)
			}
		}
		near, out, _ := typed(append([]string{"verify", kept}, trusted...)...)
		far, farOut, errOut := typed(as(byToken, append([]string{"verify", short}, trusted...)...)...)
		if near != planted.near || far != planted.far || !strings.Contains(farOut, planted.says) {
			t.Errorf("%s: where it lies %d, from elsewhere %d\n%s\n%s%s", what, near, far, out, farOut, errOut)
		}
	}
	put(t, kept, want)

	// What a server says of it in other words than it keeps, what it names, and how it breaks off.
	out := filepath.Join(here, "out")
	for what, planted := range map[string]struct {
		change func(call string, answer []byte) []byte
		code   int
		says   string
	}{
		"another outcome": {func(call string, answer []byte) []byte {
			if call != "drillrun" {
				return answer
			}
			return changed(t, answer, func(run *fleet.DrillRun) { run.Outcome = "excellent" })
		}, 1, "it says excellent"},
		"another drill": {func(call string, answer []byte) []byte {
			if call != "drillrun" {
				return answer
			}
			return changed(t, answer, func(run *fleet.DrillRun) { *run = drills[1] })
		}, 1, "asked for was"},
		"a name that leads away": {func(call string, answer []byte) []byte {
			if call != "drillfiles" {
				return answer
			}
			return changed(t, answer, func(all *[]fleet.DrillFile) { *all = append(*all, fleet.DrillFile{Name: "../planted", Size: 1}) })
		}, 3, "is no name of a file of a drill"},
		"a place that leads away": {func(call string, answer []byte) []byte {
			if call != "drillrun" {
				return answer
			}
			return changed(t, answer, func(run *fleet.DrillRun) { run.Result = "../planted" })
		}, 3, "is no name of a file of a drill"},
		"too much": {func(call string, answer []byte) []byte {
			if call != "drillfiles" {
				return answer
			}
			return changed(t, answer, func(all *[]fleet.DrillFile) { (*all)[0].Size = 1 << 60 })
		}, 3, "are not what a drill leaves"},
		"more than it said": {func(call string, answer []byte) []byte {
			if call != "drillfile" {
				return answer
			}
			return changed(t, answer, func(part *fleet.FilePart) { part.Data = append(part.Data, "more"...) })
		}, 3, "changes while it is fetched"},
		"an end in the middle": {func(call string, answer []byte) []byte {
			if call == "drillfile" && bytes.Contains(answer, []byte(`"next":`)) && !bytes.Contains(answer, []byte(`"data":"ey`)) {
				return nil // at the first file that is no JSON
			}
			return answer
		}, 3, "does the server run"},
		"rubbish": {func(call string, answer []byte) []byte { return []byte("<html>") }, 70, "not as a server of a fleet does"},
	} {
		front.change = planted.change
		for _, command := range [][]string{{"verify", short, "--unsigned"}, {"verify", short, "--unsigned", "--out", out}, {"attest", short, "--out", out, "--sign", keys["team"]}} {
			code, said, errOut := typed(as(byToken, command...)...)
			wrong := planted.code
			if command[0] == "attest" && wrong == 1 {
				wrong = 2
			}
			if code != wrong || !strings.Contains(said+errOut, planted.says) {
				t.Errorf("%s, %q: exit code %d, %s%s", what, command, code, said, errOut)
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				t.Fatal(err)
			}
			if left := within(t, out); command[0] == "attest" && len(left) > 0 || planted.code != 1 && len(left) > 0 {
				t.Errorf("%s, %q: it leaves %v", what, command, slices.Collect(keysOf(left)))
			}
			if err := os.RemoveAll(out); err != nil {
				t.Fatal(err)
			}
		}
	}
	front.change = nil
	if left := within(t, os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("left in the temporary directory: %v", slices.Collect(keysOf(left)))
	}
	if _, err := os.Stat(filepath.Join(here, "planted")); err == nil {
		t.Error("a file lies outside of the directory")
	}

	t.Setenv("FIREDRILL_TOKEN", blind)
	for _, command := range []string{"verify", "attest"} {
		if code, _, errOut := typed(as(byToken, command, short, "--out", out)...); code != 4 || !strings.Contains(errOut, "--may drillfile") {
			t.Errorf("%s beyond the scopes: exit code %d, %s", command, code, errOut)
		}
	}
	t.Setenv("FIREDRILL_TOKEN", ci)
	for _, way := range [][]string{byKey, byToken} {
		if code, _, errOut := typed(as(way, "verify", "nothing")...); code != 2 || !strings.Contains(errOut, "firedrill fleet drill list") {
			t.Errorf("a drill that is not there: exit code %d, %s", code, errOut)
		}
	}
	going, err := w.drill("for-long")
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errOut := typed(as(byToken, "verify", going.ID)...); code != 3 || !strings.Contains(errOut, "firedrill fleet drill follow "+going.ID) {
		t.Errorf("a drill that goes on: exit code %d, %s", code, errOut)
	}
	w.must("stopdrill", going.ID, nil)
	w.drillEnded(going.ID)
}

// attestedHere signs a drill of a server with a key that is kept here, and verifies what was made of it without the server.
func (w *world) attestedHere(way []string, run fleet.DrillRun, key string) {
	w.t.Helper()
	out := filepath.Join(w.t.TempDir(), "out")
	before := within(w.t, w.control.DrillsDirectory())
	command := append([]string{"attest", run.ID, "--sign", key, "--out", out, "--json"}, way...)
	code, said, errOut := typed(command...)
	if code != 0 || !strings.Contains(said, `"signed_by"`) || !strings.Contains(said, run.Head) {
		w.t.Errorf("attest: exit code %d, %s%s", code, said, errOut)
	}
	if code, said, errOut := typed("verify", filepath.Join(out, run.Result), "--key", key+".pub"); code != 0 {
		w.t.Errorf("what was signed here: exit code %d, %s%s", code, said, errOut)
	}
	if code, _, errOut := typed(command...); code != 2 || !strings.Contains(errOut, "is there already") {
		w.t.Errorf("a second time: exit code %d, %s", code, errOut)
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 1 {
		w.t.Errorf("beside it lie %v: %v", entries, err)
	}
	after := within(w.t, w.control.DrillsDirectory())
	for name, text := range before {
		if after[name] != text {
			w.t.Errorf("%s of the server was changed", name)
		}
	}
}

// stageIsToldHere has the stage of a service told from the drills of the server, as from the same files where they lie.
func (w *world) stageIsToldHere(way []string, front *liar, drills []fleet.DrillRun, keys map[string]string) {
	t := w.t
	t.Helper()
	here := t.TempDir()
	file := filepath.Join(here, "firedrill.yaml")
	if err := os.WriteFile(file, []byte(stageFile), 0o600); err != nil {
		t.Fatal(err)
	}
	at := []string{"--at", drills[1].Ended.UTC().Add(time.Hour).Format(time.RFC3339), "--json"} // else the answers differ by their times
	far := func(more ...string) (int, string, string) {
		return typed(slices.Concat([]string{"stage"}, at, more, way)...)
	}
	evidence := func(run fleet.DrillRun) string {
		return run.Result + ": its page and its log are as they were attested"
	}
	_, near, errOut := typed(slices.Concat([]string{"stage", "--file", file}, at, []string{w.control.DrillsDirectory()})...)
	if !strings.Contains(near, evidence(drills[1])) {
		t.Fatalf("where it lies: %s%s", near, errOut)
	}
	kept := filepath.Join(here, "kept")
	for _, more := range [][]string{{"--file", file}, {"--service", "shop"}, {"--file", file, "--signed-by", keys["server"] + ".pub"}, {"--file", file, "--out", kept}, {"--file", file, "--out", kept}} {
		code, out, errOut := far(more...)
		if code != 0 || errOut != "" || more[0] == "--file" && out != near || !strings.Contains(out, evidence(drills[1])) {
			t.Errorf("stage %q: exit code %d, %s%s; where it lies %s", more, code, out, errOut, near)
		}
	}
	// What was altered, where it is fetched or where it was kept, and what somebody else signed, are no evidence: the one before is.
	directory := filepath.Join(w.control.DrillsDirectory(), drills[1].Result)
	want := within(t, directory)
	for _, altered := range []string{directory, filepath.Join(kept, drills[1].Result)} {
		files := within(t, altered)
		files["report.html"] += " "
		put(t, altered, files)
		code, out, errOut := far("--file", file, "--out", kept)
		if altered == directory {
			code, out, errOut = far("--file", file)
		}
		if code != 0 || !strings.Contains(out, evidence(drills[0])) || !strings.Contains(errOut, drills[1].Result+" is no evidence: files: report.html was changed") {
			t.Errorf("%s is altered: exit code %d, %s%s", altered, code, out, errOut)
		}
		put(t, directory, want)
	}
	if code, out, errOut := far("--file", file, "--signed-by", keys["other"]+".pub", "--require", "1"); code != 1 || !strings.Contains(out, "no run with a drill") || strings.Count(errOut, "is no evidence: signature: ") != 2 {
		t.Errorf("signed by somebody else: exit code %d, %s%s", code, out, errOut)
	}
	// A server that goes away in the middle is no smaller evidence.
	came := 0
	front.change = func(call string, answer []byte) []byte {
		if call == "drillfiles" {
			if came++; came > 1 {
				return nil
			}
		}
		return answer
	}
	if code, out, errOut := far("--file", file); code != 3 || out != "" || !strings.Contains(errOut, "does the server run") {
		t.Errorf("a server that goes away: exit code %d, %s%s", code, out, errOut)
	}
	front.change = nil
}

func unsign(files map[string]string) {
	delete(files, "attestation.json")
	delete(files, "attestation.json.minisig")
}

func cutEnd(files map[string]string) {
	lines := strings.SplitAfter(strings.TrimSpace(files["run.jsonl"]), "\n")
	files["run.jsonl"] = strings.Join(lines[:len(lines)-1], "")
}

func alterEnd(files map[string]string) {
	text := []byte(files["run.jsonl"])
	at := bytes.LastIndex(text, []byte(`"at":"20`))
	text[at+len(`"at":"20`)] ^= 1
	files["run.jsonl"] = string(text)
}

func swapped(files, by map[string]string) {
	clear(files)
	for name, text := range by {
		files[name] = text
	}
}

// put makes a directory hold these files alone.
func put(t *testing.T, directory string, files map[string]string) {
	t.Helper()
	if err := os.RemoveAll(directory); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func keysOf(files map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range files {
			if !yield(name) {
				return
			}
		}
	}
}

// A file of a drill is had with curl as it is, within the scopes of a token, and by no name but those of its files.
func TestAFileOfADrillIsHadOverHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *control.Options) { o.Conductor = stagehand{} })
	w.join("web1", map[string]string{"service": "shop"}, nil)
	w.join("web2", map[string]string{"service": "shop"}, nil)
	w.must("putservice", fleet.PutService{Text: stageFile}, nil)
	run, err := w.drill("for-long")
	if err != nil {
		t.Fatal(err)
	}
	w.must("stopdrill", run.ID, nil)
	run = w.drillEnded(run.ID)
	kept := filepath.Join(w.control.DrillsDirectory(), run.Result)
	large := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // some parts
	if err := os.WriteFile(filepath.Join(kept, "large.bin"), large, 0o600); err != nil {
		t.Fatal(err)
	}
	a := w.api()
	token, halt := w.apiToken("ci", "drillfiles", "drillfile"), w.apiToken("pager", "halt")
	base := "/v1/drills/" + run.ID + "/files"
	var listed []fleet.DrillFile
	if status, text := a.ask(http.MethodGet, base, token, ""); status != http.StatusOK || json.Unmarshal(text, &listed) != nil || len(listed) < 2 {
		t.Errorf("the list: %d %s", status, text)
	}
	for _, row := range []struct {
		path, token string
		status      int
	}{
		{base + "/large.bin", token, http.StatusOK},
		{base + "/large.bin", token, http.StatusOK}, // once more on the same connection
		{base + "/run.jsonl", halt, http.StatusForbidden},
		{base + "/run.jsonl", "", http.StatusUnauthorized},
		{base, halt, http.StatusForbidden},
		{base + "/nothing", token, http.StatusBadRequest},
		{base + "/..%2f..%2fadmin.json", token, http.StatusBadRequest},
		{base + "/%2e%2e%2fadmin.json", token, http.StatusBadRequest},
		{base + "/" + "%2fetc%2fpasswd", token, http.StatusBadRequest},
		{"/v1/drills/nothing/files/run.jsonl", token, http.StatusBadRequest},
	} {
		if status, text := a.ask(http.MethodGet, row.path, row.token, ""); status != row.status || status == http.StatusOK && !bytes.Equal(text, large) {
			t.Errorf("%s: %d, %d bytes", row.path, status, len(text))
		}
	}
	// One that is cut while it is handed out is shorter than was said.
	front := &cutting{next: httpapi.Handler(w.control), cut: func() error { return os.Truncate(filepath.Join(kept, "large.bin"), 400_000) }}
	server := httptest.NewServer(front)
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+base+"/large.bin", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that was cut: %d bytes, %v", len(text), err)
	}
}

// cutting has something done after the first part of an answer.
type cutting struct {
	next http.Handler
	cut  func() error
}

func (c *cutting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.next.ServeHTTP(&cutWriter{ResponseWriter: w, cut: c.cut}, r)
}

type cutWriter struct {
	http.ResponseWriter
	cut func() error
}

func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *cutWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	if w.cut != nil {
		err = errors.Join(err, w.cut())
		w.cut = nil
	}
	return n, err
}
