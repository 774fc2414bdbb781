package bookstore

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const postgresPrograms = "/usr/lib/postgresql/15/bin"

// requirePostgres skips where PostgreSQL is not installed, except in the gate, which says that it needs it.
func requirePostgres(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(postgresPrograms, "initdb")); err == nil {
		return
	}
	if slices.Contains(strings.FieldsFunc(os.Getenv("FIREDRILL_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' }), "postgresql") {
		t.Fatal("FIREDRILL_REQUIRE asks for PostgreSQL: apt-get install postgresql-15")
	}
	t.Skip("PostgreSQL 15 is not installed: apt-get install postgresql-15")
}

// asPostgres is a command of PostgreSQL's, which refuses to run as root.
func asPostgres(t *testing.T, dir, program string, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(postgresPrograms, program), args...)
	command.Dir = dir
	if os.Getuid() != 0 {
		return command
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
	if uidErr != nil || gidErr != nil {
		t.Fatalf("user postgres: %q:%q", account.Uid, account.Gid)
	}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	return command
}

// postgresDirectory is a directory that the user postgres can reach, unlike t.TempDir's.
func postgresDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bookstore-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func mustRun(t *testing.T, command *exec.Cmd) {
	t.Helper()
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// startPostgres starts a PostgreSQL of its own on loopback, with the role and database of the Bookstore, until the test ends.
func startPostgres(t *testing.T, password string) (address string) {
	t.Helper()
	requirePostgres(t)
	dir := postgresDirectory(t)
	data := filepath.Join(dir, "data")
	mustRun(t, asPostgres(t, dir, "initdb", "--pgdata", data, "--no-sync", "--auth", "trust", "--username", "postgres"))
	free := listen(t)
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	server := asPostgres(t, dir, "postgres", "-D", data, "-p", strconv.Itoa(port), "-h", "127.0.0.1", "-k", dir)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	server.Stdout, server.Stderr = log, log
	server.Cancel = func() error { return server.Process.Signal(syscall.SIGQUIT) }
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Process.Signal(syscall.SIGQUIT); err != nil {
			t.Error(err)
		}
		_ = server.Wait() // it was asked to end
	})
	admin := func(sql string) ([]byte, error) {
		return asPostgres(t, dir, "psql", "-h", dir, "-p", strconv.Itoa(port), "-U", "postgres", "-Xqc", sql, "postgres").CombinedOutput()
	}
	eventually(t, func() string {
		if out, err := admin("select 1"); err != nil {
			return fmt.Sprintf("PostgreSQL does not answer: %v %s", err, out)
		}
		return ""
	})
	for _, sql := range []string{
		"create role bookstore login password '" + password + "'", "create database bookstore owner bookstore",
	} {
		if out, err := admin(sql); err != nil {
			t.Fatalf("%s: %v %s", sql, err, out)
		}
	}
	rules := "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := admin("select pg_reload_conf()"); err != nil {
		t.Fatalf("reload: %v %s", err, out)
	}
	return "127.0.0.1:" + strconv.Itoa(port)
}
