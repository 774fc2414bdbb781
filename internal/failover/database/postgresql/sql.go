package postgresql

import (
	"context"
	"fmt"
	"strconv"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/pgsql"
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

func (d *Driver) server(host drill.Host) pgsql.Server {
	o := d.options
	return pgsql.Server{
		Host: host.Address.String(), Port: o.Port, Database: o.Database, User: o.User, Password: o.Password, SSLMode: o.SSLMode,
		ConnectTimeout: o.ConnectTimeout, Dial: o.DialSQL,
	}
}

func (d *Driver) connect(ctx context.Context, host drill.Host) (*pgsql.Session, error) {
	return d.server(host).Connect(ctx)
}

// look makes a member of what a server says of itself. waits lists the standbys that it waits for as a primary.
func (d *Driver) look(ctx context.Context, host drill.Host) (member database.Member, waits []string) {
	member = database.Member{Host: host.Name, Role: database.Down}
	s, err := d.connect(ctx, host)
	if err != nil {
		member.Detail = err.Error()
		return member, nil
	}
	defer s.Close()
	values, err := s.Row(ctx, lookSQL)
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
	armed, err := s.Text(ctx, armedSQL)
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
	return d.server(host).Write(ctx, host.Name)
}

// suspend lets a new primary acknowledge writes although no synchronous standby is left; resume takes that back.
func (d *Driver) suspend(ctx context.Context, s *pgsql.Session) error {
	names, err := s.Text(ctx, "show synchronous_standby_names")
	if err != nil || names == "" || d.options.Synchronous == "wait" {
		return err
	}
	return configure(ctx, s, "alter system set synchronous_standby_names = ''")
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
	defer s.Close()
	if d.options.Synchronous == "wait" {
		return nil
	}
	return configure(ctx, s, "alter system reset synchronous_standby_names")
}

func configure(ctx context.Context, s *pgsql.Session, sql string) error {
	for _, statement := range []string{sql, "select pg_reload_conf()"} {
		if _, err := s.Row(ctx, statement); err != nil {
			return &drill.Error{Op: statement, Kind: drill.Failed, Err: err, Hint: "Allow it: grant alter system on parameter synchronous_standby_names to the role; see docs/databases.md"}
		}
	}
	return nil
}
