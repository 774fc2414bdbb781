package remote

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
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
//	$1 bytes   $2 seconds of silence after which to let go   $3 bytes of the installed program that would do as well
//
// It answers "host SYSTEM MACHINE UID". When the same may be there already, held for another connection of ours or installed, it answers
// "there SIZE SHA256" and is told "use" or "send". Else, or after "send", it says "ready", reads the first bytes, says "first" with "gzip"
// where that is to be had, is told how the rest comes, reads it, and answers "held PID". It stays for as long as it hears from us. From "ready"
// on nothing of it is in any directory: the file is unlinked, /proc/PID/fd/8 is the only way to it, and that ends with the process.
// Directories of a push that was killed before its unlink are removed by the next one, when they are an hour old. Each program that the script
// starts costs a busy host 10 ms: hence the reading of /proc.
//
// A program that is there counts only when nobody but root and us can write to it: its digest must still be true when it is started.
const holdScript = `umask 077
size=$1 silence=$2 whole=$3 why= tries=3 first=` + firstBytes + `
uid=
while read -r k v _; do [ "$k" != Uid: ] || { uid=$v; break; }; done 2>/dev/null </proc/self/status
[ -n "$uid" ] || uid=$(id -u)
{ read -r os </proc/sys/kernel/ostype && read -r arch </proc/sys/kernel/arch && os="$os $arch"; } 2>/dev/null || os=$(uname -sm)
echo "host $os $uid"
hold() {
 echo "held $$"
` + stayScript + `
 exec 8<&-
 find "$XDG_RUNTIME_DIR" /dev/shm /tmp /var/tmp "$HOME" -maxdepth 1 -name '.firedrill-*' -user "$uid" -mmin +60 -exec rm -rf {} + </dev/null >/dev/null 2>&1 &
}
same() {
 { command exec 8<"$1"; } 2>/dev/null || return 1
 sum=$(sha256sum <"$1" 2>/dev/null) && echo "there $2 ${sum%% *}" && read -r said && [ "$said" = use ]
}
ours() { find -L "$@" -prune -type f -size "${bytes}c" ! -perm -020 ! -perm -002 \( -user 0 -o -user "$uid" \) 2>/dev/null; }
if command -v sha256sum >/dev/null; then
 held=$(find /proc/[0-9]*/fd/8 -lname '*/.firedrill-*/firedrill (deleted)' 2>/dev/null) bytes=$size
 [ -z "$held" ] || for f in $(ours $held); do
  [ "$tries" != 0 ] || break
  same "$f" "$size" && { hold; exit; }
  tries=$((tries-1))
 done
 bytes=$whole
 for f in /usr/bin/firedrill /usr/local/bin/firedrill; do
  [ -f "$f" ] && [ -n "$(ours "$f")" ] || continue
  same "$f" "$whole" && { hold; exit; }
 done
fi
dir=
trap '[ -z "$dir" ] || rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
for d in "$XDG_RUNTIME_DIR" /dev/shm /tmp /var/tmp "$HOME"; do
 [ -n "$d" ] && [ -d "$d" ] && [ -w "$d" ] || continue
 set -- $(df -Pk "$d" 2>/dev/null)
 case ${11} in ''|*[!0-9]*) ;; *) [ "${11}" -gt $((size/1024+1024)) ] || { why="$why $d is full;"; continue; };; esac
 dir=$(mktemp -d "$d/.firedrill-XXXXXXXX" 2>/dev/null) || { dir=; continue; }
 printf '#!/bin/sh\nexit 0\n' >"$dir/firedrill" && chmod 700 "$dir/firedrill"
 if "$dir/firedrill" 2>/dev/null; then break; fi
 rm -rf "$dir"; dir=; why="$why $d is mounted noexec;"
done
[ -n "$dir" ] || { echo "fail no directory takes a program:$why"; exit 1; }
exec 7>"$dir/firedrill" 8<"$dir/firedrill"
rm -rf "$dir"; dir=
echo ready
if [ "$size" -gt "$first" ]; then
 head -c "$first" >&7
 if command -v gzip >/dev/null; then echo first gzip; else echo first plain; fi
 read -r form rest
else
 form=plain rest=$size
fi
case $form in
gzip) head -c "$rest" | gzip -dc >&7;;
*) head -c "$rest" >&7;;
esac
exec 7>&-
got=$(wc -c </proc/$$/fd/8)
[ "$got" -eq "$size" ] || { echo "fail $got of $size bytes arrived"; exit 1; }
hold`

