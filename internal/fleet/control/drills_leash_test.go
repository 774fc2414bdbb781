package control

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

const shop = `service: shop
endpoint: http://shop.test/
environments:
  blue:  {hosts: [{name: web1, address: 10.0.0.1}]}
  green: {hosts: [{name: web2, address: 10.0.0.2}]}
watch: {url: "http://127.0.0.1:1"}
metrics:
  beat: {from: each host, heartbeat: true}
alarms:
  "{host}-beat": {metric: beat, average: "< 1", period: 1s, datapoints: 1 of 1}
failover:
  shop.test: {servers: [127.0.0.1], primary: blue, secondary: green, unhealthy_when: ["{host}-beat"]}
drills:
  cut:
    on: idle environment
    attack: {cpu: {length: 1s}}
    expect: [answer stays]
`

// counting is a conductor that only counts.
type counting struct {
	mu    sync.Mutex // guards the fields below
	jobs  []Job
	unfit string
}

func (*counting) Plan(_ context.Context, service drill.Service, _ fleet.DrillRequest) (drill.Plan, error) {
	step := drill.Step{Kind: drill.StepDrill, Name: "drill cut on green", Environment: "green", Live: "blue", LiveAfter: "blue", Drill: &drill.PlannedDrill{Name: "cut", Hosts: service.Environments[1].Hosts, Attack: drill.Order{Attack: "cpu"}}}
	return drill.Plan{Service: service.Name, Steps: []drill.Step{step}}, nil
}

func (c *counting) Conduct(_ context.Context, job Job) (End, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.jobs = append(c.jobs, job)
	return End{Record: fleet.Record{Outcome: string(history.Passed)}}, nil
}

func (c *counting) Unfit(context.Context, drill.Service) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unfit
}

func (c *counting) is(unfit string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unfit = unfit
}

func (c *counting) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.jobs)
}

// stageOf is a control plane with two hosts that answer the roll, and a service file of them.
func stageOf(t *testing.T, bolting bool) (*Control, *counting) {
	t.Helper()
	conductor := &counting{}
	person := func(name string) (fleet.Member, bool) {
		return fleet.Member{Name: name, Role: fleet.RoleOperator}, name == "otto" || name == "olga"
	}
	c := openWith(t, filepath.Join(t.TempDir(), "fleet"), func(o *Options) {
		o.Person, o.Conductor, o.Bolting, o.RollCall = person, conductor, bolting, 5*time.Second
	})
	var hosts []fleet.Member
	for i, name := range []string{"web1", "web2"} {
		host := fleet.Member{Key: "U" + strings.Repeat(string(rune('A'+i)), 55), Name: name, Role: fleet.RoleAgent, Tags: map[string]string{"service": "shop"}}
		if err := c.members.add(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, host)
	}
	here := func() {
		for _, host := range hosts {
			c.saw(host, fleet.Presence{At: time.Now(), Facts: &fleet.Facts{Kinds: []string{"cpu"}, Tags: host.Tags}})
		}
	}
	if _, err := c.conn.Subscribe(fleet.SubjectRollCall, func(*nats.Msg) { here() }); err != nil {
		t.Fatal(err)
	}
	here()
	if _, err := c.Call(t.Context(), fleet.Member{Name: "otto", Role: fleet.RoleOperator}, "putservice", encode(fleet.PutService{Text: shop})); err != nil {
		t.Fatal(err)
	}
	return c, conductor
}

