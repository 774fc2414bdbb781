//go:build !attackpart

package drill

import (
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Defaults of the service file; reasons stand where a number is not plain.
const (
	clientEveryDefault   = Seconds(100 * time.Millisecond) // the error bound of a measured recovery time
	clientTimeoutDefault = Seconds(time.Second)
	ttlDefault           = Seconds(5 * time.Second)
	ttlMax               = Seconds(time.Minute)      // a longer TTL makes every failover longer than a minute
	drainDefault         = Seconds(30 * time.Second) // as long as most proxies let a request live
	drainMax             = Seconds(10 * time.Minute)
	execTimeoutDefault   = Seconds(2 * time.Minute)
	healthyWithinDefault = Seconds(30 * time.Second)
	healthyTimesDefault  = 3
	keepReleasesDefault  = 5
	steadyForDefault     = Seconds(3 * time.Second)
	steadyWithinDefault  = Seconds(time.Minute)
	lengthDefault        = Seconds(time.Minute) // the catalogue's
	lengthMin            = Seconds(time.Second)
)

// ParseService reads a service file. file is its name in error messages. The error is an *Error of kind Invalid that names line,
// column and cure of each mistake.
func ParseService(text []byte, file string) (Service, error) {
	var service Service
	if err := Decode(text, file, &service); err != nil {
		return Service{}, err
	}
	service.fillDefaults()
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return Service{}, invalid(syntaxMistake(file, err))
	}
	c := checker{file: file, root: document.Content[0], service: &service}
	c.all()
	if err := invalid(c.mistakes...); err != nil {
		return Service{}, err
	}
	return service, nil
}

func orDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

func (s *Service) fillDefaults() {
	for i := range s.Clients {
		client := &s.Clients[i]
		orDefault(&client.Every, clientEveryDefault)
		orDefault(&client.Timeout, clientTimeoutDefault)
	}
	for i := range s.Probes {
		probe := &s.Probes[i]
		orDefault(&probe.Every, probeEveryDefault)
		orDefault(&probe.Timeout, probe.Every)
	}
	s.fillMetrics()
	s.fillAWS()
	s.fillLevel()
	for i := range s.Actions {
		action := &s.Actions[i]
		if len(action.Alarms) == 0 {
			action.Alarms = []string{"*"}
		}
		if len(action.States) == 0 {
			action.States = []string{"ALARM", "OK"}
		}
	}
	for i := range s.Mutes {
		if len(s.Mutes[i].Alarms) == 0 {
			s.Mutes[i].Alarms = []string{"*"}
		}
	}
	for i := range s.Failover {
		failover := &s.Failover[i]
		orDefault(&failover.Provider, "authority")
		orDefault(&failover.Failback, "manual")
		orDefault(&failover.OnAllUnhealthy, "primary")
		if failover.TTL == nil {
			ttl := ttlDefault
			failover.TTL = &ttl
		}
		if failover.Drain == nil {
			drain := drainDefault
			failover.Drain = &drain
		}
	}
	s.fillDatabases()
	for i := range s.Drills {
		d := &s.Drills[i]
		orDefault(&d.On, "idle environment")
		orDefault(&d.Until, "length")
		orDefault(&d.Steady, steadyForDefault)
		orDefault(&d.Within, steadyWithinDefault)
	}
	if d := s.Deploy; d != nil {
		orDefault(&d.Source.Revision, "HEAD")
		if len(d.Source.Files) == 0 {
			d.Source.Files = []string{"**/*"}
		}
		orDefault(&d.Timeout, execTimeoutDefault)
		if !d.InPlace() { // there the one backup is all
			orDefault(&d.KeepReleases, keepReleasesDefault)
		}
		orDefault(&d.Healthy.Port, 80)
		orDefault(&d.Healthy.Status, 200)
		orDefault(&d.Healthy.Within, healthyWithinDefault)
		orDefault(&d.Healthy.Times, healthyTimesDefault)
	}
}

// checker finds mistakes that only show when parts of the file are held against each other.
type checker struct {
	file     string
	root     *yaml.Node
	service  *Service
	mistakes []Mistake
}

func (c *checker) mistake(path, format string, args ...any) {
	line, column := locate(c.root, path)
	c.mistakes = append(c.mistakes, Mistake{File: c.file, Line: line, Column: column, Path: path, Problem: fmt.Sprintf(format, args...)})
}

