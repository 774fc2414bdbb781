package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"firedrill/internal/drill"
)

// serverFlag is the flag by which a command acts through the server of a fleet.
const serverFlag = "server"

const serverUsage = "act through the server of a fleet: HOST[:PORT], with your credentials, or https://HOST:PORT#PIN, with a token in $FIREDRILL_TOKEN"

// onlyHere says why a command acts on this machine or from it alone, and what acts on a fleet in its place.
type onlyHere struct {
	why  string // goes on after "it"
	cure string // the next command of whoever wanted a server
}

// ofThisMachine are the commands that no server carries out, by their words; one entry holds for all commands below it. Every other command takes
// --server.
var ofThisMachine = map[string]onlyHere{
	"agent":      {"runs on the host that it makes a part of the fleet, and knows its server since it joined", "see the hosts: firedrill fleet hosts --server URL"},
	"attack":     {"attacks the machine that it is typed on", "choose hosts of the fleet: firedrill fleet attack --server URL --host NAME KIND ..."},
	"authority":  {"is a name server, and serves from this machine", ""},
	"bookstore":  {"is the sample service of the demo, on this machine", ""},
	"completion": {"is for the shell of this machine", ""},
	"database":   {"speaks to the database itself, with a password that is kept here", "have the server conduct a drill: firedrill run DRILL --server URL"},
	"demo":       {"plays in namespaces of this machine", ""},
	"deploy":     {"publishes over SSH, with files and keys that lie here; a server logs in nowhere", "see which releases run: firedrill fleet drill start SERVICE DRILL --server URL --dry-run"},
	"drills":     {"shows drills that are part of this program", "see those that the server knows: firedrill fleet service list --server URL"},
	"failover":   {"asks and moves name servers from here, with keys that lie here", "have the server conduct a drill: firedrill run DRILL --server URL"},
	"help":       {"shows pages of this program", ""},
	"import":     {"makes a service file out of a file that lies here", "put what it makes on the server: firedrill fleet service put FILE --server URL"},
	"key":        {"makes a key that should not leave this machine", "keys of the fleet: firedrill fleet keys --server URL"},
	"lab":        {"makes hosts out of namespaces of this machine", ""},
	"lock":       {"writes on the hosts of a service over SSH", "keep drills away on dates: firedrill fleet schedule freeze DATES --server URL"},
	"pipeline":   {"deploys over SSH, with files and keys that lie here; a server logs in nowhere", "have it conduct the drills: firedrill run DRILL --server URL"},
	"plan":       {"plans deployments over SSH, which no server carries out", "see the plan of a drill: firedrill run DRILL --server URL --dry-run"},
	"playbook":   {"follows and signs files that lie here, and asks the person before it", "see the playbooks that a server knows on its dashboard"},
	"probe":      {"samples from this machine", "have hosts of the fleet sample: clients: NAME: agent: HOST in the service file"},
	"prove":      {"breaks what stands around a drill in namespaces of this machine", ""},
	"recover":    {"takes back what attacks left on this machine", "firedrill halt --server URL"},
	"rollback":   {"switches releases over SSH; a server logs in nowhere", ""},
	"schedule":   {"is a scheduler of its own, beside a service file that lies here", "the schedule of the server: firedrill fleet schedule list --server URL"},
	"schema":     {"prints what is part of this program", ""},
	"server":     {"is the server, or works on its directory", "ask a server that runs: firedrill fleet servers --server URL"},
	"unlock":     {"writes on the hosts of a service over SSH", "lift a freeze: firedrill fleet schedule unfreeze DATES --server URL"},
	"version":    {"is of this program", "versions on the hosts: firedrill fleet hosts --server URL"},
	"watch":      {"watches from this machine", "alarms that a server evaluates stand on its dashboard"},
}

// hereAlone finds why a command acts on this machine alone, if it does.
func hereAlone(command *cobra.Command) (onlyHere, bool) {
	words := strings.Fields(operation(command))
	for ; len(words) > 0; words = words[:len(words)-1] {
		if one, is := ofThisMachine[strings.Join(words, " ")]; is {
			return one, true
		}
	}
	return onlyHere{}, false
}

// refusedServer is --server where no server is asked: whoever names one is told why.
type refusedServer struct{ err error }

func (refusedServer) String() string     { return "" }
func (refusedServer) Type() string       { return "string" }
func (r refusedServer) Set(string) error { return r.err }

// refuseServer has a command say why it takes no --server. A command that knows the flag keeps it.
func refuseServer(command *cobra.Command) {
	one, is := hereAlone(command)
	if !is || command.Flag(serverFlag) != nil {
		return
	}
	command.Flags().Var(refusedServer{one.refusal(operation(command))}, serverFlag, "not here: it "+one.why)
	_ = command.Flags().MarkHidden(serverFlag) // fails only for a flag that is not defined
}

func (o onlyHere) refusal(op string) error {
	return &drill.Error{Op: op, Kind: drill.Invalid, Err: errors.New("no server carries this out: it " + o.why), Hint: o.cure}
}

// serverRefused is what is told of --server where no server is asked, if err is about that.
func serverRefused(command *cobra.Command, err error) (error, bool) {
	var refused *drill.Error
	var empty *pflag.ValueRequiredError
	flag := command.Flag(serverFlag)
	switch {
	case flag == nil:
		return nil, false
	case errors.As(err, &refused):
		return refused, true
	case errors.As(err, &empty) && empty.GetSpecifiedName() == serverFlag:
		ours, is := flag.Value.(refusedServer)
		return ours.err, is
	}
	return nil, false
}
