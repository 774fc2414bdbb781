package client

import (
	"context"
	"encoding/json"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/client"
)

// What the API speaks of, as it is in JSON.
type (
	Host          = fleet.HostView
	Facts         = fleet.Facts
	Selector      = fleet.Selector
	AttackRequest = fleet.AttackRequest
	Run           = fleet.Run
	RunHost       = fleet.RunHost
	Lever         = fleet.Lever
	HaltReport    = fleet.HaltReport
	ServiceFile   = fleet.ServiceFile
	DrillRequest  = fleet.DrillRequest
	DrillRun      = fleet.DrillRun
	Cadence       = fleet.Cadence
	Scheduled     = fleet.ScheduledView
	// Seconds is a duration that is a number of seconds in JSON.
	Seconds = drill.Seconds
	// Error is what every error of a call is: what was asked, how to react to it, and the cure.
	Error = drill.Error
)

// How to react to an error: KindOf tells which it is.
const (
	Invalid     = drill.Invalid     // what was asked is wrong
	Refused     = drill.Refused     // a safeguard, or the scopes of the token: nothing was done
	Unreachable = drill.Unreachable // nobody answered, and it may have been heard
)

// KindOf returns how to react to an error.
func KindOf(err error) drill.ErrorKind { return drill.KindOf(err) }

// HintOf returns the cure of an error, one sentence, or "".
func HintOf(err error) string { return drill.HintOf(err) }

// Client asks one server. It may be used by several goroutines.
type Client struct{ asks *client.Client }

// New returns a client of the server at an address, https://HOST[:PORT][#sha256//PIN], with a token. With a pin, as the server's log shows it, the server is the
// holder of that key and nobody else; without one its certificate must be of an authority that this machine trusts. Nothing is sent before the first call.
func New(address, token string) (*Client, error) {
	asks, err := client.OverHTTPS(address, token)
	if err != nil {
		return nil, err
	}
	return &Client{asks: asks}, nil
}

// Close gives up what connections are left.
func (c *Client) Close() { c.asks.Close() }

// Call makes any call of the API by its name, which is its scope: docs/fleet.md, and /v1/openapi.json at /v1/calls/{call}. A result of nil is not read.
func (c *Client) Call(ctx context.Context, call string, asked, result any) error {
	return c.asks.Call(ctx, call, asked, result)
}

func get[T any](ctx context.Context, c *Client, call string, asked any) (T, error) {
	var result T
	err := c.asks.Call(ctx, call, asked, &result)
	return result, err
}

// Hosts lists the hosts. Scope hosts.
func (c *Client) Hosts(ctx context.Context) ([]Host, error) { return get[[]Host](ctx, c, "hosts", nil) }

// Attack has hosts attacked: when it returns without an error they are about to begin at the same time, or with DryRun they would be. Scope attack.
func (c *Client) Attack(ctx context.Context, request AttackRequest) (Run, error) {
	return get[Run](ctx, c, "attack", request)
}

// Runs lists the newest runs, the newest first. Scope runs.
func (c *Client) Runs(ctx context.Context) ([]Run, error) { return get[[]Run](ctx, c, "runs", nil) }

// Run returns one run, by its name or the last six characters of it. Scope run.
func (c *Client) Run(ctx context.Context, id string) (Run, error) { return get[Run](ctx, c, "run", id) }

// awaitEvery is how often Await looks.
const awaitEvery = 500 * time.Millisecond

// Await returns a run when it is over: Run.Done. It bears a server that is not there for a while, as when another one takes over; ctx bounds it. When ctx ends the
// run goes on: end it with Stop. Scope run.
func (c *Client) Await(ctx context.Context, id string) (Run, error) {
	every := time.NewTicker(awaitEvery)
	defer every.Stop()
	for {
		run, err := c.Run(ctx, id)
		if err == nil && run.Done() || err != nil && KindOf(err) != Unreachable {
			return run, err
		}
		select {
		case <-ctx.Done():
			return run, ctx.Err()
		case <-every.C:
		}
	}
}

// Stop ends a run on all of its hosts. Scope stop.
func (c *Client) Stop(ctx context.Context, id string) (Run, error) {
	return get[Run](ctx, c, "stop", id)
}

// Journal returns what a host wrote down about its part in a run: a line of JSON for each event, chained by hashes. Scope journal.
func (c *Client) Journal(ctx context.Context, run, host string) (string, error) {
	return get[string](ctx, c, "journal", [2]string{run, host})
}

// Halt ends everything on every host, and engages the lever, which only a person releases. Scope halt.
func (c *Client) Halt(ctx context.Context, reason string) (HaltReport, error) {
	return get[HaltReport](ctx, c, "halt", fleet.HaltRequest{Reason: reason})
}

// Lever says whether anything may begin. Scope lever.
func (c *Client) Lever(ctx context.Context) (Lever, error) { return get[Lever](ctx, c, "lever", nil) }

// PutService puts a service file on the server, as a new version. Scope putservice.
func (c *Client) PutService(ctx context.Context, text string) (ServiceFile, error) {
	return get[ServiceFile](ctx, c, "putservice", fleet.PutService{Text: text})
}

// StartDrill has the server conduct a drill of a service file. Scope drill.
func (c *Client) StartDrill(ctx context.Context, request DrillRequest) (DrillRun, error) {
	return get[DrillRun](ctx, c, "drill", request)
}

// Drills lists the newest drills, the newest first. Scope drills.
func (c *Client) Drills(ctx context.Context) ([]DrillRun, error) {
	return get[[]DrillRun](ctx, c, "drills", nil)
}

// Drill returns one drill: its outcome is the verdict once it is Done. Scope drillrun.
func (c *Client) Drill(ctx context.Context, id string) (DrillRun, error) {
	return get[DrillRun](ctx, c, "drillrun", id)
}

// FetchDrill fetches all files that a drill which is over has left on the server into a directory that is there and holds none of them. They prove nothing before they are
// verified: firedrill verify DIRECTORY. told, which may be nil, hears how many bytes have come of how many. When it returns an error the directory may hold a part of them.
func (c *Client) FetchDrill(ctx context.Context, id, directory string, told func(come, of int64)) (DrillRun, error) {
	return c.asks.FetchDrill(ctx, id, directory, told)
}

// StopDrill takes back what a drill has in force, and ends it. Scope stopdrill.
func (c *Client) StopDrill(ctx context.Context, id string) error {
	return c.asks.Call(ctx, "stopdrill", id, nil)
}

// Cadences say which drills are due. Scope cadences.
func (c *Client) Cadences(ctx context.Context) ([]Cadence, error) {
	return get[[]Cadence](ctx, c, "cadences", nil)
}

// Schedule lists what the server begins by itself, and when. Scope scheduled.
func (c *Client) Schedule(ctx context.Context) ([]Scheduled, error) {
	return get[[]Scheduled](ctx, c, "scheduled", nil)
}

// Event is one change, or at the begin of a connection how things stand. Which names there are and what each comes with stands at /v1/events in /v1/openapi.json.
type Event struct {
	Name string
	Data json.RawMessage
}

// Events tells what changes, until ctx ends or tell returns an error, which is returned. When the connection breaks another one is made, and begins with how things
// stand then: nothing that is so now is missed, but what came and went in between is. Scope events.
func (c *Client) Events(ctx context.Context, tell func(Event) error) error {
	return c.asks.Events(ctx, func(name string, data []byte) error { return tell(Event{Name: name, Data: data}) })
}
