//go:build !attackpart

package drill

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Facts are what Compile must know of the world: it looks at nothing itself.
type Facts struct {
	Live      string            // environment that is answered now; must be one of the failover pair
	Kinds     []AttackKind      // the catalogue of attacks of this build
	File      string            // name of the service file, for error messages
	Back      bool              // the steps go back to what was good before: a freeze does not stand in their way
	Seed      int64             // chooses the hosts of drills that attack a part of them; of drills with a seed of their own, that one does
	Primaries map[string]string // database to the host that is its primary now; needed only for drills that attack one
	First     bool              // deploying to the answered environment is meant: it has no release yet, which the guard checks
}

// Compile makes the items concrete, as "deploy idle" or "drill lose-host on active": it follows which environment is answered from
// step to step, so that the plan names hosts. It is a pure function. An error is of kind Invalid and names the item or the place.
func Compile(service Service, facts Facts, items []string) (Plan, error) {
	c := compiler{service: &service, facts: facts, live: facts.Live, deployed: map[string]bool{}}
	if len(service.Failover) == 0 {
		return Plan{}, c.invalid("failover is missing; without a name that can move there is nothing to rehearse")
	}
	c.pair = [2]string{service.Failover[0].Primary, service.Failover[0].Secondary}
	if !slices.Contains(c.pair[:], facts.Live) {
		return Plan{}, c.invalid("%q is answered now, which is neither %s nor %s", facts.Live, c.pair[0], c.pair[1])
	}
	if len(items) == 0 {
		return Plan{}, c.invalid("nothing to do; the file has no pipeline, and no drill was named")
	}
	plan := Plan{
		Service: service.Name, Tier: service.Tier, Endpoint: service.Endpoint, Objectives: service.Objectives, Environments: service.Environments,
		Dependencies: service.Dependencies, Clients: service.Clients, Alarms: ExpandAlarms(service), Failover: service.Failover, Databases: service.Databases, Probes: service.Probes,
		Deploy: service.Deploy, Freeze: service.Freeze, Live: facts.Live,
	}
	for _, text := range items {
		step, err := c.step(text)
		if err != nil {
			return Plan{}, err
		}
		plan.Steps = append(plan.Steps, step)
	}
	return plan, nil
}

type compiler struct {
	service  *Service
	facts    Facts
	pair     [2]string
	live     string
	deployed map[string]bool
}

func (c *compiler) invalid(format string, args ...any) error {
	return &Error{Op: c.facts.File, Kind: Invalid, Err: fmt.Errorf(format, args...)}
}

func (c *compiler) other(environment string) string {
	if environment == c.pair[0] {
		return c.pair[1]
	}
	return c.pair[0]
}

func (c *compiler) step(text string) (Step, error) {
	parsed, err := parseItem(text, c.service)
	if err != nil {
		return Step{}, c.invalid("step %q: %w", text, err)
	}
	environment := parsed.place
	attacked, onDatabase := strings.CutPrefix(parsed.place, placePrimary)
	if onDatabase {
		if parsed.kind != StepDrill {
			return Step{}, c.invalid("step %q: only a drill is on the primary of a database", text)
		}
		environment = c.live // its clients are those who notice
	} else {
		attacked = ""
	}
	switch parsed.place {
	case placeIdle:
		environment = c.other(c.live)
	case placeActive:
		environment = c.live
	case placeOther:
		if environment, err = c.notDeployed(); err != nil {
			return Step{}, c.invalid("step %q: %w", text, err)
		}
	}
	if !slices.Contains(c.pair[:], environment) {
		return Step{}, c.invalid("step %q: %s is not one of the failover pair %s and %s", text, environment, c.pair[0], c.pair[1])
	}
	step := Step{Kind: parsed.kind, Environment: environment, Live: c.live, LiveAfter: c.live, Back: c.facts.Back}
	switch parsed.kind {
	case StepDeploy:
		if environment == c.live && !c.facts.First {
			return Step{}, c.invalid("step %q: %s is answered then; deploy to the idle environment and promote it, or say --first when it has no release yet", text, environment)
		}
		step.Name = "deploy to " + environment
		c.deployed[environment] = true
	case StepPromote:
		if environment == c.live {
			return Step{}, c.invalid("step %q: %s is answered already", text, environment)
		}
		step.Name, step.LiveAfter = "promote "+environment, environment
	case StepRollback:
		if environment != c.live {
			return Step{}, c.invalid("step %q: %s is not answered then; promote moves the answer, and deploy publishes another release", text, environment)
		}
		step.Name = "roll back the release on " + environment
	case StepDrill:
		if err := c.drill(&step, parsed.drill, attacked); err != nil {
			return Step{}, err
		}
	}
	c.live = step.LiveAfter
	return step, nil
}

