package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// task is what the worker is told.
type task struct {
	Directory string  `json:"directory"`
	Percent   float64 `json:"percent"`
	Workers   int     `json:"workers"`
	Block     int     `json:"block"` // bytes
}

const (
	// Where we are is looked up again after each round: files need room for their own description, and others write too.
	roundsMax = 32
	// How often a volume that is in force is looked at: well under the period of any monitor.
	holdEvery = 100 * time.Millisecond
	nice      = 10 // only the room is to be missed, not the processor
)

// The bugs of this kind that tests plant.
const (
	bugNamed = "named file"  // the file keeps its name
	bugSmall = "never bites" // takes a tenth
	// No bugs, but file systems that support less.
	onlyWrites   = "only writes"
	onlyUnlinked = "unlinked"
)

// Job is the worker's side.
func Job(d worker.Duty) error {
	task, err := worker.Arguments[task](d)
	if err != nil {
		return err
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, nice)
	f := &filler{task: task, bug: d.Bug, writes: d.Bug == onlyWrites}
	defer f.files.close()
	if d.Bug == bugSmall {
		f.task.Percent /= 10
	}
	if err := f.open(); err != nil {
		return err
	}
	if err := f.fill(); err != nil {
		return err
	}
	if err := d.Ready(struct{}{}); err != nil {
		return err
	}
	tick := time.NewTicker(holdEvery)
	defer tick.Stop()
	for range tick.C {
		// What cannot be taken again is missing in the figures that the attack reads.
		_ = f.fill()
	}
	return nil
}

// filler is the worker at work.
type filler struct {
	task   task
	bug    string
	writes bool // the file system gives no room without writing
	full   bool // the share was reached once; from then on what others write is theirs
	files  files
}

func (f *filler) open() error {
	for range f.task.Workers {
		file, err := f.newFile()
		if err != nil {
			return explain(err)
		}
		f.files = append(f.files, &hole{file: file})
	}
	return nil
}

func (f *filler) newFile() (*os.File, error) {
	switch f.bug {
	case bugNamed:
		return os.CreateTemp(f.task.Directory, "firedrill-*")
	case onlyUnlinked:
		return worker.Unlinked(f.task.Directory)
	}
	return worker.Nameless(f.task.Directory)
}

// fill takes room until the share is reached. It gives nothing back but what it took too much itself.
func (f *filler) fill() error {
	var last error
	for range roundsMax {
		volume, err := worker.Volume(f.task.Directory)
		if err != nil {
			return err
		}
		want := missing(volume, f.task.Percent)
		near := int64(max(volume.Block, 1))
		switch {
		case want >= near && volume.Available > 0:
			last = f.take(want - want%near)
		case want < -near && f.files.size() > 0 && !f.full:
			last = f.files.giveBack(-want)
		default:
			f.full = true
			return nil
		}
		if last != nil && !errors.Is(last, unix.ENOSPC) {
			return explain(last)
		}
	}
	volume, err := worker.Volume(f.task.Directory)
	if err != nil || volume.Percent() >= f.task.Percent-tolerance {
		return err
	}
	return explain(fmt.Errorf("the volume got to %.2f %% only: %w", volume.Percent(), last))
}

// take takes about as many bytes as asked, each file its part.
func (f *filler) take(bytes int64) error {
	if !f.writes {
		err := f.allocate(bytes)
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
			return err
		}
		f.writes = true
	}
	return f.files.write(bytes, f.task.Block)
}

// allocate asks the file system for room. When it says that there is too little, it is asked for half, for it may need some itself.
func (f *filler) allocate(bytes int64) error {
	each := max(bytes/int64(len(f.files)), 1)
	for _, h := range f.files {
		err := h.allocate(each)
		for part := each / 2; errors.Is(err, unix.ENOSPC) && part > 0; part /= 2 {
			err = h.allocate(part)
		}
		if errors.Is(err, unix.EFBIG) {
			// A file cannot be larger here: go on in a new one.
			file, openErr := f.newFile()
			if openErr != nil {
				return openErr
			}
			f.files = append(f.files, &hole{file: file})
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// explain adds the cure to what a user can do something about.
func explain(err error) error {
	e := &drill.Error{Op: "attack " + Name, Kind: drill.Failed, Err: err}
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		e.Kind, e.Hint = drill.Unsupported, "choose a directory that this user may write to, or run it as root: sudo firedrill attack disk ..."
	case errors.Is(err, unix.EROFS):
		e.Kind, e.Hint = drill.Unsupported, "the volume is mounted for reading only; choose another: --dir"
	case errors.Is(err, unix.EDQUOT):
		e.Kind, e.Hint = drill.Unsupported, "this user's quota ends before; run it as a user without one, or ask for less: --percent"
	}
	return e
}

// meter reads how full the volume is, and how much of it the worker's files hold.
type meter struct {
	asked   float64
	before  attack.Volume
	inForce attack.Volume
	held    uint64
	reached float64 // the highest share that was read
	read    bool
}

// Begin implements worker.Meter.
func (m *meter) Begin(pid int, _ json.RawMessage) error { return m.Read(pid) }

// Read implements worker.Meter.
func (m *meter) Read(pid int) error {
	held, err := heldBy(pid)
	if err != nil {
		return err
	}
	volume, err := worker.Volume(m.before.Directory)
	if err != nil {
		return err
	}
	m.held = max(m.held, held)
	m.inForce, m.reached, m.read = volume, max(m.reached, volume.Percent()), true
	return nil
}

// Evidence implements worker.Meter.
func (m *meter) Evidence() (bool, []string) {
	if !m.read {
		return false, []string{"the volume was never looked at while the attack was in force"}
	}
	after := ""
	if volume, err := worker.Volume(m.before.Directory); err == nil {
		after = fmt.Sprintf(", %.2f %% after", volume.Percent())
	}
	return m.reached >= m.asked-tolerance && m.held > 0, []string{
		fmt.Sprintf("the volume of %s was at %.2f %% before, %.2f %% in force, asked %s %%%s", m.before.Directory, m.before.Percent(), m.reached, percent(m.asked), after),
		fmt.Sprintf("by the kernel's accounts the worker held %.1f MB of it in files without a name", float64(m.held)/mega)}
}
