package lab

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// Options are what Up may be told besides the topology. The zero value is useful.
type Options struct {
	Binary   string            // program that hosts find as "firedrill" in PATH; default: the running one
	Listen   bool              // let Attach of the same user find the lab by its name
	Progress func(line string) // called for each step of Up, never at the same time twice; may be nil
}

// Cmd is a program to run on a host. Args[0] is looked up in the host's PATH.
type Cmd struct {
	Args           []string
	Env            []string // KEY=value, added to the host's environment
	Dir            string   // default /root
	User           string   // default root; others only in a lab that root made
	Stdin          io.Reader
	Stdout, Stderr io.Writer        // nil discards; an *os.File is handed over as it is
	TTY            bool             // on a pseudo-terminal of the host: Stdout gets everything
	Signals        <-chan os.Signal // each is sent once to the program's process group
}

// HostStatus is what is known of a host.
type HostStatus struct {
	Name     string          `json:"name"`
	Hostname string          `json:"hostname"`
	Address  string          `json:"address"`
	State    HostState       `json:"state"`
	BootID   string          `json:"boot_id,omitempty"`
	Boots    int             `json:"boots"`
	Since    time.Time       `json:"since"` // of State
	Services []ServiceStatus `json:"services,omitempty"`
	Reason   string          `json:"reason,omitempty"` // why it is off
}

// HostState is up, off, booting or rebooting.
type HostState string

// The states of a host.
const (
	HostBooting   HostState = "booting"
	HostUp        HostState = "up"
	HostRebooting HostState = "rebooting" // dark for its boot delay
	HostOff       HostState = "off"
)

// ServiceStatus is what the init knows of a service.
type ServiceStatus struct {
	Name     string    `json:"name"`
	State    string    `json:"state"` // active, inactive, failed, restarting
	PID      int       `json:"pid,omitempty"`
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"`         // by itself, not by order
	Exit     string    `json:"exit,omitempty"` // how its program ended last
}

var errNotBuilt = errors.New("lab: not built yet")

// Lab is a lab that is up. Its methods may be called at the same time.
type Lab struct{}

// Up makes the lab and returns when every host is up and its services are started. The lab dies with the calling process, or by Down; ctx
// bounds Up alone. Where the kernel allows no namespaces the error is a drill.Error of kind Unsupported with the command that helps.
func Up(ctx context.Context, t Topology, o Options) (*Lab, error) { return nil, errNotBuilt }

// Attach finds a lab of the same user that was made with Options.Listen.
func Attach(ctx context.Context, name string) (*Lab, error) { return nil, errNotBuilt }

// Down ends the lab and returns when no process of it is left. It may be called again.
func (l *Lab) Down(ctx context.Context) error { return errNotBuilt }

// Done is closed when the lab has ended, by Down or otherwise.
func (l *Lab) Done() <-chan struct{} { return nil }

// Exec runs a program on the host, as a child of the host's init, and returns its exit code, 128+n if signal n ended it. The program dies
// with the host, which is an error of kind Unreachable, and with ctx. A program that is not there gives 127 and an error.
func (l *Lab) Exec(ctx context.Context, host string, c Cmd) (int, error) { return 0, errNotBuilt }

// Boot starts a host that is off or dark and returns when it is up. A host that is up already stays so.
func (l *Lab) Boot(ctx context.Context, host string) error { return errNotBuilt }

// PowerOff is a power cut: the cable first, so that no connection is closed properly, then everything at once.
func (l *Lab) PowerOff(ctx context.Context, host string) error { return errNotBuilt }

// Restart stops a service of the host and starts it again.
func (l *Lab) Restart(ctx context.Context, host, service string) error { return errNotBuilt }

// Status tells of every host, in the order of the topology.
func (l *Lab) Status(ctx context.Context) ([]HostStatus, error) { return nil, errNotBuilt }

// WriteFile writes a file on the host, which must be up. Directories are made as needed.
func (l *Lab) WriteFile(ctx context.Context, host, path string, text []byte, mode os.FileMode) error {
	return errNotBuilt
}

// ReadFile reads a file of the host, which must be up.
func (l *Lab) ReadFile(ctx context.Context, host, path string) ([]byte, error) { return nil, errNotBuilt }
