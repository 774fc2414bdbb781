//go:build !hostpart

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/awsapi"
	"firedrill/internal/awsapi/rds"
	"firedrill/internal/awsapi/sigv4"
	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
)

const (
	// serverHeaderMax and serverIdleMax bound clients that say nothing, serverStopMax requests under way at the end.
	serverHeaderMax = 10 * time.Second
	serverIdleMax   = 2 * time.Minute
	serverStopMax   = 3 * time.Second
)

type serverOptions struct {
	listen, dnsListen, data, accessKey string
	databases                          string
	checkEvery                         time.Duration
	fleet                              fleetServerOptions
}

func newServerCommand(s streams) *cobra.Command {
	var options serverOptions
	command := &cobra.Command{
		Use:   "server",
		Short: "Lead a fleet of agents, and answer what AWS's clients ask of CloudWatch, Route 53 and RDS",
		Args:  cobra.NoArgs,
		Long: `Stays on. With --fleet-listen it leads a fleet: agents dial in over TLS, each with a key of its own, and carry out what firedrill fleet
attack orders. NATS with JetStream runs inside of this process and keeps members, runs, permits, journals and the lever in the data directory;
docs/fleet.md says who can do what. The first start writes fleet/admin.json there: the credentials of the first admin.

Three servers with --cluster-peers keep all of that together, and lead in turn: when the one that leads goes down, another one takes over within ten
seconds as a rule, and runs go on. All have the same fleet/identity.json, which the first one writes: copy it before the others are started. With --nats
everything is kept in a NATS with JetStream that others run; agents come in by --fleet-listen all the same. What one server has kept in its own
directory is brought there by firedrill server move.

It also answers the operations of Amazon CloudWatch, Route 53 (and of the recovery controller's routing controls) and RDS that resiliency needs,
in the protocols of the AWS CLI, boto3 and the SDKs: give them --endpoint-url. Alarms are evaluated by CloudWatch's rules in real time,
records are answered over DNS on a port, health checks are really made, and everything is kept in one directory.

  CloudWatch  put-metric-data, get-metric-statistics, list-metrics, put-metric-alarm, put-composite-alarm, describe-alarms,
              describe-alarm-history, set-alarm-state, delete-alarms
  Route 53    create-, get-, list- and delete-hosted-zone(s), list-hosted-zones-by-name, change- and list-resource-record-sets, get-change,
              test-dns-answer; create-, get-, update-, list- and delete-health-check(s), get-health-check-status
  ARC         get-, list-, update-routing-control-state(s); create-routing-control, create-safety-rule
  RDS         describe-db-instances, reboot-db-instance --force-failover, describe-events: of the databases of a service file (--databases)

Requests must be signed with a key of --access-key, a file such as ~/.aws/credentials; where there is none, a fresh key is written into it.
Signatures prove who asks; they do not hide what is said: put TLS before it where the way is not your own.

What is not served is refused by name: metric math, percentiles, suppressors, private zones, routing by latency or place. Actions of alarms
are not carried out; the history says so.

EXIT STATUS
  0    stopped by SIGTERM or SIGINT
  2    a flag, the key file or the data directory is wrong
  3    a socket broke while serving
  4    an address cannot be listened on`,
		Example: `  firedrill server --data /var/lib/firedrill-server --fleet-listen :7422 --fleet-address control.example.com:7422
  firedrill server --fleet-listen :7422 --fleet-address c1.example.com:7422 --server-name c1 --cluster-peers c1.example.com:7423,c2.example.com:7423,c3.example.com:7423
  firedrill server --fleet-listen :7422 --nats tls://n1.example.com:4222,tls://n2.example.com:4222 --nats-creds /etc/firedrill/nats.creds
  firedrill server --data /var/lib/firedrill/aws --listen 127.0.0.1:4566 --dns-listen 127.0.0.1:5353
  export AWS_SHARED_CREDENTIALS_FILE=/var/lib/firedrill/aws/credentials AWS_DEFAULT_REGION=us-west-2
  aws --endpoint-url http://127.0.0.1:4566 cloudwatch describe-alarms
  dig -p 5353 @127.0.0.1 bookstore.pingpublications.com`,
		RunE: func(command *cobra.Command, _ []string) error { return runServer(command.Context(), s, options) },
	}
	flags := command.Flags()
	flags.StringVar(&options.listen, "listen", "127.0.0.1:4566", "address and port for the API, over HTTP")
	flags.StringVar(&options.dnsListen, "dns-listen", "127.0.0.1:5353", "address and port for the name server, UDP and TCP")
	flags.StringVar(&options.data, "data", "firedrill-data", "directory in which everything is kept")
	flags.StringVar(&options.accessKey, "access-key", "", "file with the access keys that may sign (default: credentials in the data directory)")
	flags.StringVar(&options.databases, "databases", "", "service file whose databases are shown as instances of RDS")
	flags.DurationVar(&options.checkEvery, "check-every", 0, "make health checks this often, whatever interval they name: for rehearsals that cannot wait")
	options.fleet.flags(flags)
	flags.Bool("help", false, "show this help")
	command.AddCommand(newServerUserCommand(s), newServerBackupCommand(s), newServerRestoreCommand(s), newServerMoveCommand(s), newServerAuditCommand(s))
	_ = command.MarkFlagDirname("data") // these fail only for a flag that is not defined
	_ = command.MarkFlagFilename("access-key")
	_ = command.MarkFlagFilename("sign")
	_ = command.MarkFlagFilename("databases", "yaml", "yml")
	return command
}

