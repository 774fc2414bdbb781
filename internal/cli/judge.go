//go:build !hostpart

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/playbook"
	"firedrill/internal/report"
	"firedrill/internal/verdict"
)

// judgeHelp is what both commands say of how they end.
const judgeHelp = `
EXIT STATUS
  0    passed
  1    failed
  2    the file cannot be read, or was altered; wrong flags
  3    inconclusive: nobody can tell
  4    a safeguard refused a step
  5    impact not reverted: call a human
  70   our own fault
  130  the run was interrupted, its impact reverted`

// opening opens a log from its begin.
type opening func() (io.ReadCloser, error)

// openLog opens the log of a name, once where it is "-", which is standard input.
func openLog(s streams, name string) opening {
	if name == "-" {
		return func() (io.ReadCloser, error) { return io.NopCloser(s.in), nil }
	}
	return func() (io.ReadCloser, error) { return os.Open(name) }
}

// spooled puts a log from standard input, which can be read only once, into a file without a name, so that it can be read again and need not
// lie in memory. Whoever calls closes the file.
func spooled(from io.Reader) (opening, io.Closer, error) {
	file, err := os.CreateTemp("", "firedrill-log-*")
	if err == nil {
		_, copyErr := io.Copy(file, from)
		if err = errors.Join(os.Remove(file.Name()), copyErr); err != nil {
			err = errors.Join(err, file.Close())
		}
	}
	if err != nil {
		return nil, nil, &drill.Error{
			Op: "read the log", Kind: drill.Invalid, Err: fmt.Errorf("keep standard input to read it twice: %w", err), Hint: "Make room in " + os.TempDir() + ", name another directory in TMPDIR, or give the log as a file.",
		}
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(file, 0, math.MaxInt64)), nil }, file, nil
}

// judgeFile judges a log while it is read. A log of a rehearsal, or one without a plan, is returned whole instead.
func judgeFile(s streams, name string, named []string) (in report.Input, whole []history.Event, err error) {
	in, whole, err = judgeLog(s, name, openLog(s, name), named)
	in.Events = nil // standard input cannot be read twice
	return in, whole, err
}

// judgeLog judges a log, and reads it again for what is shown of it, so that none is held in memory.
func judgeLog(s streams, name string, open opening, named []string) (in report.Input, whole []history.Event, err error) {
	log := readOnce(open)
	if err := readable(s, log.err, log.events > 0); err != nil {
		return report.Input{}, nil, err
	}
	if log.reading == nil {
		return report.Input{}, log.whole, nil
	}
	earlier, err := earlierOf(s, log.plan, name, named)
	if err != nil {
		return report.Input{}, nil, err
	}
	return report.Input{Plan: log.plan, Verdict: log.reading.Judge(earlier...), LogName: name, Head: log.head, Events: log.again(open)}, nil, nil
}

// onePass is what reading a log once gave, as far as its lines could be verified. The log itself is not held.
type onePass struct {
	plan    drill.Plan
	reading *verdict.Reading // of a log that carries a plan
	whole   []history.Event  // of one that carries none: all of it, as of a rehearsal
	events  int64
	head    string // hash of the last verified line, in hex
	err     error  // why reading ended before the log did
}

// readOnce reads a log from its begin, and files each event for the judge.
func readOnce(open opening) (log onePass) {
	file, err := open()
	if err != nil {
		return onePass{err: err}
	}
	defer file.Close()
	log.head, log.err = history.Scan(file, func(event history.Event) error {
		log.events++
		if log.reading != nil {
			log.reading.Add(event)
			return nil
		}
		if sample, is := event.Fact.(*history.Sample); is {
			copied := *sample
			event.Fact = &copied
		}
		log.whole = append(log.whole, event)
		if started, is := event.Fact.(*history.RunStarted); is {
			log.plan, log.reading = started.Plan, verdict.NewReading(started.Plan)
			for _, before := range log.whole {
				log.reading.Add(before)
			}
			log.whole = nil
		}
		return nil
	})
	return log
}

// again reads the verified lines once more, and no line that was written since. It is an error when they are not the same any more.
func (log onePass) again(open opening) func(take func(history.Event) error) error {
	return func(take func(history.Event) error) error {
		file, err := open()
		if err != nil {
			return err
		}
		defer file.Close()
		seen, stopped := int64(0), error(nil)
		head, err := history.Scan(file, func(event history.Event) error {
			if stopped = take(event); stopped != nil {
				return stopped
			}
			if seen++; seen == log.events {
				return errAllSeen
			}
			return nil
		})
		switch {
		case stopped != nil:
			return stopped
		case head != log.head:
			return errors.Join(errors.New("the log was changed while it was read"), err)
		}
		return nil
	}
}

