package bookstore

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"
)

// These variables make the test binary a database of its own, which a test can kill.
const (
	childDirectory = "BOOKSTORE_TEST_DATABASE"
	childBug       = "BOOKSTORE_TEST_BUG"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDirectory); dir != "" {
		if err := runChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runChild(dir string) error {
	database, err := OpenDatabase(DatabaseOptions{Dir: dir})
	if err != nil {
		return err
	}
	if bug, err := strconv.Atoi(os.Getenv(childBug)); err == nil {
		database.planted = plantedBug(bug)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return database.Serve(context.Background(), listener)
}

// testPatience bounds what must happen at all; no test says how fast.
const testPatience = 20 * time.Second

// eventually polls until claim returns "", and fails with what it said last.
func eventually(t *testing.T, claim func() string) {
	t.Helper()
	deadline := time.Now().Add(testPatience)
	for {
		trouble := claim()
		if trouble == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(trouble)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// startDatabase serves a stand-in until the test ends, or stop is called; it returns its address.
func startDatabase(t *testing.T, d *Database) (address string, stop func()) {
	t.Helper()
	listener := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, listener) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("database: %v", err)
		}
	}
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}

func openDatabase(t *testing.T, options DatabaseOptions) *Database {
	t.Helper()
	if options.Dir == "" {
		options.Dir = t.TempDir()
	}
	d, err := OpenDatabase(options)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func urlOf(address string) string {
	return "postgres://bookstore@" + address + "/bookstore?sslmode=disable"
}

// openCatalog connects as the service does.
func openCatalog(t *testing.T, url string) *catalog {
	t.Helper()
	c := &catalog{pool: newPool("test", databaseURL("", url))}
	t.Cleanup(c.pool.shut)
	return c
}
