package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/worker"
	"firedrill/internal/attack/worker/workertest"
	"firedrill/internal/drill"
)

func TestMain(m *testing.M) {
	if code, ours := worker.Main(os.Args, map[string]worker.Job{Name: Job}); ours {
		os.Exit(code)
	}
	at.ChildMain(func(bug string, step func(string)) attack.Kind {
		return Kind{hooks: worker.Hooks{Step: step, Bug: strings.TrimPrefix(bug, "-")}}
	})
	if code, inside := workertest.PrivateMounts(); !inside {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// asked is the share that tests fill their volumes to.
const asked = 60

// volumeMB is the size of a test's volume, which lies in memory.
const volumeMB = 16

// volume mounts a volume for one test, with a file of somebody else's in it.
func volume(t testing.TB) string {
	t.Helper()
	directory := workertest.Tmpfs(t, volumeMB)
	if err := os.WriteFile(filepath.Join(directory, "somebody"), make([]byte, mega), 0o600); err != nil {
		t.Fatal(err)
	}
	return directory
}

func subject(t *testing.T) at.Subject {
	directory := volume(t)
	before, err := worker.Volume(directory)
	if err != nil {
		t.Fatal(err)
	}
	return at.Subject{
		Args: []string{"--dir=" + directory, fmt.Sprintf("--percent=%d", asked)},
		Felt: func(*at.World) error { return at.Await(func() error { return filledTo(directory, asked) }) },
		Clear: func(w *at.World) error {
			if err := workertest.AwaitNone(w, Name); err != nil {
				return err
			}
			return at.Await(func() error { return asBefore(directory, before) })
		},
	}
}

func filledTo(directory string, share float64) error {
	now, err := worker.Volume(directory)
	if err != nil {
		return err
	}
	if got := now.Percent(); got < share-tolerance || got > share+tolerance {
		return fmt.Errorf("the volume is at %.3f %%, want %.1f", got, share)
	}
	return nil
}

func asBefore(directory string, before attack.Volume) error {
	now, err := worker.Volume(directory)
	if err != nil {
		return err
	}
	if now != before {
		return fmt.Errorf("the volume is %+v, and was %+v", now, before)
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	if len(entries) != 1 {
		return fmt.Errorf("files are left: %v", entries)
	}
	return nil
}

func TestDiskHoldsTheContract(t *testing.T) { workertest.Contract(t, subject) }

func TestWorkerEndsAlone(t *testing.T) { workertest.Run(t, subject, Name) }

func TestWorksInAUserNamespace(t *testing.T) {
	workertest.InUserNamespace(t, "^(TestDiskHoldsTheContract|TestWorkerEndsAlone)$/^(RevertsAtDeadline|EndsAtDeadlineWhileStopped|KilledOutright|FrozenAltogether)$", 4)
}

func TestContractCatchesPlantedBugs(t *testing.T) {
	workertest.CatchesPlantedBugs(t, subject, Name)
	t.Run(bugNamed, func(t *testing.T) {
		t.Parallel()
		at.Catches(t, workertest.KilledOutright, subject(t), bugNamed)
	})
	t.Run(bugSmall, func(t *testing.T) {
		t.Parallel()
		easy := subject(t)
		easy.Felt = func(*at.World) error { return nil }
		at.Catches(t, at.RevertsAtDeadline, easy, bugSmall)
	})
}

// Where the file system gives no room without writing, or knows no files without a name, the same holds.
func TestFallbacksHoldTheShareAndLeaveNothing(t *testing.T) {
	for name, bug := range map[string]string{"writes": onlyWrites, "file that loses its name": onlyUnlinked} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, check := range []func(*at.World, at.Subject, string) error{at.RevertsAtDeadline, workertest.KilledOutright} {
				s := subject(t)
				s.Args = append(s.Args, "--workers=3", "--block-size=8")
				if err := check(at.NewWorld(t), s, bug); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A service that tidies up does not end the drill.
func TestRoomThatBecomesFreeIsTakenAgain(t *testing.T) {
	t.Parallel()
	s := subject(t)
	directory := strings.TrimPrefix(s.Args[0], "--dir=")
	w := at.NewWorld(t)
	a, err := w.Start(at.Spec{Args: append([]string{"--length=60", "--guid=" + at.GUID}, s.Args...)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Stop()
	if _, err := a.AwaitInForce(); err != nil {
		t.Fatal(err)
	}
	if err := s.Felt(w); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(directory, "somebody")); err != nil {
		t.Fatal(err)
	}
	if err := s.Felt(w); err != nil {
		t.Error(err)
	}
	// What others write on top of the share is theirs.
	if err := os.WriteFile(filepath.Join(directory, "more"), make([]byte, mega), 0o600); err != nil {
		t.Fatal(err)
	}
	over := float64(asked) + 100.0/volumeMB
	if err := filledTo(directory, over); err != nil {
		t.Error(err)
	}
}

func TestFullMeansNoRoomForAnybody(t *testing.T) {
	t.Parallel()
	s := subject(t)
	directory := strings.TrimPrefix(s.Args[0], "--dir=")
	s.Args[1] = "--percent=100"
	s.Felt = func(*at.World) error {
		err := os.WriteFile(filepath.Join(directory, "more"), make([]byte, mega), 0o600)
		_ = os.Remove(filepath.Join(directory, "more"))
		if !errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("writing ended with %v, want no space left", err)
		}
		return nil
	}
	if err := at.RevertsAtDeadline(at.NewWorld(t), s, ""); err != nil {
		t.Error(err)
	}
}

// On ext4 a part is kept for root. We are root, and do not take it.
func TestReserveOfRootIsKept(t *testing.T) {
	t.Parallel()
	directory := extVolume(t, 64)
	before := reserve(t, directory)
	if before == 0 {
		t.Fatal("the volume keeps no reserve: nothing is proven")
	}
	w := at.NewWorld(t)
	a, err := w.Start(at.Spec{Args: []string{"--length=60", "--guid=" + at.GUID, "--dir=" + directory, "--percent=100"}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Stop()
	if _, err := a.AwaitInForce(); err != nil {
		t.Fatal(err)
	}
	if err := filledTo(directory, 100); err != nil {
		t.Error(err)
	}
	const description = 64 * kilo // which the file system itself may keep there
	if after := reserve(t, directory); after+description < before {
		t.Errorf("the reserve is %d bytes in force, and was %d", after, before)
	}
}

func reserve(t *testing.T, directory string) uint64 {
	t.Helper()
	var stat unix.Statfs_t
	if err := unix.Statfs(directory, &stat); err != nil {
		t.Fatal(err)
	}
	return (stat.Bfree - stat.Bavail) * uint64(stat.Bsize)
}

// extVolume makes an ext4 volume of so many megabytes in a file that lies in memory.
func extVolume(t testing.TB, megabytes int64) string {
	t.Helper()
	return extVolumeOn(t, workertest.Tmpfs(t, int(megabytes+8)), megabytes)
}

// extVolumeOn makes it in a sparse file below a directory.
func extVolumeOn(t testing.TB, below string, megabytes int64) string {
	t.Helper()
	image := filepath.Join(below, "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, megabytes*mega)); err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-m", "10", image}, {"mount", "-o", "loop", image, directory}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			at.Missing(t, "kernel", "an ext4 volume: %v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := at.Await(func() error { return unix.Unmount(directory, 0) }); err != nil {
			t.Error(err)
		}
	})
	return directory
}

func plan(flags attack.Values, volume attack.Volume) (attack.Plan, error) {
	order, err := Kind{}.Order(flags)
	if err != nil {
		return attack.Plan{}, err
	}
	return order.Plan(attack.Facts{GUID: at.GUID, Host: "green", Volume: volume})
}

func TestPlanSaysFromWhereToWhere(t *testing.T) {
	v := attack.Volume{Directory: "/var", Block: 4096, Used: 200 * mega, Available: 800 * mega}
	got, err := plan(attack.Values{"percent": {"95"}}, v)
	want := "fill the volume of /var from 20.00 % to 95 %, with about 750.0 MB"
	if err != nil || strings.Join(got.Lines(), "\n") != want || got.Remains() != attack.RemainsNothing {
		t.Errorf("plan says %q (%v) and leaves %s, want %q and nothing", got.Lines(), err, got.Remains(), want)
	}
	if err := at.Deterministic(Kind{}, nil, attack.Facts{Volume: v}); err != nil {
		t.Error(err)
	}
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
}

func TestVolumeOverTheShareIsRefused(t *testing.T) {
	for share, want := range map[string]bool{"19.8": false, "20": true, "20.5": true, "100": true} {
		_, err := plan(attack.Values{"percent": {share}}, attack.Volume{Directory: "/var", Block: 4096, Used: 200 * mega, Available: 800 * mega})
		if admitted := err == nil; admitted != want || (err != nil && drill.KindOf(err) != drill.Refused) {
			t.Errorf("%s %% of a volume at 20 %%: got %v, want it admitted: %t", share, err, want)
		}
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	v := attack.Volume{Directory: "/var", Block: 4096, Used: mega, Available: mega}
	for _, flags := range []attack.Values{{"percent": {"0"}}, {"percent": {"101"}}, {"percent": {"NaN"}}, {"workers": {"0"}}, {"workers": {"65"}},
		{"block-size": {"0"}}, {"block-size": {"4k"}}, {"length": {"0"}}, {"size": {"1"}}, {"dir": {"/tmp", "/var"}}} {
		if _, err := plan(flags, v); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v: got %v, want it refused as invalid", flags, err)
		}
	}
	for _, directory := range []string{"/nowhere/at/all", "/proc/self/exe", "/proc"} {
		order, err := Kind{}.Order(attack.Values{"dir": {directory}})
		if err != nil {
			t.Fatal(err)
		}
		var facts attack.Facts
		if err = order.(Order).Survey(t.Context(), &facts); err == nil {
			_, err = order.Plan(facts)
		}
		if drill.KindOf(err) != drill.Invalid {
			t.Errorf("%s: got %v, want it refused as invalid", directory, err)
		}
	}
}

func TestVolumeThatMayNotBeWrittenIsRefusedWithTheCure(t *testing.T) {
	directory := volume(t)
	if err := unix.Mount("", directory, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	w := at.NewWorld(t)
	a, err := w.Start(at.Spec{Args: []string{"--length=60", "--guid=" + at.GUID, "--dir=" + directory}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Stop()
	if code, account := a.Wait(); code == 0 || account == nil || account.Bit || !account.Reverted || !strings.Contains(a.Stderr(), "read-only") {
		t.Errorf("exit code %d, account %+v, said %q; want it refused as read-only", code, account, a.Stderr())
	}
}
