//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database/pgsql"
	"firedrill/internal/lint"
)

// lintZoneMax bounds the look at one hosted zone, or one instance.
const lintZoneMax = time.Minute

type lintOptions struct {
	far                     fleetOptions
	file, service           string
	names                   []string
	asJSON, strict, offline bool
}

func newLintCommand(s streams) *cobra.Command {
	var options lintOptions
	command := &cobra.Command{
		Use:   "lint",
		Short: "Find what a service file, a zone in Route 53 or an instance of RDS gets wrong without being wrong",
		Args:  cobra.NoArgs,
		Long: `Looks for traps: alarms that say nothing when a host dies, records that are always healthy, health checks that decide by the other side or by
an old copy of an alarm, objectives that the settings cannot meet, drills that expect nothing. For names of the provider route53 (and for those of
--name) the hosted zone, its health checks and the alarms that they have copied are read too; of databases with driver rds what RDS says of the
instance. Nothing is changed there.

With --server it looks at the service files that are on a server, or at that of --service, and at them alone.

An error is something that will not do what it seems to do; a warning is what will, but worse, or unseen.

EXIT STATUS
  0    no error was found
  1    an error was found; with --strict also for a warning
  2    usage, or the service file is wrong
  3    a zone or an instance could not be read, or the server cannot be reached
  4    refused: your role, or the scopes of the token`,
		Example: "  firedrill lint\n  firedrill lint --json | jq '.findings[].rule'\n  firedrill lint --name www.example.com",
		RunE: func(command *cobra.Command, _ []string) error {
			if !options.far.remote() {
				if err := withoutServer(command, "service"); err != nil {
					return err
				}
				return runLint(command.Context(), s, options)
			}
			if err := withServer(command, "file", "name"); err != nil {
				return err
			}
			found, err := lintFar(command.Context(), options.far, options.service)
			if err != nil {
				return err
			}
			return tellLint(s, options, found, nil)
		},
	}
	flags := command.Flags()
	flags.StringVar(&options.file, "file", "firedrill.yaml", "service file")
	flags.StringSliceVar(&options.names, "name", nil, "name in Route 53 to look at as well (may be repeated); then there need be no service file")
	flags.BoolVar(&options.asJSON, "json", false, "print JSON")
	flags.BoolVar(&options.strict, "strict", false, "warnings count as errors")
	flags.BoolVar(&options.offline, "offline", false, "look at the service file alone")
	options.far.addServer(flags)
	flags.StringVar(&options.service, "service", "", "with --server: look at the file of this service alone")
	flags.Bool("help", false, "show this help")
	_ = command.MarkFlagFilename("file", "yaml", "yml") // fails only for a flag that is not defined
	return command
}

// lintReport is what lint prints as JSON.
type lintReport struct {
	Findings []lint.Finding `json:"findings"`
	Errors   int            `json:"errors"`
	Warnings int            `json:"warnings"`
	Unread   []string       `json:"unread,omitempty"` // zones and instances that could not be read, with the reason
}

func runLint(ctx context.Context, s streams, options lintOptions) error {
	var service drill.Service
	report := lintReport{Findings: []lint.Finding{}}
	text, err := os.ReadFile(options.file)
	if err == nil || len(options.names) == 0 || !errors.Is(err, os.ErrNotExist) {
		if service, err = loadService(options.file); err != nil {
			return err
		}
		for _, finding := range lint.Service(service) {
			finding.File = options.file
			finding.Line, finding.Column = drill.Place(text, finding.Where)
			report.Findings = append(report.Findings, finding)
		}
	}
	var unread error
	if !options.offline {
		unread = errors.Join(lintZones(ctx, service, options, &report), lintInstances(ctx, service, text, options, &report))
	}
	return tellLint(s, options, report, unread)
}

