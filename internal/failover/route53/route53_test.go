package route53

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/route53recoverycluster"
	"github.com/aws/smithy-go/middleware"
	"github.com/miekg/dns"

	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"firedrill/internal/awsapi"
	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/authority"
	"firedrill/internal/failover/failovertest"
)

const (
	patience   = 10 * time.Second
	testKey    = "AKIDTESTTESTTEST"
	testSecret = "secretsecretsecretsecretsecretsecret"
	zoneName   = failovertest.ZoneName
)

var (
	blue  = netip.MustParseAddr("10.77.1.10")
	green = netip.MustParseAddr("10.77.1.20")
	sides = map[string][]netip.Addr{"blue": {blue}, "green": {green}}
)

// world is our endpoint, with a zone that has a name server.
type world struct {
	t      *testing.T
	url    string
	dns    string
	zone   string
	config aws.Config
	client *route53.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	endpoint, err := awsapi.Open(awsapi.Options{DNSListen: "127.0.0.1:0", Keys: map[string]string{testKey: testSecret}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	if err := endpoint.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := endpoint.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(endpoint.Handler)
	t.Cleanup(func() { server.Close(); stop(); running.Wait() })
	w := &world{t: t, url: server.URL, dns: endpoint.DNS().String()}
	w.config = aws.Config{Region: "us-east-1", BaseEndpoint: &w.url, Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, "")}
	w.client = route53.NewFromConfig(w.config)
	made, err := w.client.CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: aws.String(zoneName), CallerReference: aws.String("1")})
	if err != nil {
		t.Fatal(err)
	}
	w.zone = strings.TrimPrefix(*made.HostedZone.Id, "/hostedzone/")
	w.change(types.ChangeActionCreate, set("db."+zoneName, "10.77.2.10"))
	return w
}

func set(name string, values ...string) types.ResourceRecordSet {
	made := types.ResourceRecordSet{Name: aws.String(name), Type: types.RRTypeA, TTL: aws.Int64(1)}
	for _, value := range values {
		made.ResourceRecords = append(made.ResourceRecords, types.ResourceRecord{Value: aws.String(value)})
	}
	return made
}

func (w *world) change(action types.ChangeAction, sets ...types.ResourceRecordSet) {
	w.t.Helper()
	batch := &types.ChangeBatch{}
	for i := range sets {
		batch.Changes = append(batch.Changes, types.Change{Action: action, ResourceRecordSet: &sets[i]})
	}
	if _, err := w.client.ChangeResourceRecordSets(context.Background(), &route53.ChangeResourceRecordSetsInput{HostedZoneId: &w.zone, ChangeBatch: batch}); err != nil {
		w.t.Fatal(err)
	}
}

// control posts to the control plane of the recovery controller, which has no client among our libraries.
func (w *world) control(path string, body any, into any) {
	w.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+path, strings.NewReader(string(text)))
	if err != nil {
		w.t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	if err := v4.NewSigner().SignHTTP(w.t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, request, hex.EncodeToString(sum[:]), "route53-recovery-control-config", "us-west-2", time.Now()); err != nil {
		w.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, said)
	}
	if err == nil {
		err = json.Unmarshal(said, into)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// newControl makes a routing control.
func (w *world) newControl(name string) string {
	var made struct {
		RoutingControl struct{ RoutingControlArn string }
	}
	w.control("/routingcontrol", map[string]string{"RoutingControlName": name}, &made)
	return made.RoutingControl.RoutingControlArn
}

// assertion makes the rule that at least one of the controls stays on.
func (w *world) assertion(waitMs int, controls ...string) {
	var made any
	w.control("/safetyrule", map[string]any{"AssertionRule": map[string]any{
		"Name": "one-stays-on", "AssertedControls": controls, "WaitPeriodMs": waitMs, "RuleConfig": map[string]any{"Type": "ATLEAST", "Threshold": 1},
	}}, &made)
}

// check makes a health check and returns its ID.
func (w *world) check(reference string, config types.HealthCheckConfig) string {
	w.t.Helper()
	made, err := w.client.CreateHealthCheck(w.t.Context(), &route53.CreateHealthCheckInput{CallerReference: &reference, HealthCheckConfig: &config})
	if err != nil {
		w.t.Fatal(err)
	}
	return *made.HealthCheck.Id
}

// pair makes two records of one name, each with its check; several of them are answered while several are healthy.
func (w *world) pair(checks map[string]string) {
	w.t.Helper()
	var sets []types.ResourceRecordSet
	for name, addresses := range sides {
		one := set(zoneName, addresses[0].String())
		one.SetIdentifier, one.MultiValueAnswer, one.HealthCheckId = aws.String(name), aws.Bool(true), aws.String(checks[name])
		sets = append(sets, one)
	}
	w.change(types.ChangeActionCreate, sets...)
}

func (w *world) publisher(change func(*Options)) *Publisher {
	w.t.Helper()
	options := Options{Config: w.config, Servers: []string{w.dns}, TTL: time.Second, Verify: patience}
	if change != nil {
		change(&options)
	}
	made, err := New(options)
	if err != nil {
		w.t.Fatal(err)
	}
	return made
}

func (w *world) asked(ctx context.Context) ([]netip.Addr, error) {
	client := dns.Client{Timeout: patience}
	reply, _, err := client.ExchangeContext(ctx, new(dns.Msg).SetQuestion(zoneName, dns.TypeA), w.dns)
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, record := range reply.Answer {
		if a, is := record.(*dns.A); is {
			address, _ := netip.AddrFromSlice(a.A)
			all = append(all, address.Unmap())
		}
	}
	return failover.Sorted(all), nil
}

// others is all that stands in the zone but for the name and its mark.
func (w *world) others(ctx context.Context) (string, error) {
	page, err := w.client.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &w.zone})
	if err != nil {
		return "", err
	}
	var said []string
	for _, one := range page.ResourceRecordSets {
		if *one.Name == "_firedrill."+zoneName || (*one.Name == zoneName && one.Type == types.RRTypeA) {
			continue
		}
		for _, value := range one.ResourceRecords {
			said = append(said, fmt.Sprint(*one.Name, one.Type, *one.TTL, *value.Value))
		}
	}
	slices.Sort(said)
	return strings.Join(said, "\n"), nil
}

