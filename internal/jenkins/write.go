package jenkins

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// write prints the service file. Everything that comes out of the job is quoted, in comments too, so that it stays where it is put.
func (m *importer) write(job Job) string {
	var b strings.Builder
	b.WriteString("# Made of a Jenkins job that publishes over SSH. Lines with TODO hold what the job does not say: write it, then look at\n# firedrill plan.\n")
	if len(m.left) > 0 {
		b.WriteString("#\n# Not carried over:\n")
		for _, reason := range m.left {
			fmt.Fprintf(&b, "#   * %s\n", oneLine(reason))
		}
	}
	fmt.Fprintf(&b, "service: %s # TODO: the name of the service\n", repositoryName(job.Git))
	b.WriteString("endpoint: http://service.example.test/ # TODO: what its clients ask\nobjectives: {rto: 60s} # TODO: how long may clients go unserved?\n")
	m.writeHosts(&b)
	m.writeDependencies(&b)
	b.WriteString("\n# Where the service is measured, as its clients see it: from here, or over SSH from another place (ssh:).\nclients:\n  here: {every: 100ms, timeout: 1s}\n")
	m.writeDeploy(&b, job)
	m.writeWatch(&b)
	m.writeDrills(&b)
	return b.String()
}

// oneLine keeps text inside of its comment.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, text)
}

