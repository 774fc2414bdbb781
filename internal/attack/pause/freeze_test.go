package pause

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// envCounter makes this test binary a process that counts in the file named here.
const envCounter = "FIREDRILL_PAUSE_TEST_COUNTER"

// counter is the process: it goes on as long as it is let.
func counter(path string) int {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return 1
	}
	for count := uint64(1); ; count++ {
		if _, err := file.WriteAt(binary.LittleEndian.AppendUint64(nil, count), 0); err != nil {
			return 1
		}
		<-time.After(time.Millisecond)
	}
}

// cohort is a group with a process in it that counts.
type cohort struct {
	group cgroups.Group
	file  string
}

func newCohort(t testing.TB) cohort {
	t.Helper()
	at.Require(t)
	top := ""
	for _, place := range []string{"/sys/fs/cgroup/freezer", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(place, "cgroup.procs")); err == nil && top == "" {
			top = place
		}
	}
	directory, err := os.MkdirTemp(top, "firedrill-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := at.Await(func() error { return os.Remove(directory) }); err != nil {
			t.Error(err)
		}
	})
	c := cohort{file: filepath.Join(t.TempDir(), "count")}
	if c.group, err = cgroups.Find("/", cgroups.Freezer, directory); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envCounter+"="+c.file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.frozen().set(false); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err := c.group.Write("cgroup.procs", strconv.Itoa(cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	if err := c.counts(at.Patience()); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c cohort) frozen() frozen { return frozen{Directory: c.group.Directory, V2: c.group.V2} }

func (c cohort) count() uint64 {
	text, err := os.ReadFile(c.file)
	if err != nil || len(text) != 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(text)
}

// still checks from outside that the process does not go on.
func (c cohort) still() error {
	before := c.count()
	<-time.After(100 * time.Millisecond) // a hundred counts
	if now := c.count(); now != before || before == 0 {
		return fmt.Errorf("it counted from %d to %d, want it frozen", before, now)
	}
	return nil
}

func (c cohort) counts(limit time.Duration) error {
	before := c.count()
	return at.Within(limit, func() error {
		if c.count() == before {
			return errors.New("it does not count")
		}
		return nil
	})
}

func (c cohort) subject(limit time.Duration) at.Subject {
	return at.Subject{
		Args: []string{"--cgroup=" + c.group.Name},
		Felt: func(*at.World) error { return c.still() },
		Clear: func(*at.World) error {
			return errors.Join(c.counts(limit), at.Within(limit, at.NoJournal))
		},
		Guarded: true,
	}
}

func TestFrozenGroupHoldsTheContract(t *testing.T) {
	t.Parallel()
	at.RunAlone(t, func(t *testing.T) at.Subject { return newCohort(t).subject(at.Patience()) }, nil)
}

func TestContractCatchesTheLateFreeze(t *testing.T) {
	t.Parallel()
	if at.Alone(t) {
		at.Catches(t, at.LeavesNothingWhenKilledAnywhere, newCohort(t).subject(at.Moment), "late")
	}
}

// shared checks that undo leaves what another attack holds to that one.
func shared(kind Kind, c cohort) error {
	if err := c.frozen().set(true); err != nil {
		return err
	}
	change := attack.Change{Undo: []byte(fmt.Sprintf(`{"directory":%q,"v2":%t}`, c.group.Directory, c.group.V2))}
	if err := kind.Undo(context.Background(), change, []attack.Change{change}); err != nil {
		return err
	}
	if err := c.still(); err != nil {
		return fmt.Errorf("another attack holds it: %w", err)
	}
	return errors.Join(kind.Undo(context.Background(), change, nil), c.counts(at.Patience()))
}

func TestTheLastAttackLetsTheGroupGoOn(t *testing.T) {
	t.Parallel()
	c := newCohort(t)
	if err := shared(Kind{}, c); err != nil {
		t.Error(err)
	}
	err := shared(Kind{hooks: hooks{forgetful: true}}, c)
	if err == nil {
		t.Error("the planted bug of forgetting others was not caught")
	}
	t.Logf("caught: %v", err)
}

func TestGroupsOfOthersAreRefused(t *testing.T) {
	order, err := Kind{}.Order(attack.Values{"cgroup": {"/a"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		facts attack.Facts
		want  string
	}{
		"freezer": {attack.Facts{Group: attack.Group{Group: cgroups.Group{Name: "/a"}, Processes: []int{7}, Freezer: true}}, "freeze cgroup /a; 1 processes are in it"},
		"signals": {attack.Facts{Group: attack.Group{Group: cgroups.Group{Name: "/a"}, Processes: []int{7}}}, "stop process 7 (api)"},
		"sshd":    {attack.Facts{Group: attack.Group{Processes: []int{7, 8}, Freezer: true}, Consent: true}, ""},
		"nobody":  {attack.Facts{Group: attack.Group{Freezer: true}}, ""},
	} {
		test.facts.Processes = []procs.Process{{ID: procs.ID{PID: 7}, Name: "api"}, {ID: procs.ID{PID: 8}, Name: "sshd", Protected: "it is sshd", Consent: true}}
		got, err := order.Plan(test.facts)
		if test.want == "" && drill.KindOf(err) != drill.Refused || test.want != "" && (err != nil || got.Lines()[0] != test.want) {
			t.Errorf("%s: %v, %v; want %q", name, got, err, test.want)
		}
	}
	if _, err := (Kind{}).Order(attack.Values{"cgroup": {"/a"}, "process": {"x"}}); drill.KindOf(err) != drill.Invalid {
		t.Errorf("group and process: %v, want invalid", err)
	}
}
