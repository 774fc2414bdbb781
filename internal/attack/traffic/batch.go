package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// conn is the netlink socket that owns a table, and the batch of changes that is being written for it. Nothing changes before Flush, and
// then all of the batch does or nothing.
//
// The library has such a thing too. It asks the kernel to send each rule back and reads that, one system call and many small pieces of
// memory for each: a quarter of the time from the start of the process to the first packet dropped. Here the kernel gets one message and
// gives one answer. So are the counters read, for that is done each second while an attack is idle; what else is read the library reads.
type conn struct {
	fd       int
	batch    []byte
	at       int    // where the message begins that is being written, the last one otherwise
	sequence uint32 // of that message
	ids      uint32 // handed out to sets
	answer   []byte // room for what is read again and again
}

// batchRoom holds the table of an attack on a few addresses.
const batchRoom = 8 << 10

func openConn() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil {
		// An error without the message that it is about, which may be as large as the buffer for answers.
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &conn{fd: fd}, nil
}

// Close closes the socket; the kernel then removes the table that it owns.
func (c *conn) Close() error { return unix.Close(c.fd) }

// Flush sends the batch. It returns nil only when the kernel has confirmed it.
func (c *conn) Flush() error {
	if len(c.batch) == 0 {
		return nil
	}
	first, last := c.firstSequence(), c.sequence
	flags := binary.NativeEndian.Uint16(c.batch[c.at+6:])
	binary.NativeEndian.PutUint16(c.batch[c.at+6:], flags|unix.NLM_F_ACK)
	c.bound(unix.NFNL_MSG_BATCH_END)
	batch := c.batch
	c.batch = c.batch[:0]
	err := c.send(batch)
	if err != nil {
		return fmt.Errorf("send to nf_tables: %w", err)
	}
	return c.answers(first, last)
}

func (c *conn) firstSequence() uint32 { return binary.NativeEndian.Uint32(c.batch[8:]) }

func (c *conn) send(batch []byte) error {
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	err := unix.Sendto(c.fd, batch, 0, to)
	if !errors.Is(err, unix.EMSGSIZE) {
		return err
	}
	// Root may have as large a buffer as it likes; anybody else what the host allows.
	if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, len(batch)) != nil {
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, len(batch))
	}
	return unix.Sendto(c.fd, batch, 0, to)
}

var errUnconfirmed = errors.New("nf_tables did not confirm the batch")

// answers reads what the kernel said to a batch. It has answered when the send returns. Each message that was refused is named; the last
// one is confirmed also when another one was refused, so all have to be read. What is wrong with the batch as a whole is said of its first.
func (c *conn) answers(first, last uint32) error {
	var refused error
	confirmed := false
	var buffer [4096]byte
	for {
		n, _, err := unix.Recvfrom(c.fd, buffer[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			if refused == nil && !confirmed {
				return errUnconfirmed
			}
			return refused
		case err != nil:
			return fmt.Errorf("read the answer of nf_tables: %w", err)
		}
		for answer := buffer[:n]; len(answer) >= unix.SizeofNlMsghdr+4; {
			size := int(binary.NativeEndian.Uint32(answer))
			sequence := binary.NativeEndian.Uint32(answer[8:])
			if size < unix.SizeofNlMsghdr+4 || size > len(answer) {
				break
			}
			if binary.NativeEndian.Uint16(answer[4:]) == unix.NLMSG_ERROR && sequence-first <= last-first {
				code := int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:]))
				confirmed = confirmed || code == 0 && sequence == last
				if code != 0 && refused == nil {
					refused = fmt.Errorf("%s: %w", changeName(answer[:size]), unix.Errno(-code))
				}
			}
			answer = answer[min(aligned(size), len(answer)):]
		}
	}
}

// changeName says what the message wanted that an error answers: its header follows the code.
func changeName(answer []byte) string {
	if len(answer) < unix.SizeofNlMsghdr+4+6 {
		return "batch"
	}
	names := map[uint16]string{unix.NFT_MSG_NEWTABLE: "new table", unix.NFT_MSG_DELTABLE: "delete table", unix.NFT_MSG_NEWCHAIN: "new chain",
		unix.NFT_MSG_NEWRULE: "new rule", unix.NFT_MSG_NEWSET: "new set", unix.NFT_MSG_NEWSETELEM: "new elements",
		unix.NFT_MSG_DELSETELEM: "delete elements", unix.NFT_MSG_NEWOBJ: "new counter"}
	kind := binary.NativeEndian.Uint16(answer[unix.SizeofNlMsghdr+4+4:])
	if name, ok := names[kind&0xff]; ok && kind>>8 == unix.NFNL_SUBSYS_NFTABLES {
		return name
	}
	return "batch"
}

func aligned(size int) int { return (size + 3) &^ 3 }

// CreateTable makes the table; it must not exist.
func (c *conn) CreateTable(t *nftables.Table) {
	c.begin(unix.NFT_MSG_NEWTABLE, unix.NLM_F_EXCL)
	c.text(unix.NFTA_TABLE_NAME, t.Name)
	c.number(unix.NFTA_TABLE_FLAGS, uint32(t.Flags))
	c.end()
}

