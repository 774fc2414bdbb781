//go:build !hostpart

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"firedrill/internal/attest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/playbook"
	"firedrill/internal/report"
	"firedrill/internal/verdict"
)

// The answers to one question about a run.
const (
	holds   = "holds"
	broken  = "broken"
	unknown = "unknown"
)

// finding is one question that verify asked, and what it found.
type finding struct {
	Name   string `json:"name"`
	Answer string `json:"answer"` // holds, broken, unknown
	Detail string `json:"detail"`
}

// verified is what verify says of a run.
type verified struct {
	Run      string          `json:"run"`
	Service  string          `json:"service"`
	Outcome  history.Outcome `json:"outcome"` // of the log as it lies here, judged now
	Answer   string          `json:"answer"`  // the worst of the findings
	Findings []finding       `json:"findings"`
	Kept     string          `json:"kept,omitempty"` // directory in which the files of a drill of a server are kept

	head string // hash of the last line of its log that could be verified
}

// trust is whose signature is asked for.
type trust struct {
	keys     []attest.PublicKey
	unsigned bool // nobody's
}

func (v *verified) add(name, answer, detail string) {
	v.Findings = append(v.Findings, finding{name, answer, detail})
	if answer == broken || answer == unknown && v.Answer == holds {
		v.Answer = answer
	}
}

