//go:build !hostpart

package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"firedrill/internal/attest"
	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/playbook"
)

// Limits of a rehearsal.
const (
	outputKept  = 64 << 10         // of each step; more is cut and said so
	killPatient = 5 * time.Second  // between asking the processes of a step to end and killing them
	stepMax     = 60 * time.Minute // of a step that says nothing else: a command that hangs must not hang the night
)

// rehearsalName is the verdict on a rehearsal, beside its log.
const rehearsalName = "rehearsal.json"

// rehearsal is one run of a playbook.
type rehearsal struct {
	s         streams
	book      playbook.Playbook
	text      []byte
	service   *drill.Service
	parts     []string
	automatic bool
	where     string // the environment, in the words of who started it
	out       string
	sign      string
	json      bool
	yes       bool // every question is answered with yes, and nobody is there
	agreed    bool // it is not followed unless every role agrees to this text
	keys      []string

	answers *bufio.Reader // of the person
	log     *history.Writer
	events  []history.Event
}

func (r *rehearsal) addFlags(command *cobra.Command, file *string) {
	flags := command.Flags()
	flags.StringVarP(file, "file", "f", defaultFile, "service file: hosts, dependencies, objectives")
	flags.StringSliceVar(&r.parts, "part", []string{playbook.Procedure, playbook.Test, playbook.Resume}, "parts to follow, in their order")
	flags.StringVar(&r.where, "environment", "", "where this is: production, staging, ... as it shall stand in the log")
	flags.StringVarP(&r.out, "out", "o", "firedrill-out", "directory for the log of each rehearsal")
	flags.BoolVar(&r.json, "json", false, "print events as JSON lines")
	flags.BoolVar(&r.agreed, "agreed", false, "refuse a text that not every role agrees to: one changed byte voids an approval")
	flags.StringArrayVar(&r.keys, "key", nil, "count only approvals signed by this public key: its file, or its line; may be given several times; goes with --agreed")
	addSignFlag(command, &r.sign)
	_ = command.MarkFlagFilename("file", "yaml", "yml")
	_ = command.MarkFlagFilename("key", "pub")
	_ = command.MarkFlagDirname("out")
	_ = command.RegisterFlagCompletionFunc("part", cobra.FixedCompletions([]string{playbook.Procedure, playbook.Test, playbook.Resume}, cobra.ShellCompDirectiveNoFileComp))
}

const rehearsalStatus = `
EXIT STATUS
  0    every step went as written, within the RTO
  1    a step did not do or print what is written, was done otherwise, or it took longer than the RTO
  2    the playbook has mistakes; wrong flags
  3    inconclusive: it was not followed to its end
  4    refused: it cannot go by itself; with --agreed: a role does not agree to this text
  70   our own fault
  130  interrupted; what ran was ended`

func newPlaybookRunCommand(s streams) *cobra.Command {
	r := rehearsal{s: s}
	file := ""
	command := &cobra.Command{
		Use:   "run PLAYBOOK",
		Short: "Follow a playbook with a person, step by step",
		Long: `Shows each step, runs its command when the person says so, compares what it prints with what is written, and records the times. Nothing
but what is written can be done through it: what was done otherwise is recorded as a deviation and fails the rehearsal, for then the
playbook must be mended. Answers: Enter or y (go on, done), d TEXT (done otherwise: TEXT), q (stop).
` + rehearsalStatus,
		Example: "  firedrill playbook run playbooks/database.md --environment staging\n  firedrill playbook run playbooks/database.md --part test",
		Args:    exactly("PLAYBOOK"),
		RunE: func(command *cobra.Command, args []string) error {
			return r.start(command, args[0], file)
		},
	}
	r.addFlags(command, &file)
	return command
}

