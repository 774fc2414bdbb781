package hostfacts

import (
	"slices"
	"strings"

	"firedrill/internal/drill"
)

// State is how sure we are of a need.
type State string

// The states.
const (
	Yes     State = "yes"
	No      State = "no"
	Unknown State = "unknown"
)

// Need is the name of something that an attack can need.
type Need string

// The needs, in the order in which they are shown.
const (
	Kernel         Need = "kernel"
	NetAdmin       Need = "net_admin"
	SysBoot        Need = "sys_boot"
	SysTime        Need = "sys_time"
	Kill           Need = "kill"
	SysAdmin       Need = "sys_admin"
	NFTables       Need = "nf_tables"
	NFTablesOwner  Need = "nf_tables_owner"
	NFTablesRandom Need = "nf_tables_random"
	NFTablesLimit  Need = "nf_tables_limit"
	NFTablesReject Need = "nf_tables_reject"
	NFTablesCgroup Need = "nf_tables_cgroup"
	NFQueue        Need = "nfqueue"
	Prio           Need = "prio"
	Netem          Need = "netem"
	CgroupV2       Need = "cgroup_v2"
	CgroupV1       Need = "cgroup_v1"
	UserNamespaces Need = "user_namespaces"
	Systemd        Need = "systemd"
	Logind         Need = "logind"
	NTP            Need = "ntp"
	ClockSource    Need = "clock_source"
	Pidfd          Need = "pidfd"
	TmpFile        Need = "o_tmpfile"
	Fallocate      Need = "fallocate"
	Journal        Need = "journal"
	SSHServer      Need = "ssh_server"
	ExecDirectory  Need = "exec_directory"
)

// about says of a need what it is for and what helps where it is missing.
type about struct {
	need Need
	use  string
	cure string
}

var needs = []about{
	{Kernel, "all attacks: older kernels were never tried", "use a kernel from 5.10 on"},
	{NetAdmin, "blackhole and all other attacks on the network", "run it as root (sudo), or give the container the capability NET_ADMIN"},
	{SysBoot, "shutdown where systemd is not the init", "run it as root (sudo), or give the container the capability SYS_BOOT"},
	{SysTime, "time_travel", "run it as root of the machine itself; a container needs the capability SYS_TIME and must not have its own users"},
	{Kill, "process_killer and pause on processes of other users", "run it as root (sudo)"},
	{SysAdmin, "attacks on one container: entering its namespaces", "run it as root (sudo)"},
	{NFTables, "blackhole and all other attacks on packets", "modprobe nf_tables, or use a kernel with nf_tables and its family inet"},
	{NFTablesOwner, "the kernel takes packets' impact back the moment that we die", "use a kernel from 5.12 on; without it the impact ends within 3 seconds"},
	{NFTablesRandom, "a percentage of packets: packet_loss", "modprobe nft_numgen"},
	{NFTablesLimit, "a rate beyond which packets are lost: bandwidth", "modprobe nft_limit"},
	{NFTablesReject, "answers in the place of a target: reject and reset", "modprobe nft_reject_inet"},
	{NFTablesCgroup, "network attacks on one control group (--cgroup) or on processes (--process)", "use a kernel from 5.13 on, or narrow the attack with --user"},
	{NFQueue, "latency where there is no netem", "modprobe nfnetlink_queue nft_queue"},
	{Prio, "latency and corruption of chosen packets only", "modprobe sch_prio"},
	{Netem, "latency and corruption by the kernel", "modprobe sch_netem; it may be in the package linux-modules-extra-$(uname -r) or kernel-modules-extra"},
	{CgroupV2, "limits on attacks, targets narrowed to a cgroup, the freezer", "mount it (systemd does), and run firedrill as the owner of its cgroup"},
	{CgroupV1, "the same on hosts that still have it", "not needed where cgroup_v2 is there"},
	{UserNamespaces, "firedrill demo and lab without root", "sysctl user.max_user_namespaces=10000, kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), kernel.unprivileged_userns_clone=1 (Debian); or use sudo"},
	{Systemd, "shutdown in the host's own way, attacks on services, firedrill-recover.service at boot", "attack a host whose init is systemd; shutdown does without it where you are root"},
	{Logind, "shutdown by an ordinary user whom the host lets do it", "not needed where you are root"},
	{NTP, "a daemon that sets the clock: time_travel has to keep it quiet (--ntp)", ""},
	{ClockSource, "time_travel comes back to the right second", "see /sys/devices/system/clocksource"},
	{Pidfd, "a guardian sees at once that we died; a signal hits the process that was meant", "use a kernel from 5.3 on"},
	{TmpFile, "disk and io: files that the kernel removes when we die", "choose a directory on ext4, xfs, btrfs or tmpfs with --dir"},
	{Fallocate, "disk: fills a volume in milliseconds", "without it the volume is filled by writing; ext4, xfs, btrfs and tmpfs have it"},
	{Journal, "attacks that the kernel does not take back are written down first", "make room there, and make it writable"},
	{SSHServer, "a control host reaches this one", "start an SSH server"},
	{ExecDirectory, "the binary that a control host pushes has to start somewhere", "mount one of /dev/shm, /tmp or /var/tmp without noexec, or set XDG_RUNTIME_DIR"},
}