func (c *compiler) notDeployed() (string, error) {
	for _, environment := range []string{c.other(c.live), c.live} {
		if !c.deployed[environment] {
			return environment, nil
		}
	}
	return "", fmt.Errorf("both environments are deployed to already")
}

func (c *compiler) drill(step *Step, name, attacked string) error {
	i := slices.IndexFunc(c.service.Drills, func(d Drill) bool { return d.Name == name })
	written := c.service.Drills[i]
	environment := c.service.Environment(step.Environment)
	orders, err := c.orders(written)
	if err != nil {
		return err
	}
	on, choices := step.Environment, environment.Hosts
	if attacked != "" {
		primary, err := c.primaryOf(attacked)
		if err != nil {
			return c.invalid("drill %s: %w", name, err)
		}
		on, choices = placePrimary+attacked, []Host{primary}
		for i := range orders {
			orders[i].Canaries = append(orders[i].Canaries, databaseCanaries(orders[i], c.service.Database(attacked), primary)...)
		}
	}
	hosts, seed, err := c.chosen(written, choices)
	if err != nil {
		return c.invalid("drill %s: %w", name, err)
	}
	step.Name = fmt.Sprintf("drill %s on %s", name, on)
	if seed != 0 {
		step.Name += fmt.Sprintf(" (%d of %d hosts, seed %d)", len(hosts), len(environment.Hosts), seed)
	}
	var more []Order
	if len(orders) > 1 {
		more = orders[1:]
	}
	step.Drill = &PlannedDrill{
		Name: name, Hosts: hosts, Database: attacked, Seed: seed, Attack: orders[0], More: more, Together: written.Together, UntilDecided: written.Until == "decided",
		SteadyFor: written.Steady, SteadyWithin: written.Within,
	}
	for _, text := range written.Expect {
		expectation, err := parseExpectation(text)
		if err != nil {
			return c.invalid("drill %s: %w", name, err)
		}
		step.Drill.Expectations = append(step.Drill.Expectations, c.concrete(expectation, step)...)
	}
	if err := c.needs(step); err != nil {
		return c.invalid("drill %s: %w", name, err)
	}
	if step.Drill.StopWhen, err = c.stops(written, step); err != nil {
		return c.invalid("drill %s: %w", name, err)
	}
	for _, expectation := range step.Drill.Expectations {
		if expectation.Kind == ExpectMoves && c.service.Failover[0].Failback == "manual" {
			step.LiveAfter = expectation.Environment
		}
	}
	return nil
}

// attacksMax bounds the attacks of one drill: more of them is several drills.
const attacksMax = 16

// orders are the attacks of a drill. One that takes the host down stands alone: nothing else could be in force there, or be taken back.
func (c *compiler) orders(written Drill) ([]Order, error) {
	specs := written.Attacks
	if len(specs) == 0 {
		specs = []AttackSpec{written.Attack}
	}
	if len(specs) > attacksMax {
		return nil, c.invalid("drill %s: %d attacks; at most %d belong to one drill", written.Name, len(specs), attacksMax)
	}
	orders := make([]Order, 0, len(specs))
	for _, spec := range specs {
		order, err := c.order(spec)
		if err != nil {
			return nil, err
		}
		if order.OneWay && len(specs) > 1 {
			return nil, c.misplaced(spec.line, spec.column, "%s takes the host down, so nothing else can be in force there; give it a drill of its own", order.Attack)
		}
		orders = append(orders, order)
	}
	return orders, nil
}

