package kinds

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/attack"
	"firedrill/internal/attack/attacktest"
)

const contractPage = "../../../docs/contract.md"

// item is a guarantee that every attack gives.
type item struct {
	name   string
	checks []string // of attacktest's contract, each of which a kind must run
	calls  []string // functions of attacktest that a kind's tests must call instead
	shared []string // tests that hold it for all kinds at once, as FOLDER.Test
}

// items are the guarantees, in the order of the page.
var items = []item{
	{name: "the plan is deterministic", calls: []string{"Deterministic"}},
	{name: "the description is whole", calls: []string{"Described"}},
	{name: "a dry run touches nothing", checks: []string{"DryRunTouchesNothing"}},
	{name: "felt from outside, and as before afterwards, byte for byte", checks: []string{"RevertsOnTerm", "RevertsAtDeadline"}},
	{name: established},
	{name: spares},
	{name: "reverted twice, and without having been applied", checks: []string{"RevertsOnceWhenToldOften", "RevertsWithoutApply"}},
	{name: "SIGKILL before each step and in force", checks: []string{"LeavesNothingWhenKilledAnywhere"}},
	{name: recovery},
	{name: "SIGSTOP past the deadline", checks: []string{"EndsAtDeadlineWhileStopped"}},
	{name: "Ctrl-C, SIGTERM, hang-up, input that ends, nobody reads", checks: []string{"RevertsOnInterrupt", "RevertsOnTerm", "RevertsOnHangUp", "EndsWhenStdinEnds", "EndsWhenNobodyReads"}},
	{name: restart},
	{name: "two at once, ending in either order", checks: []string{"OverlapFirstEndsFirst", "OverlapFirstEndsLast"}},
	{name: "the same one twice is refused", checks: []string{"RefusesSameGUID"}},
	{name: "the deadline comes before it is set up", checks: []string{"DeadlineBeforeReady"}},
	{name: journal},
	{name: "halt ends it, even when it is frozen", checks: []string{"HaltEndsAll", "HaltEndsStopped"}},
	{name: refuses},
}

// The guarantees that no check of the contract can hold for all kinds alike.
const (
	established = "established flows are hit too, and go on"
	spares      = "what is spared, and the way back, is never hit"
	recovery    = "killed once more while an older one is taken back"
	restart     = "the host restarts in the middle"
	journal     = "the journal is torn, its disk full or read-only"
	refuses     = "what cannot be undone needs consent, or is refused"
)

