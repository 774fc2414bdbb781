package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/deploy/remote/sshconfig"
	"firedrill/internal/drill"
)

// jumpsMax bounds a chain of jump hosts; a longer one is a loop in the configuration.
const jumpsMax = 8

// environment is what ssh(1) would find around the user: configuration files, home directory, name.
type environment struct {
	options Options
	home    string
	user    string
	files   []sshconfig.File
	execs   map[string]bool // answers of Match exec: asked once for all hops
}

// hop is one SSH connection on the way to a host, with everything resolved.
type hop struct {
	name         string   // in errors
	address      string   // host without port: what is dialled, and what %h stands for
	dial         string   // host:port
	user         string   //
	network      string   // tcp, tcp4 or tcp6
	bind         net.Addr // our end; nil for any
	command      string   // ProxyCommand with its tokens expanded; "" for none
	timeout      time.Duration
	keepAlive    time.Duration
	aliases      []string // host:port names to look up in known_hosts, the first that is known counts
	knownHosts   []string // files
	revoked      string   // file of keys that are never taken, RevokedHostKeys
	strict       string   // StrictHostKeyChecking, for what an error says
	identities   []string // private key files, in order of preference
	certificates []string // CertificateFile
	explicit     bool     // the identities were named by someone: complain when one cannot be used
	only         bool     // offer no other key of the agent
	agent        string   // socket, "" for none
	passphrase   Secret   // of encrypted key files
	algorithms   algorithms
	offered      *offers // which keys were offered, for the error
}

// commandLine is what a person types to try the same.
func (h hop) commandLine() string {
	_, port, err := net.SplitHostPort(h.dial)
	if err != nil {
		return h.dial
	}
	return fmt.Sprintf("-p %s %s@%s", port, h.user, h.address)
}

func load(options Options) (*environment, error) {
	e := &environment{options: options, home: options.Home, execs: make(map[string]bool)}
	if e.home == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "/" // a daemon without HOME has no personal files, which is no reason to stop
		}
		e.home = home
	}
	if e.user = os.Getenv("USER"); e.user == "" {
		e.user = "root"
	}
	if current, err := user.Current(); err == nil {
		e.user = current.Username
	}
	if options.ConfigFiles == nil {
		e.files = []sshconfig.File{{Name: filepath.Join(e.home, ".ssh", "config"), User: true, Safe: true}, {Name: "/etc/ssh/ssh_config"}}
	}
	for _, name := range options.ConfigFiles {
		e.files = append(e.files, sshconfig.File{Name: name, User: true})
	}
	return e, nil
}

// spoken is what the configuration says of a host under each of its names; the first that states a setting counts.
type spoken []*sshconfig.Settings

func (s spoken) get(keyword string) string { return first(s.all(keyword)...) }

func (s spoken) all(keyword string) []string {
	for _, settings := range s {
		if values := settings.All(keyword); len(values) > 0 {
			return values
		}
	}
	return nil
}

// ask evaluates the configuration for a host. jump is a chain that wins over what it says.
func (e *environment) ask(ctx context.Context, host drill.Host, jump string) (spoken, error) {
	var all spoken
	_, port := splitAddress(host.SSH.Address)
	for _, name := range lookupNames(host) {
		settings, err := sshconfig.Resolve(ctx, sshconfig.Query{
			Host: name, User: host.SSH.User, Port: port, Jump: jump, Files: e.files, Home: e.home, LocalUser: e.user, Exec: e.exec,
		})
		if err != nil {
			return nil, &drill.Error{Op: "read SSH configuration", Host: host.Name, Kind: drill.Invalid, Err: err,
				Hint: fmt.Sprintf("Mend it (ssh -G %s shows what ssh makes of it), or state ssh.address, ssh.user and ssh.identity in the service file and move the rest out of the way.", quote(name))}
		}
		all = append(all, settings)
	}
	return all, nil
}

// exec runs the command of a Match exec once, however many hops and names ask.
func (e *environment) exec(ctx context.Context, command string) (bool, error) {
	if held, ok := e.execs[command]; ok {
		return held, nil
	}
	holds, err := sshconfig.Execute(ctx, command, withoutSecrets(os.Environ()))
	if err == nil {
		e.execs[command] = holds
	}
	return holds, err
}

