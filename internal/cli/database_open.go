//go:build !hostpart

package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/postgresql"
)

// openDatabase makes the driver of a database of the service file; it touches nothing but the files that hold secrets.
func openDatabase(d drill.Database, file string) (database.Driver, error) {
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

// armer is a driver whose primaries can be made harmless beforehand.
type armer interface {
	Arm(ctx context.Context, host string) error
}
