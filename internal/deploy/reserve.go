package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// ReservationFile says in the directory of a service who keeps deployments and drills away from the host. It ends by its own time: nobody has to
// be found who forgot it.
const ReservationFile = "reserved.json"

// readReservation prints nothing when nobody has reserved the host.
const readReservation = `[ ! -e "$1/reserved.json" ] || cat "$1/reserved.json"`

// Reservation tells who has reserved the host, or nil. One that cannot be read is an error: any doubt means no.
func Reservation(ctx context.Context, client *remote.Client, d drill.Deploy) (*history.Reservation, error) {
	text, err := client.Output(ctx, remote.Quote("sh", "-c", readReservation, "sh", keptIn(d, d.Directory)))
	if err != nil {
		return nil, err
	}
	return ParseReservation(client.Host(), d, text)
}

// ParseReservation reads the text of a reservation; an empty one is none. One that cannot be read is an error: any doubt means no.
func ParseReservation(host string, d drill.Deploy, text string) (*history.Reservation, error) {
	if text = strings.TrimSpace(text); text == "" {
		return nil, nil
	}
	var found history.Reservation
	if err := json.Unmarshal([]byte(text), &found); err != nil || found.Owner == "" || found.Until.IsZero() {
		return nil, &drill.Error{Op: "read who reserved the host", Host: host, Kind: drill.Refused, Err: fmt.Errorf("%q is no reservation", text),
			Hint: "Look at it, then remove it: " + path.Join(keptIn(d, d.Directory), ReservationFile)}
	}
	return &found, nil
}

// Reserve keeps everyone else's deployments and drills away from a host until wish.Until. It excludes a deployment that is under way, and a
// second Reserve, by the lock of deployments; drill.Refused when someone else has reserved the host, or deploys.
func Reserve(ctx context.Context, client *remote.Client, d drill.Deploy, wish history.Reservation, now time.Time) error {
	text, err := json.Marshal(wish)
	if err != nil {
		return err
	}
	return reserved(ctx, client, d, wish.Owner, now, `cat >"$1/.reserved" && mv -f "$1/.reserved" "$1/reserved.json"`, string(text)+"\n")
}

// Free ends a reservation. Another's is only ended with force.
func Free(ctx context.Context, client *remote.Client, d drill.Deploy, owner string, force bool, now time.Time) error {
	if force {
		owner = ""
	}
	return reserved(ctx, client, d, owner, now, `rm -f "$1/reserved.json"`, "")
}

// reserved runs a script under the lock when nobody but owner has reserved the host; "" is anyone.
func reserved(ctx context.Context, client *remote.Client, d drill.Deploy, owner string, now time.Time, script, input string) error {
	kept := keptIn(d, d.Directory)
	lock, err := client.Lock(ctx, path.Join(kept, ".lock"))
	if err != nil {
		return err
	}
	defer lock.Close() // it ends with the connection anyway
	if owner != "" {
		text, code, err := lock.Script(ctx, remote.Quote("sh", "-c", readReservation, "sh", kept), "")
		if err == nil && code != 0 {
			err = errors.New(text)
		}
		if err != nil {
			return err
		}
		found, err := ParseReservation(client.Host(), d, text)
		if err != nil {
			return err
		}
		if found != nil && found.Owner != owner && now.Before(found.Until) {
			return &drill.Error{Op: "lock", Host: client.Host(), Kind: drill.Refused, Err: errors.New(found.String()),
				Hint: fmt.Sprintf("Ask %s, or take it by force: firedrill unlock --force", found.Owner)}
		}
	}
	text, code, err := lock.Script(ctx, remote.Quote("sh", "-c", script, "sh", kept), input)
	if err == nil && code != 0 {
		err = &drill.Error{Op: "lock", Host: client.Host(), Kind: drill.Failed, Err: errors.New(strings.TrimSpace(text))}
	}
	return err
}
