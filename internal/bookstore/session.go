package bookstore

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// databaseRole is both the role that the service logs in as and the name of its database.
const databaseRole = "bookstore"

// replicationParameter in a startup message asks for the stream of records instead of a session.
const replicationParameter = "firedrill_replication"

// startupPatience bounds how long a connection may take to say who it is.
const startupPatience = 5 * time.Second

// maxMessage bounds a client's message; the longest that the service sends is a book's title.
const maxMessage = 1 << 20

// session is one client's connection to the stand-in.
type session struct {
	database   *Database
	conn       net.Conn
	wire       *pgproto3.Backend
	statements map[string]*statement
	portals    map[string]portal
	skipping   bool // after an error of the extended protocol, until the next Sync
}

// portal is a statement with its parameters.
type portal struct {
	statement *statement
	args      []string
}

func newSession(d *Database, conn net.Conn) *session {
	wire := pgproto3.NewBackend(conn, conn)
	wire.SetMaxBodyLen(maxMessage)
	return &session{
		database: d, conn: conn, wire: wire,
		statements: map[string]*statement{}, portals: map[string]portal{},
	}
}

// run serves the connection until the client leaves or ctx is done; what goes wrong is the client's to know, not ours.
func (s *session) run(ctx context.Context) {
	if err := s.conn.SetDeadline(time.Now().Add(startupPatience)); err != nil {
		return
	}
	startup, err := s.greet()
	if err != nil || startup == nil {
		return
	}
	if err := s.authenticate(startup); err != nil {
		s.refuse(err)
		return
	}
	if err := s.conn.SetDeadline(time.Time{}); err != nil {
		return
	}
	if _, asked := startup.Parameters[replicationParameter]; asked {
		s.wire.Send(&pgproto3.AuthenticationOk{})
		if s.wire.Flush() == nil {
			s.database.feed(ctx, s.conn)
		}
		return
	}
	if s.welcome() != nil {
		return
	}
	for {
		message, err := s.wire.Receive()
		if err != nil {
			return
		}
		if done := s.handle(ctx, message); done {
			return
		}
	}
}

// greet reads the startup message, declining encryption; nil without an error is a connection that wants nothing more.
func (s *session) greet() (*pgproto3.StartupMessage, error) {
	for range 3 { // GSS, TLS, startup: more is not a client
		message, err := s.wire.ReceiveStartupMessage()
		if err != nil {
			return nil, err
		}
		switch message := message.(type) {
		case *pgproto3.StartupMessage:
			return message, nil
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			if _, err := s.conn.Write([]byte("N")); err != nil {
				return nil, err
			}
		default:
			return nil, nil // a cancel request: every statement here is short
		}
	}
	return nil, nil
}

func (s *session) authenticate(startup *pgproto3.StartupMessage) error {
	role := startup.Parameters["user"]
	if wanted := s.database.options.Password; wanted != "" {
		s.wire.Send(&pgproto3.AuthenticationCleartextPassword{})
		if err := s.wire.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
			return err
		}
		if err := s.wire.Flush(); err != nil {
			return err
		}
		message, err := s.wire.Receive()
		if err != nil {
			return err
		}
		given, ok := message.(*pgproto3.PasswordMessage)
		if !ok || role != databaseRole || subtle.ConstantTimeCompare([]byte(given.Password), []byte(wanted)) != 1 {
			return &sqlError{state: stateWrongPassword, message: fmt.Sprintf("password authentication failed for user %q", role)}
		}
	}
	if role != databaseRole {
		return &sqlError{state: stateUnknownRole, message: fmt.Sprintf("role %q does not exist", role)}
	}
	name := startup.Parameters["database"]
	if name == "" {
		name = role
	}
	if name != databaseRole {
		return &sqlError{state: stateUnknownDatabase, message: fmt.Sprintf("database %q does not exist", name)}
	}
	return nil
}

func (s *session) welcome() error {
	s.wire.Send(&pgproto3.AuthenticationOk{})
	for _, parameter := range [][2]string{
		{"server_version", "15.0 (bookstore stand-in)"},
		{"server_encoding", "UTF8"},
		{"client_encoding", "UTF8"},
		{"standard_conforming_strings", "on"},
		{"integer_datetimes", "on"},
		{"TimeZone", "UTC"},
	} {
		s.wire.Send(&pgproto3.ParameterStatus{Name: parameter[0], Value: parameter[1]})
	}
	s.wire.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 0}})
	return s.ready()
}

func (s *session) ready() error {
	s.wire.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return s.wire.Flush()
}

// refuse ends a connection before it became a session.
func (s *session) refuse(err error) {
	var known *sqlError
	if !errors.As(err, &known) {
		return // the connection broke: there is nobody to tell
	}
	s.wire.Send(known.response("FATAL"))
	if err := s.wire.Flush(); err != nil {
		s.database.log.Debug("refused client left early", "error", err)
	}
}

// handle answers one message; true ends the session.
func (s *session) handle(ctx context.Context, message pgproto3.FrontendMessage) bool {
	switch message.(type) {
	case *pgproto3.Terminate:
		return true
	case *pgproto3.Sync:
		s.skipping = false
		return s.ready() != nil
	}
	if s.skipping {
		return false
	}
	switch message := message.(type) {
	case *pgproto3.Query:
		s.query(ctx, message.String)
		return s.ready() != nil
	case *pgproto3.Flush:
		return s.wire.Flush() != nil
	}
	if err := s.extended(ctx, message); err != nil {
		s.fail(err)
		s.skipping = true
		return s.wire.Flush() != nil
	}
	return false
}

