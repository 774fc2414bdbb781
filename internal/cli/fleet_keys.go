//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/client"
)

func newFleetKeysCommand(s streams, o *fleetOptions) *cobra.Command {
	command := fleetCommand("keys", "Show which keys the fleet uses, and replace them", `Shows which key signs orders, by which the servers are known, since when, and which hosts do not follow yet.`, cobra.NoArgs, func(ctx context.Context, _ []string) error {
		var view fleet.KeysView
		if err := o.call(ctx, "keys", nil, &view); err != nil {
			return err
		}
		return printKeys(s, *o, view)
	})
	command.Example = "  firedrill fleet keys\n  firedrill fleet keys rotate agents\n  firedrill fleet keys rotate orders --overlap 1h"
	command.AddCommand(newFleetRotateCommand(s, o), newFleetRenewCommand(s, o))
	return command
}

func newFleetRotateCommand(s streams, o *fleetOptions) *cobra.Command {
	var request fleet.RotateRequest
	var overlap string
	command := fleetCommand("rotate agents [HOST...] | orders | certificate", "Replace keys of the fleet, with nobody shut out", `Replaces keys while everything goes on.

  agents       the keys with which hosts log in; all, or those that are named. A host makes the new one itself and writes it down before it asks.
               The one before is good for nothing from the moment at which the new one counts. A host that is not there does it when it comes back.
  orders       the key that signs orders. The one before signs that it hands over; hosts that are there follow at once, others when they come
               back. Until --overlap is over a host that has not heard of it takes orders of the one before; then nobody does, whatever it is told.
  certificate  the key by which servers are known to hosts, people and each other. The one before signs the new one, so who knows it can follow at any
               time, and knows the new one alone from then on.

A key that others know is replaced with --now: the one before ends at once, and hosts that are not there just then are best joined again. Of
several servers all should run: one that is down for longer than --overlap needs fleet/identity.json of another one.`, cobra.MinimumNArgs(1), func(ctx context.Context, args []string) error {
		request.What, request.Hosts = args[0], args[1:]
		if overlap != "" {
			seconds, err := drill.ParseSeconds(overlap)
			if err != nil {
				return &drill.Error{Op: "--overlap", Kind: drill.Invalid, Err: err}
			}
			request.Overlap = seconds
		}
		var view fleet.KeysView
		if err := o.call(ctx, "rotate", request, &view); err != nil {
			return err
		}
		return printKeys(s, *o, view)
	})
	command.ValidArgs = []string{fleet.KeyOfAgents, fleet.KeyOfOrders, fleet.KeyCertificate}
	command.Flags().StringVar(&overlap, "overlap", "", "of orders and certificate: how long the one before still counts for who has not heard of the new one, 7d at most (default 1m)")
	command.Flags().BoolVar(&request.Now, "now", false, "of orders and certificate: the one before ends at once")
	return command
}

// renewed says that a person's key was replaced.
type renewed struct {
	Name string    `json:"name"`
	File string    `json:"file"`
	At   time.Time `json:"at"`
}

func newFleetRenewCommand(s streams, o *fleetOptions) *cobra.Command {
	return fleetCommand("renew", "Replace your own key", "Replaces your own key, with which you log in, in the file of your credentials. Copies of the file that lie elsewhere are good for nothing from then on.", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		c, credentials, err := o.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Renew(ctx, func(now fleet.Credentials) error {
			if had, err := client.Load(o.path()); err == nil {
				now.Address = had.Address // --server is for this once
			}
			return durable.Save(o.path(), now)
		}); err != nil {
			return err
		}
		if o.json {
			return printJSON(s, renewed{Name: credentials.Name, File: o.path(), At: time.Now()})
		}
		fmt.Fprintf(s.out, "%s has another key, in %s\n", credentials.Name, o.path())
		return nil
	})
}

// remember writes down what was learnt of the server's key while connecting. Where that cannot be, the next connection learns it again.
func remember(path string, had fleet.Credentials, c *client.Client) error {
	now := c.Credentials()
	if now.Address = had.Address; now == had { // it may have been reached elsewhere this once
		return nil
	}
	had.Pin = now.Pin
	had.Seed, had.Next = now.Seed, now.Next
	return durable.Save(path, had)
}

func printKeys(s streams, o fleetOptions, view fleet.KeysView) error {
	if o.json {
		return printJSON(s, view)
	}
	now := time.Now()
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tNUMBER\tSINCE\tTHE ONE BEFORE\tHOSTS THAT DO NOT FOLLOW YET")
	since := func(at time.Time) string {
		if at.IsZero() {
			return "the first start"
		}
		return at.Local().Format(time.DateTime)
	}
	before := func(ends time.Time, first bool) string {
		switch {
		case ends.After(now):
			return "counts until " + ends.Local().Format(time.DateTime)
		case first:
			return "-"
		}
		return "has ended"
	}
	fmt.Fprintf(table, "orders\t%d\t%s\t%s\t%s\n", view.OrderSerial, since(view.OrderSince), before(view.OrderEnds, view.OrderSerial == 0), orDash(strings.Join(view.OrderBehind, ", ")))
	fmt.Fprintf(table, "certificate\t%s\t%s\t%s\t%s\n", view.Pin, since(view.PinSince), before(view.PinEnds, true), orDash(strings.Join(view.PinBehind, ", ")))
	asked := slices.Clone(view.AgentsAsked)
	slices.Sort(asked)
	fmt.Fprintf(table, "agents\t\t\t\t%s\n", orDash(strings.Join(asked, ", ")))
	return errors.Join(table.Flush())
}
