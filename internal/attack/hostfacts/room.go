package hostfacts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack/dump"
	"firedrill/internal/tether"
)

// The room is a child process in a network namespace of its own. What is tried there is gone with it.
const (
	roomName    = "firedrill-doctor-room" // argv[0], which ps shows too
	roomTable   = "firedrill-doctor"
	roomArg     = "-test.run=^$"   // a test binary that does not know of rooms then runs nothing, instead of its tests all over again
	roomTimeout = 20 * time.Second // the tries take milliseconds, unless the kernel has to load modules
)

// found is what the room tells of one need.
type found struct {
	State  State  `json:"state"`
	Detail string `json:"detail,omitempty"`
}

// room runs the tries in a throw-away network namespace, with a user namespace around it when own is true. The error says why there is no room.
func room(ctx context.Context, own bool) (map[Need]found, error) {
	ctx, cancel := context.WithTimeout(ctx, roomTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{roomName, roomArg}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if own {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := tether.Run(cmd); err != nil {
		return nil, errors.Join(err, trimmed(said.String()))
	}
	var all map[Need]found
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		return nil, fmt.Errorf("the room said nothing of use: %w", err)
	}
	return all, nil
}

func trimmed(text string) error {
	if text = strings.TrimSpace(text); text != "" {
		return errors.New(text)
	}
	return nil
}

// Reexec does the work of the room when this process was started as one, and then ours is true. main calls it first.
func Reexec(args []string, out, errOut io.Writer) (code int, ours bool) {
	if len(args) != 2 || args[0] != roomName || args[1] != roomArg {
		return 0, false
	}
	// Somebody who calls us so by hand must not have anything tried in a namespace with a network.
	if err := isEmpty(); err != nil {
		fmt.Fprintln(errOut, err)
		return 1, true
	}
	if err := json.NewEncoder(out).Encode(tryAll()); err != nil {
		fmt.Fprintln(errOut, err)
		return 1, true
	}
	return 0, true
}

// isEmpty reports whether this network namespace was just made: nothing in it but a loopback device that is down.
func isEmpty() error {
	links, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return err
	}
	for _, link := range links {
		if flags := link.Attrs().RawFlags; flags&unix.IFF_UP != 0 {
			return fmt.Errorf("%s is up: this is no room to try things in", link.Attrs().Name)
		}
	}
	return nil
}

func tryAll() map[Need]found {
	all := map[Need]found{}
	tryTables(all)
	tryQueues(all)
	return all
}

func told(err error) found {
	switch {
	case err == nil:
		return found{State: Yes}
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return found{State: Unknown, Detail: "not allowed to try: " + err.Error()}
	}
	return found{State: No, Detail: "the kernel says: " + err.Error()}
}

// tryTables makes what a blackhole consists of.
func tryTables(all map[Need]found) {
	owner := inTable(nftables.TableFlagOwner, nftables.TableFamilyINet, basics)
	plain := owner
	if owner != nil {
		plain = inTable(0, nftables.TableFamilyINet, basics)
	}
	all[NFTables] = told(plain)
	if plain != nil {
		reason := found{State: Unknown, Detail: "without nf_tables it cannot be tried"}
		for _, need := range []Need{NFTablesOwner, NFTablesRandom, NFTablesLimit, NFTablesReject, NFTablesCgroup, NFQueue} {
			all[need] = reason
		}
		return
	}
	all[NFTablesOwner] = told(owner)
	for need, tried := range map[Need]expr.Any{
		NFTablesRandom: &expr.Numgen{Register: 1, Type: unix.NFT_NG_RANDOM, Modulus: 100},
		NFTablesLimit:  &expr.Limit{Type: expr.LimitTypePktBytes, Rate: 1 << 20, Unit: expr.LimitTimeSecond, Over: true},
		NFTablesCgroup: &expr.Socket{Key: expr.SocketKeyCgroupv2, Level: 1, Register: 1},
		NFTablesReject: &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED},
	} {
		all[need] = told(inTable(0, nftables.TableFamilyINet, func(b *builder) error { return b.rule(tried) }))
	}
	all[NFQueue] = queueing()
}

// queueing tries the kernel's own expression, then the older target through the compatibility layer.
func queueing() found {
	native := inTable(0, nftables.TableFamilyINet, func(b *builder) error { return b.rule(&expr.Queue{Num: 1}) })
	if native == nil {
		return found{State: Yes, Detail: "queue expression"}
	}
	// Revision 3 has three 16-bit words: queue, how many, flags; padded to 8 bytes.
	info := xt.Unknown{1, 0, 1, 0, 0, 0, 0, 0}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyIPv4} {
		err := inTable(0, family, func(b *builder) error { return b.rule(&expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}) })
		if err == nil {
			return found{State: Yes, Detail: "target NFQUEUE"}
		}
	}
	return told(native)
}

// builder adds to one table.
type builder struct {
	conn  *nftables.Conn
	table *nftables.Table
	chain *nftables.Chain
}

func (b *builder) rule(exprs ...expr.Any) error {
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: b.chain, Exprs: exprs})
	return b.conn.Flush()
}

// basics is the set whose elements time out, and the counter.
func basics(b *builder) error {
	set := &nftables.Set{Table: b.table, Name: "alive", KeyType: nftables.TypeNFProto, HasTimeout: true}
	element := nftables.SetElement{Key: []byte{unix.NFPROTO_IPV4}, Timeout: time.Minute}
	if err := b.conn.AddSet(set, []nftables.SetElement{element}); err != nil {
		return err
	}
	b.conn.AddObj(&nftables.NamedObj{Table: b.table, Name: "count", Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
	return b.conn.Flush()
}

// inTable tries something in a table of its own, with a chain in the place where a blackhole has one.
func inTable(flags nftables.TableFlags, family nftables.TableFamily, try func(*builder) error) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseLasting() }()
	b := &builder{conn: conn, table: &nftables.Table{Name: roomTable, Family: family, Flags: flags}}
	conn.CreateTable(b.table)
	policy := nftables.ChainPolicyAccept
	b.chain = conn.AddChain(&nftables.Chain{Name: "out", Table: b.table, Type: nftables.ChainTypeRoute, Hooknum: nftables.ChainHookOutput,
		Priority: nftables.ChainPriorityMangle, Policy: &policy})
	if err := conn.Flush(); err != nil {
		return err
	}
	err = try(b)
	conn.DelTable(b.table)
	return errors.Join(err, conn.Flush())
}

// tryQueues puts prio on the room's loopback, and netem below it.
func tryQueues(all map[Need]found) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		all[Prio], all[Netem] = found{State: Unknown, Detail: err.Error()}, found{State: Unknown, Detail: err.Error()}
		return
	}
	index := lo.Attrs().Index
	prio := netlink.NewPrio(netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT})
	all[Prio] = told(netlink.QdiscAdd(prio))
	parent := uint32(netlink.HANDLE_ROOT)
	if all[Prio].State == Yes {
		parent = netlink.MakeHandle(1, 3)
	}
	netem := netlink.NewNetem(netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(2, 0), Parent: parent},
		netlink.NetemQdiscAttrs{Latency: uint32(time.Millisecond / time.Microsecond)})
	all[Netem] = told(netlink.QdiscAdd(netem))
	if all[Netem].State == Yes && all[Prio].State != Yes {
		all[Netem] = found{State: No, Detail: "it is there, but without prio it would hit every packet"}
	}
}
