//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/fleet/httpapi"
	"firedrill/internal/web"
	"firedrill/internal/web/account"
)

// defaultClusterPort is where servers of a fleet find each other.
const defaultClusterPort = "7423"

// fleetDirectory lies below the server's data directory.
const fleetDirectory = "fleet"

type fleetServerOptions struct {
	listen, address, http string
	certificate, key      string // that dashboard and API show
	percent               float64
	files, results        []string
	provider              *web.Provider
	secretFile            string
	alarms                func() ([]web.Alarm, error)

	name     string
	cluster  control.Cluster
	external control.External
	replicas int

	keepFor  string
	keepRuns int

	notifyURL, notifyKey string

	sign string
}

func (o *fleetServerOptions) flags(flags *pflag.FlagSet) {
	flags.StringVar(&o.listen, "fleet-listen", "", "address and port for agents and firedrill fleet, as :"+fleet.DefaultPort+" (default: no fleet)")
	flags.StringVar(&o.address, "fleet-address", "", "host:port under which they reach it (default: the name of this host)")
	o.places(flags)
	flags.StringVar(&o.keepFor, "keep-for", keepForDefault, "how long runs, drills, verdicts and the audit log are kept, as 365d; 0 is for ever. The newest verdicts of each drill, what may not be reverted, and logs on which a stage may rest stay")
	flags.IntVar(&o.keepRuns, "keep-runs", keepRunsDefault, "how many runs, drills and verdicts of the fleet are kept, of each; 0 is all")
	flags.StringVar(&o.notifyURL, "notify-url-file", "", "file with the address of a webhook that is told how each drill has ended, when one is due or overdue (cadence: in a service file), and when the lever is engaged or released")
	flags.StringVar(&o.notifyKey, "notify-key-file", "", "file with the key that signs what is told (HMAC-SHA-256, in X-Firedrill-Signature)")
	flags.StringVar(&o.sign, "sign", "", "private key (minisign, firedrill key new) with which this server signs what each drill that it conducts has left; a password is asked for, or taken from $"+signPasswordVariable+" (default: they are attested, and not signed)")
	flags.StringVar(&o.http, "fleet-http", "", "address and port for the dashboard and the HTTPS API of the fleet, as :7443 (default: none); docs/fleet.md")
	flags.StringVar(&o.certificate, "fleet-http-cert", "", "file with the certificate that dashboard and API show, PEM, with those that vouch for it behind it; one that is renewed in place is taken up by itself (default: the server's own, known by its pin)")
	flags.StringVar(&o.key, "fleet-http-key", "", "file with the key of --fleet-http-cert, PEM, which others on this host cannot read")
	flags.StringArrayVar(&o.files, "service-file", nil, "service file whose stage, next drill and playbooks the dashboard shows; repeat for more")
	flags.StringArrayVar(&o.results, "results", nil, "directory of runs (--out of firedrill pipeline, run and schedule) whose verdicts the dashboard shows; repeat for more")
	o.provider = &web.Provider{}
	flags.StringVar(&o.provider.Issuer, "oidc-issuer", "", "identity provider for the dashboard (OpenID Connect), as https://login.example.com")
	flags.StringVar(&o.provider.Client, "oidc-client", "", "client ID of the dashboard at the identity provider")
	flags.StringVar(&o.secretFile, "oidc-secret-file", "", "file with the secret of that client (default: none, PKCE alone)")
	flags.StringVar(&o.provider.Name, "oidc-name", "single sign-on", "what the button of the log-in calls the identity provider")
	flags.StringVar(&o.provider.Address, "dashboard-url", "", "address of the dashboard as browsers see it, for the way back: https://control.example.com:7443")
	flags.Float64Var(&o.percent, "max-percent", 50, "most hosts of a service, of an environment of it, or of a zone that may be under attack at the same time; one of each always may")
}

