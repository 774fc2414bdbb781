package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/failover/authority"
)

// authorityStopMax is how long queries under way may take at the end.
const authorityStopMax = 3 * time.Second

type authorityOptions struct {
	zone, watch, listen, state string
	freeze                     []string
	rate                       int
}

func newAuthorityCommand(s streams) *cobra.Command {
	var options authorityOptions
	command := &cobra.Command{
		Use:   "authority --zone FILE",
		Short: "Serve a DNS zone whose failover names follow the watch",
		Args:  cobra.NoArgs,
		Long: `Serves one zone over UDP and TCP. Names under "failover" in the zone file lead where the watch decides; when the watch
cannot be reached, the last answer stays, also over a restart if --state names a file. It never recurses and serves nothing else.

Run it on at least two hosts with the same zone file, and name both under "servers".

EXIT STATUS
  0   stopped by SIGTERM or SIGINT
  2   the zone file or a flag is wrong; the message says where
  3   a socket broke while serving
  4   the address cannot be listened on`,
		Example: `  firedrill authority --zone zone.yaml --watch http://control:7070 --listen :53 --state /var/lib/firedrill/answers.json
  firedrill authority --zone zone.yaml --listen 127.0.0.1:5353`,
		RunE: func(command *cobra.Command, _ []string) error { return runAuthority(command.Context(), s, options) },
	}
	flags := command.Flags()
	flags.StringVar(&options.zone, "zone", "", "zone file (required)")
	flags.StringVar(&options.watch, "watch", "", "URL of the watch, as http://control:7070; without it failover names keep their answer")
	flags.StringVar(&options.listen, "listen", ":53", "address and port for UDP and TCP")
	flags.StringVar(&options.state, "state", "", "file in which decided answers outlive a restart")
	flags.StringArrayVar(&options.freeze, "freeze", nil, "failover name whose answer never changes, to prove that a drill notices; may be repeated")
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
	text, err := os.ReadFile(options.zone)
	if err != nil {
		return &drill.Error{Op: "read zone", Kind: drill.Invalid, Err: err, Hint: "--zone names the file of the zone to serve."}
	}
	zone, err := authority.ParseZone(text, options.zone)
	if err != nil {
		return err
	}
	server, err := authority.New(authority.Options{
		Zone: zone, Listen: options.listen, StateFile: options.state, Frozen: options.freeze, Rate: options.rate, Log: log,
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
			if followErr = authority.Follow(ctx, options.watch, log, server.Apply); followErr != nil {
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
