package chaostoolkit

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/drill"
)

var update = flag.Bool("update", false, "write what is made now as what is expected")

// corpus are experiments in the shapes that people write, each beside what becomes of it.
func corpus(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"testdata/*.json", "testdata/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all[file] = string(text)
		}
	}
	if len(all) < 20 {
		t.Fatalf("%d experiments", len(all))
	}
	return all
}

func imported(t testing.TB, text string) Result {
	t.Helper()
	result, err := Import(strings.NewReader(text), kinds.Describe())
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// listed is the list as the command prints it, and the drills and probes of the file.
func listed(result Result) string {
	var b strings.Builder
	for _, note := range result.Notes {
		b.WriteString(note.Became + "  " + note.String() + "\n")
	}
	_, drills, _ := strings.Cut(result.File, "\nclients:")
	return b.String() + "\nclients:" + drills
}

// compiles parses the service file, and makes a plan of each of its drills.
func compiles(result Result) error {
	service, err := drill.ParseService([]byte(result.File), "firedrill.yaml")
	if err != nil || len(service.Pipeline) == 0 {
		return err
	}
	_, err = drill.Compile(service, drill.Facts{Live: "blue", Kinds: kinds.Describe(), Seed: 1}, service.Pipeline)
	return err
}

func TestCorpusBecomesWhatIsExpected(t *testing.T) {
	for file, text := range corpus(t) {
		result := imported(t, text)
		if err := compiles(result); err != nil {
			t.Errorf("%s: %v\n%s", file, err, result.File)
		}
		golden := strings.TrimSuffix(strings.TrimSuffix(file, ".json"), ".yaml") + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(listed(result)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), listed(result)); diff != "" {
			t.Errorf("%s (-want +got; -update writes it)\n%s", file, diff)
		}
	}
}

const surprise = "surprise-4711"

// planted puts a value that no importer knows into each mapping of an experiment, one at a time.
func planted(n *node, put func()) {
	if n.kind == object {
		n.set(surprise, &node{text: surprise, path: below(n.path, surprise), line: n.line, column: n.column})
		put()
		n.keys, n.items = n.keys[:len(n.keys)-1], n.items[:len(n.items)-1]
	}
	for _, item := range n.items {
		planted(item, put)
	}
}

// named says whether a list names a value: by its own place, or with a part around it that was changed or lost as a whole.
func named(result Result, path string) bool {
	return strings.Contains(result.File, surprise) || slices.ContainsFunc(result.Notes, func(n Note) bool {
		return n.Became != Carried && (n.Path == path || strings.HasPrefix(path, n.Path+".") || strings.HasPrefix(path, n.Path+"["))
	})
}

func TestWhatNobodyKnowsIsNamed(t *testing.T) {
	count := 0
	for file, text := range corpus(t) {
		root, err := read(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		planted(root, func() {
			count++
			again, err := read(strings.NewReader(string(root.json())))
			if err != nil {
				t.Fatal(err)
			}
			var path string
			find(again, func(n *node) {
				if n.kind == scalar && n.text == surprise {
					path = n.path
				}
			})
			if result := imported(t, string(root.json())); !named(result, path) {
				t.Errorf("%s: %s is not named", file, path)
			}
		})
	}
	if count < 200 {
		t.Errorf("only %d mappings were tried", count)
	}
	// The planted bug: an importer that forgets to look at what is left must not be taken for one that names it.
	root, err := read(strings.NewReader(corpus(t)["testdata/18-only-a-hypothesis.json"]))
	if err != nil {
		t.Fatal(err)
	}
	root.set(surprise, &node{text: surprise, path: surprise})
	result := imported(t, string(root.json()))
	result.Notes = slices.DeleteFunc(result.Notes, func(n Note) bool { return n.Reason == "not known to this importer" })
	result.File = ""
	if named(result, surprise) {
		t.Error("a value that the list leaves out is taken for one that it names")
	}
}

func find(n *node, visit func(*node)) {
	visit(n)
	for _, item := range n.items {
		find(item, visit)
	}
}

func TestSecretsAreNeverCopied(t *testing.T) {
	secrets := []string{"abc-not-to-be-shown", "do-not-copy-me", "secret-in-the-open", "hunter2"}
	seen := 0
	for file, text := range corpus(t) {
		result := imported(t, text)
		whole, err := json.Marshal(result)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				seen++
			}
			if strings.Contains(string(whole), secret) {
				t.Errorf("%s: %q was copied", file, secret)
			}
		}
	}
	if seen != len(secrets) {
		t.Errorf("%d of %d secrets are in the corpus", seen, len(secrets))
	}
}

// What is unsafe there by default, and the words that say it is not here.
func TestUnsafeDefaultsAreSaid(t *testing.T) {
	all := corpus(t)
	for file, want := range map[string]string{
		"testdata/01-cut-database-by-iptables.json": "rollbacks were left out when the run was interrupted or an activity failed",
		"testdata/02-slow-network-by-tc.yaml":       "it was looked at once before and once after the method",
		"testdata/05-kill-a-process.json":           "certificates are checked",
		"testdata/06-stop-a-unit.yaml":              "each must stay good",
		"testdata/18-only-a-hypothesis.json":        "it had no limit, so that one that hangs hung the experiment",
		"testdata/03-lose-packets.yaml":             "nothing judged what it found",
	} {
		if said := listed(imported(t, all[file])); !strings.Contains(said, want) {
			t.Errorf("%s: nothing says %q:\n%s", file, want, said)
		}
	}
}

func TestHostileFilesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           "",
		"a list":          "[]",
		"a journal":       `{"experiment": {"title": "x"}, "status": "completed"}`,
		"too deep":        `{"method": ` + strings.Repeat("[", depthMax+1) + strings.Repeat("]", depthMax+1) + `}`,
		"too large":       `{"method": "` + strings.Repeat("x", sizeMax) + `"}`,
		"too many":        `{"method": [` + strings.Repeat("1,", nodesMax) + `1]}`,
		"billion laughs":  "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\nmethod: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
		"neither of them": "\x00\x01",
		"broken":          `{"method": [}`,
	} {
		if _, err := Import(strings.NewReader(text), kinds.Describe()); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

func FuzzImport(f *testing.F) {
	for _, text := range corpus(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		result, err := Import(strings.NewReader(text), kinds.Describe())
		if err != nil {
			if drill.KindOf(err) != drill.Invalid {
				t.Fatal(err)
			}
			return
		}
		if _, err := drill.ParseService([]byte(result.File), "firedrill.yaml"); err != nil {
			t.Errorf("the file does not parse: %v\n%s", err, result.File)
		}
	})
}
