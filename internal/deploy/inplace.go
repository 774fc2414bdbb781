package deploy

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// keptInPlace is where our own things are when files stand straight in the directory.
const keptInPlace = ".firedrill"

// asFound names what stood in place before our first deployment.
const asFound = "as-found"

// inPlace is the layout of Publish Over SSH: files straight in the directory, among whatever else lives there. Ours alone is
//
//	DIRECTORY/.firedrill/state       release and revision that stand in place, and the digest list; absent while files are exchanged
//	DIRECTORY/.firedrill/staging/    an upload under way, or files on their way back
//	DIRECTORY/.firedrill/undo/1/     what stood where since the last good deployment; one more for each deployment since
//	DIRECTORY/.firedrill/backup/1/   the same for the good deployment before: what a rollback needs
//
// Files are compared in staging/ before anything in place is touched, and each is exchanged by one rename: whoever opens it gets the old one or
// the new one. All of them together are not exchanged in one step; a deployment that is killed between leaves undo/, by which the next one
// that fails, or a rollback, leads back to the last good state, byte for byte. What the deployment before brought and this one does not is
// taken away.
type inPlace struct {
	*target
	pending int    // changes since the last good state, by the host's undo/
	put     []file // what is exchanged
}

// prepare asks what stands in place.
func (p *inPlace) prepare(ctx context.Context) error {
	text, err := p.script(ctx, "", inPlacePrepare, p.kept(), p.directory())
	if err != nil {
		return err
	}
	p.record = parseState(text)
	p.state, p.pending = p.record.State, 0
	undo, backup, found := "", "", false
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "undo":
			p.pending++
			if p.pending == 1 {
				undo = rest
			}
		case "backup":
			backup = rest
		case "found":
			found = true
		}
	}
	switch {
	case p.pending > 0:
		p.previous = undo
	case p.forward:
		p.previous = backup
	case p.state.Release != "":
		p.previous = p.state.Release
	case found:
		p.previous = asFound
	}
	for _, tool := range []string{"tar", "sha256sum", "xargs", "find", "stat"} {
		if !p.record.tools[tool] {
			return &drill.Error{Op: p.run.op(), Host: p.host.Name, Kind: drill.Unsupported, Err: fmt.Errorf("layout in-place needs %s there", tool),
				Hint: "Install it, or leave layout out: releases are published to poorer hosts too."}
		}
	}
	return nil
}

// publish compares what stands in place, and brings what differs beside it.
func (p *inPlace) publish(ctx context.Context) error {
	r := p.run
	list := sumOf(r.manifest)
	known := p.record.digests == list
	if known && !r.request.Deploy.Clean && !r.request.hooks.anew {
		if same, err := p.sealed(ctx, p.directory(), list); same || err != nil {
			p.release = p.state.Release
			return err
		}
	}
	differ, times, err := p.differing(ctx, p.directory())
	if err != nil {
		return err
	}
	if known && len(differ) == 0 && !r.request.hooks.anew {
		gone, err := p.gone(ctx)
		if err != nil {
			return err
		}
		if len(gone) == 0 {
			p.release, p.compared = p.state.Release, "every digest is the same"
			_, err := p.script(ctx, "", inPlaceSeal, p.kept(), p.release, list, times)
			return err
		}
	}
	p.release, p.put, p.sent = r.result.Release, differ, differ
	return p.stage(ctx)
}

// stage uploads what differs and compares it.
func (p *inPlace) stage(ctx context.Context) error {
	staging := path.Join(p.kept(), "staging")
	if _, err := p.script(ctx, "", `umask 022; mkdir "$1"`, staging); err != nil {
		return err
	}
	if err := p.uploadTar(ctx, staging, p.put); err != nil {
		return err
	}
	bad, err := p.damaged(ctx, staging, p.put)
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		return p.run.failed(p.host.Name, drill.Failed, fmt.Errorf("upload: %s arrived damaged: SHA-256 %s, want %s", bad[0].path, bad[0].found, bad[0].digest))
	}
	_, err = p.script(ctx, "", `sync -f "$1" 2>/dev/null || sync`, staging) // now, so that the exchange need not wait for the disk
	return err
}

// kinds tells of each name what is there: "f" a file, "d" a directory, "-" nothing, "o" something else, "l" and a digest for a link.
func (p *inPlace) kinds(ctx context.Context, tree string, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	out, err := p.script(ctx, listed(names), inPlaceKinds, tree)
	if err != nil {
		return nil, err
	}
	kinds := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(kinds) != len(names) {
		return nil, p.run.failed(p.host.Name, drill.Failed, fmt.Errorf("look at what is in place: %d answers for %d names: %s", len(kinds), len(names), inOneLine(out)))
	}
	return kinds, nil
}