// places says where everything is kept.
func (o *fleetServerOptions) places(flags *pflag.FlagSet) {
	flags.StringVar(&o.name, "server-name", "", "name of this server among several that lead the fleet (default: the name of this host)")
	flags.StringVar(&o.cluster.Listen, "cluster-listen", ":"+defaultClusterPort, "address and port for the other servers, with --cluster-peers")
	flags.StringSliceVar(&o.cluster.Peers, "cluster-peers", nil, "host:port of all servers that lead the fleet together, this one included; three or more (default: this one alone)")
	flags.StringSliceVar(&o.external.URLs, "nats", nil, "address of a NATS with JetStream that others run, as nats://n1.example.com:4222; more with commas between (default: inside of this process)")
	flags.StringVar(&o.external.Credentials, "nats-creds", "", "file of mode 600 with who this server is for --nats: what nsc generate creds writes, the seed of an NKey, lines user: and password:, or a line token:")
	flags.StringVar(&o.external.CA, "nats-ca", "", "file with the authorities that may vouch for --nats, PEM (default: those of this host)")
	flags.StringVar(&o.external.Certificate, "nats-cert", "", "file with the certificate that this server shows to --nats, PEM; one that is renewed in place counts from the next connection on")
	flags.StringVar(&o.external.Key, "nats-key", "", "file of mode 600 with the key of --nats-cert, PEM")
	flags.IntVar(&o.replicas, "replicas", 0, "how often everything is kept, with --cluster-peers or --nats: 1, 3 or 5 (default: 3 where there are servers for it, or 1)")
}

// Defaults of the retention: longer than any evidence holds, and as much as a server starts with in seconds.
const (
	keepForDefault  = "1095d"
	keepRunsDefault = 1_000_000
	keepForMin      = 24 * time.Hour
)

// retention is how long history is kept.
func (o *fleetServerOptions) retention() (control.Retention, error) {
	age, err := drill.ParseSeconds(o.keepFor)
	if err == nil && age > 0 && age.Duration() < keepForMin {
		err = fmt.Errorf("%s is too short to see what happened", age)
	}
	if err != nil {
		return control.Retention{}, &drill.Error{Op: "--keep-for", Kind: drill.Invalid, Err: err, Hint: "Write days, as 365d; a day at least, or 0 for ever."}
	}
	if o.keepRuns < 0 {
		return control.Retention{}, &drill.Error{Op: "--keep-runs", Kind: drill.Invalid, Err: fmt.Errorf("%d runs", o.keepRuns), Hint: "Write a number, or 0 for all."}
	}
	return control.Retention{Age: age.Duration(), Runs: o.keepRuns}, nil
}

// leading is a control plane that runs beside the rest of the server; nil is none.
type leading struct {
	control *control.Control
	ended   chan error
}

// leadCollects has the heap of a server with ten thousand agents grow by half before it is collected, not to twice its size: what lives there is
// buffers, and little is thrown away.
const leadCollects = 50

// lead starts the control plane, if one is asked for. It ends with ctx.
func (o *fleetServerOptions) lead(ctx context.Context, s streams, data string, log *slog.Logger) (*leading, error) {
	if o.listen == "" {
		if len(o.cluster.Peers)+len(o.external.URLs) > 0 {
			return nil, &drill.Error{Op: "server", Kind: drill.Invalid, Err: errors.New("--cluster-peers and --nats are for the fleet, and there is none"), Hint: "Add --fleet-listen, as :" + fleet.DefaultPort + "."}
		}
		if o.sign != "" {
			return nil, &drill.Error{Op: "server", Kind: drill.Invalid, Err: errors.New("--sign is for drills of the fleet, and there is none"), Hint: "Add --fleet-listen, as :" + fleet.DefaultPort + "."}
		}
		return nil, nil //nolint:nilnil // none was asked for
	}
	key, err := loadSigner(s, o.sign)
	if err != nil {
		return nil, err
	}
	if !(o.percent > 0 && o.percent <= 100) {
		return nil, &drill.Error{Op: "--max-percent", Kind: drill.Invalid, Err: fmt.Errorf("%g; write more than 0, and 100 at most", o.percent)}
	}
	if o.address != "" {
		address, err := fleet.Address(o.address)
		if err != nil {
			return nil, err
		}
		o.address = address
	}
	retention, err := o.retention()
	if err != nil {
		return nil, err
	}
	tell, err := newsTeller(o.notifyURL, o.notifyKey)
	if err != nil {
		return nil, err
	}
	debug.SetGCPercent(leadCollects)
	directory := filepath.Join(data, fleetDirectory)
	book := account.Open(usersPath(data))
	person := func(name string) (fleet.Member, bool) {
		user, known := book.Find(name)
		return user.Member(), known
	}
	known := &standings{files: o.files, log: log, since: time.Now(), proven: newEvidenceBook(log)}
	c, err := control.Open(ctx, control.Options{Directory: directory, Listen: o.listen, Advertise: o.address, Name: o.name, Cluster: o.cluster, External: o.external, Replicas: o.replicas, Limits: fleet.Limits{Percent: o.percent}, Retention: retention, Person: person, Wanted: known.wanted, Tell: tell, Conductor: fleetConductor{log, key}, TakesDown: takesDown, Attackable: attackable, Log: log})
	if err != nil {
		return nil, err
	}
	log.InfoContext(ctx, "fleet ready", "listen", o.listen, "address", c.Address(), "admin", filepath.Join(directory, control.AdminFile))
	l := &leading{control: c, ended: make(chan error, 1)}
	serve, err := o.serve(ctx, c, book, known, log)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	go func() {
		var resting sync.WaitGroup
		resting.Go(func() { newRestful().run(ctx) })
		err := errors.Join(c.Run(ctx), serve(), c.Close())
		resting.Wait()
		l.ended <- err
	}()
	return l, nil
}