// firstBytes go plain, and their time tells how fast the way is. More would already be the upload itself, less would measure the round trip.
const firstBytes = "524288"

// slowWay is the rate in bytes a second below which compressing surely takes less time than it saves, on a busy machine too: halving a
// megabyte costs about 30 ms of both sides together, and saves 125 ms at this rate.
const slowWay = 4 << 20

// Pushed is our binary on a host: held open by a process there, and in no directory.
type Pushed struct {
	holder
	pid      int // of the holder
	uid      int
	size     int64
	there    bool // it did not travel: the host had the same
	terminal bool // sudo insists on one
}

// Travelled reports whether the bytes had to be sent.
func (p *Pushed) Travelled() bool { return !p.there }

// PushOptions are what a push needs to know beforehand.
type PushOptions struct {
	Path   string // the binary, default the running one (/proc/self/exe)
	Become string // "sudo" when a start is going to use it: it is checked before the upload
}

// Push brings a binary to the host, of a joined one its host part (internal/onefile), and holds it there, unlinked, until Close or the loss
// of the connection. Nothing needs to be installed there before but a POSIX shell with head, mktemp, find and df. One push serves any
// number of starts. Where the same bytes are there already, held for another connection or installed, they do not travel again; over a slow
// way they travel compressed.
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
	part, joined, err := onefile.HostPart(binary, info.Size())
	if err != nil {
		return nil, &drill.Error{Op: "push", Host: c.host, Kind: drill.Invalid, Err: fmt.Errorf("%s: %w", path, err), Hint: "install firedrill again"}
	}
	if !joined {
		part = io.NewSectionReader(binary, 0, info.Size())
	}
	terminal, err := c.mayBecome(ctx, options.Become)
	if err != nil {
		return nil, err
	}
	line := "exec /bin/sh -c " + quoteAll(holdScript, "sh", strconv.FormatInt(part.Size(), 10), strconv.Itoa(holdLimit), strconv.FormatInt(info.Size(), 10))
	s, err := c.open(ctx, line, false)
	if err != nil {
		return nil, c.fail(ctx, "push", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.channel.Close() })
	p := &Pushed{holder: holder{client: c, session: s, op: "push"}, size: part.Size(), terminal: terminal}
	reader := bufio.NewReader(s.channel)
	err = p.upload(reader, part, io.NewSectionReader(binary, 0, info.Size()))
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

// mayBecome asks sudo whether it lets us, before anything travels, and whether it insists on a terminal.
func (c *Client) mayBecome(ctx context.Context, become string) (terminal bool, err error) {
	if become == "" {
		return false, nil
	}
	for _, terminal := range []bool{false, true} {
		_, err = c.Run(ctx, Command{Line: "exit 0", Become: become, PTY: terminal})
		if !errors.Is(err, errTerminal) {
			return terminal, err
		}
	}
	return true, err
}

// upload speaks holdScript's language.
func (p *Pushed) upload(reader *bufio.Reader, part, whole *io.SectionReader) error {
	words, err := p.answer(reader, "host", 3)
	if err != nil {
		return p.refused(err)
	}
	if p.uid, err = strconv.Atoi(words[2]); err != nil {
		return fmt.Errorf("the host's id(1) answers %q", words[2])
	}
	if err := p.fits(part, words[0], words[1]); err != nil {
		return err
	}
	for {
		words, err := p.answers(reader, map[string]int{"there": 2, "ready": 0, "held": 1})
		switch {
		case err != nil:
			return p.refused(err)
		case words[0] == "there":
			if err := p.compare(words[1:], part, whole); err != nil {
				return err
			}
			continue
		case words[0] == "ready":
			if err := p.send(reader, part); err != nil {
				return err
			}
			continue
		}
		if p.pid, err = strconv.Atoi(words[1]); err != nil {
			return fmt.Errorf("the host answers %q for a process id", words[1])
		}
		return nil
	}
}

