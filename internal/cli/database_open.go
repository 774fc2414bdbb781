//go:build !hostpart

package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	awsrds "github.com/aws/aws-sdk-go-v2/service/rds"

	"firedrill/internal/amazon"
	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/patroni"
	"firedrill/internal/failover/database/pgsql"
	"firedrill/internal/failover/database/postgresql"
	"firedrill/internal/failover/database/programs"
	"firedrill/internal/failover/database/rds"
)

// openDatabase makes the driver of a database of the service file; it touches nothing but the files that hold secrets.
func openDatabase(d drill.Database, file string) (database.Driver, error) {
	switch d.Driver {
	case drill.DatabasePatroni:
		return openPatroni(d, file)
	case drill.DatabaseRDS:
		return openRDS(d, file)
	case drill.DatabaseExec:
		e := d.Exec
		return programs.New(programs.Options{
			Hosts: d.Hosts, Status: e.Status, Write: e.Write, Fence: e.Fence, Promote: e.Promote, Rebuild: e.Rebuild,
			Dir: filepath.Dir(file), Timeout: e.Timeout.Duration(),
		}), nil
	}
	var fence drill.Fence
	if d.Fence != nil {
		fence = *d.Fence
	}
	p := d.PostgreSQL
	password, err := secretFile(besideFile(file, p.PasswordFile), p.PasswordFile)
	if err != nil {
		return nil, err
	}
	return postgresql.New(postgresql.Options{
		Hosts: d.Hosts, Port: uint16(p.Port), Database: p.Database, User: p.User, Password: password, // the port was checked by drill.ParseService
		Data: p.Data, Programs: p.Programs, Owner: p.Owner, Service: p.Service, Replication: p.Replication, Synchronous: p.Synchronous, SSLMode: p.SSLMode,
		PowerOff: fence.PowerOff, TrustArmed: fence.TrustArmed, ConnectTimeout: d.Patience.Duration(),
	}), nil
}

// sqlServer is how the writes of the proof get in; its host is for the driver.
func sqlServer(s *drill.SQL, file string) (pgsql.Server, error) {
	password, err := secretFile(besideFile(file, s.PasswordFile), s.PasswordFile)
	return pgsql.Server{Database: s.Database, User: s.User, Password: password, Port: uint16(s.Port), SSLMode: s.SSLMode}, err
}

func openPatroni(d drill.Database, file string) (database.Driver, error) {
	server, err := sqlServer(d.SQL, file)
	if err != nil {
		return nil, err
	}
	options := patroni.Options{Hosts: d.Hosts, SQL: server, ConnectTimeout: d.Patience.Duration()}
	if p := d.Patroni; p != nil {
		options.Port, options.User, options.HTTPS = uint16(p.Port), p.User, p.HTTPS
		if options.Password, err = secretFile(besideFile(file, p.PasswordFile), p.PasswordFile); err != nil {
			return nil, err
		}
		if p.CAFile != "" {
			if options.Roots, err = trusted(besideFile(file, p.CAFile)); err != nil {
				return nil, err
			}
		}
	}
	return patroni.New(options), nil
}

func openRDS(d drill.Database, file string) (database.Driver, error) {
	server, err := sqlServer(d.SQL, file)
	if err != nil {
		return nil, err
	}
	return rdsOf(d, file, server)
}

// rdsOf is the driver of an instance; without server nobody logs in to it.
func rdsOf(d drill.Database, file string, server pgsql.Server) (*rds.Driver, error) {
	config, err := amazon.Config(context.Background(), d.RDS.AWS, filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	return rds.New(rds.Options{Instance: d.RDS.Instance, Client: awsrds.NewFromConfig(config), SQL: server, ConnectTimeout: d.Patience.Duration()}), nil
}

// trusted reads certificates of authorities.
func trusted(path string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	text, err := os.ReadFile(path)
	if err == nil && !pool.AppendCertsFromPEM(text) {
		err = errors.New(path + " holds no certificate")
	}
	if err != nil {
		return nil, &drill.Error{Op: "database", Kind: drill.Invalid, Err: fmt.Errorf("ca_file: %w", err), Hint: "Name a file of PEM certificates."}
	}
	return pool, nil
}

// secretFile reads the first line of a file that the service file names; "" when it names none.
func secretFile(path, named string) (string, error) {
	if named == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", &drill.Error{Op: "database", Kind: drill.Invalid, Err: fmt.Errorf("password file: %w", err), Hint: "Put the password there, readable for you alone: chmod 600 " + path}
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimRight(first, "\r"), nil
}

// databaseKeepers are for the watch, which stays on.
func databaseKeepers(service drill.Service, file string) ([]*database.Keeper, error) {
	var keepers []*database.Keeper
	for _, d := range service.Databases {
		driver, err := openDatabase(d, file)
		if err != nil {
			return nil, err
		}
		keepers = append(keepers, &database.Keeper{
			Mover: database.Mover{Name: d.Name, Driver: driver, Policy: database.Policy{LagMax: uint64(d.LagMax)}}, Alarms: d.PromoteWhen,
		})
	}
	return keepers, nil
}

// lastSeen is what the watch remembers of the primary of a database; nothing when there is no watch, or it does not answer.
func lastSeen(ctx context.Context, service drill.Service, name string) database.Seen {
	if service.Watch == nil {
		return database.Seen{}
	}
	snapshot, err := watchState(ctx, service)
	if err != nil {
		return database.Seen{} // then the standby's place is not known, which is a refusal that says so
	}
	for _, kept := range snapshot.Databases {
		if kept.Name == name {
			return kept.Seen
		}
	}
	return database.Seen{}
}

// armer is a driver whose primaries can be made harmless beforehand.
type armer interface {
	Arm(ctx context.Context, host string) error
}
