package lab

import "testing"

func TestHostsAnswer(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{Progress: func(s string) { t.Log(s) }})
	for _, h := range []string{"ci", "blue", "green"} {
		t.Log(mustRun(t, l, h, "hostname; id; ip a; mount; ls -la / /root/.ssh /run/firedrill/bin /etc/hosts; cat /etc/hosts /proc/sys/kernel/random/boot_id; ps ax"))
	}
}
