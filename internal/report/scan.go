package report

import (
	"cmp"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// band is a state that lasted.
type band struct {
	from, to time.Time
	state    string // what it is, a word that also names its class
	title    string
	seq      int64
}

// The states of a client's cell, the worse the higher.
const (
	cellNone = iota
	cellGood
	cellLate
	cellBad
)

// clientRow is what one client saw, in columns of the picture.
type clientRow struct {
	name  string
	cells []byte
}

// mark is a moment.
type mark struct {
	at    time.Time
	what  string
	title string
}

// hostRow is the life of a host.
type hostRow struct {
	name  string
	down  []band
	marks []mark
}

// scanned is the log as the picture needs it: bands, marks and columns, but no events.
type scanned struct {
	from, to time.Time
	cell     time.Duration // width of a client's column
	alarms   []namedBands  // alarms that ever left OK, and those that a drill waits for
	decided  []namedBands
	seen     []namedBands // by name and name server
	clients  []clientRow
	hosts    []hostRow
	clocks   []history.Clock
	first    *history.RunStarted

	lost, acked, unread int // of the ledgers
}

// namedBands is one row of bands.
type namedBands struct {
	name, host string
	bands      []band
}

// bandsMax bounds the bands of a row: a name server that flaps for an hour is told by the first of its flaps.
const bandsMax = 400

// columns is how many columns a client's row has at most; more than pixels cannot be seen.
const columns = 960

// cellMin is the finest column: clients are asked to sample ten times a second.
const cellMin = 100 * time.Millisecond

// scan reads the log once. from and to are the first and the last moment of the run.
func scan(in Input) (*scanned, error) {
	s := &scanned{from: in.Verdict.Started, to: in.Verdict.Finished}
	if !s.to.After(s.from) {
		s.to = s.from.Add(time.Second)
	}
	s.cell = max(cellMin, s.to.Sub(s.from)/columns)
	alarms, decided, seen := rows{}, rows{}, rows{}
	clients := map[string][]byte{}
	hosts := map[string]*hostRow{}
	host := func(name string) *hostRow {
		if hosts[name] == nil {
			hosts[name] = &hostRow{name: name}
		}
		return hosts[name]
	}
	for _, environment := range in.Plan.Environments {
		for _, known := range environment.Hosts {
			host(known.Name)
		}
	}
	err := in.each(func(event history.Event) error {
		switch fact := event.Fact.(type) {
		case *history.RunStarted:
			s.first = fact
		case *history.Ledger:
			if fact.Unread != "" {
				s.unread++
			} else {
				s.lost, s.acked = s.lost+fact.Lost, s.acked+fact.Acked
			}
		case *history.Alarm:
			alarms.change(fact.Name, fact.Host, event, fact.To, fact.Reason)
		case *history.Answer:
			environment := environmentOf(in.Plan, fact)
			if fact.Decided {
				decided.change(fact.Name, "", event, environment, fact.Reason)
			} else if fact.Server != "" {
				seen.change(fact.Name+" on "+fact.Server, "", event, environment, fact.Error)
			}
		case *history.Sample:
			s.sample(clients, in.Plan, event.Source, fact)
		case *history.Host:
			if known := hosts[fact.Host]; known != nil {
				known.life(event, fact)
			}
		case *history.Deploy:
			if fact.Host != "" {
				row := host(fact.Host)
				row.marks = append(row.marks, mark{at: event.At, what: fact.Stage, title: fact.Stage + " " + fact.Release})
			}
		case *history.Clock:
			s.clocks = append(s.clocks, *fact)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.alarms = slices.DeleteFunc(alarms.list(s.to), func(row namedBands) bool {
		return !expected(in.Plan, row.name) && !slices.ContainsFunc(row.bands, func(b band) bool { return b.state != history.AlarmOK })
	})
	s.decided, s.seen = decided.list(s.to), seen.list(s.to)
	for _, name := range sortedKeys(clients) {
		s.clients = append(s.clients, clientRow{name: name, cells: clients[name]})
	}
	s.hostRows(in.Plan, hosts)
	return s, nil
}

// expected says that some drill waits for an alarm: then its silence is worth a row too.
func expected(plan drill.Plan, alarm string) bool {
	for _, step := range plan.Steps {
		if step.Drill != nil && slices.ContainsFunc(step.Drill.Expectations, func(e drill.Expectation) bool { return e.Kind == drill.ExpectAlarm && e.Alarm == alarm }) {
			return true
		}
	}
	return false
}

// hostRows keeps the order of the plan.
func (s *scanned) hostRows(plan drill.Plan, hosts map[string]*hostRow) {
	for _, environment := range plan.Environments {
		for _, known := range environment.Hosts {
			row := hosts[known.Name]
			for i := range row.down {
				if row.down[i].to.IsZero() {
					row.down[i].to = s.to
				}
			}
			s.hosts = append(s.hosts, *row)
		}
	}
}

// sample puts one sample into its column; the worst of a column is what is shown.
func (s *scanned) sample(clients map[string][]byte, plan drill.Plan, source string, sample *history.Sample) {
	name := sample.Probe
	if !slices.ContainsFunc(plan.Clients, func(c drill.Client) bool { return c.Name == name }) {
		if sample.Probe != "client" {
			return
		}
		name = source
	}
	cells, ok := clients[name]
	if !ok {
		cells = make([]byte, int(s.to.Sub(s.from)/s.cell)+1)
		clients[name] = cells
	}
	i := int((sample.Scheduled.Sub(s.from) + s.cell/2) / s.cell)
	if i < 0 || i >= len(cells) {
		return
	}
	state := byte(cellGood)
	switch {
	case sample.Cause == history.CauseProber:
		state = cellLate
	case !sample.OK:
		state = cellBad
	case sample.Lag.Duration() > lateShown:
		state = cellLate
	}
	cells[i] = max(cells[i], state)
}

// lateShown is the lag from which a sample is drawn as late: history.Outages forgives as much.
const lateShown = 250 * time.Millisecond

// life notes when a host went down and came back.
func (h *hostRow) life(event history.Event, fact *history.Host) {
	open := len(h.down) > 0 && h.down[len(h.down)-1].to.IsZero()
	switch {
	case !fact.Up && !open && len(h.down) < bandsMax:
		h.down = append(h.down, band{from: event.At, state: "down", title: fact.Detail, seq: event.Seq})
	case fact.Up && open:
		h.down[len(h.down)-1].to = event.At
		h.marks = append(h.marks, mark{at: event.At, what: "boot", title: "up again, boot " + fact.BootID})
	}
}

// rows gathers changes of state by name.
type rows map[string]*namedBands

// change ends the present band and begins another. Events come nearly in order; one that is earlier than the last is put at its place.
func (r rows) change(name, host string, event history.Event, state, title string) {
	row := r[name]
	if row == nil {
		row = &namedBands{name: name, host: host}
		r[name] = row
	}
	if n := len(row.bands); n > 0 && row.bands[n-1].state == state || n >= bandsMax {
		return
	}
	row.bands = append(row.bands, band{from: event.At, state: state, title: title, seq: event.Seq})
}

// list closes every band at the begin of the next one, or at the end.
func (r rows) list(end time.Time) []namedBands {
	var all []namedBands
	for _, name := range sortedKeys(r) {
		row := r[name]
		slices.SortStableFunc(row.bands, func(a, b band) int { return a.from.Compare(b.from) })
		for i := range row.bands {
			row.bands[i].to = end
			if i+1 < len(row.bands) {
				row.bands[i].to = row.bands[i+1].from
			}
		}
		all = append(all, *row)
	}
	return all
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, cmp.Compare)
	return keys
}

func environmentOf(plan drill.Plan, answer *history.Answer) string {
	if answer.Error != "" {
		return ""
	}
	if answer.Environment != "" {
		return answer.Environment
	}
	for _, environment := range plan.Environments {
		for _, host := range environment.Hosts {
			if slices.Contains(answer.Addresses, host.Address.String()) {
				return environment.Name
			}
		}
	}
	return ""
}