func startStatic(t *testing.T) string {
	t.Helper()
	zone, err := authority.ParseZone([]byte(failovertest.ZoneYAML()), "zone.yaml")
	if err != nil {
		t.Fatal(err)
	}
	server, err := authority.New(authority.Options{Zone: zone, Listen: "127.0.0.1:0", Rate: 1 << 30})
	if err == nil {
		err = server.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	return server.Address().String()
}

// way is one of the three ways to move a name.
type way struct {
	prepare func(w *world) func(*Options)
	meddle  func(w *world, options Options, to netip.Addr) error
}

var ways = map[string]way{
	"records": {
		prepare: func(w *world) func(*Options) {
			w.change(types.ChangeActionCreate, set(zoneName, blue.String()))
			return func(*Options) {}
		},
		meddle: func(w *world, _ Options, to netip.Addr) error {
			w.change(types.ChangeActionUpsert, set(zoneName, to.String()))
			return nil
		},
	},
	"routing controls": {
		prepare: func(w *world) func(*Options) {
			controls, checks := map[string]string{}, map[string]string{}
			for name := range sides {
				controls[name] = w.newControl(name)
				checks[name] = w.check(name, types.HealthCheckConfig{Type: types.HealthCheckTypeRecoveryControl, RoutingControlArn: aws.String(controls[name])})
			}
			w.pair(checks)
			cluster := route53recoverycluster.NewFromConfig(w.config)
			_, err := cluster.UpdateRoutingControlState(w.t.Context(), &route53recoverycluster.UpdateRoutingControlStateInput{RoutingControlArn: aws.String(controls["blue"]), RoutingControlState: "On"})
			if err != nil {
				w.t.Fatal(err)
			}
			w.assertion(0, controls["blue"], controls["green"])
			return func(o *Options) {
				o.Controls, o.Environments = controls, sides
				o.Cluster = []string{"http://127.0.0.1:1", w.url} // one endpoint of a cluster may be away
			}
		},
		meddle: func(w *world, o Options, to netip.Addr) error {
			o.Cluster = []string{w.url}
			return w.publisher(func(into *Options) { *into = o }).set(w.t.Context(), zoneName, map[string]bool{"blue": to == blue, "green": to == green})
		},
	},
	"health checks": {
		prepare: func(w *world) func(*Options) {
			checks := map[string]string{}
			for name := range sides { // what they would find does not matter
				checks[name] = w.check(name, types.HealthCheckConfig{Type: types.HealthCheckTypeCalculated, HealthThreshold: aws.Int32(0)})
			}
			w.pair(checks)
			if err := w.publisher(func(o *Options) { o.Checks, o.Environments = checks, sides }).setCheck(w.t.Context(), zoneName, checks["green"], false); err != nil {
				w.t.Fatal(err)
			}
			return func(o *Options) { o.Checks, o.Environments = checks, sides }
		},
		meddle: func(w *world, o Options, to netip.Addr) error {
			return w.publisher(func(into *Options) { *into = o }).set(w.t.Context(), zoneName, map[string]bool{"blue": to == blue, "green": to == green})
		},
	},
}

func TestContractHolds(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			with := way.prepare(w)
			static := startStatic(t)
			backend := w.publisher(with)
			failovertest.TestBackend(t, failovertest.BackendSubject{
				Backend: backend, Another: w.publisher(func(o *Options) { with(o); o.Zone = w.zone }),
				Lagging: w.publisher(func(o *Options) { with(o); o.Servers, o.Verify = []string{static, w.dns}, time.Second }), Laggard: static,
				Name: strings.TrimSuffix(zoneName, "."), Blue: blue, Green: green, Ask: w.asked, Others: w.others,
				Meddle: func(to netip.Addr) error { return way.meddle(w, backend.options, to) },
			})
		})
	}
}

