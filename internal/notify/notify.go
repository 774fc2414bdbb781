package notify

import (
	"context"
	"fmt"
	"sync"
	"time"

	"firedrill/internal/drill"
)

// Notice is one move of an alarm that somebody is to be told.
type Notice struct {
	Service string    `json:"service"`
	Alarm   string    `json:"alarm"`
	Host    string    `json:"host,omitempty"`
	From    string    `json:"from"`
	To      string    `json:"to"` // OK, ALARM or INSUFFICIENT_DATA
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Delivery is what became of a notice.
type Delivery struct {
	Action string
	Notice Notice
	Err    error // nil when it was delivered
	Tries  int
}

// channel is one way to tell somebody.
type channel interface {
	send(ctx context.Context, notice Notice) error
}

const (
	queueMax = 1000 // notices that wait for one slow receiver; a service has some hundred alarms
	triesMax = 4
	tryMax   = 10 * time.Second // for one try
)

// pauses lie between the tries: a receiver that restarts is back after them.
var pauses = []time.Duration{time.Second, 5 * time.Second, 15 * time.Second}

// Notifier delivers notices. Make one with New, and end it with Close.
type Notifier struct {
	queues map[string]chan Notice
	report func(Delivery)
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// New reads the secrets of the actions and begins. Paths of secrets count from directory. report is called for every notice, once, from
// several goroutines. Errors are of kind drill.Invalid and name the action.
func New(actions []drill.Action, directory string, report func(Delivery)) (*Notifier, error) {
	return start(actions, directory, report, pauses)
}

func start(actions []drill.Action, directory string, report func(Delivery), pauses []time.Duration) (*Notifier, error) {
	channels := map[string]channel{}
	for _, action := range actions {
		made, err := newChannel(action, directory)
		if err != nil {
			return nil, &drill.Error{Op: "action " + action.Name, Kind: drill.Invalid, Err: err}
		}
		channels[action.Name] = made
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &Notifier{queues: map[string]chan Notice{}, report: report, cancel: cancel}
	for name, made := range channels {
		queue := make(chan Notice, queueMax)
		n.queues[name] = queue
		n.wait.Go(func() {
			for notice := range queue {
				tries, err := deliver(ctx, made, notice, pauses)
				report(Delivery{Action: name, Notice: notice, Err: err, Tries: tries})
			}
		})
	}
	return n, nil
}

// Check reads the secrets of an action, as New does.
func Check(action drill.Action, directory string) error {
	if _, err := newChannel(action, directory); err != nil {
		return &drill.Error{Op: "action " + action.Name, Kind: drill.Invalid, Err: err}
	}
	return nil
}

// Deliver delivers one notice, with the tries and pauses of a Notifier, and returns when it is delivered or given up. Secrets are read each time, so
// that they may change.
func Deliver(ctx context.Context, action drill.Action, directory string, notice Notice) error {
	made, err := newChannel(action, directory)
	if err != nil {
		return &drill.Error{Op: "action " + action.Name, Kind: drill.Invalid, Err: err}
	}
	_, err = deliver(ctx, made, notice, pauses)
	return err
}

// Send takes a notice for an action and returns at once. A queue that is full reports the notice as not delivered.
func (n *Notifier) Send(action string, notice Notice) {
	select {
	case n.queues[action] <- notice: // an action that is not there has no queue, and a nil one takes nothing
	default:
		n.report(Delivery{Action: action, Notice: notice, Err: fmt.Errorf("%d notices wait already, or there is no such action", queueMax)})
	}
}

// Close delivers what waits, but no longer than the grace; what is left then is reported as not delivered. Call it once, after the last Send.
func (n *Notifier) Close(grace time.Duration) {
	timer := time.AfterFunc(grace, n.cancel)
	defer timer.Stop()
	for _, queue := range n.queues {
		close(queue)
	}
	n.wait.Wait()
	n.cancel()
}

func deliver(ctx context.Context, to channel, notice Notice, pauses []time.Duration) (tries int, err error) {
	for tries = 1; ; tries++ {
		try, cancel := context.WithTimeout(ctx, tryMax)
		err = to.send(try, notice)
		cancel()
		if err == nil || tries == triesMax || ctx.Err() != nil {
			return tries, err
		}
		var final permanent
		if asPermanent(err, &final) {
			return tries, err
		}
		timer := time.NewTimer(pauses[min(tries, len(pauses))-1])
		select {
		case <-ctx.Done():
			timer.Stop()
			return tries, fmt.Errorf("ended before it was delivered: %w", err)
		case <-timer.C:
		}
	}
}
