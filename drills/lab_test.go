package drills_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"firedrill/drills"
	"firedrill/internal/cli"
	"firedrill/internal/drill"
	"firedrill/internal/lab"
)

// On a lab's hosts the test binary is the program "firedrill", and with these words a client.
const (
	wordRequest = "test-request" // METHOD URL BODY: prints status and body
	wordCount   = "test-count"   // URL: prints how many entries a database's ledger has
)

func TestMain(m *testing.M) {
	lab.Reexec()
	if filepath.Base(os.Args[0]) != "firedrill" {
		os.Exit(m.Run())
	}
	if len(os.Args) > 2 && (os.Args[1] == wordRequest || os.Args[1] == wordCount) {
		if err := clientMain(os.Args[1:], os.Stdout); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

func clientMain(args []string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if args[0] == wordCount {
		conn, err := pgconn.Connect(ctx, args[1])
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		result := conn.ExecParams(ctx, "select count(*) from ledger", nil, nil, nil, nil).Read()
		if result.Err != nil {
			return result.Err
		}
		fmt.Fprintf(out, "%s", result.Rows[0][0])
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, args[1], args[2], strings.NewReader(strings.Join(args[3:], "")))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	fmt.Fprintf(out, "%d %s", response.StatusCode, body)
	return err
}

// labPatience bounds what must happen at all on a slow machine; nothing is asserted about how fast it is.
const labPatience = 60 * time.Second

// bookstoreLab is a lab that is up.
type bookstoreLab struct {
	*lab.Lab
}

func upBookstore(t *testing.T, name string) bookstoreLab {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), labPatience)
	defer cancel()
	up, err := lab.Up(ctx, topology(t, name), lab.Options{})
	if drill.KindOf(err) == drill.Unsupported && !required("kernel") {
		t.Skipf("no lab on this machine: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, drill.HintOf(err))
	}
	l := bookstoreLab{up}
	t.Cleanup(func() {
		if t.Failed() {
			l.showLogs(t)
		}
		ctx, cancel := context.WithTimeout(context.Background(), labPatience)
		defer cancel()
		if err := up.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	return l
}

// required says whether the gate forbids to skip what needs this.
func required(what string) bool {
	words := strings.FieldsFunc(os.Getenv("FIREDRILL_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	return slices.Contains(words, what)
}

func (l bookstoreLab) showLogs(t *testing.T) {
	t.Helper()
	statuses, err := l.Status(context.Background())
	t.Logf("%+v %v", statuses, err)
	for _, status := range statuses {
		for _, service := range status.Services {
			text, err := l.ReadFile(context.Background(), status.Name, "/var/log/"+service.Name+".log")
			t.Logf("%s %s: %v\n%s", status.Name, service.Name, err, text[max(0, len(text)-3000):])
		}
	}
}

// run runs our program on a host and returns what it printed, "exit N: ..." when it failed.
func (l bookstoreLab) run(t *testing.T, host string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), labPatience)
	defer cancel()
	var out bytes.Buffer
	code, err := l.Exec(ctx, host, lab.Cmd{Args: args, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatalf("%s: %v: %v", host, args, err)
	}
	if code != 0 {
		return fmt.Sprintf("exit %d: %s", code, out.String())
	}
	return out.String()
}

func (l bookstoreLab) ask(t *testing.T, method, url, body string) string {
	t.Helper()
	return l.run(t, "client", "firedrill", wordRequest, method, url, body)
}

// becomes waits until what is said contains part.
func becomes(t *testing.T, what, part string, said func() string) {
	t.Helper()
	deadline := time.Now().Add(labPatience)
	for {
		got := said()
		if strings.Contains(got, part) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: never %q, last %q", what, part, got)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// publish puts the application onto a host as a deployment does, and restarts the service.
func (l bookstoreLab) publish(t *testing.T, host string) {
	t.Helper()
	const directory = "/home/ubuntu/apps/bookstore_api"
	app, err := fs.Sub(drills.Files(), "bookstore/app")
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(app, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(app, name)
		if err != nil {
			return err
		}
		return l.WriteFile(t.Context(), host, path.Join(directory, "releases/1", name), text, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	if said := l.run(t, host, "ln", "-s", "releases/1", directory+"/current"); said != "" {
		t.Fatal(said)
	}
	if said := l.run(t, host, "sudo", "systemctl", "restart", "bookstore"); strings.HasPrefix(said, "exit") {
		t.Fatal(said)
	}
}

func TestBookstoreWorksInTheLab(t *testing.T) { testInLab(t, "bookstore/topology.yaml") }

func TestBookstoreWorksInTheLabWithRealServers(t *testing.T) {
	if os.Getuid() != 0 {
		if required("postgresql") {
			t.Fatal("real servers change users: root only")
		}
		t.Skip("real servers change users: root only")
	}
	for _, program := range []string{"/usr/sbin/sshd", "/usr/lib/postgresql/15/bin/postgres", "/usr/sbin/nginx"} {
		if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) && !required("postgresql") {
			t.Skipf("%s is not installed", program)
		}
	}
	testInLab(t, "bookstore/topology-real.yaml")
}

func testInLab(t *testing.T, name string) {
	l := upBookstore(t, name)
	becomes(t, "blue without a release", "503 {\"error\":\"nothing is published", func() string {
		return l.ask(t, "GET", "http://10.77.1.10/version", "")
	})
	for _, host := range []string{"blue", "green"} {
		l.publish(t, host)
		becomes(t, host, `200 {"environment":"bookstore-api-`+host+`","version":7`, func() string {
			return l.ask(t, "GET", "http://bookstore-api-"+host+"/healthy", "")
		})
	}
	becomes(t, "the name", `"environment":"bookstore-api-blue"`, func() string {
		return l.ask(t, "GET", "http://bookstore.example.test/books/", "")
	})
	becomes(t, "the CDN", `"online"`, func() string {
		return l.ask(t, "GET", "http://bookstore.example.test/static/status.json", "")
	})

	if said := l.ask(t, "POST", "http://bookstore.example.test/ledger", `{"writer":"test","seq":1}`); !strings.HasPrefix(said, "201") {
		t.Fatalf("write: %s", said)
	}
	// A standby has what was acknowledged, and shows it as soon as it has replayed it.
	becomes(t, "the standby's ledger", "1", func() string {
		return l.run(t, "client", "firedrill", wordCount, "postgres://bookstore:paperback@10.77.2.11/bookstore")
	})

	for _, host := range []string{"db-a", "blue"} {
		if err := l.PowerOff(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		if err := l.Boot(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		becomes(t, "blue after a power cut of "+host, "200", func() string {
			return l.ask(t, "GET", "http://bookstore-api-blue/healthy", "")
		})
	}
	becomes(t, "the ledger after the power cuts", `200 {"seqs":[1]}`, func() string {
		return l.ask(t, "GET", "http://bookstore-api-blue/ledger?writer=test", "")
	})
	becomes(t, "a write after the power cuts", "201", func() string {
		return l.ask(t, "POST", "http://bookstore-api-green/ledger", fmt.Sprintf(`{"writer":"after","seq":%d}`, time.Now().UnixNano()))
	})
}
