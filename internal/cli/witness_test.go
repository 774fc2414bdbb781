package cli

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
)

// answers runs a name server that leads every name to an address, and returns where it listens.
func answers(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		record, _ := dns.NewRR(q.Question[0].Name + " 1 A " + address)
		reply.Answer = append(reply.Answer, record)
		_ = w.WriteMsg(reply)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown(); <-ended })
	return conn.LocalAddr().String()
}

// balancer serves as a host would behind a load balancer.
func balancer(t *testing.T, host string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Served-By", host) }))
	t.Cleanup(server.Close)
	return server.URL
}

func TestLiveEnvironmentIsWhatEveryPlaceLeadsTo(t *testing.T) {
	service := drill.Service{Name: "shop", Environments: []drill.Environment{
		{Name: "blue", Hosts: []drill.Host{{Name: "api-blue", Address: netip.MustParseAddr("10.77.1.10")}}},
		{Name: "green", Hosts: []drill.Host{{Name: "api-green", Address: netip.MustParseAddr("10.77.1.20")}}},
	}}
	blue, green := answers(t, "10.77.1.10"), answers(t, "10.77.1.20")
	for _, test := range []struct {
		name        string
		failover    drill.Failover
		want, error string
	}{
		{"two name servers", drill.Failover{Servers: []string{blue, answers(t, "10.77.1.10")}}, "blue", ""},
		{"two that disagree", drill.Failover{Servers: []string{blue, green}}, "", "another says"},
		{"none", drill.Failover{}, "", "servers is missing"},
		{"a load balancer", drill.Failover{Witness: &drill.Witness{URLs: []string{balancer(t, "api-green")}, Header: "X-Served-By"}}, "green", ""},
		{"two that disagree", drill.Failover{Witness: &drill.Witness{URLs: []string{balancer(t, "api-green"), balancer(t, "api-blue")}, Header: "X-Served-By"}}, "", "another says"},
	} {
		test.failover.Name = "shop.test"
		service.Failover = []drill.Failover{test.failover, {Name: "other.test", Servers: []string{green}}}
		got, err := liveEnvironment(t.Context(), service)
		if got != test.want || (err == nil) != (test.error == "") || (err != nil && !strings.Contains(err.Error(), test.error)) {
			t.Errorf("%s: %q, %v; want %q, %q", test.name, got, err, test.want, test.error)
		}
	}
}