// query answers the simple protocol: one statement without parameters.
func (s *session) query(ctx context.Context, sql string) {
	if strings.Trim(sql, "; \t\r\n") == "" {
		s.wire.Send(&pgproto3.EmptyQueryResponse{})
		return
	}
	found, err := lookUp(sql)
	if err != nil {
		s.fail(err)
		return
	}
	rows, err := s.database.execute(ctx, found, nil)
	if err != nil {
		s.fail(err)
		return
	}
	if found.columns != nil {
		s.wire.Send(found.description())
	}
	s.sendRows(found, rows)
}

func (s *session) extended(ctx context.Context, message pgproto3.FrontendMessage) error {
	switch message := message.(type) {
	case *pgproto3.Parse:
		found, err := lookUp(message.Query)
		if err != nil {
			return err
		}
		s.statements[message.Name] = found
		s.wire.Send(&pgproto3.ParseComplete{})
	case *pgproto3.Bind:
		return s.bind(message)
	case *pgproto3.Describe:
		return s.describe(message)
	case *pgproto3.Execute:
		open, ok := s.portals[message.Portal]
		if !ok {
			return &sqlError{state: stateUnknownPortal, message: fmt.Sprintf("portal %q does not exist", message.Portal)}
		}
		rows, err := s.database.execute(ctx, open.statement, open.args)
		if err != nil {
			return err
		}
		s.sendRows(open.statement, rows)
	case *pgproto3.Close:
		if message.ObjectType == 'S' {
			delete(s.statements, message.Name)
		} else {
			delete(s.portals, message.Name)
		}
		s.wire.Send(&pgproto3.CloseComplete{})
	default:
		return &sqlError{state: stateProtocol, message: fmt.Sprintf("message %T is not understood", message)}
	}
	return nil
}

// lookUp finds what the client asks for among the statements that the stand-in knows.
func lookUp(sql string) (*statement, error) {
	if found := findStatement(sql); found != nil {
		return found, nil
	}
	return nil, &sqlError{
		state:   stateUnsupported,
		message: "this stand-in database knows only the statements of the Bookstore",
		hint:    "Use PostgreSQL for anything else.",
	}
}

func (s *session) bind(message *pgproto3.Bind) error {
	found, ok := s.statements[message.PreparedStatement]
	if !ok {
		return &sqlError{
			state:   stateUnknownStatement,
			message: fmt.Sprintf("prepared statement %q does not exist", message.PreparedStatement),
		}
	}
	for _, format := range append(message.ParameterFormatCodes, message.ResultFormatCodes...) {
		if format != pgproto3.TextFormat {
			return &sqlError{state: stateUnsupported, message: "this stand-in database speaks only the text format"}
		}
	}
	args := make([]string, len(message.Parameters))
	for i, value := range message.Parameters {
		if value == nil {
			return &sqlError{state: "23502", message: fmt.Sprintf("parameter $%d is null", i+1)}
		}
		args[i] = string(value)
	}
	s.portals[message.DestinationPortal] = portal{found, args}
	s.wire.Send(&pgproto3.BindComplete{})
	return nil
}

func (s *session) describe(message *pgproto3.Describe) error {
	var found *statement
	if message.ObjectType == 'S' {
		found = s.statements[message.Name]
		if found == nil {
			return &sqlError{state: stateUnknownStatement, message: fmt.Sprintf("prepared statement %q does not exist", message.Name)}
		}
		oids := make([]uint32, found.params)
		for i := range oids {
			oids[i] = oidText
		}
		s.wire.Send(&pgproto3.ParameterDescription{ParameterOIDs: oids})
	} else {
		open, ok := s.portals[message.Name]
		if !ok {
			return &sqlError{state: stateUnknownPortal, message: fmt.Sprintf("portal %q does not exist", message.Name)}
		}
		found = open.statement
	}
	if found.columns == nil {
		s.wire.Send(&pgproto3.NoData{})
	} else {
		s.wire.Send(found.description())
	}
	return nil
}

func (s *session) sendRows(of *statement, rows [][]string) {
	for _, row := range rows {
		values := make([][]byte, len(row))
		for i, value := range row {
			values[i] = []byte(value)
		}
		s.wire.Send(&pgproto3.DataRow{Values: values})
	}
	s.wire.Send(&pgproto3.CommandComplete{CommandTag: []byte(of.tagFor(len(rows)))})
}

func (s *session) fail(err error) {
	var known *sqlError
	if !errors.As(err, &known) {
		known = &sqlError{state: "XX000", message: err.Error()}
	}
	s.wire.Send(known.response("ERROR"))
}

func (e *sqlError) response(severity string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{
		Severity: severity, SeverityUnlocalized: severity, Code: e.state, Message: e.message, Hint: e.hint,
	}
}

func (s *statement) description() *pgproto3.RowDescription {
	fields := make([]pgproto3.FieldDescription, len(s.columns))
	for i, c := range s.columns {
		fields[i] = pgproto3.FieldDescription{
			Name: []byte(c.name), DataTypeOID: c.oid, DataTypeSize: -1, TypeModifier: -1, Format: pgproto3.TextFormat,
		}
	}
	return &pgproto3.RowDescription{Fields: fields}
}

func (s *statement) tagFor(rows int) string {
	switch {
	case s.tag == "SELECT":
		return "SELECT " + strconv.Itoa(rows)
	case strings.HasPrefix(s.tag, "INSERT"):
		return s.tag + " 1"
	}
	return s.tag
}
