package patroni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
)

// answerMax is how much of an answer is read: the history of a cluster that has moved a thousand times is some hundred kilobytes.
const answerMax = 4 << 20

// answer is what GET /patroni says, as far as we ask (Patroni 2.1 to 4).
type answer struct {
	State            string   `json:"state"`
	Role             string   `json:"role"`
	Timeline         uint64   `json:"timeline"`
	ReplicationState string   `json:"replication_state"` // Patroni 3.1 and newer
	Replication      []sender `json:"replication"`
	Pause            bool     `json:"pause"`
	Log              struct {
		Location uint64 `json:"location"`
		Received uint64 `json:"received_location"`
		Replayed uint64 `json:"replayed_location"`
	} `json:"xlog"`
	Tags struct {
		NoFailover bool `json:"nofailover"`
	} `json:"tags"`

	host  drill.Host
	err   error
	loose bool // its Patroni is silent, and its PostgreSQL takes writes
}

// sender is one standby as the primary sees it.
type sender struct {
	Name      string `json:"application_name"`
	State     string `json:"state"`
	SyncState string `json:"sync_state"`
}

func (a answer) role() database.Role {
	switch {
	case a.loose:
		return database.Primary
	case a.err != nil || a.State != "running":
		return database.Down
	case a.Role == "master" || a.Role == "primary":
		return database.Primary
	}
	return database.Standby
}

func (a answer) position() uint64 { return max(a.Log.Location, a.Log.Received, a.Log.Replayed) }

func (a answer) detail() string {
	switch {
	case a.loose:
		return "PostgreSQL takes writes there, and Patroni does not answer"
	case a.err != nil:
		return a.err.Error()
	case a.State != "running":
		return "PostgreSQL is " + a.State
	case a.Tags.NoFailover:
		return "Patroni never promotes it (nofailover)"
	}
	return ""
}

// cluster is what GET /cluster says.
type cluster struct {
	Members []struct {
		Name string `json:"name"`
		Role string `json:"role"`
	} `json:"members"`
}

// leader is the member that holds the leader lock, "" when nobody does.
func (c cluster) leader() string {
	for _, m := range c.Members {
		if m.Role == "leader" || m.Role == "standby_leader" {
			return m.Name
		}
	}
	return ""
}

// timing is how fast Patroni takes its decisions, of GET /config.
type timing struct {
	TTL      float64 `json:"ttl"`
	LoopWait float64 `json:"loop_wait"`
}

// lockMax is how long after its loss a primary may be seen as the holder of the lock.
func (t timing) lockMax() time.Duration {
	return time.Duration((t.TTL+2*t.LoopWait)*float64(time.Second)) + moveMax/4
}

// cluster asks those who answer for the cluster, one after the other.
func (d *Driver) cluster(ctx context.Context, answers []answer) (cluster, error) {
	var c cluster
	return c, d.any(ctx, answers, "/cluster", &c)
}

func (d *Driver) timing(ctx context.Context, answers []answer) (timing, error) {
	t := timing{TTL: 30, LoopWait: 10} // Patroni's own defaults
	return t, d.any(ctx, answers, "/config", &t)
}

// any reads from the first who answers.
func (d *Driver) any(ctx context.Context, answers []answer, path string, into any) error {
	err := &drill.Error{Op: "database", Kind: drill.Unreachable, Err: errors.New("no Patroni answers"), Hint: "Is api_port right, and is Patroni running?"}
	var said []error
	for _, a := range answers {
		if a.err != nil {
			said = append(said, fmt.Errorf("%s: %w", a.host.Name, a.err))
			continue
		}
		one := d.call(ctx, http.MethodGet, a.host, path, nil, into)
		if one == nil {
			return nil
		}
		said = append(said, fmt.Errorf("%s: %w", a.host.Name, one))
	}
	err.Err = errors.Join(append([]error{err.Err}, said...)...)
	return err
}

// move asks for a switchover from a leader, or for a failover when there is none.
func (d *Driver) move(ctx context.Context, to drill.Host, move database.Move, leader string) error {
	ctx, cancel := context.WithTimeout(ctx, moveMax)
	defer cancel()
	path, order := "/failover", map[string]any{"candidate": move.To}
	if leader != "" {
		path, order = "/switchover", map[string]any{"leader": leader, "candidate": move.To}
	}
	err := d.call(ctx, http.MethodPost, to, path, order, nil)
	var said *refusal
	if !errors.As(err, &said) {
		return err
	}
	failed := &drill.Error{Op: "promote", Host: move.To, Kind: drill.Refused, Err: fmt.Errorf("Patroni says to %s: %w", path, said), Hint: "See: firedrill database status, and patronictl list"}
	switch {
	case said.code == http.StatusUnauthorized:
		failed.Hint = "Name user and password_file of Patroni's API in patroni: of the service file."
	case strings.Contains(said.text, "unknown"):
		failed.Kind = drill.Timeout // it may still happen
	case said.code == http.StatusServiceUnavailable:
		failed.Kind = drill.Failed
	}
	return failed
}

// History reads what Patroni has recorded of each new timeline, oldest first. It is there for as long as a member answers.
func (d *Driver) History(ctx context.Context) ([]database.Record, error) {
	var lines [][]json.RawMessage
	if err := d.any(ctx, d.ask(ctx), "/history", &lines); err != nil {
		return nil, err
	}
	var records []database.Record
	for _, line := range lines {
		record, err := recorded(line)
		if err != nil {
			return records, fmt.Errorf("history of Patroni: %w", err)
		}
		records = append(records, record)
	}
	return records, nil
}

// recorded reads [timeline, position, reason, time, new leader]: the timeline is the one that ended.
func recorded(line []json.RawMessage) (database.Record, error) {
	var timeline, position uint64
	var reason, at, leader string
	for i, into := range []any{&timeline, &position, &reason, &at, &leader} {
		if i >= len(line) {
			break
		}
		if err := json.Unmarshal(line[i], into); err != nil {
			return database.Record{}, err
		}
	}
	record := database.Record{Host: leader, Text: fmt.Sprintf("timeline %d ended at %X: %s", timeline, position, reason)}
	if at != "" { // the newest line has none for a moment
		parsed, err := time.Parse(time.RFC3339, at)
		if err != nil {
			return record, err
		}
		record.Time = parsed
	}
	return record, nil
}

// refusal is an answer of the API that is not a success.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return strings.TrimSpace(strconv.Itoa(r.code) + " " + r.text) }

// call makes one call. A body goes with the user and password; into may be nil.
func (d *Driver) call(ctx context.Context, method string, host drill.Host, path string, body, into any) error {
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body) // maps of ours
	}
	scheme := "http://"
	if d.options.HTTPS {
		scheme = "https://"
	}
	url := scheme + net.JoinHostPort(host.Address.String(), strconv.Itoa(int(d.options.Port))) + path
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if d.options.User != "" {
		request.SetBasicAuth(d.options.User, d.options.Password)
	}
	response, err := d.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err = io.ReadAll(io.LimitReader(response.Body, answerMax))
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK:
		return &refusal{response.StatusCode, strings.TrimSpace(string(text[:min(len(text), 300)]))}
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s does not speak as Patroni does: %w", url, err)
	}
	return nil
}

func kindOr(err error, otherwise drill.ErrorKind) drill.ErrorKind {
	var said *refusal
	if errors.As(err, &said) {
		return otherwise
	}
	return drill.Unreachable
}
