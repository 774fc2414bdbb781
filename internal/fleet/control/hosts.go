package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// presenceMax is how long a host counts as there after it was heard. Hosts speak every ten seconds.
const presenceMax = 25 * time.Second

// seen is what is known of a host.
type seen struct {
	heard    time.Time
	skew     time.Duration
	presence fleet.Presence
	facts    *fleet.Facts
	run      string // of which it is a part, until it is final there
}

// said is what a host says of an order or a halt.
type said struct {
	host   string
	answer fleet.Answer
	halted fleet.Halted
	looked fleet.Looked
	at     time.Time // when it came
}

// token is a part of a subject, from 0.
func token(subject string, at int) string {
	parts := strings.Split(subject, ".")
	if at >= len(parts) {
		return ""
	}
	return parts[at]
}

func (c *Control) heardHello(message *nats.Msg) {
	member, ok := c.speaker(message)
	if !ok {
		return
	}
	presence, err := fleet.Decode[fleet.Presence](message.Data)
	if err != nil || presence.Facts == nil {
		c.record("refused the hello of %s: %v", member.Name, err)
		return
	}
	// Zone and tags are the control plane's to say, as they were when the host was let in: they decide what may be hit together.
	presence.Facts.Zone, presence.Facts.Tags = member.Zone, member.Tags
	c.saw(member, presence)
	if !c.lead.leads() || c.options.Lost != nil && c.options.Lost(member.Name) {
		return
	}
	id := c.keys.now()
	welcome := fleet.Welcome{Pulse: c.heartbeat(), Name: member.Name, Renew: member.Renew != nil}
	if presence.OrderSerial < id.OrderSerial {
		welcome.Handovers = id.Handovers
	}
	if presence.Pin != welcome.Pin {
		welcome.Chain = c.keys.certificate().Certificate
	}
	c.answer(message, member.Key, welcome)
}

func (c *Control) heardPresence(message *nats.Msg) {
	member, ok := c.speaker(message)
	if !ok {
		return
	}
	presence, err := fleet.Decode[fleet.Presence](message.Data)
	if err != nil {
		c.record("refused the presence of %s: %v", member.Name, err)
		return
	}
	c.saw(member, presence)
}

func (c *Control) saw(member fleet.Member, presence fleet.Presence) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[member.Key]
	if h == nil {
		h = &seen{}
		c.hosts[member.Key] = h
	}
	h.heard, h.skew, h.presence = now, presence.At.Sub(now), presence
	if presence.Facts != nil {
		h.facts = presence.Facts
	}
}

// hand gives what a host said to whoever waits for it.
func (c *Control) hand(about string, s said) (waited bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting, ok := c.waiting[about]
	if ok {
		select {
		case waiting <- s:
		default: // it said so more often than it was asked
		}
	}
	return ok
}

// await makes the place where hosts' words about some orders or a halt arrive, until done is called.
func (c *Control) await(size int, about ...string) (words <-chan said, done func()) {
	words2 := make(chan said, 2*size)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range about {
		c.waiting[name] = words2
	}
	return words2, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, name := range about {
			delete(c.waiting, name)
		}
	}
}

func (c *Control) heardAnswer(message *nats.Msg) {
	member, ok := c.speaker(message)
	if !ok {
		return
	}
	answer, err := fleet.Decode[fleet.Answer](message.Data)
	if err != nil {
		c.record("refused the answer of %s: %v", member.Name, err)
		return
	}
	if answer.State == fleet.Refused && c.lead.leads() {
		c.record("%s refused order %s: %s", member.Name, answer.Order, answer.Reason)
	}
	c.hand(answer.Order, said{host: member.Key, answer: answer})
}

func (c *Control) heardHalted(message *nats.Msg) {
	member, ok := c.speaker(message)
	if !ok {
		return
	}
	halted, err := fleet.Decode[fleet.Halted](message.Data)
	if err != nil {
		c.record("refused what %s says of a halt: %v", member.Name, err)
		return
	}
	c.hand(halted.ID, said{host: member.Key, halted: halted})
}

func (c *Control) heardLooked(message *nats.Msg) {
	at := time.Now()
	member, ok := c.speaker(message)
	if !ok {
		return
	}
	looked, err := fleet.Decode[fleet.Looked](message.Data)
	if err != nil {
		c.record("refused what %s says of a look: %v", member.Name, err)
		return
	}
	c.hand(looked.ID, said{host: member.Key, looked: looked, at: at})
}

// heardJoin lets an agent in. The connection was let in by the token that the subject names.
func (c *Control) heardJoin(message *nats.Msg) {
	id := token(message.Subject, 2)
	ctx, cancel := context.WithTimeout(context.Background(), storeMax)
	defer cancel()
	joined, err := c.join(ctx, id, message.Data)
	if err != nil {
		c.record("refused to let in with token %s: %v", id, err)
		joined = fleet.Joined{Error: err.Error(), Cure: drill.HintOf(err)}
	}
	c.answer(message, joinMember(id), joined)
}

