package drill

// AttackKind describes one kind of attack as data: for the compiler, the help, the reference pages and the completion.
type AttackKind struct {
	Name    string       `json:"name"`
	Group   string       `json:"group"`   // network, state or resource
	Summary string       `json:"summary"` // one sentence
	Flags   []AttackFlag `json:"flags"`
	OneWay  bool         `json:"one_way,omitempty"`
	Remains string       `json:"remains"` // if all of us die: nothing, until deadline, until next start, one-way
	Needs   []string     `json:"needs"`   // of kernel, host and user, as firedrill doctor names it; "a or b" is either of them
}

// AttackFlag is one flag of an attack.
type AttackFlag struct {
	Name    string `json:"name"`            // long name, without dashes
	Short   string `json:"short,omitempty"` // one letter
	Type    string `json:"type"`            // seconds, minutes, list, int, float, bool, string
	Default string `json:"default,omitempty"`
	Usage   string `json:"usage"`
}
