package report

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// rowsMax bounds the rows of a section: more do not fit on a page, and the tables have them all.
const rowsMax = 24

// stepRows is one row with a band for each step.
func (t *timeline) stepRows() []row {
	const height = 32.0
	return []row{{height: height, paint: func(y float64) {
		for i, step := range t.in.Verdict.Steps {
			if step.Ran {
				t.stepBand(i, step, y, height)
			}
		}
	}}}
}

func (t *timeline) stepBand(i int, step verdict.StepVerdict, y, height float64) {
	from, to := t.x(step.Started), t.x(step.Finished)
	width := max(to-from-1.5, 2)
	t.open("step "+outcomeClass(step.Outcome)+" kind-"+step.Kind, fmt.Sprintf("%d %s: %s. %s", i+1, step.Name, stepWord(step), headline(t.in.Plan, step)))
	t.box("body", from, y, width, height, 5)
	t.box("edge", from, y+height-3.5, width, 3.5, 1.5)
	number := fmt.Sprintf("%d", i+1)
	if room := width - 10; room > textWidth(number, t.font) {
		if text := fitting(room, t.font, stepNames(i, step)...); text != "" {
			t.text("name", "middle", from+width/2, y+height/2+2.5, text)
		}
	} else if width > 7 {
		t.text("name", "middle", from+width/2, y+height/2+2.5, number)
	}
	t.close()
}

// stepNames are ways to name a step, from the longest to its number.
func stepNames(i int, step verdict.StepVerdict) []string {
	name := step.Name
	bare := strings.TrimPrefix(name, "drill ")
	first, _, _ := strings.Cut(bare, " on ")
	return []string{
		fmt.Sprintf("%d  %s %s", i+1, sign(step.Outcome), bare), fmt.Sprintf("%d %s %s", i+1, sign(step.Outcome), first),
		fmt.Sprintf("%d %s", i+1, first), fmt.Sprintf("%d %s", i+1, step.Kind), fmt.Sprintf("%d %s", i+1, sign(step.Outcome)), fmt.Sprintf("%d", i+1),
	}
}

func outcomeClass(outcome history.Outcome) string {
	switch outcome {
	case history.Passed:
		return "passed"
	case history.Failed:
		return "failed"
	}
	return "open"
}

// attackRows is a row for each host that was attacked, and another for attacks that were in force there at the same time.
func (t *timeline) attackRows() []row {
	type lane struct {
		host   string
		sheets []verdict.HostImpact
		ends   []time.Time
	}
	var lanes []lane
	for _, step := range t.in.Verdict.Steps {
		if step.Impact == nil {
			continue
		}
		for _, sheet := range step.Impact.Hosts {
			if sheet.InForce.IsZero() {
				continue
			}
			end := sheet.Reverted
			if sheet.OneWay {
				end = sheet.UpAt
			}
			if end.IsZero() {
				end = step.Finished
			}
			// The first row of the host on which nothing else was in force then.
			i := slices.IndexFunc(lanes, func(l lane) bool { return l.host == sheet.Host && !l.ends[len(l.ends)-1].After(sheet.InForce) })
			if i < 0 {
				i = len(lanes)
				if last := lastOf(lanes, func(l lane) bool { return l.host == sheet.Host }); last >= 0 {
					i = last + 1
				}
				lanes = slices.Insert(lanes, i, lane{host: sheet.Host})
			}
			lanes[i].sheets, lanes[i].ends = append(lanes[i].sheets, sheet), append(lanes[i].ends, end)
		}
	}
	var all []row
	for i, lane := range lanes[:min(len(lanes), rowsMax)] {
		label := t.hostLabel(lane.host)
		if i > 0 && lanes[i-1].host == lane.host {
			label = ""
		}
		all = append(all, row{label: label, title: lane.host, height: 22, paint: func(y float64) {
			for i, sheet := range lane.sheets {
				t.attackBand(sheet, lane.ends[i], y, 22)
			}
		}})
	}
	return all
}

func lastOf[T any](all []T, fits func(T) bool) int {
	for i := len(all) - 1; i >= 0; i-- {
		if fits(all[i]) {
			return i
		}
	}
	return -1
}

