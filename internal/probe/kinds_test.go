package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/history"
	"firedrill/internal/tether"
)

// certificate makes a key pair for localhost that ends after a while, signed by itself; the file holds what trusts it.
func certificate(t *testing.T, length time.Duration) (pair tls.Certificate, file string, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(length), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, bytes []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, write("ca.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret)
}

// try makes one attempt.
func try(t *testing.T, spec Spec) result {
	t.Helper()
	spec.Name, spec.Every = "x", second
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	switch work := (&runner{}).task(spec).(type) {
	case *sampler:
		return work.attempt(ctx, spec)
	default:
		t.Fatalf("%s is no sampler", spec.Kind)
	}
	return result{}
}

func wants(t *testing.T, name string, got result, cause, detail string, value float64) {
	t.Helper()
	if got.cause != cause || !strings.Contains(got.detail, detail) {
		t.Errorf("%s: cause %q, %q; want %q, %q", name, got.cause, got.detail, cause, detail)
	}
	switch {
	case math.IsNaN(value) && got.value != nil:
		t.Errorf("%s: the value is %g, and there is none", name, *got.value)
	case !math.IsNaN(value) && (got.value == nil || math.Abs(*got.value-value) > .1):
		t.Errorf("%s: the value is %v, want %g", name, got.value, value)
	}
}

var none = math.NaN()

func TestTLSJudgesCertificatesAndCountsTheirDays(t *testing.T) {
	serve := func(length time.Duration) (address, file string) {
		pair, file, _ := certificate(t, length)
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		return server.Listener.Addr().String(), file
	}
	good, file := serve(10 * 24 * time.Hour)
	expired, expiredFile := serve(-24 * time.Hour)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	wants(t, "good", try(t, Spec{Kind: TLS, Address: good, CAFile: file}), "", "", 10)
	wants(t, "expired", try(t, Spec{Kind: TLS, Address: expired, CAFile: expiredFile}), history.CauseTLS, "expired", -1)
	wants(t, "of nobody that is trusted", try(t, Spec{Kind: TLS, Address: good}), history.CauseTLS, "unknown authority", 10)
	wants(t, "of another name", try(t, Spec{Kind: TLS, Address: good, CAFile: file, Server: "example.com"}), history.CauseTLS, "example.com", 10)
	wants(t, "no TLS at all", try(t, Spec{Kind: TLS, Address: plain.Listener.Addr().String()}), history.CauseTLS, "TLS", none)
	wants(t, "authorities that are not there", try(t, Spec{Kind: TLS, Address: good, CAFile: "/nowhere"}), history.CauseProber, "ca_file", none)
}

func TestCommandsAreMeasured(t *testing.T) {
	sh := func(script, value string) result {
		return try(t, Spec{Kind: Command, Command: []string{"sh", "-c", script}, Value: value})
	}
	wants(t, "good", sh("exit 0", ""), "", "", none)
	wants(t, "fails", sh("echo broken >&2; exit 3", ""), history.CauseExit, "exit status 3: broken", none)
	wants(t, "exit code", sh("exit 3", "exit_code"), history.CauseExit, "", 3)
	wants(t, "number", sh("echo 12.5", "number"), "", "", 12.5)
	wants(t, "no number", sh("echo many", "number"), history.CauseContent, `"many"`, none)
	wants(t, "number of one that fails", sh("echo 1; exit 1", "number"), history.CauseExit, "", none)
	wants(t, "not there", try(t, Spec{Kind: Command, Command: []string{"/no/such/program"}}), history.CauseProber, "", none)
	wants(t, "killed", sh("kill -9 $$", ""), history.CauseExit, "killed", none)

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	marker := filepath.Join(t.TempDir(), "child")
	got := attemptCommand(ctx, Spec{Command: []string{"sh", "-c", "sleep 60 & echo $! > " + marker + "; wait"}})
	wants(t, "hangs", got, history.CauseTimeout, "did not end in time", none)
	text, err := os.ReadFile(marker)
	pid, errPid := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || errPid != nil {
		t.Fatal(err, errPid)
	}
	for deadline := time.After(patience); syscall.Kill(pid, 0) == nil && !isZombie(pid); {
		select {
		case <-deadline:
			t.Fatal("what the command started is still there")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func isZombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}

func TestPrometheusIsAskedForOneNumber(t *testing.T) {
	answers := map[string]string{
		"one":    `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"2.5"]}]}}`,
		"scalar": `{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}`,
		"nobody": `{"status":"success","data":{"resultType":"vector","result":[]}}`,
		"two":    `{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"1"]},{"value":[1,"2"]}]}}`,
		"nan":    `{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"NaN"]}]}}`,
		"wrong":  `{"status":"error","error":"parse error"}`,
		"range":  `{"status":"success","data":{"resultType":"matrix","result":[]}}`,
		"html":   `<html>`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, answers[r.URL.Query().Get("query")])
	}))
	defer server.Close()
	ask := func(query string) result { return try(t, Spec{Kind: Query, URL: server.URL + "/", Query: query}) }
	wants(t, "one", ask("one"), "", "", 2.5)
	wants(t, "scalar", ask("scalar"), "", "", 7)
	wants(t, "nobody", ask("nobody"), history.CauseContent, "0 series", none)
	wants(t, "two", ask("two"), history.CauseContent, "put sum()", none)
	wants(t, "nan", ask("nan"), history.CauseContent, "NaN", none)
	wants(t, "wrong", ask("wrong"), history.CauseContent, "parse error", none)
	wants(t, "range", ask("range"), history.CauseContent, "matrix", none)
	wants(t, "html", ask("html"), history.CauseContent, "not Prometheus", none)
}

