package jenkins

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
)

var update = flag.Bool("update", false, "write what is made now as what is expected")

// catalogue has the flags that the fixtures use.
func catalogue() []drill.AttackKind {
	return []drill.AttackKind{
		{Name: "blackhole", Group: "network", Flags: []drill.AttackFlag{{Name: "length", Short: "l", Type: "seconds"}, {Name: "hostname", Short: "h", Type: "list"}, {Name: "egress_port", Short: "p", Type: "list"}}},
		{Name: "shutdown", Group: "state", OneWay: true, Flags: []drill.AttackFlag{{Name: "delay", Short: "d", Type: "minutes"}, {Name: "reboot", Short: "r", Type: "bool"}}},
		{Name: "cpu", Group: "resource", Flags: []drill.AttackFlag{{Name: "length", Short: "l", Type: "seconds"}, {Name: "cores", Short: "c", Type: "int"}}},
	}
}

func imported(t *testing.T, text string) Result {
	t.Helper()
	job, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return Import(job, catalogue())
}

func fixture(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/bookstore.xml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestBookstoreJobBecomesAServiceFile(t *testing.T) {
	result := imported(t, fixture(t))
	const golden = "testdata/bookstore.golden.yaml"
	if *update {
		if err := os.WriteFile(golden, []byte(result.File), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), result.File); diff != "" {
		t.Errorf("(-want +got; -update writes it)\n%s", diff)
	}
	service, err := drill.ParseService([]byte(result.File), "firedrill.yaml")
	if err != nil {
		t.Fatalf("the skeleton does not parse: %v", err)
	}
	plan, err := drill.Compile(service, drill.Facts{Live: "blue", Kinds: catalogue()}, service.Pipeline)
	if err != nil {
		t.Fatalf("the skeleton does not compile: %v", err)
	}
	var steps []string
	for _, step := range plan.Steps {
		steps = append(steps, step.Name)
	}
	wantSteps := []string{"deploy to green", "drill lose-dependencies on green", "promote green", "drill lose-dependencies on green", "drill lose-host on blue", "deploy to blue"}
	if diff := cmp.Diff(wantSteps, steps); diff != "" {
		t.Errorf("pipeline (-want +got)\n%s", diff)
	}
}

// carried are words of a job and where they must show up again: in the file, or among what was left, by this text.
var carried = map[string]string{
	"<flatten>true</flatten>":                         "flatten: true",
	"<cleanRemote>true</cleanRemote>":                 "clean remote",
	"<makeEmptyDirs>true</makeEmptyDirs>":             "make empty dirs",
	"<usePty>true</usePty>":                           "restart_pty: true",
	"<noDefaultExcludes>true</noDefaultExcludes>":     "no_default_excludes: true",
	"<remoteDirectorySDF>true</remoteDirectorySDF>":   "date pattern",
	"<useAgentForwarding>true</useAgentForwarding>":   "agent forwarding",
	"<useSftpForExec>true</useSftpForExec>":           "SFTP for exec",
	"<keepFilePermissions>true</keepFilePermissions>": "keep file permissions",
	"<excludes>*.bak</excludes>":                      `exclude: ["*.bak"]`,
	"<removePrefix>target</removePrefix>":             `remove_prefix: "target"`,
	"<execTimeout>5000</execTimeout>":                 "timeout: 5s",
	"<execTimeout>0</execTimeout>":                    "no limit on the exec command",
	"<execTimeout>soon</execTimeout>":                 `execTimeout \"soon\"`,
	"<execCommand>make it so</execCommand>":           `restart: "make it so"`,
	"<execCommand>echo $BUILD_ID</execCommand>":       "variables of Jenkins",
	"<somethingNew>42</somethingNew>":                 "somethingNew",
}

// job makes a job of one transfer.
func job(transfer string) string {
	return `<project><builders><jenkins.plugins.publish__over__ssh.BapSshBuilderPlugin><publishers><jenkins.plugins.publish__over__ssh.BapSshPublisher><configName>web</configName><transfers><jenkins.plugins.publish__over__ssh.BapSshTransfer>` +
		transfer + `</jenkins.plugins.publish__over__ssh.BapSshTransfer></transfers></jenkins.plugins.publish__over__ssh.BapSshPublisher></publishers></jenkins.plugins.publish__over__ssh.BapSshBuilderPlugin></builders></project>`
}

func TestEveryFieldIsCarriedOverOrSaidToBeLeft(t *testing.T) {
	for field, want := range carried {
		result := imported(t, job("<sourceFiles>**/*</sourceFiles><remoteDirectory>app</remoteDirectory>"+field))
		said := result.File + strings.Join(result.Left, "\n")
		if !strings.Contains(said, want) && !strings.Contains(said, strings.ReplaceAll(want, `\"`, `"`)) {
			t.Errorf("%s: nothing says %q:\n%s", field, want, said)
		}
		// The planted bug: what is said of a field must not be there without it.
		without := imported(t, job("<sourceFiles>**/*</sourceFiles><remoteDirectory>app</remoteDirectory>"))
		if strings.Contains(without.File, want) {
			t.Errorf("%s: %q is said without it, too", field, want)
		}
	}
}

func TestAttacksBecomeDrills(t *testing.T) {
	for command, want := range map[string]string{
		"gremlin attack blackhole -l240 -h^a.example.test,db.example.test": `attack: {blackhole: {length: "240s", hostname: ["^a.example.test", "db"]}}`,
		"sudo -n /usr/bin/gremlin attack cpu --length=30 -c 2":             `attack: {cpu: {length: "30s", cores: "2"}}`,
		"firedrill attack shutdown -r":                                     `attack: {shutdown: {reboot: "true"}}`,
		"gremlin attack shutdown -d 2":                                     "reboot: true was added",
		"gremlin attack blackhole -h 'a.example.test' -h b.example.test":   `hostname: ["a", "b"]`,
		"gremlin attack blackhole -h $TARGET":                              "it needs a shell",
		"gremlin attack blackhole -l 10 && rm -rf /":                       "it needs a shell",
		"gremlin attack teleport":                                          `no attack "teleport"`,
		"gremlin attack blackhole --colour red":                            `has no flag "--colour"`,
		"gremlin attack blackhole -l":                                      "needs a value",
		"gremlin attack blackhole -l 'open":                                "a quote is open",
		"gremlin attack":                                                   "no attack is named",
		"echo hello":                                                       "no attack is in it",
	} {
		escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;").Replace(command)
		result := imported(t, job("<execCommand>"+escaped+"</execCommand>"))
		if said := result.File + strings.Join(result.Left, "\n"); !strings.Contains(said, want) {
			t.Errorf("%s: nothing says %q:\n%s", command, want, said)
		}
		if _, err := drill.ParseService([]byte(result.File), "firedrill.yaml"); err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
}

func TestHostileFilesAreRefused(t *testing.T) {
	deep := strings.Repeat("<a>", depthMax+1) + strings.Repeat("</a>", depthMax+1)
	for name, text := range map[string]string{
		"billion laughs":   `<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><project>&y;</project>`,
		"external entity":  `<!DOCTYPE a SYSTEM "file:///etc/passwd"><project/>`,
		"undefined entity": job("<sourceFiles>&passwd;</sourceFiles>"),
		"too deep":         deep,
		"too large":        job("<sourceFiles>" + strings.Repeat("x", sizeMax) + "</sourceFiles>"),
		"too many":         "<project>" + strings.Repeat("<BapSshPublisher><configName>x</configName></BapSshPublisher>", publishersMax+1) + "</project>",
		"not XML":          "service: bookstore",
		"broken":           "<project><builders>",
		"no publisher":     "<project><builders/></project>",
		"empty":            "",
	} {
		if _, err := Read(strings.NewReader(text)); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

func FuzzImport(f *testing.F) {
	f.Add(fixture(f))
	for field := range carried {
		f.Add(job("<sourceFiles>**/*</sourceFiles>" + field))
	}
	f.Add(job("<execCommand>gremlin attack blackhole -l 240 -h ^a,b,c\ngremlin attack shutdown</execCommand>"))
	f.Fuzz(func(t *testing.T, text string) {
		read, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		result := Import(read, catalogue())
		if _, err := drill.ParseService([]byte(result.File), "firedrill.yaml"); err != nil {
			t.Errorf("the skeleton does not parse: %v\n%s", err, result.File)
		}
	})
}
