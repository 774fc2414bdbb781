package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

const (
	filePartMax = 256 << 10 // bytes in one answer
	// What one person or program is handed of logs and files: as much at once, and as much in a second from then on. An answer that would be held
	// back for longer than fileWaitMax is refused.
	filesAtOnce    = 64 << 20
	filesPerSecond = 32 << 20
	fileWaitMax    = 10 * time.Second
)

// atKeeper are the calls that the server answers which conducted the drill: logs and files lie there alone.
var atKeeper = map[string]bool{"drilllog": true, "drillfiles": true, "drillfile": true}

// keeper is the server that a call of atKeeper is to be handed to, if it is another one that is there.
func (c *Control) keeper(asked []byte) (keeper fleet.Server, away bool) {
	var named struct{ ID string }
	if json.Unmarshal(asked, &named.ID) != nil && json.Unmarshal(asked, &named) != nil {
		return keeper, false // and is refused here
	}
	run, err := c.FindDrill(named.ID)
	if err != nil || run.Server == c.options.Name || slices.Contains(c.formerly, run.Server) {
		return keeper, false
	}
	servers := c.Servers()
	at := slices.IndexFunc(servers, func(s fleet.Server) bool {
		return (s.Name == run.Server || slices.Contains(s.Formerly, run.Server)) && s.Boot != c.boot
	})
	if at < 0 {
		return keeper, false
	}
	return servers[at], true
}

// handOver has another server answer.
func (c *Control) handOver(ctx context.Context, keeper fleet.Server, by fleet.Member, call string, asked []byte) (any, error) {
	result, err := c.askServer(ctx, keeper.Boot, by, call, asked)
	var unheard silence
	if errors.As(err, &unheard) {
		err = &drill.Error{Op: call, Kind: drill.Unreachable, Err: fmt.Errorf("server %s keeps it, and does not answer: %w", keeper.Name, unheard.error), Hint: "see: firedrill fleet servers; ask again when it is there"}
	}
	return result, err
}

// pace holds back who takes much. Its zero value is ready.
type pace struct {
	mu  sync.Mutex // guards the field below
	due map[string]time.Time
}

// take notes that somebody takes so many bytes, and returns how long to wait before they are handed out. What would take longer than fileWaitMax is
// not noted, and refused.
func (p *pace) take(who string, bytes int64, now time.Time) (wait time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const each = float64(time.Second) / filesPerSecond
	for name, due := range p.due {
		if !due.After(now) {
			delete(p.due, name)
		}
	}
	due := now
	if had, is := p.due[who]; is {
		due = had
	}
	due = due.Add(time.Duration(float64(bytes) * each))
	if wait = due.Sub(now) - time.Duration(filesAtOnce*each); wait > fileWaitMax {
		return 0, &drill.Error{Op: "fetch", Kind: drill.Refused, Err: fmt.Errorf("%s fetches too much at the same time", who), Hint: "fetch one drill after another"}
	}
	if p.due == nil {
		p.due = map[string]time.Time{}
	}
	p.due[who] = due
	return max(wait, 0), nil
}

