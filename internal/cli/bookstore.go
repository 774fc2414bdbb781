//go:build !hostpart

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"firedrill/internal/bookstore"
	"firedrill/internal/drill"
)

// Where a Bookstore host finds its dependencies when it is told nothing.
const (
	defaultDatabaseURL = "postgres://bookstore@db.bookstore.example.test:5432/bookstore?sslmode=disable"
	defaultCDN         = "http://cdn.bookstore.example.test"
)

func newBookstoreCommand(s streams) *cobra.Command {
	command := &cobra.Command{
		Use:   "bookstore",
		Short: "Run a part of the sample service that the demo deploys and attacks",
		Long: `The Bookstore is what the demo rehearses on: a small HTTP service on two environments, a database with a standby, and a
CDN. It is a real service: take away what it stands on, and it fails.

EXIT STATUS
  0   stopped as asked
  2   a flag or a setting is wrong
  3   the address to listen on is taken
  70  it could not go on`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(newBookstoreServeCommand(s), newBookstoreDatabaseCommand(s), newBookstoreCDNCommand(s))
	return command
}

func newBookstoreServeCommand(s streams) *cobra.Command {
	var options bookstore.Options
	var listen string
	command := &cobra.Command{
		Use:   "serve --app DIR",
		Short: "Serve the release of the Bookstore that is published in a directory",
		Long: `Serves the release found in --app when it starts; start it again after a deployment. The answers:

  /version             environment, version, revision, release; needs no dependency
  /                    a page
  /books/ /authors/    GET lists, POST /books/ adds: always from and to the database
  /ledger              POST {"writer","seq"} answers 201 once the database acknowledged it; GET ?writer=NAME lists
  /static/status.json  fetched from the CDN each time
  /healthy             200, or 503 and the dependencies that failed

A dependency that is gone gives 503, 502 or 504 within two seconds. Without a release everything answers 503 and says why.

ENVIRONMENT
  DATABASE_URL   where the database is, as --database
  CDN_URL        where the CDN is, as --cdn

FILES
  /etc/bookstore/database_url   when it exists, the database URL of this host, instead of the others; read again for each use

EXIT STATUS
  0   stopped as asked
  2   a flag or a setting is wrong
  3   the address to listen on is taken
  70  it could not go on`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			options.Log = bookstoreLog(s)
			options.DatabaseURL = cmp.Or(options.DatabaseURL, os.Getenv("DATABASE_URL"), defaultDatabaseURL)
			options.CDN = cmp.Or(options.CDN, os.Getenv("CDN_URL"), defaultCDN)
			return serveBookstore(command.Context(), listen, options)
		},
	}
	flags := command.Flags()
	flags.StringVar(&options.App, "app", "", "directory of the release, or a link to it (required)")
	flags.StringVar(&listen, "listen", ":80", "address to listen on")
	flags.StringVar(&options.DatabaseURL, "database",
		"", "URL of the database (default $DATABASE_URL, else "+defaultDatabaseURL+")")
	flags.StringVar(&options.DatabaseURLFile, "database-file", "/etc/bookstore/database_url", "file with the host's own database URL")
	flags.StringVar(&options.CDN, "cdn", "", "base URL of the CDN (default $CDN_URL, else "+defaultCDN+")")
	flags.StringVar(&options.Environment, "environment", "", "name of the environment in answers (default the host's name)")
	if err := command.MarkFlagRequired("app"); err != nil {
		panic(err) // our own bug: no such flag
	}
	return command
}

func serveBookstore(ctx context.Context, listen string, options bookstore.Options) error {
	if base, err := url.Parse(options.CDN); err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return &drill.Error{
			Op: "bookstore serve", Kind: drill.Invalid, Err: fmt.Errorf("%q is no base URL of a CDN", options.CDN),
			Hint: "Write it as http://cdn.bookstore.example.test.",
		}
	}
	service, err := bookstore.NewService(options)
	if err != nil {
		return &drill.Error{Op: "bookstore serve", Kind: drill.Invalid, Err: err}
	}
	defer service.Close()
	return untilStopped(ctx, "bookstore serve", listen, func(ctx context.Context, listener net.Listener) error {
		return bookstore.ServeHTTP(ctx, listener, service)
	})
}