const postgresPrograms = "/usr/lib/postgresql/15/bin"

// postgres starts a PostgreSQL with a role for each way to log in.
func postgres(t *testing.T) (address, authorities string) {
	t.Helper()
	if _, err := os.Stat(postgresPrograms + "/initdb"); err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "postgresql") {
			t.Fatal(err)
		}
		t.Skip("PostgreSQL 15 is not installed: apt-get install postgresql-15")
	}
	dir, err := os.MkdirTemp("", "probe-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	_, ca, key := certificate(t, time.Hour)
	for to, from := range map[string]string{"server.crt": ca, "server.key": key} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var credential *syscall.Credential
	if account, err := user.Lookup("postgres"); err == nil && os.Getuid() == 0 {
		uid, _ := strconv.Atoi(account.Uid)
		gid, _ := strconv.Atoi(account.Gid)
		credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		for _, path := range []string{dir, dir + "/server.crt", dir + "/server.key"} {
			if err := os.Chown(path, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	command := func(stdin, program string, args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(postgresPrograms, program), args...)
		c.Dir, c.Stdin = dir, strings.NewReader(stdin)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Pdeathsig: syscall.SIGQUIT}
		return c
	}
	must := func(c *exec.Cmd) {
		if out, err := tether.CombinedOutput(c); err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
	}
	data := dir + "/data"
	must(command("", "initdb", "--pgdata", data, "--no-sync", "--auth", "trust", "--username", "postgres"))
	roles := "CREATE ROLE trusty LOGIN;\nSET password_encryption = 'scram-sha-256';\nCREATE ROLE scrammy LOGIN PASSWORD 'pencil';\n" +
		"CREATE ROLE clear LOGIN PASSWORD 'pencil';\nSET password_encryption = 'md5';\nCREATE ROLE old LOGIN PASSWORD 'pencil';\nCREATE DATABASE books;\n"
	must(command(roles, "postgres", "--single", "-D", data, "postgres"))
	hba := "host all trusty 127.0.0.1/32 trust\nhost all scrammy 127.0.0.1/32 scram-sha-256\nhost all old 127.0.0.1/32 md5\nhost all clear 127.0.0.1/32 password\n"
	if err := os.WriteFile(data+"/pg_hba.conf", []byte(hba), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(address)
	server := command("", "postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", dir, "-c", "ssl=on", "-c", "ssl_cert_file="+dir+"/server.crt", "-c", "ssl_key_file="+dir+"/server.key", "-c", "fsync=off")
	wait, err := tether.Start(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = wait()
	})
	for deadline := time.After(patience); ; {
		got := try(t, Spec{Kind: SQL, URL: "postgresql://trusty@" + address + "/books"})
		if got.cause == "" {
			return address, ca
		}
		select {
		case <-deadline:
			t.Fatalf("PostgreSQL does not start: %s %s", got.cause, got.detail)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestSQLLogsInToRealPostgreSQL(t *testing.T) {
	address, ca := postgres(t)
	login := func(who, password, options string) result {
		return try(t, Spec{Kind: SQL, URL: "postgresql://" + who + "@" + address + "/books" + options, Password: password, CAFile: ca})
	}
	for _, who := range []string{"scrammy", "old", "clear"} {
		wants(t, who, login(who, "pencil", ""), "", "", none)
		wants(t, who+" with a wrong password", login(who, "pen", ""), history.CauseLogin, "password authentication failed", none)
	}
	wants(t, "verified", login("scrammy", "pencil", "?sslmode=verify-full"), "", "", none)
	wants(t, "in the clear", login("scrammy", "pencil", "?sslmode=disable"), "", "", none)
	wants(t, "password in the clear", login("clear", "pencil", "?sslmode=disable"), history.CauseLogin, "not encrypted", none)
	wants(t, "nobody", login("nobody", "", ""), history.CauseLogin, "no pg_hba.conf entry", none)
	wants(t, "no such database", try(t, Spec{Kind: SQL, URL: "postgresql://trusty@" + address + "/nothing"}), history.CauseLogin, "does not exist", none)
	wants(t, "a server of nobody that is trusted", try(t, Spec{Kind: SQL, URL: "postgresql://trusty@" + address + "/books?sslmode=verify-full"}), history.CauseTLS, "unknown authority", 0)
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	if got := try(t, Spec{Kind: SQL, URL: "postgresql://a@" + plain.Listener.Addr().String()}); got.cause == "" {
		t.Error("a web server is taken for a database")
	}
}

// A server that does not know the password must not pass for one that does.
func TestSCRAMCatchesAServerThatDoesNotKnowThePassword(t *testing.T) {
	// The example of RFC 7677.
	c := &scram{password: "pencil", nonce: "rOprNGfwEbeRWgbNEkqO", bare: "n=user,r=rOprNGfwEbeRWgbNEkqO"}
	const server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	final, err := c.final(server)
	if want := "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="; err != nil || final != want {
		t.Errorf("%s, %v; want %s", final, err, want)
	}
	if err := c.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "", "v=", "e=other-error"} {
		if c.check(wrong) == nil {
			t.Errorf("%q is believed", wrong)
		}
	}
}

func TestLookupsAreHeldAgainstWhatIsWanted(t *testing.T) {
	wants(t, "good", try(t, Spec{Kind: Lookup, Query: "127.0.0.1", Answer: []string{"127.0.0.1"}}), "", "", none)
	wants(t, "another", try(t, Spec{Kind: Lookup, Query: "127.0.0.1", Answer: []string{"127.0.0.2"}}), history.CauseContent, "it leads to 127.0.0.1", none)
}