// route lists the hops to a host, jump hosts first. jump is a chain that wins over the configuration; each jump host is looked up like any host.
func (e *environment) route(ctx context.Context, host drill.Host, jump string, depth int) ([]hop, error) {
	said, err := e.ask(ctx, host, jump)
	if err != nil {
		return nil, err
	}
	target, err := e.target(host, said)
	if err != nil {
		return nil, err
	}
	chain := said.get("proxyjump")
	if isNone(chain) {
		target.command, err = e.proxyCommand(target, said)
		return []hop{target}, err
	}
	if depth == jumpsMax {
		return nil, &drill.Error{Op: "connect", Host: host.Name, Kind: drill.Invalid, Err: fmt.Errorf("ProxyJump %q leads over more than %d hosts", chain, jumpsMax),
			Hint: "Take the jump hosts themselves out of the block: Host * !jump-host."}
	}
	if chain, err = said[0].ProxyTokens(chain, target.address); err != nil {
		return nil, &drill.Error{Op: "read SSH configuration", Host: host.Name, Kind: drill.Invalid, Err: fmt.Errorf("ProxyJump %q: %w", chain, err)}
	}
	specs := strings.Split(chain, ",")
	last := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(specs[len(specs)-1]), "ssh://"), "/")
	ssh := drill.SSH{Address: last, KnownHosts: host.SSH.KnownHosts}
	if at := strings.LastIndex(last, "@"); at >= 0 {
		ssh.User, ssh.Address = last[:at], last[at+1:]
	}
	before, err := e.route(ctx, drill.Host{Name: last, SSH: ssh}, strings.Join(specs[:len(specs)-1], ","), depth+1)
	if err != nil {
		return nil, err
	}
	if jumpHop := before[len(before)-1]; jumpHop.dial == target.dial {
		return nil, &drill.Error{Op: "connect", Host: host.Name, Kind: drill.Invalid, Err: fmt.Errorf("ProxyJump %q leads from %s to itself", chain, target.dial),
			Hint: "Take the jump host itself out of the block: Host * !jump-host."}
	}
	return append(before, target), nil
}

func isNone(value string) bool { return value == "" || strings.EqualFold(value, "none") }

func (e *environment) proxyCommand(h hop, said spoken) (string, error) {
	command := said.get("proxycommand")
	if isNone(command) {
		return "", nil
	}
	if strings.EqualFold(said.get("proxyusefdpass"), "yes") {
		return "", &drill.Error{Op: "connect", Host: h.name, Kind: drill.Unsupported, Err: fmt.Errorf("the SSH configuration asks for ProxyUseFdpass with %q", command),
			Hint: "Use a ProxyCommand that carries the connection itself (nc without -F), or ProxyJump."}
	}
	for _, settings := range said {
		if settings.Get("proxycommand") != command {
			continue
		}
		expanded, err := settings.ProxyTokens(command, h.address)
		if err != nil {
			return "", &drill.Error{Op: "read SSH configuration", Host: h.name, Kind: drill.Invalid, Err: fmt.Errorf("ProxyCommand %q: %w", command, err)}
		}
		return expanded, nil
	}
	return "", nil
}

// lookupNames are the names under which a configuration file may speak of the host: the address that is given for SSH, else the host's
// name and its address.
func lookupNames(host drill.Host) []string {
	if host.SSH.Address != "" {
		name, _ := splitAddress(host.SSH.Address)
		return []string{name}
	}
	var names []string
	if host.Name != "" {
		names = append(names, host.Name)
	}
	if host.Address.IsValid() {
		names = append(names, host.Address.String())
	}
	return names
}

