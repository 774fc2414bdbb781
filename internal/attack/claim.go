package attack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Every running attack holds an abstract Unix socket named after its GUID. Such a name belongs to a network namespace, as nftables do;
// the kernel frees it when the process dies, however it dies; it needs no directory that must be writable and leaves no file behind.
const claimPrefix = "@firedrill/attack/"

// How long halt waits after each stronger way to end an attack, and how long a status may take.
const (
	askTimeout  = time.Second
	haltGrace   = 2 * time.Second // reverting 100,000 addresses takes under 0.1 s
	haltPoll    = 5 * time.Millisecond
	killTimeout = 5 * time.Second
)

// Status is what a running attack says of itself.
type Status struct {
	GUID   string              `json:"guid"`
	Attack string              `json:"attack,omitempty"`
	PID    int                 `json:"pid,omitempty"` // as seen by the one who asks; 0 when it lies outside of its PID namespace
	Phase  string              `json:"phase"`
	Since  *time.Time          `json:"since,omitempty"` // in force since
	Until  *time.Time          `json:"until,omitempty"` // the deadline
	Hits   *history.AttackHits `json:"hits,omitempty"`

	By      string  `json:"by,omitempty"`      // who started it: a user, and where from
	Remains Remains `json:"remains,omitempty"` // if all of us died now

	PartOf string   `json:"part_of,omitempty"` // the attack on several pods that this is a part of
	Pods   []string `json:"pods,omitempty"`    // that are hit, as "shop/web-0"
}

// The phases of a running attack.
const (
	PhasePlanned   = "planned"
	PhaseInForce   = "in force"
	PhaseReverting = "reverting"
	PhaseSilent    = "not answering" // frozen, or too busy to say
)

// claim is the hold of a running attack on its GUID.
type claim struct {
	listener *net.UnixListener
	serving  sync.WaitGroup
}

// takeClaim takes the GUID or refuses: the same one can run only once on a host. halt is called when someone asks for the end.
func takeClaim(guid string, status func() Status, halt func()) (*claim, error) {
	var listener *net.UnixListener
	err := atHome(func() (err error) {
		listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: claimPrefix + guid, Net: "unix"})
		return err
	})
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, &drill.Error{Op: "attack", Kind: drill.Refused, Err: fmt.Errorf("an attack with guid %s is running on this host already", guid),
			Hint: "see: firedrill status; end it with: firedrill halt"}
	}
	if err != nil {
		return nil, fmt.Errorf("attack: claim %s: %w", guid, err)
	}
	c := &claim{listener: listener}
	c.serving.Go(func() { c.serve(status, halt) })
	return c, nil
}

func (c *claim) serve(status func() Status, halt func()) {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return // closed
		}
		c.serving.Go(func() { answer(conn, status, halt) })
	}
}

func answer(conn net.Conn, status func() Status, halt func()) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(askTimeout))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	if line == "halt\n" && mayHalt(conn) {
		halt()
	}
	_ = json.NewEncoder(conn).Encode(status())
}

// mayHalt admits root and the attack's own user.
func mayHalt(conn net.Conn) bool {
	peer, err := peerOf(conn)
	return err == nil && (peer.Uid == 0 || int(peer.Uid) == os.Geteuid())
}

// close gives the GUID back. It may be called twice.
func (c *claim) close() {
	_ = c.listener.Close()
	c.serving.Wait()
}

