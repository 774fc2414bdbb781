package authority

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

const (
	// Reconnects come fast, for each second without the watch is a second by which a failover may be late.
	reconnectMin = 100 * time.Millisecond
	reconnectMax = time.Second

	connectMax = 2 * time.Second // until the head of the stream has come

	// A watch that vanished without a word is noticed by the kernel's probes after this many seconds; the stream itself may be silent
	// for days.
	aliveEvery = time.Second
	aliveTries = 3

	lineMax = 1 << 20 // bytes of one event
)

// Follow reads the decided answers from the event stream of a watch at base and passes each to apply, until ctx ends; then it returns nil.
// The stream begins with the current answers, so what was missed while it was away comes with the reconnect. An error of apply is logged
// and does not end it. It returns an error only when base is no URL.
func Follow(ctx context.Context, base string, log *slog.Logger, apply func(history.Answer) error) error {
	return FollowAlarms(ctx, base, log, apply, nil)
}

// FollowAlarms is Follow that also passes the state of each alarm to alarmed, unless that is nil.
func FollowAlarms(ctx context.Context, base string, log *slog.Logger, apply func(history.Answer) error, alarmed func(history.Alarm) error) error {
	target, err := url.Parse(base)
	if err != nil || target.Hostname() == "" || (target.Scheme != "http" && target.Scheme != "https") {
		return &drill.Error{
			Op: "follow " + base, Kind: drill.Invalid, Err: errors.New("not the URL of a watch"), Hint: "Write one such as http://control:7070.",
		}
	}
	target = target.JoinPath("v1", "events")
	target.RawQuery = "follow=1&kinds=answer"
	if alarmed != nil {
		target.RawQuery += ",alarm"
	}
	client := followClient()
	defer client.CloseIdleConnections()
	wait := reconnectMin
	for ctx.Err() == nil {
		received, err := followOnce(ctx, client, target.String(), log, applying(ctx, log, apply, alarmed))
		if received {
			wait = reconnectMin
		}
		if ctx.Err() == nil {
			log.WarnContext(ctx, "watch lost, answers stay", "watch", base, "error", err, "again_in", wait)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, reconnectMax)
	}
	return nil
}

func followClient() *http.Client {
	dialer := net.Dialer{
		Timeout:         connectMax,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: aliveEvery, Interval: aliveEvery, Count: aliveTries},
	}
	// No proxy: the watch is ours, and a proxy that is down must not take the failover with it.
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, ResponseHeaderTimeout: connectMax, TLSHandshakeTimeout: connectMax}}
}

// applying returns what is done with each fact of the stream. A fact that cannot be applied is said and does not end it.
func applying(ctx context.Context, log *slog.Logger, apply func(history.Answer) error, alarmed func(history.Alarm) error) func(history.Fact) {
	return func(fact history.Fact) {
		switch fact := fact.(type) {
		case *history.Answer:
			if !fact.Decided {
				return
			}
			if err := apply(*fact); err != nil {
				log.WarnContext(ctx, "answer not applied", "name", fact.Name, "serial", fact.Serial, "error", err)
			}
		case *history.Alarm:
			if alarmed == nil {
				return
			}
			if err := alarmed(*fact); err != nil {
				log.WarnContext(ctx, "alarm not applied", "name", fact.Name, "error", err)
			}
		}
	}
}

// followOnce reads one stream to its end, and says whether anything came.
func followOnce(ctx context.Context, client *http.Client, target string, log *slog.Logger, take func(history.Fact)) (received bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return false, err
	}
	response, err := client.Do(request)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return false, fmt.Errorf("status %s", response.Status)
	}
	log.InfoContext(ctx, "watch followed", "watch", target)
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, lineMax)
	for lines.Scan() {
		received = true
		if strings.TrimSpace(lines.Text()) == "" {
			continue // a sign of life
		}
		var event history.Event
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			log.WarnContext(ctx, "event ignored", "error", err)
			continue
		}
		take(event.Fact)
	}
	if err := lines.Err(); err != nil {
		return received, err
	}
	return received, errors.New("the stream ended")
}

// Apply publishes a decided answer as it comes from a watch. Answers for names of other zones are not ours and are passed over.
func (s *Server) Apply(answer history.Answer) error {
	addresses := make([]netip.Addr, 0, len(answer.Addresses))
	if s.zone.Initial(answer.Name) == nil {
		s.log.Debug("answer of another zone", "name", answer.Name)
		return nil
	}
	for _, text := range answer.Addresses {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("publish %s: %w", answer.Name, err)
		}
		addresses = append(addresses, address)
	}
	return s.Set(answer.Name, addresses, answer.Serial)
}
