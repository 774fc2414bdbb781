package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport is the import table of docs/ARCHITECTURE.md: which of our packages a package may import. A new arrow is a decision: put it
// here together with its reason in docs/decisions.
var mayImport = map[string][]string{
	"":                                   {"internal/cli"},
	"client":                             {"internal/drill", "internal/fleet", "internal/fleet/client"},
	"drills":                             {},
	"internal/drill":                     {},
	"internal/history":                   {"internal/drill"},
	"internal/alarm":                     {"internal/drill"},
	"internal/guard":                     {"internal/drill", "internal/history"},
	"internal/verdict":                   {"internal/drill", "internal/history"},
	"internal/verdict/verdicttest":       {"internal/drill", "internal/history"},
	"internal/report":                    {"internal/drill", "internal/history", "internal/openmetrics", "internal/verdict"},
	"internal/openmetrics":               {},
	"internal/attest":                    {"internal/history"},
	"internal/stage":                     {"internal/drill", "internal/history", "internal/verdict"},
	"internal/playbook":                  {"internal/drill", "internal/history"},
	"internal/schedule":                  {"internal/drill"},
	"internal/lint":                      {"internal/drill"},
	"internal/jenkins":                   {"internal/drill"},
	"internal/chaostoolkit":              {"internal/drill"},
	"internal/simulation":                {},
	"internal/attack":                    {"internal/attack/cgroups", "internal/attack/containers", "internal/attack/procs", "internal/attack/policy", "internal/drill", "internal/history"},
	"internal/attack/containers":         {"internal/attack/procs", "internal/drill"},
	"internal/attack/containers/critest": {},
	"internal/attack/blackhole":          {"internal/attack", "internal/attack/herd", "internal/attack/traffic", "internal/drill"},
	"internal/attack/traffic":            {"internal/attack", "internal/attack/cgroups", "internal/attack/herd", "internal/attack/netem", "internal/attack/nfqueue", "internal/attack/procs", "internal/drill", "internal/history"},
	"internal/attack/traffictest":        {"internal/attack", "internal/attack/attacktest", "internal/attack/traffic", "internal/history"},
	"internal/attack/pause":              {"internal/attack", "internal/attack/aim", "internal/attack/cgroups", "internal/attack/procs", "internal/drill", "internal/history"},
	"internal/attack/hostfacts":          {"internal/attack", "internal/attack/dump", "internal/drill", "internal/tether"},
	"internal/attack/policy":             {"internal/drill"},
	"internal/attack/processkiller":      {"internal/attack", "internal/attack/procs", "internal/drill", "internal/history"},
	"internal/attack/procs":              {"internal/drill"},
	"internal/attack/cgroups":            {},
	"internal/attack/aim":                {"internal/attack", "internal/attack/cgroups", "internal/attack/procs", "internal/drill"},
	"internal/attack/hoard":              {"internal/attack", "internal/attack/worker", "internal/drill"},
	"internal/attack/shutdown":           {"internal/attack", "internal/drill", "internal/history"},
	"internal/attack/worker":             {"internal/attack/procs", "internal/attack", "internal/drill", "internal/history", "internal/tether"},
	"internal/attack/worker/workertest":  {"internal/attack/attacktest"},
	"internal/attack/cpu":                {"internal/attack", "internal/attack/worker", "internal/drill", "internal/history"},
	"internal/attack/memory":             {"internal/attack", "internal/attack/worker", "internal/drill", "internal/history"},
	// Every kind is a room of its own with the same arrows; kinds do not know each other.
	"internal/attack/*":              {"internal/attack", "internal/attack/aim", "internal/attack/cgroups", "internal/attack/dump", "internal/attack/herd", "internal/attack/hoard", "internal/attack/netem", "internal/attack/nfqueue", "internal/attack/procs", "internal/attack/traffic", "internal/attack/worker", "internal/drill", "internal/history"},
	"internal/attack/kinds":          {"internal/drill", "internal/attack", "internal/attack/*"},
	"internal/attack/attacktest":     {"internal/attack", "internal/attack/containers", "internal/attack/dump", "internal/attack/kinds", "internal/drill", "internal/history", "internal/tether"},
	"internal/probe":                 {"internal/drill", "internal/history"},
	"internal/failover":              {"internal/drill", "internal/history"},
	"internal/failover/authority":    {"internal/durable", "internal/failover", "internal/failover/tsig", "internal/drill", "internal/history"},
	"internal/failover/failovertest": {"internal/failover", "internal/drill", "internal/history"},
	"internal/failover/tsig":         {"internal/drill"},
	"internal/failover/rfc2136":      {"internal/failover", "internal/failover/move", "internal/failover/nameservers", "internal/failover/tsig", "internal/drill", "internal/history"},
	"internal/failover/nameservers":  {"internal/failover", "internal/failover/move", "internal/drill"},
	"internal/failover/route53":      {"internal/amazon", "internal/lint", "internal/failover", "internal/failover/move", "internal/failover/nameservers", "internal/drill"},
	"internal/failover/haproxy":      {"internal/failover", "internal/failover/move", "internal/drill", "internal/history"},
	"internal/failover/nginx":        {"internal/failover", "internal/failover/move", "internal/drill", "internal/history"},
	"internal/failover/hostsfile":    {"internal/failover", "internal/failover/move", "internal/drill", "internal/history"},
	"internal/failover/move":         {"internal/drill"},
	"internal/failover/disasters":    {},
	"internal/failover/keep":         {"internal/failover", "internal/drill", "internal/history"},
	"internal/failover/database":     {"internal/drill", "internal/history"},
	// Every driver is a room of its own with the same arrows; drivers do not know each other.
	"internal/failover/database/pgsql":        {"internal/failover/database"},
	"internal/failover/database/postgresql":   {"internal/failover/database", "internal/failover/database/pgsql", "internal/deploy/remote", "internal/drill"},
	"internal/failover/database/programs":     {"internal/failover/database", "internal/drill"},
	"internal/failover/database/patroni":      {"internal/failover/database", "internal/failover/database/pgsql", "internal/drill"},
	"internal/failover/database/rds":          {"internal/amazon", "internal/failover/database", "internal/failover/database/pgsql", "internal/drill", "internal/lint"},
	"internal/failover/database/databasetest": {"internal/failover/database", "internal/failover/database/pgsql", "internal/deploy/remote", "internal/drill", "internal/history", "internal/lab"},
	// AWS's APIs: our endpoint, and the rooms that speak to Amazon as clients, which are kept apart.
	"internal/amazon":            {"internal/drill"},
	"internal/awsapi":            {"internal/awsapi/cloudwatch", "internal/awsapi/rds", "internal/awsapi/recovery", "internal/awsapi/route53", "internal/awsapi/sigv4", "internal/awsapi/wire", "internal/failover/authority", "internal/drill"},
	"internal/awsapi/cloudwatch": {"internal/alarm", "internal/durable", "internal/awsapi/wire"},
	"internal/awsapi/route53":    {"internal/alarm", "internal/awsapi/cloudwatch", "internal/durable", "internal/awsapi/wire", "internal/failover", "internal/failover/authority"},
	"internal/awsapi/rds":        {"internal/durable", "internal/awsapi/wire", "internal/failover/database", "internal/drill", "internal/history"},
	"internal/awsapi/recovery":   {"internal/durable", "internal/awsapi/wire"},
	"internal/awsapi/sigv4":      {"internal/drill"},
	"internal/awsapi/wire":       {},
	"internal/durable":           {},
	// The fleet: what is said and decided; who leads, who carries out, who asks, which know each other by the wire alone.
	"internal/fleet":           {"internal/drill"},
	"internal/fleet/permits":   {"internal/drill"},
	"internal/fleet/control":   {"internal/durable", "internal/drill", "internal/fleet", "internal/fleet/permits", "internal/history", "internal/schedule"},
	"internal/fleet/agent":     {"internal/durable", "internal/drill", "internal/fleet", "internal/history", "internal/probe"},
	"internal/fleet/client":    {"internal/durable", "internal/drill", "internal/fleet"},
	"internal/fleet/httpapi":   {"internal/drill", "internal/fleet", "internal/fleet/control", "internal/openmetrics", "internal/schedule"},
	"internal/fleet/fleettest": {},
	"internal/backup":          {},
	"internal/web":             {"internal/drill", "internal/fleet", "internal/fleet/control", "internal/history", "internal/schedule", "internal/web/account"},
	"internal/web/account":     {"internal/durable", "internal/drill", "internal/fleet"},
	// Deploying, and everything else.
	"internal/deploy":                   {"internal/deploy/remote", "internal/drill", "internal/history"},
	"internal/deploy/remote":            {"internal/deploy/remote/sshconfig", "internal/drill", "internal/history", "internal/onefile"},
	"internal/deploy/remote/sshconfig":  {},
	"internal/onefile":                  {},
	"internal/tether":                   {},
	"internal/tether/tethertest":        {"internal/tether"},
	"internal/deploy/remote/remotetest": {"internal/deploy/remote", "internal/drill"},
	"internal/conductor":                {"internal/drill", "internal/history", "internal/guard"},
	"internal/schema":                   {"internal/attest", "internal/drill", "internal/history", "internal/playbook", "internal/report", "internal/stage", "internal/verdict"},
	"internal/ready":                    {"drills", "internal/drill"},
	"internal/prove":                    {"internal/conductor", "internal/drill", "internal/history", "internal/verdict"},
	"internal/watch":                    {"internal/durable", "internal/drill", "internal/history", "internal/alarm", "internal/failover", "internal/failover/database", "internal/openmetrics", "internal/probe", "internal/source"},
	"internal/source":                   {"internal/amazon", "internal/drill"},
	"internal/source/sourcetest":        {"internal/source"},
	"internal/notify":                   {"internal/amazon", "internal/drill"},
	"internal/lab":                      {"internal/drill", "internal/tether"},
	"internal/bookstore":                {},
	"internal/e2e":                      {"internal/drill", "internal/history", "internal/lab", "internal/verdict"},
	"internal/cli":                      {"*"},
	"tools/build":                       {"internal/attack", "internal/onefile"},
	"tools/gate":                        {},
	"tools/man":                         {"internal/cli"},
	"tools/mutants":                     {},
	"tools/vm":                          {"tools/vm/guest"},
	"tools/vuln":                        {},
	"tools/vm/guest":                    {},
	"tools/vm/init":                     {"tools/vm/guest"},
	"tools/vm/whole":                    {},
}

