package nginx

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"firedrill/internal/failover"
)

// pidWord stands between the mark and the process id of the worker in what the running nginx says.
const pidWord = " pid="

// head begins every file of ours; what follows it is the mark of the change.
const head = "# Written by firedrill; changes here are undone. "

// fileMax bounds what is read of a file that is to be replaced.
const fileMax = 1 << 20

var serverLine = regexp.MustCompile(`(?m)^\s*server\s+(\S+?)\s*(?:\s[^;]*)?;`)

// markOf is what the file and the running nginx say of a change.
func markOf(change failover.Change) string {
	parts := []string{"serial=" + strconv.FormatUint(change.Serial, 10)}
	for _, address := range change.Addresses {
		parts = append(parts, address.String())
	}
	return strings.Join(parts, " ")
}

// serialIn returns the serial number of a mark, 0 when there is none.
func serialIn(mark string) uint64 {
	word, _, _ := strings.Cut(mark, " ")
	number, _ := strings.CutPrefix(word, "serial=")
	serial, _ := strconv.ParseUint(number, 10, 64) // unreadable: as if there were none
	return serial
}

// render returns the file for a change.
func render(options Options, change failover.Change) []byte {
	var text bytes.Buffer
	mark := markOf(change)
	fmt.Fprintf(&text, "%s%s\n\nupstream %s {\n", head, mark, options.Upstream)
	for _, line := range options.Lines {
		fmt.Fprintf(&text, "    %s\n", line)
	}
	for _, address := range change.Addresses {
		fmt.Fprintf(&text, "    server %s;\n", net.JoinHostPort(address.String(), strconv.Itoa(options.Port)))
	}
	fmt.Fprintf(&text, "}\n\nserver {\n    listen %s;\n    access_log off;\n    location / {\n        default_type text/plain;\n        return 200 \"%s%s$pid\";\n    }\n}\n", options.Status, mark, pidWord)
	return text.Bytes()
}

// inFile is what a file leads to.
type inFile struct {
	text      []byte
	mark      string // of our last change; empty: the file is not ours, or not there
	addresses []netip.Addr
}

// readFile reads the file that stands there now; none is an empty one.
func readFile(path string) (inFile, error) {
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return inFile{}, nil
	}
	if err == nil && info.Size() > fileMax {
		err = fmt.Errorf("%s: larger than %d MiB", path, fileMax>>20)
	}
	if err != nil {
		return inFile{}, err
	}
	text, err := os.ReadFile(path)
	return parseFile(text), err
}

func parseFile(text []byte) inFile {
	found := inFile{text: text}
	if rest, ours := bytes.CutPrefix(text, []byte(head)); ours {
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		found.mark = string(line)
	}
	for _, match := range serverLine.FindAllSubmatch(text, -1) {
		written := string(match[1])
		if host, _, err := net.SplitHostPort(written); err == nil {
			written = host
		}
		if address, err := netip.ParseAddr(strings.Trim(written, "[]")); err == nil {
			found.addresses = append(found.addresses, address)
		}
	}
	found.addresses = failover.Sorted(found.addresses)
	return found
}

// replace puts a text in the place of the file in one step: a reload at any moment reads the old file or the new one.
func replace(path string, text []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".firedrill-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already when all went well
	_, err = file.Write(text)
	if err == nil {
		err = file.Chmod(0o644) // nginx's configuration is no secret
	}
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
