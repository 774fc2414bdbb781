//go:build !hostpart

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"firedrill/internal/deploy"
	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
	"firedrill/internal/probe"
)

// How often and how long the crew looks.
const (
	ledgerEvery     = 100 * time.Millisecond
	ledgerTimeout   = 2 * time.Second
	watchRetry      = 250 * time.Millisecond
	watchAnswerMax  = 5 * time.Second
	inspectMax      = 15 * time.Second
	oneWayPatience  = 2 * time.Second // a host that goes down says nothing more
	statusAnswerMax = 64 << 10
)

// crew carries out what the conductor commands, over SSH and HTTP. It implements conductor.Crew.
type crew struct {
	service drill.Service
	plan    drill.Plan
	source  string // this host
	file    string // the service file, beside which its secrets lie
	token   string // for what the watch guards
	links   *links
	output  io.Writer                                                                                       // what exec commands print
	agent   func(ctx context.Context, client drill.Client, spec probe.Spec, emit func(history.Event)) error // samples from an agent; nil where there is no fleet

	pin    sync.Mutex // guards commit
	commit string     // what this run has deployed
}

// Inspect looks at what the host runs, whether it is healthy, and what is in force there.
func (c *crew) Inspect(ctx context.Context, host drill.Host) history.Inspected {
	ctx, cancel := context.WithTimeout(ctx, inspectMax)
	defer cancel()
	seen := history.Inspected{Host: host.Name}
	k, err := c.links.get(ctx, host, nil)
	if err != nil {
		seen.Error = err.Error()
		return seen
	}
	if seen.InForce, err = inForce(ctx, k, host); err != nil {
		seen.Error = err.Error()
		return seen
	}
	if c.service.Deploy == nil {
		seen.Healthy = true
		return seen
	}
	if seen.Locked, err = deploy.Reservation(ctx, k.client, *c.service.Deploy); err != nil {
		seen.Error = err.Error()
		return seen
	}
	if seen.Locked != nil {
		seen.Locked.Own = seen.Locked.Owner == owner()
	}
	seen.Release, seen.Revision, err = deploy.Current(ctx, k.client, *c.service.Deploy)
	if err != nil {
		seen.Error = err.Error()
		return seen
	}
	if err := deploy.Healthy(ctx, host, c.service.Deploy.Healthy, c.service.Endpoint); err != nil {
		seen.Detail = err.Error()
		return seen
	}
	seen.Healthy = true
	return seen
}

// inForce asks the host for its attacks by running our status command there.
func inForce(ctx context.Context, k *link, host drill.Host) ([]string, error) {
	var answer bytes.Buffer
	errorText := &tail{}
	process, err := k.pushed.Start(ctx, remote.Invocation{Args: []string{"status", "--json"}, Become: host.SSH.Become, Stdout: &answer, Stderr: errorText})
	if err != nil {
		return nil, err
	}
	if err := process.CloseStdin(); err != nil {
		return nil, err
	}
	exit, err := process.Wait()
	if err != nil {
		return nil, err
	}
	if exit.Code != exitPassed {
		return nil, fmt.Errorf("firedrill status ended with %d: %s", exit.Code, errorText)
	}
	var status hostStatus
	if err := json.Unmarshal(answer.Bytes(), &status); err != nil {
		return nil, fmt.Errorf("firedrill status: %w", err)
	}
	return status.inForce(), nil
}

// dial connects to a host for a deployment.
func dial(ctx context.Context, host drill.Host) (*remote.Client, error) {
	return remote.Dial(ctx, host, remote.Options{ConnectTimeout: connectMax})
}

