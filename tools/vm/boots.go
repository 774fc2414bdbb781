package main

import (
	"strings"
	"time"
)

// boot is one machine: a kernel, an init, and the tests that run there.
type boot struct {
	name    string
	release string // of Debian, whose kernel it has
	systemd bool
	suites  []suite
}

// suite is a package of ours whose tests run on a machine.
type suite struct {
	folder   string
	run      string // which tests, as of go test -run
	skip     string // which not, as of go test -skip, beyond the planted bugs
	restarts int    // how often its tests take the machine down
}

// name of a suite is that of its package; of one that takes the machine down, which stands alone, that of its test too.
func (s suite) name() string {
	if s.restarts == 0 {
		return s.folder
	}
	return s.folder + ":" + strings.Trim(s.run, "^$")
}

// suiteLimit ends one suite; an emulated processor is some twenty times slower than a real one.
const suiteLimit = 15 * time.Minute

// plantedBugs are tests of tests. They wait for what does not come, which takes long here, and prove nothing about a kernel.
const plantedBugs = "Caught$|Catches|PlantedBug"

// modules are loaded before anything else; all others when something needs them, as on a real host.
var modules = []string{"virtio_pci", "virtio_blk", "ext4"}

// down is a test that takes the machine down once.
func down(test string) suite {
	return suite{folder: "tools/vm/whole", run: "^" + test + "$", restarts: 1}
}

const (
	// tooFine are tests that an emulated processor is too slow for: many attacks at once, tens of thousands of addresses, hundreds of
	// connections, an attack of a second, a deadline held to milliseconds. The kernel has no part in what they would find here.
	tooFine = "^(TestPrintsTheLinesOfTheArticle|TestWorksInAUserNamespace|TestManyAddressesFromAFileAreAllHit|TestGateNeverOutlivesTheDeadline|TestShareOfConnectionsIsDecidedOnceForEach)$|^TestWorkerEndsAlone$/^FrozenAltogether$"
	// owned are checks that only a kernel with the owner flag of nftables can hold. What it leaves is inert until the next start, which
	// TestOldKernelLosesTheImpactOfADeadAttackAndTheNextStartSweeps proves. It stands last among what is skipped: it matches a part of every
	// name, and go test looks no further then.
	owned = "/^LeavesNothingWhenKilledAnywhere$"
	// byGroup are tests of attacks on a control group, or on processes by means of one: the kernel tells packets apart by it from 5.13 on.
	// TestOldKernelRefusesScopesThatItCannotTell proves what comes of it before.
	byGroup = "^Test(ProcessScope|CgroupScope|AttackOnAProcess)"
	// elsewhere are tests of what is the same on every kernel: how targets, flags, names and figures are read and told. The gate runs them.
	elsewhere = "^Test(Plan|Orders|BlackholeIs|Unresolved|Revert|Resolving|Canar|Leak|Addresses|NewAddresses|EachAddress|Hits|RoutedHits|ContainersOfReal|PodsOfContainerd|CgroupOfVersion1|Attack(OnA|ThatHits|EndsWith)|GrowingShare|EgressPorts|IngressPorts|ProtocolNarrows|NoTarget|OwnSSH|Second|ContainerThat|ContainerIsHitByTheName)"
)

// boots are all machines, in the order in which they are switched on. 5.10 knows no owner flag of nftables tables, so that the gate alone
// ends an attack there; 6.12 is the newest kernel of a stable release.
var boots = []boot{
	{name: "restart", release: "bookworm", suites: []suite{
		down("TestHostRestarts"), down("TestHostIsSwitchedOff"), down("TestCrashLosesWhatWasNotSynced"), down("TestHostThatRestartsInTheMiddleIsCleanAtTheNextStart"),
	}},
	{name: "systemd", release: "bookworm", systemd: true, suites: []suite{
		{folder: "tools/vm/whole", run: "AsAService|DoctorKnowsSystemd|TestService|CalledOff"},
		down("TestSystemdRestartsTheHostInOrder"), down("TestSystemdSwitchesTheHostOffInOrder"), down("TestRestartByTheKernelStopsNoService"),
		down("TestUnitCleansUpAtTheStartAfterACrash"),
	}},
	{name: "linux-6.1", release: "bookworm", suites: []suite{
		{folder: "internal/attack/blackhole", skip: tooFine + "|" + elsewhere},
		{folder: "tools/vm/whole", run: "Clock|Travel|DoctorKnowsThisKernel"},
	}},
	{name: "netem", release: "bookworm", suites: []suite{
		{folder: "internal/attack/latency", run: "Netem"},
		{folder: "internal/attack/packetloss", run: "Netem"},
	}},
	{name: "cgroups", release: "bookworm", suites: []suite{
		{folder: "tools/vm/whole", run: "Group"},
		{folder: "internal/attack/cpu", run: "HoldsTheContract"},
		{folder: "internal/attack/memory", run: "HoldsTheContract"},
		{folder: "internal/attack/pause", run: "HoldsTheContract|Group", skip: tooFine},
		{folder: "internal/attack/fd", run: "HoldsTheContract|Group|LastAttack", skip: tooFine},
		{folder: "internal/attack/pid", run: "HoldsTheContract|Group|LastAttack", skip: tooFine},
	}},
	{name: "linux-6.12", release: "trixie", suites: []suite{
		{folder: "internal/attack/blackhole", skip: tooFine + "|" + elsewhere},
		{folder: "internal/attack/latency", run: "NetemDelays|NetemIs"},
		{folder: "tools/vm/whole", run: "ClockGoes|DoctorKnowsThisKernel"},
	}},
	{name: "linux-5.10", release: "bullseye", suites: []suite{
		{folder: "internal/attack/blackhole", skip: tooFine + "|" + byGroup + "|" + elsewhere + "|" + owned},
		{folder: "tools/vm/whole", run: "DoctorKnowsThisKernel|OldKernel"},
	}},
}
