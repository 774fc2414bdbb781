package chaostoolkit

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"firedrill/internal/drill"
)

// The commands that are written must do what the tolerances said: they are run, against a server that answers what its path says.
func TestWrittenProbesJudgeAsTheirTolerances(t *testing.T) {
	for _, program := range []string{"curl", "grep", "sh"} {
		if _, err := exec.LookPath(program); err != nil {
			if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "curl") {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		if _, err := fmt.Sscanf(r.URL.Path, "/%d", &status); err == nil {
			w.WriteHeader(status)
		}
		_ = r.ParseForm()
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Form.Get("q"), r.Header.Get("X-Shop"))
	}))
	defer server.Close()
	http := func(path, rest string) string {
		return fmt.Sprintf(`{"type": "probe", "name": "p", "provider": {"type": "http", "timeout": 5, "url": "%s%s"%s`, server.URL, path, rest)
	}
	process := func(path, arguments, tolerance string) string {
		return fmt.Sprintf(`{"type": "probe", "name": "p", "tolerance": %s, "provider": {"type": "process", "timeout": 5, "path": "%s", "arguments": %s}}`, tolerance, path, arguments)
	}
	for probe, good := range map[string]bool{
		http("/200", `}, "tolerance": 200}`):        true,
		http("/201", `}, "tolerance": 200}`):        false,
		http("/503", `}, "tolerance": [200, 503]}`): true,
		http("/404", `}, "tolerance": [200, 503]}`): false,
		http("/204", `}}`):                          true,
		http("/500", `}}`):                          false,
		http("/200", `, "expected_status": 202}}`):  false,
		http("/", `, "arguments": {"q": "a & b"}}, "tolerance": {"type": "regex", "pattern": "^GET a & b", "target": "body"}}`):                  true,
		http("/", `, "method": "post", "arguments": {"q": "$(id)'\" x"}}, "tolerance": {"type": "regex", "pattern": "^POST \\$\\(id\\)'\" x"}}`): true,
		http("/", `, "headers": {"X-Shop": "; reboot"}}, "tolerance": {"type": "regex", "pattern": "; reboot$"}}`):                               true,
		http("/", `}, "tolerance": {"type": "regex", "pattern": "never"}}`):                                                                      false,
		`{"type": "probe", "name": "p", "tolerance": 200, "provider": {"type": "http", "timeout": 5, "url": "http://127.0.0.1:1/"}}`:             false,
		process("sh", `["-c", "exit 3"]`, "3"):                                            true,
		process("sh", `["-c", "exit 2"]`, "3"):                                            false,
		process("sh", `["-c", "exit 2"]`, "[0, 2]"):                                       true,
		process("sh", `["-c", "exit 1"]`, "[0, 2]"):                                       false,
		process("echo", `"123 | tr 1 4"`, `{"type": "regex", "pattern": "^4[0-9]{2}$"}`):  true,
		process("echo", `["123 | tr 1 4"]`, `{"type": "regex", "pattern": "^4[0-9]{2}"}`): false,
		`{"type": "probe", "name": "p", "tolerance": true, "provider": {"type": "python", "module": "os.path", "func": "isdir", "arguments": {"path": "/"}}}`:   true,
		`{"type": "probe", "name": "p", "tolerance": false, "provider": {"type": "python", "module": "os.path", "func": "exists", "arguments": {"path": "/"}}}`: false,
	} {
		result := imported(t, `{"title": "t", "steady-state-hypothesis": {"title": "h", "probes": [`+probe+`]}, "method": []}`)
		service, err := drill.ParseService([]byte(result.File), "firedrill.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if len(service.Probes) != 1 {
			t.Fatalf("%s: %d probes", probe, len(service.Probes))
		}
		command := service.Probes[0].Command
		output, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
		if (err == nil) != good {
			t.Errorf("%s: %q: %v, want good: %t\n%s", probe, command, err, good, output)
		}
	}
}
