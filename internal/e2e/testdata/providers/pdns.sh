set -e
zone=powerdns.bookstore.example.test
util() { pdnsutil --config-dir=/etc/firedrill/pdns "$@"; }
rm -f /tmp/zones.sqlite3
sqlite3 /tmp/zones.sqlite3 ".read /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql"
util load-zone $zone /tmp/zone
util import-tsig-key firedrill hmac-sha256 bm9ib2R5IGVsc2UgY2FuIHJlYWNoIHRoZSBsYWI=
util set-meta $zone TSIG-ALLOW-DNSUPDATE firedrill
util set-meta $zone ALLOW-DNSUPDATE-FROM 10.77.0.0/16
exec pdns_server --config-dir=/etc/firedrill/pdns --daemon=no --guardian=no --disable-syslog