// Deploy publishes the release to the environment. All deployments of a run are of one commit: what was drilled is what the other
// environment gets, though the branch may have gone on meanwhile.
func (c *crew) Deploy(ctx context.Context, environment drill.Environment, emit func(history.Event)) error {
	c.pin.Lock()
	wanted := *c.service.Deploy
	if c.commit != "" {
		wanted.Source.Revision = c.commit
	}
	c.pin.Unlock()
	result, err := deploy.Run(ctx, deploy.Request{
		Cache:   deploy.CacheDir(),
		Service: c.service.Name, Environment: environment, Deploy: wanted, Endpoint: c.service.Endpoint, Output: c.output,
	}, dial, func(fact history.Fact) { emit(history.New(time.Now(), c.source, fact)) })
	if err == nil {
		c.pin.Lock()
		c.commit = result.Revision
		c.pin.Unlock()
	}
	return err
}

// Rollback switches the environment to its release before.
func (c *crew) Rollback(ctx context.Context, environment drill.Environment, emit func(history.Event)) error {
	_, err := deploy.Rollback(ctx, deploy.Request{
		Service: c.service.Name, Environment: environment, Deploy: *c.service.Deploy, Endpoint: c.service.Endpoint, Output: c.output,
	}, dial, func(fact history.Fact) { emit(history.New(time.Now(), c.source, fact)) })
	return err
}

// Promote asks the watch to move the answer.
func (c *crew) Promote(ctx context.Context, to string) error {
	if c.service.Watch == nil {
		return &drill.Error{Op: "promote " + to, Kind: drill.Invalid, Err: errors.New("the service file names no watch"), Hint: "Add watch: {url: ...} to the service file."}
	}
	return switchAnswer(ctx, *c.service.Watch, c.token, c.plan.Failover[0].Name, to, "promote")
}

// switchAnswer posts a switch to the watch and turns a refusal into an error with its cure.
func switchAnswer(ctx context.Context, watch drill.Watch, token, name, to, reason string) error {
	return orderWatch(ctx, watch, token, "switch "+name+" to "+to, "/v1/names/"+url.PathEscape(name)+"/switch", map[string]string{"to": to, "reason": reason})
}

// orderWatch posts an order to the watch and turns a refusal into an error with its cure.
func orderWatch(ctx context.Context, watch drill.Watch, token, op, path string, order any) error {
	body, err := json.Marshal(order)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, watchAnswerMax)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(watch.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: err}
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return &drill.Error{Op: op, Kind: drill.Unreachable, Err: err, Hint: "Is the watch running at " + watch.URL + "?"}
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	var refusal struct{ Error, Cure string }
	if err := json.NewDecoder(io.LimitReader(response.Body, statusAnswerMax)).Decode(&refusal); err != nil || refusal.Error == "" {
		refusal.Error = response.Status
	}
	return &drill.Error{Op: op, Kind: drill.Refused, Err: errors.New(refusal.Error), Hint: refusal.Cure}
}

// quietAfter is how long the alarms of an attacked host stay quiet after the impact: it may have to boot.
const quietAfter = 2 * time.Minute

// quieten keeps those asleep whom the alarms of the attacked host would wake. The alarms themselves move, and what is not expected is
// told. A watch that does not listen wakes somebody; that is no reason not to drill.
func (c *crew) quieten(ctx context.Context, host drill.Host, order drill.Order, emit func(history.Event)) {
	if len(c.service.Actions) == 0 || c.service.Watch == nil {
		return
	}
	var alarms []string
	for _, alarm := range c.plan.Alarms {
		if alarm.Host == host.Name {
			alarms = append(alarms, alarm.Name)
		}
	}
	if len(alarms) == 0 {
		return
	}
	length := order.Delay.Duration() + order.Length.Duration() + quietAfter
	err := orderWatch(ctx, *c.service.Watch, c.token, "mute", "/v1/mute",
		map[string]any{"alarms": alarms, "seconds": length.Seconds(), "reason": "drill: " + order.Attack + " on " + host.Name})
	if err != nil {
		emit(history.New(time.Now(), c.source, &history.Note{Text: "the alarms of this drill may wake somebody: " + err.Error()}))
	}
}

