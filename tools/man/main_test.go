package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"firedrill/internal/cli"
)

const committed = "../../docs/man"

// stale compares the pages in a directory with those that are written now, and says what to do about each that differs.
func stale(t *testing.T, directory string, now map[string][]byte) []string {
	t.Helper()
	var found []string
	names, err := filepath.Glob(filepath.Join(directory, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, known := now[filepath.Base(name)]; !known {
			found = append(found, filepath.Base(name)+" is of no command")
		}
	}
	for name, page := range now {
		kept, err := os.ReadFile(filepath.Join(directory, name))
		if err != nil || !bytes.Equal(kept, page) {
			found = append(found, name+" (-kept +now):\n"+cmp.Diff(string(kept), string(page)))
		}
	}
	return found
}

func TestPagesTellOfThisVersion(t *testing.T) {
	pages, err := render(cli.Command())
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range stale(t, committed, pages) {
		t.Errorf("docs/man is not of this version; run: make man\n%s", what)
	}
}

func TestReplaceWritesEveryPageAndRemovesOldOnes(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "man")
	if err := replace(directory); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(directory, "firedrill-gone.1")
	if err := os.WriteFile(gone, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replace(directory); err != nil {
		t.Fatal(err)
	}
	pages, err := render(cli.Command())
	if err != nil {
		t.Fatal(err)
	}
	if found := stale(t, directory, pages); len(found) > 0 {
		t.Error(found)
	}
	if len(pages) < 20 {
		t.Errorf("only %d pages", len(pages))
	}
}

// The planted bug: a page that is missing, altered or of no command must be found.
func TestStalePagesAreFound(t *testing.T) {
	pages := map[string][]byte{"a.1": []byte("now"), "b.1": []byte("now"), "c.1": []byte("now")}
	directory := t.TempDir()
	for name, text := range map[string]string{"a.1": "now", "b.1": "then", "d.1": "now"} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found := stale(t, directory, pages); len(found) != 3 {
		t.Errorf("found %v; b.1 is old, c.1 is missing, d.1 is of no command", found)
	}
}

func TestEveryPageHasItsSectionsInOrder(t *testing.T) {
	pages, err := render(cli.Command())
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range pages {
		last := -1
		for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", exitStatus, "EXAMPLE", "SEE ALSO"} {
			place := strings.Index(string(page), ".SH "+section+"\n")
			if place < 0 && section != "EXAMPLE" {
				t.Errorf("%s has no section %s", name, section)
			}
			if place >= 0 && place < last {
				t.Errorf("%s has %s in the wrong place", name, section)
			}
			last = max(last, place)
		}
		if strings.Count(string(page), exitStatus) != 1 {
			t.Errorf("%s names %s more than once", name, exitStatus)
		}
	}
}

func TestMarkdownKeepsWhatAHelpTextSays(t *testing.T) {
	long := "Does *it* to <all> of a_b.\n  firedrill x  # as here\n\nMore.\n\nEXIT STATUS\n  0    done\n  129, 130   ended early\n  else as the command says"
	want := "Does \\*it\\* to \\<all\\> of a\\_b.\n\n    firedrill x  # as here\n\n\nMore.\n\n# EXIT STATUS\n\n\n**0**\n: done\n\n**129, 130**\n: ended early\n\nelse as the command says\n"
	if diff := cmp.Diff(want, markdown(long)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What a page says must be what --help says, whatever Markdown takes its characters for.
func TestPagesLoseNoWords(t *testing.T) {
	helps := map[string]string{}
	var collect func(*cobra.Command)
	collect = func(command *cobra.Command) {
		helps[strings.ReplaceAll(command.CommandPath(), " ", "-")+".1"] = command.Long
		for _, child := range command.Commands() {
			if child.IsAvailableCommand() {
				collect(child)
			}
		}
	}
	collect(cli.Command())
	pages, err := render(cli.Command())
	if err != nil {
		t.Fatal(err)
	}
	roff := strings.NewReplacer(`\fB`, "", `\fR`, "", `\fP`, "", `\-`, "-", `\&`, "", `\[rs]`, `\`, `\\`, `\`, `\[lq]`, `"`, `\[rq]`, `"`)
	for name, help := range helps {
		page := roff.Replace(string(pages[name]))
		for _, word := range strings.Fields(strings.ReplaceAll(help, "`", "")) {
			if !strings.Contains(page, word) {
				t.Errorf("%s lost %q", name, word)
			}
		}
	}
}
