package verdicttest

import (
	"net/netip"
	"time"

	"firedrill/internal/drill"
)

const (
	blueHost  = "bookstore-api-blue"
	greenHost = "bookstore-api-green"
	dbTarget  = "db.bookstore.example.test:5432"
	cdnTarget = "cdn.bookstore.example.test:80"
	zone      = "bookstore.example.test"
	server    = "10.77.0.53"
)

func sec(n float64) drill.Seconds { return drill.Seconds(n * float64(time.Second)) }

// Plan is the pipeline of the Bookstore: deploy green, lose the dependencies of green while it is idle, promote it, lose them again
// while it is active, lose the host of blue, deploy blue.
func Plan() drill.Plan {
	rpo, ttl := drill.Seconds(0), sec(1)
	plan := drill.Plan{
		Service: "bookstore", Endpoint: "http://bookstore.example.test/books/", Live: "blue",
		Objectives: drill.Objectives{RTO: sec(15), RPO: &rpo, Availability: 60},
		Environments: []drill.Environment{
			{Name: "blue", Hosts: []drill.Host{{Name: blueHost, Address: netip.MustParseAddr("10.77.1.10"), SSH: drill.SSH{User: "ubuntu", Become: "sudo"}}}},
			{Name: "green", Hosts: []drill.Host{{Name: greenHost, Address: netip.MustParseAddr("10.77.1.20"), SSH: drill.SSH{User: "ubuntu", Become: "sudo"}}}},
		},
		Dependencies: []drill.Dependency{
			{Name: "db", Address: dbTarget, Critical: "always", RTO: sec(60), RPO: &rpo},
			{Name: "cdn", Address: cdnTarget, Critical: "always", RTO: sec(30)},
		},
		Clients: []drill.Client{{Name: "client", HTTP: "/books/", Every: sec(0.1), Timeout: sec(1), Ledger: "/ledger"}},
		Failover: []drill.Failover{{
			Name: zone, Provider: "authority", Servers: []string{server}, TTL: &ttl, Primary: "blue", Secondary: "green", Failback: "manual",
			UnhealthyWhen: []string{"{host}-StatusCheckFailed", "{host}-db-connectivity-failed", "{host}-cdn-connectivity-failed"},
		}},
		Deploy: &drill.Deploy{
			Source: drill.Source{Git: "../bookstore_api", Revision: "main", Files: []string{"**/*"}}, Directory: "/home/ubuntu/apps/bookstore_api",
			Restart: "sudo systemctl restart gunicorn", Healthy: drill.Healthy{HTTP: "/version", Port: 80, Status: 200, Within: sec(30), Times: 3}, KeepReleases: 5,
		},
	}
	for _, host := range []struct{ name, environment string }{{blueHost, "blue"}, {greenHost, "green"}} {
		for _, suffix := range []string{"cdn", "db"} {
			plan.Alarms = append(plan.Alarms, drill.Alarm{
				Name: host.name + "-" + suffix + "-connectivity-failed", Metric: suffix + "-connectivity", Host: host.name, Environment: host.environment,
				Average: "< 1", Period: sec(2), Datapoints: drill.Datapoints{M: 2, N: 2}, Missing: "missing",
			})
		}
		plan.Alarms = append(plan.Alarms, drill.Alarm{
			Name: host.name + "-StatusCheckFailed", Metric: "status-check", Host: host.name, Environment: host.environment,
			Period: sec(1), Datapoints: drill.Datapoints{M: 3, N: 3}, Missing: "breaching",
		})
	}
	plan.Steps = []drill.Step{
		{Kind: drill.StepDeploy, Name: "deploy to green", Environment: "green", Live: "blue", LiveAfter: "blue"},
		loseDependencies(plan, "blue", "blue"),
		{Kind: drill.StepPromote, Name: "promote green", Environment: "green", Live: "blue", LiveAfter: "green"},
		loseDependencies(plan, "green", "blue"),
		loseHost(plan),
		{Kind: drill.StepDeploy, Name: "deploy to blue", Environment: "blue", Live: "green", LiveAfter: "green"},
	}
	return plan
}

// loseDependencies cuts green off from what it needs, while it is idle (live is blue) or active.
func loseDependencies(plan drill.Plan, live, after string) drill.Step {
	alarm := func(suffix string) drill.Expectation {
		name := greenHost + "-" + suffix + "-connectivity-failed"
		return drill.Expectation{Kind: drill.ExpectAlarm, Text: `alarm "` + name + `" within 12s`, Alarm: name, Within: sec(12)}
	}
	expectations := []drill.Expectation{alarm("db"), alarm("cdn"), {Kind: drill.ExpectNoOther, Text: "no other alarm"}}
	if live == "green" {
		expectations = append(expectations,
			drill.Expectation{Kind: drill.ExpectMoves, Text: "answer moves to blue within 15s", Environment: "blue", Within: sec(15)},
			drill.Expectation{Kind: drill.ExpectRecover, Text: "clients recover within 15s", Within: sec(15)})
	} else {
		expectations = append(expectations,
			drill.Expectation{Kind: drill.ExpectStays, Text: "answer stays on blue", Environment: "blue"},
			drill.Expectation{Kind: drill.ExpectNoFailure, Text: "clients see no failure"})
	}
	expectations = append(expectations,
		drill.Expectation{Kind: drill.ExpectNoLoss, Text: "no acknowledged write is lost"},
		drill.Expectation{Kind: drill.ExpectSteadyAfter, Text: "steady state within 60s of the revert", Within: sec(60)})
	return drill.Step{
		Kind: drill.StepDrill, Name: "drill lose-dependencies on green", Environment: "green", Live: live, LiveAfter: after,
		Drill: &drill.PlannedDrill{
			Name: "lose-dependencies", Hosts: plan.Environments[1].Hosts, UntilDecided: true, SteadyFor: sec(3), SteadyWithin: sec(60), Expectations: expectations,
			Attack: drill.Order{
				Attack: "blackhole", Length: sec(30), Canaries: []string{cdnTarget, dbTarget},
				Args: []string{"--hostname=^control.bookstore.example.test,cdn.bookstore.example.test,db.bookstore.example.test", "--length=30"},
			},
		},
	}
}

// loseHost shuts the host of blue down while blue is active.
func loseHost(plan drill.Plan) drill.Step {
	name := blueHost + "-StatusCheckFailed"
	return drill.Step{
		Kind: drill.StepDrill, Name: "drill lose-host on blue", Environment: "blue", Live: "blue", LiveAfter: "green",
		Drill: &drill.PlannedDrill{
			Name: "lose-host", Hosts: plan.Environments[0].Hosts, UntilDecided: true, SteadyFor: sec(3), SteadyWithin: sec(60),
			Attack: drill.Order{Attack: "shutdown", Args: []string{"--delay=0", "--reboot=true"}, OneWay: true},
			Expectations: []drill.Expectation{
				{Kind: drill.ExpectAlarm, Text: `alarm "` + name + `" within 10s`, Alarm: name, Within: sec(10)},
				{Kind: drill.ExpectMoves, Text: "answer moves to green within 12s", Environment: "green", Within: sec(12)},
				{Kind: drill.ExpectRecover, Text: "clients recover within 15s", Within: sec(15)},
				{Kind: drill.ExpectSteadyAfter, Text: "steady state within 60s of the revert", Within: sec(60)},
			},
		},
	}
}
