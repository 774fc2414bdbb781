package traffic

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
)

// setShare holds the numbers that are hit, from 0 on, while the share grows.
const setShare = "share"

// rampStep is how often the share grows. A step costs what renewing the lease costs.
const rampStep = 200 * time.Millisecond

// What a share is of.
const (
	ofPackets     = "packets"
	ofConnections = "connections"
)

// ShareFlags are the flags of a kind that can hit a share of what it is aimed at, behind its flag percent.
func ShareFlags(of string) []drill.AttackFlag {
	return []drill.AttackFlag{
		{Name: "percent_of", Short: "b", Type: attack.TypeString, Default: of,
			Usage: "packets: each decided by itself; connections: decided once for each, new and established, by its addresses and ports, for all its packets", OneOf: []string{ofPackets, ofConnections}},
		{Name: "ramp", Short: "R", Type: attack.TypeSeconds, Default: "0", Usage: "seconds in which the share grows from nothing to all of it",
			Unit: "s", Range: &drill.Range{Max: attack.LengthMax.Seconds()}},
	}
}

// PercentFlag is the flag percent of a kind that hits everything unless it is asked for less.
func PercentFlag() drill.AttackFlag {
	return drill.AttackFlag{Name: "percent", Short: "r", Type: attack.TypeFloat, Default: "100", Usage: "share that is hit, above 0 and up to 100", Unit: "%", Range: drill.PercentRange}
}

// Portion reads the flag percent and those of ShareFlags into the effect. verb and noun make the wording: "Dropping 5% of", "Resetting all
// TCP". Fallbacks are the defaults of percent and percent_of.
func (o *Order) Portion(flags attack.Values, percent, of, verb, noun string) error {
	e := &o.Effect
	var err error
	if e.Share, err = attack.Share(o.Kind, flags, "percent", percent); err != nil {
		return err
	}
	switch of = strings.ToLower(flags.Text("percent_of", of)); of {
	case ofPackets:
	case ofConnections:
		e.Connections = true
	default:
		return attack.Refuse(o.Kind, "write packets or connections", "--percent_of=%s is nothing that a share can be of", of)
	}
	ramp, err := drill.ParseSeconds(flags.Text("ramp", "0"))
	if err != nil {
		return attack.Refuse(o.Kind, "write seconds, as --ramp 30", "--ramp: %w", err)
	}
	if e.Ramp = ramp.Duration(); e.Ramp < 0 || e.Ramp > o.Length {
		return attack.Refuse(o.Kind, "make it shorter, or the attack longer", "--ramp=%s does not end within the length, %s", e.Ramp, o.Length)
	}
	how := "all"
	switch {
	case e.Share < 100 && e.Connections:
		how = fmt.Sprintf("%g%% of the connections in the", e.Share)
	case e.Share < 100:
		how = fmt.Sprintf("%g%% of", e.Share)
	}
	e.Wording = strings.TrimSpace(verb + " " + how + " " + noun)
	return nil
}

// partial reports whether some of what is aimed at is let pass, at least for a while.
func (e Effect) partial() bool { return e.Share > 0 && e.Share < 100 || e.Ramp > 0 }

func (e Effect) portion() string {
	text := ""
	if e.Share > 0 && e.Share < 100 {
		text = fmt.Sprintf(" %g%% of", e.Share)
		if e.Connections {
			text += " the connections in"
		}
	}
	if e.Ramp > 0 {
		text += fmt.Sprintf(", growing to this within %s,", e.Ramp)
	}
	return text
}

// admitShare lets pass what is not of the share. Each packet, or each connection, has a number below shareSteps; the share is of those below
// a bound.
func (l *layout) admitShare(chain string) {
	e := l.cut.effect
	number := []expr.Any{&expr.Numgen{Register: 1, Type: unix.NFT_NG_RANDOM, Modulus: shareSteps}}
	if e.Connections && !l.cut.hooks.Coin {
		number = []expr.Any{
			// The same for both directions. It is the kernel's own for as long as it runs, so it is hashed again with a seed of this attack.
			&expr.Hash{Type: expr.HashTypeSym, DestRegister: 1, Modulus: math.MaxUint32},
			&expr.Hash{Type: expr.HashTypeJenkins, SourceRegister: 1, DestRegister: 1, Length: 4, Modulus: shareSteps, Seed: l.cut.seed(chain)},
		}
	}
	// The number is in the byte order of the host, and comparisons are made byte by byte.
	number = append(number, &expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4})
	if e.Ramp > 0 && !l.cut.hooks.NoRamp {
		l.add(chain, number, lookup(setShare, true), accept())
	} else if bound := e.bound(1); bound < shareSteps {
		l.add(chain, number, []expr.Any{&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: binary.BigEndian.AppendUint32(nil, bound)}}, accept())
	}
}

// bound returns the first number that is not hit when this part of the share, from 0 to 1, is.
func (e Effect) bound(part float64) uint32 {
	share := e.Share
	if share == 0 {
		share = 100
	}
	return uint32(part * share / 100 * shareSteps)
}

// seed makes connections of this attack fall elsewhere than those of others. It is a function of the GUID, so that a plan stays one of facts.
func (c *cut) seed(chain string) uint32 {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(c.guid))
	if c.hooks.TwoMinds && chain == chainInDrop {
		_, _ = sum.Write([]byte(chain))
	}
	return sum.Sum32() | 1 // the kernel takes one of its own for 0
}

// shareSet is the set of a share that grows.
func (c *cut) shareSet(table *nftables.Table) []*nftables.Set {
	if c.effect.Ramp == 0 {
		return nil
	}
	return []*nftables.Set{{Table: table, Name: setShare, KeyType: nftables.TypeInteger, Interval: true}}
}

// grow makes the share grow step by step until it is whole or ctx ends. Whatever becomes of us, the gate ends it with the rest.
func (c *cut) grow(ctx context.Context) error {
	if c.effect.Ramp == 0 {
		return nil
	}
	began := time.Now()
	tick := time.NewTicker(min(rampStep, c.effect.Ramp))
	defer tick.Stop()
	for part := 0.0; part < 1; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		part = min(1, float64(time.Since(began))/float64(c.effect.Ramp))
		if c.hooks.StuckRamp {
			part = 0.01
		}
		if err := c.getTable().replaceShare(c.effect.bound(part)); err != nil {
			return err
		}
	}
	return nil
}

// replaceShare makes the numbers below bound those that are hit.
func (t *table) replaceShare(bound uint32) error {
	if bound == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		return attack.ErrLapsed
	}
	elements := []nftables.SetElement{{Key: make([]byte, 4)}, {Key: binary.BigEndian.AppendUint32(nil, bound), IntervalEnd: true}}
	t.conn.FlushSet(t.sets[setShare])
	t.conn.SetAddElements(t.sets[setShare], elements)
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("traffic: grow the share: %w", err)
	}
	return nil
}
