package remote

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
)

const (
	// holdEvery and holdLimit: the host lets go of the pushed binary when it has not heard from us for a minute, even when its sshd
	// takes hours to notice that we are gone.
	holdEvery = 15 * time.Second
	holdLimit = 60
)

// stayScript ends a holder's script: it stays for as long as it hears from us; $silence is in seconds. Without timeout(1) it stays until
// the connection ends.
const stayScript = `if command -v timeout >/dev/null; then
 while timeout "$silence" /bin/sh -c 'read -r _'; do :; done
else
 while read -r _; do :; done
fi`

// holder is a process on the host that keeps something for us, and lets go of it when it ends: with us, or with the connection.
type holder struct {
	client  *Client
	session *session
	op      string
	work    sync.WaitGroup
	stop    context.CancelFunc
	mu      sync.Mutex // held while something is said to the host, or a script runs there
}

// refusal is what a holder's script says in a line that begins with "fail".
type refusal string

func (r refusal) Error() string { return string(r) }

// answer reads the next line of the holder with a word, and returns the count words after it; it skips what a login shell prints.
func (h *holder) answer(reader *bufio.Reader, word string, count int) ([]string, error) {
	words, err := h.answers(reader, map[string]int{word: count})
	if err != nil {
		return nil, err
	}
	return words[1:], nil
}

// answers reads the next line that begins with one of the words and has its count of words after it.
func (h *holder) answers(reader *bufio.Reader, expected map[string]int) ([]string, error) {
	for noise := 0; noise < noiseMax; {
		line, err := reader.ReadString('\n')
		if err != nil {
			return nil, h.ended(err)
		}
		noise += len(line)
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if fields[0] == "fail" {
			return nil, refusal(strings.TrimSpace(strings.TrimPrefix(line, "fail")))
		}
		if count, ok := expected[fields[0]]; ok && len(fields) == count+1 {
			return fields, nil
		}
	}
	return nil, errors.New("the login shell prints without an end")
}

func (h *holder) ended(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	_, _ = io.Copy(io.Discard, h.session.channel)
	text, _ := io.ReadAll(io.LimitReader(h.session.channel.Stderr(), 4<<10))
	ended := <-h.session.ended
	if ended.err != nil {
		return &drill.Error{Op: h.op, Host: h.client.host, Kind: drill.Unreachable, Err: h.client.untold(), Hint: "Nothing was left on the host: start again."}
	}
	return exitError(Exit{Code: ended.code, Signal: ended.signal}, string(text))
}

// hold keeps telling the holder that we are here.
func (h *holder) hold(reader io.Reader) {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	if reader != nil {
		h.work.Go(func() { _, _ = io.Copy(io.Discard, reader) })
	}
	h.work.Go(func() { _, _ = io.Copy(io.Discard, h.session.channel.Stderr()) })
	h.work.Go(func() {
		ticker := time.NewTicker(holdEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if !h.mu.TryLock() {
					continue // a script runs: there is somebody here
				}
				_, err := io.WriteString(h.session.channel, "\n")
				h.mu.Unlock()
				if err != nil {
					return
				}
			}
		}
	})
}

// Close lets go and waits until the holder has ended. Processes that were started from a pushed binary run on.
func (h *holder) Close() error {
	h.stop()
	_ = h.session.channel.CloseWrite()
	timeout := time.NewTimer(drainMax)
	defer timeout.Stop()
	var err error
	select {
	case ended := <-h.session.ended:
		h.session.ended <- ended
	case <-timeout.C:
		err = &drill.Error{Op: "let go after " + h.op, Host: h.client.host, Kind: drill.Timeout, Err: ErrAlive}
	}
	_ = h.session.channel.Close()
	h.work.Wait()
	return err
}

// lockScript takes a lock of the host's kernel. $1 file   $2 seconds of silence after which to let go
const lockScript = `silence=$2
umask 022
mkdir -p "${1%/*}" 2>/dev/null
[ -d "${1%/*}" ] && [ -w "${1%/*}" ] || { echo "fail ${1%/*} is no directory that $(id -un) can write"; exit 1; }
if command -v flock >/dev/null; then
 exec 9>>"$1" || exit 1
 flock -n 9 || { echo "fail held by someone else: $1"; exit 1; }
 echo locked guarded
else
 echo locked unguarded
fi
` + serveScript

