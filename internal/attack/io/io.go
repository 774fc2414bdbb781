package io

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// Name is the name of the kind, and of its job.
const Name = "io"

const (
	kilo = 1 << 10
	mega = 1 << 20

	workersMax = 64      // more only wait for each other
	blockMax   = 1 << 18 // kilobytes; a buffer for each writer is held in memory
	countMax   = 1 << 24

	// The files of the attack may take this much of what is available, in percent: it is about the time of the disk, not its room.
	roomPercent = 50
)

// Mode says what is done with the blocks.
type Mode string

// The modes of the catalogue.
const (
	Read      Mode = "r"
	Write     Mode = "w"
	ReadWrite Mode = "rw"
)

// Kind is the io attack. Its zero value is ready to use.
type Kind struct{ hooks worker.Hooks }

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "resource",
		Summary: "Keep a volume of this host busy with reads and writes",
		Flags: []drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "dir", Short: "d", Type: attack.TypeString, Default: "/tmp", Usage: "directory on the volume"},
			{Name: "workers", Short: "w", Type: attack.TypeInt, Default: "1", Usage: "how many read and write at the same time", Range: &drill.Range{Min: 1, Max: workersMax}},
			{Name: "mode", Short: "m", Type: attack.TypeString, Default: string(ReadWrite), Usage: "r to read, w to write, rw to do both", OneOf: []string{string(Read), string(Write), string(ReadWrite)}},
			{Name: "block-size", Short: "s", Type: attack.TypeInt, Default: "4", Usage: "kilobytes of one read or write", Unit: "KB", Range: &drill.Range{Min: 1, Max: blockMax}},
			{Name: "block-count", Short: "c", Type: attack.TypeInt, Default: "1", Usage: "blocks in each worker's file, used in turn", Range: &drill.Range{Min: 1, Max: countMax}},
		},
		Needs:   []string{}, // what a file system does not know is done in another way
		Remains: string(attack.RemainsNothing),
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	if err := flags.Check(k.Describe()); err != nil {
		return nil, err
	}
	order := Order{Directory: flags.Text("dir", "/tmp"), Mode: Mode(strings.ToLower(flags.Text("mode", string(ReadWrite)))), hooks: k.hooks}
	var err error
	if order.Length, err = flags.Length(); err != nil {
		return nil, attack.Refuse(Name, "write seconds, as -l 60", "%w", err)
	}
	if order.Mode != Read && order.Mode != Write && order.Mode != ReadWrite {
		return nil, attack.Refuse(Name, "write r, w or rw", "--mode=%s is no mode", order.Mode)
	}
	kilobytes := 0
	for _, number := range []struct {
		name, fallback string
		max            int
		to             *int
	}{{"workers", "1", workersMax, &order.Workers}, {"block-size", "4", blockMax, &kilobytes}, {"block-count", "1", countMax, &order.Count}} {
		text := flags.Text(number.name, number.fallback)
		if *number.to, err = strconv.Atoi(text); err != nil || *number.to < 1 || *number.to > number.max {
			return nil, attack.Refuse(Name, "write a whole number", "--%s=%s: it must be from 1 to %d", number.name, text, number.max)
		}
	}
	order.Block = kilobytes * kilo
	return order, nil
}

// Sweep implements attack.Sweeper.
func (Kind) Sweep(ctx context.Context, alive func(guid string) bool) ([]string, error) {
	return worker.Sweep(ctx, Name, alive)
}

// Residue implements attack.Sweeper.
func (Kind) Residue(context.Context) ([]string, error) { return worker.Residue(Name) }

// Order is an io attack as a user asks for it.
type Order struct {
	Length    time.Duration
	Directory string
	Workers   int
	Mode      Mode
	Block     int // bytes
	Count     int // blocks in each worker's file
	hooks     worker.Hooks
}

// Names implements attack.Order.
func (Order) Names() []string { return nil }

// Survey implements attack.Surveying: how much room there is.
func (o Order) Survey(_ context.Context, facts *attack.Facts) error {
	directory, err := filepath.Abs(o.Directory)
	if err != nil {
		return fmt.Errorf("attack io: %w", err)
	}
	if info, err := os.Stat(directory); err != nil || !info.IsDir() {
		return attack.Refuse(Name, "name a directory on the volume to keep busy: --dir /var/lib/postgresql", "--dir=%s is not a directory", o.Directory)
	}
	facts.Volume, err = worker.Volume(directory)
	return err
}

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	room := uint64(o.Workers) * uint64(o.Block) * uint64(o.Count)
	if may := facts.Volume.Available / 100 * roomPercent; room > may {
		return attack.Plan{}, &drill.Error{Op: "attack " + Name, Kind: drill.Refused, Hint: "ask for fewer blocks: --block-count; to fill the volume use: firedrill attack disk",
			Err: fmt.Errorf("its files need %.1f MB, over %d %% of what is available on the volume of %s (%.1f MB)", float64(room)/mega, roomPercent,
				facts.Volume.Directory, float64(facts.Volume.Available)/mega)}
	}
	does := map[Mode]string{Read: "read", Write: "write", ReadWrite: "write and read"}[o.Mode]
	says := []string{fmt.Sprintf("%s %d x %d KB over and over on the volume of %s, %d at the same time", does, o.Count, o.Block/kilo, facts.Volume.Directory, o.Workers)}
	step := &worker.Step{Job: Name, GUID: facts.GUID, Says: says, Meter: &meter{mode: o.Mode}, Hooks: o.hooks,
		Args: task{Directory: facts.Volume.Directory, Workers: o.Workers, Mode: o.Mode, Block: o.Block, Count: o.Count}}
	return attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length, Steps: []attack.Step{step}}, nil
}
