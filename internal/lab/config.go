package lab

// worldConfig is what the caller tells the world.
type worldConfig struct {
	Topology Topology `json:"topology"`
	Exe      string   `json:"exe"`    // this program, a path of the machine
	Binary   string   `json:"binary"` // what hosts find as "firedrill"
	Mark     string   `json:"mark"`   // in the environment of every process of the lab
	Rootless bool     `json:"rootless"`
	Listens  bool     `json:"listens"`
	Orphan   bool     `json:"orphan"` // test hook, the planted bug: outlive the caller
}

// initConfig is what the world tells the init of a host.
type initConfig struct {
	Topology Topology          `json:"topology"`
	Name     string            `json:"name"`
	Mark     string            `json:"mark"`
	Rootless bool              `json:"rootless"`
	First    bool              `json:"first"` // the disk is new
	Links    map[string]string `json:"links"` // top-level links of the machine, as bin to usr/bin
	Trees    []string          `json:"trees"` // top-level directories of the machine that hosts share, read-only
	EtcLinks bool              `json:"etc_links"`
	Keys     map[string]keys   `json:"keys"` // public halves of all hosts, private ones of this host
}

// markVariable is in the environment of every process of a lab: what finds them from outside, in tests and by hand.
const markVariable = "FIREDRILL_LAB"

// Where the world keeps things, in its own tmpfs; see worldMounts.
const (
	worldMachine = "/machine"  // the machine's file system
	worldBase    = "/base"     // what all hosts see of it, read-only
	worldHosts   = "/hosts"    // NAME: the disk of a host
	worldState   = "/state"    // NAME: the private layer of its /etc
	worldDirs    = "/etc-dirs" // the directories of the machine's /etc, but ours; see directoriesOf
)

// Where a host keeps what is ours, on its volatile /run.
const (
	hostRun       = "/run/firedrill"
	hostBin       = hostRun + "/bin"
	controlSocket = hostRun + "/init.sock"
	hostBootID    = hostRun + "/boot_id"
	hostEtc       = hostRun + "/etc"  // the machine's /etc where overlayfs is not to be had
	hostOld       = hostRun + "/.old" // the world's view, until init lets go of it
)

// Sizes of the tmpfs of a host. A lab that fills its disks, as rehearsals do, must not take the machine's memory with it.
const (
	diskSize  = "512m" // the disk, which is also / : a small PostgreSQL and some releases fit
	tmpSize   = "256m" // /tmp
	runSize   = "64m"  // /run
	shmSize   = "256m" // /dev/shm, for databases
	worldSize = "256m" // private layers of /etc, all hosts together
)

// hostPath is the PATH of everything that runs on a host.
const hostPath = hostBin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
