//go:build !hostpart

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // hosts without a zone database keep to the schedule too

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/schedule"
)

// Files of the scheduler in its --out directory.
const (
	scheduleBookName = "schedule.json"
	scheduleLockName = "schedule.lock"
)

type scheduleOptions struct {
	file    string
	out     string
	listen  string
	unleash bool
	resume  bool
}

func newScheduleCommand(s streams) *cobra.Command {
	options := scheduleOptions{file: defaultFile}
	command := &cobra.Command{
		Use:   "schedule [FILE]",
		Short: "Run the schedule of the service file, until it is stopped",
		Long: `Stays, and runs what schedule: in the service file says when its time has come: inside of its window, on no frozen date, one run of
the service at a time. Each run is the one that firedrill pipeline or firedrill run would do, with its own directory below --out.

It is leashed at first: of what is due it prints the plan, and touches nothing. --unleash lets it run.

A run that leaves impact behind (exit status 5) halts the schedule: nothing starts until a person has looked and says --resume.
Ctrl-C or SIGTERM takes every impact back first and then ends. What was started or missed is kept in --out, so that a restart neither
forgets nor repeats a run.

The file is read again when it changes, within seconds; a run under way goes on as it began. A file that is wrong is told, here and on the
page, and the schedule goes on with the one before. A new entry starts with its next moment; it catches up with none.

--listen serves a page: the runs with their verdicts, and for each entry when it runs next, or why not. It asks nobody for a name, so
let it listen where only the right people are.
` + exitStatusHelp,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFiles(1, "yaml", "yml"),
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) == 1 {
				options.file = args[0]
			}
			return runSchedule(command.Context(), s, options)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&options.file, "file", "f", options.file, "service file")
	flags.StringVarP(&options.out, "out", "o", "firedrill-out", "directory for the runs and for what the schedule remembers")
	flags.StringVar(&options.listen, "listen", "", "address of the page, as 127.0.0.1:7080; default none")
	flags.BoolVar(&options.unleash, "unleash", false, "really run what is due")
	flags.BoolVar(&options.resume, "resume", false, "go on after a run that left impact behind: a person has looked")
	_ = command.MarkFlagFilename("file", "yaml", "yml") // these fail only for a flag that is not defined
	_ = command.MarkFlagDirname("out")
	_ = command.RegisterFlagCompletionFunc("listen", cobra.NoFileCompletions)
	return command
}

func runSchedule(parent context.Context, s streams, options scheduleOptions) error {
	file := serviceFile{path: options.file}
	first := file.read()
	if first.wrong != "" {
		_, err := loadService(options.file)
		return err
	}
	if len(first.entries) == 0 {
		return &drill.Error{Op: options.file, Kind: drill.Invalid, Err: errors.New("schedule: is missing; nothing would ever run"), Hint: `Add one: schedule: [{drill: NAME, cron: "0 10 * * TUE", window: "Mon-Fri 09:00-15:00 Europe/Berlin"}]`}
	}
	ctx, caught := catchSignals(parent)
	defer caught.stop()
	loop := &scheduler{entries: first.entries, leashed: !options.unleash, tell: teller(s.out), read: file.read}
	loop.run = func(ctx context.Context, items []string) (int, string) {
		service := file.taken() // what the schedule was made of, also while the file is wrong
		return carryOutDue(ctx, s, runOptions{file: options.file, out: options.out, dryRun: !options.unleash, service: &service, trigger: history.TriggerSchedule}, items)
	}
	if options.unleash {
		unlock, err := loop.keep(options)
		if err != nil {
			return err
		}
		defer unlock()
	}
	stopPage, err := servePage(ctx, options, loop)
	if err != nil {
		return err
	}
	err = errors.Join(loop.loop(ctx), stopPage())
	switch {
	case loop.halted() != "":
		fmt.Fprintf(s.err, "firedrill: halted: %s\n", loop.halted())
		return exitError{exitNotReverted}
	case err != nil:
		return err
	case caught.code() != 0:
		return exitError{caught.code()}
	}
	return nil
}

// serviceFile is the file of a schedule, and what was last taken from it.
type serviceFile struct {
	path string

	mu      sync.Mutex // guards the fields below
	seen    []byte     // as it was at the last look
	fault   string     // why it could not be read then
	service drill.Service
}