// before runs something once, before the first request of an operation is sent; and may change that request.
func before(operation string, do func(input any)) func(*middleware.Stack) error {
	var once sync.Once
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("test", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			if middleware.GetOperationName(ctx) == operation {
				once.Do(func() { do(in.Parameters) })
			}
			return next.HandleInitialize(ctx, in)
		}), middleware.After)
	}
}

func (w *world) hooked(hook func(*middleware.Stack) error) aws.Config {
	config := w.config.Copy()
	config.APIOptions = append(config.APIOptions, hook)
	return config
}

// A newer decision is published between the reading and the writing of an older one, in each of the ways. The planted bug, a batch that does
// not name what it replaces, must let the older one win.
func TestOlderDecisionNeverUndoesANewerOne(t *testing.T) {
	operations := map[string]string{"records": "ChangeResourceRecordSets", "routing controls": "UpdateRoutingControlStates", "health checks": "UpdateHealthCheck"}
	for name, way := range ways {
		for _, bug := range []bool{false, true} {
			if bug && name != "records" {
				continue
			}
			t.Run(fmt.Sprintf("%s bug=%t", name, bug), func(t *testing.T) {
				w := newWorld(t)
				with := way.prepare(w)
				newer := w.publisher(with)
				older := w.publisher(func(o *Options) {
					with(o)
					o.Config = w.hooked(before(operations[name], func(input any) {
						if err := newer.Publish(t.Context(), failover.Change{Name: zoneName, Addresses: []netip.Addr{blue}, Serial: 8}); err != nil {
							t.Error(err)
						}
						if batch, is := input.(*route53.ChangeResourceRecordSetsInput); is && bug {
							forget(batch.ChangeBatch)
						}
					}))
				})
				err := older.Publish(t.Context(), failover.Change{Name: zoneName, Addresses: []netip.Addr{green}, Serial: 7})
				got, askErr := w.asked(t.Context())
				if askErr != nil {
					t.Fatal(askErr)
				}
				held := errors.Is(err, failover.ErrStale) && slices.Equal(got, []netip.Addr{blue})
				if held == bug {
					t.Errorf("bug %t: %v, clients are led to %v", bug, err, got)
				}
			})
		}
	}
}

// forget makes of a batch that compares one that does not.
func forget(batch *types.ChangeBatch) {
	batch.Changes = slices.DeleteFunc(batch.Changes, func(c types.Change) bool { return c.Action == types.ChangeActionDelete })
	for i := range batch.Changes {
		batch.Changes[i].Action = types.ChangeActionUpsert
	}
}

// On the way from one environment to the other, both are never off: that is when Route 53 answers as if both were healthy.
func TestBothAreNeverOff(t *testing.T) {
	w := newWorld(t)
	with := ways["health checks"].prepare(w)
	var order []string
	publisher := w.publisher(func(o *Options) {
		with(o)
		o.Config = w.hooked(func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("test", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				if update, is := in.Parameters.(*route53.UpdateHealthCheckInput); is {
					order = append(order, fmt.Sprint(!*update.Inverted))
				}
				return next.HandleInitialize(ctx, in)
			}), middleware.After)
		})
	})
	if err := publisher.Publish(t.Context(), failover.Change{Name: zoneName, Addresses: []netip.Addr{green}, Serial: 1}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(order, []string{"true", "false"}) {
		t.Errorf("healthy was set in the order %v; want on before off", order)
	}
	if err := publisher.set(t.Context(), zoneName, map[string]bool{"blue": false, "green": false}); drill.KindOf(err) != drill.Invalid {
		t.Errorf("everything off: %v", err)
	}
}

// A safety rule that says no is told as such, and what is served stays.
func TestSafetyRulesAreKept(t *testing.T) {
	w := newWorld(t)
	with := ways["routing controls"].prepare(w)
	publisher := w.publisher(with)
	w.assertion(3_600_000, publisher.options.Controls["blue"])
	err := publisher.Publish(t.Context(), failover.Change{Name: zoneName, Addresses: []netip.Addr{green}, Serial: 1})
	if drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "one-stays-on") || !strings.Contains(drill.HintOf(err), "safety-rules-to-override") {
		t.Errorf("%v, hint %q; want the rule, and who may override it", err, drill.HintOf(err))
	}
	if got, err := w.asked(t.Context()); err != nil || !slices.Equal(got, []netip.Addr{blue}) {
		t.Errorf("after a refusal: %v, %v", got, err)
	}
}