// deciders do no I/O and read no clock: now comes in as a value.
var deciders = []string{"internal/drill", "internal/alarm", "internal/guard", "internal/verdict", "internal/failover", "internal/playbook", "internal/schedule", "internal/lint", "internal/conductor/step.go", "internal/history/outage.go", "internal/fleet/order.go", "internal/fleet/choose.go"}

// deniedToDeciders are the imports that would let a decider touch the world.
var deniedToDeciders = []string{"net/http", "os", "os/exec", "syscall", "golang.org/x/sys/unix", "log", "log/slog"}

const module = "firedrill"

type sourceFile struct {
	path, folder string
	test         bool
	syntax       *ast.File
}

func sources(t *testing.T) []sourceFile {
	t.Helper()
	var all []sourceFile
	set := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (strings.HasPrefix(name, ".") && name != "." || name == "testdata" || name == "firedrill-out") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		syntax, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(path))
		if folder == "." {
			folder = ""
		}
		all = append(all, sourceFile{path: filepath.ToSlash(path), folder: folder, test: strings.HasSuffix(name, "_test.go"), syntax: syntax})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func importsOf(t *testing.T, file sourceFile) []string {
	t.Helper()
	var all []string
	for _, spec := range file.syntax.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, path)
	}
	return all
}

// forbidden returns why a package of ours may not import another, or "".
func forbidden(folder, imported string) string {
	allowed, known := mayImport[folder]
	if kind, below := strings.CutPrefix(folder, "internal/attack/"); !known && below && !strings.Contains(kind, "/") {
		allowed, known = mayImport["internal/attack/*"], true
	}
	switch {
	case !known:
		return "stands in no row of the import table"
	case slices.Contains(allowed, "*") || slices.Contains(allowed, imported):
		return ""
	case slices.Contains(allowed, "internal/attack/*") && strings.HasPrefix(imported, "internal/attack/"):
		return "" // the list of kinds knows them all
	}
	return "may not import " + imported
}

