package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

const (
	callMax       = 2 * time.Minute
	runsShown     = 200
	tokenValid    = time.Hour
	tokenValidMax = 7 * 24 * time.Hour
	tokenUsesMax  = 10_000
	journalShown  = 32 << 20 // in one answer
)

// heardCall answers people. Each call has a goroutine of its own: one that orders takes seconds, and must not hold up one that halts.
func (c *Control) heardCall(message *nats.Msg) {
	go func() {
		member, ok := c.speaker(message)
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), callMax)
		defer cancel()
		result, err := c.Call(ctx, member, token(message.Subject, 3), message.Data)
		reply := fleet.Reply{Result: encode(result)}
		if err != nil {
			reply.Error = &fleet.Problem{Kind: kindOf(err), Text: err.Error(), Hint: drill.HintOf(err)}
		}
		c.answer(message, member.Key, reply)
	}()
}

func kindOf(err error) drill.ErrorKind {
	var known *drill.Error
	if errors.As(err, &known) {
		return known.Kind
	}
	return drill.Internal
}

// Call carries out what a person asks for, if the person's role may.
func (c *Control) Call(ctx context.Context, by fleet.Member, call string, text []byte) (any, error) {
	if !fleet.MayCall(by.Role, call) {
		c.record("refused %s to %s, who is %s", call, by.Name, by.Role)
		return nil, &drill.Error{Op: call, Kind: drill.Refused, Err: fmt.Errorf("%s is %s, and that needs %s", by.Name, by.Role, cmp.Or(fleet.Calls[call], "a call that exists")), Hint: "ask an admin: firedrill fleet members"}
	}
	if atKeeper[call] {
		if keeper, away := c.keeper(text); away {
			return c.handOver(ctx, keeper, by, call, text)
		}
	} else if !here[call] && !c.lead.leads() {
		return c.forward(ctx, by, call, text)
	}
	result, err := c.carryOut(ctx, by, call, text)
	if err != nil && kindOf(err) == drill.Refused {
		c.record("refused %s to %s: %v", call, by.Name, err)
	}
	return result, err
}

