package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"

	"firedrill/internal/history"
)

// The numbers of PostgreSQL's protocol, version 3.
const (
	pgVersion    = 3 << 16
	pgSSLRequest = 80877103
	pgMessageMax = 64 << 10 // ours to a log-in and a SELECT 1 are far shorter

	authOK, authCleartext, authMD5, authSASL, authSASLContinue, authSASLFinal = 0, 3, 5, 10, 11, 12
)

// attemptSQL logs in to PostgreSQL and asks SELECT 1, as an application does that has lost its connections. It speaks the protocol itself:
// the phases are ours to name, and the program that runs on hosts stays small.
func attemptSQL(ctx context.Context, spec Spec) result {
	target, err := url.Parse(spec.URL)
	if err != nil {
		return result{}.failed(history.CauseProber, "the address is not understood") // without it: it may hold a password
	}
	port := target.Port()
	if port == "" {
		port = "5432"
	}
	conn, outcome := connect(ctx, spec, target.Hostname(), port)
	if conn == nil {
		return outcome
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return outcome.failed(history.CauseProber, "%v", err)
		}
	}
	s := &pgSession{conn: conn, user: target.User.Username(), password: spec.Password, database: strings.TrimPrefix(target.Path, "/")}
	if s.database == "" {
		s.database = s.user
	}
	if outcome = s.secure(ctx, spec, target, outcome); outcome.cause != "" {
		return outcome
	}
	s.reader = bufio.NewReader(s.conn)
	if err := s.login(); err != nil {
		return outcome.failed(causeOf(err, history.CauseLogin), "log in: %s", reason(err))
	}
	if err := s.ask("SELECT 1"); err != nil {
		return outcome.failed(causeOf(err, history.CauseContent), "SELECT 1: %s", reason(err))
	}
	_ = s.send('X', nil) // a polite end; the answer is there already
	return outcome
}

// secure asks for TLS as sslmode says: disable, prefer (default), require, verify-full.
func (s *pgSession) secure(ctx context.Context, spec Spec, target *url.URL, outcome result) result {
	mode := target.Query().Get("sslmode")
	if mode == "disable" {
		return outcome
	}
	request := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), pgSSLRequest)
	if _, err := s.conn.Write(request); err != nil {
		return outcome.failed(causeOf(err, history.CauseReset), "ask for TLS: %s", reason(err))
	}
	var answer [1]byte
	if _, err := io.ReadFull(s.conn, answer[:]); err != nil {
		return outcome.failed(causeOf(err, history.CauseReset), "ask for TLS: %s", reason(err))
	}
	switch {
	case answer[0] == 'S' && mode == "verify-full":
		secure, judged := handshake(ctx, spec, s.conn, target.Hostname(), outcome)
		if secure == nil {
			return judged
		}
		s.conn = secure
	case answer[0] == 'S':
		secure := tls.Client(s.conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) // as libpq's prefer and require
		if err := secure.HandshakeContext(ctx); err != nil {
			return outcome.failed(causeOf(err, history.CauseTLS), "TLS: %s", reason(err))
		}
		s.conn = secure
	case mode == "require" || mode == "verify-full":
		return outcome.failed(history.CauseTLS, "the server offers no TLS")
	}
	return outcome
}

// pgSession is one connection to a server.
type pgSession struct {
	conn                     net.Conn
	reader                   *bufio.Reader
	user, password, database string
}

func (s *pgSession) send(kind byte, body []byte) error {
	message := []byte{}
	if kind != 0 {
		message = append(message, kind)
	}
	message = binary.BigEndian.AppendUint32(message, uint32(len(body)+4))
	_, err := s.conn.Write(append(message, body...))
	return err
}

