package lab

import (
	"fmt"
	"os"
	"path/filepath"
)

// The names that this program starts itself under. They are argv[0], which is also what `ps` on the machine shows.
const (
	nameWorld  = "firedrill-lab-world"
	nameInit   = "firedrill-lab-init"
	nameDaemon = "firedrill-lab-daemon"
	nameSFTP   = "firedrill-lab-sftp"
)

// The commands that a host has besides the machine's: links to this program.
const (
	nameSystemctl = "systemctl"
	nameSudo      = "sudo"
)

// Inherited descriptors of the world and of an init.
const (
	fdWire     = 3
	fdConfig   = 4
	fdListener = 5 // world: if asked for; daemon: none
)

// Reexec makes this process the part of a lab that it was started as, and then does not return. In all other processes it returns at once.
// A program that calls Up calls it first thing in main, or in TestMain.
func Reexec() {
	switch os.Args[0] {
	case nameWorld:
		os.Exit(explain(worldMain()))
	case nameInit:
		os.Exit(explain(initMain()))
	case nameDaemon:
		os.Exit(explain(daemonMain()))
	case nameSFTP:
		os.Exit(explain(sftpMain()))
	}
	// The names of tools are taken only on a lab host: elsewhere a link to this program may be called what it likes.
	if _, err := os.Lstat(controlSocket); err != nil {
		return
	}
	switch filepath.Base(os.Args[0]) {
	case nameSystemctl:
		os.Exit(systemctlMain(os.Args[1:], os.Stdout, os.Stderr))
	case nameSudo:
		os.Exit(sudoMain(os.Args[1:], os.Stderr))
	}
}

func explain(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
	return 70
}
