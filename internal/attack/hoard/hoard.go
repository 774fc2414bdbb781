package hoard

import (
	"encoding/json"
	"fmt"
	"strconv"

	"firedrill/internal/attack"
	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// Good is something of which a host has a limited number.
type Good struct {
	Kind      string // the attack that takes it, which is the name of the worker's job too
	Name      string // of many, for people: open files
	Are       string // what they do when they are there: are open, run
	CanBe     string // what can be done with those that are not there yet: be opened
	Percent   int    // of all that is kept in reserve, 0 to 100
	Least     int    // that is kept in reserve at least
	AmountMax int    // that can be asked for

	Room func(root string) (attack.Room, error) // root is "/", or a tree that looks like one
	Held func(pid int) (int, error)             // by a process, as the kernel says; 0 when it is about to end

	Batch int                     // taken between two looks at the reserve
	Allow func(amount int) error  // lets this process have so many
	Take  func(already int) error // takes one more
}

// BugFew is a planted bug: a tenth is taken.
const BugFew = "never bites"

// Count reads a whole number from least to AmountMax.
func (g Good) Count(text string, least int) (int, error) {
	number, err := strconv.Atoi(text)
	if err != nil || number < least || number > g.AmountMax {
		return 0, fmt.Errorf("%q is not a whole number from %d to %d", text, least, g.AmountMax)
	}
	return number, nil
}

// Reserve is how many are kept. Max can be all that an int can hold.
func (g Good) Reserve(r attack.Room) int {
	return max(r.Max/100*g.Percent+r.Max%100*g.Percent/100, g.Least)
}

// Fits refuses an amount that would not leave the reserve.
func (g Good) Fits(amount int, r attack.Room) error {
	most := r.Max - r.Used - g.Reserve(r)
	if amount <= most {
		return nil
	}
	cure := "there is too little room to take any"
	if most > 0 {
		cure = fmt.Sprintf("ask for at most %d: --amount %d", most, most)
	}
	return &drill.Error{Op: "attack " + g.Kind, Kind: drill.Refused, Hint: cure,
		Err: fmt.Errorf("%d %s are asked for, %d of %d %s, and %d are kept in reserve", amount, g.Name, r.Used, r.Max, g.Are, g.Reserve(r))}
}

// Step is the step that takes an amount, if there is room for it.
func (g Good) Step(guid string, amount int, r attack.Room, hooks worker.Hooks) (attack.Step, error) {
	if err := g.Fits(amount, r); err != nil {
		return nil, err
	}
	says := fmt.Sprintf("hold %d %s, of %d that can %s here; keep %d free", amount, g.Name, r.Max-r.Used, g.CanBe, g.Reserve(r))
	return &worker.Step{Job: g.Kind, GUID: guid, Args: task{Amount: amount}, Says: []string{says}, Meter: &meter{good: g, asked: amount}, Hooks: hooks}, nil
}

// task is what the worker is told.
type task struct {
	Amount int `json:"amount"`
}

// Job is the worker's side.
func (g Good) Job(d worker.Duty) error {
	task, err := worker.Arguments[task](d)
	if err != nil {
		return err
	}
	if d.Bug == BugFew {
		task.Amount /= 10
	}
	if err := g.Allow(task.Amount); err != nil {
		return err
	}
	for taken := 0; taken < task.Amount; {
		now := min(g.Batch, task.Amount-taken)
		left, err := g.Room("/")
		if err == nil {
			err = g.Fits(now, left)
		}
		if err != nil {
			return err
		}
		for range now {
			if err := g.Take(taken); err != nil {
				return err
			}
			taken++
		}
	}
	if err := d.Ready(struct{}{}); err != nil {
		return err
	}
	worker.Hold()
	return nil
}

// meter counts what the worker holds, as the kernel says.
type meter struct {
	good               Good
	asked, least, sure int
	last               int // the reading before; it counts when a later one shows that the worker was not about to end
	inForce            int // on the host
}

// Begin implements worker.Meter.
func (m *meter) Begin(pid int, _ json.RawMessage) error { return m.Read(pid) }

// Read implements worker.Meter.
func (m *meter) Read(pid int) error {
	held, err := m.good.Held(pid)
	if err != nil || held == 0 {
		return err
	}
	if m.last > 0 {
		if m.sure == 0 || m.last < m.least {
			m.least = m.last
		}
		m.sure++
	}
	m.last = held
	if now, err := m.good.Room("/"); err == nil {
		m.inForce = now.Used
	}
	return nil
}

// Evidence implements worker.Meter.
func (m *meter) Evidence() (bool, []string) {
	if m.sure == 0 {
		return false, []string{"the kernel's figures of the worker were never read while it was in force"}
	}
	figures := []string{fmt.Sprintf("by the kernel's accounts the worker held %d %s at least, asked %d", m.least, m.good.Name, m.asked)}
	if after, err := m.good.Room("/"); err == nil {
		figures = append(figures, fmt.Sprintf("on the host %d %s in force, %d after, of %d", m.inForce, m.good.Are, after.Used, after.Max))
	}
	return m.least >= m.asked, figures
}