func peerOf(conn net.Conn) (*unix.Ucred, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("not a Unix socket")
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var optErr error
	if err := raw.Control(func(fd uintptr) { cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, err
	}
	return cred, optErr
}

// Alive reports whether an attack with this GUID runs in our network namespace. When in doubt it says yes.
func Alive(guid string) bool {
	conn, err := dialHome(context.Background(), claimPrefix+guid)
	if err != nil {
		return !errors.Is(err, unix.ECONNREFUSED)
	}
	_ = conn.Close()
	return true
}

// Running returns the attacks that run in our network namespace, sorted by GUID. An attack that is frozen is in the list with
// PhaseSilent.
func Running(ctx context.Context) ([]Status, error) {
	names, err := claimed()
	if err != nil {
		return nil, err
	}
	running := []Status{}
	for _, guid := range names {
		if status, ok := askStatus(ctx, guid, "status"); ok {
			running = append(running, status)
		}
	}
	return running, nil
}

// claimed lists the GUIDs that are held. It reads the table of the calling thread, which may be in another namespace than the process.
func claimed() ([]string, error) {
	var text []byte
	err := atHome(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/unix")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("attack: list running attacks: %w", err)
	}
	var guids []string
	for line := range strings.Lines(string(text)) {
		if _, name, found := strings.Cut(line, claimPrefix); found {
			guids = append(guids, strings.TrimSpace(name))
		}
	}
	slices.Sort(guids)
	return slices.Compact(guids), nil
}

// askStatus sends one word to an attack. ok is false when nobody holds the GUID, or one whom we must not trust.
func askStatus(ctx context.Context, guid, word string) (status Status, ok bool) {
	conn, err := dialHome(ctx, claimPrefix+guid)
	if err != nil {
		return Status{}, false
	}
	defer conn.Close()
	peer, err := peerOf(conn)
	// Anyone may bind any abstract name: believe only root and ourselves, or an ordinary user could point halt at a process.
	if err != nil || (peer.Uid != 0 && int(peer.Uid) != os.Geteuid()) {
		return Status{}, false
	}
	status = Status{GUID: guid, Phase: PhaseSilent}
	_ = conn.SetDeadline(time.Now().Add(askTimeout))
	if _, err := conn.Write([]byte(word + "\n")); err == nil {
		var said Status
		if json.NewDecoder(conn).Decode(&said) == nil {
			status = said
		}
	}
	status.GUID, status.PID = guid, int(peer.Pid)
	return status, true
}

// Ended says how halt ended one attack.
type Ended struct {
	Status
	How string `json:"how"` // "asked", "SIGTERM", "SIGKILL" or "still running"
}

// HaltAll ends every attack in our network namespace and waits until each has given up its hold: first by asking, then by SIGTERM, then
// by SIGKILL, after which the kernel reverts. The error is of kind drill.NotReverted when one is still there.
func HaltAll(ctx context.Context) ([]Ended, error) {
	names, err := claimed()
	if err != nil {
		return nil, err
	}
	ended := make([]*Ended, len(names))
	var wait sync.WaitGroup
	for i, guid := range names {
		wait.Go(func() { ended[i] = haltOne(ctx, guid) })
	}
	wait.Wait()
	all := []Ended{}
	var left []string
	for _, e := range ended {
		if e == nil {
			continue
		}
		if e.How == HowStuck || !slices.Contains(names, e.PartOf) { // a part is ended with the whole
			all = append(all, *e)
		}
		if e.How == HowStuck {
			left = append(left, fmt.Sprintf("%s (process %d)", e.GUID, e.PID))
		}
	}
	if len(left) > 0 {
		return all, &drill.Error{Op: "halt", Kind: drill.NotReverted, Err: fmt.Errorf("still running: %s", strings.Join(left, ", ")),
			Hint: "run firedrill halt as root; else end the process by hand: kill -KILL PID"}
	}
	return all, nil
}

// How an attack was ended.
const (
	HowAsked = "asked"
	HowTerm  = "SIGTERM"
	HowKill  = "SIGKILL"
	HowStuck = "still running"
)

func haltOne(ctx context.Context, guid string) *Ended {
	status, ok := askStatus(ctx, guid, "halt")
	if !ok {
		return nil
	}
	if status.Phase != PhaseSilent && waitFree(ctx, guid, haltGrace) {
		return &Ended{Status: status, How: HowAsked}
	}
	// The handle is taken before the process is asked for again: when the same one still holds the name, the handle cannot be another's.
	handle, err := unix.PidfdOpen(status.PID, 0)
	if err != nil {
		return &Ended{Status: status, How: HowStuck}
	}
	defer unix.Close(handle)
	again, ok := askStatus(ctx, guid, "halt")
	if !ok {
		return &Ended{Status: status, How: HowAsked}
	}
	if again.PID != status.PID {
		return &Ended{Status: again, How: HowStuck}
	}
	for _, try := range []struct {
		signal unix.Signal
		grace  time.Duration
		how    string
	}{{unix.SIGTERM, haltGrace, HowTerm}, {unix.SIGKILL, killTimeout, HowKill}} {
		_ = unix.PidfdSendSignal(handle, try.signal, nil, 0)
		if waitFree(ctx, guid, try.grace) {
			return &Ended{Status: status, How: try.how}
		}
	}
	return &Ended{Status: status, How: HowStuck}
}

// waitFree waits until nobody holds the GUID. The name is free only after the revert was verified, or after the process died.
func waitFree(ctx context.Context, guid string, grace time.Duration) bool {
	deadline := time.Now().Add(grace)
	tick := time.NewTicker(haltPoll)
	defer tick.Stop()
	for Alive(guid) {
		if time.Now().After(deadline) {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}
