package remotetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Password is the password of the user of an account with a Sudo. No other test uses it: one looks whether any process of the machine shows it.
const Password = "open barley"

// passwordHash is what crypt(3) makes of it.
const passwordHash = "$6$firedrill$EL6w/eBgFEm.PsP/EF54FGGvr2UZR5igiGpJdykP.0HpIJVtxq7URl1BXGbGeu1pPNms1ERTEZnFly.GFHkfb/"

// sudoer is that user.
const sudoer = "sudoer"

// Sudo is how Debian's sudo treats the user of a test.
type Sudo struct {
	NoPassword bool     // it asks for none
	Defaults   []string // lines of sudoers, as "requiretty"
	Denied     bool     // the user may not use it at all
	Waits      bool     // on a terminal it never ends by itself, though its command ended
}

// waiting stands before the real sudo, and stays after it until its terminal ends.
const waiting = `#!/bin/sh
/run/host/sudo "$@"
code=$?
[ -t 0 ] && stty -icanon min 1 && cat >/dev/null
exit $code
`

// lines is the file of sudo's rules.
func (s Sudo) lines() string {
	text := "Defaults env_reset\nDefaults secure_path=\"/usr/sbin:/usr/bin:/sbin:/bin\"\nroot ALL=(ALL:ALL) ALL\n"
	for _, line := range s.Defaults {
		text += "Defaults " + line + "\n"
	}
	switch {
	case s.Denied:
	case s.NoPassword:
		text += sudoer + " ALL=(root) NOPASSWD: ALL\n"
	default:
		text += sudoer + " ALL=(root) ALL\n"
	}
	return text
}

// sudoScript gives a host a user of its own and sudo's rules for it, then becomes sshd. Nothing of the machine changes: the mounts are this
// process's own and end with it.
//
//	$1 the directory with the files
const sudoScript = `set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd /run/sudo/ts /run/host /run/home
cp "$1/id_test.pub" /run/host/keys
chmod 644 /run/host/keys
for f in passwd shadow group; do
 cp -p /etc/$f /run/host/$f
 cat "$1/more.$f" >>/run/host/$f
 mount --bind /run/host/$f /etc/$f
done
cp "$1/more.sudoers" /run/host/sudoers
chown root:root /run/host/sudoers
chmod 440 /run/host/sudoers
mount --bind /run/host/sudoers /etc/sudoers
chown 4242:4242 /run/home
if [ -e "$1/more.waiting" ]; then
 cp -p /usr/bin/sudo /run/host/sudo
 cp "$1/more.waiting" /run/host/waiting
 chmod 755 /run/host/waiting
 mount --bind /run/host/waiting /usr/bin/sudo
fi
shift
exec "$@"`

// sudoHost writes the files of a host with sudo and returns the lines of sshd's configuration that it needs.
func sudoHost(t testing.TB, dir string, wish Sudo) []string {
	t.Helper()
	for _, tool := range []string{"/usr/bin/sudo", "/bin/mount"} {
		if _, err := os.Stat(tool); err != nil {
			missing(t, tool+" is not installed: apt-get install sudo mount")
		}
	}
	if os.Geteuid() != 0 {
		missing(t, "a user of its own needs root")
	}
	texts := map[string]string{
		"passwd": sudoer + ":x:4242:4242::/run/home:/bin/bash\n", "shadow": sudoer + ":" + passwordHash + ":19000:0:99999:7:::\n", "group": sudoer + ":x:4242:\n",
		"sudoers": wish.lines(),
	}
	if wish.Waits {
		texts["waiting"] = waiting
	}
	for name, text := range texts {
		write(t, filepath.Join(dir, "more."+name), []byte(text), 0o600)
	}
	return []string{"AuthorizedKeysFile /run/host/keys"}
}

// missing skips a test, or fails it where FIREDRILL_REQUIRE contains "openssh".
func missing(t testing.TB, why string) {
	t.Helper()
	if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "openssh") {
		t.Fatal(why)
	}
	t.Skip(why)
}

// sshdCommand is one sshd for one connection.
func sshdCommand(config string, wish Wish) *exec.Cmd {
	args := []string{sshd, "-i", "-e", "-f", config}
	attributes := &syscall.SysProcAttr{Setsid: true}
	switch {
	case wish.Sudo != nil:
		args = append([]string{"/bin/sh", "-c", sudoScript, "sh", filepath.Dir(config)}, args...)
		attributes.Unshareflags = syscall.CLONE_NEWNS
	case wish.Apart:
		args = append([]string{"/bin/sh", "-c", apartScript, "sh"}, args...)
		attributes.Unshareflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS
	}
	command := exec.Command(args[0], args[1:]...)
	command.SysProcAttr = attributes
	return command
}