func TestPackagesImportOnlyWhatTheTableAllows(t *testing.T) {
	for _, file := range sources(t) {
		if file.test {
			continue
		}
		for _, path := range importsOf(t, file) {
			inside, ours := strings.CutPrefix(path, module+"/")
			if !ours {
				continue
			}
			if why := forbidden(file.folder, inside); why != "" {
				t.Errorf("%s: %s %s", file.path, file.folder, why)
			}
		}
	}
}

// The planted bug: arrows that point the wrong way must be found.
func TestWrongArrowsAreCaught(t *testing.T) {
	for _, arrow := range [][2]string{{"internal/drill", "internal/history"}, {"internal/verdict", "internal/attack"}, {"internal/conductor", "internal/verdict"}, {"internal/utils", "internal/drill"}} {
		if forbidden(arrow[0], arrow[1]) == "" {
			t.Errorf("%s importing %s is not caught", arrow[0], arrow[1])
		}
	}
}

func TestDecidersTouchNothing(t *testing.T) {
	for _, file := range sources(t) {
		if file.test || !(slices.Contains(deciders, file.folder) || slices.Contains(deciders, file.path)) {
			continue
		}
		for _, path := range importsOf(t, file) {
			if slices.Contains(deniedToDeciders, path) {
				t.Errorf("%s: a decider imports %s", file.path, path)
			}
		}
		for _, call := range []string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker"} {
			if uses(file.syntax, "time", call) {
				t.Errorf("%s: a decider calls time.%s; take now as a value", file.path, call)
			}
		}
	}
}

