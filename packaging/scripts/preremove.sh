#!/bin/sh
# What is in force must not outlive the program that takes it back. An upgrade ("upgrade", or 1 to an rpm) leaves running attacks alone: they
# hold the program that they were started from.
set -e
case $1 in upgrade | 1) exit 0 ;; esac
if [ -d /run/systemd/system ]; then
	systemctl stop firedrill-agent.service firedrill-schedule.service firedrill-server.service || true
fi
if command -v systemctl >/dev/null; then
	systemctl --no-reload disable firedrill-agent.service firedrill-schedule.service firedrill-server.service firedrill-recover.service >/dev/null 2>&1 || true
fi
if ! /usr/bin/firedrill halt; then
	echo "firedrill: something is in force still; the package stays until that is taken back: firedrill status" >&2
	exit 1
fi
