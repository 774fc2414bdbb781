package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// Name is the name of the kind, and of its job.
const Name = "disk"

const (
	kilo = 1 << 10
	mega = 1 << 20

	workersMax = 64      // writers beyond that only wait for each other
	blockMax   = 1 << 20 // kilobytes; a buffer for each writer is held in memory

	// tolerance is how far from the share asked counts as reached, in points.
	tolerance = 0.1
)

// Kind is the disk attack. Its zero value is ready to use.
type Kind struct{ hooks worker.Hooks }

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "resource",
		Summary: "Fill a volume of this host to a share, but for what root has in reserve",
		Flags: []drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "dir", Short: "d", Type: attack.TypeString, Default: "/tmp", Usage: "directory on the volume to fill"},
			{Name: "workers", Short: "w", Type: attack.TypeInt, Default: "1", Usage: "writers, where the file system cannot give room without writing", Range: &drill.Range{Min: 1, Max: workersMax}},
			{Name: "block-size", Short: "b", Type: attack.TypeInt, Default: "4", Usage: "kilobytes of one write, likewise", Unit: "KB", Range: &drill.Range{Min: 1, Max: blockMax}},
			{Name: "percent", Short: "p", Type: attack.TypeFloat, Default: "100", Usage: "share of the volume that is to be used, as df counts, over 0 to 100", Unit: "%", Range: drill.PercentRange},
		},
		Remains: string(attack.RemainsNothing),
		Needs:   []string{}, // what a file system does not know is done in another way
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	if err := flags.Check(k.Describe()); err != nil {
		return nil, err
	}
	order := Order{Directory: flags.Text("dir", "/tmp"), hooks: k.hooks}
	var err error
	if order.Length, err = flags.Length(); err != nil {
		return nil, attack.Refuse(Name, "write seconds, as -l 60", "%w", err)
	}
	if order.Workers, err = strconv.Atoi(flags.Text("workers", "1")); err != nil || order.Workers < 1 || order.Workers > workersMax {
		return nil, attack.Refuse(Name, "write a number of writers, as -w 2", "--workers=%s: it must be from 1 to %d", flags.Text("workers", ""), workersMax)
	}
	kilobytes, err := strconv.Atoi(flags.Text("block-size", "4"))
	if err != nil || kilobytes < 1 || kilobytes > blockMax {
		return nil, attack.Refuse(Name, "write kilobytes, as -b 4", "--block-size=%s: it must be from 1 to %d", flags.Text("block-size", ""), blockMax)
	}
	order.Block = kilobytes * kilo
	order.Percent, err = strconv.ParseFloat(flags.Text("percent", "100"), 64)
	if err != nil || !(order.Percent > 0 && order.Percent <= 100) {
		return nil, attack.Refuse(Name, "write a share of the volume, as -p 95", "--percent=%s: it must be over 0 and at most 100", flags.Text("percent", ""))
	}
	return order, nil
}

// Sweep implements attack.Sweeper.
func (Kind) Sweep(ctx context.Context, alive func(guid string) bool) ([]string, error) {
	return worker.Sweep(ctx, Name, alive)
}

// Residue implements attack.Sweeper.
func (Kind) Residue(context.Context) ([]string, error) { return worker.Residue(Name) }

// Order is a disk attack as a user asks for it.
type Order struct {
	Length    time.Duration
	Directory string
	Workers   int
	Block     int     // bytes
	Percent   float64 // over 0 to 100
	hooks     worker.Hooks
}

// Names implements attack.Order.
func (Order) Names() []string { return nil }

// Survey implements attack.Surveying: how full the volume is.
func (o Order) Survey(_ context.Context, facts *attack.Facts) error {
	directory, err := filepath.Abs(o.Directory)
	if err != nil {
		return fmt.Errorf("attack disk: %w", err)
	}
	if info, err := os.Stat(directory); err != nil || !info.IsDir() {
		return attack.Refuse(Name, "name a directory on the volume to fill: --dir /var/lib/postgresql", "--dir=%s is not a directory", o.Directory)
	}
	facts.Volume, err = worker.Volume(directory)
	return err
}

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	volume := facts.Volume
	if volume.Used+volume.Available == 0 {
		return attack.Plan{}, attack.Refuse(Name, "choose a directory on a disk: --dir", "the volume of %s has no size", volume.Directory)
	}
	if volume.Percent() > o.Percent+tolerance {
		return attack.Plan{}, &drill.Error{Op: "attack " + Name, Kind: drill.Refused,
			Err:  fmt.Errorf("the volume of %s is at %.2f %% already, over the %s %% asked for", volume.Directory, volume.Percent(), percent(o.Percent)),
			Hint: "ask for more: --percent"}
	}
	says := []string{fmt.Sprintf("fill the volume of %s from %.2f %% to %s %%, with about %.1f MB", volume.Directory, volume.Percent(), percent(o.Percent),
		float64(max(missing(volume, o.Percent), 0))/mega)}
	step := &worker.Step{Job: Name, GUID: facts.GUID, Args: task{Directory: volume.Directory, Percent: o.Percent, Workers: o.Workers, Block: o.Block}, Says: says,
		Meter: &meter{asked: o.Percent, before: volume}, Hooks: o.hooks}
	return attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length, Steps: []attack.Step{step}}, nil
}

// missing is how many bytes must be taken to get to a share: less than 0 when the volume is over it. What root has in reserve does not
// count, so the size that the share is of stays the same while we fill.
func missing(v attack.Volume, share float64) int64 {
	return int64(share/100*float64(v.Used+v.Available)) - int64(v.Used)
}

func percent(share float64) string { return strconv.FormatFloat(share, 'f', -1, 64) }