func TestALeashedDrillIsOnlyPlannedUntilANamedPersonLetsItGo(t *testing.T) {
	t.Parallel()
	for _, bolting := range []bool{false, true} {
		c, conductor := stageOf(t, bolting)
		ctx := context.Background()
		otto, olga := fleet.Member{Name: "otto", Role: fleet.RoleOperator}, fleet.Member{Name: "olga", Role: fleet.RoleOperator}
		must := func(by fleet.Member, call string, asked any) {
			t.Helper()
			if _, err := c.Call(ctx, by, call, encode(asked)); err != nil {
				t.Fatalf("%s: %v", call, err)
			}
		}
		refused := func(by fleet.Member, call string, asked any, kind drill.ErrorKind) {
			t.Helper()
			if _, err := c.Call(ctx, by, call, encode(asked)); err == nil || drill.KindOf(err) != kind {
				t.Errorf("%s by %s: %v", call, by.Name, err)
			}
		}
		entry := fleet.ScheduleRequest{Name: "weekly", Cron: "* * * * *", Drill: &fleet.DrillRequest{Service: "shop", Drill: "cut"}}
		refused(fleet.Member{Name: "bella", Role: fleet.RoleOperator, Services: []string{"bank"}}, "schedule", entry, drill.Refused)
		refused(otto, "schedule", fleet.ScheduleRequest{Name: "weekly", Cron: "* * * * *", Drill: &fleet.DrillRequest{Service: "shop", Drill: "nothing"}}, drill.Invalid)
		must(otto, "schedule", entry)
		at := time.Now()
		due := func() fleet.ScheduledView {
			at = at.Add(time.Minute)
			c.carryOutDue(ctx, at)
			c.due.Wait()
			return c.Scheduled(at)[0]
		}
		one := due()
		if caught := conductor.count() > 0; caught != bolting {
			t.Fatalf("leashed: %d drills; %+v", conductor.count(), one)
		}
		if bolting {
			shut(t, c)
			continue
		}
		if one.Last != "" || !strings.Contains(one.Why, "leashed: it would attack web2 with cpu") {
			t.Errorf("leashed: %+v", one)
		}
		refused(fleet.Member{Name: "vera", Role: fleet.RoleViewer}, "unleash", "weekly", drill.Refused)
		refused(fleet.Member{Name: "bella", Role: fleet.RoleOperator, Services: []string{"bank"}}, "unleash", "weekly", drill.Refused)
		must(olga, "unleash", "weekly")
		if one = due(); conductor.count() != 1 || one.Last == "" || one.Why != "" || one.By.Name != "olga" {
			t.Errorf("unleashed: %d drills; %+v", conductor.count(), one)
		}
		if run, err := c.FindDrill(one.Last); err != nil || run.By != "olga" || run.Trigger != history.TriggerSchedule || run.Outcome != "passed" {
			t.Errorf("%+v, %v", run, err)
		}
		c.carryOutDue(ctx, at) // the same moment again
		c.due.Wait()
		must(otto, "freeze", fleet.Freeze{Dates: at.UTC().AddDate(0, 0, -1).Format(time.DateOnly) + ".." + at.UTC().AddDate(0, 0, 1).Format(time.DateOnly), Reason: "a sale"})
		if one = due(); conductor.count() != 1 || !strings.Contains(one.Waiting, "frozen by") {
			t.Errorf("frozen: %d drills; %+v", conductor.count(), one)
		}
		must(otto, "unfreeze", c.Freezes()[0].Dates)
		before := c.scheduled()[0]                                                  // as a moment that has just come due saw it
		must(fleet.Member{Name: "vera", Role: fleet.RoleViewer}, "leash", "weekly") // stopping is everybody's
		if _, why, err := c.carryOutScheduled(ctx, olga, before, occasion{id: "01a22518-8e1f-787c-a586-de28ef33f06b", trigger: history.TriggerSchedule}); err != nil || conductor.count() != 1 || !strings.Contains(why, "leashed") {
			t.Errorf("leashed while it came due: %d drills, %q, %v", conductor.count(), why, err)
		}
		if due(); conductor.count() != 1 {
			t.Errorf("leashed again: %d drills", conductor.count())
		}
		must(otto, "unleash", "weekly")
		must(otto, "runscheduled", "weekly")
		c.due.Wait()
		if conductor.count() != 2 {
			t.Errorf("run now: %d drills", conductor.count())
		}
		for text, count := range map[string]int{"olga unleashes weekly": 1, "vera leashes weekly": 1, "otto freezes the schedule": 1, "otto lifts the freeze": 1, "refused unleash to vera": 1, "refused unleash to bella": 1, "otto runs weekly of the schedule now": 1} {
			if found := audited(t, c, text); found != count {
				t.Errorf("the audit log has %q %d times", text, found)
			}
		}
		shut(t, c)
	}
}