// chosen picks the hosts that a drill attacks, in the order of the file. The same seed picks the same hosts of the same environment.
func (c *compiler) chosen(written Drill, hosts []Host) ([]Host, int64, error) {
	if written.Hosts == "" {
		return hosts, 0, nil
	}
	count, err := strconv.Atoi(strings.TrimSuffix(written.Hosts, "%")) // checked by ParseService
	if err != nil {
		return nil, 0, err
	}
	if strings.HasSuffix(written.Hosts, "%") {
		count = (len(hosts)*count + 99) / 100 // at least one
	}
	if count >= len(hosts) {
		return hosts, 0, nil
	}
	seed := written.Seed
	if seed == 0 {
		seed = c.facts.Seed
	}
	if seed == 0 {
		return nil, 0, fmt.Errorf("hosts: %s needs a seed; add seed: 1, or give --seed", written.Hosts)
	}
	picked := rand.New(rand.NewPCG(uint64(seed), 0)).Perm(len(hosts))[:count]
	slices.Sort(picked)
	var chosen []Host
	for _, i := range picked {
		chosen = append(chosen, hosts[i])
	}
	return chosen, seed, nil
}

// primaryOf is the host that is the primary of a database as the plan is made.
func (c *compiler) primaryOf(name string) (Host, error) {
	d := c.service.Database(name) // named by parsePlace, so it is there
	for _, host := range d.Hosts {
		if host.Name == c.facts.Primaries[name] {
			return host, nil
		}
	}
	return Host{}, fmt.Errorf("which host is the primary of %s is not known; see: firedrill database status", name)
}

// databaseCanaries are what must not be reachable from a primary that is cut off from everything: the other servers of the database. One that is
// cut off from something named has that as its canary.
func databaseCanaries(order Order, d *Database, primary Host) []string {
	port := d.port()
	everything := !slices.ContainsFunc(order.Args, func(arg string) bool { return !strings.HasPrefix(arg, "--length=") })
	if order.Attack != "blackhole" || !everything || port == 0 {
		return nil
	}
	var canaries []string
	for _, host := range d.Hosts {
		if host.Name != primary.Name {
			canaries = append(canaries, netip.AddrPortFrom(host.Address, port).String())
		}
	}
	return canaries
}

// needs refuses expectations for which nothing measures.
func (c *compiler) needs(step *Step) error {
	for _, expectation := range step.Drill.Expectations {
		switch expectation.Kind {
		case ExpectRecover, ExpectNoFailure, ExpectAvailable, ExpectLatency:
			if len(c.service.Clients) == 0 {
				return fmt.Errorf("%q needs a client that measures; add clients:", expectation.Text)
			}
			if kind := expectation.Clients; kind != "" && !slices.ContainsFunc(c.service.Clients, func(client Client) bool { return client.Connections() == kind }) {
				return fmt.Errorf("%q needs a client of this kind; add one with keep_alive: %v", expectation.Text, kind == ClientsKept)
			}
		case ExpectProbeFails, ExpectProbeBack, ExpectProbeGood:
			if err := c.probed(expectation.Probe, expectation.Text); err != nil {
				return err
			}
		case ExpectDatabase, ExpectFenced:
			if step.Drill.Database != expectation.Database {
				return fmt.Errorf("%q needs a drill on its primary; write on: %s%s", expectation.Text, placePrimary, expectation.Database)
			}
		case ExpectNoLoss, ExpectNoDouble, ExpectNoStale, ExpectInDoubt:
			if !slices.ContainsFunc(c.service.Clients, func(client Client) bool { return client.Ledger != "" }) {
				return fmt.Errorf("%q needs a client with a ledger; add ledger: PATH to a client", expectation.Text)
			}
		case ExpectSameRelease:
			if c.service.Deploy == nil {
				return fmt.Errorf("%q needs to know what a release is; add deploy:", expectation.Text)
			}
		case ExpectMovesBack:
			if c.service.Failover[0].Failback != "auto" {
				return fmt.Errorf("%q needs failback: auto; with failback: manual, put promote after the drill in the pipeline", expectation.Text)
			}
		case ExpectAlarm, ExpectAlarmOK:
			alarms := ExpandAlarms(*c.service)
			if !slices.ContainsFunc(alarms, func(a Alarm) bool { return a.Name == expectation.Alarm }) {
				return fmt.Errorf("no alarm %q; %s", expectation.Alarm, Suggest(expectation.Alarm, names(alarms, func(a Alarm) string { return a.Name })))
			}
		}
	}
	return nil
}

