package bookstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
)

// DatabaseOptions says how a stand-in database runs.
type DatabaseOptions struct {
	Dir       string       // where its log lives; made when missing
	StandbyOf string       // host:port of the primary that it follows; empty: it is a primary
	Password  string       // of the role bookstore; empty: nobody is asked for one
	Log       *slog.Logger // nil: silent
}

// Database is a stand-in for PostgreSQL that knows the Bookstore's statements and no others. It speaks PostgreSQL's wire protocol, so
// the service cannot tell the difference, and keeps PostgreSQL's promise: what it acknowledged is on its disk, and on that of every
// attached standby.
//
// A standby that does not answer within standbyPatience is dropped and the primary goes on alone, as managed databases do. It is safe
// for concurrent use.
type Database struct {
	options DatabaseOptions
	log     *slog.Logger

	commits sync.Mutex // held for the length of a commit or a promotion: one after the other
	journal *journal   // written under commits and mu; read under either

	mu       sync.RWMutex // guards the fields below
	tables   *tables
	standbys map[*standby]bool
	grown    chan struct{} // closed and replaced when the journal has grown
	promoted chan struct{} // closed when a standby became primary

	planted plantedBug
}

// plantedBug makes the database break its promise, to prove that the tests would notice.
type plantedBug int

const (
	noBug              plantedBug = iota
	ackBeforeLog                  // acknowledges what is not written yet
	ackBeforeSync                 // acknowledges what a power cut would take
	ackBeforeStandby              // acknowledges without the standby
	standbyTakesWrites            // a standby that is not read-only
)

// OpenDatabase reads the log in options.Dir and returns the database as it was. An error means that the directory cannot be used or
// that the log is damaged.
func OpenDatabase(options DatabaseOptions) (*Database, error) {
	written, err := openJournal(options.Dir)
	if err != nil {
		return nil, err
	}
	d := newDatabase(options, written)
	d.tables.recovering = options.StandbyOf != "" && !wasPromoted(options.Dir)
	return d, nil
}

// newDatabase replays the log.
func newDatabase(options DatabaseOptions, written *journal) *Database {
	log := options.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &Database{
		options: options, log: log, journal: written, tables: newTables(),
		standbys: map[*standby]bool{}, grown: make(chan struct{}), promoted: make(chan struct{}),
	}
	for _, r := range written.records {
		statementNamed(r.Statement).apply(d.tables, r.Args)
	}
	return d
}

// Serve answers clients on listener, and follows the primary when the database is a standby, until ctx is done. It closes the listener
// and every connection before it returns, and the database may not be used afterwards. An error means that it could not go on.
func (d *Database) Serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()

	var running sync.WaitGroup
	if d.recovering() {
		running.Go(func() {
			if err := d.follow(ctx); err != nil {
				cancel(err)
			}
		})
	}
	err := d.accept(ctx, listener, &running)
	cancel(err)
	running.Wait()
	closed := d.journal.file.Close()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, closed)
	}
	return closed
}

// maxSessions bounds what a flood of connections can take; a Bookstore host keeps a handful.
const maxSessions = 200

func (d *Database) accept(ctx context.Context, listener net.Listener, running *sync.WaitGroup) error {
	places := make(chan struct{}, maxSessions)
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("accept database connection: %w", err)
		}
		running.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
				newSession(d, conn).run(ctx)
			default:
				newSession(d, conn).refuse(&sqlError{state: stateTooMany, message: "sorry, too many clients already"})
			}
		})
	}
}

// execute runs a statement and returns its rows; errors are *sqlError.
func (d *Database) execute(ctx context.Context, s *statement, args []string) ([][]string, error) {
	if len(args) != s.params {
		return nil, &sqlError{
			state:   stateBadParameters,
			message: fmt.Sprintf("%d parameters given, %d needed", len(args), s.params),
		}
	}
	switch {
	case s == promoteStandby:
		return d.promote()
	case s.writes():
		return d.commit(ctx, s, args)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if table := readTable(s); table != "" {
		if err := d.tables.need(table); err != nil {
			return nil, err
		}
	}
	return s.apply(d.tables, args), nil
}

// commit makes a write durable here and on the attached standbys, then visible, then acknowledges it, in this order.
func (d *Database) commit(ctx context.Context, s *statement, args []string) ([][]string, error) {
	d.commits.Lock()
	defer d.commits.Unlock()
	if err := d.admit(s, args); err != nil {
		return nil, err
	}
	r := record{Number: uint64(len(d.journal.records)) + 1, Statement: s.name, Args: args}
	r.seal(d.journal.sum())
	if d.planted == ackBeforeLog {
		return d.reveal(s, args), nil
	}
	if err := d.write(r); err != nil {
		return nil, &sqlError{state: stateIO, message: err.Error(), hint: "Free the disk, then restart the database."}
	}
	if d.planted != ackBeforeStandby {
		if err := d.awaitStandbys(ctx, r.Number); err != nil {
			return nil, err
		}
	}
	return d.reveal(s, args), nil
}

func (d *Database) admit(s *statement, args []string) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.tables.recovering && d.planted != standbyTakesWrites {
		return &sqlError{
			state:   stateReadOnly,
			message: fmt.Sprintf("cannot execute %s in a read-only transaction", s.name),
			hint:    "This is a standby: write to the primary, or promote this one with SELECT pg_promote().",
		}
	}
	return s.check(d.tables, args)
}

// write appends r to the log and wakes the senders to standbys.
func (d *Database) write(r record) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.journal.append(r); err != nil {
		return err
	}
	close(d.grown)
	d.grown = make(chan struct{})
	return nil
}

func (d *Database) reveal(s *statement, args []string) [][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return s.apply(d.tables, args)
}

func (d *Database) recovering() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.tables.recovering
}

// promote makes a standby the primary. Nothing that its primary acknowledged is missing, as long as it was attached.
func (d *Database) promote() ([][]string, error) {
	d.commits.Lock()
	defer d.commits.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.tables.recovering {
		return nil, &sqlError{state: "55000", message: "recovery is not in progress"}
	}
	if err := rememberPromotion(d.options.Dir); err != nil {
		return nil, &sqlError{state: stateIO, message: err.Error()}
	}
	d.tables.recovering = false
	close(d.promoted)
	d.log.Info("promoted to primary", "records", len(d.journal.records))
	return [][]string{{"t"}}, nil
}
