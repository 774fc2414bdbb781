package pgsql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"firedrill/internal/failover/database"
)

const (
	closeMax = 2 * time.Second
	// readOnlyState is how PostgreSQL says "not here": read_only_sql_transaction.
	readOnlyState = "25006"
	// canceledWait is the class of the warning with which PostgreSQL acknowledges a commit whose wait for a synchronous standby was broken off:
	// it is on this server alone, and no acknowledgement.
	canceledWait = "01000"
)

// NoTable and NoSchema are the states of a statement on what was never created.
const (
	NoTable  = "42P01"
	NoSchema = "3F000"
)

// Server is one PostgreSQL server and who asks it. Host and Database and User are required.
type Server struct {
	Host           string // address, or a name
	Port           uint16 // default 5432
	Database, User string
	Password       string        // empty: none, or ~/.pgpass
	SSLMode        string        // as PostgreSQL's own programs know it, default prefer
	ConnectTimeout time.Duration // 0: as long as the context lasts
	Dial           func(ctx context.Context, network, address string) (net.Conn, error)
}

// Session is one connection to one server.
type Session struct {
	conn    *pgconn.PgConn
	notices []string // codes of what the server warned of
}

// Connect opens a session; close it.
func (s Server) Connect(ctx context.Context) (*Session, error) {
	port, mode := s.Port, s.SSLMode
	if port == 0 {
		port = 5432
	}
	if mode == "" {
		mode = "prefer"
	}
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d sslmode=%s", s.Host, port, mode))
	if err != nil {
		return nil, err
	}
	config.Database, config.User = s.Database, s.User
	if s.Password != "" {
		config.Password = s.Password
	}
	config.ConnectTimeout = s.ConnectTimeout
	config.RuntimeParams["application_name"] = "firedrill"
	if s.Dial != nil {
		config.DialFunc = s.Dial
		config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // names are for the dialler
	}
	session := &Session{}
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { session.notices = append(session.notices, notice.Code) }
	session.conn, err = pgconn.ConnectConfig(ctx, config)
	return session, err
}

// Close ends the session; what was asked is answered already.
func (s *Session) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeMax)
	defer cancel()
	_ = s.conn.Close(ctx) // nothing depends on the server hearing of it
}

// Exec runs statements without values.
func (s *Session) Exec(ctx context.Context, sql string) error { return s.conn.Exec(ctx, sql).Close() }

// Row runs one statement and returns the values of its first row as texts; none when it has no row.
func (s *Session) Row(ctx context.Context, sql string, args ...string) ([]string, error) {
	var values [][]byte
	for _, arg := range args {
		values = append(values, []byte(arg))
	}
	result := s.conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if result.Err != nil || len(result.Rows) == 0 {
		return nil, result.Err
	}
	var texts []string
	for _, value := range result.Rows[0] {
		texts = append(texts, string(value))
	}
	return texts, nil
}

// Text runs one statement and returns the first value of its first row, "" when there is none.
func (s *Session) Text(ctx context.Context, sql string, args ...string) (string, error) {
	texts, err := s.Row(ctx, sql, args...)
	if err != nil || len(texts) == 0 {
		return "", err
	}
	return texts[0], nil
}

const (
	writesSQL = `create schema if not exists firedrill;
create table if not exists firedrill.writes (host text primary key, at timestamptz not null default now())`
	writeSQL = "insert into firedrill.writes (host) values ($1) on conflict (host) do update set at = now()"
)

// Write makes one write under a name and returns nil only when it was acknowledged; database.ErrReadOnly, wrapped, when the server answered
// that it takes none.
func (s Server) Write(ctx context.Context, name string) error {
	session, err := s.Connect(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	session.notices = nil
	_, err = session.Row(ctx, writeSQL, name)
	if state := StateOf(err); state == NoTable || state == NoSchema { // the first write ever
		if err := session.Exec(ctx, writesSQL); err != nil {
			return refusal(err)
		}
		_, err = session.Row(ctx, writeSQL, name)
	}
	for _, code := range session.notices {
		if err == nil && code == canceledWait {
			return errors.New("the write was not confirmed by a synchronous standby")
		}
	}
	return refusal(err)
}

// Standby asks a server whether it follows another one.
func (s Server) Standby(ctx context.Context) (bool, error) {
	session, err := s.Connect(ctx)
	if err != nil {
		return false, err
	}
	defer session.Close()
	recovering, err := session.Text(ctx, "select pg_is_in_recovery()::text")
	return recovering == "true", err
}

// StateOf returns the five letters with which PostgreSQL says what is wrong, "" when it did not say it.
func StateOf(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

func refusal(err error) error {
	if StateOf(err) == readOnlyState {
		return fmt.Errorf("%w: %w", database.ErrReadOnly, err)
	}
	return err
}
