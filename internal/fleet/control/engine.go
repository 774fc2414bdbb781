package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
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
)

// startEngine starts NATS in this process. Every acknowledged write is on the disk: what is kept here is evidence and locks, not traffic.
func startEngine(listen, directory string, tlsConfig *tls.Config, gate server.Authentication, log *slog.Logger) (*server.Server, error) {
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
	engine, err := server.NewServer(&server.Options{
		ServerName: "firedrill", Host: host, Port: port, NoSigs: true, DisableJetStreamBanner: true,
		JetStream: true, StoreDir: directory, SyncAlways: true,
		TLSConfig: tlsConfig, TLSHandshakeFirst: true, TLSTimeout: engineHandshake, AuthTimeout: engineHandshake,
		CustomClientAuthentication: gate, AlwaysEnableNonce: true,
		MaxPayload: enginePayload, MaxConn: connectionsMax, PingInterval: enginePing, MaxPingsOut: enginePingsOut,
	})
	if err != nil {
		return nil, fmt.Errorf("fleet: engine: %w", err)
	}
	engine.SetLoggerV2(engineLog{log}, false, false, false)
	engine.Start()
	if !engine.ReadyForConnections(engineReady) {
		engine.Shutdown()
		return nil, &drill.Error{Op: "fleet", Kind: drill.Internal, Err: errors.New("the engine did not become ready"), Hint: "see the lines above; is the disk full?"}
	}
	return engine, nil
}

func badListen(listen string, err error) error {
	return &drill.Error{Op: "--fleet-listen", Kind: drill.Invalid, Err: fmt.Errorf("%q: %w", listen, err), Hint: "write ADDRESS:PORT, as :7422"}
}

// within connects to the engine without a socket.
func within(engine *server.Server, secret string) (*nats.Conn, error) {
	return nats.Connect("", nats.InProcessServer(engine), nats.UserInfo(controlUser, secret), nats.Name("control"), nats.MaxReconnects(-1), nats.CustomInboxPrefix("fd.inbox.control"))
}

// engineLog carries what the engine says to our log. What it says of each client that comes and goes is not news.
type engineLog struct{ log *slog.Logger }

func (l engineLog) say(level slog.Level, format string, args []any) {
	l.log.Log(context.Background(), level, "engine", "says", strings.TrimSpace(fmt.Sprintf(format, args...))) //nolint:sloglint // no request to carry
}

func (l engineLog) Noticef(format string, args ...any) { l.say(slog.LevelDebug, format, args) }
func (l engineLog) Warnf(format string, args ...any)   { l.say(slog.LevelWarn, format, args) }
func (l engineLog) Fatalf(format string, args ...any)  { l.say(slog.LevelError, format, args) }
func (l engineLog) Errorf(format string, args ...any)  { l.say(slog.LevelWarn, format, args) }
func (l engineLog) Debugf(string, ...any)              {}
func (l engineLog) Tracef(string, ...any)              {}