func (s *pgSession) receive() (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(s.reader, head[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length < 4 || length > pgMessageMax {
		return 0, nil, fmt.Errorf("a message of %d bytes came; that is no PostgreSQL", length)
	}
	body = make([]byte, length-4)
	if _, err := io.ReadFull(s.reader, body); err != nil {
		return 0, nil, err
	}
	if head[0] == 'E' {
		return 0, nil, pgError(body)
	}
	return head[0], body, nil
}

// pgError makes an error of the server's fields.
func pgError(body []byte) error {
	fields := map[byte]string{}
	for len(body) > 1 {
		text, rest, _ := bytes.Cut(body[1:], []byte{0})
		fields[body[0]], body = string(text), rest
	}
	return fmt.Errorf("%s: %s (SQLSTATE %s)", fields['S'], fields['M'], fields['C'])
}

// login goes on until the server is ready for a query.
func (s *pgSession) login() error {
	body := binary.BigEndian.AppendUint32(nil, pgVersion)
	for _, text := range []string{"user", s.user, "database", s.database, "application_name", "firedrill", ""} {
		body = append(append(body, text...), 0)
	}
	if err := s.send(0, body); err != nil {
		return err
	}
	var exchange *scram
	for {
		kind, body, err := s.receive()
		if err != nil {
			return err
		}
		switch kind {
		case 'Z':
			return nil
		case 'R':
			if exchange, err = s.authenticate(body, exchange); err != nil {
				return err
			}
		}
	}
}

func (s *pgSession) authenticate(body []byte, exchange *scram) (*scram, error) {
	if len(body) < 4 {
		return nil, errors.New("the server's wish is cut short")
	}
	wish, rest := binary.BigEndian.Uint32(body), body[4:]
	switch wish {
	case authOK:
		return exchange, nil
	case authCleartext:
		if _, secure := s.conn.(*tls.Conn); !secure {
			return nil, errors.New("the server wants the password in the clear on a connection that is not encrypted")
		}
		return exchange, s.send('p', append([]byte(s.password), 0))
	case authMD5:
		inner := md5.Sum([]byte(s.password + s.user))
		outer := md5.Sum(append([]byte(hex.EncodeToString(inner[:])), rest...))
		return exchange, s.send('p', append([]byte("md5"+hex.EncodeToString(outer[:])), 0))
	case authSASL:
		if !bytes.Contains(rest, []byte("SCRAM-SHA-256\x00")) {
			return nil, errors.New("the server offers no way to log in that is known here")
		}
		exchange = &scram{password: s.password, nonce: rand.Text()}
		first := exchange.first()
		message := append([]byte("SCRAM-SHA-256\x00"), binary.BigEndian.AppendUint32(nil, uint32(len(first)))...)
		return exchange, s.send('p', append(message, first...))
	case authSASLContinue, authSASLFinal:
		if exchange == nil {
			return nil, errors.New("the server answers what was not asked")
		}
		if wish == authSASLFinal {
			return exchange, exchange.check(string(rest))
		}
		final, err := exchange.final(string(rest))
		if err != nil {
			return nil, err
		}
		return exchange, s.send('p', []byte(final))
	}
	return nil, fmt.Errorf("the server wants a way to log in (%d) that is not known here", wish)
}

// ask sends a query and wants a row.
func (s *pgSession) ask(query string) error {
	if err := s.send('Q', append([]byte(query), 0)); err != nil {
		return err
	}
	rows := 0
	for {
		kind, _, err := s.receive()
		switch {
		case err != nil:
			return err
		case kind == 'D':
			rows++
		case kind == 'Z' && rows == 1:
			return nil
		case kind == 'Z':
			return fmt.Errorf("%d rows came back", rows)
		}
	}
}

// scram is SCRAM-SHA-256 (RFC 7677) without channel binding.
type scram struct {
	password, nonce, bare string
	serverSignature       []byte
}

func (c *scram) first() string {
	c.bare = "n=,r=" + c.nonce // PostgreSQL takes the user from the start-up message
	return "n,," + c.bare
}

// iterationsMax keeps a server from having us compute for minutes.
const iterationsMax = 1_000_000

func (c *scram) final(server string) (string, error) {
	fields := map[string]string{}
	for part := range strings.SplitSeq(server, ",") {
		key, value, _ := strings.Cut(part, "=")
		fields[key] = value
	}
	salt, err := base64.StdEncoding.DecodeString(fields["s"])
	iterations, errCount := strconv.Atoi(fields["i"])
	if err != nil || errCount != nil || iterations < 1 || iterations > iterationsMax || !strings.HasPrefix(fields["r"], c.nonce) {
		return "", errors.New("the server's part of SCRAM is not understood")
	}
	salted, err := pbkdf2.Key(sha256.New, c.password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	without := "c=biws,r=" + fields["r"]
	message := []byte(c.bare + "," + server + "," + without)
	clientKey := mac(salted, []byte("Client Key"))
	stored := sha256.Sum256(clientKey)
	signature := mac(stored[:], message)
	for i := range clientKey {
		clientKey[i] ^= signature[i]
	}
	c.serverSignature = mac(mac(salted, []byte("Server Key")), message)
	return without + ",p=" + base64.StdEncoding.EncodeToString(clientKey), nil
}

// check makes sure that the server knows the password too.
func (c *scram) check(final string) error {
	text, _ := strings.CutPrefix(final, "v=")
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil || !hmac.Equal(signature, c.serverSignature) {
		return errors.New("the server does not know the password: it is not the one that it claims to be")
	}
	return nil
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}
