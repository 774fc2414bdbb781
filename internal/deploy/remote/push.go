package remote

import (
	"bufio"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/onefile"
)

// holdScript takes the binary in and holds it without a name.
//
//	$1 bytes   $2 seconds of silence after which to let go   $3 "sudo" when the binary is going to be started by root
//
// It answers "host SYSTEM MACHINE UID", then "ready", reads the bytes, answers "held PID", and stays for as long as it hears from us. From "ready"
// on nothing of it is in any directory: the file is unlinked, /proc/PID/fd/8 is the only way to it, and that ends with the process.
// Directories of a push that was killed before its unlink are removed when they are an hour old.
const holdScript = `umask 077
size=$1 silence=$2 why=
uid=$(id -u)
echo "host $(uname -s) $(uname -m) $uid"
if [ "$3" = sudo ] && [ "$uid" != 0 ]; then
 sudo -n true 2>/dev/null || { echo "fail sudo asks for a password, or is not allowed"; exit 1; }
fi
dir=
trap '[ -z "$dir" ] || rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
for d in "$XDG_RUNTIME_DIR" /dev/shm /tmp /var/tmp "$HOME"; do
 [ -n "$d" ] && [ -d "$d" ] && [ -w "$d" ] || continue
 find "$d" -maxdepth 1 -name '.firedrill-*' -user "$uid" -mmin +60 -exec rm -rf {} + 2>/dev/null
 free=$(df -Pk "$d" 2>/dev/null | { read -r _; read -r _ _ _ k _; echo "$k"; })
 case $free in ''|*[!0-9]*) ;; *) [ "$free" -gt $((size/1024+1024)) ] || { why="$why $d is full;"; continue; };; esac
 dir=$(mktemp -d "$d/.firedrill-XXXXXXXX" 2>/dev/null) || { dir=; continue; }
 printf '#!/bin/sh\nexit 0\n' >"$dir/firedrill" && chmod 700 "$dir/firedrill"
 if "$dir/firedrill" 2>/dev/null; then break; fi
 rm -rf "$dir"; dir=; why="$why $d is mounted noexec;"
done
[ -n "$dir" ] || { echo "fail no directory takes a program:$why"; exit 1; }
exec 7>"$dir/firedrill" 8<"$dir/firedrill"
rm -rf "$dir"; dir=
echo ready
head -c "$size" >&7
exec 7>&-
got=$(wc -c </proc/$$/fd/8)
[ "$got" -eq "$size" ] || { echo "fail $got of $size bytes arrived"; exit 1; }
echo "held $$"
` + stayScript

// Pushed is our binary on a host: held open by a process there, and in no directory.
type Pushed struct {
	holder
	pid  int // of the holder
	uid  int
	size int64
}

// PushOptions are what a push needs to know beforehand.
type PushOptions struct {
	Path   string // the binary, default the running one (/proc/self/exe)
	Become string // "sudo" when a start is going to use it: it is checked before the upload
}

// Push brings a binary to the host, of a joined one its host part (internal/onefile), and holds it there, unlinked, until Close or the loss
// of the connection. Nothing needs to be installed there before but a POSIX shell with head, mktemp, find and df. One push serves any
// number of starts.
//
// Errors: drill.Unsupported when host and binary do not fit or no directory takes programs, drill.Refused when sudo does not let us,
// drill.Unreachable when the connection ended.
func (c *Client) Push(ctx context.Context, options PushOptions) (*Pushed, error) {
	path := options.Path
	if path == "" {
		path = "/proc/self/exe"
	}
	binary, err := os.Open(path)
	if err != nil {
		return nil, &drill.Error{Op: "push", Host: c.host, Kind: drill.Invalid, Err: err}
	}
	defer binary.Close()
	info, err := binary.Stat()
	if err != nil {
		return nil, &drill.Error{Op: "push", Host: c.host, Kind: drill.Invalid, Err: err}
	}
	part, joined, err := onefile.Host(binary, info.Size())
	if err != nil {
		return nil, &drill.Error{Op: "push", Host: c.host, Kind: drill.Invalid, Err: fmt.Errorf("%s: %w", path, err), Hint: "install firedrill again"}
	}
	if !joined {
		part = io.NewSectionReader(binary, 0, info.Size())
	}
	line := "exec /bin/sh -c " + quoteAll(holdScript, "sh", strconv.FormatInt(part.Size(), 10), strconv.Itoa(holdLimit), options.Become)
	s, err := c.open(ctx, line, false)
	if err != nil {
		return nil, c.fail(ctx, "push", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.channel.Close() })
	p := &Pushed{holder: holder{client: c, session: s, op: "push"}, size: part.Size()}
	reader := bufio.NewReader(s.channel)
	err = p.upload(reader, part)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = s.channel.Close()
		return nil, c.fail(ctx, "push", err)
	}
	p.hold(reader)
	return p, nil
}