// concrete fills in hosts and environments. On an environment that is not answered nothing can move and no client can notice: there
// "moves" and "recover" turn into their opposites, so that one drill can be run on the idle environment first and then on the active.
func (c *compiler) concrete(e Expectation, step *Step) []Expectation {
	idle := step.Environment != step.Live
	switch e.Kind {
	case ExpectAlarm, ExpectAlarmOK:
		if !strings.Contains(e.Alarm, hostPlaceholder) {
			return []Expectation{e}
		}
		var all []Expectation
		hosts := step.Drill.Hosts
		if step.Drill.Database != "" {
			hosts = c.service.Environment(step.Environment).Hosts // whom the loss of the database is noticed on
		}
		for _, host := range hosts {
			one := e
			one.Alarm = strings.ReplaceAll(e.Alarm, hostPlaceholder, host.Name)
			one.Text = strings.ReplaceAll(e.Text, hostPlaceholder, host.Name)
			all = append(all, one)
		}
		return all
	case ExpectLine, ExpectNoLine:
		var all []Expectation
		for _, host := range step.Drill.Hosts {
			one := e
			one.Host, one.Text = host.Name, e.Text+" on "+host.Name
			all = append(all, one)
		}
		return all
	case ExpectMoves:
		if idle {
			return []Expectation{{Kind: ExpectStays, Text: "answer stays on " + step.Live, Environment: step.Live}}
		}
		e.Environment = c.other(step.Environment)
		e.Text = fmt.Sprintf("answer moves to %s within %s", e.Environment, e.Within.Duration())
	case ExpectMovesBack:
		if idle {
			return nil // nothing moved
		}
		e.Environment = step.Live
	case ExpectStays:
		e.Environment = step.Live
		e.Text = "answer stays on " + step.Live
	case ExpectRecover:
		if idle {
			return []Expectation{{Kind: ExpectNoFailure, Text: strings.TrimSpace(e.Clients + " clients see no failure"), Clients: e.Clients}}
		}
	}
	return []Expectation{e}
}

// order turns the attack of the file into arguments, checked against the catalogue.
func (c *compiler) order(spec AttackSpec) (Order, error) {
	i := slices.IndexFunc(c.facts.Kinds, func(kind AttackKind) bool { return kind.Name == spec.Kind })
	if i < 0 {
		known := names(c.facts.Kinds, func(kind AttackKind) string { return kind.Name })
		return Order{}, c.misplaced(spec.line, spec.column, "no attack %q; %s", spec.Kind, Suggest(spec.Kind, known))
	}
	kind := c.facts.Kinds[i]
	order := Order{Attack: kind.Name, OneWay: kind.OneWay}
	if !kind.OneWay {
		order.Length = Seconds(lengthDefault)
	}
	if flag, ok := findFlag(kind.Flags, "delay"); ok && flag.Default != "" {
		order.Delay, _ = parseMinutes(flag.Default) // our own words
	}
	spare := false
	for _, option := range spec.Options {
		flag, ok := findFlag(kind.Flags, option.Name)
		if !ok {
			known := names(kind.Flags, func(f AttackFlag) string { return f.Name })
			return Order{}, c.misplaced(option.line, option.column, "%s has no option %q; %s", kind.Name, option.Name, Suggest(option.Name, known))
		}
		values := option.Values
		switch {
		case flag.Name == "length":
			length, err := ParseSeconds(strings.Join(values, ""))
			if err != nil || length < Seconds(lengthMin) {
				return Order{}, c.misplaced(option.line, option.column, "length: %q is not a duration of at least 1s", strings.Join(values, ""))
			}
			order.Length = length
			continue
		case flag.Type == "minutes":
			delay, err := parseMinutes(strings.Join(values, ""))
			if err != nil {
				return Order{}, c.misplaced(option.line, option.column, "%s: %v", option.Name, err)
			}
			order.Delay = delay
		case flag.Name == "hostname":
			values, order.Canaries = c.dependencies(values, order.Canaries)
			spare = true
		default:
			if err := flag.admit(strings.Join(values, ",")); err != nil {
				return Order{}, c.misplaced(option.line, option.column, "%s: %v", option.Name, err)
			}
		}
		order.Args = append(order.Args, fmt.Sprintf("--%s=%s", flag.Name, strings.Join(values, ",")))
	}
	if kind.Name == "shutdown" && !slices.Contains(order.Args, "--reboot=true") {
		return Order{}, c.misplaced(spec.line, spec.column, "shutdown without reboot: true leaves the host off, and no drill could find a steady state again")
	}
	if !kind.OneWay {
		order.Args = append(order.Args, fmt.Sprintf("--length=%d", int64((order.Length+Seconds(lengthMin)-1)/Seconds(lengthMin))))
	}
	if spare && c.service.Watch != nil {
		order.Args = c.spareWatch(order.Args)
	}
	return order, nil
}