// elsewhere says which tests hold a guarantee for a kind or a group of kinds (network, journal, worker), or why it means nothing there. A
// sentence begins with a dash. What is said of a kind goes before what is said of its group, and that before what is said of all ("").
var elsewhere = map[string]map[string][]string{
	established: {
		"blackhole": {"TestCutsEstablishedFlowsAndLetsThemGoOn"}, "packet_loss": {"TestEstablishedFlowsAreHitAndGoOn"}, "latency": {"TestEstablishedAndNewFlowsAreSlowAndSparesAreNot"},
		"bandwidth": {"TestEstablishedFlowsAreNarrowedAndOthersAreNot"}, "reject": {"TestEstablishedConnectionIsRefusedToo"}, "reset": {"TestEstablishedConnectionsAreResetForBothSides"},
		"dns": {"blackhole.TestCutsEstablishedFlowsAndLetsThemGoOn"}, "": {"- it hits no packets"},
	},
	spares: {
		"network": {"blackhole.TestSpareIsNeverHit", "blackhole.TestOwnSSHConnectionIsSpared", "attack.TestWhatIsNeverHitIsSparedByEveryNetworkAttack"},
		"latency": {"TestControlConnectionIsNotDelayed", "TestEstablishedAndNewFlowsAreSlowAndSparesAreNot"}, "packet_loss": {"TestSparesAreNotCorrupted", "attack.TestWhatIsNeverHitIsSparedByEveryNetworkAttack"},
		"process_killer": {"TestSpareIsNeverKilled", "TestConsentReachesSSHD"}, "pause": {"TestStoppedByOthersIsLeftAlone", "TestGroupsOfOthersAreRefused"},
		"service": {"TestRefusesUnitsThatHoldUs"}, "fd": {"TestControlIsNeverNarrowed"}, "pid": {"TestControlIsNeverInANarrowedGroup"},
		"memory": {"TestReserveIsNeverTaken"}, "disk": {"TestReserveOfRootIsKept"}, "cpu": {"- it takes cores that all share, and spares none"},
		"io": {"TestFilesThatWouldFillTheVolumeAreRefused"}, "shutdown": {"- it is about the whole host"}, "time_travel": {"- it is about the whole host"},
		"certificate": {"- it changes nothing"},
	},
	recovery: {
		"journal": {"attack.TestRecoveryMayBeKilledAnywhere", "attack.TestNextStartUndoesWhenBothWereKilled"}, "": {"- the kernel has taken it back by then"},
	},
	restart: {
		"journal": {"whole.TestHostThatRestartsInTheMiddleIsCleanAtTheNextStart", "attack.TestJournalOfAnotherBootOrBuild", "whole.TestUnitCleansUpAtTheStartAfterACrash"},
		"disk":    {"- its files have no names, so that a check of the volume frees them"}, "io": {"- its files have no names, so that a check of the volume frees them"},
		"": {"- it is in the memory of the kernel alone"},
	},
	journal: {
		"journal": {"attack.TestJournalTornAtEveryByteIsUnderstood", "attack.TestAttackRefusesWhenItCannotWriteDown", "attack.TestAlteredJournalIsNeverBelieved"}, "": {"- it has none"},
	},
	refuses: {
		"process_killer": {"TestConsentNamesProcess1AndNeverUs", "TestConsentReachesSSHD"}, "shutdown": {"- the catalogue's command runs as it is; the host's policy asks for consent: require_consent"},
		"service": {"TestRefusesWhatItCannotBringBack"}, "latency": {"TestNetemIsNotPutWhereSomebodyHasSetUpARoot"}, "time_travel": {"TestWithoutTheRightItRefuses"},
		"disk": {"TestVolumeOverTheShareIsRefused"}, "memory": {"TestWorkerRefusesWhatWouldTakeTheReserve"}, "pause": {"TestGroupsOfOthersAreRefused"},
		"fd": {"TestReserveIsNeverTaken"}, "pid": {"TestReserveIsNeverTaken"}, "": {"- all of it can be undone"},
	},
}

// besides are kinds that are not under the contract, for nothing of them is taken back, and what holds its guarantees for them, by check; a
// guarantee of several checks needs all of them. What is said of "" holds for all others.
var besides = map[string]map[string][]string{
	"shutdown": {
		"DryRunTouchesNothing": {"TestDryRunOfAShutdownTakesNothingDown"}, "EndsAtDeadlineWhileStopped": {"TestFrozenShutdownDoesNotGoOffLate"},
		"RevertsOnInterrupt": calledOff, "RevertsOnTerm": calledOff, "RevertsOnHangUp": calledOff, "EndsWhenStdinEnds": calledOff, "EndsWhenNobodyReads": calledOff,
		"LeavesNothingWhenKilledAnywhere": calledOff, "HaltEndsAll": calledOff, "HaltEndsStopped": calledOff,
		"RefusesSameGUID": {"TestTheSameShutdownIsNotPendingTwice"}, "RevertsAtDeadline": {"TestShutdownTakesTheWholeHostDown"},
		"": {"- the host goes down: there is nothing to take back, and no time for another one"},
	},
	"certificate": {"RevertsAtDeadline": {"TestFindsWhatWouldBeExpired"}, "RevertsOnTerm": {"TestFindsWhatWouldBeExpired"}, "": {"- it changes nothing"}},
}

var calledOff = []string{"TestShutdownIsCalledOffByWhateverEndsWhoOrderedIt", "TestShutdownIsCalledOffDuringTheDelay"}

// grouped says which groups a kind is in.
func grouped(kind attack.Kind) []string {
	described := kind.Describe()
	groups := []string{described.Group}
	_, undoes := kind.(attack.Undoer)
	if undoes && described.Remains == string(attack.RemainsUntilStart) || described.Name == "latency" || described.Name == "packet_loss" {
		groups = append(groups, "journal")
	}
	return append(groups, "")
}

