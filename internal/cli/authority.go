//go:build !hostpart

package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/failover/authority"
	"firedrill/internal/failover/tsig"
	"firedrill/internal/history"
)

// authorityStopMax is how long queries under way may take at the end.
const authorityStopMax = 3 * time.Second

type authorityOptions struct {
	zone, watch, listen, state  string
	keys, origin                string
	freeze, failover, secondary []string
	rate                        int
}

func newAuthorityCommand(s streams) *cobra.Command {
	var options authorityOptions
	command := &cobra.Command{
		Use:   "authority --zone FILE",
		Short: "Serve a DNS zone whose failover names follow the watch",
		Args:  cobra.NoArgs,
		Long: `Serves one zone over UDP and TCP. Names under "failover" in the zone file lead where the watch decides; when the watch
cannot be reached, the last answer stays, also over a restart if --state names a file. It never recurses and serves nothing else.

The zone file is one of ours (YAML) or a master file of RFC 1035, as BIND, Knot and NSD read it; in the latter --failover names
what follows the watch.

Names under "routed" choose among their records by failover, weights or several at once, by the health that "checks" see in the
watch's alarms, as Route 53 does:

  checks:
    blue:  {alarm: bookstore-api-blue-StatusCheckFailed}
    green: {alarm: bookstore-api-green-StatusCheckFailed}
    both:  {healthy: 2, of: [blue, green]}
  routed:
    shop: {routing: weighted, ttl: 5s, records: {blue: {addresses: [10.77.1.10], weight: 9, check: blue},
           green: {addresses: [10.77.1.20], weight: 1, check: green}}}

Run it on at least two hosts with the same zone file, and name both under "servers": they answer alike. Other name servers can take
the zone from it too (AXFR, told by NOTIFY): list them under "secondaries", [{address: 10.77.0.54, key: NAME}], or with --secondary.
With a key, which stands in the file of --keys, they are known by their signature (TSIG), else by their address.

EXIT STATUS
  0   stopped by SIGTERM or SIGINT
  2   the zone file or a flag is wrong; the message says where
  3   a socket broke while serving
  4   the address cannot be listened on`,
		Example: `  firedrill authority --zone zone.yaml --watch http://control:7070 --listen :53 --state /var/lib/firedrill/answers.json
  firedrill authority --zone zone.yaml --listen 127.0.0.1:5353
  firedrill authority --zone example.test.zone --failover @ --failover api --keys /etc/firedrill/keys --secondary 10.77.0.54/xfr`,
		RunE: func(command *cobra.Command, _ []string) error { return runAuthority(command.Context(), s, options) },
	}
	flags := command.Flags()
	flags.StringVar(&options.zone, "zone", "", "zone file (required)")
	flags.StringVar(&options.watch, "watch", "", "URL of the watch, as http://control:7070; without it failover names keep their answer")
	flags.StringVar(&options.listen, "listen", ":53", "address and port for UDP and TCP")
	flags.StringVar(&options.state, "state", "", "file in which decided answers outlive a restart")
	flags.StringArrayVar(&options.freeze, "freeze", nil, "failover name whose answer never changes, to prove that a drill notices; may be repeated")
	flags.StringVar(&options.keys, "keys", "", "file with the keys of secondaries, as tsig-keygen writes them")
	flags.StringArrayVar(&options.secondary, "secondary", nil, "name server that takes the zone, ADDRESS[:PORT][/KEY]; may be repeated")
	flags.StringVar(&options.origin, "origin", "", "name of the zone of a master file without $ORIGIN")
	flags.StringArrayVar(&options.failover, "failover", nil, "name of a master file that follows the watch, @ for the zone; may be repeated")
	flags.IntVar(&options.rate, "rate", 0, "queries a second that one source may send over UDP before it is sent to TCP (default 1000)")
	flags.Bool("help", false, "show this help")
	_ = command.MarkFlagRequired("zone") // these fail only for a flag that is not defined
	_ = command.MarkFlagFilename("zone", "yaml", "yml")
	return command
}

