//go:build !hostpart

package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firedrill/drills"
	"firedrill/internal/drill"
	"firedrill/internal/lab"
	"firedrill/internal/prove"
)

// Where things lie on the demo's hosts.
const (
	demoService    = "/etc/firedrill/firedrill.yaml"
	demoToken      = "/etc/firedrill/token"
	demoZone       = "/etc/firedrill/zone.yaml"
	demoRepository = "/srv/bookstore_api"
	demoOut        = "/root/firedrill-out"
	demoHost       = "ci" // where the pipeline runs
	demoDownMax    = 10 * time.Second
	demoVariable   = "FIREDRILL_DEMO" // tells a run that it is part of the demo
)

type demoOptions struct {
	out      string
	sabotage string
	real     bool
	yes      bool
	json     bool
	repeat   int
}

// sabotages are the cases of prove that the demo's pipeline can show.
func sabotages() []prove.Case {
	return slices.DeleteFunc(prove.Cases(), func(c prove.Case) bool { return !c.Demo })
}

func newDemoCommand(s streams) *cobra.Command {
	var options demoOptions
	command := &cobra.Command{
		Use:   "demo",
		Short: "See the whole story on this machine: deploy, break, fail over, recover, judge",
		Long: `Brings up a lab of twelve hosts out of Linux namespaces, with a service on two environments, a database, a CDN, DNS and alarms, and
runs the pipeline of drills/bookstore there: real SSH, real DNS, real packets, a real reboot. Needs no root and no container engine,
touches nothing of this machine's network, and leaves nothing behind but the report.

--sabotage breaks one thing on purpose, to show that the gate can fail:
` + sabotageHelp() + exitStatusHelp,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return runDemo(command.Context(), s, options) },
	}
	flags := command.Flags()
	flags.StringVarP(&options.out, "out", "o", "firedrill-out", "directory for the report")
	flags.StringVar(&options.sabotage, "sabotage", "", "break one thing: "+strings.Join(caseNames(sabotages()), ", "))
	flags.BoolVar(&options.real, "real", false, "Debian's OpenSSH, PostgreSQL and nginx in place of the built-in ones (root only)")
	flags.BoolVar(&options.yes, "yes", false, "install missing packages for --real without asking")
	flags.BoolVar(&options.json, "json", false, "print events as JSON lines")
	flags.IntVar(&options.repeat, "repeat", 1, "run it so often, each in a lab of its own, and count how the runs ended")
	_ = command.RegisterFlagCompletionFunc("sabotage", cobra.FixedCompletions(caseNames(sabotages()), cobra.ShellCompDirectiveNoFileComp))
	return command
}

func sabotageHelp() string {
	var text strings.Builder
	for _, sabotage := range sabotages() {
		fmt.Fprintf(&text, "  %-9s %s\n", sabotage.Name, sabotage.Breaks)
	}
	return text.String() + "\nfiredrill prove knows many more, and runs them all.\n"
}

// demo is one demo under way.
type demo struct {
	demoOptions
	s        streams
	lab      *lab.Lab
	progress io.Writer // what we say ourselves; standard error with --json
	started  time.Time
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.progress, "%6.1fs %s\n", time.Since(d.started).Seconds(), fmt.Sprintf(format, args...))
}

func runDemo(ctx context.Context, s streams, options demoOptions) error {
	if options.sabotage != "" && !slices.Contains(caseNames(sabotages()), options.sabotage) {
		return &drill.Error{Op: "demo --sabotage " + options.sabotage, Kind: drill.Invalid, Err: errors.New("no such sabotage"), Hint: drill.Suggest(options.sabotage, caseNames(sabotages()))}
	}
	if options.repeat < 1 {
		return &drill.Error{Op: "demo --repeat", Kind: drill.Invalid, Err: fmt.Errorf("%d runs show nothing", options.repeat), Hint: "Name a number from 1."}
	}
	if _, err := exec.LookPath("git"); err != nil {
		return &drill.Error{Op: "demo", Kind: drill.Unsupported, Err: errors.New("git is not installed"), Hint: "Install it: apt-get install git"}
	}
	d := newDemo(s, options)
	if options.real {
		if err := d.install(ctx); err != nil {
			return err
		}
	}
	ctx, caught := catchSignals(ctx)
	defer caught.stop()
	code, err := d.repeated(ctx, caught)
	if stopped := caught.code(); stopped != 0 && code != exitNotReverted {
		fmt.Fprintln(s.err, "firedrill: interrupted; the lab and everything in it is gone")
		return exitError{stopped}
	}
	if err != nil {
		return err
	}
	if code != exitPassed {
		return exitError{code}
	}
	return nil
}

