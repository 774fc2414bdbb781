//go:build !hostpart

package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/history"
)

const (
	databaseTryEvery = 500 * time.Millisecond // how often each server is tried during a drill
	databaseTryMax   = 2 * time.Second        // of one try
	databaseToldMax  = 5 * time.Second        // what has not changed is told again after this
	hostAlive        = 500 * time.Millisecond // how often a host is asked whether it is still there
)

// primaries asks which host is the primary of each database whose primary a drill of the service attacks.
func primaries(ctx context.Context, service drill.Service, file string) (map[string]string, error) {
	found := map[string]string{}
	for _, d := range service.Databases {
		attacked := false
		for _, one := range service.Drills {
			attacked = attacked || strings.HasSuffix(one.On, "primary of "+d.Name)
		}
		if !attacked {
			continue
		}
		driver, err := openDatabase(d, file)
		if err != nil {
			return nil, err
		}
		status, err := driver.Status(ctx)
		if err != nil {
			return nil, err
		}
		if status.Paused {
			return nil, &drill.Error{Op: "database " + d.Name, Kind: drill.Refused, Err: errors.New("its own manager is paused: it would promote nothing when the primary is lost"), Hint: "Resume it first, with its own tools (Patroni: patronictl resume)."}
		}
		if primary := status.Primary(); primary != nil {
			found[d.Name] = primary.Host
		}
	}
	return found, nil
}

// observeDatabases tries every server of the databases whose primaries the plan attacks, with writes, and sees their hosts go and come back.
func (c *crew) observeDatabases(ctx context.Context, emit func(history.Event)) {
	var group sync.WaitGroup
	for _, d := range c.plan.Databases {
		attacked := false
		for _, step := range c.plan.Steps {
			attacked = attacked || step.Drill != nil && step.Drill.Database == d.Name
		}
		if !attacked {
			continue
		}
		driver, err := openDatabase(d, c.file)
		if err != nil {
			emit(history.New(time.Now(), c.source, &history.Note{Text: "database " + d.Name + ": " + err.Error()}))
			continue
		}
		for _, host := range d.Hosts {
			group.Go(func() { c.tryServer(ctx, d.Name, host.Name, driver, emit) })
			group.Go(func() { c.seeHost(ctx, host, emit) })
		}
	}
	group.Wait()
}

// tryServer writes to one server again and again, and tells what it says when that changes.
func (c *crew) tryServer(ctx context.Context, name, host string, driver database.Driver, emit func(history.Event)) {
	ticker := time.NewTicker(databaseTryEvery)
	defer ticker.Stop()
	var last history.Database
	var told time.Time
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, databaseTryMax)
		err := driver.Write(one, host)
		fact := history.Database{Database: name, Host: host, Role: string(database.Down), Accepted: err == nil, Refused: errors.Is(err, database.ErrReadOnly)}
		if err != nil {
			fact.Detail = err.Error()
		}
		acknowledged := time.Now() // a look at all servers waits for the dead ones
		if fact.Accepted {
			fact.Role = string(database.Primary)
		} else if status, lookErr := driver.Status(one); lookErr == nil && status.Member(host) != nil {
			fact.Role, fact.Follows = string(status.Member(host).Role), status.Member(host).Streaming
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		same := fact.Role == last.Role && fact.Accepted == last.Accepted && fact.Refused == last.Refused && fact.Follows == last.Follows
		if !same || acknowledged.Sub(told) > databaseToldMax {
			last, told = fact, acknowledged
			emit(history.New(acknowledged, c.source, &fact))
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// seeHost tells when a host of a database goes down, and when it is back with which boot.
func (c *crew) seeHost(ctx context.Context, host drill.Host, emit func(history.Event)) {
	up, boot := false, ""
	for ctx.Err() == nil {
		err := hostStays(ctx, host, func(id string) {
			if !up || id != boot {
				up, boot = true, id
				emit(history.New(time.Now(), c.source, &history.Host{Host: host.Name, Up: true, BootID: id}))
			}
		})
		if up && ctx.Err() == nil {
			up = false
			emit(history.New(time.Now(), c.source, &history.Host{Host: host.Name, Detail: err.Error()}))
		}
		pause(ctx, watchRetry)
	}
}

// hostStays calls seen with the boot ID of a host again and again until it does not answer any more, and returns why.
func hostStays(ctx context.Context, host drill.Host, seen func(boot string)) error {
	client, err := remote.Dial(ctx, host, remote.Options{ConnectTimeout: databaseTryMax, KeepAlive: hostAlive})
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		var out bytes.Buffer
		one, cancel := context.WithTimeout(ctx, databaseTryMax)
		exit, err := client.Run(one, remote.Command{Line: "cat /proc/sys/kernel/random/boot_id", Stdout: &out})
		cancel()
		switch {
		case err != nil:
			return err
		case exit.Code != 0 || out.Len() == 0:
			return errors.New("its boot cannot be read")
		}
		seen(strings.TrimSpace(out.String()))
		pause(ctx, hostAlive)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
