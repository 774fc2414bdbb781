package lab

import (
	"fmt"
	"path/filepath"

	"firedrill/internal/drill"
)

// packages are the Debian packages of programs whose package has another name.
var packages = map[string]string{
	"sshd": "openssh-server", "ssh": "openssh-client", "sftp": "openssh-client", "scp": "openssh-client",
	"postgres": "postgresql", "initdb": "postgresql", "pg_ctl": "postgresql", "pg_basebackup": "postgresql", "psql": "postgresql-client",
	"nft": "nftables", "ip": "iproute2", "tc": "iproute2", "ping": "iputils-ping", "dig": "bind9-dnsutils", "named": "bind9",
	"gunicorn": "gunicorn", "python3": "python3", "java": "default-jre-headless", "node": "nodejs",
}

// programPlaces are where the machine keeps programs; databases keep theirs apart.
var programPlaces = []string{
	"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/postgresql/*/bin", "/usr/lib/*/bin",
}

// need refuses a program that this machine lacks, and names the package that has it.
func need(name string) error {
	for _, place := range programPlaces {
		found, _ := filepath.Glob(filepath.Join(place, name)) // the patterns are ours and well formed
		for _, path := range found {
			if executable(path) {
				return nil
			}
		}
	}
	pkg, known := packages[name]
	if !known {
		pkg = name
	}
	return &drill.Error{Op: "lab up", Kind: drill.Unsupported, Err: fmt.Errorf("the program %s is not on this machine", name), Hint: "Install it: sudo apt-get install " + pkg}
}
