package containers

import (
	"errors"
	"fmt"
	"strings"

	"firedrill/internal/attack/procs"
)

// Pod is one that is ready on this host.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`     // that the API server gave it: a pod of the same name that comes later has another
	Sandbox   string `json:"sandbox"` // the runtime's ID of what its containers share

	Runtime string   `json:"runtime,omitempty"` // who runs it, as it calls itself
	Init    procs.ID `json:"init"`              // a process in its network, by our PID namespace: the sandbox's own, or a container's
}

// String names the pod for people, as kubectl does.
func (p Pod) String() string { return "pod " + p.Namespace + "/" + p.Name }

// Container is the pod's sandbox as a container: its network is that of all containers of the pod.
func (p Pod) Container() Container { return Container{ID: p.Sandbox, Engine: p.Runtime, Init: p.Init} }

// PodSelector says which pods are meant.
type PodSelector struct {
	Labels    string // as ParseSelector reads it
	Namespace string // AnyNamespace for all
}

const (
	// AnyNamespace stands for pods of every namespace.
	AnyNamespace = "*"
	// DefaultNamespace is meant where none is named, as with kubectl.
	DefaultNamespace = "default"
)

// Check returns an error when labels or namespace cannot be meant so.
func (s PodSelector) Check() error {
	if _, err := ParseSelector(s.Labels); err != nil {
		return fmt.Errorf("--pod=%s: %w", s.Labels, err)
	}
	if s.Namespace != AnyNamespace && !namespace().MatchString(s.Namespace) {
		return fmt.Errorf("--pod-namespace=%s is no name of a namespace, nor %s for all", s.Namespace, AnyNamespace)
	}
	return nil
}

// String is the selector as people gave it.
func (s PodSelector) String() string {
	if s.Namespace == AnyNamespace {
		return fmt.Sprintf("--pod=%s in all namespaces", s.Labels)
	}
	return fmt.Sprintf("--pod=%s in namespace %s", s.Labels, s.Namespace)
}

// PodFinder says where to look for pods. The zero value asks the sockets of the runtimes that kubelets use, or the one that
// CONTAINER_RUNTIME_ENDPOINT names, as crictl has it.
type PodFinder struct {
	Sockets []string
	Finder  Finder // for the process of a sandbox that its runtime does not tell
}

// EndpointVariable names the runtime to ask, as for crictl: unix:///run/containerd/containerd.sock.
const EndpointVariable = "CONTAINER_RUNTIME_ENDPOINT"

// podSockets are where runtimes listen for a kubelet: containerd, CRI-O, cri-dockerd, and the containerd of k3s.
var podSockets = []string{"/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock", "/run/k3s/containerd/containerd.sock"}

// ErrNoRuntime says that nobody on this host runs pods.
var ErrNoRuntime = errors.New("no runtime answers for pods here (CRI)")

// NoPodError says that no pod that is ready here is meant. It wraps ErrNone.
type NoPodError struct {
	Selector PodSelector
	Ready    int // pods on this host, of all namespaces
	Within   int // of the namespace
}

// Error says how many there are instead.
func (e *NoPodError) Error() string {
	if e.Selector.Namespace == AnyNamespace {
		return fmt.Sprintf("%s: none of the %d pods that are ready on this host has these labels", e.Selector, e.Ready)
	}
	return fmt.Sprintf("%s: none of the %d pods of the namespace that are ready on this host has these labels (of %d in all namespaces)", e.Selector, e.Within, e.Ready)
}

// Unwrap returns ErrNone.
func (e *NoPodError) Unwrap() error { return ErrNone }

// unixPath takes the path out of an endpoint.
func unixPath(endpoint string) (string, error) {
	path := strings.TrimPrefix(endpoint, "unix://")
	if !strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("%s=%s is no Unix socket, as unix:///run/containerd/containerd.sock", EndpointVariable, endpoint)
	}
	return path, nil
}
