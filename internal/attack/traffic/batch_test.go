package traffic

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// answer is what the kernel says to the message with this number: 0 confirms it.
func answer(sequence uint32, code unix.Errno) []byte {
	const size = unix.SizeofNlMsghdr + 4 + unix.SizeofNlMsghdr
	text := make([]byte, size)
	binary.NativeEndian.PutUint32(text, size)
	binary.NativeEndian.PutUint16(text[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(text[8:], sequence)
	binary.NativeEndian.PutUint32(text[unix.SizeofNlMsghdr:], uint32(-int32(code)))
	binary.NativeEndian.PutUint16(text[unix.SizeofNlMsghdr+4+4:], unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE)
	return text
}

// Only a confirmed batch is in force. What is planted here, an answer that is missing, of another batch, cut short, or a refusal before the
// confirmation, must not be taken for one.
func TestBatchIsInForceOnlyWhenConfirmed(t *testing.T) {
	const first, last = 10, 14
	short := answer(last, 0)
	binary.NativeEndian.PutUint32(short, 4)
	for name, c := range map[string]struct {
		heard [][]byte
		want  error
	}{
		"confirmed":                  {[][]byte{answer(last, 0)}, nil},
		"silence":                    {nil, errUnconfirmed},
		"another message confirmed":  {[][]byte{answer(last-1, 0)}, errUnconfirmed},
		"an earlier batch confirmed": {[][]byte{answer(first-1, 0)}, errUnconfirmed},
		"cut short":                  {[][]byte{short}, errUnconfirmed},
		"less than a header":         {[][]byte{{1, 2, 3}}, errUnconfirmed},
		"a rule refused":             {[][]byte{answer(12, unix.ENOENT), answer(last, 0)}, unix.ENOENT},
		"two in one read":            {[][]byte{append(answer(12, unix.EEXIST), answer(last, 0)...)}, unix.EEXIST},
		"the whole batch refused":    {[][]byte{answer(first, unix.EPERM)}, unix.EPERM},
	} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range c.heard {
			if _, err := unix.Write(pair[1], text); err != nil {
				t.Fatal(err)
			}
		}
		got := (&conn{fd: pair[0]}).answers(first, last)
		if !errors.Is(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: %v, and not %v", name, got, c.want)
		}
		_, _ = unix.Close(pair[0]), unix.Close(pair[1])
	}
}