func newDemo(s streams, options demoOptions) *demo {
	d := &demo{demoOptions: options, s: s, progress: s.out, started: time.Now()}
	if options.json {
		d.progress = s.err
	}
	return d
}

// demoTally counts how repeated demos ended.
type demoTally struct {
	Runs         int `json:"runs"`
	Passed       int `json:"passed"`
	Failed       int `json:"failed"`
	Inconclusive int `json:"inconclusive"`
	Other        int `json:"other"` // refused, not reverted, or not run at all
}

func (t *demoTally) add(code int, err error) {
	t.Runs++
	switch {
	case err != nil:
		t.Other++
	case code == exitPassed:
		t.Passed++
	case code == exitFailed:
		t.Failed++
	case code == exitInconclusive:
		t.Inconclusive++
	default:
		t.Other++
	}
}

// repeated runs the story as often as was asked for. Of several it counts, and returns the first code that is not passed; impact that may
// remain ends it at once.
func (d *demo) repeated(ctx context.Context, caught *caughtSignal) (code int, err error) {
	if d.repeat == 1 {
		return d.story(ctx, caught)
	}
	var tally demoTally
	for run := range d.repeat {
		options := d.demoOptions
		options.out = filepath.Join(d.out, fmt.Sprintf("%03d", run+1))
		one := newDemo(d.s, options)
		got, runErr := one.story(ctx, caught)
		if ctx.Err() != nil {
			break
		}
		tally.add(got, runErr)
		if runErr != nil {
			d.say("run %d      %v", run+1, runErr)
			got = exitInconclusive
		}
		code = cmp.Or(code, got)
		d.say("runs       %d of %d: %d passed, %d failed, %d inconclusive, %d other", tally.Runs, d.repeat, tally.Passed, tally.Failed, tally.Inconclusive, tally.Other)
		if got == exitNotReverted {
			code = got
			break
		}
	}
	if d.json {
		return code, printLine(d.s, tally)
	}
	return code, nil
}

// story is the demo from the lab's begin to its end.
func (d *demo) story(ctx context.Context, caught *caughtSignal) (code int, err error) {
	err = d.inLab(ctx, func() error {
		if err := d.firstReleases(ctx); err != nil {
			return err
		}
		code, err = d.pipeline(ctx, caught)
		return err
	})
	return code, err
}

// inLab brings the lab up, with the repository in it, and does the work there. The lab goes, whatever happens; if we die, the kernel takes it.
func (d *demo) inLab(ctx context.Context, work func() error) (err error) {
	topology, err := d.topology()
	if err != nil {
		return err
	}
	d.say("lab        %d hosts out of namespaces", len(topology.Hosts))
	d.lab, err = lab.Up(ctx, topology, lab.Options{})
	if err != nil {
		return err
	}
	defer func() {
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoDownMax)
		defer cancel()
		if downErr := d.lab.Down(down); err == nil {
			err = downErr
		}
		if err == nil {
			d.say("lab        gone; nothing is left on this machine but the report")
		}
	}()
	d.say("lab        up")
	if err := d.repository(ctx); err != nil {
		return err
	}
	return work()
}

// pipeline runs the Bookstore's pipeline in the lab, with what was asked for broken around it, and returns its exit code.
func (d *demo) pipeline(ctx context.Context, caught *caughtSignal) (int, error) {
	args := []string{"firedrill", "pipeline", "--file", demoService, "--out", demoOut}
	if d.json {
		args = append(args, "--json")
	}
	heal := func(context.Context) error { return nil }
	if d.sabotage != "" {
		c, err := prove.Find(d.sabotage)
		if err != nil {
			return 0, err
		}
		d.say("sabotage   %s: %s", c.Name, c.Breaks)
		// What the pipeline deploys to and promotes first is answered when the other one is needed.
		if heal, err = d.plant(ctx, c, "green"); err != nil {
			return 0, errors.Join(err, heal(ctx))
		}
		args = append(args, "--sabotage", c.Name)
	}
	if err := ctx.Err(); err != nil {
		return 0, errors.Join(err, heal(ctx))
	}
	// The pipeline reverts by itself when it is interrupted, so it outlives our context: it is told by signal.
	code, err := d.lab.Exec(context.WithoutCancel(ctx), demoHost, lab.Cmd{
		Args: args, Env: terminalEnvironment(), Stdin: nil, Stdout: d.s.out, Stderr: d.s.err, Signals: caught.forward(),
	})
	_ = heal(ctx) // the lab is going, and with it all that was broken
	if err != nil {
		return 0, err
	}
	return code, d.copyReport(context.WithoutCancel(ctx))
}

