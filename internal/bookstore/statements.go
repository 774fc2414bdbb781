package bookstore

// statement is one SQL statement of the Bookstore. The service sends its text; PostgreSQL understands the text, the stand-in knows
// the statement by its text and does what check and apply say. So both databases are asked exactly the same.
type statement struct {
	name    string // stable: the stand-in's log holds it
	sql     string
	params  int
	columns []column
	tag     string                                    // what the database reports when it is done, without the row count
	check   func(t *tables, args []string) error      // may this write happen? nil: it reads
	apply   func(t *tables, args []string) [][]string // the write itself after a good check, or the read; returns the rows
}

type column struct {
	name string
	oid  uint32 // type, as in PostgreSQL's pg_type
}

// The types that the Bookstore's columns have, by PostgreSQL's numbers.
const (
	oidBool = 16
	oidInt8 = 20
	oidInt4 = 23
	oidText = 25
)

func (s *statement) writes() bool { return s.check != nil }

var (
	pingDatabase = &statement{
		name: "ping", sql: "select 1", tag: "SELECT",
		columns: []column{{"?column?", oidInt4}},
		apply:   func(*tables, []string) [][]string { return [][]string{{"1"}} },
	}
	inRecovery = &statement{
		name: "in-recovery", sql: "select pg_is_in_recovery()", tag: "SELECT",
		columns: []column{{"pg_is_in_recovery", oidBool}},
		apply:   func(t *tables, _ []string) [][]string { return [][]string{{boolText(t.recovering)}} },
	}
	showReadOnly = &statement{
		name: "show-read-only", sql: "show transaction_read_only", tag: "SHOW",
		columns: []column{{"transaction_read_only", oidText}},
		apply:   func(t *tables, _ []string) [][]string { return [][]string{{onOffText(t.recovering)}} },
	}
	// promoteStandby makes a standby the primary; the stand-in's Database does the work.
	promoteStandby = &statement{
		name: "promote", sql: "select pg_promote()", tag: "SELECT",
		columns: []column{{"pg_promote", oidBool}},
		apply:   func(*tables, []string) [][]string { return [][]string{{"t"}} },
	}

	createAuthors = &statement{
		name: "create-authors", tag: "CREATE TABLE",
		sql:   "create table if not exists authors (id bigint generated always as identity primary key, name text not null unique)",
		check: always, apply: createTable("authors"),
	}
	createBooks = &statement{
		name: "create-books", tag: "CREATE TABLE",
		sql: "create table if not exists books (id bigint generated always as identity primary key, title text not null, " +
			"author text not null references authors (name), unique (title, author))",
		check: always, apply: createTable("books"),
	}
	createLedger = &statement{
		name: "create-ledger", tag: "CREATE TABLE",
		sql:   "create table if not exists ledger (writer text not null, seq bigint not null, primary key (writer, seq))",
		check: always, apply: createTable("ledger"),
	}

	addAuthor = &statement{
		name: "add-author", params: 1, tag: "INSERT 0",
		sql:   "insert into authors (name) values ($1) on conflict (name) do nothing",
		check: checkAddAuthor, apply: applyAddAuthor,
	}
	listAuthors = &statement{
		name: "list-authors", sql: "select id, name from authors order by id limit 1000", tag: "SELECT",
		columns: []column{{"id", oidInt8}, {"name", oidText}},
		apply:   applyListAuthors,
	}
	addBook = &statement{
		name: "add-book", params: 2, tag: "INSERT 0",
		sql:     "insert into books (title, author) values ($1, $2) returning id",
		columns: []column{{"id", oidInt8}},
		check:   checkAddBook, apply: applyAddBook,
	}
	// The newest come first, so that the list stays short however long a drill adds books.
	listBooks = &statement{
		name: "list-books", sql: "select id, title, author from books order by id desc limit 100", tag: "SELECT",
		columns: []column{{"id", oidInt8}, {"title", oidText}, {"author", oidText}},
		apply:   applyListBooks,
	}
	// A plain insert, on purpose: with "on conflict do nothing" a repeated write would be acknowledged although the first one never
	// reached the standby.
	addLedger = &statement{
		name: "add-ledger", params: 2, tag: "INSERT 0",
		sql:   "insert into ledger (writer, seq) values ($1, $2)",
		check: checkAddLedger, apply: applyAddLedger,
	}
	listLedger = &statement{
		name: "list-ledger", params: 1, tag: "SELECT",
		sql:     "select seq from ledger where writer = $1 order by seq",
		columns: []column{{"seq", oidInt8}},
		apply:   applyListLedger,
	}
	countLedger = &statement{
		name: "count-ledger", sql: "select count(*) from ledger", tag: "SELECT",
		columns: []column{{"count", oidInt8}},
		apply:   applyCountLedger,
	}
)

// allStatements is all that the stand-in can do.
var allStatements = []*statement{
	pingDatabase, inRecovery, showReadOnly, promoteStandby,
	createAuthors, createBooks, createLedger,
	addAuthor, listAuthors, addBook, listBooks, addLedger, listLedger, countLedger,
}

func boolText(b bool) string {
	if b {
		return "t"
	}
	return "f"
}

func onOffText(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
