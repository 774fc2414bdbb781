package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

const (
	lookMax = 15 * time.Second
	// orderRoom is what a host is given beyond the length of an attack: to begin, to prove that it bit, and to take it back.
	orderRoom = 30 * time.Second
	// oneWayRoom is how long an order may last that takes its host down; then nothing is left to end.
	oneWayRoom = 2 * time.Minute
	// revertPatience is how long a host may take to say that it reverted. One that hears nothing reverts by itself within its leash.
	revertPatience = 30 * time.Second
	// oneWayWait is how long is waited for a host that goes down to say more.
	oneWayWait = 2 * time.Second
	attackLook = 250 * time.Millisecond
)

// Hands reach the hosts of one drill through their agents. They hold to what the drill was admitted for: hosts of its service alone.
type Hands struct {
	control *Control
	drill   fleet.DrillRun
	own     []netip.Prefix // the addresses of the service: a client looks at these alone
}

// agent finds the agent of a host of the service. A host that names another service is none of this drill's, whatever its file says.
func (h *Hands) agent(host string) (fleet.Member, error) {
	return h.control.agentOf(host, h.drill.Request.Service)
}

func (c *Control) agentOf(host, service string) (fleet.Member, error) {
	member, ok := c.members.named(host)
	if !ok || member.Role != fleet.RoleAgent {
		return member, &drill.Error{Op: "reach the host", Host: host, Kind: drill.Unreachable, Err: errors.New("no agent of this name has joined"),
			Hint: "on the host: firedrill agent join, with --tag " + fleet.TagService + "=" + service + " and --name if it is called otherwise in the service file"}
	}
	if member.Tags[fleet.TagService] != service {
		return member, &drill.Error{Op: "reach the host", Host: host, Kind: drill.Refused, Err: fmt.Errorf("it has joined as a host of service %q, and the service file is of %q", member.Tags[fleet.TagService], service),
			Hint: "let it join again with --tag " + fleet.TagService + "=" + service}
	}
	return member, nil
}

// Look asks a host what is in force there and, of a directory of releases, which runs; and measures how far its clock is off.
func (h *Hands) Look(ctx context.Context, host, directory string) (fleet.Looked, history.Clock, error) {
	member, err := h.agent(host)
	if err != nil {
		return fleet.Looked{}, history.Clock{Host: host}, err
	}
	return h.ask(ctx, member, fleet.Look{ID: uuid.NewString(), Directory: directory})
}

func (h *Hands) ask(ctx context.Context, member fleet.Member, look fleet.Look) (fleet.Looked, history.Clock, error) {
	host := member.Name
	clock := history.Clock{Host: host}
	words, done := h.control.await(1, look.ID)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	asked := time.Now()
	h.control.say(fleet.ToAgent(member.Key, fleet.WordLook), look)
	for {
		select {
		case <-ctx.Done():
			return fleet.Looked{}, clock, &drill.Error{Op: "look", Host: host, Kind: drill.Unreachable, Err: errors.New("its agent does not answer"), Hint: "see: firedrill fleet hosts"}
		case s := <-words:
			if s.host != member.Key {
				continue // a host that speaks of another's look
			}
			clock.Offset, clock.Error = offset(asked, s.looked.Heard, s.looked.At, s.at)
			if s.looked.Error != "" {
				return s.looked, clock, &drill.Error{Op: "look", Host: host, Kind: drill.Unsupported, Err: errors.New(s.looked.Error)}
			}
			return s.looked, clock, nil
		}
	}
}

// offset is the other clock minus ours, from when a question left and came there, and when its answer left there and came; and the bound of that:
// half of the time that both were on their way.
func offset(asked, heard, said, came time.Time) (off, bound drill.Seconds) {
	way := came.Sub(asked) - said.Sub(heard)
	return drill.Seconds((heard.Sub(asked) + said.Sub(came)) / 2), drill.Seconds(max(way, 0) / 2)
}

