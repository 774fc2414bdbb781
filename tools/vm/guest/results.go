package guest

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// frame begins each line in which a test binary started with -test.v=test2json tells of tests, and no line that a test prints itself.
const frame = "\x16"

// outcome is such a line when a test has ended.
var outcome = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)

// lineMax bounds a line; what is longer is cut by the reader.
const lineMax = 1 << 20

// Results is what machines have said.
type Results struct {
	Passed, Failed, Skipped []string          // run and test
	Boots                   []string          // the kernel's release, each time that a machine came up
	Ended                   bool              // the machine said that it is done
	Output                  map[string]string // of each run, as its tests printed it

	running string // the run that has begun and not ended
	ran     bool   // a test of it has ended
}

// Read adds what one machine printed on its second serial port, from its start to its end.
func (r *Results) Read(from io.Reader) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, lineMax)
	for lines.Scan() {
		r.take(strings.TrimRight(lines.Text(), "\r"))
	}
	return lines.Err()
}

func (r *Results) take(line string) {
	switch {
	case strings.HasPrefix(line, markBoot):
		// A run during which the machine went down is begun again, or was given up by init, which says so.
		r.Boots = append(r.Boots, strings.TrimPrefix(line, markBoot+" "))
		r.running = ""
	case strings.HasPrefix(line, markRun):
		r.running, r.ran = strings.TrimPrefix(line, markRun), false
	case strings.HasPrefix(line, markEnd):
		name, status, _ := strings.Cut(strings.TrimPrefix(line, markEnd), " ")
		r.end(name, status)
	case strings.HasPrefix(line, markFail):
		r.Failed = append(r.Failed, strings.TrimPrefix(line, markFail))
	case line == markDone:
		r.Ended = true
	default:
		r.say(line)
	}
}

func (r *Results) say(line string) {
	if r.Output == nil {
		r.Output = map[string]string{}
	}
	told, isTold := strings.CutPrefix(line, frame)
	r.Output[r.running] += told + "\n"
	if !isTold {
		return
	}
	match := outcome.FindStringSubmatch(told)
	if match == nil {
		return
	}
	test := r.running + " " + match[2]
	r.ran = true
	switch match[1] {
	case "PASS":
		r.Passed = append(r.Passed, test)
	case "SKIP":
		r.Skipped = append(r.Skipped, test)
	default:
		r.Failed = append(r.Failed, test)
	}
}

// end closes a run. One that failed without a test that says so, or in which no test ran, is a failure by itself.
func (r *Results) end(name, status string) {
	own := func(test string) bool { return strings.HasPrefix(test, name+" ") }
	switch {
	case name != r.running:
		r.Failed = append(r.Failed, name+" ended without having begun")
	case status != "" && !slices.ContainsFunc(r.Failed, own):
		r.Failed = append(r.Failed, fmt.Sprintf("%s ended badly: %s", name, status))
	case !r.ran:
		r.Failed = append(r.Failed, name+": no test ran")
	}
	r.running = ""
}

// Close says that no machine will say more. What was not ended by then has failed.
func (r *Results) Close() {
	if r.running != "" {
		r.Failed = append(r.Failed, r.running+" did not end")
	}
	if !r.Ended {
		r.Failed = append(r.Failed, "the machine did not come to its end")
	}
}
