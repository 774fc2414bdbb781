package hostfacts

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Options say where to look. The zero value looks where attacks look by default.
type Options struct {
	Directory string // for disk and io, default /tmp
	Journal   string // of attacks that the kernel does not take back
}

// Probe finds out all facts, in the order of needs. It does not fail: what it cannot look at is unknown.
func Probe(ctx context.Context, o Options) Facts {
	if o.Directory == "" {
		o.Directory = "/tmp"
	}
	r := readRights()
	var packets Facts
	var tries sync.WaitGroup
	tries.Go(func() { packets = packetFacts(ctx, r) })
	all := append(r.facts(), kernelFact(release()))
	all = append(all, cgroupFacts()...)
	all = append(all, hostFacts()...)
	all = append(all, directoryFacts(o)...)
	tries.Wait()
	all = append(all, packets...)
	slices.SortStableFunc(all, func(a, b Fact) int { return order(a.Need) - order(b.Need) })
	return all
}

func order(need Need) int {
	return slices.IndexFunc(needs, func(a about) bool { return a.need == need })
}

// packetNeeds are tried in a room.
var packetNeeds = []Need{NFTables, NFTablesOwner, NFTablesRandom, NFTablesLimit, NFTablesReject, NFTablesCgroup, NFQueue, Prio, Netem}

// packetFacts tries in a room with the rights that we have, and in one with users of its own. The second tells whether a lab can be had
// without root, and stands in for the first where we have no right to make that.
func packetFacts(ctx context.Context, r rights) Facts {
	var plain, own map[Need]found
	var plainErr, ownErr error
	var tries sync.WaitGroup
	tries.Go(func() { own, ownErr = room(ctx, true) })
	tries.Go(func() { plain, plainErr = room(ctx, false) })
	tries.Wait()
	facts := Facts{fact(UserNamespaces, Yes, "one was made and left")}
	if ownErr != nil {
		facts[0] = fact(UserNamespaces, No, fmt.Sprintf("user %d could not make one: %v", r.uid, ownErr))
	}
	tried := plain
	if plainErr != nil {
		tried = own
	}
	for _, need := range packetNeeds {
		what, ok := tried[need]
		if !ok {
			what = found{State: Unknown, Detail: fmt.Sprintf("no room to try it in: %v", plainErr)}
		}
		facts = append(facts, fact(need, what.State, what.Detail))
	}
	return facts
}

func release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

// The oldest kernel that was tried.
const kernelMajor, kernelMinor = 5, 10

func kernelFact(release string) Fact {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fact(Kernel, Unknown, "release "+release)
	}
	if major < kernelMajor || major == kernelMajor && minor < kernelMinor {
		return fact(Kernel, Unknown, release+", older than any that was tried")
	}
	return fact(Kernel, Yes, release)
}

// writable reports whether we may write below a directory that exists; it tries nothing.
func writable(path string) error {
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &os.PathError{Op: "write below", Path: path, Err: err}
	}
	return nil
}