// A program puts a drill on the schedule with a token: it is planned when it is due, in the token's name, until the token is put out; nothing but a
// person lets it go, and an attack is not put there by a program.
func TestATokenPutsALeashedDrillOnTheSchedule(t *testing.T) {
	t.Parallel()
	for _, bolting := range []bool{false, true} {
		c, conductor := stageOf(t, bolting)
		ctx := context.Background()
		admin, olga := fleet.Member{Name: "ada", Role: fleet.RoleAdmin}, fleet.Member{Name: "olga", Role: fleet.RoleOperator}
		holder := func(name string, scopes ...string) Holder {
			t.Helper()
			secret, err := c.Call(ctx, admin, "apitoken", encode(fleet.APITokenRequest{Name: name, Scopes: scopes}))
			if err != nil {
				t.Fatal(err)
			}
			found, known := c.TokenHolder(secret.(string))
			if !known {
				t.Fatalf("token %s is not known", name)
			}
			return found
		}
		ci, reader := holder("ci", "schedule"), holder("reader", "scheduled")
		if !ci.May("schedule") || ci.May("unleash") || reader.May("schedule") {
			t.Error("a token may what it does not hold")
		}
		entry := fleet.ScheduleRequest{Name: "weekly", Cron: "* * * * *", Drill: &fleet.DrillRequest{Service: "shop", Drill: "cut"}}
		if _, err := c.Call(ctx, ci.Member, "schedule", encode(entry)); err != nil {
			t.Fatal(err)
		}
		bare := fleet.ScheduleRequest{Name: "attack", Cron: "* * * * *", Request: fleet.AttackRequest{Selector: fleet.Selector{All: true}, Kind: "cpu", Args: []string{}}}
		if _, err := c.Call(ctx, ci.Member, "schedule", encode(bare)); drill.KindOf(err) != drill.Refused {
			t.Errorf("an attack by a token: %v", err)
		}
		if _, err := c.Call(ctx, ci.Member, "unleash", encode("weekly")); drill.KindOf(err) != drill.Refused { // it has no such scope; and if it had
			t.Errorf("a token lets a drill go: %v", err)
		}
		at := time.Now()
		due := func() fleet.ScheduledView {
			at = at.Add(time.Minute)
			c.carryOutDue(ctx, at)
			c.due.Wait()
			return c.Scheduled(at)[0]
		}
		one := due()
		if caught := conductor.count() > 0; caught != bolting { // the planted bug: a leash that holds nothing
			t.Fatalf("leashed: %d drills; %+v", conductor.count(), one)
		}
		if bolting {
			shut(t, c)
			continue
		}
		if one.By.Name != "token ci" || one.By.Key != "" || !strings.Contains(one.Why, "leashed: it would attack web2 with cpu") {
			t.Errorf("planned: %+v", one)
		}
		if _, err := c.Call(ctx, admin, "revoke", encode("ci")); err != nil {
			t.Fatal(err)
		}
		if one = due(); !strings.Contains(one.Why, "token ci, who put it there, is not known any more") {
			t.Errorf("after the token was put out: %+v", one)
		}
		holder("ci", "scheduled") // another one of that name, which may not
		if one = due(); !strings.Contains(one.Why, "is not known any more") {
			t.Errorf("with a token of the same name: %+v", one)
		}
		if _, err := c.Call(ctx, olga, "unleash", encode("weekly")); err != nil {
			t.Fatal(err)
		}
		if one = due(); conductor.count() != 1 || one.By.Name != "olga" {
			t.Errorf("let go by a person: %d drills, %+v", conductor.count(), one)
		}
		for text, count := range map[string]int{"token ci puts weekly on the schedule": 1, "refused schedule to token ci": 1, "refused unleash to token ci": 1} {
			if found := audited(t, c, text); found != count {
				t.Errorf("the audit log has %q %d times", text, found)
			}
		}
		shut(t, c)
	}
}