// terminalEnvironment passes on what decides how a terminal is written to.
func terminalEnvironment() []string {
	all := []string{demoVariable + "=1"}
	for _, name := range []string{"TERM", "CI", "NO_COLOR", "LANG", "TZ"} {
		if value, set := os.LookupEnv(name); set {
			all = append(all, name+"="+value)
		}
	}
	return all
}

// repository makes a git repository out of the application: version 6, which runs already, and 7, which is going to be deployed.
func (d *demo) repository(ctx context.Context) error {
	const script = `set -e
cd "$1"
export GIT_AUTHOR_NAME=bookstore GIT_AUTHOR_EMAIL=bookstore@example.test GIT_COMMITTER_NAME=bookstore GIT_COMMITTER_EMAIL=bookstore@example.test
git init -q -b main .
cp bookstore.yaml /tmp/bookstore.yaml
sed -i 's/^version: .*/version: 6/' bookstore.yaml
git add -A && git commit -q -m 'version 6' && git tag v6
cp /tmp/bookstore.yaml bookstore.yaml
git add -A && git commit -q -m 'version 7'`
	_, err := d.quiet(ctx, demoHost, "sh", "-c", script, "sh", demoRepository)
	return err
}

// firstReleases publishes version 6 to both environments: the world as it was before the story begins.
func (d *demo) firstReleases(ctx context.Context) error {
	_, err := d.quiet(ctx, demoHost, "firedrill", "deploy", "--first", "--revision", "v6", "--file", demoService, "--out", "/tmp/first", "blue", "green")
	if err == nil {
		d.say("before     version 6 runs on blue and green; blue is answered")
	}
	return err
}

// quiet runs a program on a host and shows what it said only if it fails.
func (d *demo) quiet(ctx context.Context, host string, args ...string) (string, error) {
	var output bytes.Buffer
	code, err := d.lab.Exec(ctx, host, lab.Cmd{Args: args, Stdout: &output, Stderr: &output})
	if err == nil && code != 0 {
		err = fmt.Errorf("exit status %d:\n%s", code, strings.TrimSpace(output.String()))
	}
	if err != nil {
		return output.String(), &drill.Error{Op: strings.Join(args[:min(len(args), 2)], " "), Host: host, Kind: drill.Internal, Err: err}
	}
	return output.String(), nil
}

// copyReport brings the files of the run out of the lab.
func (d *demo) copyReport(ctx context.Context) error {
	log, err := d.copyRun(ctx, demoOut, "")
	if err != nil {
		return err
	}
	report := "none was written"
	if log != "" {
		report = filepath.Join(filepath.Dir(log), htmlName)
	}
	d.say("report     %s", report)
	return nil
}

// copyRun brings every file below a directory of the lab's host into one below ours, and returns where the log of the run is now.
func (d *demo) copyRun(ctx context.Context, from, into string) (log string, err error) {
	listing, err := d.quiet(ctx, demoHost, "find", from, "-type", "f")
	if err != nil {
		return "", err
	}
	for _, file := range strings.Fields(listing) {
		text, err := d.lab.ReadFile(ctx, demoHost, file)
		if err != nil {
			return "", err
		}
		target := filepath.Join(d.out, into, strings.TrimPrefix(file, from+"/"))
		err = os.MkdirAll(filepath.Dir(target), 0o755)
		if err == nil {
			err = os.WriteFile(target, text, 0o644)
		}
		if err != nil {
			return "", &drill.Error{Op: "copy the report", Kind: drill.Invalid, Err: err, Hint: "Name another directory with --out."}
		}
		if path.Base(file) == logName {
			log = target
		}
	}
	return log, nil
}