func newBookstoreDatabaseCommand(s streams) *cobra.Command {
	var options bookstore.DatabaseOptions
	var listen string
	command := &cobra.Command{
		Use:   "db",
		Short: "Stand in for PostgreSQL with what the Bookstore needs of it",
		Long: `Speaks PostgreSQL's protocol, so psql and drivers can talk to it, and knows the Bookstore's statements only. A write is
acknowledged once it is synced to the log in --data, and on the standby while one is attached; a standby that does not answer within a
second is dropped. A standby refuses writes (SQLSTATE 25006) until SELECT pg_promote(). Role and database are called bookstore.

ENVIRONMENT
  DATABASE_PASSWORD   of the role bookstore; without it nobody is asked for one

EXIT STATUS
  0   stopped as asked
  2   a flag or a setting is wrong, or the data directory cannot be used
  3   the address to listen on is taken
  70  it could not go on; a standby: the primary's history is another one`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			options.Log = bookstoreLog(s)
			options.Password = os.Getenv("DATABASE_PASSWORD")
			database, err := bookstore.OpenDatabase(options)
			if err != nil {
				return &drill.Error{
					Op: "bookstore db", Kind: drill.Invalid, Err: err, Hint: "Name another directory with --data, or repair this one.",
				}
			}
			return untilStopped(command.Context(), "bookstore db", listen, database.Serve)
		},
	}
	flags := command.Flags()
	flags.StringVar(&listen, "listen", ":5432", "address to listen on")
	flags.StringVar(&options.StandbyOf, "standby-of", "", "follow the primary at this host:port")
	flags.StringVar(&options.Dir, "data", "/var/lib/bookstore-db", "directory for the log; made when missing")
	return command
}

func newBookstoreCDNCommand(s streams) *cobra.Command {
	var listen, root, name string
	command := &cobra.Command{
		Use:   "cdn",
		Short: "Serve the Bookstore's assets as the origin of a CDN",
		Long: `Serves /static/status.json, which says that this origin is online, and the files of --root below /static/.

EXIT STATUS
  0   stopped as asked
  2   a flag is wrong
  3   the address to listen on is taken
  70  it could not go on`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if root != "" {
				if info, err := os.Stat(root); err != nil || !info.IsDir() {
					return &drill.Error{
						Op: "bookstore cdn", Kind: drill.Invalid, Err: fmt.Errorf("%s is no directory", root),
						Hint: "Name the directory of the assets with --root, or leave it out.",
					}
				}
			}
			origin := bookstore.NewOrigin(root, name)
			return untilStopped(command.Context(), "bookstore cdn", listen, func(ctx context.Context, listener net.Listener) error {
				return bookstore.ServeHTTP(ctx, listener, origin)
			})
		},
	}
	flags := command.Flags()
	flags.StringVar(&listen, "listen", ":80", "address to listen on")
	flags.StringVar(&root, "root", "", "directory of the assets")
	flags.StringVar(&name, "name", "primary", "what the status calls this origin")
	return command
}

// untilStopped listens on address and serves until ctx is done or the process is asked to stop.
func untilStopped(ctx context.Context, op, address string, serve func(context.Context, net.Listener) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return &drill.Error{
			Op: op, Kind: drill.Unreachable, Err: err, Hint: "End what listens there, or choose another address with --listen.",
		}
	}
	err = serve(ctx, listener)
	if err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return &drill.Error{Op: op, Kind: drill.Internal, Err: err}
}

func bookstoreLog(s streams) *slog.Logger { return slog.New(slog.NewTextHandler(s.err, nil)) }
