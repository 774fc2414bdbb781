package chaostoolkit

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"firedrill/internal/drill"
)

// write prints the service file. Everything that comes out of the experiment is quoted, in comments too, so that it stays where it is put.
func (m *importer) write(title string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made of an experiment of the Chaos Toolkit: %s\n", oneLine(strconv.Quote(title)))
	if text := m.root.str("description"); text != "" {
		fmt.Fprintf(&b, "# %s\n", oneLine(strconv.Quote(text)))
	}
	b.WriteString("#\n# Lines with TODO hold what the experiment does not say: write it, then look at firedrill plan.\n")
	m.writeNotes(&b, Lost, "Lost")
	m.writeNotes(&b, Changed, "Changed")
	fmt.Fprintf(&b, "service: %s # TODO: the name of the service\n", quoted(slug(title, "imported")))
	if m.endpoint != "" {
		fmt.Fprintf(&b, "endpoint: %s # of the hypothesis\n", quoted(m.endpoint))
	} else {
		b.WriteString("endpoint: http://service.example.test/ # TODO: what its clients ask\n")
	}
	b.WriteString(`objectives: {rto: 60s} # TODO: how long may clients go unserved?

environments:
  blue:
    hosts:
      - {name: blue-1, address: 192.0.2.1, ssh: {user: root}} # TODO: an experiment knows no hosts
  green:
    hosts:
      - {name: green-1, address: 192.0.2.2, ssh: {user: root}} # TODO
`)
	m.writeDependencies(&b)
	b.WriteString("\n# Where the service is measured, as its clients see it: from here, or over SSH from another place (ssh:).\nclients:\n  here: {every: 100ms, timeout: 1s}\n")
	m.writeProbes(&b)
	b.WriteString(`
watch: {url: "http://control.example.test:7070"} # TODO: where firedrill watch runs

metrics:
  status-check: {from: each host, heartbeat: true, every: 1s}

alarms:
  "{host}-StatusCheckFailed": {metric: status-check, maximum: ">= 1", missing: breaching, period: 1s, datapoints: 3 of 3}

failover:
  service.example.test: # TODO: the name that moves
    servers: ["ns.example.test"] # TODO: its name servers
    primary: blue
    secondary: green
    unhealthy_when: ["{host}-StatusCheckFailed"]
`)
	m.writeDrills(&b, slug(title, "experiment"))
	return b.String()
}

func (m *importer) writeNotes(b *strings.Builder, became, heading string) {
	if !slices.ContainsFunc(m.notes, func(n Note) bool { return n.Became == became }) {
		return
	}
	fmt.Fprintf(b, "#\n# %s:\n", heading)
	for _, note := range m.notes {
		if note.Became == became {
			fmt.Fprintf(b, "#   * %s\n", note.String())
		}
	}
}

// String is the note as a line: place, part, what it is now, and why.
func (n Note) String() string {
	text := fmt.Sprintf("line %d: %s", n.Line, n.What)
	if n.As != "" {
		text += " -> " + n.As
	}
	if n.Reason != "" {
		text += ": " + n.Reason
	}
	return oneLine(text)
}

// oneLine keeps text inside of its comment.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == utf8.RuneError || r >= 0xfffe && r <= 0xffff || r >= 0xd800 && r < 0xe000 {
			return ' '
		}
		return r
	}, text)
}

// quoted writes a value so that YAML reads the same text again.
func quoted(text string) string { return strconv.Quote(text) }