// tested is what the tests of a folder hold.
type tested struct {
	functions map[string]bool
	checks    map[string][]string // check of the contract to the tests that run it
	calls     map[string][]string // function of attacktest to the tests that call it
}

// parse reads the tests of a folder, those of other builds too.
func parse(folder string) (tested, error) {
	found := tested{functions: map[string]bool{}, checks: map[string][]string{}, calls: map[string][]string{}}
	paths, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		return found, err
	}
	for _, at := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), at, nil, 0)
		if err != nil {
			return found, err
		}
		for _, declared := range file.Decls {
			if f, ok := declared.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" {
				found.functions[f.Name.Name] = true
				found.read(f, imported(file))
			}
		}
	}
	return found, nil
}

// imported are the names by which a file calls attacktest and workertest.
func imported(file *ast.File) map[string]bool {
	names := map[string]bool{}
	for _, spec := range file.Imports {
		from, _ := strconv.Unquote(spec.Path.Value)
		if base := path.Base(from); base == "attacktest" || base == "workertest" {
			names[base] = spec.Name == nil
			if spec.Name != nil {
				names[spec.Name.Name] = true
			}
		}
	}
	return names
}

// read finds what a test calls.
func (t tested) read(f *ast.FuncDecl, from map[string]bool) {
	ast.Inspect(f, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if of, ok := selector.X.(*ast.Ident); !ok || !from[of.Name] {
			return true
		}
		name := selector.Sel.Name
		t.calls[name] = append(t.calls[name], f.Name.Name)
		switch name {
		case "Run", "RunEach", "RunAlone", "Contract":
			if len(call.Args) == 0 || name == "Run" && len(call.Args) == 3 {
				return true // the list alone, and what workers hold besides
			}
			for _, check := range attacktest.Contract() {
				if !slices.Contains(excepted(call), check.Name) {
					t.checks[check.Name] = append(t.checks[check.Name], f.Name.Name)
				}
			}
		}
		return true
	})
}

// excepted are the checks that a call leaves out.
func excepted(call *ast.CallExpr) (names []string) {
	literal, ok := call.Args[len(call.Args)-1].(*ast.CompositeLit)
	if !ok {
		return nil
	}
	for _, element := range literal.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.BasicLit); ok {
				name, _ := strconv.Unquote(key.Value)
				names = append(names, name)
			}
		}
	}
	return names
}

// folders are where tests that hold something for all kinds are.
var folders = map[string]string{"attack": "..", "whole": "../../../tools/vm/whole", "blackhole": "../blackhole"}

// table fills the page, and returns the holes: guarantees of a kind that nothing holds, and tests that are named and not there.
func table(all []attack.Kind, of func(folder string) (tested, error)) (cells map[string]map[string][]string, holes []string, err error) {
	shared := map[string]tested{}
	for name, folder := range folders {
		if shared[name], err = of(folder); err != nil {
			return nil, nil, err
		}
	}
	cells = map[string]map[string][]string{}
	for _, kind := range all {
		name := kind.Describe().Name
		own, err := of(filepath.Join("..", path.Base(reflect.TypeOf(kind).PkgPath())))
		if err != nil {
			return nil, nil, err
		}
		cells[name] = map[string][]string{}
		for _, guarantee := range items {
			held := holds(kind, guarantee, own)
			cells[name][guarantee.name] = held
			if len(held) == 0 {
				holes = append(holes, name+": nothing holds that "+guarantee.name)
			}
			for _, test := range held {
				folder, function, elsewhere := strings.Cut(test, ".")
				switch {
				case strings.HasPrefix(test, "-"):
				case elsewhere && !shared[folder].functions[function], !elsewhere && !own.functions[test]:
					holes = append(holes, name+": there is no test "+test)
				}
			}
		}
	}
	return cells, holes, nil
}

