package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// ErrAlive says that a process on the host outlived its SIGKILL, or that its end could not be proven.
var ErrAlive = errors.New("still running on the host")

// killScript ends a session and all that came out of it, and proves it. Membership is by session, group and descent, taken before the first
// signal (a child whose parent died cannot be found by descent any more); start times keep a reused process id from being hit.
//
//	$1 leader   $2 tenths of a second between the signal and KILL   $3 the signal; KILL is the last word
//
// It prints the process ids that are left.
const killScript = `scan() {
 all=
 for f in /proc/[0-9]*/stat; do
  IFS= read -r l 2>/dev/null <"$f" || continue
  p=${l%% *}; set -- ${l##*) }
  case $1 in Z|X) continue;; esac
  all="$all $p:$2:$3:$4:${20}"
 done
}
gather() {
 more=1
 while [ $more = 1 ]; do
  more=0
  for e in $all; do
   IFS=: read -r p pp g s t <<E
$e
E
   case "$kin" in *" $p:$t "*) continue;; esac
   if [ "$p" != "$lead" ] && [ "$s" != "$lead" ] && [ "$g" != "$lead" ]; then
    case "$kin" in *" $pp:"*) ;; *) continue;; esac
   fi
   kin="$kin$p:$t "; more=1
  done
 done
}
living() {
 scan; gather; left=
 for e in $all; do
  p=${e%%:*}; t=${e##*:}
  case "$kin" in *" $p:$t "*) left="$left $p";; esac
 done
 [ -n "$left" ]
}
hit() {
 for p in $left; do
  kill -s "$1" "$p" 2>/dev/null && continue
  [ -d /proc/$p ] && sudo -n kill -s "$1" "$p" 2>/dev/null
 done
}
nap() { sleep 0.1 2>/dev/null || sleep 1; }
lead=$1 tenths=$2 sig=$3 kin=' '
living || exit 0
hit "$sig"; hit CONT
n=0
while living && [ $n -lt $tenths ]; do nap; n=$((n+1)); done
n=0
while living && [ $n -lt 30 ]; do hit KILL; nap; n=$((n+1)); done
living || exit 0
echo $left
exit 1`

// kill ends the process and everything that it started, and returns nil only when all of it is proven gone.
func (p *Process) kill(ctx context.Context, grace time.Duration) error {
	select {
	case <-p.led:
	case <-p.client.lost:
	case <-time.After(leadTimeout):
	}
	select {
	case <-p.led:
	default:
		return fmt.Errorf("%w: the host never told which process it is", ErrAlive)
	}
	if p.leader == 0 {
		return nil // it never came to run
	}
	ctx, cancel := context.WithTimeout(ctx, grace+10*time.Second)
	defer cancel()
	tenths := strconv.Itoa(int(grace / (100 * time.Millisecond)))
	left, code, err := p.script(ctx, killScript, strconv.Itoa(p.leader), tenths, "TERM")
	switch {
	case err != nil:
		return fmt.Errorf("%w: process %d: %w", ErrAlive, p.leader, err)
	case code != 0:
		return fmt.Errorf("%w: process %s", ErrAlive, first(strings.TrimSpace(left), strconv.Itoa(p.leader)))
	default:
		return nil
	}
}

// Kill ends the process and everything that it started: SIGTERM, SIGKILL after grace. It returns nil only when all of it is proven gone.
func (p *Process) Kill(ctx context.Context, grace time.Duration) error {
	if err := p.kill(ctx, grace); err != nil {
		return &drill.Error{Op: p.spec.op, Host: p.client.host, Kind: drill.Failed, Err: err, Hint: "End the process on the host by hand."}
	}
	return nil
}

// Signal sends a signal, by its name without SIG, to the process group; with sudo when the process is root's.
func (p *Process) Signal(ctx context.Context, name string) error {
	if _, ok := signalNumbers[name]; !ok && name != "STOP" && name != "CONT" {
		return &drill.Error{Op: p.spec.op, Host: p.client.host, Kind: drill.Invalid, Err: fmt.Errorf("no signal %q", name)}
	}
	select {
	case <-p.led:
	case <-ctx.Done():
		return p.client.fail(ctx, p.spec.op, context.Cause(ctx))
	}
	_, code, err := p.script(ctx, `kill -s "$1" -- "-$2" 2>/dev/null || sudo -n kill -s "$1" -- "-$2"`, name, strconv.Itoa(p.leader))
	if err == nil && code != 0 {
		err = fmt.Errorf("signal %s: process group %d is not there or not ours", name, p.leader)
	}
	return p.client.fail(ctx, p.spec.op, err)
}

// script runs a short script with the rights of the process: what root started, only root can signal.
func (p *Process) script(ctx context.Context, text string, args ...string) (string, int, error) {
	if p.sudo == nil {
		return p.client.script(ctx, text, args...)
	}
	var out bytes.Buffer
	running, err := p.client.start(ctx, spec{
		line: "exec /bin/sh -c " + quoteAll(append([]string{text, "sh"}, args...)...), stdout: &out, pty: p.spec.pty, become: p.spec.become, short: true, op: p.spec.op,
	})
	if err != nil {
		return "", 0, err
	}
	exit, err := running.Wait()
	return out.String(), exit.Code, err
}

// script runs one of our own short scripts with arguments and returns its output and code. It is not killed when ctx ends, so it must be
// one that ends by itself.
func (c *Client) script(ctx context.Context, text string, args ...string) (string, int, error) {
	s, err := c.open(ctx, "exec /bin/sh -c "+quoteAll(append([]string{text, "sh"}, args...)...), false)
	if err != nil {
		return "", 0, err
	}
	defer s.channel.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.channel.Close() })
	defer stop()
	_ = s.channel.CloseWrite()
	var out, errOut bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&errOut, s.channel.Stderr())
	}()
	_, readErr := io.Copy(&out, s.channel)
	<-done
	ended := <-s.ended
	if ended.err == nil {
		return out.String(), ended.code, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return out.String(), 0, cause
	}
	return out.String(), 0, errors.Join(c.untold(), readErr)
}
