package drills_test

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"firedrill/drills"
	"firedrill/internal/bookstore"
	"firedrill/internal/drill"
	"firedrill/internal/failover/authority"
	"firedrill/internal/lab"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func topology(t *testing.T, name string) lab.Topology {
	t.Helper()
	parsed, err := lab.Parse(read(t, name), name)
	if err != nil {
		t.Fatalf("%v\n%s", err, drill.HintOf(err))
	}
	return parsed
}

var topologies = []string{"bookstore/topology.yaml", "bookstore/topology-real.yaml"}

func TestApplicationIsAReleaseOfTwentyFiles(t *testing.T) {
	release, err := bookstore.OpenRelease("bookstore/app")
	if err != nil {
		t.Fatal(err)
	}
	if release.Version != 7 || len(release.Seed) == 0 {
		t.Errorf("version %d with %d books", release.Version, len(release.Seed))
	}
	count := 0
	err = fs.WalkDir(drills.Files(), "bookstore/app", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		count++
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		if script := strings.HasPrefix(string(read(t, name)), "#!"); script != (info.Mode()&0o111 != 0) {
			t.Errorf("%s: script %t, mode %s", name, script, info.Mode())
		}
		return nil
	})
	if err != nil || count != 20 {
		t.Errorf("%d files, %v; the article's job transfers 20", count, err)
	}
}

func TestHostsNamesAndServiceFileAgree(t *testing.T) {
	zone, err := authority.ParseZone(read(t, "bookstore/zone.yaml"), "bookstore/zone.yaml")
	if err != nil {
		t.Fatal(err)
	}
	service, err := drill.ParseService(read(t, "bookstore/firedrill.yaml"), "bookstore/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range topologies {
		t.Run(filepath.Base(name), func(t *testing.T) {
			hosts := topology(t, name)
			byAddress := map[netip.Addr]string{}
			for _, host := range hosts.Hosts {
				byAddress[host.Address] = host.Hostname
			}
			for _, environment := range service.Environments {
				for _, host := range environment.Hosts {
					if byAddress[host.Address] != host.Name {
						t.Errorf("%s: %s is %q in the topology", host.Name, host.Address, byAddress[host.Address])
					}
				}
			}
			for _, failover := range service.Failover {
				for _, initial := range zone.Initial(failover.Name) {
					if byAddress[initial] == "" {
						t.Errorf("%s: leads to %s, which is no host", failover.Name, initial)
					}
				}
				if len(zone.Initial(failover.Name)) == 0 {
					t.Errorf("%s is no failover name of the zone", failover.Name)
				}
			}
			testPasswords(t, hosts)
		})
	}
}

// testPasswords: the services must be able to log in.
func testPasswords(t *testing.T, hosts lab.Topology) {
	t.Helper()
	var urls, passwords []string
	for _, host := range hosts.Hosts {
		for _, service := range host.Services {
			if url := service.Env["DATABASE_URL"]; url != "" {
				urls = append(urls, url)
			}
			if password := service.Env["DATABASE_PASSWORD"]; password != "" {
				passwords = append(passwords, password)
			}
		}
	}
	if len(urls) != 2 || len(slices.Compact(urls)) != 1 || len(passwords) != 2 || len(slices.Compact(passwords)) != 1 {
		t.Fatalf("urls %v, passwords %v", urls, passwords)
	}
	if !strings.Contains(urls[0], ":"+passwords[0]+"@") {
		t.Errorf("%s does not carry the password of the database", urls[0])
	}
}

func TestBothTopologiesHaveTheSameHosts(t *testing.T) {
	plain, real := topology(t, topologies[0]), topology(t, topologies[1])
	if len(plain.Hosts) != len(real.Hosts) {
		t.Fatalf("%d and %d hosts", len(plain.Hosts), len(real.Hosts))
	}
	for i := range plain.Hosts {
		if a, b := plain.Hosts[i], real.Hosts[i]; a.Name != b.Name || a.Address != b.Address || !slices.Equal(a.Trust, b.Trust) {
			t.Errorf("%s %s and %s %s differ", a.Name, a.Address, b.Name, b.Address)
		}
	}
}
