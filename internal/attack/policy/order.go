package policy

import (
	"net/netip"
	"time"
)

// File is where the owner of a host writes the rules.
const File = "/etc/firedrill/policy.yaml"

// All stands for every kind of attack in deny and require_consent.
const All = "all"

// Silent stands for the kind of an attack that runs and does not answer.
const Silent = "one that does not answer"

// ClockKind is the kind of attack under which this host's clock means nothing.
const ClockKind = "time_travel"

// Order is what the rules need to know of an attack.
type Order struct {
	Kind       string
	Delay      time.Duration // from now until the impact begins
	Length     time.Duration // of the impact; 0 for one-way kinds
	Consent    bool          // a person said --yes to this very attack
	Network    bool          // it hits traffic, so it can be narrower than the host
	Narrow     bool          // it hits a user, control group, processes or container or pods alone
	Container  bool          // it hits a container of which nobody knows whether it is a pod's
	Namespaces []string      // of the Kubernetes pods that it hits

	User    string   // the user as the caller names it; empty for another scope
	Running []string // the kinds of the other attacks that run on this host now; Silent for one that does not say
}

// Target is an address, a CIDR, or a host name that must never be hit.
type Target struct {
	Prefix netip.Prefix // invalid when it is a name
	Name   string
}

// String is the target as it was meant.
func (t Target) String() string {
	switch {
	case t.Name != "":
		return t.Name
	case t.Prefix.IsSingleIP():
		return t.Prefix.Addr().String()
	}
	return t.Prefix.String()
}

// Reader says what Read reads. The zero value reads the host's own file and knows no kinds.
type Reader struct {
	Path  string          // empty: File
	Kinds func() []string // the kinds of attacks of this build; asked for only where there is a file
	Owner uint32          // who may own the file and its directory; 0, root, but for tests
}
