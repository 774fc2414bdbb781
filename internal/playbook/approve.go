package playbook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ApprovalsSuffix follows the name of a playbook's file in the name of the file that holds who agreed to it.
const ApprovalsSuffix = ".approvals"

// Roles are those who must agree before a playbook counts as agreed on.
var Roles = []string{"dev", "test", "ops", "stakeholder"}

// ApprovalLife is how long an agreement holds: a text that nobody has looked at for a year is not agreed on.
const ApprovalLife = 365 * 24 * time.Hour

// Approval says that someone agreed to one text.
type Approval struct {
	Hash      string    `json:"hash"` // of the text that was agreed to
	Role      string    `json:"role"`
	By        string    `json:"by"`
	At        time.Time `json:"at"`
	Signature string    `json:"signature,omitempty"` // minisign's, over Statement
}

// Statement is what is signed.
func (a Approval) Statement() []byte {
	return fmt.Appendf(nil, "firedrill playbook approval\nhash %s\nrole %s\nby %q\nat %s\n", a.Hash, a.Role, a.By, a.At.UTC().Format(time.RFC3339))
}

// ParseApprovals reads the file beside a playbook, one approval on each line.
func ParseApprovals(text []byte, file string) ([]Approval, error) {
	var all []Approval
	for number, line := range bytes.Split(text, []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var approval Approval
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&approval); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number+1, err)
		}
		if !slices.Contains(Roles, approval.Role) {
			return nil, fmt.Errorf("%s:%d: there is no role %q; one of %s", file, number+1, approval.Role, strings.Join(Roles, ", "))
		}
		all = append(all, approval)
	}
	return all, nil
}

// Line is the approval as it stands in the file.
func (a Approval) Line() ([]byte, error) {
	line, err := json.Marshal(a)
	return append(line, '\n'), err
}

// Agreed returns the latest approval of each role that holds for this text now, and the roles that are missing. trusted says whether an
// approval's signature is good enough.
func Agreed(all []Approval, hash string, now time.Time, trusted func(Approval) bool) (held []Approval, missing []string) {
	for _, role := range Roles {
		var latest *Approval
		for i, approval := range all {
			fresh := !approval.At.After(now) && now.Sub(approval.At) < ApprovalLife
			if approval.Role == role && approval.Hash == hash && fresh && trusted(approval) && (latest == nil || approval.At.After(latest.At)) {
				latest = &all[i]
			}
		}
		if latest == nil {
			missing = append(missing, role)
			continue
		}
		held = append(held, *latest)
	}
	return held, missing
}
