//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/client"
	"firedrill/internal/lint"
	"firedrill/internal/report"
)

// remote reports whether a server is to be asked.
func (o fleetOptions) remote() bool { return o.server != "" || o.credentials != "" }

// withoutServer refuses flags that mean something at a server alone.
func withoutServer(command *cobra.Command, names ...string) error {
	for _, name := range names {
		if command.Flags().Changed(name) {
			return &drill.Error{Op: operation(command), Kind: drill.Invalid, Err: fmt.Errorf("--%s is for a server", name), Hint: "add --server URL, or leave it out"}
		}
	}
	return nil
}

// withServer refuses flags that mean nothing at a server.
func withServer(command *cobra.Command, names ...string) error {
	for _, name := range names {
		if command.Flags().Changed(name) {
			return &drill.Error{Op: operation(command), Kind: drill.Invalid, Err: fmt.Errorf("--%s is for files that lie here, and the server has its own", name), Hint: "leave --" + name + " out, or --server"}
		}
	}
	return nil
}

// farLog is the log of a drill that a server conducted, as it was fetched.
type farLog struct {
	run  fleet.DrillRun
	open opening
	kept io.Closer // its file, which has no name
}

// fetchLog fetches the log of a drill that is over. Whoever calls closes what is kept of it.
func fetchLog(ctx context.Context, c *client.Client, id string) (farLog, error) {
	var far farLog
	if err := c.Call(ctx, "drillrun", id, &far.run); err != nil {
		return far, err
	}
	if !far.run.Done() {
		return far, &drill.Error{Op: "drill " + far.run.ID, Kind: drill.Unproven, Err: errors.New("it is not over"), Hint: "firedrill fleet drill follow " + far.run.ID}
	}
	file, err := os.CreateTemp("", "firedrill-log-*")
	if err != nil {
		return far, err
	}
	err = os.Remove(file.Name())
	size := 0
	for part := (fleet.LogPart{}); err == nil && (!part.Done || part.Text != ""); {
		if err = c.Call(ctx, "drilllog", fleet.LogRequest{ID: far.run.ID, From: part.Next}, &part); err == nil {
			_, err = file.WriteString(part.Text)
			size += len(part.Text)
		}
		if err == nil && !part.Done && part.Text == "" {
			err = errors.New("the log does not go on, and the drill is over") // a line longer than a part
		}
	}
	if err == nil && size == 0 {
		err = &drill.Error{Op: "drill " + far.run.ID, Kind: drill.Unproven, Err: fmt.Errorf("this server has no log of it: %s", drillOutcomeText(far.run)), Hint: "it is kept by the server that conducted it: " + orDash(far.run.Server)}
	}
	if err != nil {
		return far, errors.Join(err, file.Close())
	}
	far.kept = file
	far.open = func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(file, 0, math.MaxInt64)), nil }
	return far, nil
}

// judgeFar judges the log of a drill that a server conducted, here. What the server says counts only where the log says the same.
func (o fleetOptions) judgeFar(ctx context.Context, s streams, id string) (in report.Input, kept io.Closer, err error) {
	c, _, err := o.connect()
	if err != nil {
		return in, nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, fleetFetchMax)
	defer cancel()
	far, err := fetchLog(ctx, c, id)
	if err != nil {
		return in, nil, err
	}
	in, err = judgedForReport(s, "-", far.open, nil)
	if err == nil {
		in.LogName = far.run.Result + "/" + logName
		err = sameAsServer(far.run, in)
	}
	if err != nil {
		return in, nil, errors.Join(err, far.kept.Close())
	}
	return in, far.kept, nil
}

// fleetFetchMax bounds fetching one log.
const fleetFetchMax = 10 * time.Minute

func sameAsServer(run fleet.DrillRun, in report.Input) error {
	if run.Outcome == string(in.Verdict.Outcome) && (run.Head == "" || run.Head == in.Head) {
		return nil
	}
	return &drill.Error{Op: "drill " + run.ID, Kind: drill.Unproven, Err: fmt.Errorf("its log says %s and ends with %s, and the server says %s and %s", in.Verdict.Outcome, in.Head, run.Outcome, run.Head),
		Hint: "Look at the log on the server itself: it may have been altered, or the server is of another version."}
}

