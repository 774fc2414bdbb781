//go:build !hostpart

package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"firedrill/internal/attest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/playbook"
	"firedrill/internal/verdict"
)

// Where the signing key and its password come from when no flag names them: a CI hands secrets over in its environment.
const (
	signKeyVariable      = "FIREDRILL_SIGN_KEY"
	signPasswordVariable = "FIREDRILL_SIGN_PASSWORD"
)

// loadSigner opens the key in file; with an empty name nil, and nothing is signed. It is called before a run starts: a password that is
// wrong must not be found out after an hour of drills.
func loadSigner(s streams, file string) (*attest.PrivateKey, error) {
	if file == "" {
		return nil, nil
	}
	wrong := func(err error, hint string) error {
		return &drill.Error{Op: "open the signing key", Kind: drill.Invalid, Err: err, Hint: hint}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, wrong(err, "Make a pair of keys with: firedrill key new "+file)
	}
	if about, err := os.Stat(file); err == nil && about.Mode().Perm()&0o077 != 0 && !attest.Encrypted(text) {
		return nil, wrong(fmt.Errorf("%s has no password and can be read by others (mode %04o)", file, about.Mode().Perm()), "chmod 600 "+file)
	}
	password := ""
	if attest.Encrypted(text) {
		if password, err = askPassword(s, "Password of "+file+": "); err != nil {
			return nil, wrong(err, "Put the password into "+signPasswordVariable+".")
		}
	}
	key, err := attest.ParsePrivateKey(text, password)
	if err != nil {
		return nil, wrong(fmt.Errorf("%s: %w", file, err), "Name the private key, and its password in "+signPasswordVariable+".")
	}
	return &key, nil
}

// askPassword takes the password from the environment, or asks for it on a terminal.
func askPassword(s streams, prompt string) (string, error) {
	if password, given := os.LookupEnv(signPasswordVariable); given {
		return password, nil
	}
	terminal, ok := s.in.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return "", errors.New("it needs a password, and there is no terminal to ask on")
	}
	fmt.Fprint(s.err, prompt)
	password, err := term.ReadPassword(int(terminal.Fd()))
	fmt.Fprintln(s.err)
	return string(password), err
}

// attestRun writes what every file of a run holds beside them, and signs it when there is a key.
func attestRun(directory string, events int64, head string, judged verdict.Verdict, key *attest.PrivateKey) error {
	names, err := filepath.Glob(filepath.Join(directory, earlierPrefix+"*.jsonl"))
	if err != nil {
		return err
	}
	for i, name := range names {
		names[i] = filepath.Base(name)
	}
	names = append(names, logName)
	for _, file := range reportFiles {
		names = append(names, file.name)
	}
	return attestFiles(directory, attest.Statement{
		Run: judged.Run, Service: judged.Service, Outcome: judged.Outcome, Exit: judged.ExitCode(), Events: events, Head: head, Made: time.Now(), Tool: version(),
	}, names, key)
}

func attestFiles(directory string, statement attest.Statement, names []string, key *attest.PrivateKey) error {
	text, err := attest.Make(os.DirFS(directory), statement, names)
	if err == nil {
		err = os.WriteFile(filepath.Join(directory, attest.FileName), text, 0o644)
	}
	signature := filepath.Join(directory, attest.SignatureName)
	switch {
	case err != nil:
	case key == nil:
		if err = os.Remove(signature); errors.Is(err, os.ErrNotExist) { // of an earlier statement
			err = nil
		}
	default:
		statement.Made = statement.Made.UTC().Truncate(time.Second)
		err = os.WriteFile(signature, key.Sign(text, statement), 0o644)
	}
	if err != nil {
		return &drill.Error{Op: "attest the run", Kind: drill.Internal, Err: err, Hint: "The log is whole; attest it again: firedrill attest " + directory}
	}
	return nil
}

// attestDone says what attest has made.
type attestDone struct {
	Directory string          `json:"directory"` // of the run
	Run       string          `json:"run"`
	Service   string          `json:"service"`
	Outcome   history.Outcome `json:"outcome"`
	Head      string          `json:"log"`                 // hash of the last line of its log
	SignedBy  string          `json:"signed_by,omitempty"` // name of the key; empty: not signed
}

