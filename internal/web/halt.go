package web

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

const (
	reasonMax = 500              // bytes
	haltLook  = 3 * time.Second  // how long the answer to the button waits for hosts
	haltMost  = 30 * time.Second // for all of it
)

// haltState is the last halt that was asked for here.
type haltState struct {
	By, Reason string
	At         time.Time
	Done       bool
	Report     fleet.HaltReport
	Problem    string
	Hint       string
}

func (s *server) haltPage(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "halt", "Halt everything", time.Second, func(context.Context) (any, error) {
		counts := map[string]int{}
		for _, h := range s.Control.Hosts() {
			counts[conditionOf(h)]++
		}
		return map[string]any{"Counts": counts}, nil
	})
}

// halt ends everything. It goes on when the page is closed.
func (s *server) halt(r *http.Request, v *visit) (string, error) {
	reason := r.PostFormValue("reason")
	if len(reason) > reasonMax {
		reason = reason[:reasonMax]
	}
	state := &haltState{By: v.user.Name, Reason: reason, At: time.Now()}
	s.mu.Lock()
	s.halting = state
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), haltMost)
		defer cancel()
		result, err := s.call(ctx, v, "halt", fleet.HaltRequest{Reason: reason})
		s.mu.Lock()
		defer s.mu.Unlock()
		state.Report, _ = result.(fleet.HaltReport)
		state.Done = true
		if err != nil {
			state.Problem, state.Hint = err.Error(), drill.HintOf(err)
		}
	}()
	timer := time.NewTimer(haltLook)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
	return "/halt/report", nil
}

func (s *server) haltReport(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "haltreport", "Halt", 500*time.Millisecond, func(context.Context) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.halting == nil {
			return map[string]any{"None": true}, nil
		}
		var left []leftHost
		for _, host := range slices.Sorted(maps.Keys(s.halting.Report.Left)) {
			left = append(left, leftHost{host, s.halting.Report.Left[host]})
		}
		more := max(0, len(left)-leftShown)
		return map[string]any{"None": false, "Halt": *s.halting, "Left": left[:len(left)-more], "MoreLeft": more}, nil
	})
}

const leftShown = 200 // hosts of which a halt left something, on one page

type leftHost struct{ Host, What string }

func (s *server) leverPage(w http.ResponseWriter, r *http.Request, v *visit) {
	s.show(w, r, v, "lever", "The lever", time.Second, func(context.Context) (any, error) { return nil, nil }) //nolint:nilnil // the frame knows the lever
}

func (s *server) release(r *http.Request, v *visit) (string, error) {
	_, err := s.call(r.Context(), v, "release", nil)
	return "/lever", err
}
