// Command man writes the manual pages of firedrill from the same tree of commands that answers --help:
//
//	go run ./tools/man [-out docs/man]
//
// The pages are kept in git, and a test compares them with what this program writes, so that they never tell of an older version.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"firedrill/internal/cli"
)

// exitStatus is the heading under which every help text lists its exit codes.
const exitStatus = "EXIT STATUS"

func main() {
	out := flag.String("out", "docs/man", "directory to write the pages to; other pages in it are removed")
	flag.Parse()
	if err := replace(*out); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

// replace writes every page and removes those of commands that are no more.
func replace(directory string) error {
	pages, err := render(cli.Command())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(directory, "*.1"))
	if err != nil {
		return err
	}
	for _, name := range old {
		if _, still := pages[filepath.Base(name)]; !still {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(directory, name), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// render returns the page of each command that a user may start, by file name.
func render(root *cobra.Command) (map[string][]byte, error) {
	pages := map[string][]byte{}
	err := renderBelow(root, pages)
	return pages, err
}

func renderBelow(command *cobra.Command, pages map[string][]byte) error {
	for _, child := range command.Commands() {
		if !child.IsAvailableCommand() {
			continue
		}
		if err := renderBelow(child, pages); err != nil {
			return err
		}
	}
	// The pages change with the program, not with the day on which they are written.
	date := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	header := &doc.GenManHeader{Section: "1", Date: &date, Source: "firedrill", Manual: "firedrill"}
	command.DisableAutoGenTag = true
	command.Long = markdown(command.Long)
	var page bytes.Buffer
	if err := doc.GenMan(command, header, &page); err != nil {
		return fmt.Errorf("%s: %w", command.CommandPath(), err)
	}
	pages[strings.ReplaceAll(command.CommandPath(), " ", "-")+".1"] = []byte(hanging(inOrder(page.String())))
	return nil
}

// codeLine is a line of "EXIT STATUS": one code or more, then what it means.
var codeLine = regexp.MustCompile(`^ {2}(\d+(?:, \d+)*) {2,}(\S.*)$`)

// markdown turns a help text into the Markdown that cobra's pages are made of: indented lines stay as they are, exit codes become a list.
func markdown(long string) string {
	text, codes, _ := strings.Cut(long, exitStatus)
	var out strings.Builder
	verbatim := false
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		indented := strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "\t")
		if indented != verbatim && line != "" {
			out.WriteString("\n") // an example is a paragraph of its own
			verbatim = indented
		}
		if indented {
			out.WriteString("    " + strings.TrimPrefix(strings.TrimPrefix(line, "\t"), "  ") + "\n")
			continue
		}
		out.WriteString(escape(line) + "\n")
	}
	out.WriteString("\n# " + exitStatus + "\n")
	listed := false
	for _, line := range strings.Split(strings.TrimRight(codes, "\n"), "\n") {
		match := codeLine.FindStringSubmatch(line)
		switch {
		case match != nil:
			fmt.Fprintf(&out, "\n**%s**\n: %s\n", match[1], escape(match[2]))
		case listed:
			out.WriteString("\n" + escape(strings.TrimSpace(line)) + "\n")
		default:
			out.WriteString(escape(strings.TrimSpace(line)) + "\n")
		}
		listed = match != nil
	}
	return out.String()
}

var special = regexp.MustCompile(`[*_<>\[\]#]`)

func escape(line string) string { return special.ReplaceAllString(line, `\$0`) }

// inOrder puts the exit codes behind the options, where manual pages have them.
func inOrder(page string) string {
	const begin = ".SH " + exitStatus + "\n"
	before, rest, found := strings.Cut(page, begin)
	if !found {
		return page
	}
	codes, after := rest, ""
	if end := strings.Index(rest, "\n.SH "); end >= 0 {
		codes, after = rest[:end+1], rest[end+1:]
	}
	end := len(after)
	for _, next := range []string{".SH SEE ALSO\n", ".SH EXAMPLE\n"} {
		if place := strings.Index(after, next); place >= 0 {
			end = place
		}
	}
	return before + after[:end] + begin + codes + after[end:]
}

// option is a flag as cobra writes it: its name and default on one line, what it does after a tab on the next.
var option = regexp.MustCompile(`(?m)^(?:\.PP\n)?(\\fB-.*)\n\t(.*)$`)

// hanging makes each flag a paragraph of its own with what it does indented below.
func hanging(page string) string { return option.ReplaceAllString(page, ".TP\n$1\n$2") }