// compare tells the host whether what it has is what we would send.
func (p *Pushed) compare(words []string, part, whole *io.SectionReader) error {
	ours := part
	if words[0] != strconv.FormatInt(part.Size(), 10) {
		ours = whole
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, io.NewSectionReader(ours, 0, ours.Size())); err != nil {
		return fmt.Errorf("read the binary: %w", err)
	}
	answer := "send\n"
	if p.there = hex.EncodeToString(digest.Sum(nil)) == words[1]; p.there {
		answer = "use\n"
	}
	_, err := io.WriteString(p.session.channel, answer)
	return err
}

// send sends the binary: the first bytes as they are, and the rest compressed when these took long.
func (p *Pushed) send(reader *bufio.Reader, part *io.SectionReader) error {
	failed := func(err error) error { return fmt.Errorf("send the binary: %w", err) }
	first, err := strconv.ParseInt(firstBytes, 10, 64)
	if err != nil {
		return err
	}
	if p.size <= first {
		_, err = io.Copy(p.session.channel, io.NewSectionReader(part, 0, p.size))
		return err
	}
	began := time.Now()
	if _, err := io.Copy(p.session.channel, io.NewSectionReader(part, 0, first)); err != nil {
		return failed(err)
	}
	words, err := p.answer(reader, "first", 1)
	if err != nil {
		return p.refused(err)
	}
	var rest io.Reader = io.NewSectionReader(part, first, p.size-first)
	form, length := "plain", p.size-first
	slow := float64(first)/time.Since(began).Seconds() < slowWay
	if slow && words[0] == "gzip" {
		packed, err := pack(rest)
		if err != nil {
			return failed(err)
		}
		form, rest, length = "gzip", packed, int64(packed.Len())
	}
	if _, err := fmt.Fprintf(p.session.channel, "%s %d\n", form, length); err != nil {
		return failed(err)
	}
	if _, err := io.Copy(p.session.channel, rest); err != nil {
		return failed(err)
	}
	return nil
}

// pack compresses in memory: the host must know beforehand how many bytes there are.
func pack(plain io.Reader) (*bytes.Buffer, error) {
	packed := new(bytes.Buffer)
	writer, err := gzip.NewWriterLevel(packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(writer, plain); err != nil {
		return nil, err
	}
	return packed, writer.Close()
}

func (p *Pushed) refused(err error) error {
	var why refusal
	if !errors.As(err, &why) {
		return err
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
	Env    []string      // "NAME=value" lines; sent over stdin, so that they show in no process list
	Stdin  io.Reader     // sent first; the input then stays open until CloseStdin, or until the connection ends
	Stdout io.Writer     // nil: dropped
	Stderr io.Writer     // nil: dropped
	Grace  time.Duration // between SIGTERM and SIGKILL when the context ends, default 5 s
}

// Start starts the binary. When ctx ends, it and everything that it started is ended as Client.Run says; Wait tells the outcome. The
// process sees SSH_CONNECTION, also as root. Its name on the host is a number below /proc: it must find itself by /proc/self/exe.
func (p *Pushed) Start(ctx context.Context, invocation Invocation) (*Process, error) {
	program := fmt.Sprintf("/proc/%d/fd/8", p.pid)
	return p.client.start(ctx, spec{
		line: "exec " + quoteAll(append([]string{program}, invocation.Args...)...), env: invocation.Env, stdin: invocation.Stdin, hold: true,
		stdout: invocation.Stdout, stderr: invocation.Stderr, become: invocation.Become, pty: p.terminal && invocation.Become != "",
		grace: invocation.Grace, op: "run firedrill " + brief(strings.Join(invocation.Args, " ")),
	})
}
