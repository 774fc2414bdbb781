#!/bin/sh
# The init of a throw-away host: systemd on an overlay over this machine's own files. It is started in namespaces of its own (processes,
# mounts, network, names, cgroups), and can write neither to this machine's disk nor to its kernel's settings.
set -e
at=$1
mount --make-rprivate /
mount -t tmpfs lab "$at"
mkdir "$at/upper" "$at/work" "$at/root"
root=$at/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$at/upper,workdir=$at/work" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs run "$root/run"
mount -t tmpfs tmp "$root/tmp"
mount -t tmpfs dev "$root/dev"
for device in null zero full random urandom tty; do
	touch "$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -p "$root/var/lib/firedrill" "$root/old"
mount -t tmpfs state "$root/var/lib/firedrill"
units=$root/etc/systemd/system
mkdir -p "$units"
for unit in systemd-sysctl systemd-modules-load systemd-tmpfiles-setup-dev systemd-remount-fs systemd-udevd; do ln -sf /dev/null "$units/$unit.service"; done
printf '[Service]\nExecStart=/bin/sleep 1000\n' >"$units/drill-api.service"
printf '[Unit]\nRequires=drill-api.service\nAfter=drill-api.service\n[Service]\nExecStart=/bin/sleep 1000\n' >"$units/drill-web.service"
printf '[Socket]\nListenStream=/run/drill-api.sock\n' >"$units/drill-api.socket"
printf '[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n' >"$units/drill-off.service"
cp "$2" "$root/run/attack"
cd "$root"
pivot_root . old
umount -l /old
exec env -i container=firedrill PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target --log-target=null --show-status=0
