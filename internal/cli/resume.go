//go:build !hostpart

package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"firedrill/internal/conductor"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// runsLooked bounds how many runs, from the newest on, are looked at for one that was broken off.
const runsLooked = 200

// goOn makes the plan that goes on with an earlier run.
func (o *runOptions) goOn(service drill.Service, facts drill.Facts, items []string) (drill.Plan, error) {
	const op = "go on with a run"
	if o.revision != "" {
		return drill.Plan{}, &drill.Error{
			Op: op, Kind: drill.Invalid, Err: errors.New("--revision does not go with --resume: a run goes on with what it deployed"),
			Hint: "Leave it out, or begin anew: firedrill pipeline --revision " + o.revision,
		}
	}
	path := o.resume
	if path == goOnLast {
		if path = newestPipeline(o.out, service.Name); path == "" {
			return drill.Plan{}, &drill.Error{
				Op: op, Kind: drill.Invalid, Err: fmt.Errorf("no run of the pipeline of %s lies below %s", service.Name, o.out),
				Hint: "Name its directory or log: firedrill pipeline --resume=RUN; or begin anew: firedrill pipeline",
			}
		}
	}
	earlier, err := readEarlier(path)
	if err != nil {
		return drill.Plan{}, err
	}
	if err := o.sameService(earlier, service, facts, items); err != nil {
		return drill.Plan{}, err
	}
	o.earlier = path
	plan, err := conductor.Resume(earlier, facts.Live, time.Now())
	plan.Freeze = service.Freeze // one that came meanwhile holds
	return plan, err
}

// readEarlier reads the log of a run, whole or torn at its end, and verifies it. path is the log or its directory.
func readEarlier(path string) (conductor.Earlier, error) {
	if about, err := os.Stat(path); err == nil && about.IsDir() {
		path = filepath.Join(path, logName)
	}
	one, err := readEarlierLog(path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return conductor.Earlier{}, &drill.Error{Op: "go on with a run", Kind: drill.Invalid, Err: err, Hint: "Name the directory of a run, or its " + logName + "."}
	case err != nil:
		return conductor.Earlier{}, &drill.Error{Op: "go on with " + path, Kind: drill.Refused, Err: err, Hint: "An altered log proves nothing. Begin anew: firedrill pipeline"}
	}
	earlier := conductor.Earlier{Log: one.Log, Head: one.Head}
	for _, event := range one.Log {
		if started, is := event.Fact.(*history.RunStarted); is {
			earlier.Plan = started.Plan
			break
		}
	}
	judged := verdict.Judge(earlier.Plan, one.Log)
	earlier.Proven = func(step int) bool {
		return step < len(judged.Steps) && judged.Steps[step].Outcome == history.Passed
	}
	return earlier, nil
}

// headOf chains the events again, to know what the last of them is signed with.
func headOf(log []history.Event) (string, error) {
	writer := history.NewWriter(io.Discard)
	for _, event := range log {
		if _, err := writer.Append(event); err != nil {
			return "", err
		}
	}
	_, head := writer.Head()
	return head, nil
}

// sameService refuses to go on when the service file says something else than when the run began: what was proven is of another plan.
func (o *runOptions) sameService(earlier conductor.Earlier, service drill.Service, facts drill.Facts, items []string) error {
	was := earlier.Plan
	facts.Live = was.Live
	if len(was.Proven) > 0 {
		facts.Live = was.Proven[0].Live
	}
	is, err := drill.Compile(service, facts, items)
	if err != nil {
		return err
	}
	changed := func(what string) error {
		return &drill.Error{
			Op: "go on with run " + earlier.Run(), Kind: drill.Refused, Err: fmt.Errorf("%s is not what it was when the run began: %s", o.file, what),
			Hint: "What was proven is of another plan. Begin anew: firedrill pipeline",
		}
	}
	if is.Service != was.Service || len(is.Steps) != len(was.Proven)+len(was.Steps) || len(was.Steps) == 0 {
		return changed("service or pipeline")
	}
	for i, proven := range was.Proven {
		if is.Steps[i].Name != proven.Name {
			return changed(fmt.Sprintf("step %d is %s, and was %s", i+1, is.Steps[i].Name, proven.Name))
		}
	}
	is.Steps = is.Steps[len(was.Proven):]
	is.Steps[0].Begun = was.Steps[0].Begun
	is.Live, is.Proven, is.Freeze = was.Live, was.Proven, was.Freeze
	if is.Deploy != nil && was.Deploy != nil {
		deploy := *is.Deploy
		deploy.Source.Revision = was.Deploy.Source.Revision // the file's own, or one that was named with --revision
		is.Deploy = &deploy
	}
	part, err := differs(is, was)
	if err == nil && part != "" {
		err = changed(part)
	}
	return err
}

// differs names the first part in which two plans are not the same as they are written down, or "".
func differs(a, b drill.Plan) (string, error) {
	var parts [2]map[string]json.RawMessage
	for i, plan := range []drill.Plan{a, b} {
		text, err := json.Marshal(plan)
		if err != nil {
			return "", err
		}
		if err := json.Unmarshal(text, &parts[i]); err != nil {
			return "", err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(parts[0])) {
		if string(parts[0][name]) != string(parts[1][name]) {
			return name, nil
		}
	}
	for _, name := range slices.Sorted(maps.Keys(parts[1])) {
		if _, there := parts[0][name]; !there {
			return name, nil
		}
	}
	return "", nil
}

// newestPipeline finds the newest run of the service's pipeline below a directory, or "". Single drills and ways back do not count.
func newestPipeline(out, service string) string {
	entries, err := os.ReadDir(out)
	if err != nil {
		return ""
	}
	slices.Reverse(entries) // names begin with the time
	looked := 0
	for _, entry := range entries {
		if !entry.IsDir() || !runDirectory().MatchString(entry.Name()) {
			continue
		}
		if looked++; looked > runsLooked {
			return ""
		}
		directory := filepath.Join(out, entry.Name())
		if started := beginOf(filepath.Join(directory, logName)); started != nil && started.Plan.Service == service && started.Command == commandPipeline {
			return directory
		}
	}
	return ""
}

// beginOf reads how a log begins; nil when it cannot be read.
func beginOf(path string) *history.RunStarted {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	line, err := bufio.NewReader(io.LimitReader(file, eventLine)).ReadBytes('\n')
	if err != nil {
		return nil
	}
	var event history.Event
	if json.Unmarshal(line, &event) != nil {
		return nil
	}
	started, _ := event.Fact.(*history.RunStarted)
	return started
}

// abortedNote says that the run of the pipeline before was broken off, and how to go on with it; "" when it was not.
func abortedNote(options runOptions, service string) string {
	if options.command != commandPipeline || options.resume != "" {
		return ""
	}
	directory := newestPipeline(options.out, service)
	if directory == "" {
		return ""
	}
	earlier, err := readEarlier(directory)
	if err != nil || len(earlier.Log) == 0 || !earlier.Aborted() {
		return ""
	}
	where := "after its last step"
	if next := earlier.Next(); next < len(earlier.Plan.Steps) {
		where = fmt.Sprintf("in step %d of %d, %s", next+1, len(earlier.Plan.Steps), earlier.Plan.Steps[next].Name)
	}
	return fmt.Sprintf("the run before was broken off %s. This one begins anew; to go on with that one in its place: firedrill pipeline --resume=%s", where, directory)
}