func newAttestCommand(s streams) *cobra.Command {
	keyFile, asJSON := "", false
	far := farProof{}
	command := &cobra.Command{
		Use:   "attest RUN",
		Short: "Make the reports of a run again, and sign them",
		Long: `Reads the log in RUN (the directory of a run), verifies its chain, judges it again, writes the reports anew and beside them
` + attest.FileName + `: the digest of each file and the head of the log. With a key that statement is signed (` + attest.SignatureName + `), in the form of
minisign. Every run is attested when it ends; this is for runs that were not signed then.

With --server RUN is a drill that the server conducted, by its name or the last six characters of it. Its files are fetched, verified, judged and
attested on this machine, and kept below --out: the key that signs never leaves it, and the server gets nothing. What does not hold is not signed for.

EXIT STATUS
  0    attested, whatever the run proved
  2    the log cannot be read, or was altered; the key cannot be opened; the drill is kept already
  3    the drill is not over, or the server cannot be reached
  4    refused: your role, or the scopes of the token
  70   our own fault
  130  fetching was ended by Ctrl-C, and nothing is kept`,
		Example:           "  firedrill attest firedrill-out/20261123T101502Z-0a1b2c --sign team.key\n  firedrill attest 0a1b2c --server control.example.com --sign team.key",
		Args:              exactly("RUN"),
		ValidArgsFunction: completeFiles(1, "jsonl"),
		RunE: func(command *cobra.Command, args []string) error {
			do := func() (attestDone, error) { return attestHere(s, args[0], keyFile) }
			if far.remote() {
				ctx, caught := catchSignals(command.Context())
				defer caught.stop()
				do = func() (attestDone, error) { return far.attestFar(ctx, s, args[0], keyFile) }
			} else if err := withoutServer(command, "out"); err != nil {
				return err
			}
			done, err := do()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(s, done)
			}
			by := "not signed"
			if done.SignedBy != "" {
				by = "signed by key " + done.SignedBy
			}
			fmt.Fprintf(s.out, "%s: run %s, %s, %s\n", filepath.Join(done.Directory, attest.FileName), done.Run, done.Outcome, by)
			return nil
		},
	}
	addSignFlag(command, &keyFile)
	far.addServer(command.Flags())
	command.Flags().StringVarP(&far.out, "out", "o", "firedrill-out", "with --server: directory below which the drill is kept")
	command.Flags().BoolVar(&asJSON, "json", false, "print what was made as JSON")
	_ = command.MarkFlagDirname("out") // fails only for a flag that is not defined
	return command
}

// attestHere attests a run that lies here.
func attestHere(s streams, name, keyFile string) (attestDone, error) {
	directory, err := directoryOf(name)
	if err != nil {
		return attestDone{}, err
	}
	if log := readOnce(openLog(s, filepath.Join(directory, logName))); log.err != nil { // before a password is asked for
		return attestDone{}, notAttested(log.err)
	}
	key, err := loadSigner(s, keyFile)
	if err != nil {
		return attestDone{}, err
	}
	return attestAgain(s, directory, key)
}

func notAttested(err error) error {
	return &drill.Error{Op: "read the log", Kind: drill.Invalid, Err: err, Hint: "A log whose end is missing is judged, and not attested: what it lacks cannot be signed for."}
}

// attestAgain judges a log, writes what the run would have written at its end, and attests it.
func attestAgain(s streams, directory string, key *attest.PrivateKey) (attestDone, error) {
	open := openLog(s, filepath.Join(directory, logName))
	log := readOnce(open)
	if log.err != nil {
		return attestDone{}, notAttested(log.err)
	}
	again := judgeAgain(s, directory, log, open)
	switch {
	case playbook.IsRehearsal(log.whole):
		if err := closeRehearsal(directory, log.whole, log.head, key); err != nil {
			return attestDone{}, err
		}
	case log.reading == nil:
		_, err := planOf(log.whole, filepath.Join(directory, logName))
		return attestDone{}, err
	default:
		if err := errors.Join(writeReports(directory, again.in), attestRun(directory, log.events, log.head, again.in.Verdict, key)); err != nil {
			return attestDone{}, err
		}
	}
	done := attestDone{Directory: directory, Run: again.run, Service: again.service, Outcome: again.outcome, Head: log.head}
	if key != nil {
		done.SignedBy = key.ID()
	}
	return done, nil
}

