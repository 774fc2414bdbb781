//go:build !hostpart

package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/authority"
	"firedrill/internal/failover/keep"
	"firedrill/internal/watch"
)

const (
	// failoverAskMax bounds one look at all servers of a name.
	failoverAskMax = 5 * time.Second
	// failoverStateMax bounds what is read of a watch's state: a thousand alarms with their reasons take a tenth of it.
	failoverStateMax = 16 << 20
	// failoverLookEvery is how often servers are asked after a switch.
	failoverLookEvery = 50 * time.Millisecond
)

// backend is what gives a name's answer to clients; keep.Backend with a look at it.
type backend interface {
	Served(ctx context.Context, name string) []failover.Served
}

type failoverOptions struct {
	file, name, reason string
	asJSON, force      bool
	wait               time.Duration
}

func newFailoverCommand(s streams) *cobra.Command {
	command := &cobra.Command{
		Use:   "failover",
		Short: "See where names lead, switch them, and keep the servers of others at the decided answer",
		Long: `Says where the failover names of the service file lead: what the watch has decided, and what each server gives to clients. Moves them by
the watch, which alone decides; and, with other providers than our own name servers, carries the decisions to them.` + printExitStatus,
	}
	command.AddCommand(newFailoverStatusCommand(s), newFailoverSwitchCommand(s), newFailoverBackCommand(s), newFailoverFollowCommand(s))
	return command
}

func (o *failoverOptions) addFlags(command *cobra.Command, name bool) {
	flags := command.Flags()
	flags.StringVar(&o.file, "file", "firedrill.yaml", "service file")
	flags.Bool("help", false, "show this help")
	_ = command.MarkFlagFilename("file", "yaml", "yml") // fails only for a flag that is not defined
	if name {
		flags.StringVar(&o.name, "name", "", "failover name (default: all for status, the only one for the others)")
	}
}

func newFailoverStatusCommand(s streams) *cobra.Command {
	var options failoverOptions
	command := &cobra.Command{
		Use:   "status",
		Short: "Show what is decided for each name, and what each server gives to clients",
		Args:  cobra.NoArgs,
		Long: `Asks the watch what it has decided, and each server of the name what it leads to.

EXIT STATUS
  0    every server leads where the watch decided
  1    a server leads somewhere else
  2    usage, or the service file is wrong
  3    the watch or a server could not be asked`,
		RunE: func(command *cobra.Command, _ []string) error { return failoverStatus(command.Context(), s, options) },
	}
	options.addFlags(command, true)
	command.Flags().BoolVar(&options.asJSON, "json", false, "print JSON")
	return command
}

const failoverMoveHelp = `

EXIT STATUS
  0    every server of the name leads there
  2    usage, or the service file is wrong
  3    the watch could not be reached, or a server does not follow within --wait
  4    the watch refuses: the environment is unhealthy, the name is frozen, or the token is wrong`

func (o *failoverOptions) addMoveFlags(command *cobra.Command) {
	o.addFlags(command, true)
	flags := command.Flags()
	flags.StringVar(&o.reason, "reason", "", "why, for the record")
	flags.BoolVar(&o.force, "force", false, "also when the environment is unhealthy; it then stays until the environment was healthy once")
	flags.DurationVar(&o.wait, "wait", 30*time.Second, "how long the servers may take to follow")
}

func newFailoverSwitchCommand(s streams) *cobra.Command {
	var options failoverOptions
	command := &cobra.Command{
		Use:   "switch ENVIRONMENT",
		Short: "Make a name lead to another environment, and see every server follow",
		Args:  cobra.ExactArgs(1),
		Long: `Asks the watch to make the name lead to the environment, which becomes the preferred one: automatic failback leads there too. Then waits
until every server of the name was seen to lead there.` + failoverMoveHelp,
		ValidArgsFunction: fromServiceFile(&options, environmentNames),
		RunE: func(command *cobra.Command, args []string) error {
			return failoverMove(command.Context(), s, options, func(drill.Failover) string { return args[0] })
		},
	}
	options.addMoveFlags(command)
	return command
}

func newFailoverBackCommand(s streams) *cobra.Command {
	var options failoverOptions
	command := &cobra.Command{
		Use:   "back",
		Short: "Make a name lead to its primary environment again",
		Args:  cobra.NoArgs,
		Long: `Is "failover switch" to the primary environment of the name: what follows a failover whose failback is manual. When the name leads there
already, that is seen on every server.` + failoverMoveHelp,
		RunE: func(command *cobra.Command, _ []string) error {
			return failoverMove(command.Context(), s, options, func(f drill.Failover) string { return f.Primary })
		},
	}
	options.addMoveFlags(command)
	return command
}