func (c *Control) carryOut(ctx context.Context, by fleet.Member, call string, text []byte) (any, error) {
	switch call {
	case "hosts":
		return c.views(time.Now()), nil
	case "runs":
		return c.runs.newest("", runsShown, nil), nil
	case "run":
		return with(text, func(id string) (any, error) { return c.findSoon(ctx, id) })
	case "journal":
		return with(text, func(asked [2]string) (any, error) { return c.showJournal(ctx, asked[0], asked[1]) })
	case "members":
		return c.members.list(func(fleet.Member) bool { return true }), nil
	case "lever":
		return c.lever(), nil
	case "servers":
		return c.Servers(), nil
	case "halt":
		return with(text, func(r fleet.HaltRequest) (any, error) { return c.Halt(ctx, by, r) })
	case "stop":
		return with(text, func(id string) (any, error) { return c.Stop(by, id) })
	case "release":
		return c.Release(ctx, by)
	case "attack":
		return with(text, func(r fleet.AttackRequest) (any, error) { return c.Attack(ctx, by, r) })
	case "services":
		return c.Services(), nil
	case "service":
		return with(text, func(r fleet.ServiceRequest) (any, error) { return c.Service(r.Name, r.Version) })
	case "putservice":
		return with(text, func(r fleet.PutService) (any, error) { return c.putService(ctx, by, r) })
	case "drills":
		return with(text, func(r fleet.DrillsRequest) (any, error) { return c.drillsOf(r), nil })
	case "drill":
		return with(text, func(r fleet.DrillRequest) (any, error) { return c.Drill(ctx, by, r) })
	case "drillrun":
		return with(text, func(id string) (any, error) { return c.FindDrill(id) })
	case "drilllog":
		return with(text, func(r fleet.LogRequest) (any, error) { return c.pacedLog(ctx, by, r) })
	case "drillfiles":
		return with(text, func(id string) (any, error) { return c.DrillFiles(id) })
	case "drillfile":
		return with(text, func(r fleet.FileRequest) (any, error) { return c.drillFile(ctx, by, r) })
	case "stopdrill":
		return with(text, func(id string) (any, error) { return c.StopDrill(ctx, by, id) })
	case "scheduled":
		return c.Scheduled(time.Now()), nil
	case "leash", "unleash":
		return with(text, func(name string) (any, error) { return c.leash(ctx, by, name, call == "leash") })
	case "runscheduled":
		return with(text, func(name string) (any, error) { return c.runScheduled(ctx, by, name) })
	case "freezes":
		return c.Freezes(), nil
	case "freeze":
		return with(text, func(f fleet.Freeze) (any, error) { return c.freeze(ctx, by, f) })
	case "unfreeze":
		return with(text, func(dates string) (any, error) { return c.unfreeze(ctx, by, dates) })
	case "schedule":
		return with(text, func(r fleet.ScheduleRequest) (any, error) { return c.putScheduled(ctx, by, r) })
	case "unschedule":
		return with(text, func(id string) (any, error) { return c.endScheduled(ctx, by, id) })
	case "audit":
		return with(text, func(r fleet.AuditRequest) (any, error) { return c.Audit(ctx, r) })
	case "auditproof":
		return c.VerifyAudits(ctx)
	case "cadences":
		return c.Cadences(time.Now()), nil
	case "prune":
		return with(text, func(r fleet.PruneRequest) (any, error) { return c.prune(ctx, time.Now(), r.DryRun) })
	case "token":
		return with(text, func(r fleet.TokenRequest) (any, error) { return c.token(ctx, by, r) })
	case "apitoken":
		return with(text, func(r fleet.APITokenRequest) (any, error) { return c.apiToken(ctx, by, r) })
	case "keys":
		return c.keysView(), nil
	case "rotate":
		return with(text, func(r fleet.RotateRequest) (any, error) { return c.rotate(ctx, by, r) })
	case "rekey":
		return with(text, func(r fleet.Rekey) (any, error) { return c.rekey(ctx, by, r) })
	case "add":
		return with(text, func(m fleet.Member) (any, error) { return c.add(ctx, by, m) })
	case "revoke":
		return with(text, func(name string) (any, error) { return c.revoke(ctx, by, name) })
	}
	return nil, fmt.Errorf("fleet: call %s has no hand", call)
}

// findSoon is find for who may have been told of the run by another server a moment ago.
func (c *Control) findSoon(ctx context.Context, id string) (fleet.Run, error) {
	for began := time.Now(); ; {
		run, err := c.runs.find(id)
		if err == nil || c.lead.alone || time.Since(began) > soon || ctx.Err() != nil {
			return run, err
		}
		<-time.After(overtakenAgain)
	}
}

// soon is how long what another server wrote may be on its way here.
const soon = time.Second

// with reads what a call is given. Unknown fields may bound what is asked for, so they refuse it.
func with[T any](text []byte, do func(T) (any, error)) (any, error) {
	var asked T
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		return nil, &drill.Error{Op: "call", Kind: drill.Invalid, Err: err, Hint: "is the program as new as the server?"}
	}
	return do(asked)
}

func (c *Control) showJournal(ctx context.Context, id, name string) (string, error) {
	run, err := c.findSoon(ctx, id)
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(run.Hosts, func(h fleet.RunHost) bool { return h.Name == name })
	if at < 0 {
		return "", &drill.Error{Op: "journal", Kind: drill.Invalid, Err: fmt.Errorf("host %q is no part of run %s", name, run.ID), Hint: "see: firedrill fleet run " + run.ID}
	}
	text, err := c.JournalText(ctx, run.Hosts[at])
	if len(text) > journalShown {
		return "", &drill.Error{Op: "journal", Kind: drill.Unsupported, Err: fmt.Errorf("%d bytes are more than one answer holds", len(text)), Hint: "it is whole on the host: /var/lib/firedrill-agent/journal/" + run.Hosts[at].Order + ".jsonl"}
	}
	return string(text), err
}