// differing returns which files of the release are not in a tree as they should be: content, mode, kind. times is for a seal, taken before
// the digests. What cannot be replaced by a rename is refused.
func (p *inPlace) differing(ctx context.Context, tree string) (differ []file, times string, err error) {
	files := p.run.files
	dirs := directories(files)
	names := slices.Clone(dirs)
	for _, f := range files {
		names = append(names, f.path)
	}
	kinds, err := p.kinds(ctx, tree, names)
	if err != nil {
		return nil, "", err
	}
	var blocked []string
	for i, dir := range dirs {
		if kinds[i] != "d" && kinds[i] != "-" {
			blocked = append(blocked, dir)
		}
	}
	var there []file
	for i, f := range files {
		kind := kinds[len(dirs)+i]
		switch {
		case f.dir && kind == "d", f.link != "" && kind == "l "+sumOf(f.link+"\n"):
		case !f.dir && (kind == "d" || kind == "o"):
			blocked = append(blocked, f.path)
		case f.link == "" && !f.dir && kind == "f":
			there = append(there, f)
		default:
			differ = append(differ, f)
		}
	}
	if len(blocked) > 0 {
		return nil, "", &drill.Error{Op: p.run.op(), Host: p.host.Name, Kind: drill.Refused,
			Err:  fmt.Errorf("in the way of the release: %s", brief(blocked)),
			Hint: fmt.Sprintf("Below %s they are of another kind than in the release: move them away, or state them as shared.", p.directory())}
	}
	changed, times, err := p.changed(ctx, tree, there)
	return append(differ, changed...), times, err
}

// changed returns the files with another content or mode than ours.
func (p *inPlace) changed(ctx context.Context, tree string, files []file) (changed []file, times string, err error) {
	if len(files) == 0 {
		return nil, "", nil
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, f.path)
	}
	out, err := p.script(ctx, listed(names), inPlaceSums, p.kept(), tree)
	if err != nil {
		return nil, "", err
	}
	var modes, sums []string
	for line := range strings.Lines(out) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "m":
			modes = append(modes, rest)
		case "s":
			sums = append(sums, rest)
		case "times":
			times = rest
		}
	}
	if len(modes) != len(files) || len(sums) != len(files) {
		return nil, "", p.run.failed(p.host.Name, drill.Failed, fmt.Errorf("%d of %d files in place can be read: %s", len(sums), len(files), inOneLine(out)))
	}
	for i, f := range files {
		if sums[i] != f.digest || modes[i] != strconv.FormatUint(uint64(f.mode), 8) {
			changed = append(changed, f)
		}
	}
	return changed, times, nil
}

// gone lists what is to be taken away: what a deployment of ours brought and this one does not; with clean, all that is neither of the release
// nor shared.
func (p *inPlace) gone(ctx context.Context) ([]string, error) {
	d := p.run.request.Deploy
	script := inPlaceBrought
	if d.Clean {
		script = inPlaceAll
	}
	out, err := p.script(ctx, "", script, p.kept(), p.directory())
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{keptInPlace: true}
	for _, f := range p.run.files {
		wanted[f.path] = true
	}
	for _, dir := range directories(p.run.files) {
		wanted[dir] = true
	}
	shared := func(name string) bool {
		return slices.ContainsFunc(d.Shared, func(one string) bool {
			one = strings.TrimSuffix(one, "/")
			return isBelow(name, one) || isBelow(one, name)
		})
	}
	var gone []string
	seen := make(map[string]bool)
	for name := range strings.SplitSeq(out, "\x00") {
		name = strings.TrimPrefix(name, "./")
		if name == "" || wanted[name] || shared(name) || seen[name] {
			continue
		}
		if last := len(gone) - 1; last >= 0 && isBelow(name, gone[last]) {
			continue // find(1) tells of a directory before what is in it
		}
		seen[name] = true
		gone = append(gone, name)
	}
	return gone, nil
}

// switchTo exchanges the files of our release, or goes back by what an undo or the backup holds.
func (p *inPlace) switchTo(ctx context.Context, release string) error {
	if p.release == "" || release != p.release {
		return p.back(ctx, release)
	}
	if release == p.state.Release && p.pending == 0 {
		return nil
	}
	gone, err := p.gone(ctx)
	if err != nil {
		return err
	}
	p.switched = true // from here on nobody knows without asking
	if err := p.capture(ctx, p.put, gone); err != nil {
		return err
	}
	if _, err := p.exchange(ctx, listed(gone), inPlacePut, p.kept(), p.directory()); err != nil {
		return err
	}
	if dirs := emptied(gone); len(dirs) > 0 {
		if _, err := p.exchange(ctx, listed(dirs), inPlaceEmptied, p.directory()); err != nil {
			return err
		}
	}
	differ, times, err := p.differing(ctx, p.directory())
	if err != nil {
		return err
	}
	if len(differ) > 0 && !p.run.request.hooks.unverified {
		return p.run.failed(p.host.Name, drill.Failed, fmt.Errorf("in place %d files are not those of the release, the first is %s: something else writes there", len(differ), differ[0].path))
	}
	state := release + " " + p.run.result.Revision + "\n" + p.run.manifest
	if _, err := p.script(ctx, state, inPlaceRecord, p.kept(), release, sumOf(p.run.manifest), times); err != nil {
		return err
	}
	p.state = State{Release: release, Revision: p.run.result.Revision}
	return nil
}

