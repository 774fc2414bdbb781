//go:build !hostpart

package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"firedrill/internal/drill"
)

func printPlan(s streams, plan drill.Plan, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(s.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(plan)
	}
	fmt.Fprintf(s.out, "Plan for %s; %s is answered now. Nothing is touched.\n", plan.Service, plan.Live)
	for i, proven := range plan.Proven {
		fmt.Fprintf(s.out, "\n%d. %s\n   proven by run %s; not repeated\n", i+1, proven.Name, proven.Run)
		for _, host := range proven.Hosts {
			fmt.Fprintf(s.out, "   %s must still run %s\n", host.Host, host.Revision)
		}
	}
	for i, step := range plan.Steps {
		fmt.Fprintf(s.out, "\n%d. %s\n", len(plan.Proven)+i+1, step.Name)
		if step.Begun {
			fmt.Fprintf(s.out, "   here the run before was broken off\n")
		}
		switch step.Kind {
		case drill.StepDeploy:
			fmt.Fprintf(s.out, "   publish %s of %s to %s, restart, health check\n", plan.Deploy.Source.Revision, plan.Deploy.Source.Git, plan.Deploy.Directory)
		case drill.StepRollback:
			fmt.Fprintf(s.out, "   switch to the release before in %s, restart, health check\n", plan.Deploy.Directory)
		case drill.StepPromote:
			fmt.Fprintf(s.out, "   move the answer from %s to %s, seen on every name server; then wait for requests on %s%s\n", step.Live, step.LiveAfter, step.Live, drainText(plan))
		case drill.StepDrill:
			printDrill(s, step)
		}
	}
	return nil
}

func printDrill(s streams, step drill.Step) {
	fmt.Fprintf(s.out, "   steady state with %s answered, for %s\n", step.Live, step.Drill.SteadyFor.Duration())
	for number, order := range step.Drill.Orders() {
		if number > 0 && step.Drill.Together {
			fmt.Fprintf(s.out, "   at the same time\n")
		} else if number > 0 {
			fmt.Fprintf(s.out, "   when that has been taken back\n")
		}
		for _, host := range step.Drill.Hosts {
			fmt.Fprintf(s.out, "   on %s (%s): firedrill attack %s %s\n", host.Name, host.Address, order.Attack, strings.Join(order.Args, " "))
		}
		for _, canary := range order.Canaries {
			fmt.Fprintf(s.out, "   proof that it bites: no connection to %s\n", canary)
		}
	}
	for _, stop := range step.Drill.StopWhen {
		fmt.Fprintf(s.out, "   taken back at once when %s\n", stop.Text)
	}
	for _, expectation := range step.Drill.Expectations {
		fmt.Fprintf(s.out, "   expect %s\n", expectation.Text)
	}
	fmt.Fprintf(s.out, "   afterwards %s is answered, steady again, and there is somewhere to go back to\n", step.LiveAfter)
}

func drainText(plan drill.Plan) string {
	failover := plan.Failover[0]
	if failover.TTL == nil || failover.Drain == nil || *failover.Drain == 0 {
		return ": not at all (drain: 0)"
	}
	return fmt.Sprintf(", at most %s", *failover.TTL+*failover.Drain)
}
