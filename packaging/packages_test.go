//go:build packages

// Package packaging is tested as a host's administrator uses it: the packages of `make package` are installed, used and removed.
package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// inHost runs a script in a copy of this machine's files, with a network and processes of its own; what it writes is gone afterwards. $1 is the
// directory of the packages.
func inHost(t *testing.T, script string) string {
	t.Helper()
	packages, err := filepath.Abs("../packages")
	if err != nil {
		t.Fatal(err)
	}
	const host = `set -e
mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mount -t proc proc /mnt/root/proc && mount --rbind /dev /mnt/root/dev && mount --rbind /sys /mnt/root/sys && mount -t tmpfs tmpfs /mnt/root/run
mkdir -p /mnt/root/packages && mount --bind "$1" /mnt/root/packages && ip link set lo up
exec chroot /mnt/root /bin/sh -c "$2"`
	out, err := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", host, "sh", packages, "cd /packages\n"+script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// use is the same for each kind of package: what is installed is there, an upgrade leaves an attack in force, and removal takes it back.
const use = `set -e
rm -rf /var/lib/firedrill
install_it
test -x /usr/bin/firedrill && test -f /usr/lib/systemd/system/firedrill-recover.service
files_of | grep -x /usr/share/man/man1/firedrill-attack-blackhole.1 # a small image may leave manual pages out when it installs
test -d /etc/firedrill && test "$(stat -c %U:%a /var/lib/firedrill)" = root:755
getent passwd firedrill >/dev/null && echo "user made"
systemctl is-enabled firedrill-recover.service
grep -q __start_firedrill /usr/share/bash-completion/completions/firedrill && echo "completion there"
firedrill version
firedrill attack blackhole -l 300 -i 192.0.2.1 >/tmp/attack 2>&1 &
attack=$!
for i in $(seq 100); do nft list tables | grep -q firedrill && break; sleep 0.1; done
nft list tables | grep firedrill
again
nft list tables | grep -q firedrill && echo "in force after the upgrade"
remove_it
! nft list tables | grep firedrill && echo "nothing in force after the removal"
code=0; wait $attack || code=$?
cat /tmp/attack
test ! -e /usr/bin/firedrill && echo "program gone"
test ! -e /etc/systemd/system/basic.target.wants/firedrill-recover.service && echo "unit disabled"`

func check(t *testing.T, out string) {
	t.Helper()
	for _, want := range []string{"user made", "enabled", "completion there", "in force after the upgrade", "nothing in force after the removal", "Reverting impact!", "program gone", "unit disabled"} {
		if !strings.Contains(out, want) {
			t.Errorf("not seen: %s", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

func TestDebianPackageIsInstalledUsedUpgradedAndRemoved(t *testing.T) {
	check(t, inHost(t, "install_it() { dpkg -i firedrill_*.deb; }\nagain() { dpkg -i firedrill_*.deb; }\nremove_it() { dpkg -r firedrill; }\nfiles_of() { dpkg -L firedrill; }\n"+use))
}

func TestRPMIsInstalledUsedUpgradedAndRemoved(t *testing.T) {
	// rpm's own dependencies are those of a distribution that is not here.
	check(t, inHost(t, "install_it() { rpm -i --nodeps firedrill-*.rpm; }\nagain() { rpm -U --force --nodeps firedrill-*.rpm; }\nremove_it() { rpm -e --nodeps firedrill; }\nfiles_of() { rpm -ql firedrill; }\n"+use))
}

// What cannot be taken back keeps the package: else nothing would be left that could.
func TestPackageStaysWhileSomethingIsInForce(t *testing.T) {
	out := inHost(t, `set -e
dpkg -i firedrill_*.deb
cp /usr/bin/firedrill /tmp/real
printf '#!/bin/sh\n[ "$1" != halt ] || exit 5\nexec /tmp/real "$@"\n' >/usr/bin/firedrill
if dpkg -r firedrill; then echo "removed all the same"; else echo "kept"; fi`)
	if !strings.Contains(out, "something is in force still") || !strings.HasSuffix(strings.TrimSpace(out), "kept") {
		t.Error(out)
	}
}

// The image is the program and nothing else: it must do with that.
func TestImageNeedsNothingButTheProgram(t *testing.T) {
	text, err := os.ReadFile("Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	script := "set -e\nmkdir /image /image/proc /image/sys /image/dev\n"
	for line := range strings.Lines(string(text)) {
		switch words := strings.Fields(line); {
		case len(words) == 0 || strings.HasPrefix(line, "#"):
		case words[0] == "FROM":
			if words[1] != "scratch" {
				t.Fatalf("the image stands on %s", words[1])
			}
		case words[0] == "COPY":
			script += "mkdir -p $(dirname /image" + words[2] + ") && cp /usr/bin/" + words[1] + " /image" + words[2] + "\n"
		case words[0] == "ENV", words[0] == "ENTRYPOINT":
		default:
			t.Errorf("the test does not know %s", words[0])
		}
	}
	out := inHost(t, "dpkg -i firedrill_*.deb\n"+script+`mount -t proc proc /image/proc && mount --rbind /sys /image/sys && mount --rbind /dev /image/dev
chroot /image /usr/bin/firedrill version
sleep 60 &
chroot /image /usr/bin/firedrill attack pause -l 1 --process $!
echo "code $?"`)
	if !strings.Contains(out, "Stopping process") || !strings.HasSuffix(strings.TrimSpace(out), "code 0") {
		t.Error(out)
	}
}