// capture keeps what stands where something is about to be changed.
func (p *inPlace) capture(ctx context.Context, put []file, gone []string) error {
	var words []string
	for _, f := range put {
		if !f.dir {
			words = append(words, "p./"+f.path)
		}
	}
	for _, name := range gone {
		words = append(words, "g./"+name)
	}
	for _, dir := range slices.Backward(directories(put)) { // deepest first, as they are removed
		words = append(words, "d./"+dir)
	}
	_, err := p.exchange(ctx, listed0(words), inPlaceCapture, p.kept(), p.directory())
	if err == nil {
		p.pending++
	}
	return err
}

// exchange runs a script that changes what is in place, and names what failed.
func (p *inPlace) exchange(ctx context.Context, input, script string, args ...string) (string, error) {
	if hook := p.run.request.hooks.inPlace; hook != nil {
		script = hook(script)
	}
	out, err := p.script(ctx, input, script, args...)
	var ended scriptError
	if errors.As(err, &ended) {
		err = p.run.failed(p.host.Name, drill.Failed, fmt.Errorf("exchange files in place: %s", inOneLine(ended.text)))
	}
	return out, err
}

// back leads to the last good state; in a rollback, when that is what stands in place, to the one before it.
func (p *inPlace) back(ctx context.Context, release string) error {
	from := "undo"
	if !p.forward && p.pending == 0 {
		return nil // nothing was changed
	}
	if p.pending == 0 {
		from = "backup"
		out, err := p.script(ctx, "", inPlaceTouched, p.kept())
		if err != nil {
			return err
		}
		var touched []file
		for word := range strings.SplitSeq(out, "\x00") {
			if kind, name, ok := strings.Cut(word, "./"); ok { // what went comes back, so it is put there
				touched = append(touched, file{path: name, dir: kind == "d"})
			}
		}
		if err := p.capture(ctx, touched, nil); err != nil {
			return err
		}
	}
	p.switched = true
	out, err := p.exchange(ctx, "", inPlaceBack, p.kept(), p.directory(), from)
	if err != nil {
		return err
	}
	if p.state = parseState(out).State; p.state.Release == "" {
		p.state.Release = asFound
	}
	if from == "undo" {
		p.pending = 0
	}
	if p.state.Release != release {
		return p.run.failed(p.host.Name, drill.Failed, fmt.Errorf("go back to %s: %s stands in place", release, p.state.Release))
	}
	return nil
}

// settle makes the undo the backup: what runs is good.
func (p *inPlace) settle(ctx context.Context) {
	if p.pending == 0 {
		return // that it is good stands there already
	}
	line := fmt.Sprintf("%s %s %s %s", time.Now().UTC().Format(time.RFC3339), logHealthy, p.state.Release, p.state.Revision)
	if _, err := p.script(ctx, "", inPlaceSettle, p.kept(), line); err != nil {
		p.run.note(fmt.Sprintf("%s: %s runs, but was not recorded as good: %v", p.host.Name, p.state.Release, err))
	}
}

// emptied lists the directories that may be empty when names are gone, deepest first.
func emptied(gone []string) []string {
	files := make([]file, 0, len(gone))
	for _, name := range gone {
		files = append(files, file{path: name})
	}
	dirs := directories(files)
	slices.Reverse(dirs)
	return dirs
}

// listed makes an input of names below a tree, each ended by NUL.
func listed(names []string) string {
	var text strings.Builder
	for _, name := range names {
		text.WriteString("./" + name + "\x00")
	}
	return text.String()
}

func listed0(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return strings.Join(words, "\x00") + "\x00"
}

// inOneLine makes an error of what a script printed.
func inOneLine(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	return text[:min(len(text), errorMax)]
}

const errorMax = 500 // the rest of many lines says the same

// brief names the first few.
func brief(names []string) string {
	if len(names) > 5 {
		return fmt.Sprintf("%q and %d more", names[:5], len(names)-5)
	}
	return fmt.Sprintf("%q", names)
}