func newFailoverFollowCommand(s streams) *cobra.Command {
	var options failoverOptions
	command := &cobra.Command{
		Use:   "follow",
		Short: "Stay on: carry the watch's decisions to name servers and load balancers of others",
		Args:  cobra.NoArgs,
		Long: `Stays on. Follows the watch and brings each decided answer to the servers of the name's provider in the service file: rfc2136 (BIND, Knot,
PowerDNS and others), route53 (records, routing controls or health checks), haproxy, nginx, hosts (the hosts file of this host). Each publication is repeated until every server was seen to follow, and what somebody else changes
there is put right within two seconds. When the watch is away, the last answer stays.

Names of the provider authority need none of this: "firedrill authority" follows the watch itself. It may run several times, on the hosts
of the load balancers or anywhere else: an older decision never undoes a newer one.

EXIT STATUS
  0    stopped by SIGTERM or SIGINT
  2    the service file or a key file is wrong, or it has no name of such a provider`,
		RunE: func(command *cobra.Command, _ []string) error { return failoverFollow(command.Context(), s, options) },
	}
	options.addFlags(command, true)
	return command
}

// fromServiceFile completes an argument with names out of the service file.
func fromServiceFile(options *failoverOptions, list func(drill.Service) []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		service, err := loadService(options.file)
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return list(service), cobra.ShellCompDirectiveNoFileComp
	}
}

// named returns the failover names that were asked for; all when none was.
func (o failoverOptions) named(service drill.Service) ([]drill.Failover, error) {
	var names []string
	for _, f := range service.Failover {
		if f.Name == strings.TrimSuffix(o.name, ".") {
			return []drill.Failover{f}, nil
		}
		names = append(names, f.Name)
	}
	if o.name != "" || len(names) == 0 {
		return nil, &drill.Error{
			Op: "failover", Kind: drill.Invalid, Err: fmt.Errorf("the service file has no failover name %q", o.name), Hint: drill.Suggest(o.name, names),
		}
	}
	return service.Failover, nil
}

// nameReport is what status prints of one name as JSON.
type nameReport struct {
	Name     string            `json:"name"`
	Provider string            `json:"provider"`
	Decided  *watch.NameStatus `json:"decided,omitempty"` // nil: the watch could not be asked
	Servers  []serverReport    `json:"servers"`
	Agrees   bool              `json:"agrees"` // every server leads where the watch decided
}

type serverReport struct {
	Server    string       `json:"server"`
	Addresses []netip.Addr `json:"addresses"`
	Serial    uint64       `json:"serial,omitempty"` // that it was given by us; our own name servers say none
	Agrees    bool         `json:"agrees"`
	Error     string       `json:"error,omitempty"`
}

// lookAt asks the servers of a name and compares them with what is decided.
func lookAt(ctx context.Context, f drill.Failover, looks backend, decided *watch.NameStatus) nameReport {
	ctx, cancel := context.WithTimeout(ctx, failoverAskMax)
	defer cancel()
	report := nameReport{Name: f.Name, Provider: f.Provider, Decided: decided, Agrees: decided != nil}
	var want []netip.Addr
	if decided != nil {
		for _, text := range decided.Addresses {
			if address, err := netip.ParseAddr(text); err == nil {
				want = append(want, address)
			}
		}
	}
	for _, served := range looks.Served(ctx, f.Name) {
		one := serverReport{Server: served.Server, Addresses: served.Addresses, Serial: served.Serial}
		one.Agrees = decided != nil && served.Leads(failover.Change{Addresses: want})
		if served.Err != nil {
			one.Error = served.Err.Error()
		}
		report.Agrees = report.Agrees && one.Agrees
		report.Servers = append(report.Servers, one)
	}
	return report
}

