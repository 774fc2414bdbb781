package bookstore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"

	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// lostBySIGKILL writes from several clients to a database in a process of its own, kills that, starts it again and returns which
// acknowledged entries are gone.
func lostBySIGKILL(t *testing.T, bug plantedBug) []string {
	t.Helper()
	dir := t.TempDir()
	child, address := startChild(t, dir, bug)
	var (
		writers sync.WaitGroup
		mu      sync.Mutex
		acked   []string
		enough  = make(chan struct{})
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := openCatalog(t, urlOf(address))
	if err := c.create(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		writer := "writer-" + strconv.Itoa(i)
		writers.Go(func() {
			for seq := int64(0); ctx.Err() == nil; seq++ {
				if c.record(ctx, writer, seq) != nil {
					continue
				}
				mu.Lock()
				acked = append(acked, fmt.Sprintf("%s %d", writer, seq))
				if len(acked) == 200 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(testPatience):
		t.Error("the database does not acknowledge writes")
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	cancel()
	writers.Wait()

	_, address = startChild(t, dir, noBug)
	return slices.DeleteFunc(acked, storedIn(t, openCatalog(t, urlOf(address))))
}

// storedIn says which entries, as "writer seq", are in the ledger.
func storedIn(t *testing.T, c *catalog) func(entry string) bool {
	t.Helper()
	stored := map[string]bool{}
	for i := range 4 {
		writer := "writer-" + strconv.Itoa(i)
		seqs, err := c.recorded(context.Background(), writer)
		if err != nil && stateOf(err) != stateReadOnly { // a standby without tables has nothing
			t.Fatal(err)
		}
		for _, seq := range seqs {
			stored[fmt.Sprintf("%s %d", writer, seq)] = true
		}
	}
	return func(entry string) bool { return stored[entry] }
}

func startChild(t *testing.T, dir string, bug plantedBug) (child *exec.Cmd, address string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child = exec.Command(self)
	child.Env = append(os.Environ(), childDirectory+"="+dir, childBug+"="+strconv.Itoa(int(bug)))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if child.ProcessState == nil {
			_ = child.Process.Kill() // it may have ended
			_ = child.Wait()
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return child, strings.TrimSpace(line)
}

func TestAcknowledgedWritesSurviveSIGKILL(t *testing.T) {
	if lost := lostBySIGKILL(t, noBug); len(lost) > 0 {
		t.Errorf("%d acknowledged writes are lost: %v", len(lost), lost)
	}
}

func TestSIGKILLCheckCatchesAnEarlyAcknowledgement(t *testing.T) {
	if len(lostBySIGKILL(t, ackBeforeLog)) == 0 {
		t.Error("a database that acknowledges before it writes passed")
	}
}

// forgetfulFile loses at a power cut what was not synced.
type forgetfulFile struct {
	cached, durable []byte
	syncs           error
}

func (f *forgetfulFile) Write(p []byte) (int, error) {
	f.cached = append(f.cached, p...)
	return len(p), nil
}

func (f *forgetfulFile) Sync() error {
	if f.syncs == nil {
		f.durable = slices.Clone(f.cached)
	}
	return f.syncs
}

func (f *forgetfulFile) Close() error { return nil }

// onForgetfulFile returns a database with a ledger, whose disk is the file.
func onForgetfulFile(t *testing.T) (*Database, *forgetfulFile) {
	t.Helper()
	d := openDatabase(t, DatabaseOptions{})
	if err := d.journal.file.Close(); err != nil {
		t.Fatal(err)
	}
	file := &forgetfulFile{}
	d.journal.file = file
	if _, err := d.execute(t.Context(), createLedger, nil); err != nil {
		t.Fatal(err)
	}
	return d, file
}

// survivesPowerCut says whether an acknowledged write is on the disk when the power goes right then.
func survivesPowerCut(t *testing.T, bug plantedBug) bool {
	t.Helper()
	d, file := onForgetfulFile(t)
	d.journal.planted = bug
	if _, err := d.execute(t.Context(), addLedger, []string{"w", "1"}); err != nil {
		t.Fatal(err)
	}
	records, _, err := readJournal(bytes.NewReader(file.durable))
	if err != nil {
		t.Fatal(err)
	}
	return len(records) == 2
}

func TestAcknowledgedWritesAreSynced(t *testing.T) {
	if !survivesPowerCut(t, noBug) {
		t.Error("an acknowledged write was not synced")
	}
}

func TestPowerCutCheckCatchesAMissingSync(t *testing.T) {
	if survivesPowerCut(t, ackBeforeSync) {
		t.Error("a database that does not sync passed")
	}
}

func TestNothingIsAcknowledgedAfterTheDiskFailed(t *testing.T) {
	d, file := onForgetfulFile(t)
	file.syncs = errors.New("no space left")
	for seq := range 2 {
		_, err := d.execute(t.Context(), addLedger, []string{"w", strconv.Itoa(seq)})
		var known *sqlError
		if !errors.As(err, &known) || known.state != stateIO {
			t.Errorf("write %d: %v", seq, err)
		}
		file.syncs = nil // a later sync that works proves nothing about the earlier write
	}
	rows, err := d.execute(t.Context(), countLedger, nil)
	if err != nil || rows[0][0] != "0" {
		t.Errorf("a write that failed is visible: %v %v", rows, err)
	}
}

// mute is a connection whose client said text and is gone.
type mute struct {
	net.Conn
	text *bytes.Reader
}

func (m mute) Read(p []byte) (int, error)       { return m.text.Read(p) }
func (m mute) Write(p []byte) (int, error)      { return len(p), nil }
func (m mute) Close() error                     { return nil }
func (m mute) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (m mute) SetDeadline(time.Time) error      { return nil }
func (m mute) SetReadDeadline(time.Time) error  { return nil }
func (m mute) SetWriteDeadline(time.Time) error { return nil }

func FuzzSession(f *testing.F) {
	var hello bytes.Buffer
	wire := pgproto3.NewFrontend(strings.NewReader(""), &hello)
	wire.Send(&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "bookstore", "database": "bookstore"},
	})
	wire.Send(&pgproto3.Query{String: createLedger.sql})
	wire.Send(&pgproto3.Parse{Query: addLedger.sql})
	wire.Send(&pgproto3.Bind{Parameters: [][]byte{[]byte("w"), []byte("1")}})
	wire.Send(&pgproto3.Describe{ObjectType: 'P'})
	wire.Send(&pgproto3.Execute{})
	wire.Send(&pgproto3.Sync{})
	if err := wire.Flush(); err != nil {
		f.Fatal(err)
	}
	f.Add(hello.Bytes())
	f.Fuzz(func(t *testing.T, text []byte) {
		d := newDatabase(DatabaseOptions{}, &journal{file: &forgetfulFile{}})
		newSession(d, mute{text: bytes.NewReader(text)}).run(t.Context())
	})
}

func TestStandInRefusesStrangersAsPostgreSQLDoes(t *testing.T) {
	address, _ := startDatabase(t, openDatabase(t, DatabaseOptions{Password: testPassword}))
	open, _ := startDatabase(t, openDatabase(t, DatabaseOptions{}))
	for url, want := range map[string]string{
		"postgres://bookstore:wrong@" + address + "/bookstore":              stateWrongPassword,
		"postgres://bookstore@" + address + "/bookstore":                    stateWrongPassword,
		"postgres://root:" + testPassword + "@" + address + "/bookstore":    stateWrongPassword,
		"postgres://bookstore:" + testPassword + "@" + address + "/library": stateUnknownDatabase,
		"postgres://root@" + open + "/bookstore":                            stateUnknownRole,
	} {
		conn, err := pgconn.Connect(t.Context(), url) // asks for TLS first, as drivers do
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != want {
			t.Errorf("%s: got %v, want %s", url, err, want)
		}
		if err == nil {
			conn.Close(t.Context())
		}
	}
}

func TestStandInAnswersErrorsAndGoesOn(t *testing.T) {
	address, _ := startDatabase(t, openDatabase(t, DatabaseOptions{}))
	conn, err := pgconn.Connect(t.Context(), urlOf(address))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, c := range []struct {
		sql, want string
		args      [][]byte
	}{
		{sql: "drop table books", want: stateUnsupported},
		{sql: listBooks.sql, want: stateUndefinedTable},
		{sql: addLedger.sql, args: [][]byte{[]byte("w")}, want: stateBadParameters},
		{sql: addLedger.sql, args: [][]byte{[]byte("w"), nil}, want: "23502"},
		{sql: promoteStandby.sql, want: "55000"},
		{sql: " SELECT  1 ;", want: ""},
	} {
		result := conn.ExecParams(t.Context(), c.sql, c.args, nil, nil, nil).Read()
		if got := stateOf(result.Err); got != c.want {
			t.Errorf("%s: got %q %v, want %q", c.sql, got, result.Err, c.want)
		}
	}
	results, err := conn.Exec(t.Context(), "select 1;").ReadAll() // the simple protocol, as psql speaks it
	if err != nil || len(results) != 1 || string(results[0].Rows[0][0]) != "1" {
		t.Errorf("simple query: %v %v", results, err)
	}
}