// serveScript stays like stayScript, and runs scripts meanwhile: one shell for all of them, since what a login shell does at its start can
// take longer than all that is asked. A line "run BYTES BYTES" announces a script and its input; the answer ends with a line of the nonce
// and the exit code. A script keeps the lock for as long as it runs, also when we are gone.
//
//	$3 nonce
const serveScript = `nonce=$3
hear() { if command -v timeout >/dev/null; then timeout "$silence" /bin/sh -c 'IFS= read -r l && printf %s "$l"'; else IFS= read -r l && printf %s "$l"; fi; }
while line=$(hear); do
 case $line in run\ *) ;; *) continue ;; esac
 size=${line#run }
 script=$(head -c "${size% *}")
 head -c "${size#* }" | /bin/sh -c "$script" 2>&1
 printf '\n%s %d\n' "$nonce" "$?"
done`

// ErrLocked says that someone else holds a lock.
var ErrLocked = errors.New("locked")

// Lock is a lock on the host. It ends with Close, with the connection, or after a minute without a sign from us; never does it have to be
// broken by hand.
type Lock struct {
	holder
	Guarded bool // false when the host has no flock(1): then nothing is locked

	reader *bufio.Reader
	nonce  string
	broken bool // a script was cut off; guarded by holder.mu
}

// Lock takes a lock file on the host for us alone; the path is absolute, and its directory is made when it is not there. When someone else
// holds it, the error is drill.Refused and errors.Is ErrLocked.
func (c *Client) Lock(ctx context.Context, file string) (*Lock, error) {
	nonce := rand.Text()
	s, err := c.open(ctx, "exec /bin/sh -c "+quoteAll(lockScript, "sh", file, strconv.Itoa(holdLimit), nonce), false)
	if err != nil {
		return nil, c.fail(ctx, "lock", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.channel.Close() })
	reader := bufio.NewReaderSize(s.channel, 64<<10)
	l := &Lock{holder: holder{client: c, session: s, op: "lock"}, reader: reader, nonce: nonce}
	words, err := l.answer(reader, "locked", 1)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = s.channel.Close()
		return nil, l.refused(ctx, file, err)
	}
	l.Guarded = words[0] == "guarded"
	l.hold(nil)
	return l, nil
}

// Script runs a command line under the lock, in the shell that holds it, with the given input. Output and errors come back together. It is for
// what is short and starts nothing that stays; when ctx ends, the lock is let go of as soon as the script has ended there.
func (l *Lock) Script(ctx context.Context, line, input string) (output string, code int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	op := "run " + brief(line)
	if l.broken {
		return "", 0, l.client.fail(ctx, op, errLost)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.session.channel.Close() })
	defer stop()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(l.session.channel, fmt.Sprintf("run %d %d\n%s%s", len(line), len(input), line, input))
		sent <- err
	}()
	output, code, err = l.read()
	if err != nil {
		l.broken = true
		_ = l.session.channel.Close()
	}
	<-sent // an error of it shows in what is read
	if err == nil {
		return output, code, nil
	}
	if errors.Is(err, io.EOF) && ctx.Err() == nil {
		return output, 0, &drill.Error{Op: op, Host: l.client.host, Kind: drill.Unreachable, Err: l.client.untold(), Hint: "Check the host and the path to it, then start again."}
	}
	if cause := context.Cause(ctx); cause != nil { // what was read says only that we ended it
		kind := drill.Interrupted
		if errors.Is(cause, context.DeadlineExceeded) {
			kind = drill.Timeout
		}
		return output, 0, &drill.Error{Op: op, Host: l.client.host, Kind: kind, Err: cause}
	}
	return output, 0, l.client.fail(ctx, op, err)
}

// read takes in what a script prints, until the line that ends it.
func (l *Lock) read() (string, int, error) {
	var out strings.Builder
	for {
		text, err := l.reader.ReadString('\n')
		if rest, ok := strings.CutPrefix(text, l.nonce+" "); ok && err == nil {
			code, err := strconv.Atoi(strings.TrimSpace(rest))
			return strings.TrimSuffix(out.String(), "\n"), code, err
		}
		out.WriteString(text)
		if err != nil {
			return out.String(), 0, err
		}
	}
}

// Broken reports whether the shell that held the lock is gone.
func (l *Lock) Broken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

func (l *Lock) refused(ctx context.Context, file string, err error) error {
	var why refusal
	switch {
	case !errors.As(err, &why):
		return l.client.fail(ctx, "lock", err)
	case strings.HasPrefix(string(why), "held"):
		return &drill.Error{Op: "lock", Host: l.client.host, Kind: drill.Refused, Err: fmt.Errorf("%w: %w", ErrLocked, why),
			Hint: "Another deployment is under way there; if its machine died, the lock ends by itself within a minute."}
	default:
		return &drill.Error{Op: "lock", Host: l.client.host, Kind: drill.Failed, Err: why,
			Hint: fmt.Sprintf("On the host: sudo install -d -o %s %s", l.client.user, quote(path.Dir(file)))}
	}
}