// Attack orders an attack of the drill on one of its hosts, and returns when it has ended there, or when nothing more can be learnt about that.
// When ctx ends the host is told to take it back, again and again. What the host says of it is told as it comes, by the host's clock.
func (h *Hands) Attack(ctx context.Context, host string, order drill.Order, guid string, told func(history.Event)) (fleet.End, error) {
	c := h.control
	op := "attack " + order.Attack
	member, err := h.agent(host)
	if err != nil {
		return fleet.End{}, err
	}
	if !slices.Contains(h.drill.Hosts, host) {
		return fleet.End{}, &drill.Error{Op: op, Host: host, Kind: drill.Internal, Err: errors.New("the drill was not admitted for this host")}
	}
	args := make([]string, 0, len(order.Canaries)+len(order.Args))
	for _, canary := range order.Canaries {
		args = append(args, "--canary="+canary)
	}
	args = append(args, order.Args...)
	now := time.Now()
	start := now.Add(c.options.Lead)
	room := order.Delay.Duration() + order.Length.Duration() + orderRoom
	if order.OneWay {
		room = order.Delay.Duration() + oneWayRoom
	}
	run := fleet.Run{ID: uuid.Must(uuid.NewV7()).String(), By: h.drill.By, Kind: order.Attack, Args: args, Services: []string{h.drill.Request.Service}, Issued: now, Start: start, Deadline: start.Add(room),
		State: fleet.RunStarting, Drill: h.drill.ID, Hosts: []fleet.RunHost{{Key: member.Key, Name: member.Name, Order: guid, State: fleet.HostOrdered, Code: -1}}}
	journal, quiet := c.overhear(guid)
	defer quiet()
	if lever := c.lever(); lever.Engaged {
		return fleet.End{}, leverEngaged(lever)
	}
	run.Term, _ = c.lead.holds()
	if err := c.runs.put(context.WithoutCancel(ctx), run); err != nil {
		return fleet.End{}, err
	}
	if err := c.lead.confirm(context.WithoutCancel(ctx)); err != nil {
		_, given := c.giveUp(context.WithoutCancel(ctx), run, err.Error())
		return fleet.End{}, errors.Join(err, given)
	}
	c.record("drill %s of %s orders %s %q on %s: run %s", h.drill.ID, h.drill.By, run.Kind, run.Args, host, run.ID)
	if run, err = c.begin(context.WithoutCancel(ctx), run, fleet.AttackRequest{Consent: h.drill.Request.Consent}); err != nil {
		return fleet.End{}, err
	}
	return h.follow(ctx, run, order, journal, told)
}

// follow tells what the host says of an attack until its end.
func (h *Hands) follow(ctx context.Context, run fleet.Run, order drill.Order, journal <-chan heardLines, told func(history.Event)) (fleet.End, error) {
	c, host := h.control, run.Hosts[0].Name
	look := time.NewTicker(attackLook)
	defer look.Stop()
	stopped, gone := ctx.Done(), make(<-chan time.Time)
	for {
		select {
		case part := <-journal:
			for _, line := range part.lines {
				var event history.Event
				if err := json.Unmarshal([]byte(line), &event); err != nil {
					event = history.New(time.Now(), host, &history.Note{Text: line})
				}
				event.Source = host
				told(event)
				if _, in := event.Fact.(*history.AttackInForce); in && order.OneWay {
					gone = time.After(order.Delay.Duration() + oneWayWait)
				}
			}
			if part.end != nil {
				return *part.end, nil
			}
		case <-stopped:
			stopped = nil
			why := cmp.Or(context.Cause(ctx), ctx.Err()).Error()
			if _, err := c.Stop(fleet.Member{Name: "drill " + h.drill.ID + ": " + why}, run.ID); err != nil {
				return fleet.End{}, err
			}
			gone = time.After(revertPatience)
		case <-gone:
			if order.OneWay {
				return fleet.End{Why: "the host went down", Code: -1}, nil // that is what was ordered; whether it did is for others to see
			}
			return fleet.End{}, &drill.Error{Op: "attack " + order.Attack, Host: host, Kind: drill.Unreachable, Err: errors.New("it was told to revert, and does not say that it did"),
				Hint: "without the server a host reverts within its leash; look there: firedrill status"}
		case <-look.C:
			if now, ok := c.runs.get(run.ID); ok && now.Hosts[0].State == fleet.HostLost {
				return fleet.End{}, &drill.Error{Op: "attack " + order.Attack, Host: host, Kind: drill.Unreachable, Err: errors.New(now.Hosts[0].Reason), Hint: "look there: firedrill status"}
			}
		}
	}
}

// heardLines are lines of a journal that were kept, and its end with the last of them.
type heardLines struct {
	lines []string
	end   *fleet.End
}

// overhearMax is how many parts of a journal may wait to be taken; one part is a second's worth or more.
const overhearMax = 4096

// overhear hands on what is kept of the journal of an order, from now on, until done is called.
func (c *Control) overhear(order string) (journal <-chan heardLines, done func()) {
	parts := make(chan heardLines, overhearMax)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.overheard[order] = parts
	return parts, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.overheard, order)
	}
}

// handOn gives what was kept to who overhears it.
func (c *Control) handOn(part fleet.Journal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if parts, ok := c.overheard[part.Order]; ok {
		select {
		case parts <- heardLines{lines: part.Lines, end: part.End}:
		default: // nobody takes them any more
		}
	}
}
