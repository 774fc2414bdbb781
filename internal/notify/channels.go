package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/smtp"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// permanent is an error that no further try mends.
type permanent struct{ error }

func asPermanent(err error, target *permanent) bool { return errors.As(err, target) }

// pagerDuty is where PagerDuty takes events; an action may name another place that speaks the same.
const pagerDuty = "https://events.pagerduty.com/v2/enqueue"

func newChannel(action drill.Action, directory string) (channel, error) {
	secret := func(path string) (string, error) {
		if path == "" {
			return "", nil
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(directory, path)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		word := strings.TrimSpace(string(text))
		if word == "" || strings.ContainsAny(word, "\r\n") {
			return "", fmt.Errorf("%s: one line with the secret is wanted", path)
		}
		return word, nil
	}
	address := func(h drill.HTTPAction) (string, error) {
		if h.URLFile == "" {
			return h.URL, nil
		}
		text, err := secret(h.URLFile)
		if err != nil {
			return "", err
		}
		if parsed, err := url.Parse(text); err != nil || parsed.Host == "" {
			return "", fmt.Errorf("%s: holds no URL", h.URLFile) // without the URL: it is a secret
		}
		return text, nil
	}
	switch {
	case action.Webhook != nil:
		to, err := address(*action.Webhook)
		key, keyErr := secret(action.Webhook.KeyFile)
		return &webhook{url: to, key: []byte(key), body: plainBody}, errors.Join(err, keyErr)
	case action.Slack != nil:
		to, err := address(*action.Slack)
		return &webhook{url: to, body: slackBody}, err
	case action.PagerDuty != nil:
		key, err := secret(action.PagerDuty.KeyFile)
		to := action.PagerDuty.URL
		if to == "" {
			to = pagerDuty
		}
		return &webhook{url: to, body: func(n Notice) any { return pagerDutyBody(key, n) }}, err
	case action.Email != nil:
		password, err := secret(action.Email.PasswordFile)
		roots, rootsErr := trusted(action.Email.CAFile, directory)
		_, port, _ := net.SplitHostPort(action.Email.Server) // a server that is wrong is told of when it is called
		return &mail{settings: *action.Email, password: password, roots: roots, tlsFirst: port == submissions}, errors.Join(err, rootsErr)
	case action.SNS != nil:
		return newTopic(*action.SNS, directory)
	case len(action.Exec) > 0:
		return program(action.Exec), nil
	}
	return nil, errors.New("it tells nobody; write one of webhook, slack, pagerduty, email, sns, exec")
}

// webhook posts JSON.
type webhook struct {
	url  string
	key  []byte // signs the body; may be empty
	body func(Notice) any
}

// SignatureHeader carries the HMAC-SHA-256 of the body in hexadecimal, when the action has a key.
const SignatureHeader = "X-Firedrill-Signature"

func plainBody(n Notice) any { return n }

func slackBody(n Notice) any {
	return map[string]string{"text": headline(n) + "\n" + n.Reason}
}

func pagerDutyBody(key string, n Notice) any {
	action, severity := "trigger", "critical"
	switch n.To {
	case "OK":
		action = "resolve"
	case "INSUFFICIENT_DATA":
		severity = "warning"
	}
	source := n.Host
	if source == "" {
		source = n.Service
	}
	return map[string]any{
		"routing_key": key, "event_action": action, "dedup_key": n.Service + "/" + n.Alarm,
		"payload": map[string]any{
			"summary": headline(n), "source": source, "severity": severity, "timestamp": n.At.UTC().Format(time.RFC3339Nano),
			"custom_details": n,
		},
	}
}

func headline(n Notice) string { return fmt.Sprintf("%s: %s is %s", n.Service, n.Alarm, n.To) }

func (w *webhook) send(ctx context.Context, notice Notice) error {
	body, err := json.Marshal(w.body(notice))
	if err != nil {
		return permanent{err}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return permanent{errors.New("the address is no URL")}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "firedrill")
	if len(w.key) > 0 {
		mac := hmac.New(sha256.New, w.key)
		mac.Write(body)
		request.Header.Set(SignatureHeader, hex.EncodeToString(mac.Sum(nil)))
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the URL: it may hold a secret
		}
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be used again
	switch {
	case answer.StatusCode < 300:
		return nil
	case answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("the receiver answers %s", answer.Status)
	}
	return permanent{fmt.Errorf("the receiver answers %s", answer.Status)}
}

// submissions is the port at which a mail server speaks TLS from the first byte (RFC 8314).
const submissions = "465"

// mail sends by SMTP, encrypted where the server offers it, and always when there is a password.
type mail struct {
	settings drill.EmailAction
	password string
	roots    *x509.CertPool // who may have signed the server's certificate; nil: whom this machine trusts
	tlsFirst bool           // TLS comes before SMTP
}

func (m *mail) send(ctx context.Context, notice Notice) error {
	host, _, err := net.SplitHostPort(m.settings.Server)
	if err != nil {
		return permanent{err}
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", m.settings.Server)
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return errors.Join(err, conn.Close())
		}
	}
	if m.tlsFirst {
		conn = tls.Client(conn, m.tls(host)) // it shakes hands with the first read
	}
	client, err := smtp.NewClient(conn, host)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer client.Close()
	if err := m.greet(client, host); err != nil {
		return err
	}
	if err := client.Mail(m.settings.From); err != nil {
		return refused(err)
	}
	for _, to := range m.settings.To {
		if err := client.Rcpt(to); err != nil {
			return refused(err)
		}
	}
	writer, err := client.Data()
	if err != nil {
		return refused(err)
	}
	if _, err := writer.Write(m.message(notice)); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return refused(err)
	}
	_ = client.Quit() // it is delivered
	return nil
}