// locate finds the place of a path such as "drills.lose-host.expect[1]"; of the nearest node above it when it is not in the file.
func locate(node *yaml.Node, path string) (line, column int) {
	line, column = max(node.Line, 1), max(node.Column, 1)
	for path != "" {
		next, rest := descend(node, path)
		if next == nil {
			return line, column
		}
		node, path = next, rest
		line, column = node.Line, node.Column
	}
	return line, column
}

// Place returns the line and the column of a path such as "drills.lose-host.expect[1]" in the text of a file; of the nearest thing above it
// when it is not there, and zeros when the text cannot be read.
func Place(text []byte, path string) (line, column int) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil || len(document.Content) == 0 {
		return 0, 0
	}
	return locate(document.Content[0], path)
}

func descend(node *yaml.Node, path string) (next *yaml.Node, rest string) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if number, ok := strings.CutPrefix(path, "["); ok && node.Kind == yaml.SequenceNode {
		number, rest, _ = strings.Cut(number, "]")
		index, err := strconv.Atoi(number)
		if err != nil || index >= len(node.Content) {
			return nil, ""
		}
		return node.Content[index], strings.TrimPrefix(rest, ".")
	}
	// Names may hold dots, as the keys of failover do: the longest key that fits wins.
	var best *yaml.Node
	bestKey := ""
	for i := 0; i+1 < len(node.Content) && node.Kind == yaml.MappingNode; i += 2 {
		key := node.Content[i].Value
		if after, ok := strings.CutPrefix(path, key); ok && len(key) > len(bestKey) && (after == "" || after[0] == '.' || after[0] == '[') {
			best, bestKey = node.Content[i+1], key
		}
	}
	if best == nil {
		return nil, ""
	}
	return best, strings.TrimPrefix(path[len(bestKey):], ".")
}

