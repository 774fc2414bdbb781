//go:build !hostpart

package cli

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/drill"
)

// attackable refuses what hosts would refuse of an attack because of how it is written, so that who asks for it learns of it now: an entry of the schedule would fail on the night
// when it is due. It tells how long another one lasts: what --length says or stands for, or 0 for a kind without one. A kind that this program does not know is for its
// hosts to judge.
func attackable(name string, args []string) (length time.Duration, err error) {
	kind, described, known := kinds.Find(name)
	if !known {
		return 0, nil
	}
	wrong := func(err error) (time.Duration, error) {
		return 0, &drill.Error{Op: "attack", Kind: drill.Invalid, Err: fmt.Errorf("%s: %w", name, err), Hint: cmp.Or(drill.HintOf(err), "see: firedrill help attack "+name)}
	}
	flags, texts := pflag.NewFlagSet(name, pflag.ContinueOnError), map[string]*flagText{}
	addKindFlags(flags, texts, described)
	flags.StringArray("canary", nil, "")
	if err := flags.Parse(args); err != nil {
		return wrong(err)
	}
	if flags.NArg() > 0 {
		return wrong(fmt.Errorf("%q is no flag, and nothing else is taken", flags.Arg(0)))
	}
	values, err := given(texts).Load(described)
	if err == nil {
		_, err = kind.Order(values)
	}
	if err == nil && flags.Lookup("length") != nil {
		length, err = values.Length()
	}
	if err != nil {
		return wrong(err)
	}
	return length, nil
}

// takesDown reports whether a kind of attack takes its host down.
func takesDown(kind string) bool {
	return slices.ContainsFunc(kinds.Describe(), func(k drill.AttackKind) bool { return k.Name == kind && k.OneWay })
}
