//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/attest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/playbook"
	"firedrill/internal/stage"
	"firedrill/internal/verdict"
)

// stageOptions are the flags of firedrill stage.
type stageOptions struct {
	file, badge, page, at string
	keys                  []string
	json                  bool
	require               int

	// Of a server.
	far      farProof
	service  string
	signedBy []string
}

func newStageCommand(s streams) *cobra.Command {
	var options stageOptions
	command := &cobra.Command{
		Use:   "stage [RESULTS...]",
		Short: "Say which of the five stages of resiliency the service has reached, and what comes next",
		Long: `Goes through the checklist of the five stages: each item with what it stands on, how old that is, when it expires, and the command that
would renew it. The evidence is what is there: the service file, its playbooks with their approvals, and the logs of runs and rehearsals
below RESULTS (default firedrill-out), each verified and judged again. Logs that were altered are no evidence. Everything expires, so a
stage is lost when nothing is done. Without evidence it is stage 0.

With --server the evidence is what the drills have left that the server conducted for the service within a year: each is fetched, verified and judged on
this machine, as firedrill verify does; what does not hold, or with --signed-by is not signed by one of these keys, is no evidence, and is named. Runs and
rehearsals below RESULTS count beside it, if any is given. The service file with its playbooks lies here (--file); --service NAME takes the file that is
on the server, and then no playbook is known. --out keeps what was fetched, and only what is new is fetched the next time.

EXIT STATUS
  0    told; with --require: the stage is reached
  1    with --require: it is not
  2    usage, or the service file is wrong
  3    the server cannot be reached, or goes away meanwhile
  4    refused: your role, or the scopes of the token
  70   our own fault
  130  fetching was ended by Ctrl-C`,
		Example: "  firedrill stage\n  firedrill stage results/staging results/production --require 3\n  firedrill stage --badge stage.svg --page stage.html\n  firedrill stage --server control.example.com --signed-by server.key.pub",
		RunE: func(command *cobra.Command, args []string) error {
			if options.far.remote() {
				ctx, caught := catchSignals(command.Context())
				defer caught.stop()
				if options.service != "" && command.Flags().Changed("file") {
					return usageError("stage", "--file and --service name two service files; name one")
				}
				return tellStage(ctx, s, options, args)
			}
			if err := withoutServer(command, "service", "signed-by", "out"); err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{"firedrill-out"}
			}
			return tellStage(command.Context(), s, options, args)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&options.file, "file", "f", defaultFile, "service file")
	flags.StringVar(&options.badge, "badge", "", "write the stage as a picture (SVG)")
	flags.StringVar(&options.page, "page", "", "write the checklist as a page (HTML)")
	flags.StringVar(&options.at, "at", "", "as of this date or moment (2026-12-01, or RFC 3339) in place of now")
	flags.StringArrayVar(&options.keys, "key", nil, "count only approvals signed by this public key: its file, or its line; may be given several times")
	flags.IntVar(&options.require, "require", 0, "fail below this stage")
	flags.BoolVar(&options.json, "json", false, "print JSON")
	options.far.addServer(flags)
	flags.StringVar(&options.service, "service", "", "with --server: take the service file that is there, of this service")
	flags.StringArrayVar(&options.signedBy, "signed-by", nil, "with --server: count only drills that this public key signed: its file, or its line; may be given several times")
	flags.StringVarP(&options.far.out, "out", "o", "", "with --server: directory below which what was fetched is kept (default: nothing is)")
	_ = command.MarkFlagDirname("out")
	_ = command.MarkFlagFilename("signed-by", "pub")
	_ = command.MarkFlagFilename("file", "yaml", "yml")
	_ = command.MarkFlagFilename("badge", "svg")
	_ = command.MarkFlagFilename("page", "html")
	return command
}

func tellStage(ctx context.Context, s streams, options stageOptions, results []string) error {
	now := time.Now()
	if options.at != "" {
		var err error
		if now, err = time.Parse(time.DateOnly, options.at); err != nil {
			if now, err = time.Parse(time.RFC3339, options.at); err != nil {
				return usageError("stage", "--at %q is neither a date nor a moment; write 2026-12-01", options.at)
			}
		}
	}
	evidence := stage.Evidence{Now: now, File: options.file, Disaster: playbook.DisasterRecovery}
	var err error
	if options.service != "" {
		err = options.fromServer(ctx, &evidence)
	} else if evidence.Service, err = loadService(options.file); err == nil {
		evidence.Books, err = booksOf(evidence.Service, options, now)
	}
	if err == nil && options.far.remote() {
		err = options.gatherFar(ctx, s, &evidence)
	}
	if err != nil {
		return err
	}
	for _, directory := range results {
		if err := gather(s, directory, &evidence); err != nil {
			return err
		}
	}
	judged := stage.Judge(evidence)
	for name, write := range map[string]func(io.Writer, stage.Result) error{options.badge: stage.WriteBadge, options.page: stage.WritePage} {
		if name == "" {
			continue
		}
		if err := writeWhole(name, func(w io.Writer) error { return write(w, judged) }); err != nil {
			return err
		}
	}
	if options.json {
		err = printJSON(s, judged)
	} else {
		err = stage.WriteText(s.out, judged)
	}
	if err == nil && judged.Stage < options.require {
		return exitError{exitFailed}
	}
	return err
}

