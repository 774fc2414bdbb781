//go:build !hostpart

package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/fleet/control"
)

func newServerMoveCommand(s streams) *cobra.Command {
	var o backupOptions
	var places fleetServerOptions
	command := &cobra.Command{
		Use: "move", Short: "Move what one server keeps to several servers, or to a NATS of yours", Args: cobra.NoArgs,
		Long: `Moves all that a server which leads alone has kept in its directory to where several servers keep it together (--cluster-peers), or to a NATS with
JetStream of yours (--nats): members, runs, drills, verdicts, journals, the schedule, the lever, permits, tokens, service files. Write the
flags as the servers will have them. The server must be stopped.

Everything is copied, read back and compared. Only then does the directory stop to lead, and do servers begin in the new place: those that are
started there earlier wait, or are refused. Until then nothing is changed in the directory. A move that is broken off, at whatever moment, is run
again, or given up by starting the server as before.

A new place must hold nothing. With --cluster-peers the directory becomes the one of the first server, named by --server-name, on this machine: give the others
fleet/identity.json of it (mode 600), start them, and run this; it waits for all of them. Afterwards start the server with the same flags and the
same --data. What it alone has stays in its directory: the logs and reports of drills that it conducted, its users, its alarms and zones, its audit log, which
it puts before the others when it starts. Agents and people know the fleet by its keys, which stay: they need not join again.

EXIT STATUS
  0    moved, and proven; or it was already
  2    usage, or no server has led alone in that directory
  3    the new place cannot be reached, or what was put there is not what it was to be
  4    refused: a server runs there, or something is kept in the new place, or it does not take what is to be moved
  70   our own fault
  130  interrupted; run it again`,
		Example: `  firedrill server move --data /var/lib/firedrill-server --server-name c1 --cluster-peers c1.example.com:7423,c2.example.com:7423,c3.example.com:7423
  firedrill server move --data /var/lib/firedrill-server --nats tls://n1.example.com:4222,tls://n2.example.com:4222 --nats-creds /etc/firedrill/nats.creds`,
		RunE: func(command *cobra.Command, _ []string) error { return runMove(command.Context(), s, o, places) },
	}
	o.flags(command)
	places.places(command.Flags())
	return command
}

func runMove(ctx context.Context, s streams, o backupOptions, places fleetServerOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if _, err := os.Stat(o.data); err != nil {
		return &drill.Error{Op: "move", Kind: drill.Invalid, Err: err, Hint: "Name the server's directory with --data."}
	}
	release, err := holdData(o.data)
	if err != nil {
		return err
	}
	defer release()
	progress := &moveProgress{out: s.err}
	moved, err := control.Move(ctx, control.Options{Directory: filepath.Join(o.data, fleetDirectory), Name: places.name, Cluster: places.cluster, External: places.external, Replicas: places.replicas,
		Log: slog.New(slog.NewTextHandler(s.err, nil))}, progress.tell)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(s, moved)
	}
	if moved.Already {
		fmt.Fprintf(s.out, "it was moved already, and proven at %s\n", moved.Proven.UTC().Format(time.RFC3339))
	}
	for _, one := range moved.Streams {
		fmt.Fprintf(s.out, "%-15s %9d messages %12d bytes, replicas %d, sha256 %s\n", moveName(one.Name), one.Messages, one.Bytes, one.Replicas, one.SHA256)
	}
	if !moved.Already {
		fmt.Fprintf(s.out, "moved, read back and compared: %d messages, %.1f MB\n", moved.Messages, float64(moved.Bytes)/1e6)
	}
	name := ""
	if len(places.cluster.Peers) > 0 && places.name != "" {
		name = "--server-name " + places.name + " "
	}
	fmt.Fprintf(s.out, "this directory leads alone no more; start the server with: --data %s %s%s\n", o.data, name, moved.To)
	return nil
}

// moveName is how people know a stream.
func moveName(stream string) string { return strings.ToLower(strings.TrimPrefix(stream, "KV_")) }

// moveProgress says how far a move is: each stream once, and one that takes long each two seconds.
type moveProgress struct {
	out   io.Writer
	said  time.Time
	proof bool
	what  string
}

const moveSays = 2 * time.Second

func (p *moveProgress) tell(now control.MoveProgress) {
	fresh := now.What != p.what || now.Proof != p.proof
	if !fresh && time.Since(p.said) < moveSays {
		return
	}
	p.what, p.proof, p.said = now.What, now.Proof, time.Now()
	word := "copying"
	if now.Proof {
		word = "comparing"
	}
	fmt.Fprintf(p.out, "%d of %d: %s %s, %d of %d\n", now.Number, now.Of, word, moveName(now.What), now.Done, now.All)
}
