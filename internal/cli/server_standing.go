//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"firedrill/internal/awsapi/cloudwatch"
	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/playbook"
	"firedrill/internal/schedule"
	"firedrill/internal/stage"
	"firedrill/internal/web"
)

// standingEvery is how often service files and the evidence for their stages are gone through again. Logs that were changed are judged again.
const standingEvery = 5 * time.Minute

// standings are what service files say, as it was at the last look.
type standings struct {
	files, results []string
	log            *slog.Logger
	since          time.Time // when the server was started: a drill that never was is wanted from then on
	proven         *evidenceBook

	mu  sync.Mutex // guards the field below
	all []web.Standing
}

func (s *standings) last() []web.Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// wanted are the cadences of the service files, as of the last look.
func (s *standings) wanted() []fleet.Wanted {
	var all []fleet.Wanted
	for _, standing := range s.last() {
		all = append(all, standing.Wanted...)
	}
	return all
}

// keep looks again and again until ctx ends.
func (s *standings) keep(ctx context.Context) {
	tick := time.NewTicker(standingEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		all := s.looks(ctx, time.Now())
		s.mu.Lock()
		s.all = all
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// looks goes through all service files. What logs prove is gathered once for all of them.
func (s *standings) looks(ctx context.Context, now time.Time) []web.Standing {
	if len(s.files) == 0 {
		return nil
	}
	proven, err := s.proven.gather(ctx, s.results)
	var all []web.Standing
	for _, file := range s.files {
		standing := s.look(ctx, file, proven, now)
		if err != nil {
			standing.Problem = err.Error()
		}
		all = append(all, standing)
	}
	return all
}

func (s *standings) look(ctx context.Context, file string, proven stage.Evidence, now time.Time) web.Standing {
	service, err := loadService(file)
	if err != nil {
		s.log.WarnContext(ctx, "a service file is wrong", "file", file, "error", err)
		return web.Standing{Service: file, Problem: err.Error()}
	}
	standing := web.Standing{Service: service.Name, Wanted: fleet.WantedBy(service, s.since)}
	if err := s.evidence(file, service, proven, now, &standing); err != nil {
		standing.Problem = err.Error()
	}
	entries, err := schedule.FromService(service)
	if err != nil {
		standing.Problem = err.Error()
	}
	for _, status := range schedule.Decide(entries, now, schedule.State{Since: now}).Statuses {
		if !status.Next.IsZero() && (standing.Next.IsZero() || status.Next.Before(standing.Next)) {
			standing.Next, standing.What = status.Next, status.Entry.Name
		}
	}
	return standing
}

// evidence judges the stage as firedrill stage does.
func (s *standings) evidence(file string, service drill.Service, proven stage.Evidence, now time.Time, standing *web.Standing) error {
	evidence := stage.Evidence{Now: now, Service: service, File: file, Disaster: playbook.DisasterRecovery, Runs: proven.Runs, Rehearsals: proven.Rehearsals}
	var err error
	if evidence.Books, err = booksOf(service, stageOptions{file: file}, now); err != nil {
		return err
	}
	judged := stage.Judge(evidence)
	standing.Stage = judged.Stage
	if next, ok := judged.Next(); ok {
		standing.NextItem = next.Title + ": " + next.Evidence
	}
	for _, book := range evidence.Books {
		standing.Books = append(standing.Books, web.Playbook{File: book.File, For: book.For, Problem: book.Problem, Missing: book.Missing, Agreed: book.AgreedAt, Expires: book.Expires, Executable: book.Executable, Steps: book.Steps})
	}
	return nil
}

// recordOf judges the log of a run again, for the history of the dashboard.
func recordOf(log string) (fleet.Record, error) {
	in, whole, err := judgeFile(streams{out: io.Discard, err: io.Discard}, log, nil)
	if err == nil && (whole != nil || in.Plan.Service == "") {
		err = errors.New("it is no log of drills")
	}
	if err != nil {
		return fleet.Record{}, err
	}
	return recordOfVerdict(in.Verdict)
}

// alarmsOf are the alarms of the endpoint, as the dashboard shows them.
func alarmsOf(engine *cloudwatch.Engine) func() ([]web.Alarm, error) {
	return func() ([]web.Alarm, error) {
		var all []web.Alarm
		for _, one := range engine.Standing() {
			all = append(all, web.Alarm{Region: one.Region, Name: one.Name, State: one.State, Reason: one.Reason, Since: one.Since})
		}
		return all, nil
	}
}
