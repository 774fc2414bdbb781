package awsapi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/route53recoverycluster"
	arc "github.com/aws/aws-sdk-go-v2/service/route53recoverycluster/types"
	"github.com/miekg/dns"

	"encoding/json"

	"firedrill/internal/awsapi/recovery"
)

// arcControl posts to the control plane and returns the ARN of what it made.
func (r *running) arcControl(t *testing.T, path, body, kind, field string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, request, sha256Of(body), "route53-recovery-control-config", "us-west-2", time.Now()); err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	var made map[string]map[string]any
	if err == nil {
		err = json.Unmarshal(text, &made)
	}
	arn, _ := made[kind][field].(string)
	if err != nil || arn == "" {
		t.Fatalf("%s %s: %v", response.Status, text, err)
	}
	return arn
}

// The Go client turns controls, within the safety rules; a name follows them.
func TestGoClientTurnsRoutingControls(t *testing.T) {
	directory := t.TempDir()
	r := start(t, Options{Directory: directory})
	cluster, names := route53recoverycluster.NewFromConfig(r.sdk()), route53.NewFromConfig(r.sdk())
	controls := map[string]string{}
	for _, name := range []string{"blue", "green", "drills"} {
		controls[name] = r.arcControl(t, "/routingcontrol", fmt.Sprintf(`{"RoutingControlName":%q}`, name), "RoutingControl", "RoutingControlArn")
	}
	made, err := names.CreateHostedZone(t.Context(), &route53.CreateHostedZoneInput{Name: aws.String("arc.test"), CallerReference: aws.String("z")})
	if err != nil {
		t.Fatal(err)
	}
	for i, side := range []string{"blue", "green"} {
		check, err := names.CreateHealthCheck(t.Context(), &route53.CreateHealthCheckInput{CallerReference: &side, HealthCheckConfig: &types.HealthCheckConfig{
			Type: types.HealthCheckTypeRecoveryControl, RoutingControlArn: aws.String(controls[side]),
		}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = names.ChangeResourceRecordSets(t.Context(), &route53.ChangeResourceRecordSetsInput{HostedZoneId: made.HostedZone.Id, ChangeBatch: &types.ChangeBatch{Changes: []types.Change{{
			Action: types.ChangeActionCreate, ResourceRecordSet: &types.ResourceRecordSet{
				Name: aws.String("arc.test"), Type: types.RRTypeA, TTL: aws.Int64(1), SetIdentifier: &side, HealthCheckId: check.HealthCheck.Id,
				Failover:        []types.ResourceRecordSetFailover{types.ResourceRecordSetFailoverPrimary, types.ResourceRecordSetFailoverSecondary}[i],
				ResourceRecords: []types.ResourceRecord{{Value: aws.String("10.0.0." + strconv.Itoa(i+1))}},
			},
		}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	turn := func(override []string, states ...string) error {
		input := &route53recoverycluster.UpdateRoutingControlStatesInput{SafetyRulesToOverride: override}
		for _, state := range states {
			name, to, _ := strings.Cut(state, " ")
			input.UpdateRoutingControlStateEntries = append(input.UpdateRoutingControlStateEntries, arc.UpdateRoutingControlStateEntry{
				RoutingControlArn: aws.String(controls[name]), RoutingControlState: arc.RoutingControlState(to),
			})
		}
		_, err := cluster.UpdateRoutingControlStates(t.Context(), input)
		return err
	}
	allowed := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused := func(what string, err error) {
		t.Helper()
		var conflict *arc.ConflictException
		if !errors.As(err, &conflict) {
			t.Errorf("%s: %v; want a conflict", what, err)
		}
	}
	r.await(t, "arc.test", dns.TypeA, "10.0.0.1") // all are off at first: then the primary is answered
	allowed("green on", turn(nil, "green On"))
	r.await(t, "arc.test", dns.TypeA, "10.0.0.2")
	allowed("both at once", turn(nil, "blue On", "green Off"))
	r.await(t, "arc.test", dns.TypeA, "10.0.0.1")

	rule := func(kind, body string) string {
		return r.arcControl(t, "/safetyrule", fmt.Sprintf(`{%q:%s}`, kind, body), kind, "SafetyRuleArn")
	}
	one := rule("AssertionRule", fmt.Sprintf(`{"Name":"one","AssertedControls":[%q,%q],"WaitPeriodMs":0,"RuleConfig":{"Type":"ATLEAST","Threshold":1,"Inverted":false}}`, controls["blue"], controls["green"]))
	refused("the last one off", turn(nil, "blue Off"))
	r.await(t, "arc.test", dns.TypeA, "10.0.0.1")
	allowed("the other on, this off, in one request", turn(nil, "blue Off", "green On"))
	refused("half of a request that is refused", turn(nil, "blue On", "blue Off", "green Off"))
	r.await(t, "arc.test", dns.TypeA, "10.0.0.2")
	gate := rule("GatingRule", fmt.Sprintf(`{"Name":"gate","GatingControls":[%q],"TargetControls":[%q,%q],"WaitPeriodMs":0,"RuleConfig":{"Type":"OR","Threshold":0,"Inverted":false}}`, controls["drills"], controls["blue"], controls["green"]))
	refused("through a shut gate", turn(nil, "blue On"))
	refused("opening the gate and going through it at once", turn(nil, "drills On", "blue On"))
	allowed("with the gate's glass broken", turn([]string{gate}, "blue On"))
	refused("one glass broken, and the other rule", turn([]string{gate}, "blue Off", "green Off"))
	allowed("both glasses broken", turn([]string{gate, one}, "blue Off", "green Off"))
	allowed("the gate", turn(nil, "drills On"))
	allowed("through the open gate", turn(nil, "green On"))
	rule("AssertionRule", fmt.Sprintf(`{"Name":"slow","AssertedControls":[%q],"WaitPeriodMs":3600000,"RuleConfig":{"Type":"ATLEAST","Threshold":0,"Inverted":false}}`, controls["blue"]))
	allowed("the first of two quick changes", turn(nil, "blue On"))
	refused("the second of two quick changes", turn(nil, "blue Off"))

	var absent *arc.ResourceNotFoundException
	if _, err := cluster.GetRoutingControlState(t.Context(), &route53recoverycluster.GetRoutingControlStateInput{RoutingControlArn: aws.String("arn:none")}); !errors.As(err, &absent) {
		t.Errorf("a control that is not there: %v", err)
	}
	before, err := cluster.ListRoutingControls(t.Context(), &route53recoverycluster.ListRoutingControlsInput{})
	if err != nil || len(before.RoutingControls) != 3 {
		t.Fatalf("%+v, %v", before, err)
	}
	r.stop()
	again := start(t, Options{Directory: directory})
	state, err := route53recoverycluster.NewFromConfig(again.sdk()).GetRoutingControlState(t.Context(), &route53recoverycluster.GetRoutingControlStateInput{RoutingControlArn: aws.String(controls["green"])})
	if err != nil || state.RoutingControlState != arc.RoutingControlStateOn || aws.ToString(state.RoutingControlName) != "green" {
		t.Errorf("after a restart: %+v, %v", state, err)
	}
}

// What the kinds of rules mean, row by row.
func TestSafetyRulesDecide(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		kind      string
		threshold int
		inverted  bool
		on        int // of three asserted controls, after the change
		allowed   bool
	}{
		{"ATLEAST", 2, false, 1, false}, {"ATLEAST", 2, false, 2, true}, {"ATLEAST", 2, true, 1, true}, {"ATLEAST", 2, true, 2, false},
		{"AND", 0, false, 2, false}, {"AND", 0, false, 3, true}, {"OR", 0, false, 0, false}, {"OR", 0, false, 1, true}, {"OR", 0, true, 0, true}, {"AND", 0, true, 3, false},
	} {
		s, err := recovery.Open(recovery.Options{Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		var asserted []string
		for i := range 3 {
			c, err := s.CreateControl("", strconv.Itoa(i))
			if err != nil {
				t.Fatal(err)
			}
			asserted = append(asserted, c.RoutingControlArn)
		}
		// Whatever the change is to end with, all begin the other way round, so that it touches each.
		entries := func(on int) (all []recovery.Entry) {
			for i, arn := range asserted {
				all = append(all, recovery.Entry{RoutingControlArn: arn, RoutingControlState: map[bool]string{true: recovery.On, false: recovery.Off}[i < on]})
			}
			return all
		}
		start := entries(3 - row.on)
		if err := s.Update(start, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateRule(recovery.Rule{Name: "r", AssertedControls: asserted, RuleConfig: recovery.RuleConfig{Type: row.kind, Threshold: row.threshold, Inverted: row.inverted}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Update(entries(row.on), nil); (err == nil) != row.allowed {
			t.Errorf("%+v: %v", row, err)
		}
	}
}

// A name follows its health checks of each kind when the endpoint dies and comes back.
func TestNamesFollowEndpointsOfEachKind(t *testing.T) {
	r := start(t, Options{CheckEvery: 30 * time.Millisecond})
	client := route53.NewFromConfig(r.sdk())
	made, err := client.CreateHostedZone(t.Context(), &route53.CreateHostedZoneInput{Name: aws.String("kinds.test"), CallerReference: aws.String("z")})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []types.HealthCheckType{types.HealthCheckTypeTcp, types.HealthCheckTypeHttp, types.HealthCheckTypeHttps, types.HealthCheckTypeHttpStrMatch, types.HealthCheckTypeHttpsStrMatch} {
		t.Run(string(kind), func(t *testing.T) {
			var ill atomic.Bool
			handler := http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
				switch {
				case !ill.Load():
					fmt.Fprint(out, "All Well")
				case strings.HasSuffix(string(kind), "MATCH"):
					fmt.Fprint(out, "All Wrong") // with 200
				default:
					http.Error(out, "ill", http.StatusInternalServerError)
				}
			})
			server := httptest.NewUnstartedServer(handler)
			address := server.Listener.Addr().(*net.TCPAddr)
			if strings.HasPrefix(string(kind), "HTTPS") {
				server.StartTLS()
			} else {
				server.Start()
			}
			defer func() { server.Close() }()
			config := &types.HealthCheckConfig{Type: kind, IPAddress: aws.String("127.0.0.1"), Port: aws.Int32(int32(address.Port)), FailureThreshold: aws.Int32(2), RequestInterval: aws.Int32(10)} //nolint:gosec // a port
			if strings.HasSuffix(string(kind), "MATCH") {
				config.SearchString = aws.String("All Well")
			}
			check, err := client.CreateHealthCheck(t.Context(), &route53.CreateHealthCheckInput{CallerReference: aws.String(string(kind)), HealthCheckConfig: config})
			if err != nil {
				t.Fatal(err)
			}
			name := strings.ReplaceAll(strings.ToLower(string(kind)), "_", "-") + ".kinds.test"
			var changes []types.Change
			for i, role := range []types.ResourceRecordSetFailover{types.ResourceRecordSetFailoverPrimary, types.ResourceRecordSetFailoverSecondary} {
				set := &types.ResourceRecordSet{Name: &name, Type: types.RRTypeA, TTL: aws.Int64(1), SetIdentifier: aws.String(string(role)), Failover: role, ResourceRecords: []types.ResourceRecord{{Value: aws.String("10.0.0." + strconv.Itoa(i+1))}}}
				if i == 0 {
					set.HealthCheckId = check.HealthCheck.Id
				}
				changes = append(changes, types.Change{Action: types.ChangeActionCreate, ResourceRecordSet: set})
			}
			if _, err := client.ChangeResourceRecordSets(t.Context(), &route53.ChangeResourceRecordSetsInput{HostedZoneId: made.HostedZone.Id, ChangeBatch: &types.ChangeBatch{Changes: changes}}); err != nil {
				t.Fatal(err)
			}
			r.await(t, name, dns.TypeA, "10.0.0.1")
			if kind == types.HealthCheckTypeTcp { // an answer that is bad is one: only a port that is shut is not
				server.Close()
			}
			ill.Store(true)
			r.await(t, name, dns.TypeA, "10.0.0.2")
			status, err := client.GetHealthCheckStatus(t.Context(), &route53.GetHealthCheckStatusInput{HealthCheckId: check.HealthCheck.Id})
			if err != nil || len(status.HealthCheckObservations) == 0 || !strings.HasPrefix(aws.ToString(status.HealthCheckObservations[0].StatusReport.Status), "Failure: ") {
				t.Errorf("status: %+v, %v", status, err)
			}
			if kind == types.HealthCheckTypeTcp {
				listener, err := net.Listen("tcp", address.String())
				if err != nil {
					t.Fatal(err)
				}
				server = httptest.NewUnstartedServer(handler)
				server.Listener.Close()
				server.Listener = listener
				server.Start()
			}
			ill.Store(false)
			r.await(t, name, dns.TypeA, "10.0.0.1")
		})
	}
}
