package bookstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// The times of the way to the database. A request has requestPatience in all, so none hangs on a dead connection, and the next one
// starts on a fresh connection: the service is back within a second of the database.
const (
	requestPatience = 1500 * time.Millisecond
	connectPatience = 1 * time.Second
	checkPatience   = 300 * time.Millisecond // for a connection that rested; a dead one must leave time to make another
	restedAfter     = 500 * time.Millisecond // older silence than this, and a connection is checked before it is used
	connectionAge   = 30 * time.Second       // then it is made anew, so that the service follows the name of the database
	poolSize        = 8
)

// patience is how long each part of a request may take.
type patience struct {
	request, connect, check time.Duration
	rested                  time.Duration // see restedAfter
}

func usualPatience() patience {
	return patience{request: requestPatience, connect: connectPatience, check: checkPatience, rested: restedAfter}
}

// pool keeps a few connections to the database. It is made for a database that vanishes: waiting for a place, checking, connecting and
// asking all happen within the caller's deadline, and a connection that failed gives up its place at once.
type pool struct {
	url      func() (string, error) // asked for each use, so that a changed setting counts from then on
	name     string                 // who we are, for the database's list of sessions
	places   chan struct{}
	patience patience

	mu       sync.Mutex // guards the fields below
	idle     []*connection
	closed   bool
	closings sync.WaitGroup // connections that are being closed
}

// connection is one session at the database.
type connection struct {
	*pgconn.PgConn
	url        string
	made, used time.Time
}

func newPool(name string, url func() (string, error)) *pool {
	return &pool{url: url, name: name, places: make(chan struct{}, poolSize), patience: usualPatience()}
}

// run executes one statement and returns its rows. It returns by the deadline of ctx, which must have one.
func (p *pool) run(ctx context.Context, s *statement, args ...string) ([][]string, error) {
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a free database connection: %w", ctx.Err())
	}
	conn, err := p.take(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := conn.ask(ctx, s, args)
	p.yield(conn, err)
	return rows, err
}

// take returns a connection that answered a moment ago.
func (p *pool) take(ctx context.Context) (*connection, error) {
	url, err := p.url()
	if err != nil {
		return nil, err
	}
	for {
		conn := p.newestIdle()
		if conn == nil {
			return p.connect(ctx, url)
		}
		if conn.url != url || time.Since(conn.made) > connectionAge {
			p.close(conn)
			continue
		}
		if time.Since(conn.used) < p.patience.rested {
			return conn, nil
		}
		checking, cancel := context.WithTimeout(ctx, p.patience.check)
		_, err := conn.ask(checking, pingDatabase, nil)
		cancel()
		if err == nil {
			return conn, nil
		}
		p.close(conn)
		p.closeIdle() // they rested longer and went the same way
	}
}

func (p *pool) newestIdle() *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	last := len(p.idle) - 1
	conn := p.idle[last]
	p.idle = p.idle[:last]
	return conn
}

// yield takes a connection back after use. It is kept only when nothing about it is in doubt.
func (p *pool) yield(conn *connection, err error) {
	var refused *pgconn.PgError
	healthy := err == nil || errors.As(err, &refused) && !doubtful(refused)
	p.mu.Lock()
	keep := healthy && !conn.IsClosed() && !p.closed
	if keep {
		conn.used = time.Now()
		p.idle = append(p.idle, conn)
	}
	p.mu.Unlock()
	if !keep {
		p.close(conn)
	}
}

// doubtful says whether an answer of the database means that another connection may do better: it is going down, starting, or became
// a standby while the name has moved on.
func doubtful(err *pgconn.PgError) bool {
	return err.Severity != "ERROR" || err.Code == stateReadOnly || strings.HasPrefix(err.Code, "57P")
}

// ask executes one statement in one round trip.
func (c *connection) ask(ctx context.Context, s *statement, args []string) ([][]string, error) {
	values := make([][]byte, len(args))
	for i, arg := range args {
		values[i] = []byte(arg)
	}
	result := c.ExecParams(ctx, s.sql, values, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, result.Err
	}
	rows := make([][]string, len(result.Rows))
	for i, row := range result.Rows {
		for _, value := range row {
			rows[i] = append(rows[i], string(value))
		}
	}
	return rows, nil
}

func (p *pool) connect(ctx context.Context, url string) (*connection, error) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.patience.connect)
	defer cancel()
	config.RuntimeParams["application_name"] = p.name
	config.RuntimeParams["statement_timeout"] = strconv.FormatInt(p.patience.request.Milliseconds(), 10)
	dial := dialer(p.patience.connect).DialContext
	var connected atomic.Bool
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil && connected.Load() {
			// A request to cancel, for a statement that we gave up. pgconn would wait for its answer for 15 s.
			err = conn.SetDeadline(time.Now().Add(connectPatience))
		}
		return conn, err
	}
	established, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	connected.Store(true)
	now := time.Now()
	return &connection{PgConn: established, url: url, made: now, used: now}, nil
}

// dialer connects so that the kernel itself gives up a dead connection soon.
func dialer(patience time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout:         patience,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2},
		Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(2*time.Second/time.Millisecond))
				if errors.Is(failed, unix.ENOPROTOOPT) || errors.Is(failed, unix.EOPNOTSUPP) {
					failed = nil // a unix socket
				}
			})
			return errors.Join(err, failed)
		},
	}
}

// close gives a connection up without waiting for the other side, which may be gone.
func (p *pool) close(conn *connection) {
	p.closings.Go(func() {
		if !conn.IsClosed() {
			ctx, cancel := context.WithTimeout(context.Background(), checkPatience)
			defer cancel()
			_ = conn.Close(ctx) // a courtesy; the connection is closed whatever comes of it
		}
		conn.Conn().Close()
		<-conn.CleanupDone()
	})
}

func (p *pool) closeIdle() {
	for conn := p.newestIdle(); conn != nil; conn = p.newestIdle() {
		p.close(conn)
	}
}

// shut closes every connection that is not in use and, later, the ones that are; it returns when the closed ones are gone.
func (p *pool) shut() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.closeIdle()
	p.closings.Wait()
}

// databaseURL reads the URL from file when it is there, else returns fallback. The file is a host's own setting, as a team keeps its
// passwords outside of the release.
func databaseURL(file, fallback string) func() (string, error) {
	return func() (string, error) {
		if file == "" {
			return fallback, nil
		}
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			return fallback, nil
		}
		if err != nil {
			return "", fmt.Errorf("read database setting: %w", err)
		}
		if url := strings.TrimSpace(string(text)); url != "" {
			return url, nil
		}
		return fallback, nil
	}
}
