package cgroups

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// tree writes files below a root of its own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	mountsV1     = "29 20 0:25 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n30 20 0:26 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"
	mountsV2     = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
	mountsHybrid = mountsV1 + "31 20 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)

func TestFindKnowsBothVersions(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		what  Interface
		name  string
		want  Group // directory below root
		err   error
	}{
		"version 2": {map[string]string{"proc/self/mountinfo": mountsV2, "sys/fs/cgroup/a/b/pids.max": "max\n"}, PIDs, "/a/b",
			Group{Name: "/a/b", Directory: "sys/fs/cgroup/a/b", V2: true}, nil},
		"path of the directory": {map[string]string{"proc/self/mountinfo": mountsV2, "sys/fs/cgroup/a/pids.max": "max\n"}, PIDs, "/sys/fs/cgroup/a",
			Group{Name: "/a", Directory: "sys/fs/cgroup/a", V2: true}, nil},
		"without a slash": {map[string]string{"proc/self/mountinfo": mountsV2, "sys/fs/cgroup/a/cgroup.freeze": "0\n"}, Freezer, "a",
			Group{Name: "/a", Directory: "sys/fs/cgroup/a", V2: true}, nil},
		"version 1": {map[string]string{"proc/self/mountinfo": mountsV1, "sys/fs/cgroup/freezer/a/freezer.state": "THAWED\n"}, Freezer, "/a",
			Group{Name: "/a", Directory: "sys/fs/cgroup/freezer/a"}, nil},
		"where the processes are": {map[string]string{"proc/self/mountinfo": mountsHybrid, "sys/fs/cgroup/unified/a/cgroup.freeze": "0\n",
			"sys/fs/cgroup/freezer/a/freezer.state": "THAWED\n", "sys/fs/cgroup/freezer/a/cgroup.procs": "7\n"}, Freezer, "/a",
			Group{Name: "/a", Directory: "sys/fs/cgroup/freezer/a"}, nil},
		"none":        {map[string]string{"proc/self/mountinfo": mountsHybrid}, PIDs, "/a", Group{}, ErrNone},
		"no freezer":  {map[string]string{"proc/self/mountinfo": mountsV2, "sys/fs/cgroup/a/pids.max": "max\n"}, Freezer, "/a", Group{}, ErrNone},
		"not mounted": {map[string]string{"proc/self/mountinfo": "1 2 3\n"}, PIDs, "/a", Group{}, ErrNone},
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, test.files)
			got, err := Find(root, test.what, test.name)
			if test.want.Directory != "" {
				test.want.Directory = filepath.Join(root, test.want.Directory)
			}
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %+v, %v; want %+v, %v", got, err, test.want, test.err)
			}
		})
	}
}

func TestFindNeverNamesTheWholeHost(t *testing.T) {
	root := tree(t, map[string]string{"proc/self/mountinfo": mountsV2, "sys/fs/cgroup/pids.max": "max\n", "sys/fs/cgroup/a/pids.max": "max\n", "sys/fs/pids.max": ""})
	for _, name := range []string{"", "/", "//", ".", "/sys/fs/cgroup", "/sys/fs/cgroup/", "/a/..", "../a", "/a/../../.."} {
		if got, err := Find(root, PIDs, name); err == nil {
			t.Errorf("%q is %+v, want it refused", name, got)
		}
	}
}

func TestProcessesAreThoseBelowToo(t *testing.T) {
	root := tree(t, map[string]string{"proc/self/mountinfo": mountsV2, "sys/fs/cgroup/a/pids.max": "12\n", "sys/fs/cgroup/a/cgroup.procs": "9\n0\n",
		"sys/fs/cgroup/a/b/cgroup.procs": "7\n8\n", "sys/fs/cgroup/c/cgroup.procs": "5\n", "sys/fs/cgroup/a/pids.events": "max 3\n"})
	g, err := Find(root, PIDs, "/a")
	if err != nil {
		t.Fatal(err)
	}
	if pids, err := g.Processes(); err != nil || !slices.Equal(pids, []int{7, 8, 9}) {
		t.Errorf("processes %v, %v", pids, err)
	}
	if limit, err := g.Number("pids.max"); err != nil || limit != 12 {
		t.Errorf("pids.max %d, %v", limit, err)
	}
	if refused, err := g.Field("pids.events", "max"); err != nil || refused != 3 {
		t.Errorf("pids.events %d, %v", refused, err)
	}
	if err := g.Write("no.such.file", "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}