func (c *Control) join(ctx context.Context, id string, text []byte) (fleet.Joined, error) {
	asked, err := fleet.Decode[fleet.Join](text)
	if err != nil {
		return fleet.Joined{}, err
	}
	login := cmp.Or(asked.Login, asked.Key)
	public, err := nkeys.FromPublicKey(login)
	if err != nil || public.Verify(fleet.JoinText(id, asked.Key, asked.Name), asked.Signature) != nil {
		return fleet.Joined{}, errors.New("the key is not that of the one who asks")
	}
	had, known := c.members.get(asked.Key)
	if known && had.LoginKey() != login {
		return fleet.Joined{}, &drill.Error{Op: "join", Kind: drill.Refused, Err: fmt.Errorf("the key of %s was replaced by another one", had.Name), Hint: "remove the agent's directory, and join again with a fresh key"}
	}
	leave, err := c.tokens.use(ctx, id)
	if err != nil {
		return fleet.Joined{}, err
	}
	member := fleet.Member{Key: asked.Key, Name: asked.Name, Role: fleet.RoleAgent, Zone: asked.Zone, Tags: asked.Tags, Since: time.Now(), By: leave.By, Login: asked.Login, Keyed: had.Keyed}
	if err := c.members.add(ctx, member); err != nil {
		leave.Uses++
		return fleet.Joined{}, errors.Join(err, c.tokens.put(ctx, id, leave))
	}
	c.record("let in host %s, key %s, with a token of %s", member.Name, member.Key, leave.By)
	own := c.keys.now()
	return fleet.Joined{Fleet: own.Fleet, OrderKey: own.orderPublic(), Serial: own.OrderSerial, Name: member.Name, Servers: c.Address()}, nil
}

// views are all hosts, for people.
func (c *Control) views(now time.Time) []fleet.HostView {
	views := []fleet.HostView{}
	agents := c.members.list(func(m fleet.Member) bool { return m.Role == fleet.RoleAgent && m.Revoked == nil })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, member := range agents {
		view := fleet.HostView{Name: member.Name, Key: member.Key, Zone: member.Zone, Tags: member.Tags}
		if h := c.hosts[member.Key]; h != nil {
			view.Online, view.Heard, view.Skew, view.Facts, view.Running, view.Run = now.Sub(h.heard) < presenceMax, h.heard, h.skew.Seconds(), h.facts, h.presence.Running, h.run
		}
		views = append(views, view)
	}
	return views
}

// callTheRoll asks all hosts to say that they are there, and returns when all that were have, or the time is over. What is decided then is
// decided on what was heard since.
func (c *Control) callTheRoll(ctx context.Context) (since time.Time) {
	since = time.Now()
	c.say(fleet.SubjectRollCall, struct{}{})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for time.Since(since) < c.options.RollCall && ctx.Err() == nil {
		missing := false
		c.mu.Lock()
		for _, h := range c.hosts {
			missing = missing || h.heard.Before(since) && since.Sub(h.heard) < presenceMax
		}
		c.mu.Unlock()
		if !missing {
			break
		}
		<-tick.C
	}
	return since
}

// candidates are all hosts as the choice sees them: there is who was heard since.
func (c *Control) candidates(since time.Time) []fleet.Candidate {
	var all []fleet.Candidate
	drilled := map[string]bool{} // a drill attacks it, or is about to
	clients := map[string]bool{} // it samples for one, so that what is done to it would be measured as done to the service
	for _, run := range c.GoingDrills() {
		for _, host := range run.Hosts {
			drilled[host] = true
		}
		for _, host := range run.Clients {
			clients[host] = true
		}
	}
	trusts := c.trusting()
	for _, view := range c.views(time.Now()) {
		candidate := fleet.Candidate{Key: view.Key, Name: view.Name, Zone: view.Zone, Tags: view.Tags, Online: !view.Heard.Before(since) && view.Facts != nil,
			Attacked: view.Run != "" || len(view.Running) > 0 || drilled[view.Name]}
		if view.Facts != nil {
			candidate.Kinds = view.Facts.Kinds
		}
		if candidate.Online {
			candidate.Unfit = c.keys.unfit(trusts[view.Name].serial, time.Now())
		}
		if skew := time.Duration(view.Skew * float64(time.Second)); candidate.Online && skew.Abs() > fleet.SkewMax {
			candidate.Unfit = fmt.Sprintf("has a clock that differs by %s", skew.Round(time.Second))
		} else if clients[view.Name] && candidate.Unfit == "" {
			candidate.Unfit, candidate.Samples = "samples for a drill", true
		}
		all = append(all, candidate)
	}
	return all
}

func encode(value any) []byte {
	text, _ := json.Marshal(value) // our own types always encode
	return text
}

// Hosts are all hosts, sorted by name.
func (c *Control) Hosts() []fleet.HostView { return c.views(time.Now()) }