func runAuthority(ctx context.Context, s streams, options authorityOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(s.err, nil))
	zone, err := readZone(options, log)
	if err != nil {
		return err
	}
	keys, secondaries, err := secondariesOf(zone, options)
	if err != nil {
		return err
	}
	server, err := authority.New(authority.Options{
		Zone: zone, Listen: options.listen, StateFile: options.state, Frozen: options.freeze, Rate: options.rate, Log: log,
		Keys: keys, Secondaries: secondaries, Follows: options.watch != "",
	})
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	log.InfoContext(ctx, "authority ready", "zone", zone.Name, "listen", server.Address().String())

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var following sync.WaitGroup
	var followErr error
	if options.watch != "" {
		following.Go(func() {
			var alarmed func(history.Alarm) error
			if zone.Watches() {
				alarmed = server.ApplyAlarm
			}
			if followErr = authority.FollowAlarms(ctx, options.watch, log, server.Apply, alarmed); followErr != nil {
				cancel()
			}
		})
	}
	var broken error
	select {
	case <-ctx.Done():
	case err := <-server.Failed():
		broken = &drill.Error{Op: "authority", Kind: drill.Unreachable, Err: err, Hint: "Start it again; the state file holds its answers."}
	}
	cancel()
	following.Wait()
	stopCtx, done := context.WithTimeout(context.WithoutCancel(ctx), authorityStopMax)
	defer done()
	if err := server.Stop(stopCtx); err != nil {
		log.WarnContext(ctx, "queries under way were cut off", "error", err)
	}
	if followErr != nil {
		return followErr
	}
	return broken
}

// readZone reads the zone file, whichever of the two formats it has.
func readZone(options authorityOptions, log *slog.Logger) (*authority.Zone, error) {
	text, err := os.ReadFile(options.zone)
	if err != nil {
		return nil, &drill.Error{Op: "read zone", Kind: drill.Invalid, Err: err, Hint: "--zone names the file of the zone to serve."}
	}
	if authority.IsMaster(text) {
		zone, notes, err := authority.ParseMaster(text, authority.MasterOptions{File: options.zone, Origin: options.origin, Failover: options.failover})
		for _, note := range notes {
			log.Warn("zone", "note", note)
		}
		return zone, err
	}
	if len(options.failover) > 0 || options.origin != "" {
		return nil, &drill.Error{
			Op: "read zone", Kind: drill.Invalid, Err: fmt.Errorf("%s is no master file", options.zone),
			Hint: "Leave out --origin and --failover: a YAML file has both in it.",
		}
	}
	return authority.ParseZone(text, options.zone)
}

// secondariesOf returns the secondaries of the zone file and of the flags, with their keys.
func secondariesOf(zone *authority.Zone, options authorityOptions) (tsig.Keys, []authority.Secondary, error) {
	written := slices.Clone(zone.Secondaries)
	for _, text := range options.secondary {
		address, key, _ := strings.Cut(text, "/")
		full, err := authority.WithPort(address)
		if err != nil {
			return nil, nil, &drill.Error{Op: "--secondary " + text, Kind: drill.Invalid, Err: err}
		}
		written = append(written, authority.SecondaryName{Address: full, Key: key})
	}
	var keys tsig.Keys
	var err error
	if options.keys != "" {
		if keys, err = tsig.Read(options.keys); err != nil {
			return nil, nil, err
		}
	}
	secondaries := make([]authority.Secondary, 0, len(written))
	for _, one := range written {
		secondary := authority.Secondary{Address: one.Address}
		if one.Key != "" {
			if options.keys == "" {
				return nil, nil, &drill.Error{
					Op: "secondary " + one.Address, Kind: drill.Invalid, Err: fmt.Errorf("key %s: there is no key file", one.Key), Hint: "Name it with --keys FILE.",
				}
			}
			if secondary.Key, err = keys.Find(one.Key); err != nil {
				return nil, nil, err
			}
		}
		secondaries = append(secondaries, secondary)
	}
	return keys, secondaries, nil
}
