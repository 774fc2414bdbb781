//go:build !hostpart

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/history"
)

type databaseOptions struct {
	file, name          string
	asJSON, dryRun      bool
	allowLoss, unfenced bool
	force               bool
	to                  string // host, "" if it is for us to choose
}

func newDatabaseCommand(s streams) *cobra.Command {
	command := &cobra.Command{
		Use:   "database",
		Short: "See which server of a database is the primary, move it, fence an old one, rebuild it",
		Long: `Looks at the databases of the service file and moves their primaries: the old primary is fenced first, then a standby is promoted, and then
it is proven by writes that the new primary takes them and the old one does not. docs/databases.md tells what the database must allow.` + printExitStatus,
	}
	command.AddCommand(
		newDatabaseStatusCommand(s), newDatabaseSwitchCommand(s), newDatabasePromoteCommand(s), newDatabaseFenceCommand(s), newDatabaseArmCommand(s),
		newDatabaseRebuildCommand(s), newDatabaseHistoryCommand(s),
	)
	return command
}

func (o *databaseOptions) addFlags(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&o.file, "file", "firedrill.yaml", "service file")
	flags.StringVar(&o.name, "name", "", "database (default: all for status, the only one for the others)")
	flags.BoolVar(&o.asJSON, "json", false, "print JSON: status and history as one value, everything else as one event on each line")
	flags.Bool("help", false, "show this help")
	_ = command.MarkFlagFilename("file", "yaml", "yml") // fails only for a flag that is not defined
}

func newDatabaseStatusCommand(s streams) *cobra.Command {
	var options databaseOptions
	command := &cobra.Command{
		Use:   "status",
		Short: "Show which server is the primary, and how far the others are",
		Args:  cobra.NoArgs,
		Long: `Asks every server of the databases of the service file what it is. Positions count bytes of the log; they help to choose a standby, and say
nothing of what was lost.

EXIT STATUS
  0    each database has one primary, and every other server follows it
  1    a database has no primary or more than one, or a server does not follow
  2    usage, or the service file is wrong`,
		RunE: func(command *cobra.Command, _ []string) error { return databaseStatus(command.Context(), s, options) },
	}
	options.addFlags(command)
	return command
}

const databaseMoveHelp = `

EXIT STATUS
  0    done, and proven: the new primary acknowledged a write, and the old one was tried and did not
  1    it failed on the way, or the old primary accepted a write: two servers take writes
  2    usage, or the service file is wrong
  3    a server could not be reached, or it did not happen in time
  4    refused, and nothing was promoted: a standby is too far behind, or the old primary cannot be fenced`

func newDatabaseSwitchCommand(s streams) *cobra.Command {
	var options databaseOptions
	command := &cobra.Command{
		Use:   "switch [HOST]",
		Short: "Move a primary that is well to a standby, losing nothing",
		Args:  cobra.MaximumNArgs(1),
		Long: `Stops the primary cleanly and arms it, waits until the standby has everything that it wrote, promotes the standby, and proves it by writes.
Without HOST the standby that is furthest is taken. The old primary stays stopped until it is rebuilt: firedrill database rebuild.` + databaseMoveHelp,
		ValidArgsFunction: databaseHosts(&options),
		RunE: func(command *cobra.Command, args []string) error {
			return databaseMove(command.Context(), s, options, database.Order{To: first(args), Planned: true})
		},
	}
	options.addFlags(command)
	command.Flags().BoolVar(&options.dryRun, "dry-run", false, "say what would be done, and do nothing")
	return command
}

