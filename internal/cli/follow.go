//go:build !hostpart

package cli

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/probe"
)

// Bounds of what is read of a log file.
const (
	lineKept      = 1 << 10 // of a line, for people
	lineLongest   = 64 << 10
	linesASecond  = 100 // of one pattern that are told; a service that writes more of them says nothing more by it
	followStarted = "firedrill-follows"
)

// own runs a probe of the user until ctx ends.
func (c *crew) own(ctx context.Context, own drill.Probe, emit func(history.Event)) {
	specs := []probe.Spec{{Name: own.Name, Kind: probe.Command, Command: own.Command, Every: own.Every, Timeout: own.Timeout}}
	for ctx.Err() == nil {
		var err error
		if host, known := c.hostNamed(own.Host); known {
			err = c.probesOn(ctx, host, own.Host, specs, emit)
		} else {
			err = probe.Run(ctx, c.source, specs, emit)
		}
		if err != nil && ctx.Err() == nil {
			emit(history.New(time.Now(), c.source, &history.Note{Text: "probe " + own.Name + ": " + err.Error()}))
		}
		pause(ctx, watchRetry)
	}
}

func (c *crew) hostNamed(name string) (drill.Host, bool) {
	for _, environment := range c.service.Environments {
		for _, host := range environment.Hosts {
			if host.Name == name {
				return host, true
			}
		}
	}
	return drill.Host{}, false
}

// logFile is a log file on a host with the patterns that drills ask for.
type logFile struct {
	host     drill.Host
	file     string
	patterns []string
}

// logFiles are those that a drill of this plan asks about.
func (c *crew) logFiles() []logFile {
	var all []logFile
	add := func(host, file, pattern string) {
		known, is := c.hostNamed(host)
		if file == "" || !is {
			return
		}
		i := slices.IndexFunc(all, func(f logFile) bool { return f.host.Name == host && f.file == file })
		if i < 0 {
			i = len(all)
			all = append(all, logFile{host: known, file: file})
		}
		if !slices.Contains(all[i].patterns, pattern) {
			all[i].patterns = append(all[i].patterns, pattern)
		}
	}
	for _, step := range c.plan.Steps {
		if step.Drill == nil {
			continue
		}
		for _, e := range step.Drill.Expectations {
			add(e.Host, e.File, e.Line)
		}
		for _, stop := range step.Drill.StopWhen {
			add(stop.Host, stop.File, stop.Line)
		}
	}
	return all
}

// followLine is the command that prints what is added to a log file, after a line of ours that says that it is being read.
func followLine(file string) string {
	if unit, is := strings.CutPrefix(file, "journal of "); is {
		return "echo " + followStarted + "; exec journalctl --follow --lines=0 --output=cat --unit=" + quoted(unit)
	}
	name := quoted(file)
	return "test -r " + name + " || { echo " + name + " cannot be read >&2; exit 66; }; echo " + followStarted + "; exec tail -n 0 -F -- " + name
}

func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// follow reads a log file from its end on until ctx ends, and tells the lines that are asked for and whether it is being read.
func (c *crew) follow(ctx context.Context, file logFile, emit func(history.Event)) {
	said, first := false, true
	tell := func(up bool, detail string) {
		if up != said || first {
			said, first = up, false
			emit(history.New(time.Now(), c.source, &history.Followed{Host: file.host.Name, File: file.file, Up: up, Detail: detail}))
		}
	}
	for ctx.Err() == nil {
		err := c.followOnce(ctx, file, func() { tell(true, "") }, emit)
		if ctx.Err() != nil {
			return
		}
		detail := "the reading ended"
		if err != nil {
			detail = err.Error()
		}
		tell(false, detail)
		pause(ctx, watchRetry)
	}
}

func (c *crew) followOnce(ctx context.Context, file logFile, opened func(), emit func(history.Event)) error {
	k, err := c.links.get(ctx, file.host, emit)
	if err != nil {
		return err
	}
	lines := &matchedLines{file: file, opened: opened, emit: func(line history.Line) { emit(history.New(time.Now(), c.source, &line)) }}
	for _, pattern := range file.patterns {
		expression, err := regexp.Compile(pattern)
		if err != nil {
			return err
		}
		lines.expressions = append(lines.expressions, expression)
	}
	lines.told = make([]int, len(lines.expressions))
	stderr := &tail{}
	exit, err := k.client.Run(ctx, remote.Command{Line: followLine(file.file), Become: file.host.SSH.Become, Stdout: lines, Stderr: stderr})
	if err == nil && exit.Code != 0 {
		err = errors.New(stderr.String())
	}
	return err
}

// matchedLines is a writer that tells the lines that match.
type matchedLines struct {
	file        logFile
	expressions []*regexp.Regexp
	opened      func()
	emit        func(history.Line)
	pending     []byte
	started     bool
	second      time.Time // in which told counts, by expression
	told        []int
}

// Write takes a piece of the stream. Of a line that is longer than anybody writes only the beginning is looked at.
func (m *matchedLines) Write(piece []byte) (int, error) {
	m.pending = append(m.pending, piece...)
	for {
		line, rest, found := bytes.Cut(m.pending, []byte("\n"))
		if !found {
			break
		}
		m.line(line)
		m.pending = rest
	}
	if len(m.pending) > lineLongest {
		m.pending = m.pending[:lineLongest]
	}
	return len(piece), nil
}

func (m *matchedLines) line(line []byte) {
	if !m.started {
		m.started = true
		m.opened()
		return
	}
	if now := time.Now(); now.Sub(m.second) > time.Second {
		m.second = now
		clear(m.told)
	}
	for i, expression := range m.expressions {
		if m.told[i] >= linesASecond || !expression.Match(line) {
			continue
		}
		m.told[i]++
		text := line
		if len(text) > lineKept {
			text = text[:lineKept]
		}
		m.emit(history.Line{Host: m.file.host.Name, File: m.file.file, Pattern: m.file.patterns[i], Text: strings.ToValidUTF8(string(text), "?")})
	}
}
