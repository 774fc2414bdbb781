package containers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	fullID  = "4f1a0b7c9d2e4f1a0b7c9d2e4f1a0b7c9d2e4f1a0b7c9d2e4f1a0b7c9d2e0001"
	otherID = "4f1a0b7c9d2e4f1a0b7c9d2e4f1a0b7c9d2e4f1a0b7c9d2e4f1a0b7c9d2e0002"
)

// runtimeSays makes a socket that answers each question with a status and a body, by the name asked for.
func runtimeSays(t *testing.T, answers map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 4096)
			n, _ := conn.Read(buffer)
			name := strings.TrimSuffix(strings.TrimPrefix(strings.Fields(string(buffer[:n]))[1], "/containers/"), "/json")
			answer, known := answers[name]
			if !known {
				answer = "404 Not Found\r\n\r\n" + `{"message":"No such container"}`
			}
			_, _ = conn.Write([]byte("HTTP/1.0 " + answer))
			_ = conn.Close()
		}
	}()
	return path
}

func TestContainerIsFoundByNameAndPartOfItsID(t *testing.T) {
	running := fmt.Sprintf("200 OK\r\nContent-Type: application/json\r\n\r\n"+`{"Id":%q,"Name":"/web","State":{"Running":true,"Pid":%d}}`, fullID, os.Getpid())
	f := Finder{Sockets: []string{"/nowhere.sock", runtimeSays(t, map[string]string{
		"web": running, "4f1a": running,
		"old":  "200 OK\r\n\r\n" + `{"Id":"` + fullID + `","State":{"Running":false,"Pid":0}}`,
		"4f":   "400 Bad Request\r\n\r\n" + `{"message":"multiple IDs found"}`,
		"torn": "200 OK\r\n\r\n{",
		"mad":  "\r\n",
	})}, Tasks: t.TempDir(), Proc: t.TempDir()}
	for _, name := range []string{"web", "4f1a"} {
		if found, err := f.Find(t.Context(), name); err != nil || found.ID != fullID || found.Init.PID != os.Getpid() || found.Engine != "docker" {
			t.Errorf("%s is %+v, %v", name, found, err)
		}
	}
	for name, want := range map[string]string{"old": "start it first", "4f": "multiple IDs", "torn": "unexpected EOF", "mad": "no answer", "none": "no such container", "../x": "neither"} {
		if found, err := f.Find(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is %+v, %v, want %q", name, found, err, want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestContainerIsFoundWithoutARuntime(t *testing.T) {
	tasks, proc := t.TempDir(), t.TempDir()
	write(t, tasks+"/k8s.io/"+fullID+"/init.pid", fmt.Sprint(os.Getpid()))
	write(t, fmt.Sprintf("%s/%d/cgroup", proc, os.Getpid()), "0::/system.slice/docker-"+otherID+".scope\n")
	write(t, fmt.Sprintf("%s/%d/cgroup", proc, os.Getppid()), "0::/machine.slice/libpod-conmon-"+otherID+".scope\n")
	f := Finder{Sockets: []string{}, Tasks: tasks, Proc: proc}
	if found, err := f.Find(t.Context(), fullID); err != nil || found.ID != fullID || found.Engine != "containerd" {
		t.Errorf("%+v, %v", found, err)
	}
	if found, err := f.Find(t.Context(), fullID[:12]); err == nil || !strings.Contains(err.Error(), "any of 2") {
		t.Errorf("a task and a group begin like this, and it is %+v, %v", found, err)
	}
	f.Tasks = t.TempDir()
	if found, err := f.Find(t.Context(), otherID[:12]); err != nil || found.ID != otherID || found.Engine != "docker" || found.Init.PID != os.Getpid() {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := f.Find(t.Context(), "4f1a"); !errors.Is(err, ErrNone) {
		t.Errorf("four characters are found in control groups: %v", err)
	}
	write(t, fmt.Sprintf("%s/%d/cgroup", proc, os.Getppid()), "0::/system.slice/docker-"+fullID+".scope\n")
	if found, err := f.Find(t.Context(), fullID[:12]); err == nil || !strings.Contains(err.Error(), "any of 2") {
		t.Errorf("two containers begin like this, and it is %+v, %v", found, err)
	}
}

func TestNamesAreFoundWithoutARuntime(t *testing.T) {
	tasks, proc := t.TempDir(), t.TempDir()
	f := Finder{Sockets: []string{}, Tasks: tasks, Proc: proc}
	pidfile := tasks + "/k8s.io/" + fullID + "/init.pid"
	write(t, pidfile, fmt.Sprint(os.Getpid()))
	write(t, filepath.Dir(pidfile)+"/config.json", `{"annotations":{"io.kubernetes.cri.container-name":"api","nerdctl/name":"shop"}}`)
	write(t, proc+"/77/cmdline", strings.Join([]string{"/usr/bin/conmon", "-c", otherID, "-u", otherID, "-p", pidfile, "-n", "web", "--exit-command", "/usr/bin/podman", "-n", ""}, "\x00"))
	write(t, proc+"/78/cmdline", strings.Join([]string{"conmon", "--cid", otherID, "--container-pidfile", pidfile, "--name", "pod_web"}, "\x00"))
	write(t, proc+"/79/cmdline", "")
	write(t, proc+"/80/cmdline", "sleep\x00-n\x00other\x00-c\x00x\x00-p\x00"+pidfile)
	for name, want := range map[string]Container{"api": {ID: fullID, Engine: "containerd"}, "shop": {ID: fullID, Engine: "containerd"},
		"web": {ID: otherID, Engine: "podman"}, "pod_web": {ID: otherID, Engine: "cri-o"}} {
		if found, err := f.Find(t.Context(), name); err != nil || found.ID != want.ID || found.Engine != want.Engine || found.Init.PID != os.Getpid() {
			t.Errorf("%s is %+v, %v, want %+v", name, found, err, want)
		}
	}
	if found, err := f.Find(t.Context(), "other"); !errors.Is(err, ErrNone) {
		t.Errorf("what is no monitor names %+v, %v", found, err)
	}
	write(t, tasks+"/default/web/init.pid", fmt.Sprint(os.Getppid()))
	if found, err := f.Find(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "any of 2") {
		t.Errorf("two runtimes know a web, and it is %+v, %v", found, err)
	}
	write(t, tasks+"/k8s.io/same/init.pid", fmt.Sprint(os.Getpid()))
	write(t, tasks+"/default/same/init.pid", fmt.Sprint(os.Getppid()))
	if found, err := f.Find(t.Context(), "same"); err == nil || !strings.Contains(err.Error(), "any of 2") {
		t.Errorf("two namespaces of containerd have this ID, and it is %+v, %v", found, err)
	}
}

func TestIDsAreFoundInGroupsOfEveryRuntime(t *testing.T) {
	for path, engine := range map[string]string{
		"/docker/" + fullID: "docker", "/system.slice/docker-" + fullID + ".scope": "docker", "/machine.slice/libpod-" + fullID + ".scope": "podman",
		"/kubepods.slice/x/cri-containerd-" + fullID + ".scope": "containerd", "/kubepods/besteffort/pod1/" + fullID: "containerd",
		"/kubepods.slice/crio-" + fullID + ".scope": "cri-o", "/machine.slice/libpod-" + fullID + ".scope/container": "podman",
		"/machine.slice/libpod-conmon-" + fullID + ".scope": "", "/user.slice/" + fullID[:20]: "", "/x-" + fullID: "",
	} {
		if id, got := containerOf("0::"+path+"\n", fullID[:12]); got != engine || (id == fullID) != (engine != "") {
			t.Errorf("%s is of %q (%s), want %q", path, got, id, engine)
		}
	}
}

func FuzzAnswerOfARuntime(f *testing.F) {
	f.Add("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"Id\":\"x\",\"State\":{\"Pid\":1}}")
	f.Add("HTTP/1.1 404\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		status, said, err := readAnswer(strings.NewReader(text))
		if err == nil && status == 200 && !strings.Contains(text, "{") && said != (inspected{}) {
			t.Errorf("%q is read as %+v", text, said)
		}
	})
}