// check adds a question that err answers.
func (v *verified) check(name string, err error, detail string) {
	if err != nil {
		v.add(name, broken, strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	v.add(name, holds, detail)
}

func newVerifyCommand(s streams) *cobra.Command {
	var keys []string
	var unsigned, asJSON bool
	var far farProof
	command := &cobra.Command{
		Use:   "verify RUN",
		Short: "Verify that nothing of a run was changed, and who signed it; offline",
		Long: `Reads the directory of a run and says whether its log is whole (every line chained to the one before), whether log and reports are
the files that were attested (` + attest.FileName + `), whether the log, judged again now, proves what the attestation and the reports say, and
whether the attestation was signed by one of the keys. It needs no network and no account; minisign -V verifies the signature as well.

A run that is not signed, or for which no key is named, can have been replaced as a whole: that is nobody can tell, unless --unsigned says
that it does not matter.

With --server RUN is a drill that the server conducted, by its name or the last six characters of it. Its log and all of its files are fetched, and
verified on this machine in the same way, with the keys that are named here: the server is believed nothing. That they are of the drill that was
asked for, and prove what the server says of it, is asked too. --out keeps them, whatever was found.

EXIT STATUS
  0    nothing was changed, and one of the keys signed it (or --unsigned)
  1    something was changed, or another key signed it; each such thing is named
  2    no run is there, or a key cannot be read
  3    nobody can tell: not attested, not signed, or no key named; the drill is not over; the server cannot be reached
  4    refused: your role, or the scopes of the token
  70   our own fault
  130  fetching was ended by Ctrl-C, and nothing is kept`,
		Example:           "  firedrill verify firedrill-out/20261123T101502Z-0a1b2c --key team.key.pub\n  firedrill verify run/ --key RWQ… --json\n  firedrill verify 0a1b2c --server control.example.com --key server.key.pub",
		Args:              exactly("RUN"),
		ValidArgsFunction: completeFiles(1, "jsonl"),
		RunE: func(command *cobra.Command, args []string) error {
			trusted, err := readPublicKeys(keys)
			if err != nil {
				return err
			}
			ask := func() (verified, error) { return verifyRun(s, args[0], trusted, unsigned) }
			if far.remote() {
				ctx, caught := catchSignals(command.Context())
				defer caught.stop()
				ask = func() (verified, error) { return far.verifyFar(ctx, s, args[0], trust{trusted, unsigned}) }
			} else if err := withoutServer(command, "out"); err != nil {
				return err
			}
			answer, err := ask()
			if err != nil {
				return err
			}
			if err := printVerified(s, answer, asJSON); err != nil {
				return err
			}
			switch answer.Answer {
			case broken:
				return exitError{exitFailed}
			case unknown:
				return exitError{exitInconclusive}
			}
			return nil
		},
	}
	flags := command.Flags()
	flags.StringArrayVar(&keys, "key", nil, "public key to trust: its file, or its line; may be given several times")
	flags.BoolVar(&unsigned, "unsigned", false, "do not ask who signed the run: only whether its parts belong together")
	flags.BoolVar(&asJSON, "json", false, "print the findings as JSON")
	far.addServer(flags)
	flags.StringVarP(&far.out, "out", "o", "", "with --server: directory below which what was fetched is kept (default: nothing is)")
	_ = command.MarkFlagDirname("out")
	_ = command.MarkFlagFilename("key", "pub")
	command.MarkFlagsMutuallyExclusive("key", "unsigned")
	return command
}

func readPublicKeys(names []string) ([]attest.PublicKey, error) {
	var all []attest.PublicKey
	for _, name := range names {
		text, err := os.ReadFile(name)
		var key attest.PublicKey
		if err == nil {
			key, err = attest.ParsePublicKey(text)
		} else if line, wrong := attest.ParsePublicKey([]byte(name)); wrong == nil { // which may hold a slash
			key, err = line, nil
		}
		if err != nil {
			return nil, &drill.Error{Op: "read the key " + name, Kind: drill.Invalid, Err: err, Hint: "Name the .pub file that came with the key, or the line in it that begins with RW."}
		}
		all = append(all, key)
	}
	return all, nil
}

// verifyRun asks every question about a run. An error means that there is nothing to ask about.
func verifyRun(s streams, name string, trusted []attest.PublicKey, unsigned bool) (verified, error) {
	found := verified{Answer: holds}
	directory, err := directoryOf(name)
	if err != nil {
		return found, err
	}
	open := openLog(s, filepath.Join(directory, logName))
	log := readOnce(open)
	if log.events == 0 && log.err != nil {
		return found, &drill.Error{Op: "read the log", Kind: drill.Invalid, Err: log.err, Hint: "Name the directory of a run: it holds " + logName + "."}
	}
	found.check("log", log.err, fmt.Sprintf("%d events, each chained to the one before", log.events))
	judged := judgeAgain(s, directory, log, open)
	found.Run, found.Service, found.Outcome, found.head = judged.run, judged.service, judged.outcome, log.head

	text, err := os.ReadFile(filepath.Join(directory, attest.FileName))
	if errors.Is(err, os.ErrNotExist) {
		found.add("attestation", unknown, "there is none, so a log that was cut at its end or replaced as a whole looks the same; the run wrote "+attest.FileName)
		return found, nil
	}
	statement, parseErr := attest.Statement{}, err
	if err == nil {
		statement, parseErr = attest.Parse(text)
	}
	if parseErr != nil {
		found.check("attestation", parseErr, "")
		return found, nil
	}
	found.check("files", statement.Check(os.DirFS(directory)), fmt.Sprintf("%d files are as they were attested on %s", len(statement.Files), statement.Made.Format("2006-01-02 15:04:05 UTC")))
	found.check("head", sameHead(statement, log), "the log ends where it was attested to end, "+log.head[:16])
	found.check("verdict", sameVerdict(statement, judged), fmt.Sprintf("judged again: %s, exit %d", judged.outcome, judged.exit))
	found.reports(directory, statement, judged)
	found.signature(directory, text, trusted, unsigned)
	return found, nil
}

// judgement is what a log proves when it is judged now, and the files that say so.
type judgement struct {
	run, service string
	outcome      history.Outcome
	exit         int
	files        map[string]func(io.Writer) error
	in           report.Input // of a run that says what it was about to do
}

// judgeAgain judges a log that was read, together with those of the runs that it went on with, which lie beside it.
func judgeAgain(s streams, directory string, log onePass, open opening) judgement {
	if playbook.IsRehearsal(log.whole) {
		judged := playbook.Judge(log.whole)
		return judgement{run: judged.Run, service: rehearsedService(log.whole), outcome: judged.Outcome, exit: outcomeExit(judged.Outcome), files: map[string]func(io.Writer) error{
			rehearsalName: func(w io.Writer) error { return printJSON(streams{out: w}, judged) },
		}}
	}
	in := report.Input{Plan: log.plan, LogName: logName, Head: log.head, Events: log.again(open)}
	if log.reading == nil {
		in.Verdict = verdict.Judge(drill.Plan{}, log.whole) // a log without a plan proves nothing
	} else {
		earlier, err := earlierOf(s, log.plan, filepath.Join(directory, logName), nil)
		if err != nil {
			earlier = nil // then what it stands on is not proven
		}
		in.Verdict = log.reading.Judge(earlier...)
	}
	judged := in.Verdict
	again := judgement{run: judged.Run, service: judged.Service, outcome: judged.Outcome, exit: judged.ExitCode(), files: map[string]func(io.Writer) error{}, in: in}
	for _, file := range reportFiles {
		again.files[file.name] = func(w io.Writer) error { return report.Write(w, file.format, in) }
	}
	return again
}

func rehearsedService(log []history.Event) string {
	for _, event := range log {
		if started, ok := event.Fact.(*history.PlaybookStarted); ok {
			return started.Service
		}
	}
	return ""
}

func sameHead(statement attest.Statement, log onePass) error {
	if log.events != statement.Events || log.head != statement.Head {
		return fmt.Errorf("the log holds %d events and ends with %s, attested were %d and %s", log.events, log.head[:16], statement.Events, statement.Head[:min(16, len(statement.Head))])
	}
	return nil
}

func sameVerdict(statement attest.Statement, judged judgement) error {
	if judged.outcome != statement.Outcome || judged.exit != statement.Exit || judged.run != statement.Run || judged.service != statement.Service {
		return fmt.Errorf("judged again, run %q of %q is %s (exit %d); attested was run %q of %q, %s (exit %d)",
			judged.run, judged.service, judged.outcome, judged.exit, statement.Run, statement.Service, statement.Outcome, statement.Exit)
	}
	return nil
}

// reports asks whether the reports say what the log proves. Another version of the program may word or draw them differently, and then only
// their digests speak for them.
func (v *verified) reports(directory string, statement attest.Statement, judged judgement) {
	if statement.Tool != version() {
		v.add("reports", holds, fmt.Sprintf("made by firedrill %s; this is %s, which does not compare them word by word", statement.Tool, version()))
		return
	}
	var all []error
	for _, name := range slices.Sorted(maps.Keys(judged.files)) {
		var again bytes.Buffer
		if err := judged.files[name](&again); err != nil {
			all = append(all, err)
			continue
		}
		there, err := os.ReadFile(filepath.Join(directory, name))
		if err != nil {
			continue // said under files
		}
		if !bytes.Equal(again.Bytes(), there) {
			all = append(all, fmt.Errorf("%s does not say what the log proves", name))
		}
	}
	v.check("reports", errors.Join(all...), "they say what the log proves")
}

func (v *verified) signature(directory string, text []byte, trusted []attest.PublicKey, unsigned bool) {
	if unsigned {
		return
	}
	signature, err := os.ReadFile(filepath.Join(directory, attest.SignatureName))
	if errors.Is(err, os.ErrNotExist) {
		v.add("signature", unknown, "the run is not signed, so all of it may have been replaced; sign runs with --sign")
		return
	}
	var signer string
	if err == nil {
		signer, err = attest.Signer(signature)
	}
	switch {
	case err != nil:
		v.check("signature", err, "")
		return
	case len(trusted) == 0:
		v.add("signature", unknown, fmt.Sprintf("it claims to be by key %s; name the key that you trust with --key", signer))
		return
	}
	var all []error
	for _, key := range trusted {
		err := key.Verify(text, signature)
		if err == nil {
			v.add("signature", holds, "signed by key "+key.ID())
			return
		}
		all = append(all, err)
	}
	v.check("signature", errors.Join(all...), "")
}

func printVerified(s streams, found verified, asJSON bool) error {
	if asJSON {
		return printJSON(s, found)
	}
	signs := map[string]string{holds: "✓", broken: "✗", unknown: "?"}
	for _, f := range found.Findings {
		fmt.Fprintf(s.out, "%s %-11s %s\n", signs[f.Answer], f.Name, f.Detail)
	}
	words := map[string]string{
		holds: "verified: run %s of %s, %s\n", broken: "NOT verified: run %s of %s, %s as the log lies here\n", unknown: "nobody can tell: run %s of %s, %s as the log lies here\n",
	}
	fmt.Fprintf(s.out, words[found.Answer], found.Run, found.Service, found.Outcome)
	if found.Kept != "" {
		fmt.Fprintf(s.out, "kept in %s\n", found.Kept)
	}
	return nil
}
