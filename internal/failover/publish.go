package failover

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"firedrill/internal/drill"
)

// Change is a decided answer on its way to the servers that give it: name servers or load balancers.
type Change struct {
	Name      string
	Addresses []netip.Addr // never empty
	Serial    uint64       // grows with every decision; a server never goes back to a lower one
}

// Served is what one server leads to.
type Served struct {
	Server    string       // what was asked
	Addresses []netip.Addr // sorted
	Serial    uint64       // of the last change that was published there; 0: none that it knows of
	Err       error        // it could not be asked; then nothing above is known
}

// ErrStale says that a server has been given a newer change, or another one of the same serial. What it serves stays.
var ErrStale = errors.New("the change is not newer than the one that is served")

// Valid returns a change with its addresses sorted and each once, or why it cannot be published anywhere.
func (c Change) Valid() (Change, error) {
	c.Addresses = Sorted(c.Addresses)
	problem := ""
	switch {
	case c.Name == "":
		problem = "no name"
	case len(c.Addresses) == 0:
		problem = "no address; a name without an answer is worse than a wrong one"
	case c.Serial == 0:
		problem = "serial 0; serials begin at 1"
	case !slices.ContainsFunc(c.Addresses, func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" }):
		return c, nil
	default:
		problem = fmt.Sprintf("%v holds an address that is no host's", c.Addresses)
	}
	return c, &drill.Error{Op: "publish " + c.Name, Kind: drill.Invalid, Err: errors.New(problem)}
}

// Mark is what a server of others is given to remember a change by, where it can remember one: the serial number and the addresses, without
// spaces, commas and quotes.
func (c Change) Mark() string {
	parts := []string{"serial=" + strconv.FormatUint(c.Serial, 10)}
	for _, address := range c.Addresses {
		parts = append(parts, address.String())
	}
	return strings.Join(parts, "/")
}

// SerialIn returns the serial number of a mark, 0 when there is none.
func SerialIn(mark string) uint64 {
	word, _, _ := strings.Cut(mark, "/")
	number, _ := strings.CutPrefix(word, "serial=")
	serial, _ := strconv.ParseUint(number, 10, 64) // unreadable: as if there were none
	return serial
}

// Follows says whether the change may take the place of the one with a mark: it is newer, or the same. The error wraps ErrStale.
func (c Change) Follows(mark, where string) error {
	if serial := SerialIn(mark); serial > c.Serial || (serial == c.Serial && mark != c.Mark()) {
		return fmt.Errorf("publish %s at %s: serial %d, there is %d: %w", c.Name, where, c.Serial, serial, ErrStale)
	}
	return nil
}

// Sorted returns addresses in order and each once, IPv4 addresses as such.
func Sorted(addresses []netip.Addr) []netip.Addr {
	all := make([]netip.Addr, 0, len(addresses))
	for _, address := range addresses {
		all = append(all, address.Unmap())
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// Leads says whether a server leads to what the change says.
func (s Served) Leads(change Change) bool {
	return s.Err == nil && slices.Equal(s.Addresses, Sorted(change.Addresses))
}