func (e *environment) target(host drill.Host, said spoken) (hop, error) {
	names := lookupNames(host)
	address, port := splitAddress(host.SSH.Address)
	if address == "" && host.Address.IsValid() {
		address = host.Address.String()
	}
	for i, settings := range said {
		if !strings.EqualFold(settings.Host, names[i]) { // by HostName, or made canonical
			address = settings.Host
			break
		}
	}
	if address = first(address, host.Name); address == "" {
		return hop{}, &drill.Error{Op: "connect", Host: host.Name, Kind: drill.Invalid, Err: errors.New("no address"), Hint: "State the host's address, or ssh.address."}
	}
	port = first(port, said.get("port"), "22")
	h := hop{
		name: first(host.Name, address), address: address, dial: net.JoinHostPort(address, port), offered: new(offers),
		user: first(host.SSH.User, said.get("user"), e.user), strict: said.get("stricthostkeychecking"), passphrase: e.options.Passphrase,
	}
	h.aliases = []string{h.dial}
	if alias := said.get("hostkeyalias"); alias != "" {
		h.aliases = []string{net.JoinHostPort(alias, "22")}
	} else {
		if host.Name != "" && host.Name != address && !strings.ContainsAny(host.Name, "@:") {
			h.aliases = append(h.aliases, net.JoinHostPort(host.Name, port))
		}
		if port != "22" { // an entry without a port stands for every port that has none of its own
			h.aliases = append(h.aliases, net.JoinHostPort(address, "22"))
		}
	}
	for _, fill := range []func(*hop, drill.Host, spoken) error{e.reach, e.trust, e.identities} {
		if err := fill(&h, host, said); err != nil {
			return hop{}, &drill.Error{Op: "read SSH configuration", Host: host.Name, Kind: drill.Invalid, Err: err,
				Hint: fmt.Sprintf("Mend the setting; ssh -G %s shows where ssh takes it from.", quote(names[0]))}
		}
	}
	return h, nil
}

// reach settles how the connection is made and kept.
func (e *environment) reach(h *hop, _ drill.Host, said spoken) error {
	var err error
	if h.network, err = network(said.get("addressfamily")); err != nil {
		return err
	}
	if h.bind, err = bindTo(h.network, said.get("bindaddress"), said.get("bindinterface")); err != nil {
		return err
	}
	stated, err := span("ConnectTimeout", said.get("connecttimeout"))
	if err != nil {
		return err
	}
	// Who writes a ConnectTimeout for a slow host means it, whatever a caller allows for hosts in general.
	if h.timeout = e.options.ConnectTimeout; stated > 0 {
		h.timeout = stated
	}
	if h.timeout == 0 {
		h.timeout = connectTimeout
	}
	alive, err := span("ServerAliveInterval", said.get("serveraliveinterval"))
	if err != nil {
		return err
	}
	if h.keepAlive = e.options.KeepAlive; h.keepAlive == 0 {
		h.keepAlive = keepAliveEvery
	}
	if alive > 0 { // a longer one would let a drill wait for a dead host
		h.keepAlive = min(alive, h.keepAlive)
	}
	h.algorithms, err = algorithmsOf(said)
	return err
}

func network(family string) (string, error) {
	switch strings.ToLower(family) {
	case "", "any":
		return "tcp", nil
	case "inet":
		return "tcp4", nil
	case "inet6":
		return "tcp6", nil
	default:
		return "", fmt.Errorf("AddressFamily %q is not any, inet or inet6", family)
	}
}

// bindTo finds our end of the connection.
func bindTo(network, address, device string) (net.Addr, error) {
	if address != "" && address != "*" {
		bound, err := net.ResolveTCPAddr(network, net.JoinHostPort(address, "0"))
		if err != nil {
			return nil, fmt.Errorf("BindAddress %s: %w", address, err)
		}
		return bound, nil
	}
	if device == "" {
		return nil, nil
	}
	found, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("BindInterface %s: %w", device, err)
	}
	addresses, err := found.Addrs()
	if err != nil {
		return nil, fmt.Errorf("BindInterface %s: %w", device, err)
	}
	for _, one := range addresses {
		own, ok := one.(*net.IPNet)
		if ok && own.IP.IsGlobalUnicast() && (network != "tcp6" || own.IP.To4() == nil) && (network != "tcp4" || own.IP.To4() != nil) {
			return &net.TCPAddr{IP: own.IP}, nil
		}
	}
	return nil, fmt.Errorf("BindInterface %s has no address that fits", device)
}

