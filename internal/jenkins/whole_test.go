package jenkins

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// leaves are the elements of a job that hold a text.
var leaves = regexp.MustCompile(`<([A-Za-z_.]+)>([^<>]+)</([A-Za-z_.]+)>`)

// lost puts a word of its own into each leaf of a job, one after the other, and lists the leaves of which nothing is to be seen then.
func lost(t *testing.T, text string, blind func(*Job)) []string {
	t.Helper()
	var all []string
	for i, at := range leaves.FindAllStringSubmatchIndex(text, -1) {
		name := text[at[2]:at[3]]
		if ofThePlugin[name] || strings.TrimSpace(text[at[4]:at[5]]) == "" {
			continue
		}
		word := fmt.Sprintf("zq%dx", i)
		job, err := Read(strings.NewReader(text[:at[4]] + word + text[at[5]:]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if blind != nil {
			blind(&job)
		}
		result := Import(job, catalogue())
		if !strings.Contains(result.File, word) {
			all = append(all, name)
		}
	}
	return all
}

// Whatever a job says is in the service file or named at its top; the planted bug is a reader that passes over what it does not know.
func TestNothingOfAJobIsLostWithoutAWord(t *testing.T) {
	text, err := os.ReadFile("testdata/grown.xml")
	if err != nil {
		t.Fatal(err)
	}
	if found := lost(t, string(text), nil); len(found) > 0 {
		t.Errorf("lost without a word: %v", found)
	}
	if found := lost(t, string(text), func(job *Job) { job.Unread = nil }); len(found) < 5 {
		t.Errorf("a reader that passes over all it does not know is not caught: %v", found)
	}
	if found := lost(t, fixture(t), nil); len(found) > 0 {
		t.Errorf("lost without a word: %v", found)
	}
}

func TestStepsWithoutSettingsAreNamedToo(t *testing.T) {
	text, err := os.ReadFile("testdata/grown.xml")
	if err != nil {
		t.Fatal(err)
	}
	said := imported(t, string(text)).File
	for _, want := range []string{"CleanBeforeCheckout", "let the CI server do that before firedrill pipeline", "write its times into schedule:", "a second repository"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing says %q:\n%s", want, said)
		}
	}
}

func TestPipelineJobIsToldWhatToDo(t *testing.T) {
	_, err := Read(strings.NewReader(`<flow-definition><definition><script>sshPublisher(...)</script></definition></flow-definition>`))
	if err == nil || !strings.Contains(err.Error(), "script") {
		t.Errorf("%v", err)
	}
}
