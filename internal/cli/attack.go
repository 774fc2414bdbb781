package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"firedrill/internal/attack"
	"firedrill/internal/attack/kinds"
	"firedrill/internal/drill"
)

const attackExitStatus = `EXIT STATUS
  0    it bit, and it is gone
  1    certificate: one would be expired
  2    usage: a wrong flag, or a name that does not resolve
  3    nothing shows that it bit, or it ended before its time
  4    refused by a safeguard, or this host lacks what is needed
  5    NOT REVERTED: impact may still be in force, act by hand
  70   our own fault
  129, 130, 143   ended early by a lost connection, Ctrl-C, or SIGTERM and halt; reverted`

// newAttackCommand makes "firedrill attack": one subcommand for each kind, made from the kind's own description. The whole program adds
// the list of them.
func newAttackCommand(s streams) *cobra.Command {
	attackCmd := &cobra.Command{
		Use:   attackUse,
		Short: "Break something on this host for a while, and take it back",
		Long: "Break something on this host for a while, and take it back.\n\n" +
			"The kinds are: " + kinds.Names() + "; see: firedrill attack list.\n" +
			"Lists are separated by commas, or the flag is repeated. ^ before an item spares it, and spares win.\n\n" + attackExitStatus,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError("attack", "name a kind of attack: %s", kinds.Names())
			}
			return usageError("attack", "there is no attack %q; %s", args[0], drill.Suggest(args[0], strings.Split(kinds.Names(), ", ")))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	for _, kind := range kinds.All() {
		described := kind.Describe()
		kindCmd := newKindCommand(s, kind, described)
		for _, flag := range described.Flags {
			_ = kindCmd.RegisterFlagCompletionFunc(flag.Name, completeAttackFlag(flag)) // fails only for a flag that is not defined
		}
		attackCmd.AddCommand(kindCmd)
	}
	return attackCmd
}

const attackUse = "attack KIND [flags]"

// newAttackCommandFor makes "firedrill attack" with one kind alone: describing all of them takes a twentieth of the time until the first
// drop.
func newAttackCommandFor(s streams, kind attack.Kind, described drill.AttackKind) *cobra.Command {
	attackCmd := &cobra.Command{Use: attackUse}
	attackCmd.AddCommand(newKindCommand(s, kind, described))
	return attackCmd
}

func usageError(op, format string, args ...any) error {
	return &drill.Error{Op: op, Kind: drill.Invalid, Hint: "see: firedrill help " + op, Err: fmt.Errorf(format, args...)}
}

func newKindCommand(s streams, kind attack.Kind, described drill.AttackKind) *cobra.Command {
	invocation := attack.Invocation{Kind: kind, Known: described, Others: kinds.All(), In: s.in, Out: s.out}
	texts := map[string]*flagText{}
	kindCmd := &cobra.Command{
		Use:   described.Name + " [flags]",
		Short: described.Summary,
		Long: described.Summary + ".\n\nIf all of us die at once, this remains: " + described.Remains +
			".\nCtrl-C, SIGTERM, firedrill halt and a lost SSH session end it early and take it back.\n\n" + attackExitStatus,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			invocation.Flags = given(texts)
			return runAttack(cmd.Context(), s, invocation)
		},
	}
	flags := kindCmd.Flags()
	flags.SortFlags = false
	flags.Bool("help", false, "show this page") // without -h, which is the host name
	addKindFlags(flags, texts, described)
	flags.StringVar(&invocation.GUID, "guid", "", "name of this attack, a UUID; the same one cannot run twice (default: a new one)")
	flags.StringArrayVar(&invocation.Canaries, "canary", nil, "host:port that must answer before and after, and not in between; repeat for more")
	flags.BoolVar(&invocation.JSON, "json", false, "print events as JSON lines")
	flags.BoolVar(&invocation.Yes, "yes", false, "consent, where the policy of this host or the kind of attack asks for it")
	flags.BoolVar(&invocation.DryRun, "dry-run", false, "print the plan and stop; with --json as one JSON document")
	return kindCmd
}

// addKindFlags adds the flags of a kind of attack, and where what is given for each is kept.
func addKindFlags(flags *pflag.FlagSet, texts map[string]*flagText, described drill.AttackKind) {
	for _, flag := range described.Flags {
		texts[flag.Name] = &flagText{flag: flag}
		flags.VarP(texts[flag.Name], flag.Name, flag.Short, flag.Usage)
		if flag.Type == attack.TypeBool {
			flags.Lookup(flag.Name).NoOptDefVal = "true"
		}
	}
}

// given are the flags that were given.
func given(texts map[string]*flagText) attack.Values {
	values := attack.Values{}
	for name, text := range texts {
		if len(text.given) > 0 {
			values[name] = text.given
		}
	}
	return values
}

