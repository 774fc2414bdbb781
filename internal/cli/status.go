package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/attack"
	"firedrill/internal/attack/kinds"
	"firedrill/internal/drill"
)

// newStatusCommand makes "firedrill status".
func newStatusCommand(s streams) *cobra.Command {
	var asJSON bool
	var far farFleet
	statusCmd := &cobra.Command{
		Use:   "status",
		Short: "Show the attacks on this host: what, until when, and what they hit; or with --server those of a fleet",
		Long: "Show the attacks on this host: what, until when, and what they hit; and what attacks that are dead have left, which firedrill halt\n" +
			"removes. An ordinary user sees only the attacks that run.\n\n" +
			"With --server it shows how the fleet stands: the lever, what is in force on which hosts, which are not there, and the runs and drills that\n" +
			"are not over.\n\n" +
			"EXIT STATUS\n  0    the list is printed, whatever is in it\n  2    usage: a wrong flag or argument\n  3    the server cannot be reached\n  4    refused: your role, or the scopes of the token\n  70   our own fault",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if far.server != "" || far.credentials != "" {
				far.json = asJSON
				return statusFleet(cmd.Context(), s, far)
			}
			_, undone := takeBack(cmd.Context(), s)
			found, err := lookAround(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return errors.Join(undone, printJSON(s, found))
			}
			printStatus(s, found)
			return undone
		},
	}
	statusCmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	statusCmd.Flags().StringVar(&far.server, serverFlag, "", serverUsage)
	statusCmd.Flags().StringVar(&far.credentials, "fleet", "", credentialsUsage)
	return statusCmd
}

// hostStatus is what status prints as JSON.
type hostStatus struct {
	Running []attack.Status `json:"running"`
	Residue []string        `json:"residue"`          // what is there without a live attack that owns it
	Unseen  string          `json:"unseen,omitempty"` // why it cannot be known whether there is residue
}

// inForce names all that is or may be in force.
func (h hostStatus) inForce() []string {
	var found []string
	for _, status := range h.Running {
		found = append(found, status.Attack+" "+status.GUID)
	}
	for _, what := range h.Residue {
		found = append(found, what+" of a dead attack")
	}
	return found
}

// lookAround reads what is in force. The residue is read first: what is there belongs to an attack that runs still, or has ended in
// between; so when any seems to belong to nobody it is looked for again.
func lookAround(ctx context.Context) (hostStatus, error) {
	status := hostStatus{Residue: []string{}}
	for range 2 {
		left, lookErr := residue(ctx)
		running, err := attack.Running(ctx)
		if err != nil {
			return hostStatus{}, err
		}
		status.Running = running
		if lookErr != nil && drill.KindOf(lookErr) != drill.Unsupported {
			return hostStatus{}, lookErr
		}
		if lookErr != nil {
			status.Unseen = lookErr.Error()
			break
		}
		status.Residue = slices.DeleteFunc(left, func(what string) bool {
			return slices.ContainsFunc(running, func(r attack.Status) bool { return strings.Contains(what, r.GUID) })
		})
		if len(status.Residue) == 0 {
			break
		}
	}
	return status, nil
}

// residue lists what all kinds have on this host now, each thing once: several kinds may look at the same place.
func residue(ctx context.Context) ([]string, error) {
	left := []string{}
	var errs []error
	for _, kind := range kinds.All() {
		if sweeper, ok := kind.(attack.Sweeper); ok {
			more, err := sweeper.Residue(ctx)
			left = append(left, more...)
			errs = append(errs, err)
		}
	}
	slices.Sort(left)
	return slices.Compact(left), errors.Join(errs...)
}

func printStatus(s streams, found hostStatus) {
	if len(found.Running)+len(found.Residue) == 0 {
		fmt.Fprintln(s.out, "nothing is in force")
	}
	for _, status := range found.Running {
		fmt.Fprintf(s.out, "%s %s: %s, process %d", status.Attack, status.GUID, status.Phase, status.PID)
		if status.PartOf != "" {
			fmt.Fprintf(s.out, ", part of %s", status.PartOf)
		}
		if len(status.Pods) > 0 {
			fmt.Fprintf(s.out, ", in pods %s", strings.Join(status.Pods, ", "))
		}
		if status.Until != nil {
			fmt.Fprintf(s.out, ", until %s (%s left)", status.Until.Format(time.TimeOnly), time.Until(*status.Until).Round(time.Second))
		}
		if h := status.Hits; h != nil {
			fmt.Fprintf(s.out, ", packets hit: %d egress, %d ingress, %d forwarded", h.Egress, h.Ingress, h.Forward)
		}
		if status.By != "" {
			fmt.Fprintf(s.out, ", started by %s", status.By)
		}
		if status.Remains != "" {
			fmt.Fprintf(s.out, ", would remain if we died: %s", status.Remains)
		}
		fmt.Fprintln(s.out)
	}
	for _, what := range found.Residue {
		fmt.Fprintf(s.out, "%s: left by an attack that is dead; remove it with: firedrill halt\n", what)
	}
	if found.Unseen != "" {
		fmt.Fprintf(s.out, "what dead attacks may have left cannot be seen: %s\n", found.Unseen)
	}
}
