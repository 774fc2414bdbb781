package lab

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// keys are a host's SSH keys: its own as a server, and its root's as a client. They live as long as the lab.
type keys struct {
	HostPublic  string `json:"host_public"` // in authorized_keys form, without a comment
	RootPublic  string `json:"root_public"`
	HostPrivate string `json:"host_private,omitempty"` // PEM
	RootPrivate string `json:"root_private,omitempty"`
}

func newKeys(host string) (keys, error) {
	var k keys
	var err error
	if k.HostPublic, k.HostPrivate, err = newKey("host " + host); err != nil {
		return keys{}, err
	}
	if k.RootPublic, k.RootPrivate, err = newKey("root@" + host); err != nil {
		return keys{}, err
	}
	return k, nil
}

func newKey(comment string) (public, private string, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("key of %s: %w", comment, err)
	}
	block, err := ssh.MarshalPrivateKey(priv, comment)
	if err != nil {
		return "", "", fmt.Errorf("key of %s: %w", comment, err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", "", fmt.Errorf("key of %s: %w", comment, err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshPub))), string(pem.EncodeToMemory(block)), nil
}

// public leaves out what other hosts must not know.
func (k keys) public() keys { return keys{HostPublic: k.HostPublic, RootPublic: k.RootPublic} }

// knownHosts is the known_hosts file that every host has: each SSH host by name, hostname and address.
func knownHosts(t Topology, all map[string]keys) string {
	var text strings.Builder
	for _, h := range t.Hosts {
		if h.SSH == SSHNone {
			continue
		}
		names := append(h.names(), h.Address.String(), Address6(h.Address).String())
		fmt.Fprintf(&text, "%s %s\n", strings.Join(names, ","), all[h.Name].HostPublic)
	}
	return text.String()
}

// authorizedKeys is the authorized_keys file of h's root.
func authorizedKeys(h Host, all map[string]keys) string {
	var text strings.Builder
	for _, name := range h.Trust {
		fmt.Fprintf(&text, "%s root@%s\n", all[name].RootPublic, name)
	}
	return text.String()
}

// names are what a host is called, without repetition.
func (h Host) names() []string {
	names := []string{h.Name}
	for _, n := range append([]string{h.Hostname}, h.Aliases...) {
		if n != h.Name && n != "" {
			names = append(names, n)
		}
	}
	return names
}

// hostsFile is /etc/hosts as h sees it.
func hostsFile(t Topology, h Host) string {
	var text strings.Builder
	text.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	for _, other := range t.Hosts {
		if t.Bare && other.Name != h.Name {
			continue
		}
		fmt.Fprintf(&text, "%s %s\n", other.Address, strings.Join(other.names(), " "))
	}
	return text.String()
}

// resolverFile is /etc/resolv.conf of h.
func resolverFile(h Host) string {
	if len(h.Resolver) == 0 {
		return "# this host has no name server\n"
	}
	var text strings.Builder
	for _, r := range h.Resolver {
		fmt.Fprintf(&text, "nameserver %s\n", r)
	}
	return text.String()
}
