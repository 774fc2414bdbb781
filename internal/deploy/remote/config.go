package remote

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/kevinburke/ssh_config"

	"firedrill/internal/drill"
)

// jumpsMax bounds a chain of jump hosts; a longer one is a loop in the configuration.
const jumpsMax = 8

// environment is what ssh(1) would find around the user: configuration files, home directory, name.
type environment struct {
	options Options
	home    string
	user    string
	configs []*ssh_config.Config // first match wins, over all files
}

// hop is one SSH connection on the way to a host, with everything resolved.
type hop struct {
	name       string   // in errors
	dial       string   // host:port
	user       string   //
	aliases    []string // host:port names to look up in known_hosts, the first that is known counts
	knownHosts []string // files
	identities []string // private key files, in order of preference
	explicit   bool     // the identities were named by someone: complain when one cannot be used
	only       bool     // offer no other key of the agent
	agent      string   // socket, "" for none
	offered    *offers  // which keys were offered, for the error
}

// commandLine is what a person types to try the same.
func (h hop) commandLine() string {
	host, port, err := net.SplitHostPort(h.dial)
	if err != nil {
		return h.dial
	}
	return fmt.Sprintf("-p %s %s@%s", port, h.user, host)
}

func load(options Options) (*environment, error) {
	e := &environment{options: options, home: options.Home}
	if e.home == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "/" // a daemon without HOME has no personal files, which is no reason to stop
		}
		e.home = home
	}
	if e.user = os.Getenv("USER"); e.user == "" {
		e.user = "root"
		if current, err := user.Current(); err == nil {
			e.user = current.Username
		}
	}
	files := options.ConfigFiles
	if files == nil {
		files = []string{filepath.Join(e.home, ".ssh", "config"), "/etc/ssh/ssh_config"}
	}
	for _, name := range files {
		config, err := e.read(name)
		if err != nil {
			return nil, &drill.Error{Op: "read SSH configuration", Kind: drill.Invalid, Err: fmt.Errorf("%s: %w", name, err),
				Hint: "Mend the file, or state ssh.address, ssh.user and ssh.identity in the service file and move the rest out of the way."}
		}
		if config != nil {
			e.configs = append(e.configs, config)
		}
	}
	return e, nil
}

func (e *environment) read(name string) (*ssh_config.Config, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text, passed := withoutConditions(text)
	for _, line := range passed {
		if e.options.Note != nil {
			e.options.Note(fmt.Sprintf("%s: passed over the block %q: only Match host and Match all are understood", name, line))
		}
	}
	return ssh_config.DecodeBytes(text)
}

// withoutConditions blanks the blocks whose condition we do not evaluate (Match exec, user, canonical, ...). Taking such a block as if it
// matched could send a key to the wrong host; passing over it can only make a connection fail, host keys being checked anyway.
func withoutConditions(text []byte) (kept []byte, passed []string) {
	skipping := false
	scanner := bufio.NewScanner(bytes.NewReader(text))
	scanner.Buffer(nil, len(text)+1)
	for scanner.Scan() {
		line := scanner.Text()
		fields := strings.FieldsFunc(strings.TrimSpace(line), func(r rune) bool { return r == ' ' || r == '\t' || r == '=' })
		if len(fields) > 0 {
			switch strings.ToLower(fields[0]) {
			case "host":
				skipping = false
			case "match":
				if skipping = !understood(fields[1:]); skipping {
					passed = append(passed, strings.TrimSpace(line))
				}
			}
		}
		if !skipping {
			kept = append(kept, line...)
		}
		kept = append(kept, '\n') // line numbers in errors stay right
	}
	return kept, passed
}

func understood(criteria []string) bool {
	switch {
	case len(criteria) == 1:
		return strings.EqualFold(criteria[0], "all")
	case len(criteria) == 2:
		return strings.EqualFold(criteria[0], "host")
	default:
		return false
	}
}

// get returns the first value of a keyword for any of the names, as ssh(1) would see it; "" when no file states it.
func (e *environment) get(keyword string, names ...string) string {
	for _, name := range names {
		for _, config := range e.configs {
			if value, err := config.Get(name, keyword); err == nil && value != "" {
				return value
			}
		}
	}
	return ""
}

func (e *environment) getAll(keyword string, names ...string) []string {
	var all []string
	for _, name := range names {
		for _, config := range e.configs {
			if values, err := config.GetAll(name, keyword); err == nil {
				all = append(all, values...)
			}
		}
	}
	return all
}

