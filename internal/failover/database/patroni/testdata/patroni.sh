#!/bin/sh
# PostgreSQL 15 under Patroni, for tests: `patroni.sh NAME ADDRESS [AFTER]`. The first start waits until AFTER is the primary. SYNCHRONOUS=true is
# Patroni's synchronous mode, TTL how many seconds its leader lock lasts.
set -eu
dir=/var/lib/books
if [ "$(id -u)" = 0 ]; then
  install -d -m 0700 -o postgres -g postgres "$dir"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
cd "$dir"
export LC_ALL=C.UTF-8 HOME="$dir"
cat >patroni.yml <<CONFIG
scope: books
name: $1
restapi: {listen: "$2:8008", connect_address: "$2:8008", authentication: {username: patroni, password: paperback}}
etcd3: {hosts: ["10.77.2.9:2379"]}
bootstrap:
  dcs:
    ttl: ${TTL:-6}
    loop_wait: 1
    retry_timeout: 2
    maximum_lag_on_failover: 1048576
    synchronous_mode: ${SYNCHRONOUS:-false}
    postgresql: {use_pg_rewind: true, use_slots: true}
  initdb: [{encoding: UTF8}, {auth: trust}]
  post_bootstrap: $0 bootstrap
postgresql:
  listen: "$2:5432"
  connect_address: "$2:5432"
  data_dir: $dir/main
  bin_dir: /usr/lib/postgresql/15/bin
  basebackup: [{checkpoint: fast}]
  pgpass: $dir/pgpass
  authentication:
    replication: {username: replicator, password: paperback}
    superuser: {username: postgres, password: paperback}
    rewind: {username: postgres, password: paperback}
  parameters: {shared_buffers: 16MB, min_wal_size: 80MB, max_wal_size: 160MB, wal_keep_size: 32MB, fsync: "off", unix_socket_directories: $dir, wal_log_hints: "on", wal_retrieve_retry_interval: 200ms, wal_sender_timeout: 3s, wal_receiver_timeout: 3s, tcp_user_timeout: 3s}
  pg_hba: ["local all all trust", "host all firedrill 10.77.0.0/16 scram-sha-256", "host all postgres 10.77.2.0/24 trust", "host replication replicator 10.77.2.0/24 trust"]
CONFIG
if [ "$1" = bootstrap ]; then
  exec psql "$2" -Xq -c "create role firedrill login password 'paperback' in role pg_monitor" -c "create database books" -c "grant create on database books to firedrill"
fi
if [ ! -d main ] && [ -n "${3:-}" ]; then
  until curl -sf "http://$3:8008/primary" >/dev/null; do sleep 0.1; done
fi
rm -f main/postmaster.pid # left by a host that lost its power
exec /usr/bin/patroni patroni.yml
