package drill

import "strconv"

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
	Type    string `json:"type"`            // seconds, minutes, list, int, float, rate, bool, string
	Default string `json:"default,omitempty"`
	Usage   string `json:"usage"`

	Unit     string   `json:"unit,omitempty"`     // of a number: s, min, ms, d, %, KB, MB, GB, bit/s; empty: a count, or no number
	Range    *Range   `json:"range,omitempty"`    // of a number
	OneOf    []string `json:"one_of,omitempty"`   // the words that it takes, in any case of letters
	Required bool     `json:"required,omitempty"` // the attack is refused without it
	Needs    []string `json:"needs,omitempty"`    // of the host, beyond what the kind needs: see AttackKind.Needs
}

// Range bounds a number, in the unit of its flag.
type Range struct {
	Min   float64 `json:"min"`
	Above bool    `json:"above_min,omitempty"` // Min itself is outside
	Max   float64 `json:"max,omitempty"`       // 0: only the host bounds it, which a dry run says
}

// Has reports whether the number is in the range. What is not a number is in none.
func (r Range) Has(number float64) bool {
	return (number > r.Min || number == r.Min && !r.Above) && (r.Max == 0 || number <= r.Max)
}

// In says the range in words, as "from 1 s to 86400 s".
func (r Range) In(unit string) string {
	write := func(number float64) string {
		text := strconv.FormatFloat(number, 'f', -1, 64)
		if unit != "" {
			text += " " + unit
		}
		return text
	}
	text := "from "
	if r.Above {
		text = "above "
	}
	text += write(r.Min)
	if r.Max > 0 {
		text += " to " + write(r.Max)
	}
	return text
}

// PercentRange is the range of a share of which nothing would be no attack.
var PercentRange = &Range{Above: true, Max: 100}
