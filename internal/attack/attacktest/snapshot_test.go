package attacktest

import (
	"os/exec"
	"strings"
	"testing"
)

// A snapshot that misses a change would let an attack leave it behind.
func TestSnapshotSeesWhatAttacksCouldLeave(t *testing.T) {
	changes := map[string]string{
		"a table":             "nft add table inet left",
		"a route":             "ip route add 192.0.2.0/24 dev eth0",
		"a rule":              "ip rule add from 192.0.2.1 table 7",
		"an address":          "ip addr add 192.0.2.9/24 dev eth0",
		"a queue":             "tc qdisc add dev eth0 root handle 7: pfifo limit 7",
		"a device":            "ip link add left type bridge",
		"the size of packets": "ip link set eth0 mtu 1400",
		"a setting":           "echo 1 > /proc/sys/net/ipv4/ip_forward",
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := NewWorld(t)
			before, err := w.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if same, err := w.Snapshot(); err != nil || same != before {
				lost, fresh := differ(before, same)
				t.Fatalf("two snapshots of the same world differ: %q, %q, %v", lost, fresh, err)
			}
			if err := w.Host.Do(func() error {
				out, err := exec.Command("sh", "-c", change).CombinedOutput()
				if err != nil {
					t.Logf("%s: %s", change, out)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			now, err := w.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if lost, fresh := differ(before, now); len(lost)+len(fresh) == 0 {
				t.Errorf("%s was not noticed", change)
			}
		})
	}
}

func TestSnapshotSeesAProcess(t *testing.T) {
	w := NewWorld(t)
	before, err := w.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command("sleep", "600")
	if err := w.Host.Do(sleeper.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() })
	if err := Await(func() error {
		now, err := w.Snapshot()
		if _, fresh := differ(before, now); err == nil && len(fresh) == 1 && strings.Contains(fresh[0], "sleep") {
			return nil
		}
		return errMissing
	}); err != nil {
		t.Errorf("a process that stays was not noticed: %v", err)
	}
}
