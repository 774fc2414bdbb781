package bookstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

func TestTornLineIsForgottenAndDamageIsNot(t *testing.T) {
	whole := journalText(t, 3)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	last := len(whole) - len(lines[2])
	for cut := last; cut < len(whole); cut++ {
		records, length, err := readJournal(bytes.NewReader(whole[:cut]))
		if err != nil || len(records) != 2 || length != int64(last) {
			t.Fatalf("cut at %d: %d records, %d bytes, %v", cut, len(records), length, err)
		}
	}
	for i := range last {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1
		if records, _, err := readJournal(bytes.NewReader(damaged)); err == nil {
			t.Fatalf("damage at %d was read as %d records", i, len(records))
		}
	}
}

func journalText(t testing.TB, records int) []byte {
	t.Helper()
	var text bytes.Buffer
	sum := uint32(0)
	for i := range records {
		r := record{Number: uint64(i) + 1, Statement: addLedger.name, Args: []string{"w", strconv.Itoa(i)}}
		if i == 0 {
			r = record{Number: 1, Statement: createLedger.name}
		}
		r.seal(sum)
		sum = r.Sum
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(append(line, '\n'))
	}
	return text.Bytes()
}

func FuzzReadJournal(f *testing.F) {
	f.Add(journalText(f, 3))
	f.Add([]byte("{\"n\":1}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		records, whole, err := readJournal(bytes.NewReader(text))
		if err != nil {
			return
		}
		again, length, err := readJournal(bytes.NewReader(text[:whole]))
		if err != nil || length != whole {
			t.Fatalf("read again: %d of %d bytes, %v", length, whole, err)
		}
		if diff := cmp.Diff(records, again); diff != "" {
			t.Fatal(diff)
		}
		tables := newTables()
		for _, r := range records {
			statementNamed(r.Statement).apply(tables, r.Args) // must not panic
		}
	})
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
		d, err := OpenDatabase(DatabaseOptions{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		newSession(d, mute{text: bytes.NewReader(text)}).run(t.Context())
		if err := d.journal.file.Close(); err != nil {
			t.Fatal(err)
		}
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

// pair is a primary and its standby.
type pair struct {
	primary, standby               *Database
	primaryAddress, standbyAddress string
	stopPrimary, stopStandby       func()
}

func startPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{primary: openDatabase(t, DatabaseOptions{Password: testPassword})}
	p.primaryAddress, p.stopPrimary = startDatabase(t, p.primary)
	p.standby = openDatabase(t, DatabaseOptions{Password: testPassword, StandbyOf: p.primaryAddress})
	p.standbyAddress, p.stopStandby = startDatabase(t, p.standby)
	awaitAttached(t, p.primary)
	return p
}

func awaitAttached(t *testing.T, primary *Database) {
	t.Helper()
	eventually(t, func() string {
		primary.mu.RLock()
		defer primary.mu.RUnlock()
		for s := range primary.standbys {
			if s.attached {
				return ""
			}
		}
		return "no standby is attached"
	})
}

func secretURL(address string) string {
	return "postgres://bookstore:" + testPassword + "@" + address + "/bookstore?sslmode=disable"
}

func TestStandbyHasEveryAcknowledgedWriteWhenPromoted(t *testing.T) {
	p := startPair(t)
	c := openCatalog(t, secretURL(p.primaryAddress))
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for seq := range int64(50) {
				if err := c.record(t.Context(), "writer-"+strconv.Itoa(i), seq); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	p.stopPrimary()
	after := openCatalog(t, secretURL(p.standbyAddress))
	if err := after.record(t.Context(), "late", 1); stateOf(err) != stateReadOnly {
		t.Errorf("write on a standby: %v", err)
	}
	if _, err := after.run(t.Context(), promoteStandby); err != nil {
		t.Fatal(err)
	}
	stored := storedIn(t, after)
	for i := range 4 {
		for seq := range 50 {
			if entry := fmt.Sprintf("writer-%d %d", i, seq); !stored(entry) {
				t.Errorf("%s was acknowledged and is not on the promoted standby", entry)
			}
		}
	}
	if err := after.record(t.Context(), "late", 1); err != nil {
		t.Errorf("write on the promoted standby: %v", err)
	}
	p.stopStandby()
	again := openDatabase(t, DatabaseOptions{Dir: p.standby.options.Dir, StandbyOf: p.primaryAddress, Password: testPassword})
	defer again.journal.file.Close()
	if again.recovering() {
		t.Error("a promoted standby is a standby again after a restart")
	}
}

func TestReadOnlyCheckCatchesAStandbyThatTakesWrites(t *testing.T) {
	p := startPair(t)
	p.standby.planted = standbyTakesWrites
	c := openCatalog(t, secretURL(p.standbyAddress))
	if err := c.record(t.Context(), "w", 1); stateOf(err) == stateReadOnly {
		t.Error("the planted bug did not show")
	}
}

// ackWaitsForStandby says whether a write is acknowledged only once a standby, that takes its time, has said that it has it.
func ackWaitsForStandby(t *testing.T, bug plantedBug) bool {
	t.Helper()
	d := openDatabase(t, DatabaseOptions{})
	d.planted = bug
	address, _ := startDatabase(t, d)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stub := &Database{options: DatabaseOptions{}}
	if err := stub.introduce(conn); err != nil {
		t.Fatal(err)
	}
	if err := writeLine(conn, position{}); err != nil {
		t.Fatal(err)
	}
	awaitAttached(t, d)
	acked := make(chan error, 1)
	go func() {
		_, err := d.execute(context.Background(), createLedger, nil)
		acked <- err
	}()
	var got delivery
	for lines := bufio.NewReader(conn); got.Record == nil; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-acked:
		return false
	case <-time.After(standbyPatience / 4): // the time in which a wrong acknowledgement would show
	}
	if err := writeLine(conn, position{got.Record.Number, got.Record.Sum}); err != nil {
		t.Fatal(err)
	}
	if err := <-acked; err != nil {
		t.Fatal(err)
	}
	return true
}

func TestWriteIsAcknowledgedOnlyWithTheStandby(t *testing.T) {
	if !ackWaitsForStandby(t, noBug) {
		t.Error("a write was acknowledged before the attached standby had it")
	}
}

func TestStandbyCheckCatchesAnEarlyAcknowledgement(t *testing.T) {
	if ackWaitsForStandby(t, ackBeforeStandby) {
		t.Error("a primary that does not wait for its standby passed")
	}
}

func TestPrimaryGoesOnWithoutASilentStandby(t *testing.T) {
	d := openDatabase(t, DatabaseOptions{})
	address, _ := startDatabase(t, d)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := (&Database{}).introduce(conn); err != nil {
		t.Fatal(err)
	}
	if err := writeLine(conn, position{}); err != nil {
		t.Fatal(err)
	}
	awaitAttached(t, d)
	if _, err := d.execute(t.Context(), createLedger, nil); err != nil {
		t.Fatal(err)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	for s := range d.standbys {
		if s.attached {
			t.Error("a standby that did not answer is still waited for")
		}
	}
}

func TestStandbyCatchesUpAfterItWasAway(t *testing.T) {
	p := startPair(t)
	c := openCatalog(t, secretURL(p.primaryAddress))
	if err := c.record(t.Context(), "writer-0", 0); err != nil {
		t.Fatal(err)
	}
	p.stopStandby()
	for seq := int64(1); seq < 20; seq++ {
		if err := c.record(t.Context(), "writer-0", seq); err != nil {
			t.Fatal(err)
		}
	}
	back := openDatabase(t, DatabaseOptions{Dir: p.standby.options.Dir, StandbyOf: p.primaryAddress, Password: testPassword})
	address, _ := startDatabase(t, back)
	awaitAttached(t, p.primary)
	seqs, err := openCatalog(t, secretURL(address)).recorded(t.Context(), "writer-0")
	if err != nil || len(seqs) != 20 {
		t.Errorf("%d of 20 entries on the standby: %v", len(seqs), err)
	}
}

func TestStandbyWithAnotherHistoryIsRefused(t *testing.T) {
	primary := openDatabase(t, DatabaseOptions{})
	address, _ := startDatabase(t, primary)
	if err := openCatalog(t, urlOf(address)).record(t.Context(), "w", 1); err != nil {
		t.Fatal(err)
	}
	stranger := t.TempDir()
	if err := os.WriteFile(filepath.Join(stranger, journalName), journalText(t, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openDatabase(t, DatabaseOptions{Dir: stranger, StandbyOf: address})
	if err := d.Serve(t.Context(), listen(t)); !errors.Is(err, errRefused) {
		t.Errorf("got %v, want a refusal", err)
	}
}
