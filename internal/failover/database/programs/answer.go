package programs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"firedrill/internal/failover/database"
)

// Answer is what a status program prints, as one JSON value:
//
//	{"members": [{"host": "db-a", "role": "primary", "timeline": 3, "position": 1048576}, {"host": "db-b", "role": "standby", "streaming": true}]}
//
// A host that it leaves out is down. Of timeline and position, which grow with each promotion and each write, a program may know nothing; a
// lost primary is then replaced only with leave to lose writes.
type Answer struct {
	Members []database.Member `json:"members"`
	Paused  bool              `json:"paused"` // a manager of its own was told to keep its hands off
}

// read reads what a status program printed about these hosts.
func read(text []byte, hosts []string) (database.Status, error) {
	var answer Answer
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&answer); err != nil {
		return database.Status{}, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return database.Status{}, fmt.Errorf("more than one value")
	}
	told := map[string]database.Member{}
	for _, m := range answer.Members {
		switch {
		case !slices.Contains(hosts, m.Host):
			return database.Status{}, fmt.Errorf("host %q is not in the service file", m.Host)
		case told[m.Host].Host != "":
			return database.Status{}, fmt.Errorf("host %q is told twice", m.Host)
		case m.Role != database.Primary && m.Role != database.Standby && m.Role != database.Down:
			return database.Status{}, fmt.Errorf("%s: role %q is none of primary, standby, down", m.Host, m.Role)
		}
		told[m.Host] = m
	}
	status := database.Status{Paused: answer.Paused}
	for _, host := range hosts {
		m, is := told[host]
		if !is {
			m = database.Member{Host: host, Role: database.Down, Detail: "the status program says nothing of it"}
		}
		status.Members = append(status.Members, m)
	}
	return status, nil
}