func (m *mail) greet(client *smtp.Client, host string) error {
	encrypted := m.tlsFirst
	if offered, _ := client.Extension("STARTTLS"); offered && !encrypted {
		if err := client.StartTLS(m.tls(host)); err != nil {
			return err
		}
		encrypted = true
	}
	if m.settings.User == "" {
		return nil
	}
	if !encrypted {
		return permanent{errors.New("the server offers no encryption, so the password is not sent")}
	}
	return refused(client.Auth(smtp.PlainAuth("", m.settings.User, m.password, host)))
}

func (m *mail) message(n Notice) []byte {
	var b bytes.Buffer
	header := func(name, value string) {
		fmt.Fprintf(&b, "%s: %s\r\n", name, strings.NewReplacer("\r", " ", "\n", " ").Replace(value))
	}
	header("From", m.settings.From)
	header("To", strings.Join(m.settings.To, ", "))
	header("Subject", mime.QEncoding.Encode("utf-8", strings.NewReplacer("\r", " ", "\n", " ").Replace(headline(n))))
	header("Date", n.At.Format(time.RFC1123Z))
	header("Message-ID", m.id(n))
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Auto-Submitted", "auto-generated")
	fmt.Fprintf(&b, "\r\n%s went from %s to %s at %s.\r\n\r\n%s\r\n", n.Alarm, n.From, n.To, n.At.UTC().Format(time.RFC3339), n.Reason)
	return b.Bytes()
}

// id names a notice, the same at each try: a mail that arrived although nobody said so is shown once.
func (m *mail) id(n Notice) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{n.Service, n.Alarm, n.From, n.To, n.At.UTC().Format(time.RFC3339Nano)}, "\x00")))
	_, domain, _ := strings.Cut(m.settings.From, "@")
	return "<" + hex.EncodeToString(sum[:16]) + "@" + cmp.Or(strings.Trim(domain, "<> "), "firedrill.invalid") + ">"
}

// program is started with the notice as JSON on standard input and its parts in the environment.
type program []string

func (p program) send(ctx context.Context, notice Notice) error {
	body, err := json.Marshal(notice)
	if err != nil {
		return permanent{err}
	}
	command := exec.CommandContext(ctx, p[0], p[1:]...)
	command.Stdin = bytes.NewReader(body)
	command.WaitDelay = time.Second
	command.Env = append(os.Environ(), "FIREDRILL_ALARM="+notice.Alarm, "FIREDRILL_FROM="+notice.From, "FIREDRILL_TO="+notice.To,
		"FIREDRILL_HOST="+notice.Host, "FIREDRILL_REASON="+notice.Reason, "FIREDRILL_SERVICE="+notice.Service)
	out, err := command.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return permanent{err}
	}
	if err != nil {
		return fmt.Errorf("%w: %.200s", err, bytes.TrimSpace(out))
	}
	return nil
}
