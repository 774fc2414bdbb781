//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/playbook"
	"firedrill/internal/stage"
)

// stageTellEvery is between lines that say how far gathering the evidence is.
const stageTellEvery = 5 * time.Second

// fromServer takes the service file that is on the server. Its playbooks lie with whoever put it there.
func (o stageOptions) fromServer(ctx context.Context, evidence *stage.Evidence) error {
	var file fleet.ServiceFile
	if err := o.far.call(ctx, "service", fleet.ServiceRequest{Name: o.service}, &file); err != nil {
		return err
	}
	evidence.File = fmt.Sprintf("%s (version %d)", file.Name, file.Version)
	service, err := drill.ParseService([]byte(file.Text), evidence.File)
	if err != nil {
		return err
	}
	evidence.Service = service
	away := func(file, of string) {
		if file != "" {
			evidence.Books = append(evidence.Books, stage.Book{File: file, For: of, Problem: "it lies beside the service file, and not on the server; name that with --file where both lie", Missing: playbook.Roles})
		}
	}
	away(service.Playbook, playbook.DisasterRecovery)
	for _, dependency := range service.Dependencies {
		away(dependency.Playbook, dependency.Name)
	}
	return nil
}

// gatherFar adds the drills that the server conducted for the service, each verified here. What does not hold is told and is no evidence; a server
// that goes away meanwhile is an error, because less evidence than there is would be another stage.
func (o stageOptions) gatherFar(ctx context.Context, s streams, evidence *stage.Evidence) error {
	signed, err := readPublicKeys(o.signedBy)
	if err != nil {
		return err
	}
	key := trust{signed, len(signed) == 0}
	runs, err := o.farDrills(ctx, evidence.Service.Name, evidence.Now)
	if err != nil {
		return err
	}
	said := time.Now()
	for i, run := range runs {
		if now := time.Now(); now.Sub(said) >= stageTellEvery {
			said = now
			fmt.Fprintf(s.err, "firedrill: verified %d of %d drills\n", i, len(runs))
		}
		err := o.farResult(ctx, s, run, key, evidence)
		if err != nil && drill.KindOf(err) != drill.Unproven {
			return err
		}
		if err != nil {
			fmt.Fprintf(s.err, "firedrill: drill %s is no evidence: %v\n", run.Result, err)
		}
	}
	return nil
}

// farDrills are the drills of a service that are over and may be evidence, the newest first.
func (o stageOptions) farDrills(ctx context.Context, service string, now time.Time) (all []fleet.DrillRun, err error) {
	c, _, err := o.far.connect()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for asked := (fleet.DrillsRequest{Service: service}); ; {
		var page []fleet.DrillRun
		asking, cancel := context.WithTimeout(ctx, fleetCallMax)
		err := c.Call(asking, "drills", asked, &page)
		cancel()
		if err != nil {
			return nil, err
		}
		for _, run := range page {
			if run.Started.Before(now.Add(-control.ProofLife)) {
				return all, nil
			}
			if run.Done() && run.Request.Service == service {
				all = append(all, run)
			}
		}
		if len(page) == 0 || page[len(page)-1].ID == asked.Before {
			return all, nil
		}
		asked.Before = page[len(page)-1].ID
	}
}

// farResult brings a drill, verifies it, and adds it. One that is kept already is verified as it lies there.
func (o stageOptions) farResult(ctx context.Context, s streams, run fleet.DrillRun, key trust, evidence *stage.Evidence) error {
	b := brought{asked: run.ID, run: run}
	if o.far.out != "" && fleet.CheckDrillFile(run.Result) == nil {
		if _, err := os.Stat(filepath.Join(o.far.kept(b), logName)); err == nil {
			b.directory = o.far.kept(b)
			return b.asEvidence(s, b.directory, key, evidence)
		}
	}
	b, err := o.far.bring(ctx, s, run.ID)
	if err != nil {
		return err
	}
	err = b.asEvidence(s, b.directory, key, evidence)
	if err == nil && o.far.out != "" {
		err = o.far.keep(&b)
	}
	return errors.Join(err, b.discard())
}

// asEvidence adds what lies in a directory, if it holds.
func (b brought) asEvidence(s streams, directory string, key trust, evidence *stage.Evidence) error {
	found, err := b.verify(streams{out: io.Discard, err: s.err}, key)
	if err != nil {
		return &drill.Error{Kind: drill.Unproven, Err: err}
	}
	var wrong []string
	for _, f := range found.Findings {
		if f.Answer == broken || f.Answer == unknown && !key.unsigned {
			wrong = append(wrong, f.Name+": "+f.Detail)
		}
	}
	if len(wrong) > 0 {
		return &drill.Error{Kind: drill.Unproven, Err: errors.New(strings.Join(wrong, "; "))}
	}
	before := len(evidence.Runs)
	if err := oneResult(filepath.Join(directory, logName), evidence); err != nil {
		return &drill.Error{Kind: drill.Unproven, Err: err}
	}
	for i := before; i < len(evidence.Runs); i++ {
		evidence.Runs[i].Name = b.run.Result
	}
	return nil
}