func failoverStatus(ctx context.Context, s streams, options failoverOptions) error {
	service, err := loadService(options.file)
	if err != nil {
		return err
	}
	names, err := options.named(service)
	if err != nil {
		return err
	}
	snapshot, watchErr := watchState(ctx, service)
	var reports []nameReport
	for _, f := range names {
		looks, _, err := backendOf(service, f, filepath.Dir(options.file), nil)
		if err != nil {
			return err
		}
		var decided *watch.NameStatus
		if i := slices.IndexFunc(snapshot.Names, func(n watch.NameStatus) bool { return n.Name == f.Name }); i >= 0 {
			decided = &snapshot.Names[i]
		}
		reports = append(reports, lookAt(ctx, f, looks, decided))
	}
	if options.asJSON {
		err = printJSON(s, reports)
	} else {
		printFailover(s, reports)
	}
	return cmp.Or(err, watchErr, disagreement(reports))
}

// disagreement is the error for what the servers say, nil when all lead where the watch decided.
func disagreement(reports []nameReport) error {
	unasked := ""
	for _, report := range reports {
		for _, server := range report.Servers {
			if server.Error != "" {
				unasked = server.Server
			} else if !server.Agrees && report.Decided != nil {
				return &drill.Error{
					Op: "failover " + report.Name, Host: server.Server, Kind: drill.Failed, Err: fmt.Errorf("it leads to %v, and %v is decided", server.Addresses, report.Decided.Addresses),
					Hint: "Check that it follows: firedrill authority --watch, or firedrill failover follow.",
				}
			}
		}
	}
	if unasked != "" {
		return &drill.Error{Op: "failover", Host: unasked, Kind: drill.Unreachable, Err: errors.New("it could not be asked"), Hint: "Its clients may get no answer either: check it."}
	}
	return nil
}