func (p *Pushed) upload(reader *bufio.Reader, binary *io.SectionReader) error {
	words, err := p.answer(reader, "host", 3)
	if err != nil {
		return p.refused(err)
	}
	if p.uid, err = strconv.Atoi(words[2]); err != nil {
		return fmt.Errorf("the host's id(1) answers %q", words[2])
	}
	if err := p.fits(binary, words[0], words[1]); err != nil {
		return err
	}
	if _, err := p.answer(reader, "ready", 0); err != nil {
		return p.refused(err)
	}
	if _, err := io.Copy(p.session.channel, binary); err != nil {
		return fmt.Errorf("send the binary: %w", err)
	}
	words, err = p.answer(reader, "held", 1)
	if err != nil {
		return p.refused(err)
	}
	if p.pid, err = strconv.Atoi(words[0]); err != nil {
		return fmt.Errorf("the host answers %q for a process id", words[0])
	}
	return nil
}

func (p *Pushed) refused(err error) error {
	var why refusal
	if !errors.As(err, &why) {
		return err
	}
	if strings.HasPrefix(string(why), "sudo") {
		return &drill.Error{Op: "push", Host: p.client.host, Kind: drill.Refused, Err: why,
			Hint: fmt.Sprintf("Allow it without a password, in /etc/sudoers.d/firedrill: %s ALL=(root) NOPASSWD: ALL", p.client.user)}
	}
	return &drill.Error{Op: "push", Host: p.client.host, Kind: drill.Unsupported, Err: why,
		Hint: "Free some space in, or allow programs in, one of $XDG_RUNTIME_DIR, /dev/shm, /tmp, /var/tmp or the home directory."}
}

// machines are the names of uname -m for what a binary may be built for.
var machines = map[elf.Machine][]string{
	elf.EM_X86_64: {"x86_64"}, elf.EM_AARCH64: {"aarch64"}, elf.EM_386: {"i386", "i486", "i586", "i686", "x86_64"},
	elf.EM_ARM: {"armv6l", "armv7l", "armv8l"}, elf.EM_RISCV: {"riscv64"}, elf.EM_S390: {"s390x"}, elf.EM_PPC64: {"ppc64", "ppc64le"},
	elf.EM_LOONGARCH: {"loongarch64"}, elf.EM_MIPS: {"mips", "mips64"},
}

func (p *Pushed) fits(binary io.ReaderAt, system, machine string) error {
	unsupported := func(err error) error {
		return &drill.Error{Op: "push", Host: p.client.host, Kind: drill.Unsupported, Err: err,
			Hint: "Build firedrill for that host (CGO_ENABLED=0 GOOS=linux GOARCH=... go build) and run that build."}
	}
	if system != "Linux" {
		return unsupported(fmt.Errorf("the host runs %s, not Linux", system))
	}
	file, err := elf.NewFile(binary)
	if err != nil {
		return unsupported(fmt.Errorf("this is no Linux program: %w", err))
	}
	for _, name := range machines[file.Machine] {
		if name == machine {
			return nil
		}
	}
	return unsupported(fmt.Errorf("the host is %s, the binary is for %s", machine, file.Machine))
}

// Invocation is one start of the pushed binary.
type Invocation struct {
	Args   []string      // without the program's name
	Become string        // "sudo": as root; "": as the user that is logged in
	Env    []string      // "NAME=value" lines; with Become they show in the host's process list
	Stdin  io.Reader     // sent first; the input then stays open until CloseStdin, or until the connection ends
	Stdout io.Writer     // nil: dropped
	Stderr io.Writer     // nil: dropped
	Grace  time.Duration // between SIGTERM and SIGKILL when the context ends, default 5 s
}

// Start starts the binary. When ctx ends, it and everything that it started is ended as Client.Run says; Wait tells the outcome. The
// process sees SSH_CONNECTION, also as root. Its name on the host is a number below /proc: it must find itself by /proc/self/exe.
func (p *Pushed) Start(ctx context.Context, invocation Invocation) (*Process, error) {
	program := fmt.Sprintf("/proc/%d/fd/8", p.pid)
	line := "exec " + quoteAll(append([]string{program}, invocation.Args...)...)
	env := invocation.Env
	if invocation.Become == "sudo" && p.uid != 0 {
		// sudo closes our descriptors and forgets the environment: hence the path through /proc, and env(1).
		words := append([]string{}, invocation.Env...)
		words = append(words, program)
		words = append(words, invocation.Args...)
		line = `exec sudo -n -- env SSH_CONNECTION="$SSH_CONNECTION" ` + quoteAll(words...)
		env = nil
	}
	return p.client.start(ctx, spec{
		line: line, env: env, stdin: invocation.Stdin, hold: true, stdout: invocation.Stdout, stderr: invocation.Stderr,
		grace: invocation.Grace, op: "run firedrill " + brief(strings.Join(invocation.Args, " ")),
	})
}