// errAllSeen ends the reading of a log that is still being written.
var errAllSeen = errors.New("all was seen")

// earlierOf are the logs of the runs that a run went on with.
func earlierOf(s streams, plan drill.Plan, name string, named []string) ([]verdict.Earlier, error) {
	directory := ""
	if name != "-" {
		var err error
		if directory, err = filepath.Abs(filepath.Dir(name)); err != nil {
			return nil, err
		}
	}
	earlier, doubts := earlierLogs(plan, directory, named)
	for _, doubt := range doubts {
		fmt.Fprintf(s.err, "firedrill: %s\n", doubt)
	}
	return earlier, nil
}

const earlierUsage = "log or directory of a run that this one went on with; those beside LOG are found by themselves"

// planOf returns the plan that a log carries; name is the log's in messages.
func planOf(log []history.Event, name string) (drill.Plan, error) {
	for _, event := range log {
		if started, ok := event.Fact.(*history.RunStarted); ok {
			return started.Plan, nil
		}
	}
	if playbook.IsRehearsal(log) {
		return drill.Plan{}, &drill.Error{
			Op: "read the log", Kind: drill.Invalid, Err: fmt.Errorf("%s is of a rehearsal that followed a playbook", name), Hint: "firedrill judge " + name,
		}
	}
	return drill.Plan{}, &drill.Error{
		Op: "read the log", Kind: drill.Invalid, Err: fmt.Errorf("%s does not say what was going to be done", name), Hint: "The first line of a log is run.started; name a whole log.",
	}
}

// readLog reads a log and verifies its chain; a log that was torn by a power cut is read up to there.
func readLog(s streams, name string) ([]history.Event, error) {
	log, err := readAll(s, name)
	if err := readable(s, err, len(log) > 0); err != nil {
		return nil, err
	}
	return log, nil
}

// readable turns what reading a log said into what its reader must know; some says that there are events.
func readable(s streams, err error, some bool) error {
	if errors.Is(err, os.ErrNotExist) {
		return &drill.Error{Op: "read the log", Kind: drill.Invalid, Err: err, Hint: "A run leaves its log as run.jsonl in its directory."}
	}
	if errors.Is(err, history.ErrTorn) && some {
		// What was written before a power cut is true. It cannot pass: its end is missing.
		fmt.Fprintf(s.err, "firedrill: %v, as after a power cut; what is before it is judged\n", err)
		err = nil
	}
	if err != nil {
		return &drill.Error{
			Op: "read the log", Kind: drill.Invalid, Err: err, Hint: "A log that was altered or damaged proves nothing; take the copy that the run wrote.",
		}
	}
	return nil
}

func readAll(s streams, name string) ([]history.Event, error) {
	file, err := openLog(s, name)()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return history.Read(file)
}