// booksOf reads the playbooks that the service file names.
func booksOf(service drill.Service, options stageOptions, now time.Time) ([]stage.Book, error) {
	trusted, err := readPublicKeys(options.keys)
	if err != nil {
		return nil, err
	}
	named := map[string]string{} // what for, by file
	var files []string
	add := func(file, of string) {
		if file != "" {
			files, named[file] = append(files, file), of
		}
	}
	add(service.Playbook, playbook.DisasterRecovery)
	for _, dependency := range service.Dependencies {
		add(dependency.Playbook, dependency.Name)
	}
	var all []stage.Book
	for _, file := range files {
		book := stage.Book{File: file, For: named[file]}
		path := besideFile(options.file, file)
		read, _, err := readPlaybook(path, &service)
		if err != nil {
			book.Problem, book.Missing = strings.ReplaceAll(err.Error(), "\n", "; "), playbook.Roles
			all = append(all, book)
			continue
		}
		book.For, book.Confirm = read.Head.For, read.Head.Confirm
		book.Executable, book.Steps = read.Executable()
		approvals, err := readApprovals(path)
		if err != nil {
			return nil, err
		}
		held, missing := playbook.Agreed(approvals, read.Hash, now, func(a playbook.Approval) bool { return signedByOne(a, trusted) })
		book.Missing = missing
		for _, approval := range held {
			if approval.At.After(book.AgreedAt) {
				book.AgreedAt = approval.At
			}
			if ends := approval.At.Add(playbook.ApprovalLife); book.Expires.IsZero() || ends.Before(book.Expires) {
				book.Expires = ends
			}
		}
		all = append(all, book)
	}
	return all, nil
}

// gather adds the runs and rehearsals whose logs lie below a directory. What cannot be read is told and is no evidence.
func gather(s streams, directory string, evidence *stage.Evidence) error {
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && path != directory && strings.HasPrefix(entry.Name(), hiddenPrefix) {
			return fs.SkipDir // being written, or left half-written
		}
		if err != nil || entry.IsDir() || entry.Name() != logName {
			return err
		}
		if err := oneResult(path, evidence); err != nil {
			fmt.Fprintf(s.err, "firedrill: %s is no evidence: %v\n", path, err)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func oneResult(path string, evidence *stage.Evidence) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	run := stage.Run{Name: filepath.Base(filepath.Dir(path))}
	var reading *verdict.Reading
	var rehearsal []history.Event
	_, err = history.Scan(file, func(event history.Event) error {
		switch fact := event.Fact.(type) {
		case *history.RunStarted:
			if reading == nil {
				run.Plan, run.Trigger, reading = fact.Plan, fact.Trigger, verdict.NewReading(fact.Plan)
			}
		case *history.PlaybookStarted, *history.PlaybookStep, *history.PlaybookFinished:
			rehearsal = append(rehearsal, event)
		case *history.Stop:
			run.Stopped = true
		case *history.AttackReverted:
			run.Stopped = run.Stopped || len(fact.Residue) == 0 && (fact.Why == "halt" || strings.HasPrefix(fact.Why, "signal") || fact.Why == "interrupted")
		case *history.Check:
			run.WentBack = run.WentBack || fact.OK && (strings.HasPrefix(fact.Name, "back to the release") || strings.HasPrefix(fact.Name, "answer back"))
		}
		if reading != nil {
			reading.Add(event)
		}
		return nil
	})
	if err != nil && !errors.Is(err, history.ErrTorn) {
		return err
	}
	if len(rehearsal) > 0 {
		evidence.Rehearsals = append(evidence.Rehearsals, rehearsalOf(run.Name, rehearsal))
		return nil
	}
	if reading == nil {
		return errors.New("it does not say what was going to be done")
	}
	run.Verdict = reading.Judge()
	run.Stopped = run.Stopped && !run.Verdict.NotReverted
	run.Published = attested(filepath.Dir(path))
	evidence.Runs = append(evidence.Runs, run)
	return nil
}

func rehearsalOf(name string, log []history.Event) stage.Rehearsal {
	judged := playbook.Judge(log)
	found := stage.Rehearsal{Name: name, For: judged.For, Outcome: judged.Outcome, At: judged.Started, Automatic: judged.Automatic, Asked: judged.Asked}
	for _, event := range log {
		switch fact := event.Fact.(type) {
		case *history.PlaybookStarted:
			found.Tier = fact.Environment
		case *history.PlaybookStep:
			found.Resumed = found.Resumed || fact.Part == playbook.Resume
			if event.At.After(found.At) {
				found.At = event.At
			}
		}
	}
	return found
}

// attested says that a page lies beside a log, and that all files are as they were attested. Whether somebody signed that is for verify.
func attested(directory string) bool {
	text, err := os.ReadFile(filepath.Join(directory, attest.FileName))
	if err != nil {
		return false
	}
	page, err := os.Stat(filepath.Join(directory, "report.html"))
	if err != nil || page.Size() == 0 {
		return false
	}
	statement, err := attest.Parse(text)
	return err == nil && statement.Check(os.DirFS(directory)) == nil
}
