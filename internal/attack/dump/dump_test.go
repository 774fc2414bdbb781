package dump

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// interrupted returns a list that is torn so many times, as the library of netlink tells it: with what it has, and an error.
func interrupted(times int) func() ([]string, error) {
	return func() ([]string, error) {
		if times--; times >= 0 {
			return []string{"lo"}, fmt.Errorf("list devices: %w", netlink.ErrDumpInterrupted)
		}
		return []string{"lo", "eth0"}, nil
	}
}

type whole func(func() ([]string, error)) ([]string, error)

// failings are how a way to get a list breaks the promise of Whole.
func failings(get whole) error {
	var errs []error
	for _, times := range []int{0, 1, tries - 1} {
		if found, err := get(interrupted(times)); err != nil || !slices.Equal(found, []string{"lo", "eth0"}) {
			errs = append(errs, fmt.Errorf("torn %d times: %v, %w", times, found, err))
		}
	}
	if found, err := get(interrupted(tries)); !errors.Is(err, netlink.ErrDumpInterrupted) || len(found) > 0 {
		errs = append(errs, fmt.Errorf("torn each time: %v, %w", found, err))
	}
	calls := 0
	if _, err := get(func() ([]string, error) { calls++; return nil, unix.EPERM }); !errors.Is(err, unix.EPERM) || calls != 1 {
		errs = append(errs, fmt.Errorf("refused: asked %d times, %w", calls, err))
	}
	return errors.Join(errs...)
}

func TestTornListsAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := failings(Whole[string]); err != nil {
			t.Error(err)
		}
	})
}

func TestTakingATornListIsCaught(t *testing.T) {
	for name, bug := range map[string]whole{
		"as it comes": func(list func() ([]string, error)) ([]string, error) { return list() },
		"torn or not": func(list func() ([]string, error)) ([]string, error) {
			found, err := list()
			if errors.Is(err, netlink.ErrDumpInterrupted) {
				err = nil
			}
			return found, err
		},
	} {
		if failings(bug) == nil {
			t.Errorf("%s: the planted bug was not caught", name)
		}
	}
}