// paced waits until somebody may have so many bytes.
func (c *Control) paced(ctx context.Context, by fleet.Member, bytes int) error {
	if c.options.Unpaced {
		return nil
	}
	wait, err := c.pace.take(by.Name, int64(bytes), time.Now())
	if err != nil || wait == 0 {
		return err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *Control) pacedLog(ctx context.Context, by fleet.Member, r fleet.LogRequest) (fleet.LogPart, error) {
	part, err := c.DrillLog(r)
	if err == nil {
		err = c.paced(ctx, by, len(part.Text))
	}
	return part, err
}

// filesOf opens the directory of a drill that is over. Nothing outside of it can be reached through what is returned.
func (c *Control) filesOf(id string) (fleet.DrillRun, *os.Root, error) {
	run, err := c.FindDrill(id)
	if err != nil {
		return run, nil, err
	}
	unproven := func(why, cure string) error {
		return &drill.Error{Op: "drill " + run.ID, Kind: drill.Unproven, Err: errors.New(why), Hint: cure}
	}
	if !run.Done() && !c.options.Unready {
		return run, nil, unproven("it is not over, so its files are not whole", "firedrill fleet drill follow "+run.ID)
	}
	root, err := os.OpenRoot(filepath.Join(c.DrillsDirectory(), filepath.Base(run.Result)))
	if errors.Is(err, os.ErrNotExist) {
		return run, nil, unproven("this server has no files of it: "+strings.TrimSuffix(run.Outcome+": "+run.Reason, ": "), "it was conducted by server "+run.Server+", which keeps them; old ones are removed (firedrill server --keep-for)")
	}
	return run, root, err
}

// DrillFiles lists what a drill that is over has left: its log, its reports, and what they were attested to be. It is an error when there is
// nothing, or while the drill goes on.
func (c *Control) DrillFiles(id string) ([]fleet.DrillFile, error) {
	_, root, err := c.filesOf(id)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	directory, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer directory.Close()
	entries, err := directory.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	all := []fleet.DrillFile{}
	for _, entry := range entries {
		if !entry.Type().IsRegular() || fleet.CheckDrillFile(entry.Name()) != nil {
			continue
		}
		about, err := entry.Info()
		if err != nil {
			return nil, err
		}
		all = append(all, fleet.DrillFile{Name: entry.Name(), Size: about.Size()})
	}
	if len(all) > fleet.DrillFilesMax {
		return nil, &drill.Error{Op: "drill " + id, Kind: drill.Unsupported, Err: fmt.Errorf("%d files lie in its directory, more than the %d that are handed out", len(all), fleet.DrillFilesMax), Hint: "Look at " + root.Name() + " on the server: a drill leaves ten."}
	}
	slices.SortFunc(all, func(a, b fleet.DrillFile) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (c *Control) drillFile(ctx context.Context, by fleet.Member, r fleet.FileRequest) (fleet.FilePart, error) {
	part, err := c.DrillFile(r)
	if err == nil {
		err = c.paced(ctx, by, len(part.Data))
	}
	return part, err
}

// DrillFile reads a part of one of the files that DrillFiles lists. A link is no file, wherever it leads.
func (c *Control) DrillFile(r fleet.FileRequest) (fleet.FilePart, error) {
	var part fleet.FilePart
	run, root, err := c.filesOf(r.ID)
	if err != nil {
		return part, err
	}
	defer root.Close()
	wrong := func(err error) error {
		return &drill.Error{Op: "drill " + run.ID, Kind: drill.Invalid, Err: err, Hint: "see what there is: GET /v1/drills/" + run.ID + "/files"}
	}
	if err := fleet.CheckDrillFile(r.Name); err != nil && !c.options.Loose {
		return part, wrong(err)
	}
	open := func(name string) (*os.File, error) {
		if about, err := root.Lstat(name); err != nil || !about.Mode().IsRegular() {
			return nil, errors.Join(err, os.ErrNotExist)
		}
		return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	}
	if c.options.Loose {
		open = func(name string) (*os.File, error) { return os.Open(filepath.Join(root.Name(), name)) }
	}
	file, err := open(r.Name)
	if err != nil {
		return part, wrong(fmt.Errorf("there is no file %s of it", r.Name))
	}
	defer file.Close()
	about, err := file.Stat()
	if err != nil {
		return part, err
	}
	part.Size = about.Size()
	if !about.Mode().IsRegular() {
		return part, wrong(fmt.Errorf("%s is no file", r.Name))
	}
	if r.From < 0 || r.From > part.Size {
		return part, wrong(fmt.Errorf("%s has %d bytes, and none from %d on", r.Name, part.Size, r.From))
	}
	part.Data, err = io.ReadAll(io.NewSectionReader(file, r.From, filePartMax))
	part.Next = r.From + int64(len(part.Data))
	return part, err
}
