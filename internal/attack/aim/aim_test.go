package aim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

func facts() attack.Facts {
	return attack.Facts{
		Group:     attack.Group{Group: cgroups.Group{Name: "/a", Directory: "/sys/fs/cgroup/a"}, Processes: []int{7}},
		Processes: []procs.Process{{ID: procs.ID{PID: 7}, Name: "api"}, {ID: procs.ID{PID: 8}, Name: "sshd", Protected: "it is sshd"}},
	}
}

func which(t *testing.T, process string) procs.Selector {
	t.Helper()
	selector, err := procs.Query{Process: process}.Selector()
	if err != nil {
		t.Fatal(err)
	}
	return selector
}

func TestPlanSaysWhoIsMeantAndWhoIsSpared(t *testing.T) {
	verb := func(p procs.Process) string { return "stop " + p.String() }
	for name, test := range map[string]struct {
		process string
		group   bool
		want    string
	}{
		"those that match": {"api|sshd", false, "stop process 7 (api)\nspare process 8 (sshd): it is sshd\nand more"},
		"all in a group":   {"", true, "stop process 7 (api)\nand more"},
	} {
		t.Run(name, func(t *testing.T) {
			var selector procs.Selector
			if test.process != "" {
				selector = which(t, test.process)
			}
			a, err := At("pause", selector, facts(), test.group)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(a.Lines(verb, "and more"), "\n"); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
	withSSHD := facts()
	withSSHD.Group.Processes = []int{7, 8}
	if _, err := At("pause", procs.Selector{}, withSSHD, true); drill.KindOf(err) != drill.Refused {
		t.Errorf("a group with sshd in it: %v, want it refused", err)
	}
}

// Who is meant now is asked of the kernel, and who is held already is left out.
func TestNowFindsWhoHasComeUpSince(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	a := Aim{Which: which(t, strconv.Itoa(cmd.Process.Pid))}
	found, err := a.Now(func(procs.ID) bool { return false })
	if err != nil || len(found) != 1 || found[0].PID != cmd.Process.Pid {
		t.Fatalf("found %v (%v), want process %d", found, err, cmd.Process.Pid)
	}
	if again, err := a.Now(func(id procs.ID) bool { return id == found[0].ID }); err != nil || len(again) > 0 {
		t.Errorf("found %v (%v), and all are held already", again, err)
	}
}

func TestHeldReadsItsOwnRecordsOnly(t *testing.T) {
	type group struct{ Directory string }
	changes := []attack.Change{{Undo: []byte("torn")}, {Undo: []byte(`{"pid":7}`)}, {Undo: []byte(`{"directory":"/a"}`)}}
	if held, ok := Held(changes, func(g group) bool { return g.Directory == "/a" }); !ok || held.Directory != "/a" {
		t.Errorf("%+v, %t", held, ok)
	}
	if _, ok := Held(changes, func(g group) bool { return g.Directory == "/b" }); ok {
		t.Error("nobody holds it")
	}
}

func TestErrorsSayTheCure(t *testing.T) {
	p := procs.Process{ID: procs.ID{PID: 7}, Name: "api"}
	known := &drill.Error{Op: "x", Kind: drill.Refused}
	for name, test := range map[string]struct {
		got  error
		kind drill.ErrorKind
		hint string
	}{
		"process of another user": {Explain("fd", "narrow", p, unix.EPERM), drill.Unsupported, "as root"},
		"process":                 {Explain("fd", "narrow", p, unix.EINVAL), drill.Failed, ""},
		"group that is gone":      {ExplainGroup("pid", fmt.Errorf("read: %w", os.ErrNotExist)), drill.Unproven, ""},
		"group that is read-only": {ExplainGroup("pid", unix.EROFS), drill.Unsupported, "/sys/fs/cgroup"},
		"said already":            {ExplainGroup("pid", known), drill.Refused, ""},
	} {
		if drill.KindOf(test.got) != test.kind || !strings.Contains(drill.HintOf(test.got), test.hint) {
			t.Errorf("%s: %v, cure %q", name, test.got, drill.HintOf(test.got))
		}
	}
	if ExplainGroup("pid", nil) != nil {
		t.Error("nothing is wrong")
	}
}

func TestAgainEndsWithItsContextAndWithTheFirstError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	looks := 0
	if err := Again(ctx, func(context.Context) error {
		looks++
		cancel()
		return errors.New("it was ended")
	}); err != nil || looks != 1 {
		t.Errorf("%d looks, %v", looks, err)
	}
	wrong := errors.New("wrong")
	if err := Again(t.Context(), func(context.Context) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("%v, want %v", err, wrong)
	}
}
