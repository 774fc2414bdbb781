//go:build !hostpart

package cli

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/attest"
	"firedrill/internal/drill"
	"firedrill/internal/playbook"
)

//go:embed playbook_new.md
var newPlaybookText []byte

func newPlaybookCommand(s streams) *cobra.Command {
	command := &cobra.Command{
		Use:   "playbook",
		Short: "Hold playbooks to their schema, agree on them, and rehearse them",
		Long: `A playbook says what people do when something is lost: whom to tell, within which time, which commands, and what each must print. It is
Markdown with a head of YAML (docs/playbooks.md). check holds it to that form and to the service file; approve says that a role agrees to
exactly this text; run follows it with a person, step by step; drill follows it by itself, where every step is executable.
` + exitStatusHelp,
	}
	command.AddCommand(newPlaybookNewCommand(s), newPlaybookCheckCommand(s), newPlaybookApproveCommand(s), newPlaybookRunCommand(s), newPlaybookDrillCommand(s))
	return command
}

func newPlaybookNewCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "new FILE",
		Short: "Write a playbook to start from",
		Long:  "Writes a playbook with every part that one must have, to be filled in. A file that is there already is not touched.\n\nEXIT STATUS\n  0    written\n  2    the file is there already, or cannot be written",
		Args:  exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := writeNew(args[0], newPlaybookText, 0o644); err != nil {
				return &drill.Error{Op: "playbook new", Kind: drill.Invalid, Err: err, Hint: "Name a new file in a directory that can be written to."}
			}
			fmt.Fprintf(s.out, "%s is written; fill it in, then: firedrill playbook check %s\n", args[0], args[0])
			return nil
		},
	}
}

// readPlaybook reads a playbook and, if there is one, compares it with the service.
func readPlaybook(name string, service *drill.Service) (playbook.Playbook, []byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return playbook.Playbook{}, nil, &drill.Error{Op: "read the playbook", Kind: drill.Invalid, Err: err, Hint: "Begin one with: firedrill playbook new " + name}
	}
	book, err := playbook.Parse(text, name)
	if err == nil && service != nil {
		err = drill.Mistakes(book.Against(*service)...)
	}
	return book, text, err
}

// serviceBeside reads the service file when it was named or is there.
func serviceBeside(command *cobra.Command, file string) (*drill.Service, error) {
	service, err := loadService(file)
	if errors.Is(err, fs.ErrNotExist) && !command.Flags().Changed("file") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &service, nil
}

// checkedPlaybook is what check says of one file.
type checkedPlaybook struct {
	File       string   `json:"file"`
	Title      string   `json:"title"`
	For        string   `json:"for"`
	Hash       string   `json:"hash"`
	Steps      int      `json:"steps"`
	Executable int      `json:"executable"`
	Silent     []string `json:"silent,omitempty"` // commands that do not say what they print
	Agreed     []string `json:"agreed"`
	Missing    []string `json:"missing"`
}