func TestADrillThatWasBrokenOffIsEndedAtTheNextStart(t *testing.T) {
	t.Parallel()
	c, _ := stageOf(t, false)
	run := fleet.DrillRun{ID: "01a22518-8e1f-787c-a586-de28ef33f06b", Request: fleet.DrillRequest{Service: "shop", Drill: "cut"}, State: fleet.DrillRunning, Hosts: []string{"web2"}, Server: c.options.Name}
	if err := c.drills.put(t.Context(), run.ID, run); err != nil {
		t.Fatal(err)
	}
	directory := c.options.Directory
	shut(t, c)
	c = open(t, directory, nil)
	defer shut(t, c)
	if going := c.GoingDrills(); len(going) != 1 || going[0].State != fleet.DrillBroken {
		t.Fatalf("%+v", going)
	}
	c.followDrills(t.Context())
	if now, err := c.FindDrill(run.ID); err != nil || !now.Done() || now.Outcome != "inconclusive" || len(c.GoingDrills()) > 0 {
		t.Errorf("%+v, %v", now, err)
	}
}

// An attack of the schedule is leashed as a drill is, and does not begin by itself where the service that it would hit is not fit.
func TestAnAttackOfTheScheduleIsLeashedAndSkipped(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(*Options){"whole": nil, "bolting": func(o *Options) { o.Bolting = true }, "careless": func(o *Options) { o.Careless = true }} {
		c, conductor := stageOf(t, false)
		if broken != nil {
			broken(&c.options)
		}
		ctx := context.Background()
		otto := fleet.Member{Name: "otto", Role: fleet.RoleOperator}
		call := func(call string, asked any) {
			t.Helper()
			if _, err := c.Call(ctx, otto, call, encode(asked)); err != nil {
				t.Fatal(err)
			}
		}
		put(t, c, shop)
		call("schedule", fleet.ScheduleRequest{Name: "weekly", Cron: "* * * * *", Request: fleet.AttackRequest{Kind: "cpu", Args: []string{"-l", "1"}, Selector: fleet.Selector{Tags: map[string]string{"service": "shop"}, Count: 1}}})
		at := time.Now()
		due := func(why string, orders int) {
			t.Helper()
			at = at.Add(time.Minute)
			c.carryOutDue(ctx, at)
			c.due.Wait()
			if one := c.Scheduled(at)[0]; !strings.Contains(one.Why, why) || audited(t, c, "otto orders cpu") != orders {
				t.Errorf("%s: %d orders, not %d; %+v", name, audited(t, c, "otto orders cpu"), orders, one)
			}
		}
		switch name {
		case "bolting": // the planted bug: a leash that holds nothing
			due("", 1)
		case "careless":
			conductor.is("alarm web1-beat is raised")
			call("unleash", "weekly")
			due("", 1)
		default:
			due("leashed: it would attack web", 0)
			conductor.is("alarm web1-beat is raised")
			due("leashed: it would be skipped: shop: alarm web1-beat is raised", 0)
			vera := fleet.Member{Name: "karl", Role: fleet.RoleOperator, Kinds: []string{"io"}}
			if _, err := c.Call(ctx, vera, "unleash", encode("weekly")); drill.KindOf(err) != drill.Refused {
				t.Errorf("unleashed by who may not attack so: %v", err)
			}
			call("unleash", "weekly")
			due("skipped: shop: alarm web1-beat is raised", 0)
			conductor.is("")
			due("", 1)
		}
		shut(t, c)
	}
}
