//go:build !hostpart

package cli

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"firedrill/internal/attack"
	"firedrill/internal/attack/kinds"
	"firedrill/internal/attack/policy"
	"firedrill/internal/chaostoolkit"
	"firedrill/internal/drill"
	"firedrill/internal/failover/authority"
	"firedrill/internal/failover/database"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/history"
	"firedrill/internal/lab"
	"firedrill/internal/playbook"
	"firedrill/internal/prove"
	"firedrill/internal/ready"
	"firedrill/internal/schema"
	"firedrill/internal/stage"
	"firedrill/internal/verdict"
)

// output is what a command prints with --json: one value, or one on each line.
type output struct {
	command string // its words, without firedrill
	lines   bool
	of      []reflect.Type // any of these
}

func one[T any](command string) output {
	return output{command: command, of: []reflect.Type{reflect.TypeFor[T]()}}
}

func events(command string, also ...reflect.Type) output {
	return output{command: command, lines: true, of: append([]reflect.Type{reflect.TypeFor[history.Event]()}, also...)}
}

// outputs are what all commands print with --json. "attack KIND" stands for every kind.
func outputs() []output {
	end, planned := reflect.TypeFor[runEnd](), reflect.TypeFor[drill.Plan]()
	either := func(command string, of ...reflect.Type) output { return output{command: command, of: of} }
	all := []output{
		events("attack KIND", reflect.TypeFor[attack.Shown]()), one[[]kindHere]("attack list"), either("doctor", reflect.TypeFor[diagnosis](), reflect.TypeFor[[]farDiagnosis]()), either("status", reflect.TypeFor[hostStatus](), reflect.TypeFor[fleetStatus]()), one[fleetStatus]("fleet status"), one[versionInfo]("version"),
		either("halt", reflect.TypeFor[halted](), reflect.TypeFor[fleet.HaltReport]()),
		events("run", end, planned), events("pipeline", end, planned), events("deploy", end, planned), events("rollback", end, planned), one[drill.Plan]("plan"),
		events("demo", end, planned, reflect.TypeFor[demoTally]()),
		either("judge", reflect.TypeFor[verdict.Verdict](), reflect.TypeFor[playbook.Verdict]()), one[verified]("verify"), one[attestDone]("attest"), one[stage.Result]("stage"),
		{command: "prove", lines: true, of: []reflect.Type{reflect.TypeFor[prove.Result](), reflect.TypeFor[[]prove.Listed]()}},
		one[[]checkedPlaybook]("playbook check"), events("playbook run"), events("playbook drill"),
		one[[]ready.Drill]("drills list"), one[ready.Drill]("drills show"), one[chaostoolkit.Result]("import chaostoolkit"), one[lintReport]("lint"),
		one[[]databaseReport]("database status"), one[[]database.Record]("database history"),
		events("database switch", reflect.TypeFor[database.Move]()), events("database promote", reflect.TypeFor[database.Move]()), events("database fence"), events("database arm"),
		events("database rebuild", reflect.TypeFor[rebuildPlan]()),
		one[[]nameReport]("failover status"), events("watch history"), one[[]lab.HostStatus]("lab status"),
		one[[]listedUser]("server user list"), one[userChange]("server user add"), one[userChange]("server user password"), one[userChange]("server user remove"),
		one[backupDone]("server backup"), one[backupDone]("server restore"), one[control.Moved]("server move"), one[control.AuditProof]("server audit"), one[fleet.Pruned]("fleet prune"), one[[]fleet.Cadence]("fleet cadence"),
		{command: "fleet audit", of: []reflect.Type{reflect.TypeFor[fleet.AuditPage](), reflect.TypeFor[fleet.AuditProof]()}},
		one[[]fleet.HostView]("fleet hosts"), one[[]fleet.Server]("fleet servers"), one[fleet.Run]("fleet attack"), one[[]fleet.Run]("fleet runs"), one[fleet.Run]("fleet run"), events("fleet journal"), one[fleet.Run]("fleet stop"),
		one[fleet.HaltReport]("fleet halt"), one[fleet.Lever]("fleet lever"), one[fleet.Lever]("fleet release"), one[joinToken]("fleet token"), one[apiToken]("fleet api-token"),
		one[fleet.ServiceFile]("fleet service put"), one[[]fleet.ServiceFile]("fleet service list"), one[fleet.ServiceFile]("fleet service show"),
		events("fleet drill start", end, planned, reflect.TypeFor[fleet.DrillRun]()), one[[]fleet.DrillRun]("fleet drill list"), events("fleet drill follow", end), one[fleet.DrillRun]("fleet drill stop"),
		one[[]fleet.ScheduledView]("fleet schedule list"), one[fleet.Scheduled]("fleet schedule add"), one[fleet.Scheduled]("fleet schedule remove"), one[fleet.Scheduled]("fleet schedule leash"),
		one[fleet.Scheduled]("fleet schedule unleash"), one[fleet.Scheduled]("fleet schedule run"), one[[]fleet.Freeze]("fleet schedule freezes"), one[fleet.Freeze]("fleet schedule freeze"),
		one[fleet.Freeze]("fleet schedule unfreeze"),
		one[[]fleet.Member]("fleet members"), one[fleet.Member]("fleet add"), one[fleet.Member]("fleet revoke"),
		one[fleet.KeysView]("fleet keys"), one[fleet.KeysView]("fleet keys rotate"), one[renewed]("fleet keys renew"),
	}
	return all
}

// fileForms are the files in YAML that other rooms read.
func fileForms() map[string]schema.Schema {
	return map[string]schema.Schema{
		"topology": schema.OfFile("firedrill lab topology", reflect.TypeOf(lab.FileForm()), nil),
		"zone":     schema.OfFile("zone file of firedrill authority", reflect.TypeOf(authority.FileForm()), nil),
		"policy":   schema.OfFile("what the owner of a host allows (/etc/firedrill/policy.yaml)", reflect.TypeFor[policy.Policy](), nil),
	}
}

// schemaNames are all schemas that there are: those of formats, and those of what commands print.
func schemaNames() []string {
	names := schema.Names()
	for name := range fileForms() {
		names = append(names, name)
	}
	slices.Sort(names[len(schema.Names()):])
	for _, known := range outputs() {
		if !slices.Contains(names, known.command) {
			names = append(names, known.command)
		}
	}
	return names
}

// schemaOf finds a schema by the name of a format or the words of a command.
func schemaOf(name string) (schema.Schema, error) {
	if form, is := fileForms()[name]; is {
		return form, nil
	}
	for _, known := range outputs() {
		if known.command == name && !slices.Contains(schema.Names(), name) {
			title := "firedrill " + name + " --json"
			if known.lines {
				title += ", each line"
			}
			return schema.OfOutput(title, known.of...), nil
		}
	}
	if !slices.Contains(schema.Names(), name) {
		return nil, &drill.Error{Op: "schema", Kind: drill.Invalid, Err: fmt.Errorf("there is no schema of %q", name), Hint: drill.Suggest(name, schemaNames())}
	}
	return schema.Of(name, kinds.Describe())
}

// outputOf finds what a command prints by its words.
func outputOf(words []string) (output, bool) {
	name := strings.Join(words, " ")
	if len(words) == 2 && words[0] == "attack" {
		if _, _, is := kinds.Find(words[1]); is {
			name = "attack KIND"
		}
	}
	all := outputs()
	i := slices.IndexFunc(all, func(known output) bool { return known.command == name })
	if i < 0 {
		return output{}, false
	}
	return all[i], true
}
