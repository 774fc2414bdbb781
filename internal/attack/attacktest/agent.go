package attacktest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// envAgent says that the test binary, started again, is an agent.
const envAgent = "FIREDRILL_ATTACKTEST_AGENT"

// agentPort is where an agent waits.
const agentPort = 30

// Agent is another process on the attacked host: its flows are told apart from ours by what it is.
type Agent struct {
	PID     int
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	answers *bufio.Scanner
	mu      sync.Mutex // guards one question and its answer
}

// StartAgent starts an agent in a network namespace; it ends with the test. prepare is called before the agent makes its first socket; it
// may be nil.
func StartAgent(tb testing.TB, ns *Namespace, attr *syscall.SysProcAttr, prepare func(pid int) error) *Agent {
	tb.Helper()
	a, err := startAgent(ns, attr, prepare)
	if err != nil {
		tb.Fatalf("start an agent: %v", err)
	}
	tb.Cleanup(a.Stop)
	return a
}

func startAgent(ns *Namespace, attr *syscall.SysProcAttr, prepare func(pid int) error) (*Agent, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	a := &Agent{cmd: exec.Command(self)}
	a.cmd.Env = append(os.Environ(), envChild+"=-", envAgent+"=1", "GORACE=atexit_sleep_ms=0")
	a.cmd.Stderr, a.cmd.SysProcAttr = os.Stderr, attr
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := ns.Do(a.cmd.Start); err != nil {
		return nil, err
	}
	a.PID, a.answers = a.cmd.Process.Pid, bufio.NewScanner(stdout)
	if prepare != nil {
		err = prepare(a.PID)
	}
	return a, err
}

// Stop ends the agent.
func (a *Agent) Stop() {
	_ = a.stdin.Close()
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

// Ask lets the agent do something: "open ADDRESS" (a connection to keep), "wait" (for whoever comes), "through ADDRESS",
// "cut ADDRESS" (new flows), "kept through", "kept cut" (the connections kept), "quiet" (nothing came in since "forget", which comes after
// the flows of Reach). Nil means that it
// is so.
func (a *Agent) Ask(what string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := fmt.Fprintln(a.stdin, what); err != nil {
		return err
	}
	if !a.answers.Scan() {
		return fmt.Errorf("the agent is gone: %w", errors.Join(io.ErrUnexpectedEOF, a.answers.Err()))
	}
	if answer := a.answers.Text(); answer != "ok" {
		return fmt.Errorf("agent: %s: %s", what, answer)
	}
	return nil
}

// Reach returns the flows from the peer to the ports on which the agent waits.
func (a *Agent) Reach(w *World) []Flow {
	return []Flow{
		{"tcp to the agent", func(limit time.Duration) error { return w.Peer.Connect(Host4, agentPort, limit) }},
		{"udp to the agent", func(limit time.Duration) error {
			sent, answered := w.Peer.Datagram(Host4, agentPort, limit)
			return errors.Join(sent, answered)
		}},
	}
}

// agent is what the process does: a line in, a line out.
func agent() int {
	here := &agentState{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer := "ok"
		if err := here.obey(strings.Fields(lines.Text())); err != nil {
			answer = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		fmt.Println(answer)
	}
	return 0
}

// agentState is what an agent has open.
type agentState struct {
	here    Namespace // where the process is
	kept    []net.Conn
	waiting *echo
	heard   int64 // before it was asked to listen whether all is quiet
}

func (s *agentState) obey(words []string) error {
	var flows []Flow
	for _, conn := range s.kept {
		flows = append(flows, Flow{"the connection kept to " + conn.RemoteAddr().String(), func(limit time.Duration) error { return Talk(conn, limit) }})
	}
	switch strings.Join(words, " ") {
	case "wait":
		var err error
		s.waiting, err = newEcho(&s.here, netip.AddrPortFrom(netip.IPv4Unspecified(), agentPort))
		return err
	case "forget":
		// What came in through Reach is counted a moment after its sender was content: a connection, and two datagrams.
		if err := Await(func() error {
			if s.waiting.heard.Load() < 3 {
				return errMissing
			}
			return nil
		}); err != nil {
			return err
		}
		s.heard = s.waiting.heard.Load()
		return nil
	case "quiet":
		if more := s.waiting.heard.Load() - s.heard; more > 0 {
			return fmt.Errorf("%d connections and datagrams came in", more)
		}
		return nil
	case "kept cut":
		return Cut(flows...)
	case "kept through":
		return Through(flows...)
	}
	to, err := netip.ParseAddr(words[1])
	if err != nil {
		return err
	}
	switch words[0] {
	case "open":
		conn, err := s.here.Open(to, Port, answerWithin)
		if err != nil {
			return err
		}
		s.kept = append(s.kept, conn)
		return Talk(conn, answerWithin)
	case "through":
		return Through(Flows(&s.here, to)...)
	case "cut":
		return Cut(Flows(&s.here, to)...)
	}
	return fmt.Errorf("what is %q?", words)
}
