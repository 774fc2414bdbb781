package bookstore

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Replication runs over an ordinary client connection that named replicationParameter at its start: the standby says what it has, the
// primary sends the records that follow, one JSON line each, and the standby answers each line once it is on its own disk.
//
//	standby                         primary
//	{"have":7,"sum":..}  ─────────▶ (is 7 what I have too?)
//	                     ◀───────── {"record":{"n":8,..}}
//	{"have":8,"sum":..}  ─────────▶ (a commit may be acknowledged)
//	                     ◀───────── {}                        each heartbeat, so that both notice a dead line

const (
	// standbyPatience is how long a commit waits for an attached standby before the primary goes on alone. Under the service's own
	// deadline, so that losing a standby costs one slow write and no failed one.
	standbyPatience = 1 * time.Second

	heartbeatEvery    = 500 * time.Millisecond
	heartbeatPatience = 2 * time.Second // three missed heartbeats and a margin
	reconnectAfter    = 200 * time.Millisecond
)

// position is what a standby has.
type position struct {
	Have uint64 `json:"have"`
	Sum  uint32 `json:"sum"`
}

// delivery is a line to a standby: a record, a refusal, or, empty, a heartbeat.
type delivery struct {
	Record  *record `json:"record,omitempty"`
	Refused string  `json:"refused,omitempty"`
}

// standby is one that is connected to this primary.
type standby struct {
	conn     net.Conn
	have     uint64        // guarded by Database.mu
	attached bool          // guarded by Database.mu: it had everything once, so commits wait for it
	moved    chan struct{} // guarded by Database.mu: closed and replaced when have grew
	gone     chan struct{} // closed when it is no longer connected
}

// feed sends records to a standby until the connection breaks or ctx is done.
func (d *Database) feed(ctx context.Context, conn net.Conn) {
	lines := bufio.NewReader(conn)
	at, err := readPosition(conn, lines)
	if err != nil {
		return
	}
	if refusal := d.refusal(at); refusal != "" {
		d.log.Error("standby refused", "standby", conn.RemoteAddr().String(), "reason", refusal)
		if err := writeLine(conn, delivery{Refused: refusal}); err != nil {
			d.log.Debug("refused standby left early", "error", err)
		}
		return
	}
	s := &standby{conn: conn, have: at.Have, moved: make(chan struct{}), gone: make(chan struct{})}
	d.mu.Lock()
	d.standbys[s] = true
	s.attached = s.have == uint64(len(d.journal.records))
	d.mu.Unlock()
	d.log.Info("standby connected", "standby", conn.RemoteAddr().String(), "have", at.Have)

	sent := make(chan struct{})
	go func() {
		defer close(sent)
		defer conn.Close()
		d.send(ctx, s, at.Have)
	}()
	err = d.receive(s, lines)
	conn.Close()
	d.mu.Lock()
	delete(d.standbys, s)
	d.mu.Unlock()
	close(s.gone)
	<-sent
	d.log.Info("standby lost", "standby", conn.RemoteAddr().String(), "reason", err)
}

// refusal says why a standby at this position cannot follow, "" when it can.
func (d *Database) refusal(at position) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	switch {
	case d.tables.recovering:
		return "this database is a standby itself"
	case at.Have > uint64(len(d.journal.records)):
		return fmt.Sprintf("the standby has %d records and the primary only %d", at.Have, len(d.journal.records))
	case d.journal.sumAt(at.Have) != at.Sum:
		return fmt.Sprintf("the standby's history differs from the primary's at or before record %d", at.Have)
	}
	return ""
}

// send writes every record behind number to the standby as it appears.
func (d *Database) send(ctx context.Context, s *standby, number uint64) {
	heartbeat := time.NewTicker(heartbeatEvery)
	defer heartbeat.Stop()
	for {
		d.mu.RLock()
		news, grown := d.journal.records[number:], d.grown
		d.mu.RUnlock()
		for i := range news {
			if writeLine(s.conn, delivery{Record: &news[i]}) != nil {
				return
			}
		}
		number += uint64(len(news))
		select {
		case <-ctx.Done():
			return
		case <-s.gone:
			return
		case <-grown:
		case <-heartbeat.C:
			if writeLine(s.conn, delivery{}) != nil {
				return
			}
		}
	}
}

// receive takes the standby's answers until the connection breaks.
func (d *Database) receive(s *standby, lines *bufio.Reader) error {
	for {
		at, err := readPosition(s.conn, lines)
		if err != nil {
			return err
		}
		d.mu.Lock()
		if at.Have > uint64(len(d.journal.records)) || at.Have < s.have || at.Sum != d.journal.sumAt(at.Have) {
			d.mu.Unlock()
			return fmt.Errorf("the standby answered %d records with another content", at.Have)
		}
		if at.Have > s.have {
			s.have = at.Have
			close(s.moved)
			s.moved = make(chan struct{})
		}
		s.attached = s.attached || s.have == uint64(len(d.journal.records))
		d.mu.Unlock()
	}
}