func quotedList(all []string) string {
	var parts []string
	for _, text := range all {
		parts = append(parts, quoted(text))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func (m *importer) writeDependencies(b *strings.Builder) {
	if len(m.dependencies) == 0 {
		return
	}
	b.WriteString("\ndependencies:\n")
	for _, d := range m.dependencies {
		port, todo := d.port, ""
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
			port, todo = "443", " # TODO: the port"
		}
		fmt.Fprintf(b, "  %s: {address: %s, critical: always}%s\n", quoted(d.name), quoted(d.host+":"+port), todo)
	}
}

func (m *importer) writeProbes(b *strings.Builder) {
	if len(m.probes) == 0 {
		return
	}
	b.WriteString("\n# All of them must be good before anything is attacked, and again afterwards. They run from where firedrill runs; host: runs one elsewhere.\nprobes:\n")
	for _, p := range m.probes {
		fmt.Fprintf(b, "  # %s\n  %s: {every: %s, timeout: %s, command: %s}\n", oneLine(strconv.Quote(p.source)), quoted(p.name), p.every, p.timeout, quotedList(p.command))
	}
}

// writeDrills writes a drill with all attacks, and one for each that takes hosts down, which no other can share.
func (m *importer) writeDrills(b *strings.Builder, name string) {
	var shared []attack
	var alone []attack
	for _, made := range m.attacks {
		if made.oneWay {
			alone = append(alone, made)
		} else {
			shared = append(shared, made)
		}
	}
	if hypothesis := m.root.get("steady-state-hypothesis").str("title"); hypothesis != "" {
		fmt.Fprintf(b, "\n# Hypothesis: %s\n", oneLine(strconv.Quote(hypothesis)))
	} else {
		b.WriteString("\n")
	}
	if len(m.attacks) == 0 {
		b.WriteString("# No action of the experiment has a counterpart. Choose an attack (firedrill attack list), and take the # away:\n#\n#drills:\n")
		var text strings.Builder
		m.writeDrill(&text, name, []attack{{kind: "blackhole", options: []drill.Option{{Name: "hostname", Values: []string{"TODO"}}}}})
		for line := range strings.Lines(text.String()) {
			b.WriteString("#" + line)
		}
		return
	}
	b.WriteString("drills:\n")
	if len(shared) > 0 {
		m.writeDrill(b, name, shared)
	}
	for i, made := range alone {
		own := name + "-host"
		if i > 0 {
			own = fmt.Sprintf("%s-%d", own, i+1)
		}
		m.writeDrill(b, own, []attack{made})
	}
	b.WriteString("\npipeline:\n")
	if len(shared) > 0 {
		fmt.Fprintf(b, "  - drill %s on idle\n  - drill %s on active\n", name, name)
	}
	for i := range alone {
		own := name + "-host"
		if i > 0 {
			own = fmt.Sprintf("%s-%d", own, i+1)
		}
		fmt.Fprintf(b, "  - drill %s on active\n", own)
	}
}

func (m *importer) writeDrill(b *strings.Builder, name string, attacks []attack) {
	fmt.Fprintf(b, "  %s:\n    on: idle environment\n", quoted(name))
	if len(attacks) == 1 {
		fmt.Fprintf(b, "    attack: {%s: {%s}}%s\n", attacks[0].kind, options(attacks[0].options), from(attacks[0]))
	} else {
		b.WriteString("    attacks:\n")
		together := false
		for i, made := range attacks {
			fmt.Fprintf(b, "      - %s: {%s}%s\n", made.kind, options(made.options), from(made))
			together = together || i < len(attacks)-1 && (made.background || made.lasting)
		}
		if together {
			b.WriteString("    together: true\n")
		}
	}
	b.WriteString("    stop_when:\n      - clients fail for 30s # TODO: nothing stopped an activity of the experiment\n    expect:\n      - clients recover within 60s\n")
	for _, p := range m.probes {
		if p.hypothesis && (m.strategy == "continuously" || m.strategy == "during-method-only") {
			fmt.Fprintf(b, "      - %s\n", quoted(fmt.Sprintf("probe %q stays good", p.name)))
			continue
		}
		fmt.Fprintf(b, "      - %s\n", quoted(fmt.Sprintf("probe %q recovers within 60s", p.name)))
	}
	fmt.Fprintf(b, "      - steady state within %s of the revert\n", 2*time.Minute)
}

func from(made attack) string {
	if made.source == "" {
		return ""
	}
	return " # " + oneLine(strconv.Quote(made.source))
}

func options(all []drill.Option) string {
	slices.SortStableFunc(all, func(a, b drill.Option) int { return cmp.Compare(a.Name, b.Name) })
	var parts []string
	for _, option := range all {
		text := quotedList(option.Values)
		if len(option.Values) == 1 {
			text = quoted(option.Values[0])
		}
		parts = append(parts, option.Name+": "+text)
	}
	return strings.Join(parts, ", ")
}
