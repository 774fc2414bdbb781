package cli

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/spf13/cobra"

	"firedrill/internal/attack"
	"firedrill/internal/attack/blackhole"
)

// keptKind is a blackhole with a planted bug: reverting does nothing, and says that it worked.
type keptKind struct{ blackhole.Kind }

func (k keptKind) Order(flags attack.Values) (attack.Order, error) {
	order, err := k.Kind.Order(flags)
	return keptOrder{order}, err
}

type keptOrder struct{ attack.Order }

func (o keptOrder) Plan(facts attack.Facts) (attack.Plan, error) {
	plan, err := o.Order.Plan(facts)
	for i, step := range plan.Steps {
		plan.Steps[i] = keptStep{step}
	}
	return plan, err
}

type keptStep struct{ attack.Step }

func (keptStep) Revert(context.Context) error { return nil }

func (s keptStep) Residue(ctx context.Context) ([]string, error) {
	return s.Step.(attack.Verified).Residue(ctx)
}

func newKeptCommand(s streams) *cobra.Command {
	return newKindCommand(s, keptKind{}, keptKind{}.Describe())
}

func TestImpactThatIsNotRevertedExitsWithFiveAndSaysWhatToDo(t *testing.T) {
	code, said := inNamespace(t, "attack that is kept", "-l", "4", "-i", "192.0.2.1")
	if code != exitNotReverted || !strings.Contains(said, "table inet firedrill-") || !strings.Contains(said, "firedrill halt") {
		t.Errorf("exit code %d\n%s", code, said)
	}
}

const deadGUID = "0367cfe2-f9fc-11e8-acea-0242db4d1180"

// newStatusAfterDeathCommand is status on a host where an attack on an old kernel was killed.
func newStatusAfterDeathCommand(s streams) *cobra.Command {
	command := newStatusCommand(s)
	command.PreRunE = func(*cobra.Command, []string) error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.AddTable(&nftables.Table{Name: "firedrill-" + deadGUID, Family: nftables.TableFamilyINet})
		conn.AddTable(&nftables.Table{Name: "somebody", Family: nftables.TableFamilyINet})
		return conn.Flush()
	}
	return command
}

func TestStatusShowsWhatDeadAttacksLeft(t *testing.T) {
	want := "table inet firedrill-" + deadGUID
	if code, said := inNamespace(t, "status after a death"); code != 0 || !strings.Contains(said, want+": left by") || strings.Contains(said, "nothing") {
		t.Errorf("exit code %d\n%s", code, said)
	}
	code, said := inNamespace(t, "status after a death", "--json")
	var status hostStatus
	if err := json.Unmarshal([]byte(said), &status); err != nil || code != 0 || !slices.Equal(status.Residue, []string{want}) || status.Running == nil {
		t.Errorf("exit code %d, %v\n%s", code, err, said)
	}
	if got := status.inForce(); len(got) != 1 {
		t.Errorf("in force is %v: a deployment must see the residue", got)
	}
}
