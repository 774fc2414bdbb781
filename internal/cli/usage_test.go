package cli

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// runRoot runs the whole command line in this process, and holds what it prints as JSON against its schema; change may take away what a test
// must not start.
func runRoot(change func(*cobra.Command), args ...string) (code int, out, errOut string) {
	var stdout, stderr bytes.Buffer
	s := streams{in: strings.NewReader(""), out: &stdout, err: &stderr}
	root := newRootCommand(s)
	if change != nil {
		change(root)
	}
	root.SetArgs(args)
	code = finish(s, root.Execute())
	if err := fits(args, stdout.String()); err != nil {
		return exitInternal, stdout.String(), "it printed JSON that is not as its schema says: " + err.Error()
	}
	return code, stdout.String(), stderr.String()
}

// paths are the words that lead to each command, hidden ones too.
func paths() [][]string {
	all := [][]string{}
	forEach(Command(), func(command *cobra.Command) {
		all = append(all, strings.Fields(command.CommandPath())[1:])
	})
	return all
}

// codeRow is a line of EXIT STATUS: one code or more and what they mean.
var codeRow = regexp.MustCompile(`(?m)^ {2}\d+(, \d+)* {2,}\S`)

// lacking says what a page of help must have and has not, or "".
func lacking(page string) string {
	before, after, found := strings.Cut(page, "\nEXIT STATUS\n")
	codes, _, _ := strings.Cut(after, "\n\n")
	switch {
	case !found:
		return "EXIT STATUS"
	case strings.Contains(after, "EXIT STATUS\n"):
		return "one EXIT STATUS only"
	case strings.TrimSpace(before) == "":
		return "a sentence on what the command does"
	case !codeRow.MatchString(codes):
		return "exit codes with their meaning"
	case strings.Contains(page, "####"):
		return "plain text"
	}
	return ""
}

func TestEveryCommandHasAPageThatListsItsExitCodes(t *testing.T) {
	for _, path := range paths() {
		name := "firedrill " + strings.Join(path, " ")
		code, page, errOut := runRoot(nil, append(slices.Clone(path), "--help")...)
		if code != exitPassed || errOut != "" {
			t.Errorf("%s --help: exit code %d, %s", name, code, errOut)
		}
		if lack := lacking(page); lack != "" {
			t.Errorf("the page of %s lacks %s:\n%s", name, lack, page)
		}
		if _, byHelp, _ := runRoot(nil, append([]string{"help"}, path...)...); byHelp != page && !slices.Equal(path, []string{"help"}) {
			t.Errorf("help %s shows another page than --help:\n%s", name, byHelp)
		}
	}
	for name, page := range map[string]string{
		"says nothing of exit codes": "Does it.\n\nUsage:\n", "lists none": "Does it.\n\nEXIT STATUS\n  of the command\n\nUsage:\n  0    done\n",
		"lists them twice": "Does it.\n\nEXIT STATUS\n  0    done\n\nEXIT STATUS\n  0    done\n", "holds only them": "\nEXIT STATUS\n  0    done\n",
	} {
		if lacking(page) == "" {
			t.Errorf("a page that %s is not caught", name)
		}
	}
}

func TestEveryCommandAndFlagIsDescribed(t *testing.T) {
	forEach(Command(), func(command *cobra.Command) {
		if command.Short == "" || strings.HasSuffix(command.Short, ".") || strings.ToUpper(command.Short[:1]) != command.Short[:1] {
			t.Errorf("%s: %q is no headline", command.CommandPath(), command.Short)
		}
		command.LocalFlags().VisitAll(func(flag *pflag.Flag) {
			if flag.Usage == "" {
				t.Errorf("%s --%s is not described", command.CommandPath(), flag.Name)
			}
			if flag.Shorthand == "h" && flag.Name != "help" && flag.Name != "hostname" {
				t.Errorf("%s: -h is --%s; people expect help there, or the host name on network attacks", command.CommandPath(), flag.Name)
			}
		})
	})
}

// oddArguments are what slips, scripts and hostile input give.
var oddArguments = []string{
	"", " ", "-", "--", "---", "--=", "-=", "--=x", "-=x", "--help=", "--help=maybe", "-h=", "-hh", "-h", "--h", "\x00", "\xff\xfe", "\u202e", "é", "🔥", "%s%d%n",
	"--file=", "--file=/", "-f", "--out=\x00", "--json=maybe", "--dry-run=maybe", "--length=NaN", "--length=1e309", "-l=-1", "-l", "^", ",", "^,^", "--canary",
	"--guid=", "../../etc/passwd", "@/dev/null", "$(id)", "`id`", "; id", strings.Repeat("a", 1<<16), "--" + strings.Repeat("a", 1<<12), "-" + strings.Repeat("z", 300),
	"--rate=99999999999999999999", "--rate=-1", "--freeze=", "--on=", "--sabotage=", "--format=", "--user=", "help", "completion", "__complete", "--version",
}

// disarm keeps every command from doing anything: what is tested is how arguments are read.
func disarm(root *cobra.Command) {
	forEach(root, func(command *cobra.Command) {
		command.Run, command.PreRun, command.PostRun = nil, nil, nil
		command.RunE = func(*cobra.Command, []string) error { return nil }
	})
}

func TestOddArgumentsAreRefusedOrTakenAndNeverBreakAnything(t *testing.T) {
	const few = 40
	for i, path := range paths() {
		if testing.Short() && i%few != 0 {
			continue // there are many commands, and each is made anew each time
		}
		for _, odd := range oddArguments {
			for _, args := range [][]string{append(slices.Clone(path), odd), append([]string{odd}, path...)} {
				if slices.Contains(args, "__complete") {
					continue // it runs no command, and prints to where it likes
				}
				checkOdd(t, args)
			}
		}
	}
}

func checkOdd(t *testing.T, args []string) {
	t.Helper()
	defer func() {
		if fault := recover(); fault != nil {
			t.Errorf("%.200q broke: %v", args, fault)
		}
	}()
	code, _, errOut := runRoot(disarm, args...)
	if code != exitPassed && code != exitUsage {
		t.Errorf("%.200q: exit code %d, %.300s", args, code, errOut)
	}
	if (code == exitUsage) != strings.HasPrefix(errOut, "firedrill: ") {
		t.Errorf("%.200q: exit code %d without a word, or a word without it: %.300q", args, code, errOut)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { panic("planted") }

// The planted bug: what breaks inside of a command is told as our own fault, so that the check above cannot miss it in a script.
func TestAPanicIsAFaultOfOurOwn(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := Main([]string{"firedrill", "judge", "-"}, brokenReader{}, &stdout, &stderr)
	if code != exitInternal || !strings.Contains(stderr.String(), "a fault of our own: planted") {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
}
