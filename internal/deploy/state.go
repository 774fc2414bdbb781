package deploy

import (
	"context"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
)

// State is what a host runs.
type State struct {
	Release  string // name of the release directory; "" when nothing was deployed
	Revision string // full commit
}

// Current asks a host what it runs now: what `current` leads to, not what anyone remembers. Both are empty when nothing was ever deployed, and in
// place also while files are being exchanged.
func Current(ctx context.Context, client *remote.Client, d drill.Deploy) (release, revision string, err error) {
	if d.InPlace() {
		text, err := client.Output(ctx, remote.Quote("sh", "-c", inPlaceState, "sh", keptIn(d, d.Directory)))
		state := parseState(text).State
		return state.Release, state.Revision, err
	}
	log, err := readState(ctx, client, d.Directory)
	return log.Release, log.Revision, err
}

// record is what the host's directory tells about the past.
type record struct {
	State
	releases []string // whole releases that are there, oldest first
	good     []string // releases that were found healthy, oldest first, only those that are there
	digests  string   // SHA-256 of the digest list of the release that runs; "" when it has none
	tools    map[string]bool
}

// back returns where to go back to: the last release that was found healthy, else what runs. In a rollback what runs does not count.
func (r record) back(rollback bool) string {
	for i := len(r.good) - 1; i >= 0; i-- {
		if !rollback || r.good[i] != r.Release {
			return r.good[i]
		}
	}
	if rollback {
		return ""
	}
	return r.Release
}

// prepareScript makes the directories, removes what is half done (we hold the lock, so nobody else is at it), and tells which programs
// the host has; stateScript follows it.
const prepareScript = `umask 022
mkdir -p "$1/releases" "$1/shared" && rm -rf "$1"/releases/.tmp-* "$1/.current-new" || exit 1
for t in tar gzip sha256sum xargs; do command -v "$t" >/dev/null && echo "tool $t"; done
[ -f "$1/current/.firedrill-digests" ] && echo "digests $(sha256sum <"$1/current/.firedrill-digests" 2>/dev/null)"
` + stateScript

const stateScript = `cd "$1" 2>/dev/null || exit 0
[ -L current ] && echo "current $(readlink current)" && echo "revision $(cat current/REVISION 2>/dev/null)"
for r in releases/*/; do [ -f "${r}REVISION" ] && echo "release $r"; done
[ -f revisions.log ] && while read -r time word release rest; do echo "log $word $release"; done <revisions.log
exit 0`

func readState(ctx context.Context, client *remote.Client, directory string) (record, error) {
	text, err := client.Output(ctx, remote.Quote("sh", "-c", stateScript, "sh", directory))
	if err != nil {
		return record{}, err
	}
	return parseState(text), nil
}

// parseState reads what stateScript prints. A torn last line of the log names no release that is there, and so does not count.
func parseState(text string) record {
	r := record{tools: make(map[string]bool)}
	there := make(map[string]bool)
	var healthy []string
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "current":
			r.Release = path.Base(rest)
		case "revision":
			r.Revision = rest
		case "digests":
			r.digests, _, _ = strings.Cut(rest, " ")
		case "tool":
			r.tools[rest] = true
		case "release":
			name := path.Base(strings.TrimSuffix(rest, "/"))
			there[name] = true
			r.releases = append(r.releases, name)
		case "log":
			if state, name, _ := strings.Cut(rest, " "); state == logHealthy {
				healthy = append(healthy, name)
			}
		}
	}
	for _, name := range healthy {
		if there[name] {
			r.good = append(r.good, name)
		}
	}
	sort.Strings(r.releases)
	return r
}

// logHealthy marks a release in revisions.log that was found healthy, or that was switched to where no gate is stated.
const logHealthy = "healthy"

// victims lists the releases to prune: all but the newest keep, what runs, and what to go back to.
func (r record) victims(keep int, protected ...string) []string {
	if keep <= 0 {
		keep = keepReleases
	}
	spared := make(map[string]bool)
	for _, name := range append(protected, r.Release) {
		spared[name] = true
	}
	for _, name := range r.releases[max(0, len(r.releases)-keep):] {
		spared[name] = true
	}
	var victims []string
	for _, name := range r.releases {
		if !spared[name] {
			victims = append(victims, name)
		}
	}
	return victims
}

// settleScript writes the release into the log and prunes. A victim is renamed first: half a release never carries the name of one.
//
//	$1 directory   $2 line for the log   $3... releases to remove
const settleScript = `cd "$1" || exit 1
printf '%s\n' "$2" >>revisions.log || exit 1
shift 2
for r; do mv "releases/$r" "releases/.tmp-$r" && rm -rf "releases/.tmp-$r"; done`

// settle records that the release that runs is good, and prunes. What fails here is noted only: the release runs and is healthy.
func (t *target) settle(ctx context.Context) {
	now := t.record
	now.State = t.state
	if !slices.Contains(now.releases, now.Release) {
		now.releases = append(now.releases, now.Release) // names begin with the time, so it is the last
	}
	victims := now.victims(t.run.request.Deploy.KeepReleases, t.previous)
	if now.Release == t.record.Release && slices.Contains(t.record.good, now.Release) && len(victims) == 0 {
		return // that it is good stands there already
	}
	line := fmt.Sprintf("%s %s %s %s", time.Now().UTC().Format(time.RFC3339), logHealthy, now.Release, now.Revision)
	words := append([]string{t.directory(), line}, victims...)
	if _, err := t.script(ctx, "", settleScript, words...); err != nil {
		t.run.note(fmt.Sprintf("%s: %s runs, but was not recorded as good: %v", t.host.Name, now.Release, err))
	}
}
