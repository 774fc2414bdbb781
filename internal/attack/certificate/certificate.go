package certificate

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "certificate"

const (
	daysDefault = "30"
	daysMax     = 36500
	portDefault = "443"
)

// Kind is the certificate check. Its zero value is ready to use.
type Kind struct{ hooks hooks }

// hooks are the planted bugs of tests.
type hooks struct {
	today    bool // planted: the date is not shifted
	leafOnly bool // planted: only the first certificate is looked at
	deaf     bool // planted: what cannot be reached is fine
	trusting bool // planted: the chain to a root is not looked for
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	length := attack.LengthFlag()
	length.Usage = "seconds that the look may take at most, 1 or more"
	return drill.AttackKind{
		Name:    Name,
		Group:   "state",
		Summary: "Look whether certificates would be expired some days from now; no damage. Exit code 1: one would be",
		Flags: []drill.AttackFlag{
			length,
			{Name: "connect", Short: "c", Type: attack.TypeList, Usage: "TLS endpoints, as shop.example.com or db:5433; the port is 443 unless given"},
			{Name: "file", Short: "f", Type: attack.TypeList, Usage: "PEM files with certificates, the host's own first"},
			{Name: "days", Short: "d", Type: attack.TypeInt, Default: daysDefault, Usage: "days from now", Unit: "d", Range: &drill.Range{Max: daysMax}},
			{Name: "name", Short: "n", Type: attack.TypeString, Usage: "name to ask the endpoint for (SNI), when it is not that of --connect"},
			{Name: "ca", Short: "a", Type: attack.TypeString, Usage: "PEM file with the roots to trust (default: those of this host)"},
		},
		Remains: string(attack.RemainsNothing),
		Needs:   []string{},
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	if err := flags.Check(k.Describe()); err != nil {
		return nil, err
	}
	order := Order{Files: flags.List("file"), ServerName: flags.Text("name", ""), Roots: flags.Text("ca", ""), hooks: k.hooks}
	var err error
	if order.Length, err = flags.Length(); err != nil {
		return nil, attack.Refuse(Name, "write seconds, as -l 60", "%w", err)
	}
	if order.Days, err = strconv.Atoi(flags.Text("days", daysDefault)); err != nil || order.Days < 0 || order.Days > daysMax {
		return nil, attack.Refuse(Name, "write a number of days, as -d 30", "--days=%s: it must be a whole number from 0 to %d", flags.Text("days", ""), daysMax)
	}
	for _, text := range flags.List("connect") {
		endpoint, err := parseEndpoint(text)
		if err != nil {
			return nil, attack.Refuse(Name, "write host or host:port, as shop.example.com:443", "--connect=%s: %w", text, err)
		}
		order.Endpoints = append(order.Endpoints, endpoint)
	}
	if len(order.Endpoints)+len(order.Files) == 0 {
		return nil, attack.Refuse(Name, "name an endpoint, as -c shop.example.com, or a file, as -f /etc/ssl/shop.pem", "there is nothing to look at")
	}
	return order, nil
}

// parseEndpoint adds the port when it is missing.
func parseEndpoint(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port, err = net.SplitHostPort(net.JoinHostPort(text, portDefault))
	}
	if err != nil {
		return "", err
	}
	if number, err := strconv.ParseUint(port, 10, 16); host == "" || err != nil || number == 0 {
		return "", fmt.Errorf("%q is not an endpoint", text)
	}
	return net.JoinHostPort(host, port), nil
}

// Order is a certificate check as a user asks for it.
type Order struct {
	Length     time.Duration // at most
	Endpoints  []string      // host:port
	Files      []string
	Days       int
	ServerName string // empty: the endpoint's host
	Roots      string // file; empty: the host's
	hooks      hooks
}

// Names implements attack.Order. Names are resolved when they are dialled.
func (Order) Names() []string { return nil }

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	o.Endpoints, o.Files = slices.Clone(o.Endpoints), slices.Clone(o.Files)
	return attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length, Steps: []attack.Step{&step{order: o}}}, nil
}
