package deploy

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// counting gives each file its blob's name as content, and counts how often each is read.
type counting map[string]int

func (c counting) each(_ context.Context, files []file, visit func(file, io.Reader) error) error {
	for _, f := range files {
		c[f.blob]++
		f.size = int64(len(f.blob))
		if err := visit(f, strings.NewReader(f.blob)); err != nil {
			return err
		}
	}
	return nil
}

func TestSourceIsReadOnceAsFarAsThereIsRoom(t *testing.T) {
	files := []file{{path: "a", blob: "aaaa"}, {path: "b", blob: "bb"}, {path: "again", blob: "aaaa"}, {path: "big", blob: strings.Repeat("x", 30)}}
	for room, want := range map[int64]int{0: 3, 6: 1, 100: 1} {
		from := counting{}
		source := remember(from, room)
		for range 3 { // digests, and two hosts
			var got []string
			if err := source.each(t.Context(), files, func(f file, r io.Reader) error {
				text, err := io.ReadAll(r)
				got = append(got, fmt.Sprintf("%s %d %s", f.path, f.size, text))
				return err
			}); err != nil {
				t.Fatal(err)
			}
			slices.Sort(got)
			if all := strings.Join(got, ","); all != "a 4 aaaa,again 4 aaaa,b 2 bb,big 30 "+strings.Repeat("x", 30) {
				t.Errorf("room %d: %s", room, all)
			}
		}
		if from["bb"] != want {
			t.Errorf("room %d: a small file was read %d times, want %d", room, from["bb"], want)
		}
		if big := map[bool]int{true: 1, false: 3}[room >= 36]; from[files[3].blob] != big {
			t.Errorf("room %d: the big file was read %d times, want %d", room, from[files[3].blob], big)
		}
	}
}
