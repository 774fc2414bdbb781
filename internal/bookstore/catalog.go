package bookstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// Book is a book of the shop.
type Book struct {
	ID     int64  `json:"id"`
	Title  string `json:"title"`
	Author string `json:"author"`
}

// Author has written books.
type Author struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

// catalog is what the service keeps in the database.
type catalog struct {
	pool *pool
	seed []Book // what a new shop starts with
}

// run executes a statement; where the schema is missing, as in a new database, it creates that first.
func (c *catalog) run(ctx context.Context, s *statement, args ...string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.pool.patience.request)
	defer cancel()
	rows, err := c.pool.run(ctx, s, args...)
	if stateOf(err) != stateUndefinedTable {
		return rows, err
	}
	if err := c.create(ctx); err != nil {
		return nil, fmt.Errorf("create the tables: %w", err)
	}
	return c.pool.run(ctx, s, args...)
}

// create makes the tables and the first books. Both environments may do so at the same time: what the other did already is no error. The
// ledger comes last, so that whoever misses it finishes what was interrupted.
func (c *catalog) create(ctx context.Context) error {
	type step struct {
		statement *statement
		args      []string
	}
	steps := []step{{createAuthors, nil}, {createBooks, nil}}
	for _, book := range c.seed {
		steps = append(steps, step{addAuthor, []string{book.Author}}, step{addBook, []string{book.Title, book.Author}})
	}
	steps = append(steps, step{createLedger, nil})
	for _, next := range steps {
		if _, err := c.pool.run(ctx, next.statement, next.args...); err != nil && !made(err) {
			return err
		}
	}
	return nil
}

// made says whether an error means that it exists already. PostgreSQL reports a race between two "if not exists" as one of the two.
func made(err error) bool {
	state := stateOf(err)
	return state == stateUniqueViolation || state == stateDuplicateTable
}

// stateOf is the SQLSTATE of an error of the database, "" for any other.
func stateOf(err error) string {
	var known *pgconn.PgError
	if errors.As(err, &known) {
		return known.Code
	}
	return ""
}

func (c *catalog) ping(ctx context.Context) error {
	_, err := c.run(ctx, pingDatabase)
	return err
}

func (c *catalog) books(ctx context.Context) ([]Book, error) {
	rows, err := c.run(ctx, listBooks)
	if err != nil {
		return nil, err
	}
	books := make([]Book, len(rows))
	for i, row := range rows {
		id, err := strconv.ParseInt(row[0], 10, 64)
		if err != nil {
			return nil, err
		}
		books[i] = Book{id, row[1], row[2]}
	}
	return books, nil
}

// add stores a book, and its author when new. It returns once the database acknowledged both.
func (c *catalog) add(ctx context.Context, book Book) (Book, error) {
	if _, err := c.run(ctx, addAuthor, book.Author); err != nil {
		return book, err
	}
	rows, err := c.run(ctx, addBook, book.Title, book.Author)
	if err != nil {
		return book, err
	}
	if len(rows) != 1 {
		return book, fmt.Errorf("the database added %d books instead of one", len(rows))
	}
	book.ID, err = strconv.ParseInt(rows[0][0], 10, 64)
	return book, err
}

func (c *catalog) authors(ctx context.Context) ([]Author, error) {
	rows, err := c.run(ctx, listAuthors)
	if err != nil {
		return nil, err
	}
	authors := make([]Author, len(rows))
	for i, row := range rows {
		id, err := strconv.ParseInt(row[0], 10, 64)
		if err != nil {
			return nil, err
		}
		authors[i] = Author{id, row[1]}
	}
	return authors, nil
}

// record writes an entry of the ledger and returns once the database acknowledged it.
func (c *catalog) record(ctx context.Context, writer string, seq int64) error {
	_, err := c.run(ctx, addLedger, writer, strconv.FormatInt(seq, 10))
	return err
}

func (c *catalog) recorded(ctx context.Context, writer string) ([]int64, error) {
	rows, err := c.run(ctx, listLedger, writer)
	if err != nil {
		return nil, err
	}
	seqs := make([]int64, len(rows))
	for i, row := range rows {
		if seqs[i], err = strconv.ParseInt(row[0], 10, 64); err != nil {
			return nil, err
		}
	}
	return seqs, nil
}
