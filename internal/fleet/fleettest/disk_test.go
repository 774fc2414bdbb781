package fleettest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/client"
	"firedrill/internal/fleet/control"
	"firedrill/internal/fleet/httpapi"
	"firedrill/internal/tether/tethertest"
)

// small mounts a volume of 48 MiB.
func small(t *testing.T) string {
	t.Helper()
	volume := t.TempDir()
	if err := syscall.Mount("tmpfs", volume, "tmpfs", 0, "size=48m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(volume, syscall.MNT_DETACH) })
	return volume
}

// fill takes the last byte of a volume, and goes on taking what becomes free, until room is made.
func fill(t *testing.T, volume string) (makeRoom func()) {
	t.Helper()
	path := filepath.Join(volume, "ballast")
	ballast, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for size := 1 << 20; ; {
			if _, err := ballast.Write(make([]byte, size)); err != nil {
				size = max(size/2, 1)
				if size == 1 {
					select {
					case <-stop:
						return
					case <-tick.C:
					}
				}
			}
		}
	}()
	return func() {
		close(stop)
		<-ended
		if err := errors.Join(ballast.Close(), os.Remove(path)); err != nil {
			t.Error(err)
		}
	}
}

// freeze writes something that is to be kept.
func (w *world) freeze(number int, most time.Duration) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), most)
	defer cancel()
	day := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, number).Format(time.DateOnly)
	return w.admin.Call(ctx, "freeze", fleet.Freeze{Dates: day + ".." + day, Reason: reason(number)}, nil)
}

func reason(number int) string { return fmt.Sprintf("number %d", number) }

// health is what a load balancer sees.
func (w *world) health() int {
	answer := httptest.NewRecorder()
	httpapi.Handler(w.control).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/v1/health", http.NoBody))
	return answer.Code
}

// kept are the reasons of all freezes that are kept.
func (w *world) kept() map[string]bool {
	w.t.Helper()
	var freezes []fleet.Freeze
	w.must("freezes", nil, &freezes)
	kept := map[string]bool{}
	for _, one := range freezes {
		kept[one.Reason] = true
	}
	return kept
}

// begun begins a run, again where a busy machine is too slow for it.
func (w *world) begun(length string, names ...string) (run fleet.Run) {
	w.t.Helper()
	w.await("a run", func() (err error) {
		run, err = w.attack("cpu", length, names...)
		return err
	})
	return run
}

// fullDisk fills the disk of a server while something is written and an attack is in force, has everything halted, and makes room again. It returns the world, how much
// was acknowledged, and the run.
func fullDisk(t *testing.T, change func(*control.Options)) (w *world, acknowledged int, run fleet.Run) {
	t.Helper()
	volume := small(t)
	w = newWorld(t, func(o *control.Options) {
		o.Directory = filepath.Join(volume, "fleet")
		if change != nil {
			change(o)
		}
	})
	h := w.join("web1", web(), nil)
	for _, name := range []string{"shop1", "shop2"} {
		w.join(name, map[string]string{fleet.TagService: "shop"}, nil)
	}
	w.join("web2", web(), nil)
	w.ended(w.begun("0.1", "web1").ID)
	run = w.begun("300", "web1")
	w.await("the impact", h.inForce)
	makeRoom := fill(t, volume)
	var refusal error
	w.await("a refusal", func() error {
		most := patience
		if w.options.Unnoticing {
			most = 2 * time.Second // it is never answered
		}
		if refusal = w.freeze(acknowledged, most); refusal == nil {
			acknowledged++
		} else if strings.Contains(w.log.String(), "ritical write error") {
			return nil
		}
		return errors.New("it keeps everything")
	})
	if w.options.Unnoticing {
		makeRoom()
		return w, acknowledged, run
	}
	if drill.KindOf(refusal) != drill.Unreachable || !strings.Contains(drill.HintOf(refusal), "make room") || !strings.Contains(refusal.Error(), "no space left") {
		t.Errorf("it does not say why: %v (%s)", refusal, drill.HintOf(refusal))
	}
	var servers []fleet.Server
	if w.must("servers", nil, &servers); len(servers) != 1 || !strings.Contains(servers[0].Problem, "no space left") {
		t.Errorf("nobody sees it: %+v", servers)
	}
	if got := w.health(); got != http.StatusServiceUnavailable {
		t.Errorf("its health is %d", got)
	}
	if _, err := w.attack("cpu", "300", "shop1"); err == nil || !strings.Contains(drill.HintOf(err), "make room") {
		t.Errorf("a run is begun that cannot be kept: %v (%s)", err, drill.HintOf(err))
	}
	var report fleet.HaltReport
	if err := w.call("halt", fleet.HaltRequest{Reason: "the disk is full"}, &report); err == nil || !strings.Contains(err.Error(), "a restart of the server would forget the lever") {
		t.Errorf("%+v, %v", report, err)
	}
	if w.agents["web1"].hit() {
		t.Error("a full disk stops a halt")
	}
	if _, err := w.attack("cpu", "300", "shop1"); err == nil || !strings.Contains(err.Error(), "lever is engaged") {
		t.Errorf("the lever is not engaged: %v", err)
	}
	makeRoom()
	return w, acknowledged, run
}