// DelTable deletes the table with all that is in it.
func (c *conn) DelTable(t *nftables.Table) {
	c.begin(unix.NFT_MSG_DELTABLE, 0)
	c.text(unix.NFTA_TABLE_NAME, t.Name)
	c.end()
}

// AddSet makes an empty set.
func (c *conn) AddSet(s *nftables.Set) {
	c.ids++
	s.ID = c.ids
	var flags uint32
	for _, flag := range []struct {
		on  bool
		bit uint32
	}{{s.Interval, unix.NFT_SET_INTERVAL}, {s.HasTimeout, unix.NFT_SET_TIMEOUT}, {s.Dynamic, unix.NFT_SET_EVAL}, {s.Concatenation, nftables.NFT_SET_CONCAT}} {
		if flag.on {
			flags |= flag.bit
		}
	}
	c.begin(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	c.text(unix.NFTA_SET_TABLE, s.Table.Name)
	c.text(unix.NFTA_SET_NAME, s.Name)
	c.number(unix.NFTA_SET_FLAGS, flags)
	c.number(unix.NFTA_SET_KEY_TYPE, s.KeyType.GetNFTMagic())
	c.number(unix.NFTA_SET_KEY_LEN, s.KeyType.Bytes)
	c.number(unix.NFTA_SET_ID, s.ID)
	if s.Size > 0 || s.Concatenation {
		description := c.nest(unix.NFTA_SET_DESC)
		if s.Size > 0 {
			c.number(unix.NFTA_SET_DESC_SIZE, s.Size)
		}
		if s.Concatenation {
			fields := c.nest(nftables.NFTA_SET_DESC_CONCAT)
			for _, part := range nftables.ConcatSetTypeElements(s.KeyType) {
				field := c.nest(unix.NFTA_LIST_ELEM)
				c.number(setFieldLen, part.Bytes)
				c.close(field)
			}
			c.close(fields)
		}
		c.close(description)
	}
	if s.Interval {
		c.bytes(unix.NFTA_SET_USERDATA, bigEndianKeys)
	}
	c.end()
}

// setFieldLen is NFTA_SET_FIELD_LEN of the kernel.
const setFieldLen = 1

// bigEndianKeys tells nft how to print the keys of an interval set: attribute 0, four bytes, "big endian".
var bigEndianKeys = []byte{0, 4, 2, 0, 0, 0}

// SetAddElements adds to a set of this batch or of an earlier one.
func (c *conn) SetAddElements(s *nftables.Set, elements []nftables.SetElement) {
	c.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, s, elements)
}

// SetDeleteElements deletes from a set.
func (c *conn) SetDeleteElements(s *nftables.Set, elements []nftables.SetElement) {
	c.elements(unix.NFT_MSG_DELSETELEM, 0, s, elements)
}

// elementsMax bounds one message: the length of an attribute has 16 bits.
const elementsMax = 32 << 10