func newPlaybookDrillCommand(s streams) *cobra.Command {
	r := rehearsal{s: s, automatic: true}
	file := ""
	command := &cobra.Command{
		Use:   "drill PLAYBOOK",
		Short: "Follow a playbook by itself, where every step is executable",
		Long: `Runs every step of a playbook one after the other and stops at the first that does not do what is written. A playbook with a step that has
no command is refused. Steps marked ask are asked about, unless --yes answers for them; how often that may happen in a rehearsal that
counts as automatic stands in the playbook (confirmations).
` + rehearsalStatus,
		Example: "  firedrill playbook drill playbooks/database.md --environment staging --yes",
		Args:    exactly("PLAYBOOK"),
		RunE: func(command *cobra.Command, args []string) error {
			return r.start(command, args[0], file)
		},
	}
	r.addFlags(command, &file)
	command.Flags().BoolVar(&r.yes, "yes", false, "answer every question with yes; the log says that nobody was there")
	return command
}

func (r *rehearsal) start(command *cobra.Command, name, file string) error {
	var err error
	if r.service, err = serviceBeside(command, file); err != nil {
		return err
	}
	if r.book, r.text, err = readPlaybook(name, r.service); err != nil {
		return err
	}
	if err := errors.Join(r.admit(), r.agreedTo()); err != nil {
		return err
	}
	key, err := loadSigner(r.s, r.sign)
	if err != nil {
		return err
	}
	ctx, caught := catchSignals(command.Context())
	defer caught.stop()
	r.answers = bufio.NewReader(r.s.in)
	verdict, err := r.record(ctx, key)
	if err != nil {
		return err
	}
	if code := caught.code(); code != 0 {
		return exitError{code}
	}
	switch verdict.Outcome {
	case history.Passed:
		return nil
	case history.Failed:
		return exitError{exitFailed}
	}
	return exitError{exitInconclusive}
}

