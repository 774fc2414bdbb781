//go:build !hostpart

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/attack"
	"firedrill/internal/attack/containers"
	"firedrill/internal/attack/hostfacts"
	"firedrill/internal/attack/kinds"
	"firedrill/internal/attack/policy"
	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/agent"
)

// agentState is where an installed agent keeps what it is and what it did.
const agentState = "/var/lib/firedrill-agent"

func newAgentCommand(s streams) *cobra.Command {
	var state string
	var leash time.Duration
	command := &cobra.Command{
		Use:   "agent",
		Short: "Do on this host what the fleet's server orders, within this host's own policy",
		Long: `Stays on. Dials out to the server that this host has joined, opens no port, and carries out signed orders with the same command that a
person would type: what /etc/firedrill/policy.yaml forbids is refused, whoever orders it.

When the server is not heard of, whatever is in force on this host by its order is reverted within --leash. When the agent itself dies, its
attacks end with it. What was done is written down here first, and told when the server is there again.

EXIT STATUS
  0    stopped by SIGTERM or SIGINT, everything reverted
  2    a flag is wrong, or this host has not joined
  4    another agent runs here
  70   our own fault`,
		Example: `  firedrill agent join control.example.com:7422 fdj.TOKEN --tag service=bookstore --tag environment=blue --zone eu-1a
  firedrill agent`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return runAgent(command.Context(), s, state, leash) },
	}
	command.PersistentFlags().StringVar(&state, "state", agentState, "directory of the agent's key, ledger and journals")
	command.Flags().DurationVar(&leash, "leash", agent.LeashDefault, "how long after the server was heard last this host is as it was")
	_ = command.MarkPersistentFlagDirname("state")
	command.AddCommand(newJoinCommand(s, &state))
	return command
}

func newJoinCommand(s streams, state *string) *cobra.Command {
	var as agent.Identity
	var tags []string
	var once bool
	command := &cobra.Command{
		Use:   "join ADDRESS TOKEN",
		Short: "Let this host into a fleet",
		Long: `Makes a key for this host and hands it to the server at ADDRESS (host:port; of several servers one will do, or some with commas between) with a
TOKEN from firedrill fleet token. The token also says which server is meant, so that no other can take its place. Joined again it keeps its key.
With --once a host that has joined already stays as it is, and no use of the token is taken: for start scripts and containers.

EXIT STATUS
  0    joined
  2    usage: a wrong address, token, name or tag
  3    the server cannot be reached
  4    the server refuses: the token is used up, the name is taken, the key was put out
  70   our own fault`,
		Example: "  firedrill agent join control.example.com:7422 fdj.TOKEN --tag service=bookstore --zone eu-1a",
		Args:    cobra.ExactArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			if once {
				if had, err := agent.LoadIdentity(*state); err == nil {
					fmt.Fprintf(s.out, "%s has joined the fleet at %s already\n", had.Name, had.Address)
					return nil
				} else if !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
			address, err := fleet.Addresses(args[0])
			if err != nil {
				return err
			}
			token, err := fleet.ParseToken(args[1])
			if err != nil {
				return err
			}
			if as.Tags, err = parseTags(tags); err != nil {
				return err
			}
			if !command.Flags().Changed("zone") {
				as.Zone = zoneOfCloud(command.Context(), s)
			}
			hostname, _ := os.Hostname()
			as.Name = cmp.Or(as.Name, hostname)
			joined, err := agent.Join(command.Context(), *state, address, token, as)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "%s has joined the fleet at %s; now start it: firedrill agent, or systemctl enable --now firedrill-agent\n", joined.Name, address)
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&as.Name, "name", "", "name of this host in the fleet (default: its host name)")
	flags.StringVar(&as.Zone, "zone", "", "where it stands, as eu-1a: hosts of a zone may fail together; empty for none (default: what Amazon EC2, Google, Azure, OpenStack, Hetzner or DigitalOcean say)")
	flags.BoolVar(&once, "once", false, "do nothing on a host that has joined already")
	flags.StringArrayVar(&tags, "tag", nil, "key=value, as service=bookstore or environment=blue; repeat for more")
	return command
}