// Route 53's control plane is away: the controls, which do not need it, are turned all the same.
func TestControlsAreTurnedWithoutTheControlPlane(t *testing.T) {
	w := newWorld(t)
	with := ways["routing controls"].prepare(w)
	publisher := w.publisher(with)
	if err := publisher.Publish(t.Context(), failover.Change{Name: zoneName, Addresses: []netip.Addr{blue}, Serial: 1}); err != nil {
		t.Fatal(err)
	}
	away := publisher.options.Config.Copy()
	away.BaseEndpoint = aws.String("http://127.0.0.1:1")
	away.RetryMaxAttempts = 1
	publisher.client = route53.NewFromConfig(away)
	publisher.options.Verify = 100 * time.Millisecond
	err := publisher.Publish(t.Context(), failover.Change{Name: zoneName, Addresses: []netip.Addr{green}, Serial: 2})
	if got, askErr := w.asked(t.Context()); askErr != nil || !slices.Equal(got, []netip.Addr{green}) {
		t.Errorf("%v; clients are led to %v, %v", err, got, askErr)
	}
	if drill.KindOf(err) != drill.Unproven { // the mark says so
		t.Errorf("%v; want that it is not proven by the mark", err)
	}
}

func TestWhatCannotBePublishedIsTold(t *testing.T) {
	w := newWorld(t)
	ways["records"].prepare(w)
	w.change(types.ChangeActionCreate, types.ResourceRecordSet{Name: aws.String("www." + zoneName), Type: types.RRTypeCname, TTL: aws.Int64(5), ResourceRecords: []types.ResourceRecord{{Value: aws.String("db." + zoneName)}}})
	primary := set("pair."+zoneName, blue.String())
	primary.SetIdentifier, primary.Failover = aws.String("p"), types.ResourceRecordSetFailoverPrimary
	w.change(types.ChangeActionCreate, primary)
	wrong := w.config.Copy()
	wrong.Credentials = credentials.NewStaticCredentialsProvider(testKey, "another", "")
	away := w.config.Copy()
	away.BaseEndpoint, away.RetryMaxAttempts = aws.String("http://127.0.0.1:1"), 1
	for text, row := range map[string]struct {
		name   string
		change func(*Options)
		kind   drill.ErrorKind
	}{
		"an alias":           {"www." + zoneName, nil, drill.Invalid},
		"a routing policy":   {"pair." + zoneName, nil, drill.Invalid},
		"another zone":       {"www.elsewhere.test.", nil, drill.Invalid},
		"a zone that is not": {zoneName, func(o *Options) { o.Zone = "ZNONE" }, drill.Invalid},
		"another secret":     {zoneName, func(o *Options) { o.Config = wrong }, drill.Refused},
		"nobody there":       {zoneName, func(o *Options) { o.Config = away }, drill.Unreachable},
		"nobody's address": {zoneName, func(o *Options) {
			o.Checks, o.Environments = map[string]string{"green": "x"}, map[string][]netip.Addr{"green": {green}}
		}, drill.Invalid},
		"a server that is no": {zoneName, func(o *Options) { o.Servers, o.Verify = []string{"127.0.0.1:1"}, 50*time.Millisecond }, drill.Unproven},
	} {
		err := w.publisher(row.change).Publish(t.Context(), failover.Change{Name: row.name, Addresses: []netip.Addr{blue}, Serial: 1})
		if drill.KindOf(err) != row.kind || drill.HintOf(err) == "" {
			t.Errorf("%s: %v (%s), hint %q; want %s with a cure", text, err, drill.KindOf(err), drill.HintOf(err), row.kind)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, options := range []Options{
		{TTL: time.Hour}, {TTL: time.Millisecond}, {Controls: map[string]string{"blue": "a"}}, {Checks: map[string]string{"blue": "a"}},
		{Controls: map[string]string{"blue": "a"}, Checks: map[string]string{"blue": "a"}, Environments: sides},
	} {
		if _, err := New(options); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%+v: %v", options, err)
		}
	}
	if got := regionOf("https://1a2b.route53-recovery-cluster.eu-west-1.amazonaws.com/v1", "x"); got != "eu-west-1" {
		t.Error(got)
	}
	if got := regionOf("http://127.0.0.1:4577", "x"); got != "x" {
		t.Error(got)
	}
}
