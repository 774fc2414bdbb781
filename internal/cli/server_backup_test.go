//go:build !hostpart

package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// data is a directory as a server leaves it behind.
func dataOf(t *testing.T) string {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "data")
	if err := errors.Join(os.MkdirAll(filepath.Join(directory, "fleet"), 0o700), os.WriteFile(filepath.Join(directory, "fleet", "identity.json"), []byte("key"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return directory
}

func TestServerIsBackedUpAndRestored(t *testing.T) {
	data := dataOf(t)
	file := filepath.Join(t.TempDir(), "backup.tar.gz")
	if code, out, errOut := runRoot(nil, "server", "backup", "--json", "--data", data, file); code != exitPassed || !strings.Contains(out, `"files": 1`) {
		t.Fatalf("exit %d: %s%s", code, out, errOut)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v, %v", info.Mode(), err)
	}
	to := filepath.Join(t.TempDir(), "new", "data")
	if code, out, errOut := runRoot(nil, "server", "restore", "--data", to, file); code != exitPassed || !strings.Contains(out, "restored to "+to+": 1 files") {
		t.Fatalf("exit %d: %s%s", code, out, errOut)
	}
	if text, err := os.ReadFile(filepath.Join(to, "fleet", "identity.json")); err != nil || string(text) != "key" {
		t.Errorf("%s, %v", text, err)
	}
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"over what is there":        {[]string{"restore", "--data", to, file}, exitRefused, "is not empty"},
		"over an older backup":      {[]string{"backup", "--data", data, file}, exitRefused, "is there already"},
		"into itself":               {[]string{"backup", "--data", data, filepath.Join(data, "fleet", "b")}, exitUsage, "lies in the directory"},
		"of nothing":                {[]string{"backup", "--data", filepath.Join(data, "nothing"), file + "2"}, exitUsage, "no such file"},
		"from what is no backup":    {[]string{"restore", "--data", to + "2", filepath.Join(data, "fleet", "identity.json")}, exitUsage, "no backup"},
		"from what is not there":    {[]string{"restore", "--data", to + "2", file + "2"}, exitUsage, "no such file"},
		"to where nobody may write": {[]string{"backup", "--data", data, "/proc/nothing"}, exitUsage, "can be written"},
	} {
		if code, out, errOut := runRoot(nil, append([]string{"server"}, test.args...)...); code != test.code || !strings.Contains(errOut, test.says) {
			t.Errorf("%s: exit %d, want %d with %q: %s%s", name, code, test.code, test.says, out, errOut)
		}
	}
	for _, directory := range []string{filepath.Dir(to), filepath.Dir(file)} {
		left, err := filepath.Glob(filepath.Join(directory, ".*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// A directory is one server's: two that write to it would spoil it, and one that is backed up would be torn.
func TestADirectoryIsOneServersAlone(t *testing.T) {
	data := dataOf(t)
	release, err := holdData(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"backup": {"server", "backup", "--data", data, filepath.Join(t.TempDir(), "b")},
		"server": {"server", "--data", data, "--listen", "127.0.0.1:0", "--dns-listen", "127.0.0.1:0"},
	} {
		if code, out, errOut := runRoot(nil, args...); code != exitRefused || !strings.Contains(errOut, "is in use by another server") {
			t.Errorf("%s: exit %d: %s%s", name, code, out, errOut)
		}
	}
	release()
	if again, err := holdData(data); err != nil {
		t.Errorf("after its end: %v", err)
	} else {
		again()
	}
}