// Attack runs the order on the host and returns when it has ended there.
func (c *crew) Attack(ctx context.Context, host drill.Host, order drill.Order, guid string, emit func(history.Event)) error {
	op := "attack " + order.Attack
	k, err := c.links.get(ctx, host, emit)
	if err != nil {
		return err
	}
	c.quieten(ctx, host, order, emit)
	args := []string{"attack", order.Attack, "--json", "--guid=" + guid}
	for _, canary := range order.Canaries {
		args = append(args, "--canary="+canary)
	}
	args = append(args, order.Args...)
	// The attack must not be killed when the run ends: it is asked to revert, and only then waited for.
	run, err := k.start(context.WithoutCancel(ctx), args, host.SSH.Become, nil, func(event history.Event) {
		event.Source = host.Name
		if fact, is := event.Fact.(*history.AttackReverted); is && ctx.Err() != nil {
			stopped := *fact
			stopped.Why = context.Cause(ctx).Error() // the attack knows only that we let go of it
			event.Fact = &stopped
		}
		emit(event)
	})
	if err != nil {
		return err
	}
	run.signals = true
	patience := revertMax
	if order.OneWay {
		patience = oneWayPatience
	}
	exit, err := run.wait(ctx, patience)
	if order.OneWay && err != nil && drill.KindOf(err) == drill.Unreachable {
		return nil // that is what was ordered; whether the host went down is for others to see
	}
	if err != nil {
		return err
	}
	if exit.Code == exitPassed || exit.Code == exitInconclusive || (ctx.Err() != nil && exit.Code > 128) {
		return nil // what it did stands in its events; above 128 it ended because we asked for it, and reverted
	}
	return &drill.Error{Op: op, Host: host.Name, Kind: drill.Failed, Err: fmt.Errorf("exit status %d: %s", exit.Code, run.errors)}
}

// Ledger writes numbered entries through the service until ctx ends, then counts what is there.
func (c *crew) Ledger(ctx context.Context, client drill.Client, emit func(history.Event)) error {
	endpoint, err := url.Parse(c.service.Endpoint)
	if err != nil {
		return err
	}
	endpoint.Path = client.Ledger
	spec := probe.Spec{
		Name: client.Name + " ledger", Kind: probe.Ledger, URL: endpoint.String(), Resolver: client.Resolver,
		Every: drill.Seconds(ledgerEvery), Timeout: drill.Seconds(ledgerTimeout),
	}
	counted := false
	err = c.probes(ctx, client, []probe.Spec{spec}, func(event history.Event) {
		if _, is := event.Fact.(*history.Ledger); is {
			counted = true
			emit(event)
		}
	})
	if err != nil {
		return err
	}
	if !counted {
		return errors.New("the ledger gave no count")
	}
	return nil
}

// probes runs probes at a client's place until ctx ends.
func (c *crew) probes(ctx context.Context, client drill.Client, specs []probe.Spec, emit func(history.Event)) error {
	switch {
	case client.Agent != "" && c.agent != nil:
		return c.agent(ctx, client, specs[0], emit)
	case client.Agent != "":
		return agentAlone(client)
	case len(client.Via) > 0:
		return c.probesVia(ctx, client, specs, emit)
	case client.SSH == nil:
		return probe.Run(ctx, c.source, specs, emit)
	}
	return c.probesOn(ctx, clientHost(client), client.Name, specs, emit)
}

// probesOn runs probes on a host, which are told as seen by source, until ctx ends.
func (c *crew) probesOn(ctx context.Context, host drill.Host, source string, specs []probe.Spec, emit func(history.Event)) error {
	k, err := c.links.get(ctx, host, emit)
	if err != nil {
		return err
	}
	order, err := json.Marshal(map[string]any{"source": source, "probes": specs})
	if err != nil {
		return err
	}
	run, err := k.start(context.WithoutCancel(ctx), []string{"probe"}, "", append(order, '\n'), emit)
	if err != nil {
		return err
	}
	var patience time.Duration
	for _, spec := range specs {
		patience = max(patience, spec.EndMax())
	}
	exit, err := run.wait(ctx, patience+killGrace)
	if err != nil {
		return err
	}
	if exit.Code != exitPassed {
		return fmt.Errorf("probe on %s: exit status %d: %s", host.Name, exit.Code, run.errors)
	}
	return nil
}