func (t *timeline) attackBand(sheet verdict.HostImpact, end time.Time, y, height float64) {
	from, width := t.x(sheet.InForce), t.x(end)-t.x(sheet.InForce)
	lasted := end.Sub(sheet.InForce).Seconds()
	detail := fmt.Sprintf("%s on %s, in force for %.2f s, %d packets dropped", sheet.Attack, sheet.Host, lasted, sheet.Egress+sheet.Ingress+sheet.Forward)
	if sheet.OneWay {
		detail = fmt.Sprintf("%s of %s, back after %.2f s", sheet.Attack, sheet.Host, lasted)
	}
	t.open("attack", detail)
	t.box("body", from, y, width, height, 4)
	t.raw(`<rect fill="url(#%s-hatch)" x="%s" y="%s" width="%s" height="%s" rx="4"/>`, t.id, num(from), num(y), num(max(width, 0.5)), num(height))
	candidates := []string{fmt.Sprintf("%s %.1f s", sheet.Attack, lasted), sheet.Attack, fmt.Sprintf("%.1f s", lasted)}
	if text := fitting(width-4, t.font+0.6, candidates...); text != "" {
		t.text("inside", "middle", from+width/2, y+height/2+4, text)
	}
	t.close()
}

// hostLabel shortens a host to its environment where that is the same thing.
func (t *timeline) hostLabel(host string) string {
	for _, environment := range t.in.Plan.Environments {
		if len(environment.Hosts) == 1 && environment.Hosts[0].Name == host {
			return environment.Name
		}
	}
	return host
}

// alarmRows is a row for each alarm that ever left OK.
func (t *timeline) alarmRows() []row {
	var all []row
	for _, alarm := range t.scan.alarms[:min(len(t.scan.alarms), rowsMax)] {
		label := alarm.name
		if short, ok := strings.CutPrefix(alarm.name, alarm.host+"-"); ok && alarm.host != "" {
			label = t.hostLabel(alarm.host) + " · " + short
		}
		all = append(all, row{label: label, title: alarm.name, height: 16, paint: func(y float64) {
			t.line("base", t.gutter, y+8, t.width-t.right, y+8)
			for _, b := range alarm.bands {
				t.alarmBand(alarm.name, b, y, 16)
			}
			t.missed(drill.ExpectAlarm, alarm.name, "not raised", y, 16)
		}})
	}
	if len(all) == 0 && len(t.in.Plan.Alarms) > 0 {
		text := fmt.Sprintf("none of %d alarms was raised", len(t.in.Plan.Alarms))
		all = append(all, row{height: 16, paint: func(y float64) { t.text("quiet", "start", t.gutter, y+12, text) }})
	}
	return all
}

func (t *timeline) alarmBand(name string, b band, y, height float64) {
	if b.state == history.AlarmOK {
		return
	}
	from, width := t.x(b.from), t.x(b.to)-t.x(b.from)
	lasted := b.to.Sub(b.from).Seconds()
	t.open("alarm state-"+strings.ToLower(b.state), fmt.Sprintf("%s %s for %.2f s (#%d). %s", name, b.state, lasted, b.seq, b.title))
	t.box("body", from, y, width, height, 3)
	candidates := []string{"no data", "?"}
	if b.state == history.AlarmRaised {
		candidates = []string{"ALARM", "!"}
		if after, ok := t.afterAttack(b.from); ok {
			candidates = slices.Insert(candidates, 0, fmt.Sprintf("ALARM +%.1f s", after.Seconds()), fmt.Sprintf("+%.1f s", after.Seconds()))
		}
	} else {
		t.raw(`<rect fill="url(#%s-dots)" x="%s" y="%s" width="%s" height="%s"/>`, t.id, num(from), num(y), num(max(width, 0.5)), num(height))
	}
	if text := fitting(width-5, t.font-1, candidates...); text != "" {
		t.text("inside", "middle", from+width/2, y+height/2+4, text)
	}
	t.close()
}

// missed outlines the time in which something was awaited in vain.
func (t *timeline) missed(kind, alarm, text string, y, height float64) {
	for _, step := range t.in.Verdict.Steps {
		if step.Impact == nil || step.Impact.From.IsZero() {
			continue
		}
		for _, e := range t.in.Plan.Steps[step.Step].Drill.Expectations {
			unmet := slices.ContainsFunc(step.Checks, func(c verdict.Check) bool {
				return c.Name == e.Text && c.Outcome != history.Passed && c.Measured == nil
			})
			if e.Kind != kind || e.Alarm != alarm || !unmet {
				continue
			}
			from, to := t.x(step.Impact.From), t.x(step.Impact.From.Add(e.Within.Duration()))
			t.open("missed", fmt.Sprintf("%s: %s", e.Text, text))
			t.box("body", from, y, to-from, height, 3)
			if short := fitting(to-from-6, t.font, text, "✗"); short != "" {
				t.text("inside", "middle", (from+to)/2, y+height/2+4, short)
			}
			t.close()
		}
	}
}

