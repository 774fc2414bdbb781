package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strconv"

	"go.yaml.in/yaml/v4"

	"firedrill/internal/drill"
)

// defaultNetwork is what a topology file that names none gets.
const defaultNetwork = "10.77.0.0/16"

// The topology file, field by field; see Topology and Host for what they mean.
type (
	topologyFile struct {
		Lab       string      `yaml:"lab,required"`
		Network   networkWord `yaml:"network"`
		HostsFile *bool       `yaml:"hosts_file"`
		Hosts     []hostFile  `yaml:"hosts,required,keyed"`
	}
	hostFile struct {
		Name      string        `yaml:"-"`
		Hostname  string        `yaml:"hostname"`
		Address   netip.Addr    `yaml:"address,required"`
		Aliases   []string      `yaml:"aliases"`
		Resolver  []netip.Addr  `yaml:"resolver"`
		SSH       sshWord       `yaml:"ssh"`
		Trust     []string      `yaml:"trust"`
		BootDelay drill.Seconds `yaml:"boot_delay"`
		Files     []fileFile    `yaml:"files,keyed"`
		Mounts    []mountFile   `yaml:"mounts"`
		Services  []serviceFile `yaml:"services,keyed"`
		Needs     []string      `yaml:"needs"`
	}
	fileFile struct {
		Name   string   `yaml:"-"`
		Text   *string  `yaml:"text"`
		Source string   `yaml:"source"`
		Mode   modeWord `yaml:"mode"`
	}
	mountFile struct {
		Source   string `yaml:"source,required"`
		Target   string `yaml:"target,required"`
		ReadOnly bool   `yaml:"read_only"`
	}
	serviceFile struct {
		Name      string            `yaml:"-"`
		Run       string            `yaml:"run,required"`
		User      string            `yaml:"user"`
		Env       map[string]string `yaml:"env"`
		Directory string            `yaml:"directory"`
		Restart   string            `yaml:"restart"`
		Enabled   *bool             `yaml:"enabled"`
	}
)

// FileForm is what a topology file is read into, for its JSON Schema.
func FileForm() any { return topologyFile{} }

// Values that read themselves.
type (
	networkWord struct{ prefix netip.Prefix }
	sshWord     struct{ server SSHServer }
	modeWord    struct{ mode fs.FileMode }
)

// DecodeNode reads a network such as 10.77.0.0/16.
func (w *networkWord) DecodeNode(node *yaml.Node) error {
	prefix, err := netip.ParsePrefix(node.Value)
	if err != nil || !prefix.Addr().Is4() || prefix != prefix.Masked() {
		return fmt.Errorf("%q is not an IPv4 network; write one such as %s", node.Value, defaultNetwork)
	}
	w.prefix = prefix
	return nil
}

// JSONSchema says what DecodeNode takes.
func (*networkWord) JSONSchema() map[string]any {
	return map[string]any{"type": "string", "pattern": `^[0-9.]+/[0-9]+$`}
}

// DecodeNode reads true, false, built-in or openssh.
func (w *sshWord) DecodeNode(node *yaml.Node) error {
	switch node.Value {
	case "true", string(SSHBuiltIn):
		w.server = SSHBuiltIn
	case "false":
		w.server = SSHNone
	case string(SSHOpenSSH):
		w.server = SSHOpenSSH
	default:
		return fmt.Errorf("%q is no SSH server; write true, false or openssh", node.Value)
	}
	return nil
}

// JSONSchema says what DecodeNode takes.
func (*sshWord) JSONSchema() map[string]any {
	return map[string]any{"enum": []any{true, false, string(SSHBuiltIn), string(SSHOpenSSH), "true", "false"}}
}

// DecodeNode reads permissions such as "0600".
func (w *modeWord) DecodeNode(node *yaml.Node) error {
	mode, err := strconv.ParseUint(node.Value, 8, 32)
	if err != nil || mode > 0o777 {
		return fmt.Errorf("%q is not a file mode; write one such as \"0600\"", node.Value)
	}
	w.mode = fs.FileMode(mode)
	return nil
}

