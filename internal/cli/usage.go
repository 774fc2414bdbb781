package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"firedrill/internal/drill"
)

// printExitStatus is of commands that only print.
const printExitStatus = `

EXIT STATUS
  0    printed
  2    usage: a wrong flag or argument
  70   our own fault`

// dress gives every command below root what all of them share: mistakes in arguments and flags are explained in our words and with what
// was probably meant, groups of commands show their help, and the commands that cobra adds have exit codes too.
func dress(root *cobra.Command) {
	root.SetHelpCommand(newHelpCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	dressAll(root)
}

// dressAll dresses the commands that are there, and adds none.
func dressAll(root *cobra.Command) {
	root.SetFlagErrorFunc(flagError)
	forEach(root, func(command *cobra.Command) {
		refuseServer(command)
		if belongsTo(command, "completion") {
			command.Long = plain(command.Long) + printExitStatus
		}
		check := command.Args
		if command.HasSubCommands() && (check == nil || !command.Runnable()) {
			check = knownCommand
		}
		if !command.Runnable() {
			command.RunE = func(command *cobra.Command, _ []string) error { return command.Help() }
		}
		if check != nil {
			command.Args = func(command *cobra.Command, args []string) error {
				return argumentError(command, args, check(command, args))
			}
		}
	})
}

func forEach(command *cobra.Command, do func(*cobra.Command)) {
	do(command)
	for _, child := range command.Commands() {
		forEach(child, do)
	}
}

func belongsTo(command *cobra.Command, name string) bool {
	return command.Name() == name || (command.HasParent() && command.Parent().Name() == name)
}

// plain turns the Markdown headings that cobra's own pages hold into lines of text.
func plain(long string) string {
	return strings.TrimSpace(strings.ReplaceAll(long, "#### ", ""))
}

// operation names a command without the program, which every message begins with.
func operation(command *cobra.Command) string {
	return strings.TrimPrefix(strings.TrimPrefix(command.CommandPath(), command.Root().Name()), " ")
}

// knownCommand refuses any argument: a known command would have been found.
func knownCommand(command *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &drill.Error{
		Op: operation(command), Kind: drill.Invalid, Hint: "see: " + command.CommandPath() + " --help",
		Err: fmt.Errorf("there is no command %q; %s", args[0], drill.Suggest(args[0], available(command))),
	}
}

func available(command *cobra.Command) []string {
	var names []string
	for _, child := range command.Commands() {
		if child.IsAvailableCommand() || child.Name() == "help" {
			names = append(names, child.Name())
		}
	}
	return names
}

// argumentError explains what cobra says of arguments in a word or two.
func argumentError(command *cobra.Command, args []string, err error) error {
	var explained *drill.Error
	if err == nil || errors.As(err, &explained) {
		return err
	}
	none := strings.HasPrefix(err.Error(), "unknown command") // that is how cobra says that there are arguments where none belong
	switch {
	case none && command.HasSubCommands():
		return knownCommand(command, args)
	case none:
		err = fmt.Errorf("takes no argument such as %q", args[0])
	default:
		err = fmt.Errorf("%d arguments given", len(args))
	}
	return &drill.Error{Op: operation(command), Kind: drill.Invalid, Err: err, Hint: "usage: " + command.UseLine()}
}

// flagError says which flag was probably meant.
func flagError(command *cobra.Command, err error) error {
	if told, is := serverRefused(command, err); is {
		return told
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" {
		var known []string
		command.Flags().VisitAll(func(flag *pflag.Flag) { known = append(known, "--"+flag.Name) })
		err = fmt.Errorf("%w; %s", err, drill.Suggest("--"+unknown.GetSpecifiedName(), known))
	}
	return &drill.Error{Op: operation(command), Kind: drill.Invalid, Err: err, Hint: "see: " + command.CommandPath() + " --help"}
}

// newHelpCommand makes "firedrill help": cobra's own takes a command that is not there for success.
func newHelpCommand() *cobra.Command {
	find := func(root *cobra.Command, words []string) (*cobra.Command, error) {
		found := root
		for _, word := range words {
			child := childOf(found, word)
			if child == nil {
				return nil, knownCommand(found, []string{word})
			}
			found = child
		}
		return found, nil
	}
	return &cobra.Command{
		Use:   "help [COMMAND...]",
		Short: "Show the page of a command",
		Long:  "Shows the page of a command, as firedrill help attack blackhole. Where -h is free it is short for --help." + printExitStatus,
		RunE: func(command *cobra.Command, args []string) error {
			found, err := find(command.Root(), args)
			if err != nil {
				return err
			}
			found.InitDefaultHelpFlag() // so that the page shows it
			return found.Help()
		},
		ValidArgsFunction: func(command *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			found, err := find(command.Root(), args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []cobra.Completion
			for _, child := range found.Commands() {
				if child.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(child.Name(), child.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func childOf(command *cobra.Command, name string) *cobra.Command {
	for _, child := range command.Commands() {
		if child.Name() == name {
			return child
		}
	}
	return nil
}
