package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
)

const (
	commandMax = 3 * time.Second // for one command; HAProxy answers between two events
	replyMax   = 4 << 20         // bytes; a backend of a thousand servers takes a tenth of that
)

// The bits of srv_admin_state that keep a server out of rotation; the others say what the configuration file once said. A server in
// maintenance is not checked either.
const (
	inMaintenance = 0x01 | 0x02 | 0x20 | 0x40
	outOfRotation = inMaintenance | 0x08 | 0x10
)

// checkConfigured is the bit of srv_check_state that says that HAProxy checks the server's health.
const checkConfigured = 0x02

// server is one server of the backend.
type server struct {
	name    string
	address netip.Addr
	in      bool // in rotation, as far as operators say
	up      bool // as far as HAProxy's own health check says
	stale   bool // there is such a check, and it does not run now
}

// state is what one HAProxy has of the backend.
type state struct {
	servers []server
	mark    string // of the last change that was published there; empty: none
}

// led returns the addresses in rotation.
func (s state) led() []netip.Addr {
	var all []netip.Addr
	for _, one := range s.servers {
		if one.in {
			all = append(all, one.address)
		}
	}
	return failover.Sorted(all)
}

// anyUp says whether a server at one of the addresses can take traffic.
func (s state) anyUp(addresses []netip.Addr) bool {
	return slices.ContainsFunc(s.servers, func(one server) bool { return one.up && !one.stale && slices.Contains(addresses, one.address) })
}

// variable returns the name of the process variable that holds the mark of a backend: other characters than letters and digits are
// written as numbers.
func variable(backend string) string {
	var name strings.Builder
	name.WriteString("proc.firedrill_")
	for i := range len(backend) {
		switch c := backend[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			name.WriteByte(c)
		default:
			fmt.Fprintf(&name, "_%02x", c)
		}
	}
	return name.String()
}

// command sends one line to the runtime API at a socket and returns the reply.
func command(ctx context.Context, socket, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandMax)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(socket, "/") {
		network = "unix"
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if _, err := conn.Write([]byte(line + "\n")); err != nil {
		return "", err
	}
	reply, err := io.ReadAll(io.LimitReader(conn, replyMax))
	return strings.TrimSpace(string(reply)), err
}

// order sends a command that changes something; a reply that is not empty says why it did not.
func order(ctx context.Context, socket, line string) error {
	reply, err := command(ctx, socket, line)
	switch {
	case err != nil:
		return err
	case strings.Contains(reply, "ermission denied"):
		return &drill.Error{
			Op: line, Host: socket, Kind: drill.Refused, Err: errors.New(reply), Hint: "Give the stats socket of HAProxy: level admin.",
		}
	case reply != "":
		return &drill.Error{Op: line, Host: socket, Kind: drill.Unsupported, Err: errors.New(reply), Hint: "HAProxy 2.5 or later is needed."}
	}
	return nil
}

// read returns what one HAProxy has of the backend.
func read(ctx context.Context, socket, backend string) (state, error) {
	reply, err := command(ctx, socket, "show servers state "+backend)
	if err != nil {
		return state{}, err
	}
	found, err := parseServers(reply)
	if err != nil {
		return state{}, &drill.Error{
			Op: "show servers of " + backend, Host: socket, Kind: drill.Invalid, Err: err, Hint: "Name a backend of that HAProxy whose servers have addresses.",
		}
	}
	reply, err = command(ctx, socket, "get var "+variable(backend))
	if _, value, ok := strings.Cut(reply, "value=<"); ok {
		found.mark, _, _ = strings.Cut(value, ">")
	}
	return found, err
}

// parseServers reads the reply of "show servers state". Columns are found by their names: later versions add some.
func parseServers(reply string) (state, error) {
	lines := strings.Split(reply, "\n")
	if len(lines) < 2 || !strings.HasPrefix(lines[1], "# ") {
		return state{}, fmt.Errorf("it says %q", strings.TrimSpace(lines[0]))
	}
	columns := strings.Fields(lines[1])[1:]
	var found state
	for _, line := range lines[2:] {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		value := func(column string) string {
			if i := slices.Index(columns, column); i >= 0 && i < len(fields) {
				return fields[i]
			}
			return ""
		}
		check, _ := strconv.Atoi(value("srv_check_state")) // old versions do not say it
		admin, adminErr := strconv.Atoi(value("srv_admin_state"))
		operation, operationErr := strconv.Atoi(value("srv_op_state"))
		if err := errors.Join(adminErr, operationErr); err != nil {
			return state{}, err
		}
		address, err := netip.ParseAddr(value("srv_addr"))
		if err != nil {
			continue // a server whose name is not looked up yet, or on a Unix socket: no decision can name it
		}
		found.servers = append(found.servers, server{
			name: value("srv_name"), address: address.Unmap(), in: admin&outOfRotation == 0, up: operation != 0,
			stale: check&checkConfigured != 0 && admin&inMaintenance != 0,
		})
	}
	if len(found.servers) == 0 {
		return state{}, errors.New("it has no server with an address")
	}
	return found, nil
}
