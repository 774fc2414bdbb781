package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

const (
	// clockAsks is how often a clock is asked: the answer that was under way for the shortest time bounds best how far it is off.
	clockAsks = 5
	// sampleBegin is how long an order to sample may take to be heard, and answered.
	sampleBegin = 10 * time.Second
	// sampleEnd is how long beyond its own patience a client is waited for at the end, so that its last samples are there.
	sampleEnd = 8 * time.Second
	// sampleSilent is how long a host that samples may say nothing: by then it has stopped by itself, within its leash.
	sampleSilent = time.Minute
	// samplesWaiting is how many parts of what a client saw may wait to be taken; one that does not fit is told again.
	samplesWaiting = 256
)

// hearing is what is heard of one sampling.
type hearing struct {
	host  string // its key
	parts chan fleet.Sampled

	mu   sync.Mutex // guards next
	next int        // events that were heard
}

// take hands on what is new in a part, and says how much was heard. A part that comes before those before it, or that nobody has room for, is not taken: it comes again.
func (h *hearing) take(part fleet.Sampled) (kept fleet.Kept) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if part.From > h.next {
		return fleet.Kept{Lines: h.next}
	}
	known := min(h.next-part.From, len(part.Lines))
	part.Lines, part.From = part.Lines[known:], part.From+known
	select {
	case h.parts <- part:
		h.next = max(h.next, part.From+len(part.Lines))
		return fleet.Kept{Lines: h.next, End: part.End != ""}
	default:
		return fleet.Kept{Lines: h.next}
	}
}

// heardSampled takes what a host saw as a client. Of several servers only the one that conducts the drill says something.
func (c *Control) heardSampled(message *nats.Msg) {
	member, ok := c.speaker(message)
	if !ok {
		return
	}
	part, err := fleet.Decode[fleet.Sampled](message.Data)
	if err != nil {
		c.record("refused the samples of %s: %v", member.Name, err)
		return
	}
	c.mu.Lock()
	h := c.samplings[part.ID]
	c.mu.Unlock()
	if h != nil && h.host == member.Key {
		c.answer(message, member.Key, h.take(part))
	}
}

// AgentClient is a client of a service file that is an agent, with what it gets.
type AgentClient struct {
	Client drill.Client
	URL    string
}

// Sample has the agent of a client look at its service until ctx ends. What it sees is told as it comes, by our clock, after how far its own is off and the bound of that.
// What of it is lost is missing: who measures sees that, and no sample is ever made up. A host that is lost for long is an error.
func (h *Hands) Sample(ctx context.Context, client AgentClient, told func(history.Event)) error {
	c, name := h.control, client.Client.Name
	member, err := h.sampler(name)
	if err != nil {
		return err
	}
	clock, err := h.clockOf(ctx, member)
	if err != nil {
		return err
	}
	clock.Host = name
	shift := -clock.Offset.Duration()
	if c.options.Uncorrected {
		shift = 0
	}
	told(history.New(time.Now(), name, &clock))

	order := h.samplingOf(client, member)
	heard := &hearing{host: member.Key, parts: make(chan fleet.Sampled, samplesWaiting)}
	c.mu.Lock()
	c.samplings[order.ID] = heard
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.samplings, order.ID)
	}()
	answers, done := c.await(1, order.ID)
	defer done()
	text, err := fleet.SignSampling(order, c.keys.signer(c.trusted(member.Key), time.Now()))
	if err == nil {
		err = c.conn.Publish(fleet.ToAgent(member.Key, fleet.WordSample), text)
	}
	if err != nil {
		return err
	}
	c.record("drill %s of %s has %s sample %s as client %s", h.drill.ID, h.drill.By, member.Name, order.URL, name)
	defer c.say(fleet.ToAgent(member.Key, fleet.WordCancel), fleet.Cancel{Order: order.ID, Reason: "the drill needs it no more"})
	return h.hear(ctx, order, member, heard, answers, func(event history.Event) { told(history.Shift(event, shift)) })
}

// hear tells what a host sees until its end.
func (h *Hands) hear(ctx context.Context, order fleet.Sampling, member fleet.Member, heard *hearing, answers <-chan said, told func(history.Event)) error {
	lost := func(format string, args ...any) error {
		return &drill.Error{Op: "sample", Host: member.Name, Kind: drill.Unreachable, Err: fmt.Errorf(format, args...), Hint: "see: firedrill fleet hosts"}
	}
	quiet, late := time.NewTimer(sampleBegin), make(<-chan time.Time)
	defer quiet.Stop()
	stopped := ctx.Done()
	for {
		select {
		case s := <-answers:
			if s.host == member.Key && s.answer.State == fleet.Refused {
				return &drill.Error{Op: "sample", Host: member.Name, Kind: drill.Refused, Err: errors.New(s.answer.Reason), Hint: s.answer.Cure}
			}
		case part := <-heard.parts:
			quiet.Reset(sampleSilent)
			for _, line := range part.Lines {
				if event, ok := sampleOf(line, order.Client); ok {
					told(event)
				}
			}
			switch {
			case part.End == "":
			case ctx.Err() != nil:
				return nil
			default:
				return lost("it has stopped: %s", part.End)
			}
		case <-stopped:
			stopped = nil
			h.control.say(fleet.ToAgent(member.Key, fleet.WordCancel), fleet.Cancel{Order: order.ID, Reason: cmp.Or(context.Cause(ctx), ctx.Err()).Error()})
			late = time.After(order.Timeout.Duration() + sampleEnd)
		case <-late:
			return lost("its last samples did not come")
		case <-quiet.C:
			return lost("it was not heard for long")
		}
	}
}

