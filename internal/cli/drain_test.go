package cli

import (
	"fmt"
	"net"
	"os"
	"testing"
)

const twoTables = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 0A014D0A:0050 1E004D0A:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0
   2: 0A014D0A:0050 1E004D0A:D2F2 06 00000000:00000000 00:00000000 00000000     0        0 0 3 0
   3: 0A014D0A:C350 0A024D0A:0050 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0
   4: 0A014D0A:0050 1E004D0A:D2F4 08 00000000:00000000 00:00000000 00000000     0        0 5 1 0
  sl  local_address                         remote_address                        st
   0: 0000000000000000FFFF00000A014D0A:0050 0000000000000000FFFF00001E004D0A:D2F6 01 00000000:00000000
   1: torn
`

func TestConnectionsOfClientsAreCounted(t *testing.T) {
	for port, want := range map[int]int{80: 3, 50000: 1, 443: 0} {
		if got, err := openOn(twoTables, port); err != nil || got != want {
			t.Errorf("port %d: %d %v, want %d", port, got, err, want)
		}
	}
	for _, text := range []string{"", "sh: cat: not found", "Permission denied"} {
		if got, err := openOn(text, 80); err == nil {
			t.Errorf("%q counts as %d connections", text, got)
		}
	}
}

// The kernel's own table: a connection is counted while it is open, and not when it is closed.
func TestConnectionsAreSeenInTheKernelsTable(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	count := func() int {
		text, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		open, err := openOn(string(text), port)
		if err != nil {
			t.Fatal(err)
		}
		return open
	}
	if got := count(); got != 0 {
		t.Fatalf("%d connections before any", got)
	}
	client, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got := count(); got != 1 {
		t.Errorf("%d connections, want one", got)
	}
	_ = server.Close()
	_ = client.Close()
	if got := count(); got != 0 {
		t.Errorf("%d connections after both sides closed", got)
	}
}
