//go:build !hostpart

package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// restAbove is what an agent may hold: to give back what is needed again at once costs more than it saves.
const restAbove = 19 << 20

// rest gives back what an agent holds that has nothing to do, if it is much. Of its memory most are pages of the program itself, which the start has touched: the
// kernel reads the few that are needed again from its cache.
func rest() {
	if resident() < restAbove {
		return
	}
	restNow()
}

// resident is the memory of this process, in bytes; all there is when it is not known.
func resident() uint64 {
	var size, pages uint64
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return math.MaxUint64
	}
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return math.MaxUint64
	}
	return pages * uint64(os.Getpagesize())
}

func restNow() {
	debug.FreeOSMemory()
	own, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return // without it nothing is lost but memory
	}
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range unwritten(text, own) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.length, unix.MADV_DONTNEED) // likewise
	}
}

// mapping is a part of the address space.
type mapping struct{ from, length uintptr }

// unwritten are the mappings of a file that cannot be written and hold nothing but what is in the file: whatever is dropped of them is read again. One
// that was written before it was protected, as for relocations, is left alone.
func unwritten(smaps []byte, path string) []mapping {
	var found []mapping
	var now mapping
	candidate := false
	lines := bufio.NewScanner(bytes.NewReader(smaps))
	for lines.Scan() {
		line := lines.Text()
		var from, to uintptr
		var modes, offset, device, inode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s %s %s %s", &from, &to, &modes, &offset, &device, &inode); n == 6 {
			candidate = len(modes) == 4 && modes[0] == 'r' && modes[1] == '-' && modes[3] == 'p' && strings.HasSuffix(line, " "+path)
			now = mapping{from: from, length: to - from}
			continue
		}
		if kilobytes, of := strings.CutPrefix(line, "Anonymous:"); of && candidate && strings.TrimSpace(kilobytes) == "0 kB" {
			found = append(found, now)
		}
	}
	return found
}
