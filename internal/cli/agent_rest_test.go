//go:build !hostpart

package cli

import (
	"os"
	"slices"
	"testing"
)

func TestOnlyWhatCanBeReadAgainIsDropped(t *testing.T) {
	const own = "/usr/bin/firedrill"
	head := func(span, modes, path string) string {
		return span + " " + modes + " 00000000 08:01 42                  " + path + "\nSize:    4 kB\n"
	}
	smaps := head("00400000-00402000", "r-xp", own) + "Private_Clean: 8 kB\nAnonymous:         0 kB\nLocked: 0 kB\n" +
		head("00402000-00404000", "r--p", own) + "Anonymous:         4 kB\n" + // relocations
		head("00404000-00406000", "rw-p", own) + "Anonymous:         0 kB\n" +
		head("00406000-00408000", "r--s", own) + "Anonymous:         0 kB\n" +
		head("00408000-0040a000", "r-xp", "/lib/other") + "Anonymous:         0 kB\n" +
		head("0040a000-0040c000", "r--p", own) + "Anonymous:         0 kB\n" +
		"7ffc0000-7ffc1000 r-xp 00000000 00:00 0                          [vdso]\nAnonymous:         0 kB\n"
	if got, want := unwritten([]byte(smaps), own), []mapping{{0x400000, 0x2000}, {0x40a000, 0x2000}}; !slices.Equal(got, want) {
		t.Errorf("dropped would be %#x, not %#x", got, want)
	}
	if got := unwritten([]byte("nothing\nof this\n\xff"), own); len(got) > 0 {
		t.Errorf("out of nothing: %v", got)
	}
	// The real thing: this process goes on.
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if len(unwritten(text, self)) == 0 {
		t.Error("the program has no pages of its own")
	}
	restNow()
	restNow()
}
