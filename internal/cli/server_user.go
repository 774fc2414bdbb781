//go:build !hostpart

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/web/account"
)

// usersFile lies in the fleet's directory, beside what only its owner may read too.
const usersFile = "users.json"

func usersPath(data string) string { return filepath.Join(data, fleetDirectory, usersFile) }

type serverUserOptions struct {
	data          string
	passwordStdin bool
	json          bool
}

func (o serverUserOptions) book() *account.Book { return account.Open(usersPath(o.data)) }

const userExitStatus = `

EXIT STATUS
  0    done
  2    usage: a wrong flag, name or password
  70   our own fault`

func newServerUserCommand(s streams) *cobra.Command {
	o := serverUserOptions{}
	command := &cobra.Command{
		Use:   "user",
		Short: "Say who may log in to the dashboard of the fleet",
		Long: `Says who may log in to the dashboard (firedrill server --fleet-http), with which role, and what they may attack. The users are a file in the
server's directory; of a password it holds an argon2id hash alone. A server that runs takes changes up at once: who is removed, or has a
new password, is logged out everywhere.

A viewer sees everything and halts; an operator starts attacks and releases the lever too; an admin sees who may do what. --service and --kind
bound what a user may attack. A second factor is turned on by its owner, on the page Settings.` + userExitStatus,
		Example: `  firedrill server user add ann --role admin --data /var/lib/firedrill-server
  firedrill server user add bob --role operator --service bookstore --kind blackhole --kind dns
  firedrill server user list`,
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.PersistentFlags().StringVar(&o.data, "data", serverStateOf, "the server's directory")
	command.PersistentFlags().BoolVar(&o.json, "json", false, "print JSON")
	command.AddCommand(newServerUserAddCommand(s, &o), newServerUserPasswordCommand(s, &o), newServerUserRemoveCommand(s, &o), newServerUserListCommand(s, &o))
	return command
}

const passwordStdinUsage = "read the password from standard input, one line, in place of asking for it"

func newServerUserAddCommand(s streams, o *serverUserOptions) *cobra.Command {
	var user account.User
	command := &cobra.Command{
		Use: "add NAME", Short: "Let somebody in", Args: cobra.ExactArgs(1),
		Long: "Lets somebody log in to the dashboard. The password is asked for twice, or read from standard input." + userExitStatus,
		RunE: func(_ *cobra.Command, args []string) error {
			user.Name = args[0]
			password := ""
			if user.Subject == "" || o.passwordStdin {
				var err error
				if password, err = askNewPassword(s, *o, user.Name); err != nil {
					return err
				}
			}
			if err := o.book().Put(user, password, time.Now()); err != nil {
				return err
			}
			return o.said(s, fmt.Sprintf("%s may log in, as %s", user.Name, user.Role), user.Name)
		},
	}
	flags := command.Flags()
	flags.StringVar(&user.Role, "role", fleet.RoleViewer, "viewer, operator or admin")
	flags.StringSliceVar(&user.Services, "service", nil, "may attack hosts of this service alone; repeat for more (default all)")
	flags.StringSliceVar(&user.Kinds, "kind", nil, "may attack with this kind alone; repeat for more (default all)")
	flags.StringVar(&user.Subject, "subject", "", "the person's subject at the identity provider (sub of the token), for a log-in without a password here")
	flags.BoolVar(&o.passwordStdin, "password-stdin", false, passwordStdinUsage)
	_ = command.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{fleet.RoleViewer, fleet.RoleOperator, fleet.RoleAdmin}, cobra.ShellCompDirectiveNoFileComp))
	return command
}

func newServerUserPasswordCommand(s streams, o *serverUserOptions) *cobra.Command {
	command := &cobra.Command{
		Use: "password NAME", Short: "Give a user a new password", Args: cobra.ExactArgs(1),
		Long: "Gives a user a new password, and logs the user out everywhere. A second factor stays on; --no-factor turns it off, for who has lost the phone." + userExitStatus,
	}
	noFactor := command.Flags().Bool("no-factor", false, "turn the second factor off")
	command.Flags().BoolVar(&o.passwordStdin, "password-stdin", false, passwordStdinUsage)
	command.RunE = func(_ *cobra.Command, args []string) error {
		password, err := askNewPassword(s, *o, args[0])
		if err != nil {
			return err
		}
		if err := o.book().SetPassword(args[0], password, time.Now()); err != nil {
			return err
		}
		if *noFactor {
			if err := o.book().SetSecret(args[0], "", "", time.Now()); err != nil {
				return err
			}
		}
		return o.said(s, args[0]+" has a new password, and is logged out", args[0])
	}
	return command
}

func newServerUserRemoveCommand(s streams, o *serverUserOptions) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Put a user out", Args: cobra.ExactArgs(1),
		Long: "Puts a user out: the log-in is gone, and all sessions end at once. What the user began goes on; end it with firedrill fleet stop." + userExitStatus,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := o.book().Remove(args[0]); err != nil {
				return err
			}
			return o.said(s, args[0]+" is put out", args[0])
		},
	}
}

// listedUser is a user without what nobody needs to see.
type listedUser struct {
	Name     string    `json:"name"`
	Role     string    `json:"role"`
	Services []string  `json:"services"`
	Kinds    []string  `json:"kinds"`
	Password bool      `json:"password"`
	Factor   bool      `json:"second_factor"`
	Subject  string    `json:"subject,omitempty"`
	Changed  time.Time `json:"changed"`
}

func newServerUserListCommand(s streams, o *serverUserOptions) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List who may log in", Args: cobra.NoArgs,
		Long: "Lists who may log in to the dashboard, as what, and what they may attack." + userExitStatus,
		RunE: func(*cobra.Command, []string) error {
			users, err := o.book().List()
			if err != nil {
				return err
			}
			listed := []listedUser{}
			for _, u := range users {
				listed = append(listed, listedUser{u.Name, u.Role, append([]string{}, u.Services...), append([]string{}, u.Kinds...), u.Hash != "", u.Secret != "", u.Subject, u.Changed})
			}
			if o.json {
				return printJSON(s, listed)
			}
			table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "NAME\tROLE\tSERVICES\tKINDS\tPASSWORD\tSECOND FACTOR\tSUBJECT")
			all := func(names []string) string {
				if len(names) == 0 {
					return "all"
				}
				return strings.Join(names, ",")
			}
			word := map[bool]string{true: "yes", false: "no"}
			for _, u := range listed {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", u.Name, u.Role, all(u.Services), all(u.Kinds), word[u.Password], word[u.Factor], orDash(u.Subject))
			}
			return table.Flush()
		},
	}
}

// userChange is what was done to a user.
type userChange struct {
	Done string `json:"done"`
	Name string `json:"name"`
}

func (o serverUserOptions) said(s streams, text, name string) error {
	if o.json {
		return printJSON(s, userChange{Done: text, Name: name})
	}
	fmt.Fprintln(s.out, text)
	return nil
}

// askNewPassword reads a new password: twice from a terminal, or one line.
func askNewPassword(s streams, o serverUserOptions, name string) (string, error) {
	file, terminal := s.in.(*os.File)
	if o.passwordStdin || !terminal || !term.IsTerminal(int(file.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(s.in, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(s.err, prompt)
		text, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(s.err)
		return string(text), err
	}
	first, err := ask("new password of " + name + ": ")
	if err != nil {
		return "", err
	}
	again, err := ask("again: ")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", &drill.Error{Op: "password", Kind: drill.Invalid, Err: errors.New("the two differ")}
	}
	return first, nil
}