// read looks at the file. What is wrong with it is told once for each content.
func (f *serviceFile) read() reading {
	text, err := os.ReadFile(f.path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		if f.fault == err.Error() {
			return reading{}
		}
		f.seen, f.fault = nil, err.Error()
		return reading{changed: true, wrong: f.fault}
	}
	if f.fault == "" && f.seen != nil && bytes.Equal(text, f.seen) {
		return reading{}
	}
	f.seen, f.fault = text, ""
	service, err := drill.ParseService(text, f.path)
	if err != nil {
		return reading{changed: true, wrong: err.Error()}
	}
	entries, err := schedule.FromService(service)
	if err != nil {
		return reading{changed: true, wrong: err.Error()}
	}
	f.service = service
	return reading{changed: true, entries: entries}
}

// taken is the service as it was last read whole.
func (f *serviceFile) taken() drill.Service {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.service
}

// teller prints a line with the time in front.
func teller(out io.Writer) func(format string, args ...any) {
	return func(format string, args ...any) {
		fmt.Fprintf(out, "%s %s\n", time.Now().Format(time.RFC3339), fmt.Sprintf(format, args...))
	}
}

// carryOutDue does what the command line would do, and returns the exit code that it would have ended with.
func carryOutDue(ctx context.Context, s streams, options runOptions, items []string) (code int, why string) {
	err := carryOut(ctx, s, options, items)
	var explained exitError
	if err != nil && !errors.As(err, &explained) {
		why = err.Error()
	}
	return finish(s, err), why
}

// keep makes the scheduler remember in --out, which is locked for it until unlock.
func (l *scheduler) keep(options scheduleOptions) (unlock func(), err error) {
	const op = "keep the schedule"
	if err := os.MkdirAll(options.out, 0o755); err != nil {
		return nil, &drill.Error{Op: op, Kind: drill.Invalid, Err: err, Hint: "Name another directory with --out."}
	}
	lock, err := hold(filepath.Join(options.out, scheduleLockName))
	if lock == nil {
		return nil, &drill.Error{Op: op, Kind: drill.Invalid, Err: err}
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	if err != nil {
		return nil, &drill.Error{Op: op, Kind: drill.Refused, Err: fmt.Errorf("another schedule runs with --out %s", options.out), Hint: "One schedule for a directory: stop the other one."}
	}
	path := filepath.Join(options.out, scheduleBookName)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, &drill.Error{Op: op, Kind: drill.Invalid, Err: err}
	default:
		if err := json.Unmarshal(text, &l.book); err != nil {
			return nil, &drill.Error{Op: op, Kind: drill.Invalid, Err: fmt.Errorf("%s: %w", path, err), Hint: "It says what was run already. Mend it, or move it away to begin anew."}
		}
	}
	l.save = func(book scheduleBook) error {
		return writeWhole(path, func(w io.Writer) error {
			encoder := json.NewEncoder(w)
			encoder.SetIndent("", "  ")
			return encoder.Encode(book)
		})
	}
	if options.resume {
		l.book.Halted = ""
	}
	return func() { _ = lock.Close() }, nil
}

// Limits of the page's server: it is for a handful of people.
const (
	pageReadMax  = 10 * time.Second
	pageWriteMax = time.Minute // a report of some megabytes over a slow line
	pageHeadMax  = 16 << 10
	pageStopMax  = 2 * time.Second
)

// servePage serves the page until stop, if one is wanted.
func servePage(ctx context.Context, options scheduleOptions, l *scheduler) (stop func() error, err error) {
	if options.listen == "" {
		return func() error { return nil }, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", options.listen)
	if err != nil {
		return nil, &drill.Error{Op: "serve the page", Kind: drill.Invalid, Err: err, Hint: "Name a free address with --listen."}
	}
	server := &http.Server{
		Handler: schedulePage(l, options.out), ReadHeaderTimeout: pageReadMax, ReadTimeout: pageReadMax, WriteTimeout: pageWriteMax, MaxHeaderBytes: pageHeadMax,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	l.tell("page at http://%s/", strings.Replace(listener.Addr().String(), "[::]", "localhost", 1))
	return func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pageStopMax)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			_ = server.Close() // who still reads after that reads too slowly
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the page: %w", err)
		}
		return nil
	}, nil
}
