package procs

import (
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func world() []Process {
	return []Process{
		{ID: ID{1, 1}, Name: "init", Command: "/sbin/init", Protected: "it is process 1"},
		{ID: ID{10, 50}, Name: "gunicorn", Command: "/usr/bin/gunicorn main", Parent: 1, UID: 33, GID: 33},
		{ID: ID{11, 60}, Name: "gunicorn", Command: "/usr/bin/gunicorn worker", Parent: 10, UID: 33, GID: 33},
		{ID: ID{12, 40}, Name: "gunicorn", Command: "/usr/bin/gunicorn other", Parent: 1, UID: 1000, GID: 1000},
		{ID: ID{13, 70}, Name: "a-name-that-is-", Command: "/opt/a-name-that-is-too-long --x", Parent: 11},
		{ID: ID{14, 80}, Name: "sshd", Command: "sshd: gunicorn", Parent: 11, Protected: "it is sshd"},
	}
}

func pids(all []Process) []int {
	found := []int{}
	for _, p := range all {
		found = append(found, p.PID)
	}
	return found
}

func TestSelectMeansWhatTheFlagsSay(t *testing.T) {
	for name, test := range map[string]struct {
		query         Query
		meant, spared []int
	}{
		"part of a name":        {Query{Process: "unic"}, []int{10, 11, 12}, []int{}},
		"whole name":            {Query{Process: "unic", Exact: true}, []int{}, []int{}},
		"whole name, pattern":   {Query{Process: "g.*n", Exact: true}, []int{10, 11, 12}, []int{}},
		"longer than a name":    {Query{Process: "a-name-that-is-too-long", Exact: true}, []int{13}, []int{}},
		"number":                {Query{Process: "11"}, []int{11}, []int{}},
		"number, not narrowed":  {Query{Process: "11", User: "0", Group: "0"}, []int{11}, []int{}},
		"user":                  {Query{Process: "gunicorn", User: "33"}, []int{10, 11}, []int{}},
		"group":                 {Query{Process: "gunicorn", Group: "1000"}, []int{12}, []int{}},
		"newest":                {Query{Process: "gunicorn", Newest: true}, []int{11}, []int{}},
		"oldest":                {Query{Process: "gunicorn", Oldest: true}, []int{12}, []int{}},
		"command line":          {Query{Process: "worker$", Full: true}, []int{11}, []int{}},
		"children":              {Query{Process: "10", Children: true}, []int{10, 11, 13}, []int{14}},
		"process 1":             {Query{Process: "1"}, []int{}, []int{1}},
		"newest is not a spare": {Query{Process: "gunicorn", Full: true, Newest: true}, []int{11}, []int{14}},
		"everything":            {Query{Process: "."}, []int{10, 11, 12, 13}, []int{1, 14}},
	} {
		t.Run(name, func(t *testing.T) {
			selector, err := test.query.Selector()
			if err != nil {
				t.Fatal(err)
			}
			meant, spared := selector.Select(world())
			if !slices.Equal(pids(meant), test.meant) || !slices.Equal(pids(spared), test.spared) {
				t.Errorf("meant %v and spared %v, want %v and %v", pids(meant), pids(spared), test.meant, test.spared)
			}
		})
	}
}

func TestSelectorRefusesWhatItCannotUnderstand(t *testing.T) {
	for _, query := range []Query{{}, {Process: "("}, {Process: "0"}, {Process: "-3"}, {Process: "x", Newest: true, Oldest: true},
		{Process: "x", User: "nobody-has-this-name"}, {Process: "x", Group: "nobody-has-this-name"}} {
		if _, err := query.Selector(); err == nil {
			t.Errorf("%+v is understood", query)
		}
	}
}

func TestSurveyProtectsUsAndThoseAboveUs(t *testing.T) {
	all, err := Survey()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{1, os.Getpid(), os.Getppid()} {
		at := slices.IndexFunc(all, func(p Process) bool { return p.PID == pid })
		if at >= 0 && all[at].Protected == "" {
			t.Errorf("%s is not protected", all[at])
		}
	}
}

func TestSignalReachesOnlyTheVeryProcess(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	p, err := Stat(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	later := p.ID
	later.Start++
	if err := Signal(later, unix.SIGKILL); err != ErrGone {
		t.Errorf("a process with the same number was signalled: %v", err)
	}
	if _, err := Find(p.ID); err != nil {
		t.Errorf("the process is %v", err)
	}
	if err := Signal(p.ID, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = child.Wait()
	if err := Signal(p.ID, unix.SIGKILL); err != ErrGone {
		t.Errorf("after its end: %v", err)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 77 0")
	f.Add("")
	f.Add(")(")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parseStat([]byte(text)); err == nil && p.State == 0 {
			t.Errorf("%q has no state", text)
		}
	})
}
