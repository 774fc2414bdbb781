package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"firedrill/internal/drill"
)

const (
	eventMax      = 64 << 20         // the newest runs of ten thousand hosts in one event
	eventsSilent  = 45 * time.Second // a server says something every 15 s
	eventsWaitMin = 500 * time.Millisecond
	eventsWaitMax = 15 * time.Second
	eventsPath    = "/v1/events"
	refusalMax    = 64 << 10
)

// Events tells what changes, until ctx ends or tell returns an error, which is returned. Each connection begins with how things stand, so that what was missed
// while there was none is told too: as what it has become. A break is bridged by another connection, after half a second and then less and less often; a token that
// may not is an error at once. It needs a client that asks over HTTPS.
func (c *Client) Events(ctx context.Context, tell func(name string, data []byte) error) error {
	if c.https == nil {
		return &drill.Error{Op: "fleet events", Kind: drill.Unsupported, Err: errors.New("events are told over HTTPS alone"), Hint: "ask with a token: firedrill fleet api-token NAME --may events"}
	}
	wait := eventsWaitMin
	for {
		heard, err := c.https.events(ctx, tell)
		var broke *broken
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.As(err, &broke) {
			return err
		}
		if heard {
			wait = eventsWaitMin
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		wait = min(2*wait, eventsWaitMax)
	}
}

// broken is a connection that another one may take the place of.
type broken struct{ error }

// Unwrap returns why.
func (b *broken) Unwrap() error { return b.error }

// events reads one connection to its end, which is an error. It reports whether it told anything.
func (o *overHTTPS) events(ctx context.Context, tell func(name string, data []byte) error) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silent := time.AfterFunc(eventsSilent, cancel)
	defer silent.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, o.base+eventsPath, http.NoBody)
	if err != nil {
		return false, err
	}
	request.Header.Set("Authorization", "Bearer "+o.token)
	request.Header.Set("Accept", "text/event-stream")
	response, err := o.web.Do(request)
	if err != nil {
		err = o.unreachable("events", err)
		if drill.KindOf(err) == drill.Refused { // another key: no connection will be better
			return false, err
		}
		return false, &broken{err}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, refusalMax))
		err := &drill.Error{Op: "fleet events", Kind: drill.Refused, Err: errors.New(strings.TrimSpace(response.Status + " " + string(text)))}
		if response.StatusCode >= http.StatusInternalServerError {
			return false, &broken{err}
		}
		return false, err
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 64<<10), eventMax)
	name, data := "", []byte(nil)
	for lines.Scan() {
		silent.Reset(eventsSilent)
		field, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch {
		case len(lines.Bytes()) == 0:
			if data != nil {
				heard = true
				if err := tell(name, data); err != nil {
					return heard, err
				}
			}
			name, data = "", nil
		case string(field) == "event":
			name = string(value)
		case string(field) == "data" && data == nil:
			data = bytes.Clone(value)
		case string(field) == "data":
			data = append(append(data, '\n'), value...)
		}
	}
	if err = lines.Err(); err == nil {
		err = io.ErrUnexpectedEOF
	}
	return heard, &broken{fmt.Errorf("events of %s: %w", o.base, err)}
}
