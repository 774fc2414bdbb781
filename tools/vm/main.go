package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/tools/vm/guest"
)

func main() {
	var o options
	flag.StringVar(&o.only, "boots", "", "names of the boots to run, with commas; all when empty")
	flag.BoolVar(&o.verbose, "v", false, "print what all tests print, and the console")
	flag.StringVar(&o.accel, "accel", "tcg,thread=multi", "how QEMU runs the processor; kvm is faster where it works")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

// options are what the caller chose.
type options struct {
	only, accel string
	verbose     bool
}

func run(ctx context.Context, options options) error {
	chosen, err := choose(options.only)
	if err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	cache = filepath.Join(cache, "firedrill-vm")
	if err := errors.Join(os.MkdirAll(cache, 0o755), install()); err != nil {
		return err
	}
	release, err := alone(ctx, cache)
	if err != nil {
		return err
	}
	defer release()
	root, err := fetchRoot(cache)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "firedrill-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	began := time.Now()
	b := builder{work: work, cache: cache, root: root}
	var all guest.Results
	for _, boot := range chosen {
		// What goes wrong on one machine is a failure of it, and keeps no other from being tried.
		if err := b.try(ctx, boot, options, &all); err != nil {
			fmt.Printf("%s: %v\n", boot.name, err)
			all.Failed = append(all.Failed, boot.name+" could not be tried")
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	return sum(all, began)
}

// try makes one machine and lets it live.
func (b builder) try(ctx context.Context, boot boot, options options, all *guest.Results) error {
	m, err := b.machine(boot)
	if err != nil {
		return err
	}
	m.accel = options.accel
	l, err := m.live(ctx)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, l.tail())
	}
	tell(boot, l, options.verbose)
	add(all, boot.name, l.results)
	return nil
}

// alone waits until no other run uses the cache: one machine at a time is as much as two cores can emulate.
func alone(ctx context.Context, cache string) (release func(), err error) {
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for said := false; ; said = true {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = lock.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", lock.Name(), err), context.Cause(ctx), lock.Close())
		}
		if !said {
			fmt.Println("Another run is at work; waiting for its end")
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

func choose(only string) ([]boot, error) {
	if only == "" {
		return boots, nil
	}
	var chosen []boot
	for name := range strings.SplitSeq(only, ",") {
		at := slices.IndexFunc(boots, func(b boot) bool { return b.name == name })
		if at < 0 {
			return nil, fmt.Errorf("there is no boot %q", name)
		}
		chosen = append(chosen, boots[at])
	}
	return chosen, nil
}

// tell prints what a person wants to know of one boot: all of it when something failed.
func tell(b boot, l life, verbose bool) {
	r := l.results
	fmt.Printf("%-14s %s: %d passed, %d failed, %d skipped in %s\n", b.name, strings.Join(r.Boots, ", "), len(r.Passed), len(r.Failed), len(r.Skipped), l.took.Round(time.Second))
	failed := len(r.Failed) > 0 || len(r.Skipped) > 0
	for _, s := range b.suites {
		own := func(test string) bool { return strings.HasPrefix(test, s.name()+" ") }
		if verbose || slices.ContainsFunc(r.Failed, own) || slices.ContainsFunc(r.Skipped, own) {
			fmt.Printf("--- %s on %s\n%s", s.name(), b.name, r.Output[s.name()])
		}
	}
	if verbose || failed {
		fmt.Printf("--- the end of the console of %s\n%s\n", b.name, l.tail())
	}
}

func add(all *guest.Results, name string, r guest.Results) {
	for _, part := range []struct {
		to   *[]string
		from []string
	}{{&all.Passed, r.Passed}, {&all.Failed, r.Failed}, {&all.Skipped, r.Skipped}} {
		for _, test := range part.from {
			*part.to = append(*part.to, name+": "+test)
		}
	}
}

// sum prints the count, as the gate does, and says whether all is well.
func sum(all guest.Results, began time.Time) error {
	fmt.Printf("\nTook %s\n", time.Since(began).Round(time.Second))
	for _, name := range all.Skipped {
		fmt.Printf("skipped: %s\n", name)
	}
	for _, name := range all.Failed {
		fmt.Printf("FAILED: %s\n", name)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", len(all.Passed), len(all.Failed), len(all.Skipped))
	switch {
	case len(all.Failed) > 0:
		return errors.New("tests failed")
	case len(all.Skipped) > 0:
		return errors.New("a skipped test proves nothing; give the machine what it needs")
	case len(all.Passed) == 0:
		return errors.New("no test ran")
	}
	return nil
}

// builder makes machines out of boots. What two boots need is made once.
type builder struct{ work, cache, root string }

// machine compiles the tests of a boot and packs its initramfs.
func (b builder) machine(boot boot) (machine, error) {
	kernel, err := fetchKernel(b.cache, boot.release)
	if err != nil {
		return machine{}, err
	}
	directory := filepath.Join(b.work, boot.name)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return machine{}, err
	}
	errand := guest.Errand{Modules: modules, Systemd: boot.systemd}
	program, err := b.build("firedrill", "run", "./tools/build", "-o", "")
	if err != nil {
		return machine{}, err
	}
	files := map[string]string{"firedrill": program}
	m := machine{directory: directory, kernel: kernel.image, initramfs: filepath.Join(directory, "initramfs"), powers: 1, limit: bootLimit}
	for _, s := range boot.suites {
		name := filepath.Base(s.folder) + ".test"
		if files[name], err = b.compile(name, s); err != nil {
			return machine{}, err
		}
		skip := plantedBugs
		if s.skip != "" {
			skip += "|" + s.skip
		}
		args := []string{"-test.v=test2json", "-test.parallel=" + sideBySide, "-test.timeout=" + suiteLimit.String(), "-test.run=" + s.run, "-test.skip=" + skip}
		errand.Runs = append(errand.Runs, guest.Run{Name: s.name(), Program: "/vm/" + name, Args: args, Restarts: s.restarts, Limit: suiteLimit + time.Minute})
		m.powers += s.restarts
		m.limit += suiteLimit
	}
	return m, b.pack(m.initramfs, kernel, errand, files)
}

// sideBySide is how many tests run at once: most of their time they wait, for silence or for the end of an attack.
const sideBySide = "6"

// bootLimit is for what is not a suite: unpacking the initramfs, systemd, switching off.
const bootLimit = 5 * time.Minute

// compile makes the test binary of a suite, with the tests that only a machine of ours may run.
func (b builder) compile(name string, s suite) (string, error) {
	return b.build(name, "test", "-c", "-tags=vm", "-vet=off", "-o", "", "./"+s.folder)
}

// build runs the go tool so that it makes this file, unless it is made already; the empty argument stands for it.
func (b builder) build(name string, arguments ...string) (string, error) {
	path := filepath.Join(b.work, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	arguments[slices.Index(arguments, "")] = path
	cmd := exec.Command("go", arguments...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(arguments, " "), err, out)
	}
	return path, nil
}

// pack writes the initramfs.
func (b builder) pack(path string, kernel kernel, errand guest.Errand, files map[string]string) error {
	init, err := b.build("init", "build", "-trimpath", "-ldflags=-s -w", "-o", "", "./tools/vm/init")
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	i := image{newCPIO(file)}
	err = i.root(b.root)
	if err == nil {
		err = i.directory("vm")
	}
	if err == nil {
		err = i.modules(kernel)
	}
	if err == nil {
		err = i.errand(errand, init, files)
	}
	return errors.Join(err, i.Close(), file.Close())
}
