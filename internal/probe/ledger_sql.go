//go:build !hostpart

package probe

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// Tables are ours, in a schema of our own. There is no key: an entry that was written twice is to be found twice.
const (
	makeLedgerSQL = `create schema if not exists firedrill;
create table if not exists firedrill.ledger (writer text not null, seq bigint not null, at timestamptz not null default now())`
	writeEntrySQL  = `insert into firedrill.ledger (writer, seq) values ($1, $2)`
	readEntriesSQL = `select seq from firedrill.ledger where writer = $1`
)

// sqlWriters is how many connections stay open: as many writers survive a failover, or do not, as an application's pool would.
const sqlWriters = 8

// errUnconfirmed stands for a commit that PostgreSQL acknowledged with a warning, because its wait for a synchronous standby was broken off. It is
// on one server alone; nothing was promised.
var errUnconfirmed = errors.New("not confirmed by a synchronous standby")

// sqlStore writes over connections that stay open, as applications do. One that fails is thrown away, and the next one looks the name up again.
type sqlStore struct {
	spec Spec
	idle chan *writerConn
}

type writerConn struct {
	*pgconn.PgConn
	warned bool // since it was last asked
}

func newSQLStore(spec Spec) store {
	return &sqlStore{spec: spec, idle: make(chan *writerConn, sqlWriters)}
}

// validateSQL says whether it is a connection URL of PostgreSQL. The password is not to stand in a file that all may read: passfile=PATH in the URL.
func validateSQL(target string) error {
	if _, err := pgconn.ParseConfig(target); err != nil {
		return fmt.Errorf("url is no connection URL of PostgreSQL: %w", err)
	}
	return nil
}

func (s *sqlStore) take(ctx context.Context) (*writerConn, error) {
	select {
	case conn := <-s.idle:
		return conn, nil
	default:
	}
	config, err := pgconn.ParseConfig(s.spec.URL)
	if err != nil {
		return nil, err
	}
	w := &writerConn{}
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { w.warned = w.warned || notice.Code == "01000" }
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "firedrill ledger"
	}
	w.PgConn, err = pgconn.ConnectConfig(ctx, config)
	return w, err
}

// yield keeps a connection for the next writing, unless it failed or there are enough.
func (s *sqlStore) yield(conn *writerConn, err error) {
	if err == nil {
		select {
		case s.idle <- conn:
			return
		default:
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), readEvery)
	defer cancel()
	_ = conn.Close(ctx) // it is of no use any more
}

// ask runs one statement; a table that is not there is made first.
func (s *sqlStore) ask(ctx context.Context, sql string, args ...string) (result *pgconn.Result, err error) {
	conn, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { s.yield(conn, err) }()
	conn.warned = false
	var values [][]byte
	for _, arg := range args {
		values = append(values, []byte(arg))
	}
	result = conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	var refused *pgconn.PgError
	if errors.As(result.Err, &refused) && (refused.Code == "42P01" || refused.Code == "3F000") {
		if err := conn.Exec(ctx, makeLedgerSQL).Close(); err != nil {
			return nil, err
		}
		result = conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	}
	if result.Err == nil && conn.warned {
		return nil, errUnconfirmed
	}
	return result, result.Err
}

// write takes for an acknowledgement that one row was committed, without a warning.
func (s *sqlStore) write(ctx context.Context, e entry) error {
	result, err := s.ask(ctx, writeEntrySQL, e.Writer, strconv.Itoa(e.Seq))
	if err == nil && result.CommandTag.RowsAffected() != 1 {
		err = fmt.Errorf("the database says %q", result.CommandTag)
	}
	return err
}

func (s *sqlStore) read(ctx context.Context, writer string) ([]int, error) {
	result, err := s.ask(ctx, readEntriesSQL, writer)
	if err != nil {
		return nil, err
	}
	present := []int{}
	for _, row := range result.Rows {
		seq, err := strconv.Atoi(string(row[0]))
		if err != nil {
			return nil, err
		}
		present = append(present, seq)
	}
	return present, nil
}

func (s *sqlStore) close() {
	for {
		select {
		case conn := <-s.idle:
			s.yield(conn, errors.New("over"))
		default:
			return
		}
	}
}