func TestAServerGoesOnWhenItsDiskHasRoomAgain(t *testing.T) {
	t.Parallel()
	if !tethertest.Apart(t) {
		return
	}
	w, acknowledged, run := fullDisk(t, nil)
	w.await("a write", func() error { return w.freeze(acknowledged, patience) })
	acknowledged++
	check := func() {
		t.Helper()
		kept := w.kept()
		for number := range acknowledged {
			if !kept[reason(number)] {
				t.Errorf("%q was acknowledged, and is lost", reason(number))
			}
		}
		var lever fleet.Lever
		if w.must("lever", nil, &lever); !lever.Engaged || lever.Reason != "the disk is full" {
			t.Errorf("the lever is forgotten: %+v", lever)
		}
		if run = w.ended(run.ID); !run.Hosts[0].Reverted || run.Hosts[0].Chain != "whole" {
			t.Errorf("the run is %+v", run)
		}
	}
	check()
	w.await("the lever", func() error {
		if said(t, w, "the lever is kept") != 1 {
			return errors.New("it is not kept")
		}
		return nil
	})
	var servers []fleet.Server
	if w.must("servers", nil, &servers); servers[0].Problem != "" || w.health() != http.StatusOK {
		t.Errorf("it says that it keeps nothing: %+v, health %d", servers, w.health())
	}
	// What was written down while nothing could be written is there, once.
	for _, text := range []string{"halts everything: the disk is full", "what is said is kept again"} {
		if got := said(t, w, text); got != 1 {
			t.Errorf("the audit log says %d times %q", got, text)
		}
	}
	w.stop()
	if proof, err := control.VerifyAudit(w.options.Directory); err != nil {
		t.Errorf("%+v, %v", proof, err)
	}
	w.start()
	check()
	w.must("release", nil, nil)
	w.ended(w.begun("0.1", "web1").ID)
	for _, h := range w.agents {
		all, err := deeds(h.directory)
		if err != nil {
			t.Fatal(err)
		}
		begun := map[string]int{}
		for _, deed := range all {
			if deed.Begins {
				begun[deed.Order]++
			}
		}
		for order, times := range begun {
			if times != 1 {
				t.Errorf("%s has carried out order %s %d times", h.name, order, times)
			}
		}
	}
}

// said counts lines of the audit log that hold a text.
func said(t *testing.T, w *world, text string) int {
	t.Helper()
	page, err := w.control.Audit(t.Context(), fleet.AuditRequest{Count: 1000, Contains: text})
	if err != nil {
		t.Fatal(err)
	}
	return len(page.Lines)
}

func TestAnEngineThatIsLeftBrokenIsCaught(t *testing.T) {
	t.Parallel()
	if !tethertest.Apart(t) {
		return
	}
	w, acknowledged, _ := fullDisk(t, func(o *control.Options) { o.Unnoticing = true })
	if w.freeze(acknowledged, 2*time.Second) == nil {
		t.Error("the planted bug is not noticed")
	}
}

func TestALeverThatAFullDiskSwallowsIsCaught(t *testing.T) {
	t.Parallel()
	if !tethertest.Apart(t) {
		return
	}
	w, acknowledged, _ := fullDisk(t, func(o *control.Options) { o.Forgetful = true })
	w.await("a write", func() error { return w.freeze(acknowledged, patience) })
	w.stop()
	w.start()
	var lever fleet.Lever
	if w.must("lever", nil, &lever); lever.Engaged {
		t.Error("a lever that is forgotten is not noticed")
	}
}

// Of several servers one meets a full disk. The others go on, and when it has room again it keeps with them: one of the others may go down then.
func TestOneOfThreeServersMeetsAFullDisk(t *testing.T) {
	t.Parallel()
	if !tethertest.Apart(t) {
		return
	}
	var volume string
	r := newRing(t, 3, 0, func(config *serverConfig) {
		if config.Name != "control2" {
			return
		}
		volume = config.Directory
		if err := errors.Join(os.MkdirAll(volume, 0o700), syscall.Mount("tmpfs", volume, "tmpfs", 0, "size=48m")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(volume, syscall.MNT_DETACH) })
	})
	number := 0
	freeze := func() error {
		day := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, number).Format(time.DateOnly)
		err := r.try("freeze", fleet.Freeze{Dates: day + ".." + day, Reason: reason(number)}, nil)
		if err == nil {
			number++
		}
		return err
	}
	r.await("a write", freeze)
	makeRoom := fill(t, volume)
	logged := func(text string) func() error {
		return func() error {
			if log, err := os.ReadFile(r.servers[2].log); err != nil || !strings.Contains(string(log), text) {
				return errors.Join(err, errors.New("it does not say so"))
			}
			return nil
		}
	}
	r.await("the full disk", func() error {
		r.await("a write", freeze)
		return logged("nothing can be kept")()
	})
	for range 3 {
		r.await("a write of the others", freeze)
	}
	// Who comes in at that server is heard all the same.
	credentials := r.admin.Credentials()
	credentials.Address = r.servers[2].config.(serverConfig).Listen //nolint:forcetypeassert // we made it
	r.await("an answer there", func() error {
		there, err := client.Connect(credentials)
		if err != nil {
			return err
		}
		defer there.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var servers []fleet.Server
		if err := there.Call(ctx, "servers", nil, &servers); err != nil {
			return err
		}
		for _, one := range servers {
			if one.Name == "control2" && one.Problem != "" {
				return there.Call(ctx, "halt", fleet.HaltRequest{Reason: "heard there"}, nil)
			}
		}
		return fmt.Errorf("it does not say what ails it: %+v", servers)
	})
	makeRoom()
	r.await("an end of it", logged("is kept again"))
	r.servers[0].kill()
	r.await("a write without the first one", freeze)
	var freezes []fleet.Freeze
	r.await("all that was acknowledged", func() error {
		if err := r.try("freezes", nil, &freezes); err != nil || len(freezes) < number {
			return fmt.Errorf("%d of %d are there: %w", len(freezes), number, err)
		}
		return nil
	})
}