// token makes leave to join.
func (c *Control) token(ctx context.Context, by fleet.Member, r fleet.TokenRequest) (string, error) {
	valid := cmp.Or(r.Valid.Duration(), tokenValid)
	uses := cmp.Or(r.Uses, 1)
	if uses < 1 || uses > tokenUsesMax || valid < time.Second || valid > tokenValidMax {
		return "", &drill.Error{Op: "token", Kind: drill.Invalid, Err: fmt.Errorf("%d uses for %s", uses, valid), Hint: fmt.Sprintf("at most %d uses and %s", tokenUsesMax, tokenValidMax)}
	}
	secret := make([]byte, 24)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	made := fleet.Token{Secret: base64.RawURLEncoding.EncodeToString(secret), Pin: c.keys.ownPin()}
	if err := c.tokens.put(ctx, made.ID(), leave{ID: made.ID(), Uses: uses, Expires: time.Now().Add(valid), By: by.Name}); err != nil {
		return "", err
	}
	c.record("%s makes token %s: %d uses within %s", by.Name, made.ID(), uses, valid)
	return made.String(), nil
}

// add lets a person in, or a program of theirs.
func (c *Control) add(ctx context.Context, by, m fleet.Member) (fleet.Member, error) {
	if _, err := nkeys.FromPublicKey(m.Key); err != nil || !nkeys.IsValidPublicUserKey(m.Key) {
		return m, &drill.Error{Op: "add", Kind: drill.Invalid, Err: errors.New("that is no key")}
	}
	if err := fleet.CheckName("a person", m.Name); err != nil {
		return m, &drill.Error{Op: "add", Kind: drill.Invalid, Err: err}
	}
	if !slices.Contains([]string{fleet.RoleViewer, fleet.RoleOperator, fleet.RoleAdmin}, m.Role) {
		return m, &drill.Error{Op: "add", Kind: drill.Invalid, Err: fmt.Errorf("%q is no role", m.Role), Hint: "write viewer, operator or admin"}
	}
	member := fleet.Member{Key: m.Key, Name: m.Name, Role: m.Role, Services: m.Services, Kinds: m.Kinds, Since: time.Now(), By: by.Name}
	if err := c.members.add(ctx, member); err != nil {
		return m, err
	}
	c.record("%s lets in %s %s", by.Name, m.Role, m.Name)
	return member, nil
}

// revoke puts a member out at once: it is cut off, and its key is good for nothing any more. What an agent has in force ends by its leash.
func (c *Control) revoke(ctx context.Context, by fleet.Member, name string) (fleet.Member, error) {
	member, ok := c.members.named(name)
	if found, err := c.revokeToken(ctx, by, name); found && !ok {
		return fleet.Member{Name: name, Role: "API token"}, err
	}
	if !ok {
		return member, &drill.Error{Op: "revoke", Kind: drill.Invalid, Err: fmt.Errorf("nobody here is called %q", name), Hint: "see: firedrill fleet members"}
	}
	if member.Key == by.Key {
		return member, &drill.Error{Op: "revoke", Kind: drill.Refused, Err: errors.New("that would put yourself out"), Hint: "let another admin do it"}
	}
	now := time.Now()
	member.Revoked = &now
	if err := c.members.put(ctx, member.Key, member); err != nil {
		return member, err
	}
	c.record("%s puts out %s %s", by.Name, member.Role, member.Name)
	return member, c.cutOff(member.Key)
}

// cutOff ends all connections of a member.
func (c *Control) cutOff(key string) error {
	engine := c.engine.Load()
	if engine == nil {
		return nil
	}
	open, err := engine.Connz(&server.ConnzOptions{Username: true, User: key, Limit: connectionsMax})
	if err != nil {
		return err
	}
	for _, connection := range open.Conns {
		err = errors.Join(err, engine.DisconnectClientByID(connection.Cid))
	}
	return err
}
