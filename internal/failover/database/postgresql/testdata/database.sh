#!/bin/sh
# PostgreSQL 15 for tests: `database.sh primary`, or `database.sh standby-of HOST`. The first start makes the database, later ones only start it.
# SYNCHRONOUS is synchronous_standby_names. docs/databases.md tells why the roles may do what they may.
set -eu
dir=/var/lib/books
PATH=/usr/lib/postgresql/15/bin:$PATH
if [ "$(id -u)" = 0 ]; then
  install -d -m 0700 -o postgres -g postgres "$dir"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
cd "$dir"
export LC_ALL=C.UTF-8
if [ ! -d main ]; then
  rm -rf new
  case "$1" in
  primary)
    initdb --pgdata new --username postgres --auth trust --wal-segsize 4 --encoding UTF8 --no-sync >initdb.log
    cat >new/pg_hba.conf <<RULES
local all         all         trust
host  all         firedrill   10.77.0.0/16 scram-sha-256
host  all         replicator  10.77.0.0/16 trust
host  replication replicator  10.77.0.0/16 trust
RULES
    postgres --single -D new postgres >single.log <<SQL
create role firedrill login password 'paperback' in role pg_monitor, pg_checkpoint
create role replicator login replication
create database books
grant create on database books to firedrill
grant alter system on parameter synchronous_standby_names to firedrill
grant execute on function pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) to replicator
SQL
    postgres --single -D new books >>single.log <<SQL
grant execute on function pg_promote(boolean, integer), pg_stat_file(text, boolean), pg_reload_conf() to firedrill
SQL
    cat >>new/postgresql.conf <<SETTINGS
listen_addresses = '*'
unix_socket_directories = '$dir'
shared_buffers = 16MB
min_wal_size = 16MB
max_wal_size = 64MB
wal_keep_size = 32MB
wal_log_hints = on
fsync = off
synchronous_standby_names = '${SYNCHRONOUS:-}'
wal_sender_timeout = 3s
wal_receiver_timeout = 3s
wal_retrieve_retry_interval = 200ms
tcp_user_timeout = 3s
SETTINGS
    mv new main
    ;;
  standby-of)
    until pg_basebackup --pgdata new --write-recovery-conf --checkpoint fast --no-sync --dbname "host=$2 user=replicator application_name=$(hostname) connect_timeout=2"; do
      rm -rf new
      sleep 0.1
    done
    mv new main
    ;;
  esac
fi
rm -f main/postmaster.pid # left by a host that lost its power
exec postgres -D main
