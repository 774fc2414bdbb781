package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firedrill/tools/vm/guest"
)

// unpacked is what a reader of the format, written for this test alone, finds in an archive: name, mode and body of each file.
func unpacked(archive []byte) ([]string, error) {
	var all []string
	for at := 0; ; {
		if len(archive) < at+110 {
			return nil, fmt.Errorf("the archive ends at %d within a header", at)
		}
		var field [13]int
		if string(archive[at:at+6]) != "070701" {
			return nil, fmt.Errorf("no header at %d", at)
		}
		for i := range field {
			if _, err := fmt.Sscanf(string(archive[at+6+8*i:at+14+8*i]), "%X", &field[i]); err != nil {
				return nil, err
			}
		}
		mode, size, nameSize := field[1], field[6], field[11]
		name := string(archive[at+110 : at+110+nameSize-1])
		at = (at + 110 + nameSize + 3) / 4 * 4
		if name == trailer {
			return all, nil
		}
		all = append(all, fmt.Sprintf("%s %o %q", name, mode, archive[at:at+size]))
		at = (at + size + 3) / 4 * 4
	}
}

func TestArchiveHoldsWhatWasAdded(t *testing.T) {
	var out bytes.Buffer
	i := image{newCPIO(&out)}
	for _, err := range []error{
		i.directory("vm"), i.text("vm/errand.json", 0o644, []byte("{}")), i.text("vm/odd", 0o755, []byte("seven b")), i.text("empty", 0o600, nil),
		i.symlink("bin", "usr/bin"), i.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := unpacked(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`vm 40755 ""`, `vm/errand.json 100644 "{}"`, `vm/odd 100755 "seven b"`, `empty 100600 ""`, `bin 120777 "usr/bin"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNamesThatAKernelWouldNotUnpackAreRefused(t *testing.T) {
	for _, name := range []string{"", ".", "/init", "../init", "a//b", "a/", trailer} {
		if err := (image{newCPIO(io.Discard)}).text(name, 0o644, nil); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

func TestFilesThatAreNotAsLongAsSaidAreNotPacked(t *testing.T) {
	c := newCPIO(io.Discard)
	if err := c.add(entry{name: "a", mode: typeRegular, size: 5, body: strings.NewReader("four")}); err == nil {
		t.Error("a file that was too short was packed")
	}
	if err := c.add(entry{name: "a", mode: typeRegular, size: 1 << 32}); err == nil {
		t.Error("a file that is too long for the format was packed")
	}
}

// FuzzArchive: whatever the names and bodies are, what goes in comes out.
func FuzzArchive(f *testing.F) {
	f.Add("init", []byte("x"), "vm/errand.json", []byte("{}"))
	f.Add("a", []byte{}, "b", []byte{0, 1, 2, 3})
	f.Fuzz(func(t *testing.T, name1 string, body1 []byte, name2 string, body2 []byte) {
		var out bytes.Buffer
		i := image{newCPIO(&out)}
		var want []string
		for name, body := range map[string][]byte{name1: body1, name2: body2} {
			if strings.Contains(name, "\x00") || i.text(name, 0o644, body) != nil {
				return
			}
			want = append(want, fmt.Sprintf("%s %o %q", name, typeRegular|0o644, body))
		}
		if err := i.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := unpacked(out.Bytes())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Error(err, diff)
		}
	})
}

func TestBootsAreToldApart(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range boots {
		if b.name == "" || seen[b.name] || b.release == "" || len(b.suites) == 0 {
			t.Errorf("boot %+v has no name or kernel of its own, or nothing to do", b)
		}
		seen[b.name] = true
	}
	if _, err := choose("no such"); err == nil {
		t.Error("a boot that does not exist was chosen")
	}
	if some, err := choose(boots[0].name); err != nil || len(some) != 1 {
		t.Errorf("%v, %v", some, err)
	}
}

func TestKernelIsFoundAmongDependencies(t *testing.T) {
	text := "linux-image-cloud-amd64\n  Depends: linux-base\n  Depends: linux-image-6.1.0-56-cloud-amd64\n"
	if got := dependency(text); got != "linux-image-6.1.0-56-cloud-amd64" {
		t.Errorf("got %q", got)
	}
	if got := dependency("linux-image-cloud-amd64\n"); got != "" {
		t.Errorf("got %q out of nothing", got)
	}
}

func TestLastWordTellsARestartFromASwitchOffAndACrash(t *testing.T) {
	for console, want := range map[string]string{
		"x\n[   13.1] reboot: Restarting system\n": guest.WentRestart, "[   13.1] reboot: Power down\n": guest.WentOff, "x": "unknown", "": "unknown",
	} {
		if got := lastWord(console); got != want {
			t.Errorf("%q is %s, want %s", console, got, want)
		}
	}
}