// runFar has a server conduct a drill. Of a service file that lies here the server must have the same text: what is meant is what is run.
func runFar(ctx context.Context, s streams, o fleetOptions, options runOptions, request fleet.DrillRequest) error {
	if request.Service == "" {
		text, err := os.ReadFile(options.file)
		if err != nil {
			return &drill.Error{Op: "read the service file", Kind: drill.Invalid, Err: err, Hint: "Name it with --file, or a service of the server with --service."}
		}
		service, err := drill.ParseService(text, options.file)
		if err != nil {
			return err
		}
		var there fleet.ServiceFile
		if err := o.call(ctx, "service", fleet.ServiceRequest{Name: service.Name}, &there); err != nil {
			return err
		}
		if there.Text != string(text) {
			return &drill.Error{Op: "run", Kind: drill.Refused, Err: fmt.Errorf("%s is not what the server has of %s, version %d of %s", options.file, service.Name, there.Version, there.At.Local().Format(time.DateTime)),
				Hint: "put it there: firedrill fleet service put " + options.file + "; or run what is there: --service " + service.Name}
		}
		request.Service = service.Name
	}
	o.json = options.json
	return startFleetDrill(ctx, s, o, request, false, options.out)
}

// farDiagnosis is what is known of a host of a fleet.
type farDiagnosis struct {
	Name   string       `json:"name"`
	There  string       `json:"there"` // yes, or since when not
	Facts  *fleet.Facts `json:"facts,omitempty"`
	Cannot []string     `json:"cannot"` // kinds of attack that cannot run there; all, as long as nothing is known of it
}

// doctorFar tells what hosts of a fleet said of themselves.
func doctorFar(ctx context.Context, s streams, o fleetOptions, names []string) error {
	var hosts []fleet.HostView
	if err := o.call(ctx, "hosts", nil, &hosts); err != nil {
		return err
	}
	found, err := diagnoseFar(hosts, names, time.Now())
	if err != nil {
		return err
	}
	if o.json {
		err = printJSON(s, found)
	} else {
		err = printFarDiagnoses(s, found)
	}
	if err != nil {
		return err
	}
	for _, one := range found {
		if len(one.Cannot) > 0 || one.There != "yes" {
			return exitError{exitRefused}
		}
	}
	return nil
}

func diagnoseFar(hosts []fleet.HostView, names []string, now time.Time) ([]farDiagnosis, error) {
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	found := []farDiagnosis{}
	var known []string
	for _, h := range hosts {
		if known = append(known, h.Name); len(names) > 0 && !wanted[h.Name] {
			continue
		}
		delete(wanted, h.Name)
		one := farDiagnosis{Name: h.Name, There: there(h, now), Facts: h.Facts, Cannot: []string{}}
		can := map[string]bool{}
		if h.Facts != nil {
			for _, kind := range h.Facts.Kinds {
				can[kind] = true
			}
		}
		for _, kind := range kinds.All() {
			if name := kind.Describe().Name; !can[name] {
				one.Cannot = append(one.Cannot, name)
			}
		}
		found = append(found, one)
	}
	for _, name := range names {
		if wanted[name] {
			return nil, &drill.Error{Op: "doctor", Kind: drill.Invalid, Err: fmt.Errorf("no host of the fleet is called %q; %s", name, drill.Suggest(name, known)), Hint: "see: firedrill fleet hosts"}
		}
	}
	return found, nil
}

func printFarDiagnoses(s streams, found []farDiagnosis) error {
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "HOST\tTHERE\tKERNEL\tVERSION\tLEASH\tCANNOT")
	for _, one := range found {
		facts := fleet.Facts{}
		if one.Facts != nil {
			facts = *one.Facts
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%gs\t%s\n", one.Name, one.There, orDash(facts.Kernel), orDash(facts.Version), facts.Leash, orDash(strings.Join(one.Cannot, ", ")))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "why one cannot, and the cure: firedrill doctor on that host")
	return nil
}

// lintFar looks at service files as they are on a server: that of one service, or all. Zones and instances are not looked at, for which credentials
// of the service would be needed.
func lintFar(ctx context.Context, o fleetOptions, name string) (found lintReport, err error) {
	found.Findings = []lint.Finding{}
	files := []fleet.ServiceFile{{Name: name}}
	if name == "" {
		if err := o.call(ctx, "services", nil, &files); err != nil {
			return found, err
		}
	}
	for _, file := range files {
		if err := o.call(ctx, "service", fleet.ServiceRequest{Name: file.Name}, &file); err != nil {
			return found, err
		}
		shown := fmt.Sprintf("%s (version %d)", file.Name, file.Version)
		service, err := drill.ParseService([]byte(file.Text), shown)
		if err != nil {
			return found, err
		}
		for _, finding := range lint.Service(service) {
			finding.File = shown
			finding.Line, finding.Column = drill.Place([]byte(file.Text), finding.Where)
			found.Findings = append(found.Findings, finding)
		}
	}
	return found, nil
}
