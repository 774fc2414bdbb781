package cli

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServerSaysWhereItIsAndLetsNobodyInWithoutASignature(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	log := new(lockedBuffer)
	ctx, cancel := context.WithCancel(t.Context())
	command := newServerCommand(streams{in: strings.NewReader(""), out: io.Discard, err: log})
	command.SetArgs([]string{"--listen", "127.0.0.1:0", "--dns-listen", "127.0.0.1:0", "--data", data})
	ended := make(chan error, 1)
	go func() { ended <- command.ExecuteContext(ctx) }()
	url := awaitLog(t, log, `msg="server ready" listen=(\S+)`)
	response, err := http.Get(url + "/2013-04-01/hostedzone") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil || response.Body.Close() != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusForbidden || !strings.Contains(string(text), "<Code>MissingAuthenticationToken</Code>") {
		t.Errorf("without a signature: %d %s", response.StatusCode, text)
	}
	info, err := os.Stat(filepath.Join(data, "credentials"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("access key: %v, %v", info, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServerRefusesWhatCannotBeServed(t *testing.T) {
	shared := filepath.Join(t.TempDir(), "shared")
	if err := os.WriteFile(shared, []byte("[default]\naws_access_key_id = A\naws_secret_access_key = B\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o644); err != nil { //nolint:gosec // the mistake that is tested
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "route53.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a key that others read":  {[]string{"--data", t.TempDir(), "--access-key", shared}, exitUsage, "may be read by others"},
		"a broken file":           {[]string{"--data", broken}, exitUsage, "route53.json"},
		"an address that is none": {[]string{"--data", t.TempDir(), "--listen", "192.0.2.1:1"}, exitRefused, "listen on 192.0.2.1:1"},
		"checks without a pause":  {[]string{"--data", t.TempDir(), "--check-every", "1ms"}, exitUsage, "--check-every"},
	} {
		code, _, said := runRoot(nil, append([]string{"server", "--dns-listen", "127.0.0.1:0"}, row.args...)...)
		if code != row.code || !strings.Contains(said, row.want) {
			t.Errorf("%s: %d %s; want %d with %s", name, code, said, row.code, row.want)
		}
	}
}