func uses(syntax *ast.File, pkg, name string) bool {
	found := false
	ast.Inspect(syntax, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if ident, ok := selector.X.(*ast.Ident); ok && ident.Name == pkg && ident.Obj == nil && selector.Sel.Name == name {
			found = true
		}
		return true
	})
	return found
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	docs := map[string][]string{}
	for _, file := range sources(t) {
		if file.test {
			continue
		}
		if _, seen := docs[file.folder]; !seen {
			docs[file.folder] = nil
		}
		if file.syntax.Doc != nil {
			docs[file.folder] = append(docs[file.folder], file.path)
		}
	}
	for folder, places := range docs {
		if len(places) != 1 {
			t.Errorf("%q has %d package comments, in %v; it needs one", folder, len(places), places)
		}
		if strings.HasPrefix(folder, "internal/") && (len(places) == 0 || filepath.Base(places[0]) != "doc.go") {
			t.Errorf("%s: the package comment belongs into doc.go", folder)
		}
	}
}

var shapelessNames = regexp.MustCompile(`(^|/)(utils?|common|types|helpers?|misc|pkg)(/|$)`)

func TestNoShapelessPackagesInitOrDirectExits(t *testing.T) {
	for _, file := range sources(t) {
		if shapelessNames.MatchString(file.folder) {
			t.Errorf("%s: a package name that says nothing", file.folder)
		}
		for _, declaration := range file.syntax.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil && function.Name.Name == "init" {
				t.Errorf("%s: init() hides what happens at start", file.path)
			}
		}
		if !file.test && file.path != "main.go" && !strings.HasPrefix(file.folder, "tools/") && uses(file.syntax, "os", "Exit") && !mayExit(file.folder) {
			t.Errorf("%s: only main exits", file.path)
		}
		if file.test && uses(file.syntax, "time", "Sleep") && !bubbled(file.syntax) {
			t.Errorf("%s: time.Sleep in a test outside of a synctest bubble", file.path)
		}
	}
}

// mayExit: a part of a lab is a process of its own inside of ours, with an end of its own; so are the programs that test suites start.
func mayExit(folder string) bool {
	return folder == "internal/lab" || strings.HasSuffix(folder, "test")
}

// bubbled says that the file uses synctest, where sleeping costs nothing and asserts nothing.
func bubbled(syntax *ast.File) bool {
	return slices.ContainsFunc(syntax.Imports, func(spec *ast.ImportSpec) bool { return spec.Path.Value == `"testing/synctest"` })
}

var requireLine = regexp.MustCompile(`(?m)^\t([^\s]+) v[^\s]+$`)

func TestEveryDirectDependencyHasItsReason(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := os.ReadFile("docs/DEPENDENCIES.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := requireLine.FindAllStringSubmatch(string(mod), -1)
	if len(direct) == 0 {
		t.Fatal("no direct dependency found in go.mod; the pattern is wrong")
	}
	for _, match := range direct {
		if !strings.Contains(string(reasons), "`"+match[1]+"`") {
			t.Errorf("%s is required directly, and docs/DEPENDENCIES.md gives no reason", match[1])
		}
	}
}

// parts are the build tags of the programs that the shipped file holds, with what none of them may bring: it would begin before each attack.
var parts = map[string][]string{
	"hostpart":            {"firedrill/internal/lab", "firedrill/internal/conductor", "firedrill/internal/deploy"},
	"hostpart,attackpart": {"net/http", "crypto/tls", "go.yaml.in/yaml/v4", "github.com/miekg/dns", "github.com/netresearch/go-cron"},
}

func TestPartsBuildAndStaySmall(t *testing.T) {
	for tags, heavy := range parts {
		if out, err := exec.Command("go", "build", "-tags", tags, "-o", filepath.Join(t.TempDir(), "part"), ".").CombinedOutput(); err != nil {
			t.Errorf("with -tags %s: %v\n%s\nDoes a new file need a build constraint? See tools/build.", tags, err, out)
			continue
		}
		list, err := exec.Command("go", "list", "-deps", "-tags", tags, ".").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range heavy {
			if slices.Contains(strings.Fields(string(list)), name) {
				t.Errorf("with -tags %s: %s comes along; see docs/decisions/0006", tags, name)
			}
		}
	}
}
