//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/deploy"
	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Bounds of a lock: one that is forgotten must end while those who know of it are still there.
const (
	lockFor    = time.Hour
	lockForMax = 7 * 24 * time.Hour
)

// owner is who holds a lock of ours.
func owner() string {
	host, _ := os.Hostname()
	return operator() + "@" + host
}

func newLockCommand(s streams) *cobra.Command {
	var file, reason string
	var span time.Duration
	command := &cobra.Command{
		Use:   "lock",
		Short: "Keep everyone else's deployments and drills away from the service",
		Long: `Writes on every host of the service who locks it, why and until when. Until then every deployment and every drill by someone else is
refused, with the owner and the reason. It ends by itself at its time.

A host that cannot be reached, or is locked by someone else, is an error; then the locks of this call are taken off again.
` + exitStatusHelp,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if span < time.Minute || span > lockForMax {
				return &drill.Error{Op: "lock", Kind: drill.Invalid, Err: fmt.Errorf("--for %s is not between 1m and %s", span, lockForMax)}
			}
			service, err := deployed(file)
			if err != nil {
				return err
			}
			now := time.Now()
			wish := history.Reservation{Owner: owner(), Reason: reason, Since: now, Until: now.Add(span)}
			var locked []drill.Host
			for _, host := range allHosts(service) {
				if err := onHost(command.Context(), host, func(ctx context.Context, client *remote.Client) error {
					return deploy.Reserve(ctx, client, *service.Deploy, wish, now)
				}); err != nil {
					return errors.Join(err, free(context.WithoutCancel(command.Context()), service, locked, false))
				}
				locked = append(locked, host)
			}
			fmt.Fprintf(s.out, "%s is %s\n", service.Name, wish)
			return nil
		},
	}
	command.Flags().StringVarP(&file, "file", "f", defaultFile, "service file")
	command.Flags().StringVar(&reason, "reason", "", "why, for those who are refused")
	command.Flags().DurationVar(&span, "for", lockFor, "how long, at most 168h")
	_ = command.MarkFlagFilename("file", "yaml", "yml") // fails only for a flag that is not defined
	return command
}

func newUnlockCommand(s streams) *cobra.Command {
	var file string
	var force bool
	command := &cobra.Command{
		Use:   "unlock",
		Short: "Let others deploy and drill again",
		Long:  "Takes the lock off every host of the service. A lock of someone else is only taken off with --force.\n" + exitStatusHelp,
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			service, err := deployed(file)
			if err != nil {
				return err
			}
			if err := free(command.Context(), service, allHosts(service), force); err != nil {
				return err
			}
			fmt.Fprintf(s.out, "%s is not locked any more\n", service.Name)
			return nil
		},
	}
	command.Flags().StringVarP(&file, "file", "f", defaultFile, "service file")
	command.Flags().BoolVar(&force, "force", false, "someone else's too")
	_ = command.MarkFlagFilename("file", "yaml", "yml") // fails only for a flag that is not defined
	return command
}

// deployed reads a service file that says how the service is deployed: the lock stands in that directory.
func deployed(file string) (drill.Service, error) {
	service, err := loadService(file)
	if err == nil && service.Deploy == nil {
		err = &drill.Error{Op: "lock", Kind: drill.Invalid, Err: errors.New("the service file has no deploy:, and so no directory on the hosts for a lock")}
	}
	return service, err
}

func allHosts(service drill.Service) []drill.Host {
	var hosts []drill.Host
	for _, environment := range service.Environments {
		hosts = append(hosts, environment.Hosts...)
	}
	return hosts
}

// free takes locks off, and goes on where one cannot be.
func free(ctx context.Context, service drill.Service, hosts []drill.Host, force bool) error {
	var errs []error
	for _, host := range hosts {
		errs = append(errs, onHost(ctx, host, func(ctx context.Context, client *remote.Client) error {
			return deploy.Free(ctx, client, *service.Deploy, owner(), force, time.Now())
		}))
	}
	return errors.Join(errs...)
}

// onHost does something small over a connection of its own.
func onHost(ctx context.Context, host drill.Host, do func(context.Context, *remote.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, inspectMax)
	defer cancel()
	client, err := dial(ctx, host)
	if err != nil {
		return err
	}
	defer client.Close()
	return do(ctx, client)
}