// holds returns what holds a guarantee for a kind.
func holds(kind attack.Kind, guarantee item, own tested) []string {
	name := kind.Describe().Name
	if len(guarantee.calls) > 0 {
		return slices.Compact(slices.Clone(own.calls[guarantee.calls[0]]))
	}
	if len(guarantee.checks) == 0 {
		for _, who := range append([]string{name}, grouped(kind)...) {
			if held := elsewhere[guarantee.name][who]; len(held) > 0 {
				return held
			}
		}
		return nil
	}
	by := map[string]int{}
	if exempt := besides[name]; exempt != nil {
		for _, check := range guarantee.checks {
			for _, test := range exempt[check] {
				by[test] = len(guarantee.checks)
			}
		}
		if len(by) == 0 {
			return exempt[""]
		}
	}
	for _, check := range guarantee.checks {
		for _, test := range own.checks[check] {
			by[test]++
		}
	}
	maps.DeleteFunc(by, func(_ string, count int) bool { return count < len(guarantee.checks) })
	return slices.Sorted(maps.Keys(by))
}

func contract(cells map[string]map[string][]string) string {
	var b strings.Builder
	b.WriteString(contractHead)
	for _, guarantee := range items {
		fmt.Fprintf(&b, "## %s%s\n\n", strings.ToUpper(guarantee.name[:1]), guarantee.name[1:])
		if len(guarantee.checks) > 0 {
			fmt.Fprintf(&b, "Checks of the contract: %s.\n\n", strings.Join(guarantee.checks, ", "))
		}
		// Kinds that are held alike share a line.
		var order []string
		who := map[string][]string{}
		for _, kind := range All() {
			name := kind.Describe().Name
			held := strings.Join(cells[name][guarantee.name], ", ")
			if _, ok := who[held]; !ok {
				order = append(order, held)
			}
			who[held] = append(who[held], name)
		}
		b.WriteString("| kinds | held by |\n|---|---|\n")
		for _, held := range order {
			fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(who[held], ", "), strings.TrimPrefix(held, "- "))
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

const contractHead = `# What every attack holds, and which test says so

<!-- Made from the tests themselves: go test ./internal/attack/kinds -run ContractPage -update -->

The contract is package ` + "`internal/attack/attacktest`" + `: each check starts attacks in processes of their own, on a host of its own, and compares
that host before and after. Each has a planted bug that it must catch. Tests of ` + "`whole`" + ` run on booted machines: ` + "`make vm`" + `. A test without a
folder is in that of the kind.

`

func TestContractPageHasNoHoles(t *testing.T) {
	cells, holes, err := table(All(), parse)
	if err != nil {
		t.Fatal(err)
	}
	for _, hole := range holes {
		t.Error(hole)
	}
	want := contract(cells)
	if *update {
		if err := os.WriteFile(contractPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(contractPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/contract.md is of other tests; run: go test ./internal/attack/kinds -run ContractPage -update\n%s", diff)
	}
}

// The planted bugs: a kind whose tests run no contract, one that leaves a check out, and a test that is named and gone.
func TestAHoleInTheContractIsCaught(t *testing.T) {
	for name, plant := range map[string]func(folder string, found tested){
		"cpu: nothing holds that SIGSTOP past the deadline": func(folder string, found tested) {
			if folder == "../cpu" {
				delete(found.checks, "EndsAtDeadlineWhileStopped")
			}
		},
		"reject: nothing holds that two at once": func(folder string, found tested) {
			if folder == "../reject" {
				clear(found.checks)
			}
		},
		"pid: nothing holds that the plan is deterministic": func(folder string, found tested) {
			if folder == "../pid" {
				delete(found.calls, "Deterministic")
			}
		},
		"dns: there is no test blackhole.TestSpareIsNeverHit": func(folder string, found tested) {
			if folder == "../blackhole" {
				delete(found.functions, "TestSpareIsNeverHit")
			}
		},
	} {
		_, holes, err := table(All(), func(folder string) (tested, error) {
			found, err := parse(folder)
			plant(folder, found)
			return found, err
		})
		if err != nil || !slices.ContainsFunc(holes, func(hole string) bool { return strings.HasPrefix(hole, name) }) {
			t.Errorf("nothing catches that %s: %v, %v", name, holes, err)
		}
	}
}