// afterAttack is how long after the begin of an attack something happened.
func (t *timeline) afterAttack(at time.Time) (time.Duration, bool) {
	for _, step := range t.in.Verdict.Steps {
		if step.Impact != nil && !step.Impact.From.IsZero() && !at.Before(step.Impact.From) && !at.After(step.Finished) {
			return at.Sub(step.Impact.From), true
		}
	}
	return 0, false
}

// answerRows is a row for each name on each name server: what was seen, and above it as a thin line what the watch had decided.
func (t *timeline) answerRows() []row {
	var all []row
	for _, seen := range t.scan.seen[:min(len(t.scan.seen), rowsMax)] {
		name, server, _ := strings.Cut(seen.name, " on ")
		answered := "answered by " + t.serverLabel(server)
		if t.gutter == 0 {
			answered += ", above: decided"
		}
		all = append(all, row{label: answered, title: name + " on " + server, height: 30, head: t.asideHead(), shift: 5, paint: func(y float64) {
			if t.gutter > 0 {
				t.text("aside", "start", 0, y+5.5, "decided by the watch")
			}
			for _, decided := range t.scan.decided {
				if decided.name != name {
					continue
				}
				for _, b := range decided.bands {
					t.answerBand(b, y, 6, "decided")
				}
			}
			for _, b := range seen.bands {
				t.answerBand(b, y+10, 20, "seen on "+server)
			}
			t.missed(drill.ExpectMoves, "", "did not move", y+10, 20)
		}})
	}
	return all
}

// serverLabel shortens a name server, or the host of a URL, to its first label; an address stays whole.
func (t *timeline) serverLabel(server string) string {
	host := server
	if target, err := url.Parse(server); err == nil && target.Host != "" {
		host = target.Host
	}
	if name, _, err := net.SplitHostPort(server); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return host
	}
	first, _, _ := strings.Cut(host, ".")
	return first
}

// asideHead keeps the small line over the answers away from the title above it.
func (t *timeline) asideHead() float64 {
	if t.gutter > 0 {
		return 5
	}
	return 0
}

func (t *timeline) answerBand(b band, y, height float64, how string) {
	from, width := t.x(b.from), t.x(b.to)-t.x(b.from)
	state := b.state
	if state == "" {
		state = "no answer"
	}
	title := fmt.Sprintf("%s: %s for %.2f s (#%d)", how, state, b.to.Sub(b.from).Seconds(), b.seq)
	if b.title != "" {
		title += ". " + b.title
	}
	class := environmentClass(t.in.Plan, b.state)
	t.open("answer "+class, title)
	t.box("body", from, y, width-0.8, height, 2)
	if class == "env-b" && height > 10 {
		t.raw(`<rect fill="url(#%s-second)" x="%s" y="%s" width="%s" height="%s"/>`, t.id, num(from), num(y), num(max(width-0.8, 0.5)), num(height))
	}
	if height > 10 {
		if text := fitting(width-6, t.font+0.6, state); text != "" {
			t.text("inside", "middle", from+width/2, y+height/2+4.5, text)
		}
	}
	t.close()
}

// clientRows is a row for each client with what it saw in columns, and brackets over its outages.
func (t *timeline) clientRows() []row {
	const height = 34.0
	var all []row
	for _, client := range t.scan.clients[:min(len(t.scan.clients), rowsMax)] {
		outages := t.outagesOf(client.name)
		head := 0.0
		if len(outages) > 0 {
			head = 20
		}
		label := client.name
		if slices.ContainsFunc(t.in.Plan.Clients, func(c drill.Client) bool { return c.Name == client.name && c.Keep }) {
			label += " (keep-alive)"
		}
		all = append(all, row{label: label, height: height, head: head, paint: func(y float64) {
			t.clientCells(client, y, height)
			for _, outage := range outages {
				t.bracket(outage, y-3)
			}
		}})
	}
	return all
}

// clientCells draws runs of equal columns: low and quiet where all is well, high and loud where requests failed.
func (t *timeline) clientCells(client clientRow, y, height float64) {
	width := t.cellWidth()
	left := t.gutter - width/2
	t.line("base", t.gutter, y+height, t.width-t.right, y+height)
	for i := 0; i < len(client.cells); {
		run := i
		for run < len(client.cells) && client.cells[run] == client.cells[i] {
			run++
		}
		x, w := max(left+float64(i)*width, t.gutter), float64(run-i)*width
		w = min(w, t.width-t.right-x)
		lasted := time.Duration(run-i) * t.scan.cell
		at := t.scan.from.Add(time.Duration(i) * t.scan.cell).UTC().Format("15:04:05.0")
		switch client.cells[i] {
		case cellGood:
			t.open("good", fmt.Sprintf("%s: answered for %.1f s from %s", client.name, lasted.Seconds(), at))
			t.box("body", x, y+height-11, w, 11, 0)
			t.close()
		case cellLate:
			t.open("late", fmt.Sprintf("%s: our own prober was late at %s", client.name, at))
			t.box("body", x, y+height-18, w, 18, 0)
			t.close()
		case cellBad:
			t.open("bad", fmt.Sprintf("%s: requests failed for %.1f s from %s", client.name, lasted.Seconds(), at))
			t.box("body", x, y, w, height, 0)
			t.raw(`<rect fill="url(#%s-bars)" x="%s" y="%s" width="%s" height="%s"/>`, t.id, num(x), num(y), num(max(w, 0.5)), num(height))
			t.close()
		}
		i = run
	}
}