// JSONSchema says what DecodeNode takes.
func (*modeWord) JSONSchema() map[string]any {
	return map[string]any{"type": []string{"string", "integer"}, "pattern": "^[0-7]+$"}
}

// Parse reads a topology file. name is what the file is called in errors; relative paths in it are below its directory. Mistakes are
// one drill.Error of kind Invalid that names all of them with line and column.
func Parse(text []byte, name string) (Topology, error) {
	var file topologyFile
	if err := drill.Decode(text, name, &file); err != nil {
		return Topology{}, &drill.Error{Op: "lab", Kind: drill.Invalid, Err: errors.Unwrap(err)}
	}
	t := file.topology()
	t.Directory = filepath.Dir(name)
	problems := t.problems()
	if len(problems) == 0 {
		return t, nil
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil { // it was read before
		return Topology{}, fmt.Errorf("lab: %s: %w", name, err)
	}
	var mistakes []error
	for _, p := range problems {
		line, column := locate(document.Content[0], p.path)
		mistakes = append(mistakes, drill.Mistake{File: name, Line: line, Column: column, Path: p.place(), Problem: p.text})
	}
	return Topology{}, &drill.Error{Op: "lab", Kind: drill.Invalid, Err: errors.Join(mistakes...)}
}

// locate finds the place of a path in the file, or of what is nearest above it.
func locate(node *yaml.Node, path []string) (line, column int) {
	line, column = node.Line, node.Column
	for _, step := range path {
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		var next *yaml.Node
		switch index, err := strconv.Atoi(step); {
		case node.Kind == yaml.SequenceNode && err == nil && index < len(node.Content):
			next = node.Content[index]
		case node.Kind == yaml.MappingNode:
			for i := 0; i+1 < len(node.Content); i += 2 {
				if node.Content[i].Value == step {
					line, column = node.Content[i].Line, node.Content[i].Column
					next = node.Content[i+1]
				}
			}
		}
		if next == nil {
			return line, column
		}
		node = next
		if node.Kind == yaml.ScalarNode {
			line, column = node.Line, node.Column
		}
	}
	return line, column
}

func (f topologyFile) topology() Topology {
	t := Topology{Name: f.Lab, Network: f.Network.prefix, Bare: f.HostsFile != nil && !*f.HostsFile}
	for _, h := range f.Hosts {
		t.Hosts = append(t.Hosts, h.host())
	}
	t.fillDefaults()
	return t
}

func (f hostFile) host() Host {
	h := Host{
		Name: f.Name, Hostname: f.Hostname, Address: f.Address, Aliases: f.Aliases, Resolver: f.Resolver, SSH: f.SSH.server,
		Trust: f.Trust, BootDelay: f.BootDelay.Duration(), Needs: f.Needs,
	}
	for _, file := range f.Files {
		converted := File{Path: file.Name, Source: file.Source, Mode: file.Mode.mode}
		if file.Text != nil {
			converted.Text = *file.Text
		}
		h.Files = append(h.Files, converted)
	}
	for _, m := range f.Mounts {
		h.Mounts = append(h.Mounts, Mount(m))
	}
	for _, s := range f.Services {
		h.Services = append(h.Services, Service{
			Name: s.Name, Run: s.Run, User: s.User, Env: s.Env, Directory: s.Directory, Restart: s.Restart,
			Disabled: s.Enabled != nil && !*s.Enabled,
		})
	}
	return h
}

// fillDefaults fills what the file may leave out.
func (t *Topology) fillDefaults() {
	if !t.Network.IsValid() {
		t.Network = netip.MustParsePrefix(defaultNetwork)
	}
	for i := range t.Hosts {
		h := &t.Hosts[i]
		if h.Hostname == "" {
			h.Hostname = h.Name
		}
		for j := range h.Files {
			if h.Files[j].Mode == 0 {
				h.Files[j].Mode = 0o644
			}
		}
		for j := range h.Services {
			if h.Services[j].Restart == "" {
				h.Services[j].Restart = RestartAlways
			}
		}
	}
}