// sampleOf is an event of a client, or nothing: a host speaks of its own samples alone, whatever it sends.
func sampleOf(line, client string) (history.Event, bool) {
	var event history.Event
	if err := json.Unmarshal([]byte(line), &event); err != nil {
		return event, false
	}
	event.Source = client
	switch fact := event.Fact.(type) {
	case *history.Sample:
		fact.Probe, fact.Host = client, client
	case *history.Note:
	default:
		return event, false
	}
	return event, true
}

// samplingOf is the order for a client.
func (h *Hands) samplingOf(client AgentClient, member fleet.Member) fleet.Sampling {
	c, now := h.control, time.Now()
	lever := c.lever()
	order := fleet.Sampling{ID: uuid.Must(uuid.NewV7()).String(), Drill: h.drill.ID, Service: h.drill.Request.Service, Fleet: c.keys.now().Fleet, Host: member.Key, By: h.drill.By,
		Client: client.Client.Name, URL: client.URL, Resolver: client.Client.Resolver, Every: client.Client.Every, Timeout: client.Client.Timeout, Keep: client.Client.Keep, Within: h.own,
		Epoch: lever.Epoch, Issued: now, Expires: now.Add(sampleBegin), Deadline: h.drill.Until}
	order.Term, _ = c.lead.holds()
	return order
}

// sampler is the agent that was chosen for a client when the drill was admitted.
func (h *Hands) sampler(client string) (fleet.Member, error) {
	host := h.drill.Clients[client]
	member, ok := h.control.members.named(host)
	if host == "" || !ok || member.Role != fleet.RoleAgent || member.Revoked != nil {
		return member, &drill.Error{Op: "sample", Host: client, Kind: drill.Unreachable, Err: fmt.Errorf("its host %q is no agent of this fleet any more", host), Hint: "see: firedrill fleet hosts"}
	}
	return member, nil
}

// clockOf measures how far the clock of a host is off.
func (h *Hands) clockOf(ctx context.Context, member fleet.Member) (best history.Clock, err error) {
	for i := range clockAsks {
		_, clock, err := h.ask(ctx, member, fleet.Look{ID: uuid.NewString(), Clock: true})
		if err != nil {
			return clock, err
		}
		if i == 0 || clock.Error < best.Error {
			best = clock
		}
	}
	return best, nil
}

// ownAddresses are those of a service, as its file says: of its hosts, its dependencies and its name servers. A client that is an agent looks at nothing else unless
// the host's own policy allows it.
func ownAddresses(service drill.Service) []netip.Prefix {
	var all []netip.Prefix
	add := func(address netip.Addr) {
		if address = address.Unmap(); address.IsValid() && !address.IsLinkLocalUnicast() && !address.IsMulticast() && !address.IsUnspecified() {
			all = append(all, netip.PrefixFrom(address, address.BitLen()))
		}
	}
	literal := func(text string) {
		if host, _, err := net.SplitHostPort(text); err == nil {
			text = host
		}
		if address, err := netip.ParseAddr(text); err == nil {
			add(address)
		}
	}
	for _, environment := range service.Environments {
		for _, host := range environment.Hosts {
			add(host.Address)
		}
	}
	for _, dependency := range service.Dependencies {
		literal(dependency.Address)
	}
	for _, failover := range service.Failover {
		for _, server := range failover.Servers {
			literal(server)
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return slices.Compact(all)
}

// chooseClients finds the agents that a file's clients name. An agent by its name must be there; of those with a tag it is the first by name that is. It is of the service or of
// none: whoever may drill one service does not look out of the hosts of another. Hosts that the drill attacks see what is done to them and not what clients see.
func chooseClients(service drill.Service, all []fleet.Candidate, attacked []string) (map[string]string, error) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b fleet.Candidate) int { return strings.Compare(a.Name, b.Name) })
	chosen := map[string]string{}
	for _, client := range service.Clients {
		if client.Agent == "" {
			continue
		}
		key, value, byTag := strings.Cut(client.Agent, "=")
		why := "no agent of this name has joined"
		if byTag {
			why = "no agent has joined with this tag"
		}
		for _, candidate := range all {
			if byTag && candidate.Tags[key] != value || !byTag && candidate.Name != client.Agent {
				continue
			}
			if why = unfitClient(service.Name, candidate, attacked); why == "" {
				chosen[client.Name] = candidate.Name
				break
			}
			why = candidate.Name + " " + why
		}
		if chosen[client.Name] == "" {
			return nil, &drill.Error{Op: "find client " + client.Name, Kind: drill.Refused, Err: fmt.Errorf("not attacking: agent %s: %s", client.Agent, why), Hint: "see: firedrill fleet hosts; or leave agent: out, and the server samples from where it is"}
		}
	}
	return chosen, nil
}

// unfitClient says why a host cannot be a client.
func unfitClient(service string, host fleet.Candidate, attacked []string) string {
	of := host.Tags[fleet.TagService]
	switch {
	case !host.Online:
		return "is not there"
	case of != "" && of != service:
		return fmt.Sprintf("is a host of service %q, and samples for that alone", of)
	case slices.Contains(attacked, host.Name):
		return "is attacked by the drill, which is no place to look from"
	case host.Attacked:
		return "is under attack"
	case host.Unfit != "" && !host.Samples:
		return host.Unfit
	}
	return ""
}
