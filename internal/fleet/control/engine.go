package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"firedrill/internal/drill"
)

const (
	engineReady     = 15 * time.Second
	enginePing      = 15 * time.Second // longer than agents are silent; that a host is gone is seen by its presence
	enginePingsOut  = 2
	engineHandshake = 5 // seconds for TLS, and again for the log-in
	enginePayload   = 1 << 20
	connectionsMax  = 20_000
	engineAgain     = 100 * time.Millisecond // between tries to connect to it from within
	engineCloses    = 100                    // connections that have ended and are remembered; each join leaves one, with all that it had
)

// engineOptions are what differs between engines.
type engineOptions struct {
	listen    string
	advertise string // where clients learn that this engine is; may be empty
	directory string // of what it keeps; empty: it keeps nothing, and is a door alone
	tls       *tls.Config
	gate      server.Authentication
	log       *slog.Logger
	heard     func(text string) // told what the engine says of its troubles; it must not wait
	name      string
	cluster   Cluster
	routes    *tls.Config // how engines of a cluster know each other
}

// startEngine starts NATS in this process. Every acknowledged write is on the disk: what is kept here is evidence and locks, not traffic.
func startEngine(o engineOptions) (*server.Server, error) {
	listen, log := o.listen, o.log
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, badListen(listen, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, badListen(listen, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	// The engine only logs when it cannot listen, and goes on: so it is tried before.
	probe, err := net.Listen("tcp", listen) //nolint:noctx // at once or never
	if err != nil {
		return nil, &drill.Error{Op: "listen on " + listen, Kind: drill.Unsupported, Err: err, Hint: "Name another address or port with --fleet-listen."}
	}
	if err := probe.Close(); err != nil {
		return nil, err
	}
	options := &server.Options{
		ServerName: o.name, Host: host, Port: port, NoSigs: true, DisableJetStreamBanner: true, ClientAdvertise: o.advertise,
		JetStream: o.directory != "", StoreDir: o.directory, SyncAlways: true,
		TLSConfig: o.tls, TLSHandshakeFirst: true, TLSTimeout: engineHandshake, AuthTimeout: engineHandshake,
		CustomClientAuthentication: o.gate, AlwaysEnableNonce: true,
		MaxPayload: enginePayload, MaxConn: connectionsMax, PingInterval: enginePing, MaxPingsOut: enginePingsOut, MaxClosedClients: engineCloses,
	}
	if len(o.cluster.Peers) > 0 {
		if err := o.cluster.join(options, o.routes); err != nil {
			return nil, err
		}
	}
	engine, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("fleet: engine: %w", err)
	}
	engine.SetLoggerV2(engineLog{log, o.heard}, false, false, false)
	engine.Start()
	if !engine.ReadyForConnections(engineReady) {
		engine.Shutdown()
		return nil, &drill.Error{Op: "fleet", Kind: drill.Internal, Err: errors.New("the engine did not become ready"), Hint: "see the lines above; is the disk full?"}
	}
	return engine, nil
}

func stopEngine(engine *server.Server) {
	engine.Shutdown()
	engine.WaitForShutdown()
}

// Cluster is what servers need to know to keep everything together.
type Cluster struct {
	Listen string   // address and port for the other servers
	Peers  []string // host:port of all of them, this one included
}

// clusterName is the same for all: what tells fleets apart is their key.
const clusterName = "firedrill"

// join has an engine find the others. They speak TLS, and each has the key of the fleet or is not let in.
func (c Cluster) join(options *server.Options, routes *tls.Config) error {
	host, portText, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return &drill.Error{Op: "--cluster-listen", Kind: drill.Invalid, Err: fmt.Errorf("%q: %w", c.Listen, err), Hint: "write ADDRESS:PORT, as :7423"}
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port == 0 {
		return &drill.Error{Op: "--cluster-listen", Kind: drill.Invalid, Err: fmt.Errorf("%q names no port", c.Listen), Hint: "the others must know it: write ADDRESS:PORT, as :7423"}
	}
	probe, err := net.Listen("tcp", c.Listen) //nolint:noctx // at once or never
	if err != nil {
		return &drill.Error{Op: "listen on " + c.Listen, Kind: drill.Unsupported, Err: err, Hint: "Name another address or port with --cluster-listen."}
	}
	if err := probe.Close(); err != nil {
		return err
	}
	options.Cluster = server.ClusterOpts{Name: clusterName, Host: host, Port: port, TLSConfig: routes, TLSTimeout: engineHandshake}
	for _, peer := range c.Peers {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats-route", Host: peer})
	}
	return nil
}

func badListen(listen string, err error) error {
	return &drill.Error{Op: "--fleet-listen", Kind: drill.Invalid, Err: fmt.Errorf("%q: %w", listen, err), Hint: "write ADDRESS:PORT, as :7422"}
}

// slot holds the engine of this process, which may be another one after a while.
type slot struct{ atomic.Pointer[server.Server] }

// InProcessConn connects to the engine that is there now.
func (s *slot) InProcessConn() (net.Conn, error) { return s.Load().InProcessConn() }

// within connects to the engine without a socket, and to the next one when there is another.
func within(engine *slot, secret, inbox string) (*nats.Conn, error) {
	return nats.Connect("", nats.InProcessServer(engine), nats.UserInfo(controlUser, secret), nats.Name("control"), nats.MaxReconnects(-1), nats.ReconnectWait(engineAgain), nats.IgnoreAuthErrorAbort(), nats.CustomInboxPrefix(inbox))
}

// engineLog carries what the engine says to our log. What it says of each client that comes and goes is not news.
type engineLog struct {
	log   *slog.Logger
	heard func(text string)
}

func (l engineLog) say(level slog.Level, format string, args []any) {
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.log.Log(context.Background(), level, "engine", "says", text) //nolint:sloglint // no request to carry
	if level > slog.LevelDebug && l.heard != nil {
		l.heard(text)
	}
}

func (l engineLog) Noticef(format string, args ...any) { l.say(slog.LevelDebug, format, args) }
func (l engineLog) Warnf(format string, args ...any) {
	switch {
	case strings.Contains(format, "TLS certificate chain and hostname of solicited routes"):
		return // the keys of both sides are compared, which is more than it asks for
	case strings.Contains(format, "TLS Handshake First"):
		return // all that connect are ours, and do
	}
	l.say(slog.LevelWarn, format, args)
}
func (l engineLog) Fatalf(format string, args ...any) { l.say(slog.LevelError, format, args) }
func (l engineLog) Errorf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }
func (l engineLog) Debugf(string, ...any)             {}
func (l engineLog) Tracef(string, ...any)             {}
