package fleet

import "time"

// AuditRequest asks for a part of the audit log of all servers, the newest line first.
type AuditRequest struct {
	From     string `json:"from,omitempty"`     // the place that a page before named; empty: the newest line
	Count    int    `json:"count,omitempty"`    // lines, AuditShownMax at most; 0: AuditShown
	Contains string `json:"contains,omitempty"` // only lines that hold this, without regard to case
	Server   string `json:"server,omitempty"`   // only lines of this server
}

// How many lines of the audit log one answer holds.
const (
	AuditShown    = 100
	AuditShownMax = 10_000
)

// AuditLine is what one server wrote down.
type AuditLine struct {
	At     time.Time `json:"at"` // by the clock of that server
	Server string    `json:"server"`
	Text   string    `json:"text"`
	Own    bool      `json:"own,omitempty"`    // the server that answers has not put it before the others yet
	Broken string    `json:"broken,omitempty"` // in place of a text: why what stands here is not what that server wrote
}

// AuditServer is how far the audit log of a server is known.
type AuditServer struct {
	Name    string    `json:"name"`
	Known   time.Time `json:"known,omitzero"`    // everything that it did before is here
	Stopped bool      `json:"stopped,omitempty"` // it was stopped in order then
	Away    bool      `json:"away,omitempty"`    // it should have been heard since
}

// AuditPage is a part of the audit log of all servers: by time, and of each server in the order in which it wrote. Whichever server is asked, it is the
// same but for lines with Own.
type AuditPage struct {
	Lines   []AuditLine   `json:"lines"`
	Next    string        `json:"next,omitempty"`    // where the lines before these begin; empty: there are none
	Servers []AuditServer `json:"servers"`           // by name
	Problem string        `json:"problem,omitempty"` // why only lines of the server that answers are here
}

// AuditProof is what the audit logs of all servers prove, read whole.
type AuditProof struct {
	Server   string       `json:"server"` // that has read them
	At       time.Time    `json:"at"`
	Chains   []AuditChain `json:"chains"`
	Problems []string     `json:"problems"` // what is not as it was written, or is missing; none: everything is
}

// AuditChain is what one server wrote from one directory. A directory that was brought back from an older copy begins another life.
type AuditChain struct {
	Server  string        `json:"server"`
	Chain   string        `json:"chain"` // hash of the key that signs it
	Life    int           `json:"life"`
	Lines   int64         `json:"lines"`
	From    time.Time     `json:"from,omitzero"`
	Until   time.Time     `json:"until,omitzero"`
	Known   time.Time     `json:"known,omitzero"` // as in AuditServer
	Head    string        `json:"head,omitempty"` // hash of the last line
	Removed *AuditRemoved `json:"removed,omitempty"`
	LeftOut int64         `json:"left_out,omitempty"` // lines that lie with their server alone, as they are too long
}

// AuditRemoved is what was removed of a chain because of its age, under the signature of a server.
type AuditRemoved struct {
	By    string    `json:"by"`
	Lines int64     `json:"lines"`
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
	At    time.Time `json:"at"`
}
