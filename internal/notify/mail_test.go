package notify

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/http/httptest"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"firedrill/internal/drill"
)

// postOffice is a mail server with TLS and a password, and what it heard in the clear and behind TLS.
type postOffice struct {
	address, ca string

	mu            sync.Mutex // guards the fields below
	clear, behind strings.Builder
}

func (p *postOffice) heard() (inClear, behindTLS string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clear.String(), p.behind.String()
}

func newPostOffice(t *testing.T, tlsFirst bool) *postOffice {
	t.Helper()
	donor := httptest.NewTLSServer(http.NotFoundHandler()) // whose certificate is for 127.0.0.1
	donor.Close()
	p := &postOffice{ca: filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(p.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: donor.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = listener.Addr().String()
	settings := &tls.Config{Certificates: donor.TLS.Certificates}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(conn, settings, tlsFirst) })
		}
	})
	return p
}

func (p *postOffice) serve(conn net.Conn, settings *tls.Config, encrypted bool) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if encrypted {
		conn = tls.Server(conn, settings)
	}
	fmt.Fprint(conn, "220 mail.example.test\r\n")
	lines, inData := bufio.NewScanner(conn), false
	for lines.Scan() {
		line := lines.Text()
		p.mu.Lock()
		to := &p.clear
		if encrypted {
			to = &p.behind
		}
		to.WriteString(line + "\n")
		p.mu.Unlock()
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case inData:
			if line == "." {
				inData = false
				fmt.Fprint(conn, "250 taken\r\n")
			}
		case verb == "EHLO" && encrypted:
			fmt.Fprint(conn, "250-mail.example.test\r\n250 AUTH PLAIN\r\n")
		case verb == "EHLO":
			fmt.Fprint(conn, "250-mail.example.test\r\n250 STARTTLS\r\n")
		case verb == "STARTTLS":
			fmt.Fprint(conn, "220 go on\r\n")
			conn, encrypted = tls.Server(conn, settings), true
			lines = bufio.NewScanner(conn)
		case verb == "AUTH" && rest == "PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00sre\x00VERYSECRET")):
			fmt.Fprint(conn, "235 welcome\r\n")
		case verb == "AUTH":
			fmt.Fprint(conn, "535 who are you\r\n")
		case verb == "DATA":
			inData = true
			fmt.Fprint(conn, "354 go on\r\n")
		case verb == "QUIT":
			fmt.Fprint(conn, "221 bye\r\n")
		default:
			fmt.Fprint(conn, "250 fine\r\n")
		}
	}
}

// A password goes to a server that is trusted, and never in the clear: with STARTTLS, and where TLS comes first.
func TestMailIsSentWithAPasswordBehindTLS(t *testing.T) {
	for _, tlsFirst := range []bool{false, true} {
		for _, row := range []struct {
			name, password string
			distrust       bool
			delivered      bool
		}{{"as it is", "VERYSECRET", false, true}, {"another password", "WRONGSECRET", false, false}, {"a server that nobody trusts", "VERYSECRET", true, false}} {
			p := newPostOffice(t, tlsFirst)
			settings := drill.EmailAction{Server: p.address, From: "firedrill@example.test", To: []string{"sre@example.test"}, User: "sre", PasswordFile: "secret", CAFile: p.ca}
			if row.distrust {
				settings.CAFile = ""
			}
			directory := t.TempDir()
			if err := os.WriteFile(filepath.Join(directory, "secret"), []byte(row.password), 0o600); err != nil {
				t.Fatal(err)
			}
			made, err := newChannel(drill.Action{Email: &settings}, directory)
			if err != nil {
				t.Fatal(err)
			}
			made.(*mail).tlsFirst = tlsFirst
			notice := raised
			notice.Service = "B\u00fccher"
			sent := made.send(t.Context(), notice)
			inClear, behind := p.heard()
			if (sent == nil) != row.delivered || strings.Contains(inClear, "AUTH") || strings.Contains(inClear, "MAIL") || strings.Contains(behind, "MAIL FROM") != row.delivered {
				t.Errorf("TLS first %v, %s: %v\nin the clear: %s\nbehind TLS: %s", tlsFirst, row.name, sent, inClear, behind)
			}
			if sent != nil && strings.Contains(sent.Error(), row.password) {
				t.Errorf("the secret is in the error: %v", sent)
			}
			if row.delivered {
				readable(t, behind)
			}
		}
	}
}

// readable reads the mail as a program of the receiver would.
func readable(t *testing.T, heard string) {
	t.Helper()
	_, text, _ := strings.Cut(heard, "DATA\n")
	message, err := netmail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(message.Header.Get("Subject"))
	if want := "B\u00fccher: " + raised.Alarm + " is ALARM"; err != nil || subject != want {
		t.Errorf("subject %q, %v; want %q", subject, err, want)
	}
	if at, err := message.Header.Date(); err != nil || !at.Equal(raised.At) {
		t.Errorf("date %v, %v", at, err)
	}
	if id := message.Header.Get("Message-ID"); !strings.HasPrefix(id, "<") || !strings.HasSuffix(id, "@example.test>") {
		t.Errorf("Message-ID %q", id)
	}
}

func TestAuthoritiesOfAMailServerAreRead(t *testing.T) {
	empty := secretFile(t, "nothing")
	for file, says := range map[string]string{"absent.pem": "absent.pem", empty: "no certificate"} {
		_, err := New([]drill.Action{{Name: "mail", Email: &drill.EmailAction{Server: "mail:465", From: "a@example.test", To: []string{"b@example.test"}, CAFile: file}}}, t.TempDir(), nil)
		if drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", file, err)
		}
	}
	made, err := newChannel(drill.Action{Email: &drill.EmailAction{Server: "mail.example.test:465"}}, "")
	if err != nil || !made.(*mail).tlsFirst {
		t.Errorf("at port 465 TLS does not come first: %v", err)
	}
}