// topology reads the lab's description and puts everything into it that its hosts need, so that no file of ours lies on the machine.
func (d *demo) topology() (lab.Topology, error) {
	files, err := fs.Sub(drills.Files(), "bookstore")
	if err != nil {
		return lab.Topology{}, err
	}
	name := "topology.yaml"
	if d.real {
		name = "topology-real.yaml"
	}
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return lab.Topology{}, err
	}
	topology, err := lab.Parse(text, name)
	if err != nil {
		return lab.Topology{}, err
	}
	for i := range topology.Hosts {
		if err := inline(files, &topology.Hosts[i]); err != nil {
			return lab.Topology{}, err
		}
	}
	service, err := fs.ReadFile(files, "firedrill.yaml")
	if err != nil {
		return lab.Topology{}, err
	}
	zone, err := fs.ReadFile(files, "zone.yaml")
	if err != nil {
		return lab.Topology{}, err
	}
	token := rand.Text()
	for i := range topology.Hosts {
		host := &topology.Hosts[i]
		switch host.Name {
		case demoHost, "control":
			put(host, demoService, service, 0o644)
			put(host, demoToken, []byte(token), 0o600)
		case "ns":
			put(host, demoZone, zone, 0o644)
		}
	}
	return topology, nil
}

// put adds a file, or replaces one that the topology names.
func put(host *lab.Host, name string, text []byte, mode fs.FileMode) {
	host.Files = slices.DeleteFunc(host.Files, func(file lab.File) bool { return file.Path == name })
	host.Files = append(host.Files, lab.File{Path: name, Text: string(text), Mode: mode})
}

// inline replaces files that the topology takes from beside itself by their text.
func inline(files fs.FS, host *lab.Host) error {
	var all []lab.File
	for _, file := range host.Files {
		if file.Source == "" {
			all = append(all, file)
			continue
		}
		root := path.Clean(filepath.ToSlash(file.Source))
		err := fs.WalkDir(files, root, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := fs.ReadFile(files, name)
			if err != nil {
				return err
			}
			mode := fs.FileMode(0o644)
			if bytes.HasPrefix(text, []byte("#!")) {
				mode = 0o755
			}
			all = append(all, lab.File{Path: path.Join(file.Path, strings.TrimPrefix(name, root)), Text: string(text), Mode: mode})
			return nil
		})
		if err != nil {
			return fmt.Errorf("topology: host %s: %w", host.Name, err)
		}
	}
	host.Files = all
	return nil
}

// realPrograms are what --real starts, each with the Debian package that brings it.
var realPrograms = [][2]string{
	{"/usr/sbin/sshd", "openssh-server"},
	{"/usr/lib/postgresql/15/bin/postgres", "postgresql-15"},
	{"/usr/sbin/nginx", "nginx-light"},
}

// install asks for leave to install what --real needs, and does.
func (d *demo) install(ctx context.Context) error {
	const op = "demo --real"
	if os.Getuid() != 0 {
		return &drill.Error{Op: op, Kind: drill.Unsupported, Err: errors.New("real servers change users, which needs root"), Hint: "Run it with sudo, or run firedrill demo without --real."}
	}
	var missing []string
	for _, program := range realPrograms {
		if _, err := os.Stat(program[0]); err != nil {
			missing = append(missing, program[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	list := strings.Join(missing, " ")
	if !d.yes {
		fmt.Fprintf(d.s.err, "Install %s with apt-get? [y/N] ", list)
		var answer string
		if _, err := fmt.Fscanln(d.s.in, &answer); err != nil || !strings.HasPrefix(strings.ToLower(answer), "y") {
			return &drill.Error{Op: op, Kind: drill.Refused, Err: fmt.Errorf("%s is missing", list), Hint: "apt-get install --no-install-recommends " + list}
		}
	}
	d.say("install    %s", list)
	for _, args := range [][]string{{"-qq", "update"}, append([]string{"-qq", "-y", "--no-install-recommends", "install"}, missing...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		// RUNLEVEL=1 keeps the packages from starting their services on this machine.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		cmd.Stderr = d.s.err
		if err := cmd.Run(); err != nil {
			return &drill.Error{Op: op, Kind: drill.Unsupported, Err: fmt.Errorf("apt-get %s: %w", args[len(args)-1], err), Hint: "Install by hand: apt-get install " + list}
		}
	}
	return nil
}
