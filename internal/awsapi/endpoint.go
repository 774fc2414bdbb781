package awsapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"firedrill/internal/awsapi/cloudwatch"
	"firedrill/internal/awsapi/rds"
	"firedrill/internal/awsapi/recovery"
	"firedrill/internal/awsapi/route53"
	"firedrill/internal/drill"
	"firedrill/internal/failover/authority"
)

// stopMax is how long queries under way may take at the end.
const stopMax = 2 * time.Second

// Options make an Endpoint. Keys and DNSListen are needed.
type Options struct {
	Directory string // where everything is kept; "": nowhere
	DNSListen string // host:port for UDP and TCP; port 0 takes a free one
	Keys      map[string]string
	Log       *slog.Logger
	Instances []rds.Instance // databases that are shown as RDS shows them

	Now        func() time.Time // of metrics and alarms, not of signatures; default: the clock
	Grace      time.Duration    // see cloudwatch.Options
	CheckEvery time.Duration    // see route53.Options
}

// Endpoint is everything behind the API, with its name server. Make one with Open, then Run it; Handler serves it over HTTP.
type Endpoint struct {
	Handler *Handler

	hosting *authority.Hosting
}

// Open returns the endpoint with what its directory holds. Nothing runs yet.
func Open(options Options) (*Endpoint, error) {
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Directory != "" {
		if err := os.MkdirAll(options.Directory, 0o700); err != nil {
			return nil, &drill.Error{Op: "open data directory", Kind: drill.Invalid, Err: err, Hint: "Name a directory that can be written, with --data."}
		}
	}
	broken := func(err error) (*Endpoint, error) {
		return nil, &drill.Error{Op: "read what was kept", Kind: drill.Invalid, Err: err, Hint: "Move the file away to begin anew without what it holds, or take it from a backup."}
	}
	alarms, err := cloudwatch.Open(cloudwatch.Options{Directory: options.Directory, Grace: options.Grace, Now: options.Now, Log: options.Log})
	if err != nil {
		return broken(err)
	}
	controls, err := recovery.Open(recovery.Options{Directory: options.Directory})
	if err != nil {
		return broken(err)
	}
	databases, err := rds.Open(rds.Options{Directory: options.Directory, Log: options.Log, Instances: options.Instances})
	if err != nil {
		return broken(err)
	}
	hosting := authority.NewHosting(options.DNSListen, options.Log)
	names, err := route53.Open(route53.Options{
		Directory: options.Directory, Alarms: alarms, Hosting: hosting, Now: options.Now, Log: options.Log, CheckEvery: options.CheckEvery, ControlOff: controls.IsOff,
	})
	if err != nil {
		return broken(err)
	}
	controls.OnChange(names.Look)
	return &Endpoint{
		Handler: &Handler{Keys: options.Keys, CloudWatch: alarms, Route53: names, Recovery: controls, RDS: databases, Log: options.Log},
		hosting: hosting,
	}, nil
}

// Start opens the name server's port.
func (e *Endpoint) Start(ctx context.Context) error { return e.hosting.Start(ctx) }

// DNS returns where the name server listens, once started.
func (e *Endpoint) DNS() netip.AddrPort { return e.hosting.Address() }

// Run evaluates alarms and makes health checks until ctx ends, or the name server breaks, and takes everything down. Start comes first.
func (e *Endpoint) Run(ctx context.Context) (err error) {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { e.Handler.CloudWatch.Run(ctx) })
	running.Go(func() { e.Handler.Route53.Run(ctx) })
	select {
	case <-ctx.Done():
	case err = <-e.hosting.Failed():
	}
	stop()
	running.Wait()
	e.Handler.RDS.Close()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopMax)
	defer cancel()
	if err := errors.Join(err, e.hosting.Stop(ending), e.Handler.CloudWatch.Close()); err != nil {
		return fmt.Errorf("endpoint: %w", err)
	}
	return nil
}
