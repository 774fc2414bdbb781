package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"firedrill/internal/attack"
	"firedrill/internal/attack/kinds"
)

// standGuard does the work of a guardian when this process was started as one.
func standGuard() (code int, hidden bool) { return attack.Reexec(kinds.All()) }

// takeBack undoes what dead attacks left that the kernel does not take back, and tells people on standard error.
func takeBack(ctx context.Context, s streams) ([]string, error) {
	taken, err := attack.Recover(ctx, kinds.All())
	for _, what := range taken {
		fmt.Fprintf(s.err, "firedrill: took back what a dead attack left: %s\n", what)
	}
	return taken, err
}

// newRecoverCommand makes "firedrill recover", for the unit that runs it at boot.
func newRecoverCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:    "recover",
		Short:  "Take back what dead attacks left on this host",
		Hidden: true,
		Long: "Take back what attacks left on this host that died together with their guardian, or that a restart of the host has interrupted.\n" +
			"Every attack, halt and status does it first; this is for the unit firedrill-recover.service, which does it at boot.\n\n" +
			"EXIT STATUS\n  0    nothing is left\n  5    something could not be taken back: act by hand\n  70   our own fault",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := takeBack(cmd.Context(), s)
			return err
		},
	}
}
