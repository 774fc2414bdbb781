//go:build !hostpart

package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/notify"
	"firedrill/internal/probe"
	"firedrill/internal/source"
	"firedrill/internal/watch"
)

const (
	// watchDialMax: an address that does not answer within a second is tried again, so that a host that boots is seen at once.
	watchDialMax = time.Second
	// watchConnectMax bounds TCP and SSH handshake together; a host that has just booted computes slowly.
	watchConnectMax = 10 * time.Second
	// watchKeepAlive ends a connection that dies while the binary is copied; later the heartbeats do that sooner.
	watchKeepAlive = time.Second
	// watchPushMax bounds the copy of the binary: 20 MB in a minute is a slow link.
	watchPushMax = time.Minute
	// watchLineMax is the longest event line that is read from a host.
	watchLineMax = 1 << 20
	// watchTokenMin is the shortest secret that is taken: fewer characters can be guessed over a network.
	watchTokenMin = 16
	// watchTellMax is how long the end waits for notices that are on their way.
	watchTellMax = 5 * time.Second
)

type watchOptions struct {
	file, listen, state, tokenFile string
	verbose                        bool
}

func newWatchCommand(s streams) *cobra.Command {
	var options watchOptions
	command := &cobra.Command{
		Use:   "watch",
		Short: "Stay on: sample the hosts, raise alarms, decide which environment is answered",
		Args:  cobra.NoArgs,
		Long: `Stays on. Over SSH it has every host of the service file measure its metrics (the binary is pushed there, nothing is
installed and nothing stays), turns the samples into alarms and the alarms into answers, and tells both over HTTP:

  GET  /v1/state                   everything at this moment
  GET  /v1/events?follow=1         the current state, then each change, as JSON lines; &kinds=alarm,answer chooses
  GET  /v1/history                 past alarms and answers; see firedrill watch history
  POST /v1/names/NAME/switch       {"to":"green","reason":"..."} with Authorization: Bearer TOKEN
  POST /v1/mute                    {"alarms":["..."],"seconds":300,"reason":"..."} with the token: alarms move, and nobody is told
  GET  /healthz                    200 while it works

A name server (firedrill authority) follows the answers; it keeps the last one when the watch is gone.

EXIT STATUS
  0    stopped by SIGTERM or SIGINT
  2    the service file, the state file, the token file or the address to listen on cannot be used`,
		RunE: func(command *cobra.Command, _ []string) error { return runWatch(command.Context(), s, options) },
	}
	command.AddCommand(newWatchHistoryCommand(s))
	flags := command.Flags()
	flags.StringVar(&options.file, "file", "firedrill.yaml", "service file")
	flags.StringVar(&options.listen, "listen", "", "address to listen on, as 0.0.0.0:7070 (default: watch.listen of the service file, else the port of watch.url)")
	flags.StringVar(&options.state, "state", "", "file that keeps the answers over a restart, and with .history and .history.1 after its name the past, 64 MiB at most (default: both are forgotten)")
	flags.StringVar(&options.tokenFile, "token-file", "", "file with the secret for switching (default: watch.token_file of the service file)")
	flags.BoolVar(&options.verbose, "verbose", false, "log every lost connection too")
	flags.Bool("help", false, "show this help")
	_ = command.MarkFlagFilename("file", "yaml", "yml") // fails only for a flag that is not defined
	return command
}

func runWatch(ctx context.Context, s streams, options watchOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	text, err := os.ReadFile(options.file)
	if err != nil {
		return &drill.Error{Op: "watch", Kind: drill.Invalid, Err: err, Hint: "Name the service file with --file."}
	}
	service, err := drill.ParseService(text, options.file)
	if err != nil {
		return err
	}
	listen, err := watchListen(service, options.listen)
	if err != nil {
		return err
	}
	token, err := watchToken(service, options)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if options.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: level}))
	notifier, err := notify.New(service.Actions, filepath.Dir(options.file), func(d notify.Delivery) {
		if d.Err != nil {
			log.Error("nobody was told", "action", d.Action, "alarm", d.Notice.Alarm, "to", d.Notice.To, "tries", d.Tries, "error", d.Err)
			return
		}
		log.Info("told", "action", d.Action, "alarm", d.Notice.Alarm, "to", d.Notice.To, "tries", d.Tries)
	})
	if err != nil {
		return err
	}
	defer notifier.Close(watchTellMax)
	keepers, err := databaseKeepers(service, options.file)
	if err != nil {
		return err
	}
	w, err := watch.New(watch.Options{
		Databases: keepers,
		Service:   service, Sources: sshSources{log: log}, Token: token, Listen: listen, StateFile: options.state, Log: log, Directory: filepath.Dir(options.file),
		AlarmSources: func(alarm string, s drill.AlarmSource) (source.Source, error) {
			return source.Open(alarm, s, filepath.Dir(options.file))
		},
		Notify: func(n watch.Notice) {
			notifier.Send(n.Action, notify.Notice{Service: service.Name, Alarm: n.Alarm, Host: n.Host, From: n.From, To: n.To, Reason: n.Reason, At: n.At})
		},
	})
	if err != nil {
		return err
	}
	go func() { // ends with the watch at the latest: ctx is cancelled when this function returns
		select {
		case <-w.Ready():
			log.Info("watching", "service", service.Name, "listen", w.Addr().String(), "switching", token != "")
		case <-ctx.Done():
		}
	}()
	return w.Run(ctx)
}

