package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// digestsFile lists in each release what it was published with. It is a hint for the next deployment about what need not travel, never
// a proof: what is kept is read again and compared.
const digestsFile = ".firedrill-digests"

// manifestMax bounds what is read back as a list of digests: a million files.
const manifestMax = 256 << 20

// manifestOf writes a line for each file, ended by NUL since names may hold anything else: kind, mode, digest, path.
func manifestOf(files []file) string {
	var text strings.Builder
	for _, f := range files {
		kind, sum := 'f', f.digest
		switch {
		case f.link != "":
			kind, sum = 'l', sumOf(f.link)
		case f.dir:
			kind, sum = 'd', sumOf("")
		}
		fmt.Fprintf(&text, "%c %o %s %s\x00", kind, f.mode, sum, f.path)
	}
	return text.String()
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// kept is what a release on the host was published with: digest and mode of each regular file, and where to find a digest.
type kept struct {
	files  map[string]keptFile
	places map[string]string // digest and mode to the first path
}

type keptFile struct {
	digest string
	mode   fs.FileMode
}

// parseManifest reads a list. What is not understood is passed over: those files travel.
func parseManifest(text string) kept {
	k := kept{files: make(map[string]keptFile), places: make(map[string]string)}
	for line := range strings.SplitSeq(text, "\x00") {
		fields := strings.SplitN(line, " ", 4)
		if len(fields) != 4 || fields[0] != "f" || len(fields[2]) != sha256.Size*2 || !fs.ValidPath(fields[3]) {
			continue
		}
		mode, err := strconv.ParseUint(fields[1], 8, 32)
		if err != nil {
			continue
		}
		one := keptFile{digest: fields[2], mode: fs.FileMode(mode)}
		k.files[fields[3]] = one
		if place := one.place(); k.places[place] == "" {
			k.places[place] = fields[3]
		}
	}
	return k
}

func (k keptFile) place() string { return fmt.Sprintf("%s %o", k.digest, k.mode) }

// move is a file that the host has already, below another path.
type move struct{ from, to string }

// split says which files the host can copy from the release that it has, and which must travel.
func (k kept) split(files []file) (same []file, moved []move, travel []file) {
	for _, f := range files {
		mine := keptFile{digest: f.digest, mode: f.mode}
		switch place, found := k.places[mine.place()]; {
		case f.link != "", f.dir:
			travel = append(travel, f)
		case k.files[f.path] == mine:
			same = append(same, f)
		case found && len(moved) < movesMax:
			moved = append(moved, move{from: place, to: f.path})
		default:
			travel = append(travel, f)
		}
	}
	return same, moved, travel
}

// movesMax bounds the files that are copied to another name: each costs the host a process, a small file in a stream does not.
const movesMax = 64
