//go:build !hostpart

package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"firedrill/internal/deploy"
	"firedrill/internal/drill"
)

func newRollbackCommand(s streams) *cobra.Command {
	var options runOptions
	command := &cobra.Command{
		Use:   "rollback [ENVIRONMENT]",
		Short: "Go back to what was good before: move the answer, or switch the release",
		Long: `Goes back in one step, and proves it. What DNS answers decides how:

  an environment that is not answered     the answer moves there, when it is healthy, and is seen on every name server
  the environment that is answered        its hosts switch to the release before, restart, and are healthy again

Without ENVIRONMENT the answer moves to the idle environment when it is healthy; when it is not, the answered one switches its release.
While the answer can move, the release of the answered environment is not switched: that would interrupt its clients.
` + exitStatusHelp,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: fromService(&options, 1, environmentNames),
		RunE: func(command *cobra.Command, args []string) error {
			service, err := loadService(options.file)
			if err != nil {
				return err
			}
			live, err := liveEnvironment(command.Context(), service)
			if err != nil {
				return err
			}
			options.command = commandRollback
			return carryOut(command.Context(), s, options, []string{wayBack(command.Context(), service, live, args)})
		},
	}
	options.addFlags(command)
	return command
}

// wayBack chooses the step; the guard looks at everything again before it starts.
func wayBack(ctx context.Context, service drill.Service, live string, args []string) string {
	idle := service.Failover[0].Primary
	if idle == live {
		idle = service.Failover[0].Secondary
	}
	if len(args) == 1 && args[0] != live && args[0] != "active" {
		return "promote " + args[0]
	}
	if len(args) == 0 && service.Deploy != nil && isHealthy(ctx, service, idle) {
		return "promote " + idle
	}
	return "rollback " + live
}

func isHealthy(ctx context.Context, service drill.Service, name string) bool {
	environment := service.Environment(name)
	return environment != nil && !slices.ContainsFunc(environment.Hosts, func(host drill.Host) bool {
		return deploy.Healthy(ctx, host, service.Deploy.Healthy, service.Endpoint) != nil
	})
}
