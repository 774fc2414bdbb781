package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firedrill/internal/attest"
)

// The line of a key is base64, which has slashes in more than every other one: it is no path by that.
func TestAPublicKeyIsNamedByItsLineWhateverIsInIt(t *testing.T) {
	seen := map[bool]bool{}
	for range 1000 {
		_, public, err := attest.NewKey("")
		if err != nil {
			t.Fatal(err)
		}
		line := strings.TrimSpace(strings.SplitN(string(public), "\n", 2)[1])
		seen[strings.Contains(line, "/")] = true
		want, err := attest.ParsePublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		if keys, err := readPublicKeys([]string{line}); err != nil || len(keys) != 1 || keys[0].ID() != want.ID() {
			t.Fatalf("%s: %v", line, err)
		}
		if len(seen) == 2 {
			break
		}
	}
	if len(seen) != 2 {
		t.Errorf("tried were only keys of which %v", seen)
	}
	for _, wrong := range []string{"RWrong", "no/such/file.pub", filepath.Join(t.TempDir(), "nothing"), os.DevNull} {
		if _, err := readPublicKeys([]string{wrong}); err == nil || exitCodeOf(err) != exitUsage {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
