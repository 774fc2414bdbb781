package blackhole

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	at "firedrill/internal/attack/attacktest"
)

// Debian's containerd as a kubelet uses it: pods are sandboxes of its own making, told by its own words. Nothing is fetched: the image of the
// sandbox is one static program, and the plugin that would plug pods in says what the test does.

const (
	criSocket = "/run/pods.sock"
	criImage  = "firedrill.test/pause:1"
)

// criConfig has containerd make pods in directory. It must not read what the machine's own containerd keeps.
const criConfig = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd-pods"
[grpc]
  address = "/run/pods.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "firedrill.test/pause:1"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "%[1]s/bin"
    conf_dir = "%[1]s/conf"
`

// cniPlugin says that a pod has an address, and plugs nothing in.
const cniPlugin = `#!/bin/sh
case "$CNI_COMMAND" in
VERSION) echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}' ;;
ADD) echo '{"cniVersion":"0.3.1","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"version":"4","interface":0,"address":"10.8.0.2/24"}],"dns":{}}' ;;
esac
`

func file(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode))
}

func packed(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, content := range files {
		must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}))
		_, err := w.Write(content)
		must(t, err)
	}
	must(t, w.Close())
	return out.Bytes()
}

// imageOfPause is the image of a program that waits, as "docker save" writes it.
func imageOfPause(t *testing.T) []byte {
	t.Helper()
	program, err := os.ReadFile(said(t, "sh", "-c", "command -v busybox"))
	must(t, err)
	layer := packed(t, map[string][]byte{"bin/busybox": program})
	config, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{"Entrypoint": sleeps},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}}})
	must(t, err)
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{criImage}, "Layers": []string{"layer.tar"}}})
	must(t, err)
	return packed(t, map[string][]byte{"manifest.json": manifest, "config.json": config, "layer.tar": layer})
}

// containerdWithPods starts it and returns what a kubelet would speak to.
func containerdWithPods(t *testing.T) cri.RuntimeServiceClient {
	t.Helper()
	directory := t.TempDir()
	file(t, directory+"/containerd.toml", fmt.Sprintf(criConfig, directory), 0o600)
	for _, plugin := range []string{"told", "loopback"} {
		file(t, directory+"/bin/"+plugin, cniPlugin, 0o755)
	}
	file(t, directory+"/conf/10-told.conflist", `{"cniVersion":"0.3.1","name":"told","plugins":[{"type":"told"}]}`, 0o644)
	background(t, "containerd", "--config="+directory+"/containerd.toml")
	must(t, at.Await(func() error { return exec.Command("ctr", "--address="+criSocket, "version").Run() }))
	file(t, directory+"/image.tar", string(imageOfPause(t)), 0o600)
	said(t, "ctr", "--address="+criSocket, "--namespace=k8s.io", "images", "import", "--snapshotter=native", directory+"/image.tar")
	conn, err := grpc.NewClient("unix://"+criSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	client := cri.NewRuntimeServiceClient(conn)
	must(t, at.Await(func() error { // the part for pods comes up after the rest
		answer, err := client.Status(t.Context(), &cri.StatusRequest{})
		for _, condition := range answer.GetStatus().GetConditions() {
			if !condition.GetStatus() {
				err = errors.Join(err, fmt.Errorf("%s: %s", condition.GetReason(), condition.GetMessage()))
			}
		}
		return err
	}))
	return client
}

// runPod has a pod made, and returns the ID of its sandbox.
func runPod(t *testing.T, client cri.RuntimeServiceClient, group, namespace, name, app string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer, err := client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Namespace: namespace, Uid: "uid-" + name}, Hostname: name,
		Labels: map[string]string{"app": app, "io.kubernetes.pod.namespace": namespace},
		Linux:  &cri.LinuxPodSandboxConfig{CgroupParent: "/" + group},
	}})
	must(t, err)
	t.Cleanup(func() {
		id := &cri.StopPodSandboxRequest{PodSandboxId: answer.GetPodSandboxId()}
		if _, err := client.StopPodSandbox(context.WithoutCancel(ctx), id); err != nil {
			t.Log(err)
		}
	})
	return answer.GetPodSandboxId()
}

// onlyThePod: while the attack on the pods of a selector is in force, the one is cut both ways, and neither the other nor the host is.
func onlyThePod(w *at.World, one, other plugged, bug string) error {
	a, err := w.Start(at.Spec{Bug: bug, Args: []string{"--length=60", "--pod=app in (web),!canary", "--pod-namespace=shop", "--ipaddress=" + at.Target4.String()}})
	if err != nil {
		return err
	}
	defer a.Stop()
	if _, err := a.AwaitInForce(); err != nil {
		return err
	}
	if err := bites(w, one, other); err != nil {
		return fmt.Errorf("%w; the attack said: %v", err, a.Events())
	}
	if err := a.Signal(unix.SIGTERM); err != nil {
		return err
	}
	code, account := a.Wait()
	if account == nil || !account.Reverted || len(account.Pods) != 1 || account.Pods[0].UID != "uid-web-0" {
		return fmt.Errorf("exit code %d, account %+v, %s", code, account, a.Stderr())
	}
	left, err := one.Tables()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("in the pod are left: %v", left)
	}
	return errors.Join(err, at.Through(at.Flows(one.Namespace, at.Target4)...))
}

func TestPodsOfContainerdAreHitAlone(t *testing.T) {
	if _, err := exec.LookPath("containerd"); err != nil {
		at.Missing(t, "containers", "containerd")
	}
	if !at.AloneAsRoot(t) {
		return
	}
	group := "firedrill-test-" + newID(t)[:12]
	t.Cleanup(func() { removeGroups(t, group) })
	client := containerdWithPods(t)
	w := at.NewWorld(t)
	w.Pods = criSocket
	var pods []plugged
	for number, name := range []string{"web-0", "api-0"} {
		sandbox := runPod(t, client, group, "shop", name, strings.TrimSuffix(name, "-0"))
		status, err := client.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: sandbox, Verbose: true})
		must(t, err)
		var info struct{ Pid int }
		must(t, json.Unmarshal([]byte(status.GetInfo()["info"]), &info))
		pods = append(pods, plugIn(t, w, info.Pid, number))
	}
	runPod(t, client, group, "staging", "web-0", "web")
	must(t, onlyThePod(w, pods[0], pods[1], ""))
	if err := onlyThePod(w, pods[0], pods[1], at.StaysOutside); err == nil {
		t.Error("the planted bug was not caught")
	}
}