// span reads a time as ssh(1) writes it: 90, 90s, 1m30s, 1h. none and "" are 0.
func span(keyword, text string) (time.Duration, error) {
	if isNone(text) {
		return 0, nil
	}
	var total time.Duration
	for rest := text; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		number, err := strconv.Atoi(rest[:digits])
		if err != nil || number > 1e6 {
			return 0, fmt.Errorf("%s %q is no time", keyword, text)
		}
		unit := time.Second
		if rest = rest[digits:]; rest != "" {
			units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
			known := false
			if unit, known = units[strings.ToLower(rest[:1])[0]]; !known {
				return 0, fmt.Errorf("%s %q is no time", keyword, text)
			}
			rest = rest[1:]
		}
		total += time.Duration(number) * unit
	}
	return total, nil
}

// trust settles which host keys count.
func (e *environment) trust(h *hop, host drill.Host, said spoken) (err error) {
	if revoked := said.get("revokedhostkeys"); !isNone(revoked) {
		if h.revoked, err = said[0].Path(revoked, h.address); err != nil {
			return err
		}
	}
	if strict := strings.ToLower(h.strict); (strict == "no" || strict == "off") && e.options.Note != nil {
		e.options.Note(fmt.Sprintf("%s: StrictHostKeyChecking %s is not followed: host keys are always checked", h.name, h.strict))
	}
	if said.get("knownhostscommand") != "" && e.options.Note != nil {
		e.options.Note(h.name + ": KnownHostsCommand is not run: only files of known hosts count")
	}
	if host.SSH.KnownHosts != "" {
		name, err := said[0].Path(host.SSH.KnownHosts, h.address)
		h.knownHosts = []string{name}
		return err
	}
	if len(e.options.KnownHosts) > 0 {
		h.knownHosts = e.options.KnownHosts
		return nil
	}
	users, global := said.all("userknownhostsfile"), said.all("globalknownhostsfile")
	if users == nil {
		users = []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"}
	}
	if global == nil {
		global = []string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}
	}
	for _, name := range append(append([]string{}, users...), global...) {
		if isNone(name) || name == os.DevNull {
			continue
		}
		path, err := said[0].Path(name, h.address)
		if err != nil {
			return err
		}
		h.knownHosts = append(h.knownHosts, path)
	}
	return nil
}

// identities settles with which keys to log in.
func (e *environment) identities(h *hop, host drill.Host, said spoken) (err error) {
	if h.agent, err = e.agentSocket(*h, said); err != nil {
		return err
	}
	for _, name := range said.all("certificatefile") {
		if isNone(name) {
			continue
		}
		path, err := said[0].Path(name, h.address)
		if err != nil {
			return err
		}
		h.certificates = append(h.certificates, path)
	}
	if host.SSH.Identity != "" {
		path, err := said[0].Path(host.SSH.Identity, h.address)
		h.identities, h.explicit, h.only = []string{path}, true, true
		return err
	}
	h.only = strings.EqualFold(said.get("identitiesonly"), "yes")
	stated := said.all("identityfile")
	if stated == nil {
		stated = []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"}
	}
	for _, name := range stated {
		if isNone(name) {
			continue
		}
		path, err := said[0].Path(name, h.address)
		if err != nil {
			return err
		}
		h.identities = append(h.identities, path)
	}
	return nil
}

func (e *environment) agentSocket(h hop, said spoken) (string, error) {
	socket := first(e.options.AgentSocket, said.get("identityagent"), "SSH_AUTH_SOCK")
	switch {
	case strings.EqualFold(socket, "none"):
		return "", nil
	case socket == "SSH_AUTH_SOCK":
		return os.Getenv("SSH_AUTH_SOCK"), nil
	case strings.HasPrefix(socket, "$") && !strings.HasPrefix(socket, "${"):
		return os.Getenv(socket[1:]), nil
	default:
		return said[0].Path(socket, h.address)
	}
}

// splitAddress splits "host", "host:port", "[v6]:port" or a bare IPv6 address; port is "" when not stated.
func splitAddress(address string) (host, port string) {
	if host, port, err := net.SplitHostPort(address); err == nil {
		return host, port
	}
	return strings.Trim(address, "[]"), ""
}

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
