package conductor

import (
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// TaskKind says what a task does.
type TaskKind int

// The kinds of tasks that the crew carries out.
const (
	TaskInspect  TaskKind = iota // look at Hosts: release, health, what is in force
	TaskDeploy                   // publish to Environment
	TaskPromote                  // move the answer to Environment
	TaskRollback                 // switch Environment to its release before
	TaskAttack                   // run Order on Host until it ends or is stopped
	TaskLedger                   // write and count acknowledged writes until stopped
	TaskJudge                    // judge the step from the log
	TaskDrain                    // count what Hosts still serve until stopped
)

var taskNames = [...]string{"inspect", "deploy", "promote", "roll back", "attack", "ledger", "judge", "drain"}

// Task is one piece of work. Tasks run side by side; each ends with exactly one Ended input.
type Task struct {
	ID          int
	Kind        TaskKind
	Step        int
	Environment string
	Hosts       []drill.Host // inspect: which; attack: exactly one
	Order       drill.Order
	GUID        string
	Client      drill.Client // ledger
	Back        bool         // it goes back after a gate has failed
}

// String names the task for people: "attack on bookstore-api-green".
func (t Task) String() string {
	where := t.Environment
	if len(t.Hosts) == 1 {
		where = t.Hosts[0].Name
	}
	if where == "" {
		return taskNames[t.Kind]
	}
	return taskNames[t.Kind] + " on " + where
}

// Ended is the end of a task. For TaskJudge it carries the outcome.
type Ended struct {
	ID      int
	Err     error
	Outcome history.Outcome
	Reason  string
}

// Input is one thing that happened. With all fields empty it says only that time went on.
type Input struct {
	Event     *history.Event // seen and already in the log
	Ended     *Ended
	Decided   bool // every expectation of the drill is decided
	Interrupt bool // the operator or the CI server wants an end
}

// Command is one thing to do, in order. Exactly one field is set.
type Command struct {
	Start  *Task
	Stop   *Stop
	Record history.Fact
	Finish *history.RunFinished // the last command of a run
}

// Stop asks for the end of a task; an attack reverts first.
type Stop struct {
	ID  int
	Why string
}
