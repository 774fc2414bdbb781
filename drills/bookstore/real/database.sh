#!/bin/sh
# PostgreSQL 15 as the Bookstore's database: `database.sh primary`, or `database.sh standby-of HOST`.
#
# The first start makes the database; later ones only start it. A commit is acknowledged once it is flushed on the standby too, so while
# the standby is away writes wait: no acknowledged write is lost, whichever host is. Settings, with what they are in the lab:
#
#   DATABASE_PASSWORD  of the roles bookstore and replicator (required)
#   DATABASE_DIR       /var/lib/bookstore-db
#   DATABASE_PORT      5432
#   PRIMARY_PORT       5432
#   CLIENTS            10.77.0.0/16
set -eu

: "${DATABASE_PASSWORD:?}"
dir=${DATABASE_DIR:-/var/lib/bookstore-db}
port=${DATABASE_PORT:-5432}
clients=${CLIENTS:-10.77.0.0/16}
PATH=/usr/lib/postgresql/15/bin:$PATH

# PostgreSQL refuses to run as root.
if [ "$(id -u)" = 0 ]; then
  install -d -m 0700 -o postgres -g postgres "$dir"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
cd "$dir"
export LC_ALL=C.UTF-8

make_primary() {
  initdb --pgdata new --username postgres --auth trust --wal-segsize 4 --encoding UTF8 >initdb.log
  cat >new/pg_hba.conf <<RULES
local all         postgres                trust
host  bookstore   bookstore   $clients    scram-sha-256
host  replication replicator  $clients    scram-sha-256
RULES
  # One statement a line: this is how PostgreSQL reads them before it serves anybody.
  postgres --single -D new postgres >single.log <<SQL
create role bookstore login password '$DATABASE_PASSWORD'
create role replicator login replication password '$DATABASE_PASSWORD'
create database bookstore owner bookstore
SQL
  cat >>new/postgresql.conf <<SETTINGS
listen_addresses = '*'
unix_socket_directories = '$dir'
shared_buffers = 16MB
min_wal_size = 16MB
max_wal_size = 64MB
wal_keep_size = 32MB
synchronous_standby_names = 'standby'
# Both sides notice a dead line within seconds.
wal_sender_timeout = 3s
wal_receiver_timeout = 3s
wal_retrieve_retry_interval = 500ms
tcp_user_timeout = 3s
SETTINGS
  mv new main # only a finished database is ever started
}

make_standby() {
  until pg_basebackup --pgdata new --write-recovery-conf --checkpoint fast \
    --dbname "host=$1 port=${PRIMARY_PORT:-5432} user=replicator password=$DATABASE_PASSWORD connect_timeout=2"; do
    rm -rf new
    sleep 0.2
  done
  mv new main
}

if [ ! -d main ]; then
  rm -rf new
  case "$1" in
  primary) make_primary ;;
  standby-of) make_standby "$2" ;;
  *) echo "usage: database.sh primary | standby-of HOST" >&2; exit 2 ;;
  esac
fi

# Left by a host that lost its power. The init of this host starts one database at a time, so nobody else can own it.
rm -f main/postmaster.pid

name=primary
[ "$1" = primary ] || name=standby
exec postgres -D main -p "$port" -c cluster_name=$name
