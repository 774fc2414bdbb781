package containers

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/labels"

	"firedrill/internal/attack/containers/critest"
)

var selectors = []string{"app=web", "app==web", "app!=web", "app in (web, api)", "app notin (web,api)", "app", "!app", "! app", "a=", "a!=", "a in (,)", "a in ()", "a in (b,,c)",
	"app=web,tier!=db", " app = web , !canary ", "n > 3", "n<3", "n > x", "n>", "in in (in)", "notin notin (notin)", "in=in", "k8s.io/name=x", "K8s.io/name=x", "/x=y", "a/b/c=d",
	"", ",", "a,", ",a", "a,,b", "a b", "a=b c", "a=(b)", "a in b", "a in (b", "a in (b c)", "a in (b)c", "a===b", "a!b", "!!a", "!a=b", "!a in (b)", "a=b=c", "a=!b", "-a", "a-", "_a",
	"a=-b", "a=" + strings.Repeat("x", 63), "a=" + strings.Repeat("x", 64), strings.Repeat("x", 64), "a\t=\nb", "a <= 3", "a=é", "in", "notin", "a in (in)", "a > -9223372036854775808",
	"a in (=)", "a notin (,b)", "a=,b", "!", "()", "a in", "a notin", "=b"}

var labelSets = []map[string]string{nil, {"app": "web"}, {"app": "api", "tier": "db"}, {"a": ""}, {"a": "b"}, {"a": "c", "canary": "true"}, {"n": "4"}, {"n": "2"}, {"n": "x"},
	{"in": "in", "notin": "notin"}, {"k8s.io/name": "x"}, {"a": "-1"}}

// agrees holds a selector against the parser that kubectl and the API server use.
func agrees(text string, parse func(string) (Selector, error)) error {
	ours, err := parse(text)
	theirs, theirErr := labels.Parse(text)
	if strings.TrimSpace(text) == "" { // theirs means every pod by it
		if err == nil {
			return fmt.Errorf("%q means every pod", text)
		}
		return nil
	}
	if (err == nil) != (theirErr == nil) {
		return fmt.Errorf("%q: we say %w, they %v", text, err, theirErr)
	}
	if err != nil {
		return nil
	}
	for _, set := range labelSets {
		if got, want := ours.Matches(set), theirs.Matches(labels.Set(set)); got != want {
			return fmt.Errorf("%q on %v is %v, and %v to them", text, set, got, want)
		}
	}
	return nil
}

func TestSelectorsMeanWhatTheyMeanToKubectl(t *testing.T) {
	for _, text := range selectors {
		if err := agrees(text, ParseSelector); err != nil {
			t.Error(err)
		}
	}
}

// A selector that is read a little differently hits other pods.
func TestWrongReadingsOfSelectorsAreNoticed(t *testing.T) {
	bugs := map[string]func(requirement) requirement{
		"a missing label is another value for in": func(r requirement) requirement {
			if r.op == "in" {
				r.values = append(slices.Clone(r.values), "")
			}
			return r
		},
		"notin wants the label": func(r requirement) requirement {
			if r.op == "notin" {
				r.op = opExists
			}
			return r
		},
		"! is forgotten": func(r requirement) requirement {
			if r.op == "!" {
				r.op = opExists
			}
			return r
		},
		"> and < are swapped": func(r requirement) requirement {
			switch r.op {
			case ">":
				r.op = "<"
			case "<":
				r.op = ">"
			}
			return r
		},
		"only the first value of a set counts": func(r requirement) requirement {
			r.values = r.values[:min(1, len(r.values))]
			return r
		},
	}
	for name, bug := range bugs {
		caught := slices.ContainsFunc(selectors, func(text string) bool {
			return agrees(text, func(text string) (Selector, error) {
				s, err := ParseSelector(text)
				for i := range s {
					s[i] = bug(s[i])
				}
				return s, err
			}) != nil
		})
		if !caught {
			t.Errorf("nobody notices that %s", name)
		}
	}
}

func FuzzSelector(f *testing.F) {
	for _, text := range selectors {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsRune(text, 0) { // theirs ends there, and so does any argument of a command
			return
		}
		if err := agrees(text, ParseSelector); err != nil {
			t.Error(err)
		}
	})
}

func web(name, sandbox string, pid int) critest.Pod {
	return critest.Pod{Namespace: "shop", Name: name, UID: "uid-" + name, Sandbox: sandbox, PID: pid, Labels: map[string]string{"app": "web", "io.kubernetes.pod.namespace": "shop"}}
}

// found asks for pods, and returns their names.
func found(t *testing.T, f PodFinder, s PodSelector) ([]string, error) {
	t.Helper()
	pods, err := f.Find(t.Context(), s)
	var names []string
	for _, pod := range pods {
		if pod.Init.PID != os.Getpid() || pod.UID != "uid-"+pod.Name || pod.Runtime != "critest" {
			t.Errorf("%+v", pod)
		}
		names = append(names, pod.Namespace+"/"+pod.Name)
	}
	return names, err
}