// addSignFlag adds the flag that names the key by which a run is signed.
func addSignFlag(command *cobra.Command, file *string) {
	command.Flags().StringVar(file, "sign", os.Getenv(signKeyVariable), "private key (minisign) to sign the run with; default $"+signKeyVariable)
	command.Flags().Lookup("sign").DefValue = ""
	_ = command.MarkFlagFilename("sign")
}

// directoryOf returns the directory of a run, whichever of it and its log was named.
func directoryOf(name string) (string, error) {
	about, err := os.Stat(name)
	switch {
	case err == nil && about.IsDir():
		return name, nil
	case err == nil && filepath.Base(name) == logName:
		return filepath.Dir(name), nil
	case err == nil:
		err = fmt.Errorf("%s is not the directory of a run", name)
	}
	return "", &drill.Error{Op: "find the run", Kind: drill.Invalid, Err: err, Hint: "Name the directory that the run left below --out: it holds " + logName + "."}
}

func newKeyCommand(s streams) *cobra.Command {
	command := &cobra.Command{
		Use:   "key",
		Short: "Make the keys that runs are signed with",
		Long:  "Makes the keys that runs are signed with and verified by.\n" + exitStatusHelp,
	}
	open := false
	make := &cobra.Command{
		Use:   "new FILE",
		Short: "Make a pair of keys: FILE to sign with, FILE.pub to verify by",
		Long: `Makes a pair of keys in the form of minisign. FILE is private: it signs runs (--sign), and a password protects it, asked for or taken
from $` + signPasswordVariable + `. FILE.pub is for everybody who verifies them (firedrill verify, or minisign -V). A file that is there already is never
overwritten.

EXIT STATUS
  0    made
  2    usage; a file is there already; no password
  70   our own fault`,
		Example: "  firedrill key new team.key\n  FIREDRILL_SIGN_PASSWORD=… firedrill pipeline --sign team.key\n  firedrill verify firedrill-out/20261123T101502Z-0a1b2c --key team.key.pub",
		Args:    exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			return makeKeys(s, args[0], open)
		},
	}
	make.Flags().BoolVar(&open, "no-password", false, "leave the private key open: only the rights of its file protect it")
	command.AddCommand(make)
	return command
}

func makeKeys(s streams, file string, open bool) error {
	refuse := func(err error, hint string) error {
		return &drill.Error{Op: "key new", Kind: drill.Invalid, Err: err, Hint: hint}
	}
	for _, name := range []string{file, file + ".pub"} {
		if _, err := os.Lstat(name); err == nil {
			return refuse(fmt.Errorf("%s is there already", name), "Name another file: what was signed with a lost key can still be verified, but nothing new signed.")
		}
	}
	password := ""
	if !open {
		var err error
		if password, err = askPassword(s, "Password for "+file+": "); err != nil {
			return refuse(err, "Put one into "+signPasswordVariable+", or say --no-password.")
		}
		if password == "" {
			return refuse(errors.New("the password is empty"), "Give one, or say --no-password.")
		}
	}
	private, public, err := attest.NewKey(password)
	if err != nil {
		return err
	}
	if err := writeNew(file, private, 0o600); err != nil {
		return refuse(err, "Name a file in a directory that can be written to.")
	}
	if err := writeNew(file+".pub", public, 0o644); err != nil {
		return refuse(errors.Join(err, os.Remove(file)), "Name a file in a directory that can be written to.")
	}
	key, err := attest.ParsePublicKey(public)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "key %s: %s signs, %s.pub verifies\n", key.ID(), file, file)
	return nil
}

// writeNew writes a file that must not be there, and leaves none behind that is not whole.
func writeNew(name string, text []byte, mode os.FileMode) error {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
