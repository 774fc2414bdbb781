package hostsfile

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/failovertest"
)

const (
	name  = "bookstore.example.test"
	other = "127.0.0.1 localhost # home\n\n::1\tlocalhost ip6-localhost\n10.0.0.9 db.example.test   DB\n"
)

var (
	blue  = netip.MustParseAddr("10.77.1.10")
	green = netip.MustParseAddr("10.77.1.20")
)

func hosts(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

// lookUp does what the C library does: every line that has the name, in order.
func lookUp(path string) ([]netip.Addr, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(line); len(words) > 1 && words[1] == name {
			all = append(all, netip.MustParseAddr(words[0]))
		}
	}
	return all, nil
}

func TestContractHolds(t *testing.T) {
	path := hosts(t, other)
	failovertest.TestBackend(t, failovertest.BackendSubject{
		Backend: New(Options{File: path}), Another: New(Options{File: path}), Name: name, Blue: blue, Green: green,
		Ask: func(context.Context) ([]netip.Addr, error) { return lookUp(path) },
		Meddle: func(to netip.Addr) error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			from := blue
			if to == blue {
				from = green
			}
			line := func(a netip.Addr) string { return "\n" + a.String() + " " + name }
			return os.WriteFile(path, []byte(strings.ReplaceAll(string(text), line(from), line(to))), 0o640)
		},
		Others: func(context.Context) (string, error) {
			text, err := os.ReadFile(path)
			before, _, _ := strings.Cut(string(text), markBegin)
			info, statErr := os.Stat(path)
			if err == nil {
				err = statErr
			}
			if err != nil {
				return "", err
			}
			return before + info.Mode().String(), nil
		},
	})
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), other) {
		t.Errorf("the lines of others became:\n%s", text)
	}
}

func TestOtherLinesStayByteByByte(t *testing.T) {
	change := failover.Change{Name: name, Addresses: []netip.Addr{green}, Serial: 7}
	ours := string(block(change))
	old := string(block(failover.Change{Name: name, Addresses: []netip.Addr{blue}, Serial: 5}))
	for what, row := range map[string][2]string{
		"no lines of ours":        {other, other + ours},
		"no newline at the end":   {"127.0.0.1 localhost", "127.0.0.1 localhost\n" + ours},
		"in the middle":           {"# top\n" + old + other, "# top\n" + ours + other},
		"another name's":          {strings.ReplaceAll(old, name, "x."+name) + other, strings.ReplaceAll(old, name, "x."+name) + other + ours},
		"the end mark is lost":    {strings.Replace(old, markEnd+name+"\n", "", 1) + other, ours + other},
		"an empty file":           {"", ours},
		"Windows ends of lines":   {"127.0.0.1 localhost\r\n", "127.0.0.1 localhost\r\n" + ours},
		"a comment with the name": {"# 10.0.0.1 " + name + "\n", "# 10.0.0.1 " + name + "\n" + ours},
	} {
		path := hosts(t, row[0])
		if err := New(Options{File: path}).Publish(t.Context(), change); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != row[1] {
			t.Errorf("%s: %v\n%s\nwant\n%s", what, err, got, row[1])
		}
	}
}

func TestRefusalsSayTheCure(t *testing.T) {
	change := failover.Change{Name: name, Addresses: []netip.Addr{green}, Serial: 7}
	for what, row := range map[string]struct {
		path string
		kind drill.ErrorKind
	}{
		"a line of somebody":  {hosts(t, other+"10.0.0.1 www "+strings.ToUpper(name)+"\n"), drill.Invalid},
		"no file":             {filepath.Join(t.TempDir(), "absent"), drill.Unreachable},
		"no directory at all": {"/absent/hosts", drill.Unreachable},
	} {
		err := New(Options{File: row.path}).Publish(t.Context(), change)
		if drill.KindOf(err) != row.kind || drill.HintOf(err) == "" {
			t.Errorf("%s: %v (%s), cure %q", what, err, drill.KindOf(err), drill.HintOf(err))
		}
	}
	if err := New(Options{File: hosts(t, "")}).Publish(t.Context(), failover.Change{Name: "a b", Addresses: change.Addresses, Serial: 1}); drill.KindOf(err) != drill.Invalid {
		t.Errorf("a name with a space: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	change := failover.Change{Name: name, Addresses: []netip.Addr{green}, Serial: 7}
	f.Add(other + string(block(change)))
	f.Add(markBegin + name + " serial=3\n")
	f.Fuzz(func(t *testing.T, text string) {
		found := parse([]byte(text), name)
		fresh := found.with(block(change))
		again := parse(fresh, name)
		if found.foreign == 0 && again.foreign == 0 && (again.mark != change.Mark() || fmt.Sprint(again.addresses) != fmt.Sprint(change.Addresses)) {
			t.Errorf("%q became %q, which leads to %v by %q", text, fresh, again.addresses, again.mark)
		}
	})
}