// watchListen returns the address to listen on.
func watchListen(service drill.Service, flag string) (string, error) {
	switch {
	case flag != "":
		return flag, nil
	case service.Watch != nil && service.Watch.Listen != "":
		return service.Watch.Listen, nil
	case service.Watch != nil:
		if target, err := url.Parse(service.Watch.URL); err == nil && target.Port() != "" {
			return net.JoinHostPort("", target.Port()), nil
		}
	}
	return "", &drill.Error{
		Op: "watch", Kind: drill.Invalid, Err: errors.New("no address to listen on"), Hint: "Give --listen 0.0.0.0:7070, or watch.url with a port in the service file.",
	}
}

// watchToken reads the secret for switching; "" when none is named. A path in the service file counts from that file.
func watchToken(service drill.Service, options watchOptions) (string, error) {
	path := options.tokenFile
	if path == "" && service.Watch != nil && service.Watch.TokenFile != "" {
		path = service.Watch.TokenFile
		path = besideFile(options.file, path)
	}
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", &drill.Error{Op: "watch", Kind: drill.Invalid, Err: fmt.Errorf("token file: %w", err), Hint: "Make one: head -c 24 /dev/urandom | base64 > FILE"}
	}
	token := strings.TrimSpace(string(text))
	if len(token) < watchTokenMin || strings.ContainsAny(token, " \t\r\n") {
		return "", &drill.Error{
			Op: "watch", Kind: drill.Invalid, Err: fmt.Errorf("token file %s: no single word of at least %d characters", path, watchTokenMin),
			Hint: "Make one: head -c 24 /dev/urandom | base64 > FILE",
		}
	}
	return token, nil
}

// sshSources starts "firedrill probe" on hosts over SSH.
type sshSources struct{ log *slog.Logger }

// Start implements watch.SourceStarter.
func (s sshSources) Start(ctx context.Context, host drill.Host, probes []probe.Spec) (watch.Stream, error) {
	request, err := json.Marshal(probeRequest{Source: host.Name, Probes: probes})
	if err != nil {
		return nil, fmt.Errorf("probe on %s: %w", host.Name, err)
	}
	client, err := remote.Dial(ctx, host, remote.Options{
		ConnectTimeout: watchConnectMax, KeepAlive: watchKeepAlive, DialNet: (&net.Dialer{Timeout: watchDialMax}).DialContext,
		Note: func(text string) { s.log.Debug("ssh configuration", "host", host.Name, "note", text) },
	})
	if err != nil {
		return nil, err
	}
	stream, err := startProbe(ctx, client, request)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return stream, nil
}

// startProbe pushes the binary and starts it. The stream owns the client from then on.
func startProbe(ctx context.Context, client *remote.Client, request []byte) (*sshStream, error) {
	pushContext, cancel := context.WithTimeout(ctx, watchPushMax)
	defer cancel()
	pushed, err := client.Push(pushContext, remote.PushOptions{})
	if err != nil {
		return nil, err
	}
	reader, writer := io.Pipe()
	stream := &sshStream{client: client, output: reader, errors: &lastWords{limit: 2048}, ended: make(chan struct{})}
	stream.lines = bufio.NewScanner(reader)
	stream.lines.Buffer(nil, watchLineMax)
	// The end of the connection ends the probe: it stops with its standard input. Cancelling would first try to reach a host that may be dead.
	process, err := pushed.Start(context.WithoutCancel(ctx), remote.Invocation{
		Args: []string{"probe"}, Stdin: bytes.NewReader(append(request, '\n')), Stdout: writer, Stderr: stream.errors,
	})
	if err != nil {
		return nil, err
	}
	go func() { // Close waits for it
		defer close(stream.ended)
		exit, err := process.Wait()
		if err == nil {
			err = fmt.Errorf("probe on %s ended with code %d: %s", client.Host(), exit.Code, stream.errors)
		}
		_ = writer.CloseWithError(err) // it never fails
	}()
	return stream, nil
}

// sshStream is the output of one probe process.
type sshStream struct {
	client *remote.Client
	output *io.PipeReader
	lines  *bufio.Scanner
	errors *lastWords
	ended  chan struct{}
}

// Next implements watch.Stream.
func (s *sshStream) Next() (history.Event, error) {
	if !s.lines.Scan() {
		if err := s.lines.Err(); err != nil {
			return history.Event{}, err
		}
		return history.Event{}, io.EOF
	}
	var event history.Event
	if err := json.Unmarshal(s.lines.Bytes(), &event); err != nil {
		return history.Event{}, fmt.Errorf("probe on %s: %w", s.client.Host(), err)
	}
	return event, nil
}

// Close implements watch.Stream.
func (s *sshStream) Close() error {
	_ = s.output.CloseWithError(net.ErrClosed) // it never fails; nobody reads on, so the process must not wait for us
	err := s.client.Close()
	<-s.ended
	return err
}

// lastWords keeps the last bytes written to it.
type lastWords struct {
	limit int

	mu   sync.Mutex // guards kept
	kept []byte
}

func (t *lastWords) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, text...)
	t.kept = t.kept[max(0, len(t.kept)-t.limit):]
	return len(text), nil
}

func (t *lastWords) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.kept))
}
