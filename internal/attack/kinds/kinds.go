package kinds

import (
	"strings"

	"firedrill/internal/attack"
	"firedrill/internal/attack/bandwidth"
	"firedrill/internal/attack/blackhole"
	"firedrill/internal/attack/cpu"
	"firedrill/internal/attack/disk"
	"firedrill/internal/attack/dns"
	"firedrill/internal/attack/fd"
	"firedrill/internal/attack/io"
	"firedrill/internal/attack/latency"
	"firedrill/internal/attack/memory"
	"firedrill/internal/attack/packetloss"
	"firedrill/internal/attack/pause"
	"firedrill/internal/attack/pid"
	"firedrill/internal/attack/processkiller"
	"firedrill/internal/attack/reject"
	"firedrill/internal/attack/reset"
	"firedrill/internal/attack/service"
	"firedrill/internal/attack/shutdown"
	"firedrill/internal/attack/timetravel"
	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// All returns every kind of attack, in the order of help pages.
func All() []attack.Kind {
	kinds := []attack.Kind{
		blackhole.Kind{}, dns.Kind{}, packetloss.Kind{}, latency.Kind{}, bandwidth.Kind{}, reject.Kind{}, reset.Kind{},
		shutdown.Kind{}, processkiller.Kind{}, pause.Kind{}, timetravel.Kind{}, service.Kind{},
	}
	kinds = append(kinds, harmless()...)
	return append(kinds, cpu.Kind{}, memory.Kind{}, disk.Kind{}, io.Kind{}, fd.Kind{}, pid.Kind{})
}

// Worker does the work of a worker process when args are those of one, and returns its exit code; ours is false when they are not. A
// program that starts attacks calls it before anything else, for its workers are itself, started again.
func Worker(args []string) (code int, ours bool) {
	return worker.Main(args, map[string]worker.Job{cpu.Name: cpu.Job, memory.Name: memory.Job, disk.Name: disk.Job, io.Name: io.Job,
		fd.Name: fd.Job, pid.Name: pid.Job})
}

// Find returns the kind with this name, and what it says of itself.
func Find(name string) (attack.Kind, drill.AttackKind, bool) {
	for _, kind := range All() {
		if described := kind.Describe(); described.Name == name {
			return kind, described, true
		}
	}
	return nil, drill.AttackKind{}, false
}

// Describe returns every kind as data.
func Describe() []drill.AttackKind {
	var described []drill.AttackKind
	for _, kind := range All() {
		described = append(described, kind.Describe())
	}
	return described
}

// Names returns the names of all kinds, for messages.
func Names() string {
	var names []string
	for _, kind := range All() {
		names = append(names, kind.Describe().Name)
	}
	return strings.Join(names, ", ")
}
