package nginx

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"firedrill/internal/failover"
	"firedrill/internal/failover/move"
)

// pidWord stands between the mark and the process id of the worker in what the running nginx says.
const pidWord = " pid="

// head begins every file of ours; what follows it is the mark of the change.
const head = "# Written by firedrill; changes here are undone. "

const (
	fileMax  = 1 << 20 // bytes that are read of a file that is to be replaced
	fileMode = 0o644   // nginx's configuration is no secret
)

var serverLine = regexp.MustCompile(`(?m)^\s*server\s+(\S+?)\s*(?:\s[^;]*)?;`)

// render returns the file for a change.
func render(options Options, change failover.Change) []byte {
	var text bytes.Buffer
	mark := change.Mark()
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
	text, err := move.Read(path, fileMax)
	if errors.Is(err, fs.ErrNotExist) {
		return inFile{}, nil
	}
	if err != nil {
		return inFile{}, err
	}
	return parseFile(text), nil
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
