package attack

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// preference is the nice value of an attack in force. A host that is busy, perhaps by another attack, must not keep it from renewing its lease
// for seconds: the kernel would end the impact, and the drill would prove nothing. It takes less than a thousandth of a processor.
const preference = -10

// prefer asks the kernel to let all threads of this process run before others, as far as this user may ask for that. Threads that come later
// have it from those that make them. A worker is started before, and is not preferred.
func prefer() {
	threads, _ := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, preference)
		}
	}
}
