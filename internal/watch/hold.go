package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// holdMax bounds how long one order may hold the watch still: it is blind and numb meanwhile, for `firedrill prove` and nothing else.
const holdMax = 10 * time.Minute

// Hold is an order to hold alarms in their state, as one that somebody has disabled, and names at their answer, as a record that somebody
// has frozen. It is how `firedrill prove` finds out whether a drill notices. It ends by itself, whatever becomes of who ordered it.
type Hold struct {
	Alarms []string  `json:"alarms,omitempty"`
	Names  []string  `json:"names,omitempty"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"`
}

// hold takes the place of what was held before. Without a time that is still to come it lets go of everything.
func (c *core) hold(now time.Time, h Hold) error {
	for _, wanted := range h.Alarms {
		if !slices.ContainsFunc(c.alarms, func(a *alarmState) bool { return a.alarm.Rule.Name == wanted }) {
			return &drill.Error{Op: "hold", Kind: drill.Invalid, Err: fmt.Errorf("there is no alarm %q", wanted), Hint: "Name alarms as the watch tells them, with the host filled in."}
		}
	}
	for _, wanted := range h.Names {
		if !slices.ContainsFunc(c.names, func(n *nameState) bool { return n.policy.Name == wanted }) {
			return &drill.Error{Op: "hold", Kind: drill.Invalid, Err: fmt.Errorf("there is no failover name %q", wanted), Hint: "Name one of failover: in the service file."}
		}
	}
	if h.Until.Sub(now) > holdMax {
		return &drill.Error{Op: "hold", Kind: drill.Refused, Err: fmt.Errorf("%s is too long to hold the watch", h.Until.Sub(now)), Hint: "10 minutes is the longest."}
	}
	c.held = h
	return nil
}

func (c *core) holdsAlarm(now time.Time, name string) bool {
	return now.Before(c.held.Until) && slices.Contains(c.held.Alarms, name)
}

func (c *core) holdsName(now time.Time, name string) bool {
	return now.Before(c.held.Until) && slices.Contains(c.held.Names, name)
}

// Hold carries out the order. Errors are *drill.Error of kind Invalid (no such alarm or name) or Refused (too long).
func (w *Watch) Hold(ctx context.Context, h Hold, length time.Duration) (until time.Time, err error) {
	var refused error
	err = w.ask(ctx, func(now time.Time) {
		h.Until = now.Add(length)
		until = h.Until
		if refused = w.core.hold(now, h); refused != nil {
			return
		}
		text := "nothing is held any more"
		if length > 0 {
			text = fmt.Sprintf("held for %s, on purpose: %s: %s", length, strings.Join(slices.Concat(h.Alarms, h.Names), ", "), h.Reason)
		}
		w.publish([]history.Event{history.New(now, source, &history.Note{Text: text})})
	})
	return until, errors.Join(err, refused)
}

func (w *Watch) serveHold(out http.ResponseWriter, request *http.Request) {
	if !w.admit(out, request, "holding") {
		return
	}
	var body struct {
		Alarms  []string `json:"alarms"`
		Names   []string `json:"names"`
		Seconds float64  `json:"seconds"`
		Reason  string   `json:"reason"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(out, request.Body, bodyMax))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil || !(body.Seconds >= 0 && body.Seconds <= holdMax.Seconds()) {
		reply(out, http.StatusBadRequest, refusal{Error: "the body is not understood", Cure: `Send {"alarms":["..."],"names":["..."],"seconds":60,"reason":"..."}; ten minutes is the longest, and 0 seconds let go.`})
		return
	}
	until, err := w.Hold(request.Context(), Hold{Alarms: body.Alarms, Names: body.Names, Reason: body.Reason}, time.Duration(body.Seconds*float64(time.Second)))
	if err != nil {
		reply(out, statusOf(err), refusal{Error: err.Error(), Cure: drill.HintOf(err)})
		return
	}
	reply(out, http.StatusOK, struct {
		Until time.Time `json:"until"`
	}{until})
}
