//go:build !hostpart

package cli

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// drainEvery is how often a host is asked what it still serves.
const drainEvery = 250 * time.Millisecond

// connections prints what the kernel of a host knows of its TCP connections.
const connections = "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || true"

// Drain counts the connections of clients to the service on each host of the environment until ctx ends.
func (c *crew) Drain(ctx context.Context, environment drill.Environment, emit func(history.Event)) error {
	port := servicePort(c.service)
	var group sync.WaitGroup
	for _, host := range environment.Hosts {
		group.Go(func() {
			for ctx.Err() == nil {
				look := history.Drain{Environment: environment.Name, Host: host.Name}
				open, err := c.connectionsTo(ctx, host, port)
				if ctx.Err() != nil {
					return
				}
				if look.Open = open; err != nil {
					look.Error = err.Error()
				}
				emit(history.New(time.Now(), c.source, &look))
				pause(ctx, drainEvery)
			}
		})
	}
	group.Wait()
	return nil
}

func (c *crew) connectionsTo(ctx context.Context, host drill.Host, port int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, inspectMax)
	defer cancel()
	k, err := c.links.get(ctx, host, nil)
	if err != nil {
		return 0, err
	}
	table, err := k.client.Output(ctx, connections)
	if err != nil {
		return 0, err
	}
	return openOn(table, port)
}

// servicePort is where the hosts serve: the port of the health check, else that of the endpoint.
func servicePort(service drill.Service) int {
	const http, https = 80, 443
	if service.Deploy != nil && service.Deploy.Healthy.Port > 0 {
		return service.Deploy.Healthy.Port
	}
	endpoint, err := url.Parse(service.Endpoint)
	if err != nil {
		return http
	}
	if port, err := strconv.Atoi(endpoint.Port()); err == nil {
		return port
	}
	if endpoint.Scheme == "https" {
		return https
	}
	return http
}

// States of the kernel's table in which a client may still wait for an answer: ESTABLISHED, and CLOSE_WAIT of one that has said all it
// wanted to.
var stillOpen = map[string]bool{"01": true, "08": true}

// openOn counts in the text of /proc/net/tcp and tcp6. A text without its heading is no such table, and no proof of anything.
func openOn(table string, port int) (int, error) {
	const addressColumn, stateColumn = 1, 3
	if !strings.Contains(table, "local_address") {
		return 0, fmt.Errorf("no table of connections: %.40q", table)
	}
	suffix, count := fmt.Sprintf(":%04X", port), 0
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > stateColumn && strings.HasSuffix(fields[addressColumn], suffix) && stillOpen[fields[stateColumn]] {
			count++
		}
	}
	return count, nil
}