// serve serves API and dashboard, if they are asked for, until ctx ends; then stop returns.
func (o *fleetServerOptions) serve(ctx context.Context, c *control.Control, book *account.Book, known *standings, log *slog.Logger) (stop func() error, err error) {
	if o.http == "" {
		if len(o.files)+len(o.results) > 0 || o.provider.Issuer+o.certificate+o.key != "" {
			return nil, &drill.Error{Op: "server", Kind: drill.Invalid, Err: errors.New("--service-file, --results, --oidc-issuer and --fleet-http-cert are for the dashboard, and there is none"), Hint: "Add --fleet-http, as :7443."}
		}
		return func() error { return nil }, nil
	}
	config, err := c.TLS()
	if err != nil {
		return nil, err
	}
	shown, err := openCertificate(o.certificate, o.key, time.Now(), log)
	if err != nil {
		return nil, err
	}
	knownBy := []any{"pin", "sha256//" + c.CurlPin()}
	if shown != nil {
		config, knownBy = shown.config(), []any{"certificate", o.certificate, "names", strings.Join(shown.names(), ",")}
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", o.http)
	if err != nil {
		return nil, &drill.Error{Op: "listen on " + o.http, Kind: drill.Unsupported, Err: err, Hint: "Name another address or port with --fleet-http."}
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", httpapi.Handler(c))
	results := append([]string{c.DrillsDirectory()}, o.results...) // what this server conducts lies as what others do
	known.results = results
	pages := web.Options{Control: c, Book: book, Log: log, Results: results, Judge: recordOf, Standings: known.last, Alarms: o.alarms}
	if pages.Provider, err = o.identities(); err != nil {
		return nil, err
	}
	mux.Handle("/", web.Handler(pages))
	server := &http.Server{Handler: mux, TLSConfig: config, ReadHeaderTimeout: serverHeaderMax, ReadTimeout: serverIdleMax, IdleTimeout: serverIdleMax,
		BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	var looking sync.WaitGroup
	looking.Go(func() { web.ImportResults(ctx, pages) })
	looking.Go(func() { known.keep(ctx) })
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	log.InfoContext(ctx, "fleet dashboard and API ready", append([]any{"listen", "https://" + listener.Addr().String()}, knownBy...)...)
	return func() error {
		stopping, end := context.WithTimeout(context.WithoutCancel(ctx), serverStopMax)
		defer end()
		err := server.Shutdown(stopping)
		if err != nil {
			_ = server.Close() // pages that are open do not hold the end up
			err = nil
		}
		looking.Wait()
		if serving := <-ended; !errors.Is(serving, http.ErrServerClosed) {
			err = errors.Join(err, serving)
		}
		return err
	}, nil
}

// identities is the identity provider, if one is named.
func (o *fleetServerOptions) identities() (*web.Provider, error) {
	if o.provider.Issuer+o.provider.Client+o.provider.Address+o.secretFile == "" {
		return nil, nil //nolint:nilnil // none was named
	}
	if o.secretFile != "" {
		text, err := os.ReadFile(o.secretFile)
		if err != nil {
			return nil, &drill.Error{Op: "--oidc-secret-file", Kind: drill.Invalid, Err: err}
		}
		o.provider.Secret = strings.TrimSpace(string(text))
	}
	return o.provider, o.provider.Check()
}

func (l *leading) wait() error {
	if l == nil {
		return nil
	}
	return <-l.ended
}
