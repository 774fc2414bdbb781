package remotetest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// programArg makes a test binary the program that the suite pushes.
const programArg = "remotetest-program"

// Main is what TestMain must call first: a test binary that was pushed to a host does there what the suite asks, and ends.
func Main() {
	if len(os.Args) < 3 || os.Args[1] != programArg {
		return
	}
	switch os.Args[2] {
	case "echo":
		fmt.Print(strings.Join(os.Args[3:], " "))
	case "cat":
		fmt.Print(os.Getenv("PREFIX"))
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "serve": // until it is ended
		fmt.Println(os.Getpid(), os.Getenv("SSH_CONNECTION"))
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "revert": // asked to end, it takes its time, and has a last word
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		fmt.Println(os.Getpid())
		<-asked
		<-time.After(300 * time.Millisecond)
		fmt.Println("reverted")
		os.Exit(5)
	}
	os.Exit(0)
}

// killByID ends a process of this machine that a test started.
func killByID(pid string) {
	if id, err := strconv.Atoi(pid); err == nil && id > 1 {
		_ = syscall.Kill(id, syscall.SIGKILL)
	}
}

// await polls until a condition holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// hashHostname makes the hashed form of a name in known_hosts, as `ssh-keygen -H` does.
func hashHostname(t testing.TB, address string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	salt := make([]byte, sha1.Size)
	_, _ = rand.Read(salt)
	mac := hmac.New(sha1.New, salt)
	_, _ = io.WriteString(mac, "["+host+"]:"+port)
	return "|1|" + base64.StdEncoding.EncodeToString(salt) + "|" + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