var hostName = drill.Pattern(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// writeHosts puts hosts into blue and green by their names, else in turn.
func (m *importer) writeHosts(b *strings.Builder) {
	byEnvironment, names := [len(environments)][]string{}, map[string]bool{}
	turn := 0
	for i, config := range m.hosts {
		name := config
		if !hostName().MatchString(name) || names[name] {
			name = fmt.Sprintf("host-%d", i+1)
		}
		names[name] = true
		place := slices.IndexFunc(environments[:], func(environment string) bool { return strings.Contains(strings.ToLower(config), environment) })
		if place < 0 {
			place = turn % len(environments)
			turn++
		}
		address := fmt.Sprintf("192.0.2.%d", i+1)
		byEnvironment[place] = append(byEnvironment[place], fmt.Sprintf("{name: %s, address: %s, ssh: {user: root}} # TODO: address and user of the server %q", quoted(name), address, config))
	}
	b.WriteString("\nenvironments:\n")
	for i, environment := range environments {
		fmt.Fprintf(b, "  %s:\n    hosts:\n", environment)
		if len(byEnvironment[i]) == 0 {
			fmt.Fprintf(b, "      - {name: %s-host, address: 192.0.2.%d, ssh: {user: root}} # TODO: the job has none\n", environment, 250+i)
		}
		for _, line := range byEnvironment[i] {
			fmt.Fprintf(b, "      - %s\n", line)
		}
	}
}

// quoted writes a value so that YAML reads the same text again.
func quoted(text string) string { return fmt.Sprintf("%q", text) }

func (m *importer) writeDependencies(b *strings.Builder) {
	if len(m.dependencies) == 0 {
		return
	}
	b.WriteString("\ndependencies:\n")
	for _, d := range m.dependencies {
		fmt.Fprintf(b, "  %s: {address: %s, critical: always} # TODO: the port\n", d.name, quoted(d.host+":443"))
	}
}

func (m *importer) writeDeploy(b *strings.Builder, job Job) {
	if m.deploy == nil {
		return
	}
	t := m.deploy
	git, todo := job.Git, ""
	if git == "" {
		git, todo = "/srv/repository", " # TODO: the job has no git repository"
	}
	fmt.Fprintf(b, "\ndeploy:\n  source:\n    git: %s%s\n", quoted(git), todo)
	if job.Branch != "" {
		fmt.Fprintf(b, "    revision: %s\n", quoted(job.Branch))
	}
	fmt.Fprintf(b, "    files: [%s]\n", strings.Join(patterns(*t, t.SourceFiles), ", "))
	if t.Excludes != "" {
		fmt.Fprintf(b, "    exclude: [%s]\n", strings.Join(patterns(*t, t.Excludes), ", "))
	}
	if t.RemovePrefix != "" {
		fmt.Fprintf(b, "    remove_prefix: %s\n", quoted(t.RemovePrefix))
	}
	if t.Flatten {
		b.WriteString("    flatten: true\n")
	}
	if t.NoDefaultExcludes {
		b.WriteString("    no_default_excludes: true\n")
	}
	fmt.Fprintf(b, "  # TODO: the server's Remote Directory in Jenkins goes in front. It holds releases/, shared/ and current, so the application must be\n  # started from current/ there.\n  directory: %s\n", quoted(directory(t.RemoteDirectory)))
	if t.ExecCommand != "" {
		fmt.Fprintf(b, "  restart: %s\n", quoted(t.ExecCommand))
	}
	if t.UsePty {
		b.WriteString("  restart_pty: true\n")
	}
	if t.ExecTimeout > 0 {
		fmt.Fprintf(b, "  timeout: %s\n", time.Duration(t.ExecTimeout)*time.Millisecond)
	}
	b.WriteString("  healthy: {http: /, status: 200, within: 30s} # TODO: what tells that a host is well?\n")
}

// patterns splits a list of patterns as the plugin does, and quotes each.
func patterns(t Transfer, list string) []string {
	separator := t.PatternSeparator
	if separator == "" {
		separator = separatorDefault
	}
	split := []string{list}
	if expression, err := regexp.Compile(separator); err == nil {
		split = expression.Split(list, -1)
	}
	var all []string
	for _, pattern := range split {
		if pattern != "" {
			all = append(all, quoted(pattern))
		}
	}
	return all
}

// directory is the remote directory below a root that the job does not know.
func directory(remote string) string {
	const root = "/srv"
	below := path.Clean("/" + strings.ReplaceAll(remote, "..", ""))
	if below == "/" {
		below = "/app"
	}
	return root + below
}

func (m *importer) writeWatch(b *strings.Builder) {
	b.WriteString("\nwatch: {url: \"http://control.example.test:7070\"} # TODO: where firedrill watch runs\n\nmetrics:\n")
	alarms := []string{"{host}-StatusCheckFailed"}
	for _, d := range m.dependencies {
		fmt.Fprintf(b, "  %s-connectivity: {from: each host, connect: %s, every: 1s, timeout: 500ms}\n", d.name, d.name)
	}
	b.WriteString("  status-check: {from: each host, heartbeat: true, every: 1s}\n\nalarms:\n")
	for _, d := range m.dependencies {
		name := "{host}-" + d.name + "-connectivity-failed"
		alarms = append(alarms, name)
		fmt.Fprintf(b, "  %s: {metric: %s-connectivity, average: \"< 1\", period: 5s, datapoints: 2 of 2}\n", quoted(name), d.name)
	}
	b.WriteString("  \"{host}-StatusCheckFailed\": {metric: status-check, maximum: \">= 1\", missing: breaching, period: 1s, datapoints: 3 of 3}\n")
	var names []string
	for _, alarm := range alarms {
		names = append(names, quoted(alarm))
	}
	fmt.Fprintf(b, "\nfailover:\n  service.example.test: # TODO: the name that moves\n    servers: [\"ns.example.test\"] # TODO: its name servers\n    primary: blue\n    secondary: green\n    unhealthy_when: [%s]\n", strings.Join(names, ", "))
}

func (m *importer) writeDrills(b *strings.Builder) {
	var pipeline []string
	if m.deploy != nil {
		pipeline = append(pipeline, "deploy idle")
	}
	if len(m.drills) > 0 {
		b.WriteString("\n# The job never looked at what came of its attacks. These drills do; tighten what they expect.\ndrills:\n")
	}
	for _, d := range m.drills {
		fmt.Fprintf(b, "  # attack %q\n  %s:\n    on: %s\n    attack: {%s: {%s}}\n    expect:\n", d.source, d.name, place(d), d.kind, attackOptions(d.options))
		for _, expectation := range m.expectations(d) {
			fmt.Fprintf(b, "      - %s\n", expectation)
		}
		if d.kind != "shutdown" {
			pipeline = append(pipeline, "drill "+d.name+" on idle")
		}
	}
	if m.deploy != nil {
		pipeline = append(pipeline, "promote")
	}
	for _, d := range m.drills {
		pipeline = append(pipeline, "drill "+d.name+" on active")
	}
	if m.deploy != nil {
		pipeline = append(pipeline, "deploy other")
	}
	if len(pipeline) > 0 {
		b.WriteString("\npipeline:\n")
	}
	for _, item := range pipeline {
		fmt.Fprintf(b, "  - %s\n", item)
	}
}

func place(d attackDrill) string {
	if d.kind == "shutdown" {
		return "active environment"
	}
	return "idle environment"
}

func attackOptions(options []drill.Option) string {
	var parts []string
	for _, option := range options {
		var values []string
		for _, value := range option.Values {
			values = append(values, quoted(value))
		}
		text := strings.Join(values, ", ")
		if len(values) > 1 {
			text = "[" + text + "]"
		}
		parts = append(parts, option.Name+": "+text)
	}
	return strings.Join(parts, ", ")
}

// expectations are what such an attack should bring about, as far as the job tells.
func (m *importer) expectations(d attackDrill) []string {
	var all []string
	switch d.kind {
	case "shutdown":
		all = append(all, `alarm "{host}-StatusCheckFailed" within 30s`, "answer moves to the other environment within 60s", "clients recover within 60s")
	case "blackhole":
		for _, known := range m.dependencies {
			hit := slices.ContainsFunc(d.options, func(o drill.Option) bool { return o.Name == "hostname" && slices.Contains(o.Values, known.name) })
			if hit {
				all = append(all, fmt.Sprintf("alarm \"{host}-%s-connectivity-failed\" within 30s", known.name))
			}
		}
		all = append(all, "answer moves to the other environment within 60s", "clients recover within 60s")
	default:
		all = append(all, "availability at least 99%")
	}
	return append(all, "steady state within 120s of the revert")
}
