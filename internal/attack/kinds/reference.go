package kinds

import (
	"fmt"
	"strings"

	"firedrill/internal/attack"
	"firedrill/internal/attack/hostfacts"
	"firedrill/internal/attack/policy"
	"firedrill/internal/drill"
)

// units say what is written for a flag of each type.
var units = map[string]string{
	attack.TypeSeconds: "seconds, or as 1m30s",
	attack.TypeMinutes: "minutes, or as 90s",
	attack.TypeList:    "list",
	attack.TypeString:  "text",
	attack.TypeBool:    "switch",
	attack.TypeInt:     "whole number",
	attack.TypeFloat:   "number",
	attack.TypeRate:    "number with bit, kbit, mbit or gbit",
}

// remains say what the words mean that a kind declares.
var remains = map[string]string{
	string(attack.RemainsNothing):       "the kernel takes the impact back the moment that our processes end, however they end",
	string(attack.RemainsUntilDeadline): "the kernel takes the impact back at the deadline, at the latest",
	string(attack.RemainsUntilStart):    "a guardian process takes it back; only if that dies too, the next firedrill command on the host does, or firedrill-recover.service at boot",
	string(attack.RemainsOneWay):        "there is nothing to take back; firedrill status and the account say what was done",
}

var groups = []struct{ name, title string }{{"network", "Network"}, {"state", "State"}, {"resource", "Resource"}}

// Reference returns the reference page of all attacks, as Markdown. It is made from the catalogue alone, so that it cannot say anything else
// than the program does.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, group := range groups {
		fmt.Fprintf(&b, "## %s\n\n", group.title)
		for _, kind := range Describe() {
			if kind.Group == group.name {
				writeKind(&b, kind)
			}
		}
	}
	fmt.Fprintf(&b, referencePolicy, policy.File, policy.Example)
	return b.String()
}

func writeKind(b *strings.Builder, kind drill.AttackKind) {
	fmt.Fprintf(b, "### %s\n\n%s.\n\n", kind.Name, kind.Summary)
	b.WriteString("| flag | takes | default | meaning |\n|---|---|---|---|\n")
	for _, flag := range kind.Flags {
		name := "`--" + flag.Name + "`"
		if flag.Short != "" {
			name = "`-" + flag.Short + "`, " + name
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, cell(takes(flag)), cell(flag.Default), cell(flag.Usage))
	}
	fmt.Fprintf(b, "\n* If all of us die at once, this remains: **%s** (%s).\n", kind.Remains, remains[kind.Remains])
	if len(kind.Needs) == 0 {
		b.WriteString("* It needs nothing that a Linux host could lack.\n")
	}
	writeNeeds(b, "It", kind.Needs)
	for _, flag := range kind.Flags {
		writeNeeds(b, "`--"+flag.Name+"`", flag.Needs)
	}
	b.WriteString("\n")
}

func writeNeeds(b *strings.Builder, who string, needs []string) {
	for _, needed := range needs {
		var parts []string
		for _, need := range hostfacts.Alternatives(needed) {
			use, _ := hostfacts.About(need)
			parts = append(parts, fmt.Sprintf("`%s` (%s)", need, use))
		}
		fmt.Fprintf(b, "* %s needs %s.\n", who, strings.Join(parts, ", or "))
	}
}

// takes says what a flag takes, and from where to where.
func takes(flag drill.AttackFlag) string {
	text := units[flag.Type]
	if len(flag.OneOf) > 0 {
		text = strings.Join(flag.OneOf, ", ")
	}
	if r := flag.Range; r != nil {
		text += "; " + r.In(flag.Unit)
	}
	if flag.Required {
		text += "; required"
	}
	return text
}

// cell keeps text from ending a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

const referenceHead = `# Attacks

<!-- Made from the catalogue: go test ./internal/attack/kinds -run Reference -update -->

Each attack is a command, ` + "`firedrill attack KIND`" + `, and the same words with the same values stand under ` + "`attack:`" + ` in a service file.
It says what it does, ends at its deadline, and gives account of whether it bit and whether it is gone. Ctrl-C, SIGTERM,
` + "`firedrill halt`" + ` and a lost SSH connection end it early and take it back.

* A *list* is separated by commas, or its flag is repeated. ` + "`^`" + ` before an item spares it, and spares win. ` + "`@FILE`" + ` reads one item per line.
* A *switch* takes no value. All other flags take one, and are given at most once.
* ` + "`firedrill doctor`" + ` says of each need whether this host has it, and the cure; ` + "`firedrill attack list --json`" + ` says it of each kind.

Besides its own flags every kind has:

| flag | meaning |
|---|---|
| ` + "`--dry-run`" + ` | print the plan, with what would remain if all of us died, and stop; with ` + "`--json`" + ` as one JSON document: guid, attack, host, length_seconds, delay_seconds, remains, one_way, steps (lines), and refused when the policy says no |
| ` + "`--json`" + ` | print events as JSON lines |
| ` + "`--canary host:port`" + ` | must answer before and after, and not in between; may be repeated |
| ` + "`--guid GUID`" + ` | name of the attack; the same one cannot run twice |
| ` + "`--yes`" + ` | consent, where the policy of the host asks for it; process_killer wants it for sshd and process 1, service for units that hold them |

Exit codes: 0 it bit and is gone; 1 certificate: one would be expired; 2 usage; 3 nothing shows that it bit; 4 refused by a safeguard, or the host lacks something; 5 **not
reverted**, act by hand; 70 our own fault; 129, 130, 143 ended early, reverted.

`

const referencePolicy = `## The policy of a host

The owner of a host bounds what may be attacked there, whoever asks: root, a pipeline, a control host. The file is ` + "`%s`" + `.
Without it there are no bounds. It is read at each attack; a dry run shows the plan and the refusal.

` + "```yaml\n%s```" + `

* Any doubt is a no: a rule or kind that is misspelt, an empty list, a second document, a name under never_hit that does not resolve, an attack
  that shifts the clock or does not answer while there are hours to keep. Nothing is attacked until the file is mended.
* The file and its directory belong to root and can be written by nobody else, and neither is a symbolic link; else nothing is attacked.
* A refusal begins with *not attacking:*, names the line of the rule and the cure, and exits with 4; with ` + "`--json`" + ` it is an event, attack.refused.
* never_hit bounds the network attacks. What time_travel cuts off with --ntp, UDP port 123, is not bounded by it.
* max_parallel counts the attacks of root and of the one who asks, in this host's network namespace. max_length does not bound a shutdown,
  which has no length.
* hours are those of the wall clock, so they move with summer time: an hour that is skipped is no hour, one that comes twice counts twice.
`
