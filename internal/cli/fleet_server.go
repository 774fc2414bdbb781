//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/spf13/pflag"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
)

// fleetDirectory lies below the server's data directory.
const fleetDirectory = "fleet"

type fleetServerOptions struct {
	listen, address string
	percent         float64
}

func (o *fleetServerOptions) flags(flags *pflag.FlagSet) {
	flags.StringVar(&o.listen, "fleet-listen", "", "address and port for agents and firedrill fleet, as :"+fleet.DefaultPort+" (default: no fleet)")
	flags.StringVar(&o.address, "fleet-address", "", "host:port under which they reach it (default: the name of this host)")
	flags.Float64Var(&o.percent, "max-percent", 50, "most hosts of a service, of an environment of it, or of a zone that may be under attack at the same time; one of each always may")
}

// leading is a control plane that runs beside the rest of the server; nil is none.
type leading struct {
	control *control.Control
	ended   chan error
}

// lead starts the control plane, if one is asked for. It ends with ctx.
func (o *fleetServerOptions) lead(ctx context.Context, data string, log *slog.Logger) (*leading, error) {
	if o.listen == "" {
		return nil, nil //nolint:nilnil // none was asked for
	}
	if !(o.percent > 0 && o.percent <= 100) {
		return nil, &drill.Error{Op: "--max-percent", Kind: drill.Invalid, Err: fmt.Errorf("%g; write more than 0, and 100 at most", o.percent)}
	}
	if o.address != "" {
		address, err := fleet.Address(o.address)
		if err != nil {
			return nil, err
		}
		o.address = address
	}
	directory := filepath.Join(data, fleetDirectory)
	c, err := control.Open(ctx, control.Options{Directory: directory, Listen: o.listen, Advertise: o.address, Limits: fleet.Limits{Percent: o.percent}, Log: log})
	if err != nil {
		return nil, err
	}
	log.InfoContext(ctx, "fleet ready", "listen", o.listen, "address", c.Address(), "admin", filepath.Join(directory, control.AdminFile))
	l := &leading{control: c, ended: make(chan error, 1)}
	go func() { l.ended <- errors.Join(c.Run(ctx), c.Close()) }()
	return l, nil
}

func (l *leading) wait() error {
	if l == nil {
		return nil
	}
	return <-l.ended
}