// clientHost makes a host of a client's SSH address.
func clientHost(client drill.Client) drill.Host {
	return drill.Host{Name: client.Name, SSH: *client.SSH}
}

// Observe follows the watch, samples as the clients, and asks where the names lead, until ctx ends.
func (c *crew) Observe(ctx context.Context, emit func(history.Event)) error {
	var group sync.WaitGroup
	if c.service.Watch != nil {
		group.Go(func() { c.followWatch(ctx, emit) })
	}
	for _, client := range c.service.Clients {
		group.Go(func() { c.sample(ctx, client, emit) })
	}
	for _, own := range c.service.Probes {
		group.Go(func() { c.own(ctx, own, emit) })
	}
	for _, file := range c.logFiles() {
		group.Go(func() { c.follow(ctx, file, emit) })
	}
	for _, asked := range c.witnesses() {
		group.Go(func() { c.ask(ctx, asked, emit) })
	}
	group.Go(func() { c.observeDatabases(ctx, emit) })
	group.Wait()
	return ctx.Err()
}

// sample keeps a client's probe going; a client that is lost for a moment is a gap in the samples, which the verdict sees.
func (c *crew) sample(ctx context.Context, client drill.Client, emit func(history.Event)) {
	target := c.service.Endpoint
	if client.HTTP != "" {
		if endpoint, err := url.Parse(target); err == nil {
			endpoint.Path = client.HTTP
			target = endpoint.String()
		}
	}
	spec := probe.Spec{Name: client.Name, Kind: probe.HTTP, URL: target, Resolver: client.Resolver, Keep: client.Keep, Every: client.Every, Timeout: client.Timeout}
	for ctx.Err() == nil {
		if err := c.probes(ctx, client, []probe.Spec{spec}, emit); err != nil && ctx.Err() == nil {
			emit(history.New(time.Now(), c.source, &history.Note{Text: "client " + client.Name + ": " + err.Error()}))
		}
		pause(ctx, watchRetry)
	}
}

// followWatch passes on the events of the watch, and says when it is not heard.
func (c *crew) followWatch(ctx context.Context, emit func(history.Event)) {
	heard := false
	tell := func(up bool, detail string) {
		if up != heard {
			heard = up
			emit(history.New(time.Now(), c.source, &history.Host{Host: guard.WatchHost, Up: up, Detail: detail}))
		}
	}
	for ctx.Err() == nil {
		err := followOnce(ctx, c.service.Watch.URL, func() { tell(true, "") }, emit)
		if ctx.Err() != nil {
			return
		}
		detail := "the stream ended"
		if err != nil {
			detail = err.Error()
		}
		tell(false, detail)
		pause(ctx, watchRetry)
	}
}

// followOnce reads the event stream of a watch until it ends. opened is called when the watch has accepted.
func followOnce(ctx context.Context, base string, opened func(), emit func(history.Event)) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/v1/events?follow=1", nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: watchAnswerMax}).DialContext,
		ResponseHeaderTimeout: watchAnswerMax,
	}}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	opened()
	return readEvents(response.Body, emit)
}

func pause(ctx context.Context, span time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(span):
	}
}

// readToken reads the secret for the watch.
func readToken(service drill.Service) (string, error) {
	if service.Watch == nil || service.Watch.TokenFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(service.Watch.TokenFile)
	if err != nil {
		return "", &drill.Error{Op: "read watch.token_file", Kind: drill.Invalid, Err: err, Hint: "Put the watch's token there, readable for you alone."}
	}
	return strings.TrimSpace(string(text)), nil
}
