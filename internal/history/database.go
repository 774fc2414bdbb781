package history

// Database is what one server of a database was found to be when somebody tried to write there. It is told when that changes, and again
// every few seconds.
type Database struct {
	Database string `json:"database"`
	Host     string `json:"host"`
	Role     string `json:"role"`              // primary, standby or down
	Accepted bool   `json:"accepted"`          // the write was acknowledged
	Refused  bool   `json:"refused"`           // the server answered, and refused it
	Follows  bool   `json:"follows,omitempty"` // a standby that is connected to its primary
	Detail   string `json:"detail,omitempty"`  // why it was not acknowledged
}

// DatabaseStep is one thing that was done to move the primary of a database, in the order in which they were done.
type DatabaseStep struct {
	Database string `json:"database"`
	Step     string `json:"step"`
	Host     string `json:"host,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// What is done, in the order of a move; then what is done afterwards.
const (
	DatabaseOrdered    = "ordered"    // by an alarm
	DatabaseLooked     = "looked"     // at every server
	DatabaseChosen     = "chosen"     // which standby
	DatabaseRefused    = "refused"    // by a safeguard; nothing was promoted
	DatabaseFenced     = "fenced"     // the old primary
	DatabaseUnfenced   = "unfenced"   // it could not be, and an operator took that on himself
	DatabasePromoting  = "promoting"  // begun
	DatabasePromoted   = "promoted"   // it says so itself
	DatabaseLed        = "led"        // the name leads to it
	DatabaseWritten    = "written"    // it acknowledged a write
	DatabaseTried      = "tried"      // the old primary, with a write, which it did not acknowledge
	DatabaseSplit      = "split"      // the old primary acknowledged one: two servers take writes
	DatabaseRebuilding = "rebuilding" // a standby out of an old primary
	DatabaseRebuilt    = "rebuilt"    // it follows
	DatabaseFailed     = "failed"     // what was under way
	DatabaseArmed      = "armed"      // the primary: it comes back as a standby
	DatabaseRecorded   = "recorded"   // by the database, or its own manager, about itself
)
