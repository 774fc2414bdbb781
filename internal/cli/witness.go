//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
	"firedrill/internal/probe"
)

const (
	witnessEvery   = 100 * time.Millisecond // between questions to each name server or load balancer
	witnessTimeout = time.Second
)

// asking is what is asked from one place.
type asking struct {
	from  drill.Client // without SSH: from here
	specs []probe.Spec
}

// witnesses are the questions where each name of the service leads, to every name server and load balancer, by the place they come from.
func (c *crew) witnesses() []asking {
	var all []asking
	for _, failover := range c.service.Failover {
		from := drill.Client{}
		if w := failover.Witness; w != nil && w.From != "" {
			for _, client := range c.service.Clients {
				if client.Name == w.From {
					from = client
				}
			}
		}
		if specs := c.questions(failover); len(specs) > 0 {
			all = append(all, asking{from: from, specs: specs})
		}
	}
	return all
}

// questions are those about one name.
func (c *crew) questions(failover drill.Failover) []probe.Spec {
	var specs []probe.Spec
	for _, place := range failover.Places() {
		spec := probe.Spec{
			Name: failover.Name + " on " + place, Kind: probe.DNS, Address: place, Query: failover.Name,
			Every: drill.Seconds(witnessEvery), Timeout: drill.Seconds(witnessTimeout),
		}
		if failover.Witness != nil {
			spec.Kind, spec.Address, spec.URL, spec.Header, spec.Hosts = probe.Served, "", place, failover.Witness.Header, map[string]netip.Addr{}
			for _, environment := range c.service.Environments {
				for _, host := range environment.Hosts {
					spec.Hosts[host.Name] = host.Address
				}
			}
		}
		specs = append(specs, spec)
	}
	return specs
}

// ask asks until ctx ends. A place that is lost for a moment is a gap, which the verdict sees.
func (c *crew) ask(ctx context.Context, asked asking, emit func(history.Event)) {
	for ctx.Err() == nil {
		if err := c.probes(ctx, asked.from, asked.specs, emit); err != nil && ctx.Err() == nil {
			emit(history.New(time.Now(), c.source, &history.Note{Text: "asking where " + asked.specs[0].Query + " leads: " + err.Error()}))
		}
		pause(ctx, watchRetry)
	}
}

// liveEnvironment asks every name server or load balancer of the service's first name, and returns the environment that all of them lead to.
func liveEnvironment(ctx context.Context, service drill.Service) (string, error) {
	const op = "find the environment that is answered"
	if len(service.Failover) == 0 {
		return "", &drill.Error{Op: op, Kind: drill.Invalid, Err: errors.New("the service file has no failover"), Hint: "Add failover: with the name of the service."}
	}
	failover := service.Failover[0]
	// Of the first name alone: the others may lead elsewhere.
	links := newLinks()
	defer links.close()
	c := crew{service: service, links: links}
	c.service.Failover = service.Failover[:1]
	specs := c.questions(failover)
	if len(specs) == 0 {
		return "", &drill.Error{Op: op, Kind: drill.Invalid, Err: fmt.Errorf("failover.%s.servers is missing", failover.Name), Hint: "Name the servers to verify the answer on."}
	}
	ctx, cancel := context.WithTimeout(ctx, watchAnswerMax)
	defer cancel()
	plan := drill.Plan{Environments: service.Environments}
	answers, last := map[string]string{}, map[string]string{}
	var heard sync.Mutex // guards answers and last
	err := c.probes(ctx, c.witnesses()[0].from, specs, func(event history.Event) {
		heard.Lock()
		defer heard.Unlock()
		answer, is := event.Fact.(*history.Answer)
		if !is {
			return
		}
		if answer.Error != "" || len(answer.Addresses) == 0 {
			last[answer.Server] = answer.Error
			return
		}
		answers[answer.Server] = guard.EnvironmentOf(plan, answer.Addresses[0])
		if len(answers) == len(specs) {
			cancel()
		}
	})
	if err != nil {
		return "", err
	}
	heard.Lock()
	defer heard.Unlock()
	live := ""
	for server, environment := range answers {
		if live != "" && environment != live {
			return "", &drill.Error{Op: op, Kind: drill.Unproven, Err: fmt.Errorf("%s says %s, another says %s", server, environment, live), Hint: "Wait until they agree: firedrill failover status."}
		}
		live = environment
	}
	if live == "" || len(answers) < len(specs) {
		var silent []string
		for _, server := range slices.Sorted(maps.Keys(last)) {
			silent = append(silent, "; "+server+": "+last[server])
		}
		return "", &drill.Error{Op: op, Kind: drill.Unreachable, Err: fmt.Errorf("%d of %d places say where %s leads%s", len(answers), len(specs), failover.Name, strings.Join(silent, "")), Hint: "Check servers: or witness: of the failover name."}
	}
	return live, nil
}