func TestPodsAreFoundByTheirLabels(t *testing.T) {
	us := os.Getpid()
	old := web("web-2", "e", us)
	old.Attempt = 0
	anew := web("web-2", "f", us)
	anew.Attempt = 1
	gone := web("web-3", "g", us)
	gone.NotReady = true
	elsewhere := web("web-0", "h", us)
	elsewhere.Namespace = "staging"
	api := critest.Pod{Namespace: "shop", Name: "api-0", UID: "uid-api-0", Sandbox: "i", PID: us, Labels: map[string]string{"app": "api", "canary": "yes"}}
	server := critest.Serve(t, web("web-1", "d", us), web("web-0", "c", us), anew, old, gone, elsewhere, api)
	f := PodFinder{Sockets: []string{server.Socket}}
	for _, c := range []struct {
		selector PodSelector
		want     string
	}{
		{PodSelector{"app=web", "shop"}, "shop/web-0 shop/web-1 shop/web-2"},
		{PodSelector{"app in (web, api),!canary", "shop"}, "shop/web-0 shop/web-1 shop/web-2"},
		{PodSelector{"app=web", AnyNamespace}, "shop/web-0 shop/web-1 shop/web-2 staging/web-0"},
		{PodSelector{"canary", "shop"}, "shop/api-0"},
	} {
		names, err := found(t, f, c.selector)
		if got := strings.Join(names, " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.selector, got, err, c.want)
		}
	}
	pods, err := f.Find(t.Context(), PodSelector{"app=web", "shop"})
	if err != nil || pods[2].Sandbox != "f" {
		t.Errorf("of a pod that was set up anew the sandbox is %+v, %v", pods, err)
	}
	_, err = f.Find(t.Context(), PodSelector{"app=db", "staging"})
	var none *NoPodError
	if !errors.As(err, &none) || !errors.Is(err, ErrNone) || none.Ready != 5 || none.Within != 1 {
		t.Errorf("%v: %+v", err, none)
	}
	for _, part := range []string{"app=db", "staging", "1 pods", "of 5"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %s", err, part)
		}
	}
}

// Some runtimes keep no process for a sandbox, and some tell none at all.
func TestProcessOfAPodIsFoundWhateverItsRuntimeTells(t *testing.T) {
	silent := web("web-0", fullID, 0)
	silent.Containers = map[string]int{otherID: os.Getpid()}
	server := critest.Serve(t, silent)
	proc := t.TempDir()
	f := PodFinder{Sockets: []string{server.Socket}, Finder: Finder{Sockets: []string{}, Tasks: t.TempDir(), Proc: proc}}
	if names, err := found(t, f, PodSelector{"app", "shop"}); err != nil || len(names) != 1 {
		t.Errorf("by its container: %v, %v", names, err)
	}
	silent.Containers = map[string]int{otherID: 0}
	server.Set(silent)
	if names, err := found(t, f, PodSelector{"app", "shop"}); err == nil || !strings.Contains(err.Error(), "no process") {
		t.Errorf("of a pod without a process: %v, %v", names, err)
	}
	write(t, fmt.Sprintf("%s/%d/cgroup", proc, os.Getpid()), "0::/kubepods/pod1/"+otherID+"\n")
	if names, err := found(t, f, PodSelector{"app", "shop"}); err != nil || len(names) != 1 {
		t.Errorf("by the control group of its container: %v, %v", names, err)
	}
	write(t, fmt.Sprintf("%s/%d/cgroup", proc, os.Getpid()), "0::/system.slice/docker-"+fullID+".scope\n")
	if names, err := found(t, f, PodSelector{"app", "shop"}); err != nil || len(names) != 1 {
		t.Errorf("by the control group of its sandbox: %v, %v", names, err)
	}
}

func TestWhoDoesNotRunPodsIsNotTakenForARuntime(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "containerd.sock") // speaks gRPC and knows no pods, as a containerd of Docker's
	listener, err := net.Listen("unix", empty)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	docker := runtimeSays(t, nil) // speaks HTTP/1
	ready := critest.Serve(t, web("web-0", "a", os.Getpid()))
	selector := PodSelector{"app=web", "shop"}
	for name, c := range map[string]struct {
		sockets []string
		want    string
	}{
		"nobody": {[]string{"/nowhere.sock"}, "no such file"}, "one without pods": {[]string{empty}, "runs no pods"}, "Docker": {[]string{docker}, "ersion"},
	} {
		if names, err := found(t, PodFinder{Sockets: c.sockets}, selector); !errors.Is(err, ErrNoRuntime) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", name, names, err)
		}
	}
	t.Setenv(EndpointVariable, "unix://"+ready.Socket)
	if names, err := found(t, PodFinder{}, selector); err != nil || len(names) != 1 {
		t.Errorf("the endpoint of the environment: %v, %v", names, err)
	}
	if names, err := (PodFinder{}).Runtimes(t.Context()); err != nil || len(names) != 1 || names[0] != "critest 1.2.3 on "+ready.Socket {
		t.Errorf("%v, %v", names, err)
	}
	t.Setenv(EndpointVariable, "tcp://10.0.0.1:1")
	if names, err := found(t, PodFinder{}, selector); err == nil || !strings.Contains(err.Error(), "Unix socket") {
		t.Errorf("an endpoint over a network: %v, %v", names, err)
	}
	ready.Fail(status.Error(codes.ResourceExhausted, "too much, 100% of it"))
	if names, err := found(t, PodFinder{Sockets: []string{ready.Socket}}, selector); err == nil || !strings.Contains(err.Error(), "too much, 100% of it (8)") {
		t.Errorf("an error of the runtime: %v, %v", names, err)
	}
}

func FuzzPodsOfARuntime(f *testing.F) {
	f.Add([]byte("\x0a\x01a\x12\x06\x0a\x01b\x1a\x01c\x2a\x06\x0a\x01d\x12\x01e"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, _, err := readSandbox(text); err == nil && (s.Sandbox == "" || len(slices.Collect(maps.Keys(s.labels))) > len(text)) {
			t.Errorf("%x is read as %+v", text, s)
		}
	})
}