// tellLint counts and prints what was found, and returns what the exit code follows from.
func tellLint(s streams, options lintOptions, report lintReport, unread error) (err error) {
	for _, finding := range report.Findings {
		if finding.Severity == lint.Error {
			report.Errors++
		} else {
			report.Warnings++
		}
	}
	if options.asJSON {
		err = printJSON(s, report)
	} else {
		err = printLint(s, report)
	}
	if err != nil {
		return err
	}
	if report.Errors > 0 || (options.strict && report.Warnings > 0) {
		return &drill.Error{Op: "lint", Kind: drill.Failed, Err: fmt.Errorf("%d errors, %d warnings", report.Errors, report.Warnings), Hint: "Each finding names its cure."}
	}
	return unread
}

// lintZones looks at the hosted zones of the names of Route 53, each zone for all of its names.
func lintZones(ctx context.Context, service drill.Service, options lintOptions, report *lintReport) error {
	wanted := slices.Clone(service.Failover)
	for _, name := range options.names {
		known := func(f drill.Failover) bool {
			return f.Name == strings.TrimSuffix(name, ".") && f.Provider == drill.ProviderRoute53
		}
		if slices.ContainsFunc(wanted, known) {
			continue
		}
		ttl := drill.Seconds(0)
		other := drill.Failover{Name: strings.TrimSuffix(name, "."), Provider: drill.ProviderRoute53, TTL: &ttl, Route53: &drill.Route53{}}
		if service.AWS != nil {
			other.Route53.AWS = *service.AWS
		}
		wanted = append(wanted, other)
	}
	var unread error
	for _, f := range wanted {
		if f.Provider != drill.ProviderRoute53 {
			continue
		}
		found, err := lintZone(ctx, service, f, filepath.Dir(options.file))
		if err != nil {
			report.Unread = append(report.Unread, f.Name+": "+err.Error())
			unread = errors.Join(unread, &drill.Error{Op: "lint " + f.Name, Kind: drill.Unreachable, Err: err, Hint: drill.HintOf(err)})
			continue
		}
		for _, finding := range found {
			if !slices.Contains(report.Findings, finding) {
				report.Findings = append(report.Findings, finding)
			}
		}
	}
	return unread
}

// lintInstances looks at the instances of RDS.
func lintInstances(ctx context.Context, service drill.Service, text []byte, options lintOptions, report *lintReport) error {
	var unread error
	for _, d := range service.Databases {
		if d.Driver != drill.DatabaseRDS {
			continue
		}
		found, err := lintInstance(ctx, service, d, options.file)
		if err != nil {
			report.Unread = append(report.Unread, d.Name+": "+err.Error())
			unread = errors.Join(unread, &drill.Error{Op: "lint " + d.Name, Kind: drill.Unreachable, Err: err, Hint: drill.HintOf(err)})
			continue
		}
		for _, finding := range found {
			finding.File = options.file
			finding.Line, finding.Column = drill.Place(text, finding.Where)
			report.Findings = append(report.Findings, finding)
		}
	}
	return unread
}

func lintInstance(ctx context.Context, service drill.Service, d drill.Database, file string) ([]lint.Finding, error) {
	driver, err := rdsOf(d, file, pgsql.Server{})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lintZoneMax)
	defer cancel()
	instance, err := driver.Facts(ctx)
	if err != nil {
		return nil, err
	}
	instance.Database = d.Name
	return lint.OnInstance(instance, service), nil
}

func lintZone(ctx context.Context, service drill.Service, f drill.Failover, directory string) ([]lint.Finding, error) {
	publisher, err := route53Of(service, f, directory, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lintZoneMax)
	defer cancel()
	zone, err := publisher.Facts(ctx, f.Name)
	if err != nil {
		return nil, err
	}
	return lint.InZone(zone, service, []string{f.Name}), nil
}

func printLint(s streams, report lintReport) error {
	var b strings.Builder
	for _, f := range report.Findings {
		place := f.Where
		if f.File != "" {
			place = fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Where)
		}
		fmt.Fprintf(&b, "%s: %s: %s [%s]\n    %s\n", place, f.Severity, f.Problem, f.Rule, f.Cure)
	}
	for _, text := range report.Unread {
		fmt.Fprintf(&b, "not looked at: %s\n", text)
	}
	fmt.Fprintf(&b, "%d errors, %d warnings\n", report.Errors, report.Warnings)
	_, err := s.out.Write([]byte(b.String()))
	return err
}