// About returns what a need is for; ok is false for a name that is no need.
func About(need Need) (text string, ok bool) {
	at := slices.IndexFunc(needs, func(a about) bool { return a.need == need })
	if at < 0 {
		return "", false
	}
	return needs[at].use, true
}

// Fact is one thing that this host has, or lacks.
type Fact struct {
	Need   Need   `json:"need"`
	State  State  `json:"state"`
	Detail string `json:"detail,omitempty"` // what was seen
	For    string `json:"for"`
	Cure   string `json:"cure,omitempty"` // when it is not yes
}

// Facts are all that was found out.
type Facts []Fact

// fact makes a fact of what is known about the need.
func fact(need Need, state State, detail string) Fact {
	f := Fact{Need: need, State: state, Detail: detail}
	for _, a := range needs {
		if a.need == need {
			f.For = a.use
			if state != Yes {
				f.Cure = a.cure
			}
		}
	}
	return f
}

// of returns the fact about a need; one that was not looked at is unknown.
func (f Facts) of(need Need) Fact {
	if at := slices.IndexFunc(f, func(fact Fact) bool { return fact.Need == need }); at >= 0 {
		return f[at]
	}
	return fact(need, Unknown, "nobody looked")
}

// Can says whether a kind of attack can run here.
type Can struct {
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"` // why not, or why nobody knows; or in which of its ways, where a kind has several
	Cure   string `json:"cure,omitempty"`
}

// either parts the alternatives of a need: "netem or nfqueue".
const either = " or "

// Alternatives returns the needs of which one is enough.
func Alternatives(needed string) []Need {
	var all []Need
	for name := range strings.SplitSeq(needed, either) {
		all = append(all, Need(strings.TrimSpace(name)))
	}
	return all
}

// Here decides whether a kind of attack can run on the host of these facts. It is pure: the worst of its needs decides. What only a flag needs
// and is not here is the reason of a Yes.
func (f Facts) Here(kind drill.AttackKind) Can {
	can := f.all(kind.Needs)
	for _, flag := range kind.Flags {
		if can.State != Yes {
			break
		}
		if missing := f.all(flag.Needs); missing.State != Yes {
			can.Reason = strings.TrimPrefix(can.Reason+"; not --"+flag.Name+": it "+missing.Reason, "; ")
			can.Cure = missing.Cure
		}
	}
	return can
}

// all is the worst of several needs.
func (f Facts) all(needs []string) Can {
	worst := Can{State: Yes}
	for _, needed := range needs {
		can := f.any(Alternatives(needed))
		if can.State == Yes && worst.State == Yes && can.Reason != "" {
			worst.Reason = can.Reason
		}
		if can.State == No || can.State == Unknown && worst.State == Yes {
			worst = can
		}
		if worst.State == No {
			break
		}
	}
	return worst
}

// any is the best that one of the alternatives offers.
func (f Facts) any(alternatives []Need) Can {
	best := Can{}
	for _, need := range alternatives {
		found := f.of(need)
		reason := "needs " + string(need)
		if found.Detail != "" {
			reason += ": " + found.Detail
		}
		switch {
		case found.State == Yes && len(alternatives) > 1:
			return Can{State: Yes, Reason: "by " + string(need)}
		case found.State == Yes:
			return Can{State: Yes}
		case best.State == "" || found.State == Unknown && best.State == No:
			best = Can{State: found.State, Reason: reason, Cure: found.Cure}
		case found.State == best.State:
			best.Reason += "; or " + reason
			best.Cure += "; or " + found.Cure
		}
	}
	return best
}