// route lists the hops to a host, jump hosts first.
func (e *environment) route(host drill.Host) ([]hop, error) {
	target, err := e.target(host)
	if err != nil {
		return nil, err
	}
	names := lookupNames(host)
	jump := e.get("ProxyJump", names...)
	if jump == "" || strings.EqualFold(jump, "none") {
		if command := e.get("ProxyCommand", names...); command != "" && !strings.EqualFold(command, "none") {
			return nil, &drill.Error{Op: "connect", Host: host.Name, Kind: drill.Unsupported,
				Err:  fmt.Errorf("the SSH configuration asks for ProxyCommand %q", command),
				Hint: "Use ProxyJump in place of ProxyCommand, or state ssh.address in the service file."}
		}
		return []hop{target}, nil
	}
	var route []hop
	for _, spec := range strings.Split(jump, ",") {
		if len(route) == jumpsMax {
			return nil, &drill.Error{Op: "connect", Host: host.Name, Kind: drill.Invalid, Err: fmt.Errorf("ProxyJump %q has more than %d hosts", jump, jumpsMax)}
		}
		spec = strings.TrimPrefix(strings.TrimSpace(spec), "ssh://")
		ssh := drill.SSH{Address: spec, KnownHosts: host.SSH.KnownHosts}
		if name, rest, ok := strings.Cut(spec, "@"); ok {
			ssh.User, ssh.Address = name, rest
		}
		jumpHop, err := e.target(drill.Host{Name: spec, SSH: ssh})
		if err != nil {
			return nil, err
		}
		route = append(route, jumpHop)
	}
	return append(route, target), nil
}

// lookupNames are the names under which a configuration file may speak of the host: the address that is given for SSH, else the host's
// name and its address.
func lookupNames(host drill.Host) []string {
	if host.SSH.Address != "" {
		name, _ := splitAddress(host.SSH.Address)
		return []string{name}
	}
	names := []string{host.Name}
	if host.Address.IsValid() {
		names = append(names, host.Address.String())
	}
	return names
}

func (e *environment) target(host drill.Host) (hop, error) {
	names := lookupNames(host)
	address, port := splitAddress(host.SSH.Address)
	configured := e.get("HostName", names...)
	switch {
	case configured != "":
		address = strings.ReplaceAll(configured, "%h", names[0])
	case address == "" && host.Address.IsValid():
		address = host.Address.String()
	case address == "":
		address = host.Name
	}
	if address == "" {
		return hop{}, &drill.Error{Op: "connect", Host: host.Name, Kind: drill.Invalid, Err: errors.New("no address"), Hint: "State the host's address, or ssh.address."}
	}
	port = first(port, e.get("Port", names...), "22")
	h := hop{
		name: first(host.Name, address), dial: net.JoinHostPort(address, port), offered: new(offers),
		user: first(host.SSH.User, e.get("User", names...), e.user),
	}
	h.aliases = []string{h.dial}
	if alias := e.get("HostKeyAlias", names...); alias != "" {
		h.aliases = []string{net.JoinHostPort(alias, "22")}
	} else if host.Name != "" && host.Name != address && !strings.ContainsAny(host.Name, "@:") {
		h.aliases = append(h.aliases, net.JoinHostPort(host.Name, port))
	}
	h.knownHosts = e.knownHosts(host, names)
	e.identities(&h, host, names)
	h.agent = e.agentSocket(names)
	return h, nil
}

func (e *environment) knownHosts(host drill.Host, names []string) []string {
	if host.SSH.KnownHosts != "" {
		return []string{e.expand(host.SSH.KnownHosts)}
	}
	if len(e.options.KnownHosts) > 0 {
		return e.options.KnownHosts
	}
	var files []string
	users := strings.Fields(e.get("UserKnownHostsFile", names...))
	if len(users) == 0 {
		users = []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"}
	}
	for _, name := range append(users, "/etc/ssh/ssh_known_hosts") {
		if name != "none" && name != os.DevNull {
			files = append(files, e.expand(name))
		}
	}
	return files
}

func (e *environment) identities(h *hop, host drill.Host, names []string) {
	if host.SSH.Identity != "" {
		h.identities, h.explicit, h.only = []string{e.expand(host.SSH.Identity)}, true, true
		return
	}
	h.only = strings.EqualFold(e.get("IdentitiesOnly", names...), "yes")
	for _, name := range e.getAll("IdentityFile", names...) {
		if name != "none" {
			h.identities = append(h.identities, e.expand(name))
		}
	}
	if len(h.identities) == 0 {
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			h.identities = append(h.identities, filepath.Join(e.home, ".ssh", name))
		}
	}
}

func (e *environment) agentSocket(names []string) string {
	socket := first(e.options.AgentSocket, e.get("IdentityAgent", names...), os.Getenv("SSH_AUTH_SOCK"))
	if strings.EqualFold(socket, "none") {
		return ""
	}
	if socket == "SSH_AUTH_SOCK" {
		return os.Getenv("SSH_AUTH_SOCK")
	}
	return e.expand(strings.TrimPrefix(socket, "$"))
}

func (e *environment) expand(name string) string {
	name = strings.Trim(name, `"`)
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		return filepath.Join(e.home, rest)
	}
	if rest, ok := strings.CutPrefix(name, "%d/"); ok {
		return filepath.Join(e.home, rest)
	}
	return name
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
