package guest

import "time"

// Errand is what a booted machine has to do. The runner puts it into the initramfs at Path.
type Errand struct {
	Modules []string `json:"modules"` // names, loaded before anything else
	Runs    []Run    `json:"runs"`
	Systemd bool     `json:"systemd"` // systemd becomes process 1, and the runs are a service of it
}

// Run is one program of tests.
type Run struct {
	Name     string        `json:"name"` // the package, as people know it
	Program  string        `json:"program"`
	Args     []string      `json:"args"`
	Restarts int           `json:"restarts"` // how often the machine may go down under it; it is started again each time
	Limit    time.Duration `json:"limit_ns"` // after which it is killed, which is a failure
}

// Where things are on the machine.
const (
	Path       = "/vm/errand.json"
	State      = "/var/lib/firedrill" // a disk: what is written here and synced survives the end of the kernel
	ConsoleTTY = "/dev/ttyS0"         // the kernel's
	ResultsTTY = "/dev/ttyS1"         // ours
	ServiceArg = "run"                // tells init that it is not process 1
)

// OptionVM stands on the kernel's command line; tests that would be unkind to a real machine look for it.
const OptionVM = "firedrill.vm=1"

// OptionWent begins the option that says how the machine went down before: WentRestart or WentOff, by the last words of its kernel.
const (
	OptionWent  = "firedrill.went="
	WentRestart = "restart"
	WentOff     = "off"
)

// The lines that init writes around what the tests print. No line of a test begins like this.
const (
	mark     = "@firedrill "
	markBoot = mark + "boot"
	markRun  = mark + "run "
	markEnd  = mark + "end "
	markDone = mark + "done"
	markFail = mark + "broken "
)

// Boot is the line with which a machine says that it is up.
func Boot(release string) string { return markBoot + " " + release }

// Begin is the line before the output of a run.
func Begin(run Run) string { return markRun + run.Name }

// End is the line after it. status is how the program ended; empty when it ended well.
func End(run Run, status string) string { return markEnd + run.Name + " " + status }

// Broken is the line with which init gives up.
func Broken(why string) string { return markFail + why }

// Done is the last line.
func Done() string { return markDone }
