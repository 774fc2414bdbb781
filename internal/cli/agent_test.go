//go:build !hostpart

package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

func TestJoinOnceLeavesAHostThatHasJoinedAlone(t *testing.T) {
	state := t.TempDir()
	identity := filepath.Join(state, "agent.json")
	text := []byte(`{"name":"web1","address":"control.example.com:7422"}`)
	if err := os.WriteFile(identity, text, 0o600); err != nil {
		t.Fatal(err)
	}
	// The address leads nowhere, and the token is none: neither is looked at.
	code, out, errOut := runCommand(newAgentCommand, "join", "--once", "--state", state, "nowhere.invalid:1", "no-token")
	if code != exitPassed || !strings.Contains(out, "web1 has joined the fleet at control.example.com:7422 already") {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
	if now, err := os.ReadFile(identity); err != nil || !bytes.Equal(now, text) {
		t.Errorf("the identity is %s (%v)", now, err)
	}
	for name, args := range map[string][]string{"not joined": {"join", "--once", "--state", t.TempDir()}, "without --once": {"join", "--state", state}} {
		if code, out, _ := runCommand(newAgentCommand, append(args, "nowhere.invalid:1", "no-token")...); code != exitUsage {
			t.Errorf("%s: exit %d: %s", name, code, out)
		}
	}
	if err := os.Chmod(identity, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errOut := runCommand(newAgentCommand, "join", "--once", "--state", state, "nowhere.invalid:1", "no-token"); code == exitPassed || !strings.Contains(errOut, "may be read by others") {
		t.Errorf("with a key that others may read: exit %d: %s", code, errOut)
	}
}

// The manifest for Kubernetes says what our commands take, and mounts what it declares.
func TestManifestForKubernetesFitsTheProgram(t *testing.T) {
	type volume struct {
		Name     string
		HostPath struct{ Path string } `yaml:"hostPath"`
	}
	type mount struct {
		Name      string
		MountPath string `yaml:"mountPath"`
	}
	type container struct {
		Name         string
		Args         []string
		VolumeMounts []mount `yaml:"volumeMounts"`
		Env          []struct{ Name string }
	}
	var manifest struct {
		Kind string
		Spec struct {
			Template struct {
				Spec struct {
					Init    []container `yaml:"initContainers"`
					Main    []container `yaml:"containers"`
					Volumes []volume
				}
			}
		}
	}
	text, err := os.ReadFile("../../packaging/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	pod := manifest.Spec.Template.Spec
	all := append(slices.Clone(pod.Init), pod.Main...)
	if manifest.Kind != "DaemonSet" || len(pod.Init) != 1 || len(pod.Main) != 1 {
		t.Fatalf("%+v", manifest)
	}
	for _, c := range all {
		var args []string
		for _, arg := range c.Args {
			for _, env := range c.Env {
				arg = strings.ReplaceAll(arg, "$("+env.Name+")", "x")
			}
			if strings.Contains(arg, "$(") {
				t.Errorf("%s: no environment gives %s", c.Name, arg)
			}
			args = append(args, arg)
		}
		command, rest, err := newRootCommand(streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}}).Find(args)
		if err == nil {
			err = command.ParseFlags(rest)
		}
		if err == nil {
			err = command.ValidateArgs(command.Flags().Args())
		}
		if err != nil {
			t.Errorf("%s: firedrill %s: %v", c.Name, strings.Join(args, " "), err)
		}
		for _, mount := range c.VolumeMounts {
			if !slices.ContainsFunc(pod.Volumes, func(v volume) bool { return v.Name == mount.Name && v.HostPath.Path == mount.MountPath }) {
				t.Errorf("%s mounts %s at %s, which is no volume of that path", c.Name, mount.Name, mount.MountPath)
			}
		}
	}
}
