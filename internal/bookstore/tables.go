package bookstore

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The SQLSTATE codes that matter to the service or that the stand-in answers with.
const (
	stateUniqueViolation  = "23505"
	stateForeignKey       = "23503"
	stateUndefinedTable   = "42P01"
	stateDuplicateTable   = "42P07"
	stateInvalidText      = "22P02"
	stateReadOnly         = "25006"
	stateUnsupported      = "0A000"
	stateProtocol         = "08P01"
	stateUnknownStatement = "26000"
	stateUnknownPortal    = "34000"
	stateBadParameters    = "42P02"
	stateWrongPassword    = "28P01"
	stateUnknownRole      = "28000"
	stateUnknownDatabase  = "3D000"
	stateTooMany          = "53300"
	stateIO               = "58030"
)

// sqlError is an error as PostgreSQL reports it.
type sqlError struct {
	state   string
	message string
	hint    string
}

func (e *sqlError) Error() string { return fmt.Sprintf("%s (SQLSTATE %s)", e.message, e.state) }

// tables is the content of the stand-in: what its log adds up to. It is a value without locks or I/O; Database guards it.
type tables struct {
	recovering bool // a standby that follows its primary
	created    map[string]bool
	authors    []authorRow
	authorOf   map[string]bool
	books      []bookRow
	bookOf     map[[2]string]bool
	ledger     map[string]map[int64]bool
}

type authorRow struct {
	id   int64
	name string
}

type bookRow struct {
	id            int64
	title, author string
}

func newTables() *tables {
	return &tables{
		created:  map[string]bool{},
		authorOf: map[string]bool{},
		bookOf:   map[[2]string]bool{},
		ledger:   map[string]map[int64]bool{},
	}
}

// need returns the error of a statement that names a table before it was created.
func (t *tables) need(table string) error {
	if t.created[table] {
		return nil
	}
	return &sqlError{state: stateUndefinedTable, message: fmt.Sprintf("relation %q does not exist", table)}
}

// readTable is the table that a reading statement needs, "" for none.
func readTable(s *statement) string {
	switch s {
	case listAuthors:
		return "authors"
	case listBooks:
		return "books"
	case listLedger, countLedger:
		return "ledger"
	}
	return ""
}

func always(*tables, []string) error { return nil }

func createTable(name string) func(*tables, []string) [][]string {
	return func(t *tables, _ []string) [][]string {
		t.created[name] = true
		return nil
	}
}

func checkAddAuthor(t *tables, _ []string) error { return t.need("authors") }

func applyAddAuthor(t *tables, args []string) [][]string {
	if t.authorOf[args[0]] {
		return nil
	}
	t.authorOf[args[0]] = true
	t.authors = append(t.authors, authorRow{int64(len(t.authors)) + 1, args[0]})
	return nil
}

func applyListAuthors(t *tables, _ []string) [][]string {
	var rows [][]string
	for _, a := range t.authors[:min(len(t.authors), 1000)] {
		rows = append(rows, []string{strconv.FormatInt(a.id, 10), a.name})
	}
	return rows
}

func checkAddBook(t *tables, args []string) error {
	if err := t.need("books"); err != nil {
		return err
	}
	if t.bookOf[[2]string{args[0], args[1]}] {
		return duplicate("books_title_author_key")
	}
	if !t.authorOf[args[1]] {
		return &sqlError{
			state:   stateForeignKey,
			message: `insert or update on table "books" violates foreign key constraint "books_author_fkey"`,
		}
	}
	return nil
}

func applyAddBook(t *tables, args []string) [][]string {
	row := bookRow{int64(len(t.books)) + 1, args[0], args[1]}
	t.books = append(t.books, row)
	t.bookOf[[2]string{row.title, row.author}] = true
	return [][]string{{strconv.FormatInt(row.id, 10)}}
}

func applyListBooks(t *tables, _ []string) [][]string {
	var rows [][]string
	for i := len(t.books) - 1; i >= max(0, len(t.books)-100); i-- {
		b := t.books[i]
		rows = append(rows, []string{strconv.FormatInt(b.id, 10), b.title, b.author})
	}
	return rows
}

func checkAddLedger(t *tables, args []string) error {
	if err := t.need("ledger"); err != nil {
		return err
	}
	seq, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return &sqlError{state: stateInvalidText, message: fmt.Sprintf("invalid input syntax for type bigint: %q", args[1])}
	}
	if t.ledger[args[0]][seq] {
		return duplicate("ledger_pkey")
	}
	return nil
}

func applyAddLedger(t *tables, args []string) [][]string {
	seq, _ := strconv.ParseInt(args[1], 10, 64) // checked
	seqs := t.ledger[args[0]]
	if seqs == nil {
		seqs = map[int64]bool{}
		t.ledger[args[0]] = seqs
	}
	seqs[seq] = true
	return nil
}

func applyListLedger(t *tables, args []string) [][]string {
	var seqs []int64
	for seq := range t.ledger[args[0]] {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	rows := make([][]string, len(seqs))
	for i, seq := range seqs {
		rows[i] = []string{strconv.FormatInt(seq, 10)}
	}
	return rows
}

func applyCountLedger(t *tables, _ []string) [][]string {
	count := 0
	for _, seqs := range t.ledger {
		count += len(seqs)
	}
	return [][]string{{strconv.Itoa(count)}}
}

func duplicate(constraint string) error {
	return &sqlError{
		state:   stateUniqueViolation,
		message: fmt.Sprintf("duplicate key value violates unique constraint %q", constraint),
	}
}

// findStatement returns the statement with this text, whatever its spacing, case and closing semicolon, or nil.
func findStatement(sql string) *statement {
	wanted := plain(sql)
	for _, s := range allStatements {
		if plain(s.sql) == wanted {
			return s
		}
	}
	return nil
}

func statementNamed(name string) *statement {
	for _, s := range allStatements {
		if s.name == name {
			return s
		}
	}
	return nil
}

func plain(sql string) string {
	return strings.ToLower(strings.Join(strings.Fields(strings.TrimRight(sql, "; \t\r\n")), " "))
}
