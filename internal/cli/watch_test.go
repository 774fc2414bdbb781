package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firedrill/internal/drill"
)

func TestWatchListensWhereItIsAskedTo(t *testing.T) {
	with := func(w *drill.Watch) drill.Service { return drill.Service{Watch: w} }
	for _, row := range []struct {
		name    string
		service drill.Service
		flag    string
		want    string
	}{
		{"flag", with(&drill.Watch{URL: "http://control:7070", Listen: ":1"}), "127.0.0.1:2", "127.0.0.1:2"},
		{"file", with(&drill.Watch{URL: "http://control:7070", Listen: ":1"}), "", ":1"},
		{"url", with(&drill.Watch{URL: "http://control:7070"}), "", ":7070"},
		{"url without a port", with(&drill.Watch{URL: "http://control"}), "", ""},
		{"nothing", with(nil), "", ""},
	} {
		got, err := watchListen(row.service, row.flag)
		if got != row.want || (row.want == "") != (drill.HintOf(err) != "") {
			t.Errorf("%s: %q, %v; want %q", row.name, got, err, row.want)
		}
	}
}

func TestWatchTakesOnlyASecretThatCannotBeGuessed(t *testing.T) {
	const secret = "dGhpcyBpcyBub3QgYSBzZWNyZXQ"
	dir := t.TempDir()
	for name, text := range map[string]string{"good": secret + "\n", "short": "abc\n", "words": secret + " " + secret, "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct{ name, want string }{{"good", secret}, {"short", ""}, {"words", ""}, {"empty", ""}, {"missing", ""}} {
		// Named in the service file, a path counts from there; named by the flag, from where the command runs.
		service := drill.Service{Watch: &drill.Watch{TokenFile: row.name}}
		inFile, errInFile := watchToken(service, watchOptions{file: filepath.Join(dir, "firedrill.yaml")})
		byFlag, errByFlag := watchToken(drill.Service{}, watchOptions{tokenFile: filepath.Join(dir, row.name)})
		if inFile != row.want || byFlag != row.want || (row.want == "") != (errInFile != nil) || (row.want == "") != (errByFlag != nil) {
			t.Errorf("%s: %q, %v and %q, %v; want %q", row.name, inFile, errInFile, byFlag, errByFlag, row.want)
		}
	}
	if token, err := watchToken(drill.Service{}, watchOptions{}); token != "" || err != nil {
		t.Errorf("no token file: %q, %v", token, err)
	}
}

func TestWatchRefusesWhatItCannotUseWithCure(t *testing.T) {
	var out, errOut bytes.Buffer
	command := newWatchCommand(streams{in: strings.NewReader(""), out: &out, err: &errOut})
	command.SetArgs([]string{"--file", filepath.Join(t.TempDir(), "missing.yaml")})
	command.SilenceErrors, command.SilenceUsage = true, true
	err := command.ExecuteContext(context.Background())
	if exitCodeOf(err) != exitUsage || !strings.Contains(drill.HintOf(err), "--file") {
		t.Errorf("error %v, hint %q", err, drill.HintOf(err))
	}
}
