package deploy

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// switchScript makes current lead to a release by one rename(2): whoever looks sees the old one or the new one, never none.
//
//	$1 directory   $2 release
const switchScript = `cd "$1" || exit 1
[ -f "releases/$2/REVISION" ] || { echo "release $2 is not there" >&2; exit 1; }
[ -L current ] || [ ! -e current ] || { echo "current is not a link" >&2; exit 1; }
rm -f .current-new && ln -s "releases/$2" .current-new || exit 1
mv -T .current-new current || exit 64
sync . 2>/dev/null # this directory alone: what the release holds is on the disk already
echo "current $(readlink current)"
echo "revision $(cat current/REVISION)"`

// noRename is the code of switchScript when mv(1) cannot rename onto a link (-T); then SFTP can.
const noRename = 64

func (t *target) switchTo(ctx context.Context, release string) error {
	script := switchScript
	if t.run.request.hooks.switchScript != "" {
		script = t.run.request.hooks.switchScript
	}
	t.switched = true // from here on nobody knows without asking
	out, err := t.script(ctx, "", script, t.directory(), release)
	var ended scriptError
	switch {
	case errors.As(err, &ended) && ended.code == noRename:
		return t.switchSFTP(ctx, release)
	case errors.As(err, &ended):
		failed := &drill.Error{Op: t.run.op(), Host: t.host.Name, Kind: drill.Failed, Err: fmt.Errorf("switch to %s: %s", release, ended.text)}
		if strings.Contains(ended.text, "not a link") {
			t.switched = false
			failed.Hint = fmt.Sprintf("Move %s away: it is a directory, and ours is a link to a release.", path.Join(t.directory(), "current"))
		}
		return failed
	case err != nil:
		return err
	}
	t.state = parseState(out).State
	if t.state.Release != release {
		return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("switch to %s: current leads to %q", release, t.state.Release))
	}
	return nil
}

func (t *target) switchSFTP(ctx context.Context, release string) error {
	client, err := t.client.SFTP(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.PosixRename(path.Join(t.directory(), ".current-new"), path.Join(t.directory(), "current")); err != nil {
		return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("switch to %s: %w", release, err))
	}
	log, err := readState(ctx, t.client, t.directory())
	t.state = log.State
	return err
}

// Rollback switches every host of the environment to the release that was good before the one that runs, restarts, and verifies health. A
// second call leads forward again. It stops at the first host that fails; drill.Refused when a host has nothing to go back to, and then
// no host was touched.
func Rollback(ctx context.Context, request Request, dial Dialer, report func(history.Fact)) (Result, error) {
	r := newRun(request, dial, report)
	if err := r.check(); err != nil {
		return r.result, err
	}
	for _, host := range request.Environment.Hosts {
		target := r.newTarget(host, true)
		r.targets = append(r.targets, target)
		err := target.connect(ctx)
		if err == nil && target.previous == "" {
			err = &drill.Error{Op: "roll back " + request.Environment.Name, Host: host.Name, Kind: drill.Refused,
				Err:  errors.New("no earlier release was found healthy here"),
				Hint: "Deploy the revision that you want: firedrill deploy " + request.Environment.Name}
		}
		if err != nil {
			return r.close(err)
		}
	}
	for _, target := range r.targets {
		from := target.state.Release
		err := target.layout.switchTo(ctx, target.previous)
		if err == nil {
			err = target.activate(ctx, target.previous)
		}
		if err != nil {
			target.say(history.Deploy{Stage: history.DeployFailed, Release: target.previous, Detail: err.Error()})
			return r.close(&drill.Error{Op: "roll back " + request.Environment.Name, Host: target.host.Name, Kind: drill.Failed, Err: err,
				Hint: "A person is needed: the earlier release is not healthy either."})
		}
		r.result.Release, r.result.Revision = target.state.Release, target.state.Revision
		target.restored = true
		target.say(history.Deploy{Stage: history.DeployRestored, Release: target.state.Release, Revision: target.state.Revision, Previous: from})
		target.previous = from
	}
	for _, target := range r.targets {
		target.layout.settle(ctx)
	}
	return r.close(nil)
}
