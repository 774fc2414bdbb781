package attack

import (
	"errors"
	"fmt"
	"strings"

	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/containers"
	"firedrill/internal/drill"
)

// Scope narrows a network attack to a part of the host. The zero value is the whole host.
type Scope struct {
	User   string // name or number: only traffic of sockets that this user made
	Cgroup string // only traffic of sockets that were made in this control group or below
	// Process is a name, a regular expression or a number: only traffic of processes that match when the attack starts, and of their children.
	Process string
	// Container is the ID or name of a container: all traffic of its network namespace. Start makes the attack run there.
	Container string
	// Pods are the labels of Kubernetes pods: all traffic of their network namespaces. Start has one attack run in each.
	Pods string
	// Namespace is the pods', containers.AnyNamespace for all; empty without Pods.
	Namespace string
}

// pods returns the pods that are meant, if any are.
func (s Scope) pods() (containers.PodSelector, bool) {
	return containers.PodSelector{Labels: s.Pods, Namespace: s.Namespace}, s.Pods != ""
}

// Whole reports whether nothing is narrowed.
func (s Scope) Whole() bool { return s == Scope{} }

// ScopeFacts are what a Scope means on this host.
type ScopeFacts struct {
	UID    *uint32      `json:"uid,omitempty"`
	Cgroup *CgroupScope `json:"cgroup,omitempty"`

	Container *containers.Container `json:"container,omitempty"`
}

// CgroupScope is a control group as the kernel tells packets of it apart.
type CgroupScope struct {
	cgroups.Group
	ID    uint64 `json:"id,omitempty"`    // of the group, in version 2
	Level uint32 `json:"level,omitempty"` // its depth below the root, in version 2
	Class uint32 `json:"class,omitempty"` // that packets of the group carry, in version 1
}

// ScopeFlags are the flags that narrow a network attack to a part of the host, in the order of help pages. A kind adds them behind those of
// the target language; package traffic does the rest.
func ScopeFlags() []drill.AttackFlag {
	return []drill.AttackFlag{
		{Name: "user", Short: "u", Type: TypeString, Usage: "name or number of a user, only traffic of this user's sockets, both ways"},
		{Name: "cgroup", Short: "C", Type: TypeString, Usage: "control group, as /proc/PID/cgroup shows it; only traffic of sockets made in it or below, both ways"},
		{Name: "process", Short: "x", Type: TypeString,
			Usage: "name, regular expression or number; only traffic of processes that match at the start, and of their children, both ways; " +
				"they get a control group for it, which the next start takes away if all of us die"},
		{Name: "container", Short: "k", Type: TypeString, Usage: "ID of a container, the first characters of one, or its name; the attack runs in its network, and DNS is the container's"},
		{Name: podFlag, Type: TypeString,
			Usage: "labels of Kubernetes pods, as kubectl selects by them: 'app=web,tier!=db', 'app in (web, api)', '!canary'; each pod that is ready on this host " +
				"when the attack starts is hit in its network, and DNS is the pod's"},
		{Name: podNamespaceFlag, Type: TypeString, Usage: "namespace of the pods that --pod selects, or '*' for all (default: default)"},
	}
}

// The flags that name pods.
const (
	podFlag          = "pod"
	podNamespaceFlag = "pod-namespace"
)

// ParseScope reads the flags of ScopeFlags. Flags that a kind does not have are simply not given.
func ParseScope(v Values) (Scope, error) {
	s := Scope{User: v.Text("user", ""), Cgroup: v.Text("cgroup", ""), Process: v.Text("process", ""), Container: v.Text("container", ""),
		Pods: v.Text(podFlag, ""), Namespace: v.Text(podNamespaceFlag, "")}
	var given []string
	for _, flag := range ScopeFlags() {
		if len(v[flag.Name]) == 0 {
			continue
		}
		if v.Text(flag.Name, "") == "" {
			return s, fmt.Errorf("--%s is empty: name one, or leave it out for the whole host", flag.Name)
		}
		if flag.Name != podNamespaceFlag {
			given = append(given, "--"+flag.Name)
		}
	}
	if len(given) > 1 {
		return s, fmt.Errorf("%s exclude each other: start one attack for each", strings.Join(given, " and "))
	}
	switch {
	case s.Pods != "":
		if s.Namespace == "" {
			s.Namespace = containers.DefaultNamespace
		}
		pods, _ := s.pods()
		return s, pods.Check()
	case s.Namespace != "":
		return s, errors.New("--pod-namespace says where --pod looks: name the labels of pods with --pod")
	}
	return s, nil
}