// admit returns an error for what the attack would refuse on the host: better now, with the place in the file, than after a deployment.
func (f AttackFlag) admit(text string) error {
	if len(f.OneOf) > 0 && !slices.ContainsFunc(f.OneOf, func(word string) bool { return strings.EqualFold(word, text) }) {
		return fmt.Errorf("%q is none of %s", text, strings.Join(f.OneOf, ", "))
	}
	if f.Range == nil {
		return nil
	}
	number, err := strconv.ParseFloat(text, 64)
	switch {
	case f.Type == "seconds" && err != nil:
		var seconds Seconds
		if seconds, err = ParseSeconds(text); err != nil {
			return nil //nolint:nilerr // some take other ways of writing a time too; the attack knows them
		}
		number = seconds.Duration().Seconds()
	case f.Type == "rate":
		return nil // a number with a unit, which only the attack reads
	case err != nil:
		return fmt.Errorf("%q is not a number", text)
	}
	if f.Range.Has(number) {
		return nil
	}
	return fmt.Errorf("%s is outside: it goes %s", text, f.Range.In(f.Unit))
}

// parseMinutes reads a plain number as minutes, as the catalogue of attacks counts them, and anything else as a duration.
func parseMinutes(text string) (Seconds, error) {
	if minutes, err := strconv.ParseUint(text, 10, 16); err == nil {
		return Seconds(time.Duration(minutes) * time.Minute), nil
	}
	return ParseSeconds(text)
}

// dependencies replaces the names of dependencies by their hosts, and makes each one a canary.
func (c *compiler) dependencies(values, canaries []string) (hosts, allCanaries []string) {
	for _, value := range values {
		if dependency := c.service.Dependency(value); dependency != nil {
			host, _, _ := net.SplitHostPort(dependency.Address) // checked by ParseService
			hosts, canaries = append(hosts, host), append(canaries, dependency.Address)
			continue
		}
		hosts = append(hosts, value)
	}
	return hosts, canaries
}

// spareWatch puts the watch first in the list of hostnames as one never to be hit: it must see what happens.
func (c *compiler) spareWatch(args []string) []string {
	watch, err := url.Parse(c.service.Watch.URL)
	if err != nil {
		return args
	}
	spare := "^" + watch.Hostname()
	for i, arg := range args {
		if list, ok := strings.CutPrefix(arg, "--hostname="); ok && !slices.Contains(strings.Split(list, ","), spare) {
			args[i] = "--hostname=" + spare + "," + list
		}
	}
	return args
}

// findFlag accepts the long name, its plural, and hyphens for underscores.
func findFlag(flags []AttackFlag, name string) (AttackFlag, bool) {
	for _, candidate := range []string{name, strings.TrimSuffix(name, "s"), strings.ReplaceAll(name, "-", "_"), strings.TrimSuffix(name, "es")} {
		for _, flag := range flags {
			if flag.Name == candidate {
				return flag, true
			}
		}
	}
	return AttackFlag{}, false
}

func (c *compiler) misplaced(line, column int, format string, args ...any) error {
	return invalid(Mistake{File: c.facts.File, Line: max(line, 1), Column: max(column, 1), Problem: fmt.Sprintf(format, args...)})
}
