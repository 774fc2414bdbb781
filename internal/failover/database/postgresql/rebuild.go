package postgresql

import (
	"context"
	"fmt"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
)

// rebuildMax bounds a rebuild: pg_rewind copies what has changed, which is not the whole database.
const rebuildMax = 10 * time.Minute

// followMax is how long a rebuilt standby may take to connect to its primary.
const followMax = time.Minute

// rewindScript makes a standby of $source out of what lies in $data. pg_rewind wants a server that stopped cleanly, and recovers one that did
// not in a mode that a file standby.signal forbids; so an armed server is started, for nobody, and stopped. Whatever breaks off here leaves a
// directory that starts as a standby or not at all.
const rewindScript = `
if [ -n "$service" ]; then systemctl stop "$service"; fi
if running; then as "$programs/pg_ctl" stop -D "$data" -m fast -w >/dev/null; fi
rm -f "$data/postmaster.pid"
` + armScript + `
settle() {
  as "$programs/pg_ctl" start -D "$data" -w -t 60 -l "$data/firedrill-rebuild.log" -o "-c recovery_target_timeline=$1 -c listen_addresses='' -c primary_conninfo='' -c unix_socket_directories=$data" >/dev/null 2>&1 &&
    as "$programs/pg_ctl" stop -D "$data" -m fast -w -t 60 >/dev/null
}
state=$(as "$programs/pg_controldata" -D "$data" | sed -n 's/^Database cluster state: *//p')
case $state in
'shut down'|'shut down in recovery') ;;
*)
  # Which log leads on depends on how far it had come when it was stopped: to the primary's branch, or on its own past the fork.
  settle latest || settle current || { tail -n 4 "$data/firedrill-rebuild.log"; exit 1; }
  ;;
esac
# Refused without a change: a server that has begun to follow the primary onto its new timeline looks to pg_rewind (15) as if its own log were
# torn. It may go on following as it is; whether it does is asked afterwards.
rewind() { as "$programs/pg_rewind" --target-pgdata "$data" --source-server "$source" --write-recovery-conf --no-sync "$@" 2>&1; }
if refused=$(rewind --dry-run); then rewind; else echo "not rewound: $refused"; fi
if [ -n "$conninfo" ]; then
  printf "primary_conninfo = '%s'\n" "$conninfo" | as sh -c 'cat >> "$1/postgresql.auto.conf"' sh "$data"
fi
as touch "$data/standby.signal"
sync
if [ -n "$service" ]; then systemctl start "$service"; else as "$programs/pg_ctl" start -D "$data" -w -t 60 -l "$data/firedrill-rebuild.log" >/dev/null; fi
`

const rebuildHint = "pg_rewind needs wal_log_hints or checksums, and a role that may read files; see docs/databases.md. A copy is always possible: pg_basebackup."

// Rebuild rewinds the host to where the primary branched off, and has it follow. Synchronous replication is resumed then.
func (d *Driver) Rebuild(ctx context.Context, name, from string) error {
	ctx, cancel := context.WithTimeout(ctx, rebuildMax)
	defer cancel()
	host, err := d.host(name)
	if err != nil {
		return err
	}
	primary, err := d.host(from)
	if err != nil {
		return err
	}
	is, _ := d.look(ctx, primary)
	if member, _ := d.look(ctx, host); member.Role == database.Standby && member.Streaming && member.Timeline >= is.Timeline {
		return d.resume(ctx, from) // an armed primary that lost nothing but its power may follow by itself
	}
	// Until its first checkpoint a new primary looks to pg_rewind as if it had never branched off.
	s, err := d.connect(ctx, primary)
	if err != nil {
		return err
	}
	_, err = s.Row(ctx, "checkpoint")
	s.Close()
	if err != nil {
		return &drill.Error{Op: "rebuild", Host: primary.Name, Kind: drill.Failed, Err: err, Hint: "Allow it: grant pg_checkpoint to the role; see docs/databases.md"}
	}
	follow := fmt.Sprintf("host=%s port=%d %s application_name=%s", primary.Address, d.options.Port, d.options.Replication, host.Name)
	said, err := d.script(ctx, host, rewindScript, "source", follow+" dbname=postgres", "conninfo", strings.ReplaceAll(follow, "'", "''"))
	if err != nil {
		return &drill.Error{
			Op: "rebuild", Host: host.Name, Kind: drill.Failed, Err: fmt.Errorf("%w %s", err, last(said)),
			Hint: rebuildHint,
		}
	}
	following, stop := context.WithTimeout(ctx, followMax)
	defer stop()
	for {
		member, _ := d.look(following, host)
		if member.Role == database.Standby && member.Streaming {
			return d.resume(ctx, from)
		}
		select {
		case <-following.Done():
			return &drill.Error{Op: "rebuild", Host: host.Name, Kind: drill.Timeout, Err: fmt.Errorf("it was started, but does not stream: %s %s; before: %s", member.Role, member.Detail, last(said)), Hint: rebuildHint}
		case <-time.After(pollEvery):
		}
	}
}
