package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const (
	proveMax = 20 * time.Minute // one run of every case, with its longest limits, on a slow and busy machine
	// proveRuns names how often each case is run; once when it is not set.
	proveRuns = "FIREDRILL_PROVE_RUNS"
)

// Every sabotage must be noticed as declared: no drill may pass with something broken, and it must pass with nothing broken.
func TestEverySabotageIsNoticed(t *testing.T) {
	program := built(t)
	runs := 1
	if text := os.Getenv(proveRuns); text != "" {
		var err error
		if runs, err = strconv.Atoi(text); err != nil || runs < 1 {
			t.Fatalf("%s=%q is not a number of runs", proveRuns, text)
		}
	}
	before := lookAtMachine(t)
	d := start(t, program, root, "prove", "--json", "--labs", "3", "--runs", strconv.Itoa(runs), "--junit", filepath.Join(filepath.Dir(program), "prove.xml"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(runs)*proveMax)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = d.cmd.Process.Kill() })
	defer stop()
	err := d.cmd.Wait()
	cases := map[string]int{}
	for line := range bytes.Lines(d.output.Bytes()) {
		var result struct {
			Case, Verdict, Reason, Error string
			By                           string `json:"caught_by"`
			Skipped                      string `json:"not_applicable"`
			Caught                       bool
			Seconds                      float64
		}
		if !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &result) != nil {
			continue
		}
		cases[result.Case]++
		t.Logf("%-18s %-13s %5.1f s  %s", result.Case, result.Verdict, result.Seconds, result.By)
		if !result.Caught || result.Skipped != "" {
			t.Errorf("%s: %s: %s%s%s", result.Case, result.Verdict, result.Reason, result.Error, result.Skipped)
		}
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, d.output.String())
	}
	if len(cases) < 21 || cases["control"] != runs {
		t.Errorf("%d cases, and the control %d times; want 20 sabotages and the control", len(cases), cases["control"])
	}
	if left := leftBehind(t, before, program); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}