// postgresPort is where PostgreSQL listens unless the service file says otherwise.
const postgresPort = 5432

// rdsInstances are the databases of a service file as RDS would show them.
func rdsInstances(file string) ([]rds.Instance, error) {
	if file == "" {
		return nil, nil
	}
	service, err := loadService(file)
	if err != nil {
		return nil, err
	}
	var instances []rds.Instance
	for _, d := range service.Databases {
		if d.Driver == drill.DatabaseRDS {
			return nil, &drill.Error{Op: "--databases", Kind: drill.Invalid, Err: fmt.Errorf("database %s is one of RDS already", d.Name), Hint: "Name a service file whose databases have another driver."}
		}
		driver, err := openDatabase(d, file)
		if err != nil {
			return nil, err
		}
		one := rds.Instance{Name: d.Name, Port: postgresPort, Driver: driver, Policy: database.Policy{LagMax: uint64(d.LagMax)}}
		switch {
		case d.PostgreSQL != nil:
			one.User, one.Database, one.Port = d.PostgreSQL.User, d.PostgreSQL.Database, cmp.Or(d.PostgreSQL.Port, postgresPort)
		case d.SQL != nil:
			one.User, one.Database, one.Port = d.SQL.User, d.SQL.Database, cmp.Or(d.SQL.Port, postgresPort)
		}
		for _, host := range d.Hosts {
			one.Hosts = append(one.Hosts, rds.Host{Name: host.Name, Address: host.Address})
		}
		instances = append(instances, one)
	}
	return instances, nil
}

func runServer(ctx context.Context, s streams, options serverOptions) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(s.err, nil))
	if options.checkEvery < 0 || options.checkEvery > 0 && options.checkEvery < 10*time.Millisecond {
		return &drill.Error{Op: "--check-every", Kind: drill.Invalid, Err: fmt.Errorf("%s; write 10ms or more", options.checkEvery)}
	}
	instances, err := rdsInstances(options.databases)
	if err != nil {
		return err
	}
	release, err := holdData(options.data)
	if err != nil {
		return err
	}
	defer release()
	endpoint, err := awsapi.Open(awsapi.Options{Directory: options.data, DNSListen: options.dnsListen, Log: log, CheckEvery: options.checkEvery, Instances: instances})
	if err != nil {
		return err
	}
	if options.accessKey == "" {
		options.accessKey = filepath.Join(options.data, "credentials")
	}
	if endpoint.Handler.Keys, err = sigv4.Ensure(options.accessKey); err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", options.listen)
	if err != nil {
		return &drill.Error{Op: "listen on " + options.listen, Kind: drill.Unsupported, Err: err, Hint: "Name another address or port with --listen."}
	}
	if err := endpoint.Start(ctx); err != nil {
		return errors.Join(err, listener.Close())
	}
	options.fleet.alarms = alarmsOf(endpoint.Handler.CloudWatch)
	leading, err := options.fleet.lead(ctx, s, options.data, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: endpoint.Handler, ReadHeaderTimeout: serverHeaderMax, ReadTimeout: serverIdleMax, IdleTimeout: serverIdleMax}
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(listener) }()
	log.InfoContext(ctx, "server ready", "listen", "http://"+listener.Addr().String(), "dns", endpoint.DNS().String(), "data", options.data, "access_key", options.accessKey)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(endpoint.Run(running), leading.wait()) }()
	var broken error
	select {
	case broken = <-serving: // it serves until it is stopped, which happens below
		cancel()
		broken = errors.Join(broken, <-ended)
	case broken = <-ended:
	}
	stopping, end := context.WithTimeout(context.WithoutCancel(ctx), serverStopMax)
	defer end()
	if err := errors.Join(broken, server.Shutdown(stopping)); err != nil {
		return &drill.Error{Op: "serve", Kind: drill.Unreachable, Err: err, Hint: "Start it again: what was answered with success is kept in " + options.data + "."}
	}
	return nil
}