func printFailover(s streams, reports []nameReport) {
	for _, report := range reports {
		if d := report.Decided; d != nil {
			fmt.Fprintf(s.out, "%s leads to %s (%s), serial %d: %s\n", report.Name, d.Active, strings.Join(d.Addresses, " "), d.Serial, d.Reason)
			for _, e := range d.Environments {
				state := "healthy"
				if !e.Healthy {
					state = "UNHEALTHY"
				}
				fmt.Fprintf(s.out, "  %s is %s\n", e.Name, state)
			}
			if d.Frozen {
				fmt.Fprintln(s.out, "  it is frozen and does not move")
			}
		} else {
			fmt.Fprintf(s.out, "%s: what is decided is not known\n", report.Name)
		}
		table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		for _, server := range report.Servers {
			word := "does NOT agree"
			switch {
			case server.Error != "":
				word = server.Error
			case server.Agrees:
				word = "agrees"
			case report.Decided == nil:
				word = ""
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\n", server.Server, strings.Trim(fmt.Sprint(server.Addresses), "[]"), word)
		}
		_ = table.Flush() // the terminal has gone: nobody reads it
	}
}

// watchState asks the watch of the service for its state.
func watchState(ctx context.Context, service drill.Service) (watch.Snapshot, error) {
	const op = "ask the watch"
	if service.Watch == nil {
		return watch.Snapshot{}, &drill.Error{Op: op, Kind: drill.Invalid, Err: errors.New("the service file names no watch"), Hint: "Add watch: {url: ...} to the service file."}
	}
	ctx, cancel := context.WithTimeout(ctx, watchAnswerMax)
	defer cancel()
	fail := func(err error) (watch.Snapshot, error) {
		return watch.Snapshot{}, &drill.Error{Op: op, Kind: drill.Unreachable, Err: err, Hint: "Is the watch running at " + service.Watch.URL + "?"}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(service.Watch.URL, "/")+"/v1/state", http.NoBody)
	if err != nil {
		return fail(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fail(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fail(errors.New(response.Status))
	}
	var snapshot watch.Snapshot
	if err := json.NewDecoder(io.LimitReader(response.Body, failoverStateMax)).Decode(&snapshot); err != nil {
		return fail(err)
	}
	return snapshot, nil
}

// failoverMove has the watch move one name, and waits until every server leads there.
func failoverMove(ctx context.Context, s streams, options failoverOptions, to func(drill.Failover) string) error {
	service, err := loadService(options.file)
	if err != nil {
		return err
	}
	names, err := options.named(service)
	if err != nil {
		return err
	}
	if len(names) > 1 {
		return &drill.Error{Op: "failover", Kind: drill.Invalid, Err: errors.New("the service file has several failover names"), Hint: "Say which with --name."}
	}
	f := names[0]
	looks, _, err := backendOf(service, f, filepath.Dir(options.file), nil)
	if err != nil {
		return err
	}
	token, err := watchToken(service, watchOptions{file: options.file})
	if err != nil {
		return err
	}
	if service.Watch == nil {
		return &drill.Error{Op: "failover", Kind: drill.Invalid, Err: errors.New("the service file names no watch"), Hint: "Add watch: {url: ...} to the service file."}
	}
	began := time.Now()
	environment := to(f)
	if err := orderSwitch(ctx, *service.Watch, token, f.Name, failover.Order{To: environment, Reason: options.reason, Force: options.force}); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s: the watch has decided for %s (%s)\n", f.Name, environment, time.Since(began).Round(time.Millisecond))
	return awaitServers(ctx, s, service, f, looks, began, options.wait)
}

// awaitServers waits until every server leads where the watch has decided.
func awaitServers(ctx context.Context, s streams, service drill.Service, f drill.Failover, looks backend, began time.Time, wait time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var last nameReport
	for {
		if snapshot, err := watchState(waiting, service); err == nil {
			if i := slices.IndexFunc(snapshot.Names, func(n watch.NameStatus) bool { return n.Name == f.Name }); i >= 0 {
				last = lookAt(waiting, f, looks, &snapshot.Names[i])
			}
		}
		if last.Agrees {
			fmt.Fprintf(s.out, "%s: all %d servers lead there (%s); clients follow within the TTL of %s\n", f.Name, len(last.Servers), time.Since(began).Round(time.Millisecond), f.TTL)
			return nil
		}
		pause(waiting, failoverLookEvery)
		if waiting.Err() == nil {
			continue
		}
		var lagging []string
		for _, server := range last.Servers {
			if !server.Agrees {
				lagging = append(lagging, server.Server)
			}
		}
		return &drill.Error{
			Op: "failover " + f.Name, Kind: drill.Unproven, Err: fmt.Errorf("decided, but not seen after %s on: %s", wait, strings.Join(lagging, " ")),
			Hint: "Look at it with: firedrill failover status",
		}
	}
}

// orderSwitch posts an operator's order to the watch.
func orderSwitch(ctx context.Context, at drill.Watch, token, name string, order failover.Order) error {
	op := "switch " + name + " to " + order.To
	body, err := json.Marshal(map[string]any{"to": order.To, "reason": order.Reason, "force": order.Force})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, watchAnswerMax)
	defer cancel()
	target := strings.TrimSuffix(at.URL, "/") + "/v1/names/" + url.PathEscape(name) + "/switch"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: err}
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return &drill.Error{Op: op, Kind: drill.Unreachable, Err: err, Hint: "Is the watch running at " + at.URL + "?"}
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	var refusal struct{ Error, Cure string }
	if err := json.NewDecoder(io.LimitReader(response.Body, statusAnswerMax)).Decode(&refusal); err != nil || refusal.Error == "" {
		refusal.Error = response.Status
	}
	kind := drill.Refused
	if response.StatusCode == http.StatusNotFound || response.StatusCode == http.StatusBadRequest {
		kind = drill.Invalid
	}
	return &drill.Error{Op: op, Kind: kind, Err: errors.New(refusal.Error), Hint: refusal.Cure}
}

// failoverFollow keeps the servers of others at the decided answers until it is stopped.
func failoverFollow(ctx context.Context, s streams, options failoverOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(s.err, nil))
	service, err := loadService(options.file)
	if err != nil {
		return err
	}
	names, err := options.named(service)
	if err != nil {
		return err
	}
	backends := map[string]keep.Backend{}
	for _, f := range names {
		_, publishes, err := backendOf(service, f, filepath.Dir(options.file), log)
		if err != nil {
			return err
		}
		if publishes != nil {
			backends[f.Name] = publishes
		}
	}
	if len(backends) == 0 || service.Watch == nil {
		return &drill.Error{
			Op: "failover follow", Kind: drill.Invalid, Err: errors.New("there is nothing to do: no watch, or no name with provider rfc2136, route53, haproxy, nginx or hosts"),
			Hint: "Names of our own name servers are served by: firedrill authority",
		}
	}
	keeper := keep.New(backends, log)
	var keeping sync.WaitGroup
	defer keeping.Wait()
	keeping.Go(func() { keeper.Run(ctx) })
	log.InfoContext(ctx, "following", "watch", service.Watch.URL, "names", len(backends))
	defer stop()
	return authority.Follow(ctx, service.Watch.URL, log, keeper.Apply)
}
