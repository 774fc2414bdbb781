package durable

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

type kept struct {
	Name string `json:"name"`
}

func names(t *testing.T, directory string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

func TestWhatIsSavedIsLoadedAndOfItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	got := kept{"as it was"}
	if err := Load(path, &got); err != nil || got.Name != "as it was" {
		t.Errorf("without a file: %+v, %v", got, err)
	}
	for _, name := range []string{"one", strings.Repeat("two", 100_000), "three"} {
		if err := Save(path, kept{name}); err != nil {
			t.Fatal(err)
		}
		if err := Load(path, &got); err != nil || got.Name != name {
			t.Errorf("%.10s: %.10s, %v", name, got.Name, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v (%v), want it to be of its owner alone", info.Mode(), err)
	}
	if all := names(t, filepath.Dir(path)); len(all) != 1 {
		t.Errorf("%v, want the file alone", all)
	}
}

// A disk that is full in the middle of a file is played by a limit of the kernel.
func TestAWriteThatFailsHalfWayLeavesWhatWasThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if err := Save(path, kept{"before"}); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 100, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	err := Save(path, kept{strings.Repeat("x", 1000)})
	if back := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); back != nil {
		t.Fatal(back)
	}
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want an error that names the file", err)
	}
	var got kept
	if err := Load(path, &got); err != nil || got.Name != "before" {
		t.Errorf("%+v, %v; want what was there", got, err)
	}
	if all := names(t, filepath.Dir(path)); len(all) != 1 {
		t.Errorf("%v, want nothing that was begun", all)
	}
}

func TestWhatIsNotOursIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(path, []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got kept
	if err := Load(path, &got); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want an error that names the file", err)
	}
	if err := os.Truncate(path, loadMax+1); err != nil {
		t.Fatal(err)
	}
	if err := Load(path, &got); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("%v, want it refused unread", err)
	}
	if err := Save(filepath.Join(path, "below"), kept{}); err == nil {
		t.Error("saved below a file")
	}
}