func newDatabasePromoteCommand(s streams) *cobra.Command {
	var options databaseOptions
	command := &cobra.Command{
		Use:   "promote [HOST]",
		Short: "Make a standby the primary after the primary was lost",
		Args:  cobra.MaximumNArgs(1),
		Long: `Fences the old primary, promotes a standby, and proves it by writes. Without HOST the standby that is furthest is taken. A standby that is
further behind what was last seen of the primary than lag_max_bytes of the service file is refused; so is one of which that is not known. The watch remembers the primary, and is asked.` + databaseMoveHelp,
		ValidArgsFunction: databaseHosts(&options),
		RunE: func(command *cobra.Command, args []string) error {
			order := database.Order{To: first(args), AllowLoss: options.allowLoss, Unfenced: options.unfenced}
			return databaseMove(command.Context(), s, options, order)
		},
	}
	options.addFlags(command)
	flags := command.Flags()
	flags.BoolVar(&options.dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.BoolVar(&options.allowLoss, "allow-loss", false, "also when acknowledged writes may be lost")
	flags.BoolVar(&options.unfenced, "unfenced", false, "also when the old primary cannot be fenced: you have seen that it is dead")
	return command
}

func newDatabaseFenceCommand(s streams) *cobra.Command {
	var options databaseOptions
	command := &cobra.Command{
		Use:   "fence HOST",
		Short: "Keep a server from taking writes, whatever restarts there",
		Args:  cobra.ExactArgs(1),
		Long: `Stops the server and makes sure that it comes back as a standby or not at all, then tries to write there. The only primary is fenced with
--force alone: nothing takes writes then.

EXIT STATUS
  0    fenced, and no write was acknowledged there
  1    a write was acknowledged there all the same
  2    usage, or the service file is wrong
  3    it could not be reached, or did not stop in time
  4    refused: it is the only primary, or that it writes no more is not certain`,
		ValidArgsFunction: databaseHosts(&options),
		RunE: func(command *cobra.Command, args []string) error {
			return databaseFence(command.Context(), s, options, args[0])
		},
	}
	options.addFlags(command)
	command.Flags().BoolVar(&options.force, "force", false, "also when it is the only primary")
	return command
}

func newDatabaseArmCommand(s streams) *cobra.Command {
	var options databaseOptions
	command := &cobra.Command{
		Use:   "arm",
		Short: "Make the primary one that comes back as a standby after a crash",
		Args:  cobra.NoArgs,
		Long: `Arms the primary: it runs on unchanged, and whatever starts it again starts a standby, until somebody promotes one. So a host that was lost
is harmless when it comes back (driver postgresql). Every primary that firedrill makes is armed.

EXIT STATUS
  0    the primary is armed
  2    usage, or the service file is wrong
  3    it could not be reached
  4    there is not one primary, or its driver knows no arming`,
		RunE: func(command *cobra.Command, _ []string) error { return databaseArm(command.Context(), s, options) },
	}
	options.addFlags(command)
	return command
}

func newDatabaseRebuildCommand(s streams) *cobra.Command {
	var options databaseOptions
	command := &cobra.Command{
		Use:   "rebuild HOST",
		Short: "Make a standby of an old primary, throwing away what only it has",
		Args:  cobra.ExactArgs(1),
		Long: `Makes the server a standby of the primary and waits until it follows. What only it wrote is thrown away; a server that follows already is left
as it is. Then it is tried: it must refuse writes.

EXIT STATUS
  0    it follows, and refuses writes
  1    it could not be rebuilt, or it accepts writes
  2    usage, or the service file is wrong
  3    it could not be reached, or does not follow in time
  4    refused: there is not one primary, or the server is the primary`,
		ValidArgsFunction: databaseHosts(&options),
		RunE: func(command *cobra.Command, args []string) error {
			return databaseRebuild(command.Context(), s, options, args[0])
		},
	}
	options.addFlags(command)
	command.Flags().BoolVar(&options.dryRun, "dry-run", false, "say what would be done, and do nothing")
	return command
}

func newDatabaseHistoryCommand(s streams) *cobra.Command {
	var options databaseOptions
	command := &cobra.Command{
		Use:   "history",
		Short: "Show what a database, or its manager, has recorded about itself",
		Args:  cobra.NoArgs,
		Long: `Shows what the manager of a database has written down about its moves, oldest first (drivers patroni and rds). After a move by firedrill
the lines since its begin are told with it.

EXIT STATUS
  0    shown
  2    usage, or the service file is wrong
  3    nobody answers
  4    its driver keeps no history`,
		RunE: func(command *cobra.Command, _ []string) error { return databaseHistory(command.Context(), s, options) },
	}
	options.addFlags(command)
	return command
}

func databaseHistory(ctx context.Context, s streams, options databaseOptions) error {
	d, err := options.only()
	if err != nil {
		return err
	}
	keeps, does := d.driver.(database.Historian)
	if !does {
		return &drill.Error{Op: "history", Kind: drill.Unsupported, Err: fmt.Errorf("driver %s keeps no history", d.Driver), Hint: "What firedrill itself did stands in the logs of its runs, and in: firedrill watch history"}
	}
	records, err := keeps.History(ctx)
	if err != nil {
		return err
	}
	if options.asJSON {
		return printJSON(s, append([]database.Record{}, records...))
	}
	for _, r := range records {
		at := "(time not told)"
		if !r.Time.IsZero() {
			at = r.Time.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(s.out, "%-20s  %s  %s\n", at, cmp.Or(r.Host, "-"), r.Text)
	}
	return nil
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// databaseHosts completes the host of a database.
func databaseHosts(options *databaseOptions) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		service, err := loadService(options.file)
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for _, d := range service.Databases {
			for _, host := range d.Hosts {
				if options.name == "" || options.name == d.Name {
					names = append(names, host.Name)
				}
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// named returns the databases that were asked for; all when none was.
func (o databaseOptions) named(service drill.Service) ([]drill.Database, error) {
	var names []string
	for _, d := range service.Databases {
		if d.Name == o.name {
			return []drill.Database{d}, nil
		}
		names = append(names, d.Name)
	}
	switch {
	case len(names) == 0:
		return nil, &drill.Error{Op: "database", Kind: drill.Invalid, Err: errors.New("the service file has no databases"), Hint: "Add databases: to " + o.file + "; docs/databases.md shows how."}
	case o.name != "":
		return nil, &drill.Error{Op: "database", Kind: drill.Invalid, Err: fmt.Errorf("the service file has no database %q", o.name), Hint: drill.Suggest(o.name, names)}
	}
	return service.Databases, nil
}

// opened is one database with its driver.
type opened struct {
	drill.Database
	driver  database.Driver
	service drill.Service
}

func (o databaseOptions) open() ([]opened, error) {
	service, err := loadService(o.file)
	if err != nil {
		return nil, err
	}
	wanted, err := o.named(service)
	if err != nil {
		return nil, err
	}
	var all []opened
	for _, d := range wanted {
		driver, err := openDatabase(d, o.file)
		if err != nil {
			return nil, err
		}
		all = append(all, opened{Database: d, driver: driver, service: service})
	}
	return all, nil
}

// only opens the one database that is asked for.
func (o databaseOptions) only() (opened, error) {
	all, err := o.open()
	if err != nil {
		return opened{}, err
	}
	if len(all) > 1 {
		return opened{}, &drill.Error{Op: "database", Kind: drill.Invalid, Err: errors.New("the service file has several databases"), Hint: "Say which with --name."}
	}
	return all[0], nil
}

// databaseReport is what status prints of one database as JSON.
type databaseReport struct {
	Name   string          `json:"name"`
	Driver string          `json:"driver"`
	Status database.Status `json:"status"`
	Error  string          `json:"error,omitempty"` // it could not be looked at
	Wrong  string          `json:"wrong,omitempty"` // what is not as it should be
}

func databaseStatus(ctx context.Context, s streams, options databaseOptions) error {
	all, err := options.open()
	if err != nil {
		return err
	}
	reports := make([]databaseReport, 0, len(all))
	var wrong error
	for _, d := range all {
		report := databaseReport{Name: d.Name, Driver: d.Driver}
		status, err := d.driver.Status(ctx)
		report.Status, report.Wrong = status, status.Wrong()
		if err != nil {
			report.Error = err.Error()
			wrong = errors.Join(wrong, err)
		} else if report.Wrong != "" {
			wrong = errors.Join(wrong, &drill.Error{Op: "database " + d.Name, Kind: drill.Failed, Err: errors.New(report.Wrong), Hint: status.Cure()})
		}
		reports = append(reports, report)
	}
	if options.asJSON {
		return errors.Join(printJSON(s, reports), wrong)
	}
	for _, report := range reports {
		printDatabase(s, report)
	}
	return wrong
}

func printDatabase(s streams, report databaseReport) {
	paused := ""
	if report.Status.Paused {
		paused = ", PAUSED: its own manager was told to keep its hands off"
	}
	fmt.Fprintf(s.out, "%s (%s%s)\n", report.Name, report.Driver, paused)
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, m := range report.Status.Members {
		var notes []string
		for _, note := range []struct {
			holds bool
			word  string
		}{
			{m.Streaming, "follows"}, {m.Role == database.Standby && !m.Streaming, "does NOT follow"}, {m.Synchronous, "synchronous"},
			{m.Armed && m.Role == database.Primary, "armed"}, {m.Role == database.Primary && !m.Armed && report.Driver == drill.DatabasePostgreSQL, "not armed"}, {m.Detail != "", m.Detail},
		} {
			if note.holds {
				notes = append(notes, note.word)
			}
		}
		position := ""
		if m.Position > 0 {
			position = fmt.Sprintf("%d/%X", m.Timeline, m.Position)
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", m.Host, m.Role, position, strings.Join(notes, ", "))
	}
	_ = table.Flush() // the terminal has gone: nobody reads it
}

// tellSteps prints each step as it is taken.
func tellSteps(s streams, asJSON bool) database.Tell {
	source, _ := os.Hostname() // an empty name is one too
	began := time.Now()
	return func(step *history.DatabaseStep) {
		if asJSON {
			_ = printLine(s, history.New(time.Now(), source, step)) // the terminal has gone: nobody reads it
			return
		}
		fmt.Fprintf(s.out, "%8s  %-10s %s%s\n", time.Since(began).Round(time.Millisecond), step.Step, step.Host, strings.TrimSuffix("  "+step.Detail, "  "))
	}
}

func (o databaseOptions) mover(s streams, d opened) database.Mover {
	return database.Mover{Name: d.Name, Driver: d.driver, Policy: database.Policy{LagMax: uint64(d.LagMax)}, Tell: tellSteps(s, o.asJSON)}
}

// carefully runs what should not be broken off in the middle: the first interrupt says so, the second breaks it off.
func carefully(ctx context.Context, s streams, what string, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for count := 0; ; count++ {
			select {
			case <-done:
				return
			case <-signals:
			}
			if count > 0 {
				cancel()
				return
			}
			fmt.Fprintf(s.err, "firedrill: %s is under way and goes on, for half of it leaves no primary; again breaks it off\n", what)
		}
	}()
	defer close(done)
	defer signal.Stop(signals)
	return do(ctx)
}

func databaseMove(ctx context.Context, s streams, options databaseOptions, order database.Order) error {
	d, err := options.only()
	if err != nil {
		return err
	}
	if options.dryRun {
		status, err := d.driver.Status(ctx)
		if err != nil {
			return err
		}
		move, err := database.Choose(status, order, database.Policy{LagMax: uint64(d.LagMax)}, lastSeen(ctx, d.service, d.Name))
		if err != nil {
			return err
		}
		if options.asJSON {
			return printJSON(s, move)
		}
		fmt.Fprintf(s.out, "would fence %s and promote %s: %s; nothing was done\n", orUnknown(move.From), move.To, move.Why)
		return nil
	}
	return carefully(ctx, s, "moving the primary", func(ctx context.Context) error {
		_, err := options.mover(s, d).Move(ctx, order, lastSeen(ctx, d.service, d.Name))
		return err
	})
}

func orUnknown(host string) string {
	if host == "" {
		return "an old primary that is not known"
	}
	return host
}

func databaseFence(ctx context.Context, s streams, options databaseOptions, host string) error {
	d, err := options.only()
	if err != nil {
		return err
	}
	return carefully(ctx, s, "fencing", func(ctx context.Context) error {
		return options.mover(s, d).Fence(ctx, host, options.force)
	})
}

func databaseArm(ctx context.Context, s streams, options databaseOptions) error {
	d, err := options.only()
	if err != nil {
		return err
	}
	arms, can := d.driver.(armer)
	if !can {
		return &drill.Error{Op: "arm", Kind: drill.Unsupported, Err: fmt.Errorf("driver %s knows no arming", d.Driver), Hint: "What manages the database there keeps an old primary from writing."}
	}
	status, err := d.driver.Status(ctx)
	if err != nil {
		return err
	}
	primary := status.Primary()
	if primary == nil {
		return &drill.Error{Op: "arm", Kind: drill.Refused, Err: fmt.Errorf("there is not one primary: %s", status), Hint: "See: firedrill database status"}
	}
	if err := arms.Arm(ctx, primary.Host); err != nil {
		return err
	}
	options.mover(s, d).Tell(&history.DatabaseStep{Database: d.Name, Step: history.DatabaseArmed, Host: primary.Host, Detail: "whenever it starts again it starts as a standby"})
	return nil
}

// rebuildPlan is what a rebuild would do.
type rebuildPlan struct {
	From string `json:"from"` // the primary
	Host string `json:"host"` // that becomes its standby
}

func databaseRebuild(ctx context.Context, s streams, options databaseOptions, host string) error {
	d, err := options.only()
	if err != nil {
		return err
	}
	mover := options.mover(s, d)
	if options.dryRun {
		from, err := mover.Rebuildable(ctx, host)
		if err != nil {
			return err
		}
		if options.asJSON {
			return printJSON(s, rebuildPlan{From: from, Host: host})
		}
		fmt.Fprintf(s.out, "would make %s a standby of %s, throwing away what only %s has; nothing was done\n", host, from, host)
		return nil
	}
	return carefully(ctx, s, "rebuilding", func(ctx context.Context) error { return mover.Rebuild(ctx, host) })
}