// zoneOfCloud is the zone that the cloud names on which this host runs, or "" where there is none. A cloud that cannot be asked keeps no host out.
func zoneOfCloud(ctx context.Context, s streams) string {
	zone, cloud, err := agent.CloudZone(ctx, os.DirFS("/sys/class/dmi/id"))
	switch {
	case err != nil:
		fmt.Fprintf(s.err, "firedrill: %s does not say in which zone this host stands (%v); it joins without one, which --zone says\n", cloud, err)
	case zone != "":
		fmt.Fprintf(s.err, "firedrill: %s says that this host stands in zone %s\n", cloud, zone)
	}
	return zone
}

func parseTags(texts []string) (map[string]string, error) {
	tags := map[string]string{}
	for _, text := range texts {
		key, value, found := strings.Cut(text, "=")
		if _, twice := tags[key]; !found || twice {
			return nil, &drill.Error{Op: "--tag", Kind: drill.Invalid, Err: fmt.Errorf("%q: write each as key=value, once", text)}
		}
		tags[key] = value
	}
	if err := fleet.CheckTags(tags); err != nil {
		return nil, &drill.Error{Op: "--tag", Kind: drill.Invalid, Err: err}
	}
	return tags, nil
}

func runAgent(ctx context.Context, s streams, state string, leash time.Duration) error {
	if leash < agent.LeashMin || leash > time.Hour {
		return &drill.Error{Op: "--leash", Kind: drill.Invalid, Err: fmt.Errorf("%s; write %s or more, and an hour at most", leash, agent.LeashMin)}
	}
	ctx, caught := catchSignals(ctx)
	defer caught.stop()
	unsampled()
	a, err := agent.Open(agent.Options{Directory: state, Leash: leash, Log: slog.New(slog.NewTextHandler(s.err, nil)), Facts: fleetFacts, Running: fleetRunning, MaySample: maySample, Rest: rest})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// maySample holds an order to sample against the policy of this host, as an attack is held against it.
func maySample(order fleet.Sampling) ([]netip.Prefix, error) {
	known := func() []string {
		var names []string
		for _, kind := range kinds.Describe() {
			names = append(names, kind.Name)
		}
		return names
	}
	rules, err := policy.Reader{Kinds: known}.Read()
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(order.URL)
	if err != nil {
		return nil, err
	}
	return rules.AdmitClient(target.Hostname(), order.Within)
}

// podsPatience is how long a runtime of pods may take to say its name. An agent does not wait for one that hangs.
const podsPatience = 3 * time.Second

// fleetFacts are what the fleet should know of this host.
func fleetFacts(ctx context.Context) (fleet.Facts, error) {
	hostname, err := os.Hostname()
	facts := fleet.Facts{Hostname: hostname, Kernel: kernel(), Version: version(), Kinds: []string{}}
	for _, kind := range diagnose(ctx, hostfacts.Options{Directory: os.TempDir()}).Attacks {
		if kind.Here.State == hostfacts.Yes {
			facts.Kinds = append(facts.Kinds, kind.Name)
		}
	}
	asking, done := context.WithTimeout(ctx, podsPatience)
	defer done()
	if runtimes, podErr := (containers.PodFinder{}).Runtimes(asking); podErr == nil {
		facts.Pods = strings.Join(runtimes, ", ")
	}
	return facts, err
}

// fleetRunning is everything that is in force here, whoever began it.
func fleetRunning(ctx context.Context) ([]fleet.Running, error) {
	running, err := attack.Running(ctx)
	var all []fleet.Running
	for _, r := range running {
		if slices.ContainsFunc(running, func(whole attack.Status) bool { return whole.GUID == r.PartOf }) {
			continue // it is told with the whole
		}
		one := fleet.Running{Order: r.GUID, Kind: cmp.Or(r.Attack, "unknown")}
		if r.Until != nil {
			one.Until = *r.Until
		}
		all = append(all, one)
	}
	return all, errors.Join(err)
}
