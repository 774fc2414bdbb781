package postgresql

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
)

// lookSQL reads one server. A received position falls back to the begin of a segment when a standby was started again, so the further of
// received and replayed counts. pg_control_checkpoint knows the timeline only as of the last checkpoint: the name of the current segment knows it
// of a primary; the receiver, and what lies in the log's directory when nothing is received any more, of a standby.
const lookSQL = `select pg_is_in_recovery()::text,
  case when pg_is_in_recovery() then coalesce(greatest(
      (select received_tli from pg_stat_wal_receiver), (select min_recovery_end_timeline from pg_control_recovery()), (select timeline_id from pg_control_checkpoint()),
      (select max(('x' || substr(name, 1, 8))::bit(32)::int) from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$')), 0)
    else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end::text,
  (case when pg_is_in_recovery() then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) else pg_current_wal_lsn() end - '0/0')::text,
  coalesce((select status from pg_stat_wal_receiver), ''),
  coalesce((select string_agg(host(client_addr), ' ') from pg_stat_replication where sync_state in ('sync', 'quorum')), '')`

// armedSQL asks whether the server would start as a standby.
const armedSQL = `select ((pg_stat_file('standby.signal', true)).modification is not null)::text`

// The errors of PostgreSQL that say "not here": read_only_sql_transaction.
const readOnlyState = "25006"

// canceledWait is the class of the warning with which PostgreSQL acknowledges a commit whose wait for a synchronous standby was broken off: it
// is on this server alone, and no acknowledgement.
const canceledWait = "01000"

// session is one connection to one server.
type session struct {
	conn    *pgconn.PgConn
	notices []string // codes of what the server warned of
}

func (d *Driver) connect(ctx context.Context, host drill.Host) (*session, error) {
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d sslmode=%s", host.Address, d.options.Port, d.options.SSLMode))
	if err != nil {
		return nil, err
	}
	config.Database, config.User = d.options.Database, d.options.User
	if d.options.Password != "" {
		config.Password = d.options.Password
	}
	config.ConnectTimeout = d.options.ConnectTimeout
	config.RuntimeParams["application_name"] = "firedrill"
	if d.options.DialSQL != nil {
		config.DialFunc = d.options.DialSQL
	}
	s := &session{}
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { s.notices = append(s.notices, notice.Code) }
	s.conn, err = pgconn.ConnectConfig(ctx, config)
	return s, err
}

func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), lookMax)
	defer cancel()
	_ = s.conn.Close(ctx) // what was asked is answered already
}

// rows runs one statement and returns its values as texts.
func (s *session) row(ctx context.Context, sql string, args ...string) ([]string, error) {
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

func (s *session) text(ctx context.Context, sql string, args ...string) (string, error) {
	texts, err := s.row(ctx, sql, args...)
	if err != nil || len(texts) == 0 {
		return "", err
	}
	return texts[0], nil
}

// look makes a member of what a server says of itself. waits lists the standbys that it waits for as a primary.
func (d *Driver) look(ctx context.Context, host drill.Host) (member database.Member, waits []string) {
	member = database.Member{Host: host.Name, Role: database.Down}
	s, err := d.connect(ctx, host)
	if err != nil {
		member.Detail = err.Error()
		return member, nil
	}
	defer s.close()
	values, err := s.row(ctx, lookSQL)
	if err != nil || len(values) != 5 {
		member.Detail = fmt.Sprintf("does not say what it is: %v", err)
		return member, nil
	}
	member.Role = database.Primary
	if values[0] == "true" {
		member.Role, member.Streaming = database.Standby, values[3] == "streaming"
	}
	member.Timeline, _ = strconv.ParseUint(values[1], 10, 32) // our own words
	member.Position, _ = strconv.ParseUint(values[2], 10, 64)
	armed, err := s.text(ctx, armedSQL)
	member.Armed = armed == "true"
	if err != nil {
		member.Detail = "whether it is armed cannot be asked: " + err.Error()
	}
	return member, fields(values[4])
}

// Write writes one row on the host and returns nil only when the commit was acknowledged as durable as the server is configured to make it.
func (d *Driver) Write(ctx context.Context, name string) error {
	host, err := d.host(name)
	if err != nil {
		return err
	}
	s, err := d.connect(ctx, host)
	if err != nil {
		return err
	}
	defer s.close()
	s.notices = nil
	_, err = s.row(ctx, "insert into firedrill.writes (host) values ($1) on conflict (host) do update set at = now()", host.Name)
	if state := stateOf(err); state == "42P01" || state == "3F000" { // no such table or schema: the first write ever
		if err := s.conn.Exec(ctx, writesSQL).Close(); err != nil {
			return refusal(err)
		}
		_, err = s.row(ctx, "insert into firedrill.writes (host) values ($1) on conflict (host) do update set at = now()", host.Name)
	}
	for _, code := range s.notices {
		if err == nil && code == canceledWait {
			return errors.New("the write was not confirmed by a synchronous standby")
		}
	}
	return refusal(err)
}

const writesSQL = `create schema if not exists firedrill;
create table if not exists firedrill.writes (host text primary key, at timestamptz not null default now())`

func stateOf(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

func refusal(err error) error {
	if stateOf(err) == readOnlyState {
		return fmt.Errorf("%w: %w", database.ErrReadOnly, err)
	}
	return err
}

// suspend lets a new primary acknowledge writes although no synchronous standby is left; resume takes that back.
func (d *Driver) suspend(ctx context.Context, s *session) error {
	names, err := s.text(ctx, "show synchronous_standby_names")
	if err != nil || names == "" || d.options.Synchronous == "wait" {
		return err
	}
	return s.configure(ctx, "alter system set synchronous_standby_names = ''")
}

func (d *Driver) resume(ctx context.Context, name string) error {
	host, err := d.host(name)
	if err != nil {
		return err
	}
	s, err := d.connect(ctx, host)
	if err != nil {
		return err
	}
	defer s.close()
	if d.options.Synchronous == "wait" {
		return nil
	}
	return s.configure(ctx, "alter system reset synchronous_standby_names")
}

func (s *session) configure(ctx context.Context, sql string) error {
	for _, statement := range []string{sql, "select pg_reload_conf()"} {
		if _, err := s.row(ctx, statement); err != nil {
			return &drill.Error{Op: statement, Kind: drill.Failed, Err: err, Hint: "Allow it: grant alter system on parameter synchronous_standby_names to the role; see docs/databases.md"}
		}
	}
	return nil
}