func (c *conn) elements(kind, flags uint16, s *nftables.Set, elements []nftables.SetElement) {
	for len(elements) > 0 {
		c.begin(kind, flags)
		c.text(unix.NFTA_SET_ELEM_LIST_TABLE, s.Table.Name)
		c.text(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		c.number(unix.NFTA_SET_ELEM_LIST_SET_ID, s.ID)
		list := c.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for len(elements) > 0 && len(c.batch)-list < elementsMax {
			c.element(s, &elements[0])
			elements = elements[1:]
		}
		c.close(list)
		c.end()
	}
}

func (c *conn) element(s *nftables.Set, e *nftables.SetElement) {
	item := c.nest(unix.NFTA_LIST_ELEM)
	if e.IntervalEnd {
		c.number(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	key := c.nest(unix.NFTA_SET_ELEM_KEY)
	c.bytes(unix.NFTA_DATA_VALUE, e.Key)
	c.close(key)
	if s.HasTimeout && e.Timeout != 0 {
		var value [8]byte
		binary.BigEndian.PutUint64(value[:], uint64(e.Timeout.Milliseconds()))
		c.bytes(unix.NFTA_SET_ELEM_TIMEOUT, value[:])
	}
	c.close(item)
}

// FlushSet deletes all elements of a set.
func (c *conn) FlushSet(s *nftables.Set) {
	c.begin(unix.NFT_MSG_DELSETELEM, 0)
	c.text(unix.NFTA_SET_ELEM_LIST_TABLE, s.Table.Name)
	c.text(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	c.end()
}

// AddCounter makes a named counter.
func (c *conn) AddCounter(t *nftables.Table, name string) {
	c.begin(unix.NFT_MSG_NEWOBJ, unix.NLM_F_CREATE)
	c.text(unix.NFTA_OBJ_TABLE, t.Name)
	c.text(unix.NFTA_OBJ_NAME, name)
	c.number(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER)
	data := c.nest(unix.NFTA_OBJ_DATA)
	c.bytes(unix.NFTA_COUNTER_BYTES, make([]byte, 8))
	c.bytes(unix.NFTA_COUNTER_PACKETS, make([]byte, 8))
	c.close(data)
	c.end()
}

// AddChain makes a chain; one with a hook number is entered by the kernel, the others by jumps.
func (c *conn) AddChain(chain *nftables.Chain) {
	c.begin(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	c.text(unix.NFTA_CHAIN_TABLE, chain.Table.Name)
	c.text(unix.NFTA_CHAIN_NAME, chain.Name)
	if chain.Hooknum != nil {
		hook := c.nest(unix.NFTA_CHAIN_HOOK)
		c.number(unix.NFTA_HOOK_HOOKNUM, uint32(*chain.Hooknum))
		c.number(unix.NFTA_HOOK_PRIORITY, uint32(*chain.Priority))
		c.close(hook)
		c.number(unix.NFTA_CHAIN_POLICY, uint32(*chain.Policy))
		c.text(unix.NFTA_CHAIN_TYPE, string(chain.Type))
	}
	c.end()
}

// AddRule adds a rule at the end of its chain.
func (c *conn) AddRule(t *nftables.Table, chain string, exprs []expr.Any) error {
	c.begin(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	c.text(unix.NFTA_RULE_TABLE, t.Name)
	c.text(unix.NFTA_RULE_CHAIN, chain)
	list := c.nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, e := range exprs {
		data, err := expr.Marshal(byte(t.Family), e)
		if err != nil {
			return fmt.Errorf("rule of %s: %w", chain, err)
		}
		item := c.nest(unix.NFTA_LIST_ELEM)
		c.batch = append(c.batch, data...)
		c.close(item)
	}
	c.close(list)
	c.end()
	return nil
}

// The grammar of netlink: a message is a header and attributes, an attribute a length, a type and data on a multiple of four bytes.

// begin starts a message of nf_tables, and the batch before the first one.
func (c *conn) begin(kind, flags uint16) {
	if len(c.batch) == 0 {
		if cap(c.batch) == 0 {
			c.batch = make([]byte, 0, batchRoom)
		}
		c.bound(unix.NFNL_MSG_BATCH_BEGIN)
	}
	c.header(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, unix.NFPROTO_INET, 0)
}

// bound writes the begin or the end of a batch.
func (c *conn) bound(kind uint16) {
	c.header(kind, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	c.end()
}

func (c *conn) header(kind, flags uint16, family byte, resource uint16) {
	c.at = len(c.batch)
	c.sequence++
	c.batch = binary.NativeEndian.AppendUint32(c.batch, 0) // the length, written by end
	c.batch = binary.NativeEndian.AppendUint16(c.batch, kind)
	c.batch = binary.NativeEndian.AppendUint16(c.batch, unix.NLM_F_REQUEST|flags)
	c.batch = binary.NativeEndian.AppendUint32(c.batch, c.sequence)
	c.batch = append(c.batch, 0, 0, 0, 0, family, unix.NFNETLINK_V0)
	c.batch = binary.BigEndian.AppendUint16(c.batch, resource)
}

func (c *conn) end() { binary.NativeEndian.PutUint32(c.batch[c.at:], uint32(len(c.batch)-c.at)) }

func (c *conn) nest(kind uint16) (at int) {
	at = len(c.batch)
	c.batch = binary.NativeEndian.AppendUint16(c.batch, 0) // the length, written by close
	c.batch = binary.NativeEndian.AppendUint16(c.batch, kind|unix.NLA_F_NESTED)
	return at
}

// close ends a nested attribute. What is in it ends on a multiple of four bytes, and so does it.
func (c *conn) close(at int) {
	binary.NativeEndian.PutUint16(c.batch[at:], uint16(len(c.batch)-at))
}

func (c *conn) bytes(kind uint16, value []byte) {
	c.batch = binary.NativeEndian.AppendUint16(c.batch, uint16(unix.NLA_HDRLEN+len(value)))
	c.batch = binary.NativeEndian.AppendUint16(c.batch, kind)
	c.batch = append(c.batch, value...)
	c.pad()
}

func (c *conn) text(kind uint16, value string) {
	c.batch = binary.NativeEndian.AppendUint16(c.batch, uint16(unix.NLA_HDRLEN+len(value)+1))
	c.batch = binary.NativeEndian.AppendUint16(c.batch, kind)
	c.batch = append(append(c.batch, value...), 0)
	c.pad()
}

func (c *conn) number(kind uint16, value uint32) {
	c.batch = binary.NativeEndian.AppendUint16(c.batch, unix.NLA_HDRLEN+4)
	c.batch = binary.NativeEndian.AppendUint16(c.batch, kind)
	c.batch = binary.BigEndian.AppendUint32(c.batch, value)
}

func (c *conn) pad() {
	for len(c.batch)%4 != 0 {
		c.batch = append(c.batch, 0)
	}
}