func (t *timeline) outagesOf(client string) []verdict.Outage {
	var all []verdict.Outage
	for _, step := range t.in.Verdict.Steps {
		if step.Clients == nil {
			continue
		}
		for _, outage := range step.Clients.Outages {
			if outage.Client == client && len(all) < bandsMax {
				all = append(all, outage)
			}
		}
	}
	return all
}

// bracket marks an outage with its length and error bound. Labels of outages that lie too close are left to their tooltips.
func (t *timeline) bracket(outage verdict.Outage, y float64) {
	from, to := t.x(outage.From), t.x(outage.To)
	label := fmt.Sprintf("%.2f s ±%.2f", outage.Seconds, outage.Bound)
	if outage.Open {
		label = fmt.Sprintf("over %.1f s", outage.Seconds)
	}
	t.open("bracket", fmt.Sprintf("%s was not served for %s s, %d requests failed (%s)", outage.Client, label, outage.Failed, outage.Cause))
	t.path("line", fmt.Sprintf("M%s %sv-5H%sv5", num(from), num(y), num(to)))
	if to-from > 5 {
		// The label may be wider than the outage, but not wider than the picture.
		half := textWidth(label, t.font+0.5) / 2
		center := min(max((from+to)/2, t.gutter+half), t.width-t.right-half)
		t.text("length", "middle", center, y-8.5, label)
	}
	t.close()
}

// hostRows is a row for each host: up or down, boots and deployments.
func (t *timeline) hostRows() []row {
	var all []row
	for _, host := range t.scan.hosts[:min(len(t.scan.hosts), rowsMax)] {
		label := host.name
		all = append(all, row{label: label, title: host.name, height: 18, paint: func(y float64) { t.hostLine(host, y, 18) }})
	}
	return all
}

func (t *timeline) hostLine(host hostRow, y, height float64) {
	middle := y + height/2
	x := t.gutter
	for _, down := range host.down {
		t.line("up", x, middle, t.x(down.from), middle)
		from, to := t.x(down.from), t.x(down.to)
		lasted := down.to.Sub(down.from).Seconds()
		t.open("down", fmt.Sprintf("%s was down for %.2f s (#%d). %s", host.name, lasted, down.seq, down.title))
		t.box("body", from, y+1, to-from, height-2, 3)
		if text := fitting(to-from-6, t.font, fmt.Sprintf("down %.1f s", lasted), "down"); text != "" {
			t.text("inside", "middle", (from+to)/2, middle+4, text)
		}
		t.close()
		x = to
	}
	t.line("up", x, middle, t.width-t.right, middle)
	for _, m := range host.marks {
		t.hostMark(host, m, middle)
	}
}

// hostMark draws a deployment's stages as small diamonds, the one that counts as a large one with its name.
func (t *timeline) hostMark(host hostRow, m mark, middle float64) {
	x := t.x(m.at)
	diamond := func(size float64) string {
		return fmt.Sprintf("M%s %sl%s %sl%s %sl%s %sz", num(x-size), num(middle), num(size), num(-size), num(size), num(size), num(-size), num(size))
	}
	t.open("mark", host.name+": "+m.title)
	note := func(text string, gap float64) {
		if t.gutter == 0 {
			return // no room beside the labels; the tooltip says it
		}
		if x+gap+textWidth(text, 10.5) > t.width-t.right {
			t.text("note", "end", x-gap, middle-5, text)
			return
		}
		t.text("note", "start", x+gap, middle-3.5, text)
	}
	switch m.what {
	case "boot":
		t.path("boot", fmt.Sprintf("M%s %sl9 5.5l-9 5.5z", num(x), num(middle-5.5)))
		note("boot", 13)
	case history.DeployHealthy:
		t.path("healthy", diamond(6))
		note("deployed", 9)
	case history.DeployFailed, history.DeployRestored:
		t.path("broken", diamond(6))
		note(m.what, 9)
	default:
		t.path("stage", diamond(3))
	}
	t.close()
}
