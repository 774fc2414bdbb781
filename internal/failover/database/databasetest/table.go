package databasetest

import (
	"context"
	"errors"
	"strconv"

	"firedrill/internal/failover/database/pgsql"
)

// Table is a table of the tests on a pair of PostgreSQL servers: rows go to whichever is the primary.
type Table struct {
	Servers []pgsql.Server

	last int // where the primary was found
}

// Add adds one row; nil means that it was acknowledged.
func (t *Table) Add(ctx context.Context) error {
	const row = "insert into firedrill.rows default values returning 1"
	_, err := t.text(ctx, row)
	if pgsql.StateOf(err) != pgsql.NoTable {
		return err
	}
	if _, err := t.text(ctx, "create table firedrill.rows (at timestamptz default now())"); err != nil {
		return err
	}
	_, err = t.text(ctx, row)
	return err
}

// Rows counts them on the primary.
func (t *Table) Rows(ctx context.Context) (int, error) {
	text, err := t.text(ctx, "select count(*)::text from firedrill.rows")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// text runs a statement on the primary: where it was last, or anywhere else.
func (t *Table) text(ctx context.Context, statement string) (string, error) {
	var errs []error
	for range t.Servers {
		text, err := onPrimary(ctx, t.Servers[t.last], statement)
		if err == nil || pgsql.StateOf(err) == pgsql.NoTable {
			return text, err
		}
		errs = append(errs, err)
		t.last = (t.last + 1) % len(t.Servers)
	}
	return "", errors.Join(errs...)
}

func onPrimary(ctx context.Context, server pgsql.Server, statement string) (string, error) {
	session, err := server.Connect(ctx)
	if err != nil {
		return "", err
	}
	defer session.Close()
	if recovering, err := session.Text(ctx, "select pg_is_in_recovery()::text"); err != nil || recovering != "false" {
		return "", errors.Join(err, errors.New(server.Host+" is no primary"))
	}
	return session.Text(ctx, statement)
}