func newPlaybookCheckCommand(s streams) *cobra.Command {
	var file string
	var keys []string
	var agreed, asJSON bool
	command := &cobra.Command{
		Use:   "check [PLAYBOOK...]",
		Short: "Say whether playbooks are whole, fit the service, and are agreed on",
		Long: `Checks each playbook: every part that must be there, commands with what they print, objectives no weaker than the service file's; and says
which roles agree to exactly this text. Without arguments it checks the playbooks that the service file names, and that every critical
dependency has one.

EXIT STATUS
  0    whole
  1    a critical dependency has no playbook; with --agreed: a role has not agreed to this text, or not within a year
  2    a playbook or the service file has mistakes; each is printed with its line
  70   our own fault`,
		Example: "  firedrill playbook check\n  firedrill playbook check playbooks/*.md --agreed --key ops.pub",
		RunE: func(command *cobra.Command, args []string) error {
			trusted, err := readPublicKeys(keys)
			if err != nil {
				return err
			}
			service, err := serviceBeside(command, file)
			if err != nil {
				return err
			}
			return checkPlaybooks(s, service, file, args, trusted, agreed, asJSON)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&file, "file", "f", defaultFile, "service file")
	flags.StringArrayVar(&keys, "key", nil, "count only approvals signed by this public key: its file, or its line; may be given several times")
	flags.BoolVar(&agreed, "agreed", false, "a playbook that not every role agrees to fails")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	_ = command.MarkFlagFilename("file", "yaml", "yml")
	_ = command.MarkFlagFilename("key", "pub")
	return command
}

func checkPlaybooks(s streams, service *drill.Service, file string, names []string, trusted []attest.PublicKey, agreed, asJSON bool) error {
	var without []string
	if len(names) == 0 {
		if service == nil {
			return &drill.Error{Op: "playbook check", Kind: drill.Invalid, Err: fmt.Errorf("no playbook named, and there is no %s", file), Hint: "Name playbooks, or stand beside the service file."}
		}
		names, without = namedPlaybooks(*service, file)
	}
	var mistakes []error
	var checked []checkedPlaybook
	for _, name := range names {
		book, _, err := readPlaybook(name, service)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		one, err := agreement(book, trusted)
		if err != nil {
			return err
		}
		checked = append(checked, one)
	}
	if err := printChecked(s, checked, asJSON); err != nil {
		return err
	}
	for _, name := range without {
		fmt.Fprintf(s.err, "firedrill: the critical dependency %s has no playbook; write one (firedrill playbook new) and name it there as playbook:\n", name)
	}
	if err := errors.Join(mistakes...); err != nil {
		return err
	}
	open := len(without) > 0
	for _, one := range checked {
		open = open || agreed && len(one.Missing) > 0
	}
	if open {
		return exitError{exitFailed}
	}
	return nil
}

// namedPlaybooks are those that the service file names, and the critical dependencies for which it names none.
func namedPlaybooks(service drill.Service, file string) (names, without []string) {
	for _, dependency := range service.Dependencies {
		switch {
		case dependency.Playbook != "":
			names = append(names, besideFile(file, dependency.Playbook))
		case dependency.Critical != "":
			without = append(without, dependency.Name)
		}
	}
	return names, without
}

// agreement says who agrees to the playbook.
func agreement(book playbook.Playbook, trusted []attest.PublicKey) (checkedPlaybook, error) {
	executable, steps := book.Executable()
	one := checkedPlaybook{File: book.File, Title: book.Head.Title, For: book.Head.For, Hash: book.Hash, Steps: steps, Executable: executable, Agreed: []string{}}
	for _, part := range book.Parts {
		for _, step := range part.Steps {
			if !step.ByHand() && step.Expect == nil {
				one.Silent = append(one.Silent, step.Title)
			}
		}
	}
	all, err := readApprovals(book.File)
	if err != nil {
		return one, err
	}
	held, missing := playbook.Agreed(all, book.Hash, time.Now(), func(a playbook.Approval) bool { return signedByOne(a, trusted) })
	for _, approval := range held {
		one.Agreed = append(one.Agreed, approval.Role)
	}
	one.Missing = missing
	return one, nil
}

func readApprovals(file string) ([]playbook.Approval, error) {
	text, err := os.ReadFile(file + playbook.ApprovalsSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		var all []playbook.Approval
		if all, err = playbook.ParseApprovals(text, file+playbook.ApprovalsSuffix); err == nil {
			return all, nil
		}
	}
	return nil, &drill.Error{Op: "read who agreed", Kind: drill.Invalid, Err: err, Hint: "Each line is what firedrill playbook approve wrote; take a bad one out and let that role approve again."}
}

func signedByOne(approval playbook.Approval, trusted []attest.PublicKey) bool {
	if len(trusted) == 0 {
		return true
	}
	for _, key := range trusted {
		if key.Verify(approval.Statement(), []byte(approval.Signature)) == nil {
			return true
		}
	}
	return false
}

func printChecked(s streams, checked []checkedPlaybook, asJSON bool) error {
	if asJSON {
		if checked == nil {
			checked = []checkedPlaybook{}
		}
		return printJSON(s, checked)
	}
	for _, one := range checked {
		fmt.Fprintf(s.out, "%s: whole; for %s, %d steps, %d of them executable\n", one.File, one.For, one.Steps, one.Executable)
		if len(one.Silent) > 0 {
			fmt.Fprintf(s.out, "  does not say what it prints: %s\n", strings.Join(one.Silent, ", "))
		}
		if len(one.Missing) > 0 {
			fmt.Fprintf(s.out, "  not agreed to by: %s\n", strings.Join(one.Missing, ", "))
		}
	}
	return nil
}

func newPlaybookApproveCommand(s streams) *cobra.Command {
	var role, by, keyFile string
	command := &cobra.Command{
		Use:   "approve PLAYBOOK",
		Short: "Say that a role agrees to a playbook as it is written now",
		Long: `Writes into PLAYBOOK` + playbook.ApprovalsSuffix + ` that a role agrees to exactly this text: one byte changed, or a year gone by, and it counts no longer. With
--sign the approval is signed, so that nobody else can have written it.

EXIT STATUS
  0    written
  2    the playbook has mistakes; the key cannot be opened; wrong flags
  70   our own fault`,
		Example: "  firedrill playbook approve playbooks/database.md --role ops --sign ops.key",
		Args:    exactly("PLAYBOOK"),
		RunE: func(_ *cobra.Command, args []string) error {
			book, _, err := readPlaybook(args[0], nil)
			if err != nil {
				return err
			}
			key, err := loadSigner(s, keyFile)
			if err != nil {
				return err
			}
			approval := playbook.Approval{Hash: book.Hash, Role: role, By: by, At: time.Now().UTC().Truncate(time.Second)}
			if key != nil {
				approval.Signature = string(key.SignText(approval.Statement(), "approval of "+book.Hash+" as "+role))
			}
			return writeApproval(s, args[0], approval)
		},
	}
	flags := command.Flags()
	flags.StringVar(&role, "role", "", "who agrees: "+strings.Join(playbook.Roles, ", "))
	flags.StringVar(&by, "by", owner(), "who that is")
	flags.Lookup("by").DefValue = "user@host"
	addSignFlag(command, &keyFile)
	_ = command.MarkFlagRequired("role")
	_ = command.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(playbook.Roles, cobra.ShellCompDirectiveNoFileComp))
	return command
}

func writeApproval(s streams, name string, approval playbook.Approval) error {
	line, err := approval.Line()
	if err != nil {
		return err
	}
	if _, err := playbook.ParseApprovals(line, "--role"); err != nil {
		return &drill.Error{Op: "playbook approve", Kind: drill.Invalid, Err: fmt.Errorf("there is no role %q", approval.Role), Hint: "Take one of " + strings.Join(playbook.Roles, ", ") + "."}
	}
	file, err := os.OpenFile(name+playbook.ApprovalsSuffix, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = file.Write(line)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return &drill.Error{Op: "playbook approve", Kind: drill.Invalid, Err: err, Hint: "The approval is kept beside the playbook."}
	}
	fmt.Fprintf(s.out, "%s agrees to %s as it is written now (%s)\n", approval.Role, name, approval.Hash[:16])
	return nil
}
