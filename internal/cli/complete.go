//go:build !hostpart

package cli

import (
	"math"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
)

// anyNumber is for what may be given without end.
const anyNumber = math.MaxInt

// completeFiles offers files with one of these endings.
func completeFiles(most int, endings ...string) completer {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return endings, cobra.ShellCompDirectiveFilterFileExt
	}
}

// fromService offers names out of the service file that --file names. A file that cannot be read offers nothing: completion is no place
// for an error.
func fromService(options *runOptions, most int, names func(drill.Service) []cobra.Completion) completer {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		service, err := loadService(options.file)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(service), cobra.ShellCompDirectiveNoFileComp
	}
}

func drillNames(service drill.Service) []cobra.Completion {
	var names []cobra.Completion
	for _, known := range service.Drills {
		names = append(names, cobra.CompletionWithDesc(known.Name, known.Attack.Kind+" on "+known.On))
	}
	return names
}

func environmentNames(service drill.Service) []cobra.Completion {
	names := []cobra.Completion{cobra.CompletionWithDesc("idle", "the one that is not answered")}
	for _, environment := range service.Environments {
		names = append(names, environment.Name)
	}
	return names
}

func placeNames(service drill.Service) []cobra.Completion {
	return append([]cobra.Completion{cobra.CompletionWithDesc("active", "the one that is answered")}, environmentNames(service)...)
}

// completeLab offers the topology file, and then the hosts in it.
func completeLab(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return []cobra.Completion{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
	}
	topology, err := readTopology(args[0])
	if err != nil || len(args) > 1 {
		return nil, cobra.ShellCompDirectiveDefault // the command of lab exec
	}
	var names []cobra.Completion
	for _, host := range topology.Hosts {
		names = append(names, host.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