// flagText keeps what was given for a flag as text: the kind reads it, so that a service file and the command line mean the same.
type flagText struct {
	flag  drill.AttackFlag
	given []string
}

func (f *flagText) String() string {
	if len(f.given) > 0 {
		return strings.Join(f.given, ",")
	}
	return f.flag.Default
}

func (f *flagText) Set(text string) error {
	f.given = append(f.given, text)
	return nil
}

func (f *flagText) Type() string { return f.flag.Type }

func runAttack(ctx context.Context, s streams, invocation attack.Invocation) error {
	_, err := attack.Start(ctx, invocation)
	var stopped *attack.Stopped
	if drill.KindOf(err) == drill.Interrupted && errors.As(err, &stopped) {
		fmt.Fprintf(s.err, "firedrill: %v; the impact is reverted\n", err)
		return exitError{code: stopped.Code}
	}
	return err
}

// newHaltCommand makes "firedrill halt".
func newHaltCommand(s streams) *cobra.Command {
	var asJSON, all bool
	var far farFleet
	haltCmd := &cobra.Command{
		Use:   "halt",
		Short: "End every attack on this host at once, or with --all or --server on every host of the fleet, and make sure that nothing is left",
		Long: "End every attack on this host at once: each is asked, then gets SIGTERM, then SIGKILL, after which the kernel takes the impact\n" +
			"back. Then what dead attacks left is removed, and looked for again.\n\n" +
			"With --all, or with --server, the same is done on every host of the fleet, through its server, and the lever is engaged: nothing begins\n" +
			"anew until a person releases it with firedrill fleet release. To end one run: firedrill fleet stop.\n\n" +
			"EXIT STATUS\n  0    nothing is in force any more\n  2    usage: a wrong flag or argument\n  3    the server cannot be reached\n  4    not enough rights to look\n" +
			"  5    something is still in force, or a host has not answered: act by hand\n  70   our own fault",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all || far.server != "" {
				far.json = asJSON
				return haltFleet(cmd.Context(), s, far)
			}
			return runHalt(cmd.Context(), s, asJSON)
		},
	}
	haltCmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	haltCmd.Flags().BoolVar(&all, "all", false, "on every host of the fleet, and engage the lever")
	haltCmd.Flags().StringVar(&far.reason, "reason", "", "of the whole fleet: why, for those who wonder")
	haltCmd.Flags().StringVar(&far.server, serverFlag, "", serverUsage+"; the same as --all there")
	haltCmd.Flags().StringVar(&far.credentials, "fleet", "", credentialsUsage)
	return haltCmd
}

// farFleet is what halt and status, which are in every program, say to the one that can speak to a server.
type farFleet struct {
	server, credentials string
	reason              string // of a halt
	json                bool
}

const credentialsUsage = "file with the credentials for the fleet's server (default: $FIREDRILL_FLEET, ~/.config/firedrill/fleet.json, or the server's own here)"

// halted is what halt prints as JSON.
type halted struct {
	Ended   []attack.Ended `json:"ended"`
	Removed []string       `json:"removed"`
	Left    []string       `json:"left"`
}

func runHalt(ctx context.Context, s streams, asJSON bool) error {
	ended, err := attack.HaltAll(ctx)
	taken, undone := takeBack(ctx, s)
	err = errors.Join(err, undone)
	result := halted{Ended: ended, Removed: append([]string{}, taken...)}
	for _, kind := range kinds.All() {
		sweeper, ok := kind.(attack.Sweeper)
		if !ok {
			continue
		}
		removed, sweepErr := sweeper.Sweep(ctx, attack.Alive)
		result.Removed = append(result.Removed, removed...)
		err = errors.Join(err, sweepErr)
	}
	left, lookErr := residue(ctx)
	result.Left, err = left, errors.Join(err, lookErr)
	if asJSON {
		err = errors.Join(err, printJSON(s, result))
	} else {
		for _, e := range result.Ended {
			fmt.Fprintf(s.out, "%s %s: ended (%s)\n", e.Attack, e.GUID, e.How)
		}
		for _, what := range result.Removed {
			fmt.Fprintf(s.out, "removed %s\n", what)
		}
		if len(result.Ended)+len(result.Left) == 0 && err == nil {
			fmt.Fprintln(s.out, "nothing is in force")
		}
	}
	if len(result.Left) > 0 {
		err = errors.Join(&drill.Error{Op: "halt", Kind: drill.NotReverted, Err: fmt.Errorf("still there: %s", strings.Join(result.Left, ", ")),
			Hint: "as root: nft delete TABLE; if that is refused, end the process that owns it, or reboot"}, err)
	}
	return err
}