func newJudgeCommand(s streams) *cobra.Command {
	asJSON, earlier := false, []string(nil)
	var far fleetOptions
	command := &cobra.Command{
		Use:   "judge LOG",
		Short: "Judge the log of a run again",
		Long: "Judge reads the log of a run (run.jsonl), verifies that no line of it was altered, and says again what it proves.\n" +
			"The same log gives the same verdict, on any machine and at any time. LOG - is standard input.\n\n" +
			"A run that went on with another (pipeline --resume) stands on the log of that one too. It is looked for beside LOG, where the run\n" +
			"left a copy, and in the directories next to it; an earlier log that is missing, altered or not the one that LOG names makes the\n" +
			"verdict inconclusive.\n\n" +
			"With --server LOG is a drill that the server conducted, by its name or the last six characters of it: its log is fetched and judged\n" +
			"here, and where that is not what the server says, nothing is passed.\n" + judgeHelp,
		Example:           "  firedrill judge run.jsonl\n  firedrill judge --json run.jsonl | jq .rto",
		Args:              exactly("LOG"),
		ValidArgsFunction: completeFiles(1, "jsonl"),
		RunE: func(command *cobra.Command, args []string) error {
			if far.remote() {
				if err := withServer(command, "earlier"); err != nil {
					return err
				}
				in, kept, err := far.judgeFar(command.Context(), s, args[0])
				if err != nil {
					return err
				}
				defer kept.Close()
				return printJudged(s, in, asJSON)
			}
			in, whole, err := judgeFile(s, args[0], earlier)
			if err != nil {
				return err
			}
			if playbook.IsRehearsal(whole) {
				return judgeRehearsal(s, whole, asJSON)
			}
			if whole != nil || in.Plan.Service == "" {
				_, err := planOf(whole, args[0])
				return err
			}
			return printJudged(s, in, asJSON)
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print the verdict as JSON")
	far.addServer(command.Flags())
	command.Flags().StringArrayVar(&earlier, "earlier", nil, earlierUsage)
	_ = command.MarkFlagFilename("earlier", "jsonl") // fails only for a flag that is not defined
	return command
}

// printJudged prints a verdict, and returns what the exit code follows from.
func printJudged(s streams, in report.Input, asJSON bool) error {
	in.Color = wantsColor(s.out)
	format := report.Text
	if asJSON {
		format = report.JSON
	}
	if err := report.Write(s.out, format, in); err != nil {
		return err
	}
	if code := in.Verdict.ExitCode(); code != exitPassed {
		return exitError{code}
	}
	return nil
}

// judgeRehearsal says what following a playbook proved.
func judgeRehearsal(s streams, log []history.Event, asJSON bool) error {
	judged := playbook.Judge(log)
	if asJSON {
		if err := printJSON(s, judged); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(s.out, "%s: %s %s\n", judged.Playbook, judged.Outcome, judged.Reason)
		for _, step := range judged.Steps {
			fmt.Fprintf(s.out, "  %-12s %-9s %6.1f s  %s %s\n", step.Outcome, step.Part, step.Took.Duration().Seconds(), step.Title, step.Reason)
		}
	}
	if code := outcomeExit(judged.Outcome); code != exitPassed {
		return exitError{code}
	}
	return nil
}

// wantsColor says whether a person looks at out: a terminal, and nobody asked for none.
func wantsColor(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func newReportCommand(s streams) *cobra.Command {
	format, out, link, annex, earlier, compare := string(report.Text), "", "", "", []string(nil), false
	var far fleetOptions
	command := &cobra.Command{
		Use:   "report LOG...",
		Short: "Show the log of a run as a page, Markdown, JUnit, JSON or text",
		Long: "Report reads the log of a run (run.jsonl), judges it again and shows it. The page (html) is one file that loads nothing\n" +
			"and opens offline. LOG - is standard input. A report that was written exits with 0, whatever the run proved: the gate is\n" +
			"`firedrill judge`.\n\n" +
			"With --compare several runs (their logs or directories) are set side by side: what each drill measured, and whether it got worse from\n" +
			"the oldest to the newest by more than the measurements tell apart.\n\n" +
			"With --server LOG is a drill that the server conducted, by its name or the last six characters of it.\n\n" +
			"EXIT STATUS\n  0    written\n  2    the file cannot be read, or was altered; wrong flags\n  3    the server cannot be reached, or does not say what its log proves\n  4    refused: your role, or the scopes of the token\n  70   our own fault",
		Example: "  firedrill report run.jsonl --format html --out report.html\n  firedrill report run.jsonl --format markdown >> \"$GITHUB_STEP_SUMMARY\"\n  firedrill report --compare old/run.jsonl new/run.jsonl",
		Args: func(command *cobra.Command, args []string) error {
			if compare && len(args) > 1 {
				return nil
			}
			return exactly("LOG")(command, args)
		},
		ValidArgsFunction: completeFiles(64, "jsonl"),
		RunE: func(command *cobra.Command, args []string) error {
			if format == "md" {
				format = string(report.Markdown)
			}
			judged := func(name string) (report.Input, io.Closer, error) { return judgedHere(s, name, earlier) }
			if far.remote() {
				if err := withServer(command, "earlier"); err != nil {
					return err
				}
				judged = func(name string) (report.Input, io.Closer, error) { return far.judgeFar(command.Context(), s, name) }
			}
			switch {
			case compare && far.remote():
				return compareFar(s, args, judged, report.Format(format), out)
			case compare:
				return compareRuns(s, args, report.Format(format), out)
			}
			in, kept, err := judged(args[0])
			if err != nil {
				return err
			}
			defer kept.Close()
			in.Link = link
			if err := annexed(s, &in, report.Format(format), annex); err != nil {
				return err
			}
			if out == "" || out == "-" {
				in.Color = format == string(report.Text) && wantsColor(s.out)
				return report.Write(s.out, report.Format(format), in)
			}
			return writeWhole(out, func(w io.Writer) error { return report.Write(w, report.Format(format), in) })
		},
	}
	flags := command.Flags()
	flags.StringVar(&format, "format", format, "html, markdown (or md), junit, json, csv, github (annotations), chaostoolkit (its journal.json), record (for auditors, with --annex), openmetrics, otlp (a trace for OpenTelemetry) or text")
	flags.BoolVar(&compare, "compare", false, "set several runs side by side")
	far.addServer(flags)
	flags.StringVar(&out, "out", "", "file to write; default standard output")
	flags.StringArrayVar(&earlier, "earlier", nil, earlierUsage)
	_ = command.MarkFlagFilename("earlier", "jsonl") // fails only for a flag that is not defined
	flags.StringVar(&annex, "annex", "", "YAML file with what people add to a record: participants, approvals, owners and dates of findings; a page shows the latter")
	_ = command.MarkFlagFilename("annex", "yaml", "yml") // fails only for a flag that is not defined
	flags.StringVar(&link, "link", "", "where the page can be reached, for markdown")
	_ = command.RegisterFlagCompletionFunc("format", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, known := range report.Formats {
			names = append(names, string(known))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return command
}

// annexed adds to a record or a page what people know, and says how many things keep a record from being complete.
func annexed(s streams, in *report.Input, format report.Format, name string) error {
	if format != report.RecordJSON && format != report.HTML {
		if name != "" {
			return &drill.Error{Op: "report", Kind: drill.Invalid, Err: errors.New("--annex is for a record, and for a page"), Hint: "Add --format record, or --format html."}
		}
		return nil
	}
	if name != "" {
		text, err := os.ReadFile(name)
		if err != nil {
			return &drill.Error{Op: "read the annex", Kind: drill.Invalid, Err: err}
		}
		if in.Annex, err = report.ParseAnnex(text, name); err != nil {
			return err
		}
	}
	if format == report.HTML {
		return nil // the page says it
	}
	record, err := report.NewRecord(*in)
	if err == nil && !record.Complete {
		fmt.Fprintf(s.err, "firedrill: the record is INCOMPLETE: %d things are missing, see its field missing\n", len(record.Missing))
	}
	return err
}

// judgedHere judges a log that lies here, or comes from standard input, for a report. Whoever calls closes what is kept of it.
func judgedHere(s streams, name string, earlier []string) (in report.Input, kept io.Closer, err error) {
	open, kept := openLog(s, name), io.NopCloser(nil)
	if name == "-" {
		if open, kept, err = spooled(s.in); err != nil {
			return in, nil, err
		}
	}
	if in, err = judgedForReport(s, name, open, earlier); err != nil {
		return in, nil, errors.Join(err, kept.Close())
	}
	return in, kept, nil
}

// judgedForReport judges a log, which is opened again for what the report shows of it.
func judgedForReport(s streams, name string, open opening, earlier []string) (report.Input, error) {
	in, whole, err := judgeLog(s, name, open, earlier)
	if err != nil {
		return report.Input{}, err
	}
	if whole != nil || in.Plan.Service == "" {
		_, err := planOf(whole, name)
		return report.Input{}, err
	}
	return in, nil
}

// compareRuns judges each run again and sets them side by side.
func compareRuns(s streams, names []string, format report.Format, out string) error {
	var verdicts []verdict.Verdict
	for i, name := range names {
		if about, err := os.Stat(name); err == nil && about.IsDir() {
			name = filepath.Join(name, logName)
		}
		in, whole, err := judgeFile(s, name, nil)
		if err != nil {
			return err
		}
		if in.Plan.Service == "" {
			_, err := planOf(whole, name)
			return err
		}
		verdicts = append(verdicts, in.Verdict)
		if names[i] = filepath.Base(filepath.Dir(name)); filepath.Base(name) != logName || names[i] == "." {
			names[i] = filepath.Base(name)
		}
	}
	return writeCompared(s, names, verdicts, format, out)
}

// compareFar is compareRuns for drills of a server.
func compareFar(s streams, names []string, judged func(string) (report.Input, io.Closer, error), format report.Format, out string) error {
	var verdicts []verdict.Verdict
	for _, name := range names {
		in, kept, err := judged(name)
		if err != nil {
			return err
		}
		verdicts = append(verdicts, in.Verdict)
		if err := kept.Close(); err != nil {
			return err
		}
	}
	return writeCompared(s, names, verdicts, format, out)
}

func writeCompared(s streams, names []string, verdicts []verdict.Verdict, format report.Format, out string) error {
	compared, err := report.Compare(names, verdicts)
	if err != nil {
		return err
	}
	if out == "" || out == "-" {
		return report.WriteComparison(s.out, format, compared)
	}
	return writeWhole(out, func(w io.Writer) error { return report.WriteComparison(w, format, compared) })
}

// writeWhole writes a file in one piece: whoever opens it finds the old one or the whole new one. What was begun is removed when
// anything goes wrong.
func writeWhole(name string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return &drill.Error{Op: "write the report", Kind: drill.Invalid, Err: err, Hint: "Name a file in a directory that can be written to."}
	}
	buffered := bufio.NewWriter(file)
	err = errors.Join(write(buffered), buffered.Flush(), file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(file.Name()))
	}
	return err
}