// awaitStandbys returns nil when every attached standby has the record or was dropped for taking too long. Any other end is an error,
// for the write may not be acknowledged then.
func (d *Database) awaitStandbys(ctx context.Context, number uint64) error {
	patience := time.NewTimer(standbyPatience)
	defer patience.Stop()
	for {
		late, moved := d.lateStandby(number)
		if late == nil {
			return nil
		}
		select {
		case <-moved:
		case <-late.gone:
		case <-ctx.Done():
			return &sqlError{state: "57P01", message: "the database is shutting down; the write may not have reached the standby"}
		case <-patience.C:
			d.log.Warn("standby dropped: no answer", "standby", late.conn.RemoteAddr().String(), "record", number)
			d.mu.Lock()
			late.attached = false
			d.mu.Unlock()
			late.conn.Close()
			patience.Reset(standbyPatience)
		}
	}
}

func (d *Database) lateStandby(number uint64) (*standby, chan struct{}) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for s := range d.standbys {
		if s.attached && s.have < number {
			return s, s.moved
		}
	}
	return nil, nil
}

// errRefused ends a standby: its primary will never take it.
var errRefused = errors.New("the primary refuses this standby; remove its data directory to copy everything again")

// follow keeps this standby connected to its primary until ctx is done or it is promoted. An error means that it can never follow.
func (d *Database) follow(ctx context.Context) error {
	var said string
	for {
		err := d.followOnce(ctx)
		select {
		case <-d.promoted:
			return nil
		case <-ctx.Done():
			return nil
		default:
		}
		if errors.Is(err, errRefused) {
			return err
		}
		if text := err.Error(); text != said { // once for each reason, not five times a second
			said = text
			d.log.Warn("primary lost", "primary", d.options.StandbyOf, "reason", err)
		}
		select {
		case <-ctx.Done():
		case <-d.promoted:
		case <-time.After(reconnectAfter):
		}
	}
}

func (d *Database) followOnce(ctx context.Context) error {
	dialer := net.Dialer{Timeout: heartbeatPatience}
	conn, err := dialer.DialContext(ctx, "tcp", d.options.StandbyOf)
	if err != nil {
		return err
	}
	defer conn.Close()
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
		case <-d.promoted:
		case <-ended:
		}
		conn.Close()
	}()
	defer func() { close(ended); <-watched }()
	if err := d.introduce(conn); err != nil {
		return err
	}
	lines := bufio.NewReader(conn)
	for {
		if err := d.report(conn); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(heartbeatPatience)); err != nil {
			return err
		}
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		if err := d.receiveDelivery(line); err != nil {
			return err
		}
	}
}

// introduce logs in to the primary and asks for the stream. The primary sends nothing behind its consent until it is told our
// position, so the frontend cannot have read too far.
func (d *Database) introduce(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(startupPatience)); err != nil {
		return err
	}
	wire := pgproto3.NewFrontend(conn, conn)
	wire.Send(&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters:      map[string]string{"user": databaseRole, "database": databaseRole, replicationParameter: "1"},
	})
	for {
		if err := wire.Flush(); err != nil {
			return err
		}
		message, err := wire.Receive()
		if err != nil {
			return err
		}
		switch message := message.(type) {
		case *pgproto3.AuthenticationCleartextPassword:
			wire.Send(&pgproto3.PasswordMessage{Password: d.options.Password})
		case *pgproto3.AuthenticationOk:
			return conn.SetDeadline(time.Time{})
		case *pgproto3.ErrorResponse:
			return &sqlError{state: message.Code, message: message.Message}
		default:
			return fmt.Errorf("the primary answered %T: it is no Bookstore database", message)
		}
	}
}

// report tells the primary what is on our disk.
func (d *Database) report(conn net.Conn) error {
	d.mu.RLock()
	at := position{Have: uint64(len(d.journal.records)), Sum: d.journal.sum()}
	d.mu.RUnlock()
	return writeLine(conn, at)
}

func (d *Database) receiveDelivery(line []byte) error {
	var got delivery
	if err := json.Unmarshal(line, &got); err != nil {
		return fmt.Errorf("line of the primary: %w", err)
	}
	if got.Refused != "" {
		return fmt.Errorf("%s: %w", got.Refused, errRefused)
	}
	if got.Record == nil {
		return nil
	}
	d.commits.Lock()
	defer d.commits.Unlock()
	if !d.recovering() {
		return errors.New("promoted")
	}
	if err := got.Record.follows(uint64(len(d.journal.records))+1, d.journal.sum()); err != nil {
		return err
	}
	if err := d.write(*got.Record); err != nil {
		return err
	}
	d.reveal(statementNamed(got.Record.Statement), got.Record.Args)
	return nil
}

func readPosition(conn net.Conn, lines *bufio.Reader) (position, error) {
	var at position
	if err := conn.SetReadDeadline(time.Now().Add(heartbeatPatience)); err != nil {
		return at, err
	}
	line, err := lines.ReadSlice('\n')
	if err != nil {
		if errors.Is(err, bufio.ErrBufferFull) {
			return at, io.ErrShortBuffer
		}
		return at, err
	}
	return at, json.Unmarshal(line, &at)
}

func writeLine(conn net.Conn, value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(heartbeatPatience)); err != nil {
		return err
	}
	_, err = conn.Write(append(line, '\n'))
	return err
}
