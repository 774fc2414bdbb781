package attack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/containers"
	"firedrill/internal/drill"
)

// An attack on pods is several attacks, its parts: one in the network of each pod, in a process of its own that is started as for a
// container. The process that was asked leads them: no part begins before all of them may, all end when one does, and it is gone from the
// host's point of view only when the last of them is. When it dies its parts end by their lifelines, which it holds.
//
//	Start ──▶ find the pods ──▶ a part in each: plan, canaries, wait at the gate ──▶ Run: open the gates with the deadline ... revert all
//
// A part is the same command line again, with envPart beside it.

// envPart makes a process a part of an attack that another one leads. What it says can only make the attack narrower: a container instead of the
// pods that the command line names, and a gate to wait at.
const envPart = "FIREDRILL_PART"

// gateFile is the descriptor on which a part waits for its deadline.
const gateFile = 3

// part is what a part is told.
type part struct {
	GUID     string         `json:"guid"`     // its own
	Of       string         `json:"of"`       // that of the attack that it is a part of
	Siblings []string       `json:"siblings"` // of all parts, itself among them
	Pod      containers.Pod `json:"pod"`
	Look     bool           `json:"look,omitempty"` // take back what a part of this GUID left when it died, and say what is still there
}

// partWord is what a part says beside its events.
type partWord struct {
	Plan    *Shown   `json:"plan,omitempty"`    // first of all
	Waiting bool     `json:"waiting,omitempty"` // at the gate
	Looked  bool     `json:"looked,omitempty"`  // the answer to Look
	Left    []string `json:"left,omitempty"`
}

// readPart returns what this process is told, nil when it is no part.
func readPart(environment func(string) string) (*part, error) {
	text := environment(envPart)
	if text == "" {
		return nil, nil
	}
	p := &part{}
	if err := json.Unmarshal([]byte(text), p); err != nil {
		return nil, fmt.Errorf("attack: %s: %w", envPart, err)
	}
	return p, errors.Join(CheckGUID(p.GUID), CheckGUID(p.Of))
}

// narrow makes an invocation of an attack on pods one of the part that this process is.
func (i Invocation) narrow() (Invocation, error) {
	p, err := readPart(os.Getenv)
	if err != nil || p == nil {
		return i, err
	}
	i.Flags = maps.Clone(i.Flags)
	delete(i.Flags, podFlag)
	delete(i.Flags, podNamespaceFlag)
	i.Flags["container"] = []string{p.Pod.Sandbox}
	i.GUID, i.JSON, i.part = p.GUID, true, p
	return i, nil
}

// say prints a word of a part.
func (i Invocation) say(word partWord) error {
	line, err := json.Marshal(word)
	if err == nil {
		_, err = i.Out.Write(append(line, '\n'))
	}
	return err
}

// holds makes a part wait at its gate, for what is left until the deadline that it is told there.
func (i Invocation) holds(o *Options) {
	o.Ready = func() { _ = i.say(partWord{Waiting: true}) } // a leader that is gone ends the attack by the lifeline
	if i.GatesOpen {
		return
	}
	o.hold = func(ctx context.Context) (time.Duration, error) {
		deadline, err := readGate(ctx)
		if err != nil {
			return 0, err
		}
		now, err := SinceBoot()
		return time.Duration(deadline - now), err
	}
}

// readGate reads the deadline, in nanoseconds since boot.
func readGate(ctx context.Context) (int64, error) {
	unix.CloseOnExec(gateFile)
	if err := unix.SetNonblock(gateFile, true); err != nil {
		return 0, fmt.Errorf("attack: the gate of a part: %w", err)
	}
	gate := os.NewFile(gateFile, "gate")
	defer gate.Close()
	defer context.AfterFunc(ctx, func() { _ = gate.SetReadDeadline(time.Unix(1, 0)) })()
	line, err := bufio.NewReader(io.LimitReader(gate, lineOfGateMax)).ReadString('\n')
	if cause := context.Cause(ctx); cause != nil {
		return 0, cause
	}
	if err != nil { // the end without a word: who leads is gone
		return 0, errors.Join(errLost, err)
	}
	deadline, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("attack: the gate of a part: %w", err)
	}
	return deadline, nil
}

const lineOfGateMax = 32

// look takes back what a part left when it was killed, in the network where it ran, and says what is still there.
func (i Invocation) look(ctx context.Context) error {
	_, err := Recover(ctx, append(slices.Clone(i.Others), i.Kind))
	var left []string
	if sweeper, ok := i.Kind.(Sweeper); ok {
		_, sweepErr := sweeper.Sweep(ctx, Alive)
		all, lookErr := sweeper.Residue(ctx)
		err = errors.Join(err, sweepErr, lookErr)
		left = slices.DeleteFunc(all, func(what string) bool { return !strings.Contains(what, i.part.GUID) })
	}
	if err != nil {
		left = append(left, "cannot look: "+err.Error())
	}
	return i.say(partWord{Looked: true, Left: left})
}

// FindPods returns the pods that flags name, or an error with the cure.
func FindPods(ctx context.Context, kind string, pods containers.PodSelector) ([]containers.Pod, error) {
	found, err := containers.PodFinder{}.Find(ctx, pods)
	var none *containers.NoPodError
	switch {
	case err == nil:
		return found, nil
	case errors.As(err, &none):
		return nil, Refuse(kind, "see: crictl pods --state ready; a selector without --pod-namespace means the namespace "+containers.DefaultNamespace, "%w", err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil, &drill.Error{Op: "attack " + kind, Kind: drill.Unsupported, Err: err, Hint: "run it as root: sudo firedrill attack ..."}
	case errors.Is(err, containers.ErrNoRuntime):
		return nil, &drill.Error{Op: "attack " + kind, Kind: drill.Unsupported, Err: err,
			Hint: "run it on the node of the pods; where its runtime listens elsewhere, set " + containers.EndpointVariable + "=unix:///PATH as for crictl"}
	}
	return nil, &drill.Error{Op: "attack " + kind, Kind: drill.Failed, Err: err, Hint: "see: crictl pods"}
}