var namePattern = Pattern(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func (c *checker) all() {
	s := c.service
	if !namePattern().MatchString(s.Name) {
		c.mistake("service", "%q is not a name; use letters, digits, dots and hyphens, at most 63", s.Name)
	}
	if endpoint, err := url.Parse(s.Endpoint); err != nil || endpoint.Host == "" || (endpoint.Scheme != "http" && endpoint.Scheme != "https") {
		c.mistake("endpoint", "%q is not a URL; write one such as http://bookstore.example.com/version", s.Endpoint)
	}
	c.environments()
	if s.Tier != "" && !namePattern().MatchString(s.Tier) {
		c.mistake("tier", "%q is not a name; write production, staging, or the like", s.Tier)
	}
	for _, dependency := range s.Dependencies {
		c.hostPort("dependencies."+dependency.Name+".address", dependency.Address)
		c.criticalWhen(dependency)
	}
	for _, client := range s.Clients {
		if client.SSH != nil && len(client.Via) > 0 {
			c.mistake("clients."+client.Name, "ssh and via are two ways to one place; write one of them")
		}
		if len(client.Via) > 0 && client.Via[0] == "" {
			c.mistake("clients."+client.Name+".via", "names no program; write one such as [kubectl, exec, -i, deploy/probe, --, firedrill]")
		}
	}
	c.agentClients()
	c.probes()
	c.metrics()
	c.level()
	c.alarms()
	c.composites()
	c.actions()
	c.mutes()
	c.aws()
	c.failover()
	c.databases()
	for _, d := range s.Drills {
		c.drill(d)
	}
	for i, item := range s.Pipeline {
		if _, err := parseItem(item, s); err != nil {
			c.mistake(fmt.Sprintf("pipeline[%d]", i), "%v", err)
		}
	}
	c.schedule()
	if s.Watch != nil {
		if watch, err := url.Parse(s.Watch.URL); err != nil || watch.Host == "" {
			c.mistake("watch.url", "%q is not a URL; write one such as http://control:7070", s.Watch.URL)
		}
	}
	if d := s.Deploy; d != nil {
		if !strings.HasPrefix(d.Directory, "/") || strings.Contains(d.Directory, "..") || len(d.Directory) < 2 {
			c.mistake("deploy.directory", "%q is not an absolute directory below /", d.Directory)
		}
		if d.Healthy.HTTP == "" {
			c.mistake("deploy", "healthy.http is missing; a deployment without a health check proves nothing")
		}
		c.publishing(d)
	}
}

var batchPattern = Pattern(`^([1-9][0-9]{0,3}|[1-9][0-9]?%|100%)$`)

// publishing checks how files get to the hosts.
func (c *checker) publishing(d *Deploy) {
	if d.Batch != "" && !batchPattern().MatchString(d.Batch) {
		c.mistake("deploy.batch", "%q is neither a number of hosts nor a share; write one such as 2 or 25%%", d.Batch)
	}
	if d.Parallel < 0 || d.StopAtFailures < 0 {
		c.mistake("deploy", "parallel and stop_at_failures count hosts, from 1")
	}
	c.oneOf("deploy.become", d.Become, "", "sudo")
	c.oneOf("deploy.layout", d.Layout, "", "releases", "in-place")
	if d.Clean && !d.InPlace() {
		c.mistake("deploy.clean", "every release begins in an empty directory; clean is for layout: in-place")
	}
	if d.KeepReleases != 0 && d.InPlace() {
		c.mistake("deploy.keep_releases", "in place there is one backup, that of the last good deployment")
	}
	if prefix := d.Source.RemovePrefix; prefix != "" && !fs.ValidPath(strings.TrimSuffix(prefix, "/")) {
		c.mistake("deploy.source.remove_prefix", "%q is not a directory below the repository; write one such as build/public", prefix)
	}
	if d.Source.Flatten && d.Source.RemovePrefix != "" {
		c.mistake("deploy.source.flatten", "leaves no directories, so that remove_prefix has nothing to remove; keep one of them")
	}
	for i, name := range d.Secrets {
		if !variablePattern().MatchString(name) {
			c.mistake(fmt.Sprintf("deploy.secrets[%d]", i), "%q is not the name of an environment variable; never write the secret itself here", name)
		}
	}
	for i, name := range d.Shared {
		clean := strings.TrimSuffix(name, "/")
		if !fs.ValidPath(clean) || clean == "." || strings.ContainsAny(name, "\n\x00") {
			c.mistake(fmt.Sprintf("deploy.shared[%d]", i), "%q is not a path below a release; write one such as config/secrets.yml or uploads/", name)
		}
	}
}

var variablePattern = Pattern(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (c *checker) hostPort(path, text string) {
	host, port, err := net.SplitHostPort(text)
	if number, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || number == 0 || host == "" {
		c.mistake(path, "%q is not host:port; write one such as db.example.com:5432", text)
	}
}

func (c *checker) environments() {
	hosts, addresses := map[string]string{}, map[string]string{}
	for _, environment := range c.service.Environments {
		path := "environments." + environment.Name
		if len(environment.Hosts) == 0 {
			c.mistake(path+".hosts", "an environment needs at least one host")
		}
		for i, host := range environment.Hosts {
			place := fmt.Sprintf("%s.hosts[%d]", path, i)
			if !namePattern().MatchString(host.Name) {
				c.mistake(place+".name", "%q is not a host name", host.Name)
			}
			if other, twice := hosts[host.Name]; twice {
				c.mistake(place+".name", "%s is a host of %s already", host.Name, other)
			}
			if other, twice := addresses[host.Address.String()]; twice {
				c.mistake(place+".address", "%s is the address of %s already", host.Address, other)
			}
			hosts[host.Name], addresses[host.Address.String()] = environment.Name, host.Name
			if become := host.SSH.Become; become != "" && become != "sudo" {
				c.mistake(place+".ssh.become", "%q is not known; leave it out or write sudo", become)
			}
		}
	}
}

func (c *checker) failover() {
	environments := names(c.service.Environments, func(e Environment) string { return e.Name })
	alarms := names(c.service.Alarms, func(a Alarm) string { return a.Name })
	for _, failover := range c.service.Failover {
		path := "failover." + failover.Name
		for field, name := range map[string]string{"primary": failover.Primary, "secondary": failover.Secondary} {
			if !slices.Contains(environments, name) {
				c.mistake(path+"."+field, "no environment %q; %s", name, Suggest(name, environments))
			}
		}
		if failover.Primary == failover.Secondary {
			c.mistake(path+".secondary", "is the primary too; a failover needs two environments")
		}
		for i, alarm := range failover.UnhealthyWhen {
			if !slices.Contains(alarms, alarm) {
				c.mistake(fmt.Sprintf("%s.unhealthy_when[%d]", path, i), "no alarm %q; %s", alarm, Suggest(alarm, alarms))
			}
		}
		if len(failover.UnhealthyWhen) == 0 {
			c.mistake(path, "unhealthy_when is missing; without it the answer never moves")
		}
		c.provider(path, failover)
		c.oneOf(path+".failback", failover.Failback, "manual", "auto")
		c.oneOf(path+".on_all_unhealthy", failover.OnAllUnhealthy, "primary", "last_known")
		if *failover.TTL > ttlMax {
			c.mistake(path+".ttl", "%s is too long for a failover name; 60s is the most", *failover.TTL)
		}
		if *failover.Drain > drainMax {
			c.mistake(path+".drain", "%s is too long to wait at each promotion; 10m is the most", *failover.Drain)
		}
	}
}

func (c *checker) oneOf(path, value string, known ...string) {
	if !slices.Contains(known, value) {
		c.mistake(path, "%q is not known; %s", value, Suggest(value, known))
	}
}

// Bounds of a cadence: no drill is wanted more often than the schedule could begin it, and evidence holds for a year.
const (
	cadenceMin = Seconds(5 * time.Minute)
	cadenceMax = Seconds(366 * 24 * time.Hour)
)

func (c *checker) drill(d Drill) {
	path := "drills." + d.Name
	if !namePattern().MatchString(d.Name) {
		c.mistake(path, "%q is not a name; use letters, digits, dots and hyphens", d.Name)
	}
	if _, err := parsePlace(d.On, c.service); err != nil {
		c.mistake(path+".on", "%v", err)
	}
	c.oneOf(path+".until", d.Until, "length", "decided")
	if d.Hosts != "" && !batchPattern().MatchString(d.Hosts) {
		c.mistake(path+".hosts", "%q is neither a number of hosts nor a share; write one such as 2 or 50%%", d.Hosts)
	}
	if d.Seed != 0 && d.Hosts == "" {
		c.mistake(path+".seed", "chooses among hosts, and all are attacked; add hosts: 1 or hosts: 50%%")
	}
	if d.Cadence != 0 && (d.Cadence < cadenceMin || d.Cadence > cadenceMax) {
		c.mistake(path+".cadence", "%s is not between %s and %s; write how often the drill is wanted, as 28d", d.Cadence, cadenceMin, cadenceMax)
	}
	for i, text := range d.Expect {
		if _, err := parseExpectation(text); err != nil {
			c.mistake(fmt.Sprintf("%s.expect[%d]", path, i), "%v", err)
		}
	}
	for i, text := range d.StopWhen {
		if _, err := parseStop(text); err != nil {
			c.mistake(fmt.Sprintf("%s.stop_when[%d]", path, i), "%v", err)
		}
	}
	switch single, several := d.Attack.Kind != "", len(d.Attacks) > 0; {
	case single && several:
		c.mistake(path+".attacks", "stands beside attack; write all of them in attacks")
	case !single && !several:
		c.mistake(path, "attack is missing; write attack: {blackhole: {hostname: [db]}}, or several below attacks:")
	case d.Together && len(d.Attacks) < 2:
		c.mistake(path+".together", "is about several attacks; write them below attacks:")
	}
	if len(d.Expect) == 0 {
		c.mistake(path, "expect is missing; a drill that expects nothing proves nothing")
	}
}

func names[T any](items []T, name func(T) string) []string {
	all := make([]string, 0, len(items))
	for _, item := range items {
		all = append(all, name(item))
	}
	return all
}

// Dependency returns the dependency with this name, or nil.
func (s *Service) Dependency(name string) *Dependency {
	if i := slices.IndexFunc(s.Dependencies, func(d Dependency) bool { return d.Name == name }); i >= 0 {
		return &s.Dependencies[i]
	}
	return nil
}

// Metric returns the metric with this name, or nil.
func (s *Service) Metric(name string) *Metric {
	if i := slices.IndexFunc(s.Metrics, func(m Metric) bool { return m.Name == name }); i >= 0 {
		return &s.Metrics[i]
	}
	return nil
}

// Environment returns the environment with this name, or nil.
func (s *Service) Environment(name string) *Environment {
	if i := slices.IndexFunc(s.Environments, func(e Environment) bool { return e.Name == name }); i >= 0 {
		return &s.Environments[i]
	}
	return nil
}

// DecodeNode reads "2 of 3".
func (d *Datapoints) DecodeNode(node *yaml.Node) error {
	m, n, ok := strings.Cut(node.Value, " of ")
	first, errFirst := strconv.Atoi(strings.TrimSpace(m))
	second, errSecond := strconv.Atoi(strings.TrimSpace(n))
	if !ok || errFirst != nil || errSecond != nil {
		return fmt.Errorf("%q is not M of N; write one such as 2 of 3", node.Value)
	}
	d.M, d.N = first, second
	return nil
}

// DecodeNode reads {KIND: {option: value or list, ...}}. Kind and options are checked by Compile, which knows the catalogue.
func (a *AttackSpec) DecodeNode(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode || len(node.Content) != 2 {
		return fmt.Errorf("is %s; write one attack with its options, such as {blackhole: {hostname: [db], length: 60s}}", kindWord(node))
	}
	a.Kind = node.Content[0].Value
	a.line, a.column = node.Content[0].Line, node.Content[0].Column
	options := node.Content[1]
	if options.Kind == yaml.ScalarNode && options.Tag == "!!null" {
		return nil
	}
	if options.Kind != yaml.MappingNode {
		return Mistake{Line: options.Line, Column: options.Column, Path: a.Kind, Problem: kindWord(options) + " where a mapping of options belongs"}
	}
	for i := 0; i+1 < len(options.Content); i += 2 {
		key, value := options.Content[i], options.Content[i+1]
		option := Option{Name: key.Value, line: key.Line, column: key.Column}
		items := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			items = value.Content
		}
		for _, item := range items {
			if item.Kind != yaml.ScalarNode {
				return Mistake{Line: item.Line, Column: item.Column, Path: a.Kind + "." + key.Value, Problem: kindWord(item) + " where a single value belongs"}
			}
			option.Values = append(option.Values, item.Value)
		}
		a.Options = append(a.Options, option)
	}
	return nil
}

var criticalPattern = Pattern(`^alarm "([^"]+)" for (\S+)$`)

// criticalWhen checks from when on a dependency that is not critical counts as one.
func (c *checker) criticalWhen(dependency Dependency) {
	path := "dependencies." + dependency.Name + ".critical_when"
	groups := criticalPattern().FindStringSubmatch(dependency.CriticalWhen)
	alarms := names(c.service.Alarms, func(a Alarm) string { return a.Name })
	switch {
	case dependency.CriticalWhen == "":
	case dependency.Critical != "":
		c.mistake(path, "it is critical already, by critical: %s; keep one of them", dependency.Critical)
	case groups == nil:
		c.mistake(path, "%q is not understood; write alarm \"NAME\" for 10m", dependency.CriticalWhen)
	case !slices.Contains(alarms, groups[1]):
		c.mistake(path, "no alarm %q; %s", groups[1], Suggest(groups[1], alarms))
	default:
		if span, err := ParseSeconds(groups[2]); err != nil || span <= 0 {
			c.mistake(path, "%q is not a duration; write one such as 10m", groups[2])
		}
	}
}

// agentEveryMin is how often a client that is an agent samples at most: the host's own bound is as many a second.
const agentEveryMin = Seconds(10 * time.Millisecond)

// agentClients checks the clients that are agents of a fleet: they look, and do nothing else.
func (c *checker) agentClients() {
	for _, client := range c.service.Clients {
		path := "clients." + client.Name
		if client.Agent == "" {
			continue
		}
		name, value, tag := strings.Cut(client.Agent, "=")
		switch {
		case !namePattern().MatchString(name) || tag && !namePattern().MatchString(value):
			c.mistake(path+".agent", "%q is neither the name of an agent nor a tag, as location=frankfurt", client.Agent)
		case client.SSH != nil || len(client.Via) > 0:
			c.mistake(path, "agent is a way to a place as ssh and via are; write one of them")
		case client.Ledger != "":
			c.mistake(path+".ledger", "a client that is an agent writes nothing; give the ledger to another client")
		case client.Every < agentEveryMin:
			c.mistake(path+".every", "an agent samples every %s at most", agentEveryMin)
		}
	}
}