// admit refuses what cannot be followed.
func (r *rehearsal) admit() error {
	refuse := func(kind drill.ErrorKind, hint, format string, args ...any) error {
		return &drill.Error{Op: "playbook " + r.book.File, Kind: kind, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	for _, name := range r.parts {
		part, ok := r.book.Part(name)
		if !ok {
			return refuse(drill.Invalid, "Take procedure, test, resume, or several of them.", "it has no part %q", name)
		}
		for _, step := range part.Steps {
			if r.automatic && step.ByHand() {
				return refuse(drill.Refused, "Give the step a command, or follow it with a person: firedrill playbook run", "line %d: step %q is done by hand", step.Line, step.Title)
			}
		}
	}
	return nil
}

// agreedTo refuses a text that not every role agrees to, where that is asked for.
func (r *rehearsal) agreedTo() error {
	if !r.agreed {
		if len(r.keys) > 0 {
			return usageError("playbook", "--key says whose approvals count, and goes with --agreed")
		}
		return nil
	}
	trusted, err := readPublicKeys(r.keys)
	if err != nil {
		return err
	}
	one, err := agreement(r.book, trusted)
	if err != nil || len(one.Missing) == 0 {
		return err
	}
	return &drill.Error{
		Op: "playbook " + r.book.File, Kind: drill.Refused, Err: fmt.Errorf("as it is written now it is not agreed to by: %s", strings.Join(one.Missing, ", ")),
		Hint: "Have each of them read it, then: firedrill playbook approve " + r.book.File + " --role " + one.Missing[0],
	}
}

// record follows the playbook and leaves log, verdict and attestation.
func (r *rehearsal) record(ctx context.Context, key *attest.PrivateKey) (playbook.Verdict, error) {
	run, err := uuid.NewV7()
	if err != nil {
		return playbook.Verdict{}, err
	}
	directory := filepath.Join(r.out, fmt.Sprintf("%s-%s", time.Now().UTC().Format("20060102T150405Z"), run.String()[len(run.String())-6:]))
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return playbook.Verdict{}, &drill.Error{Op: "make the directory of the rehearsal", Kind: drill.Invalid, Err: err, Hint: "Name another one with --out."}
	}
	file, err := os.OpenFile(filepath.Join(directory, logName), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return playbook.Verdict{}, err
	}
	defer file.Close()
	r.log = history.NewWriter(file)
	host, _ := os.Hostname()
	service := ""
	if r.service != nil {
		service = r.service.Name
	}
	err = r.write(&history.PlaybookStarted{
		Run: run.String(), File: r.book.File, Text: string(r.text), Service: service, Environment: r.where, Parts: r.parts, Automatic: r.automatic, Operator: operator(), Tool: version(), Host: host,
	})
	if err != nil {
		return playbook.Verdict{}, err
	}
	outcome, reason := r.follow(ctx)
	if err := errors.Join(r.write(&history.PlaybookFinished{Outcome: outcome, Reason: reason}), file.Sync()); err != nil {
		return playbook.Verdict{}, &drill.Error{Op: "write the log of the rehearsal", Kind: drill.Unproven, Err: err, Hint: "Without its log the rehearsal proves nothing."}
	}
	_, head := r.log.Head()
	if err := closeRehearsal(directory, r.events, head, key); err != nil {
		return playbook.Verdict{}, err
	}
	verdict := playbook.Judge(r.events)
	r.say("\n%s: %s %s\n%s\n", verdict.Playbook, verdict.Outcome, verdict.Reason, filepath.Join(directory, logName))
	return verdict, nil
}

// write logs a fact, and keeps it as whoever reads the log will see it: the verdict now and the one in a year must not differ in a digit.
func (r *rehearsal) write(fact history.Fact) error {
	event, err := r.log.Append(history.New(time.Now(), "", fact))
	if err != nil {
		return err
	}
	line, err := event.MarshalJSON()
	if err != nil {
		return err
	}
	var read history.Event
	if err := read.UnmarshalJSON(line); err != nil {
		return err
	}
	r.events = append(r.events, read)
	if r.json {
		fmt.Fprintf(r.s.out, "%s\n", line)
	}
	return nil
}

// closeRehearsal writes what the log proves beside it, and attests both.
func closeRehearsal(directory string, log []history.Event, head string, key *attest.PrivateKey) error {
	verdict := playbook.Judge(log)
	if err := writeWhole(filepath.Join(directory, rehearsalName), func(w io.Writer) error { return printJSON(streams{out: w}, verdict) }); err != nil {
		return err
	}
	return attestFiles(directory, attest.Statement{
		Run: verdict.Run, Service: rehearsedService(log), Outcome: verdict.Outcome, Exit: outcomeExit(verdict.Outcome), Events: int64(len(log)), Head: head, Made: time.Now(), Tool: version(),
	}, []string{logName, rehearsalName}, key)
}

func outcomeExit(outcome history.Outcome) int {
	switch outcome {
	case history.Passed:
		return exitPassed
	case history.Failed:
		return exitFailed
	}
	return exitInconclusive
}

// follow does the steps; it ends early at the first that did not go as written.
func (r *rehearsal) follow(ctx context.Context) (history.Outcome, string) {
	for _, name := range r.parts {
		part, _ := r.book.Part(name)
		for number, step := range part.Steps {
			r.say("\n%s %d of %d: %s\n", name, number+1, len(part.Steps), step.Title)
			fact := &history.PlaybookStep{Part: name, Step: number, Title: step.Title, Command: step.Command, Started: time.Now()}
			ended := r.do(ctx, step, fact)
			fact.Took = drill.Seconds(time.Since(fact.Started))
			if err := r.write(fact); err != nil {
				return history.Inconclusive, err.Error()
			}
			switch {
			case ctx.Err() != nil:
				return history.Interrupted, "interrupted"
			case ended != "":
				return history.Interrupted, ended
			case fact.Deviation != "" || fact.Error != "":
				if r.automatic {
					return history.Failed, "step " + step.Title
				}
			case !step.ByHand():
				if err := step.Met(fact.Exit, fact.Output); err != nil {
					r.say("NOT as written: %v\n", err)
					if r.automatic {
						return history.Failed, "step " + step.Title
					}
				}
			}
		}
	}
	return history.Passed, ""
}

func (r *rehearsal) say(format string, args ...any) {
	if !r.json {
		fmt.Fprintf(r.s.out, format, args...)
	}
}

// do does one step; a text that it returns ends the rehearsal.
func (r *rehearsal) do(ctx context.Context, step playbook.Step, fact *history.PlaybookStep) (ended string) {
	if step.Text != "" {
		r.say("%s\n", step.Text)
	}
	if !step.ByHand() {
		r.say("  %s$ %s\n", strings.TrimSpace(step.Host+" "), strings.ReplaceAll(step.Command, "\n", "\n  "))
	}
	switch {
	case r.yes:
		fact.Confirmed = true
	case step.ByHand() || step.Ask || !r.automatic:
		question := "Run it? [Enter, d TEXT, q] "
		if step.ByHand() {
			question = "Done? [Enter, d TEXT, q] "
		}
		fact.Asked = true
		if ended = r.ask(ctx, question, fact); ended != "" || fact.Deviation != "" {
			return ended
		}
	}
	if step.ByHand() {
		return ""
	}
	limit := stepMax
	if step.Within > 0 {
		limit = step.Within.Duration()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	output := &cutWriter{most: outputKept}
	var err error
	fact.Exit, err = r.run(ctx, step, output)
	fact.Output, fact.Cut = output.String(), output.cut
	if err != nil {
		fact.Error = err.Error()
		r.say("%v\n", err)
	}
	r.say("%s", fact.Output)
	return ""
}

func (r *rehearsal) ask(ctx context.Context, question string, fact *history.PlaybookStep) (ended string) {
	r.say("%s", question)
	type answer struct {
		line string
		err  error
	}
	heard := make(chan answer, 1)
	go func() { // a terminal cannot be asked to stop reading: the process ends with it
		line, err := r.answers.ReadString('\n')
		heard <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return "interrupted"
	case a := <-heard:
		word, rest, _ := strings.Cut(strings.TrimSpace(a.line), " ")
		switch {
		case a.err != nil && a.line == "":
			return "nobody answers"
		case word == "" || word == "y" || word == "yes":
			fact.Confirmed = true
			return ""
		case word == "d" && rest != "":
			fact.Deviation = rest
			return ""
		case word == "q":
			return "stopped by the person"
		}
		r.say("Enter goes on; d and what was done otherwise; q stops.\n")
		return r.ask(ctx, question, fact)
	}
}

// run runs the command of a step on its host, and proves that nothing of it is left when its time is over.
func (r *rehearsal) run(ctx context.Context, step playbook.Step, output io.Writer) (int, error) {
	if step.Host == "" {
		return runHere(ctx, step.Command, output)
	}
	client, err := dial(ctx, r.host(step.Host))
	if err != nil {
		return -1, err
	}
	defer client.Close()
	exit, err := client.Run(ctx, remote.Command{Line: step.Command, Stdout: output, Stderr: output, Grace: killPatient})
	return exit.Code, err
}

// host is the host of the service file with this name, or what ssh makes of the name.
func (r *rehearsal) host(name string) drill.Host {
	if r.service != nil {
		for _, environment := range r.service.Environments {
			if at := slices.IndexFunc(environment.Hosts, func(h drill.Host) bool { return h.Name == name }); at >= 0 {
				return environment.Hosts[at]
			}
		}
	}
	return drill.Host{Name: name, SSH: drill.SSH{Address: name}}
}

// runHere runs a command in a process group of its own, which is killed as a whole when ctx ends.
func runHere(ctx context.Context, line string, output io.Writer) (int, error) {
	command := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = killPatient
	err := command.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return -1, fmt.Errorf("it was still running when its time was over, and was ended: %w", context.Cause(ctx))
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	case err != nil:
		return -1, err
	}
	return 0, nil
}

// cutWriter keeps the first most bytes.
type cutWriter struct {
	mu   sync.Mutex // guards the fields below
	kept bytes.Buffer
	most int
	cut  bool
}

func (w *cutWriter) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	room := min(w.most-w.kept.Len(), len(text))
	w.kept.Write(text[:room])
	w.cut = w.cut || room < len(text)
	return len(text), nil
}

func (w *cutWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ToValidUTF8(w.kept.String(), "�")
}
