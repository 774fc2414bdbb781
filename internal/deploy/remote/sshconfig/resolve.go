package sshconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// includesMax is ssh(1)'s own bound on files that include files.
const includesMax = 16

// File is a configuration file.
type File struct {
	Name string
	User bool // of the user: ~ is understood and relative includes are below ~/.ssh; else they are below /etc/ssh
	Safe bool // refuse it when others may write to it, as ssh(1) does with ~/.ssh/config
}

// Query asks for the settings of one host.
type Query struct {
	Host  string // as a person would type it
	User  string // "" when not typed; wins over every file
	Port  string // likewise
	Jump  string // likewise: a ProxyJump chain
	Files []File // in order; the first that states a setting wins

	Home      string // of the local user, for ~ and %d
	LocalUser string
	Env       func(name string) (string, bool) // default os.LookupEnv

	// Exec runs the command of a Match exec and reports whether it ended with 0; default Execute.
	Exec func(ctx context.Context, command string) (bool, error)
	// LookupHost finds the addresses of a name, for CanonicalizeHostname; LookupCNAME its canonical name. Default net.DefaultResolver.
	LookupHost  func(ctx context.Context, name string) ([]string, error)
	LookupCNAME func(ctx context.Context, name string) (string, error)
}

// LineError is a line of a file that cannot be evaluated.
type LineError struct {
	File string
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap returns what is wrong with the line.
func (e *LineError) Unwrap() error { return e.Err }

// Settings are what the files say for one host. Keywords are written in lower case.
type Settings struct {
	Host string // the name to connect to, after HostName and canonicalization
	User string // the name to log in with: typed, of a file, or the local user's
	Port string

	typed  string // %n
	query  *Query
	values map[string][]string // the arguments of the first line that states a keyword; of the keywords in accumulated, one of each line
}

// Get returns the value of a setting, "" when no file states it.
func (s *Settings) Get(keyword string) string {
	if values := s.values[keyword]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// All returns every value of a setting, nil when no file states it.
func (s *Settings) All(keyword string) []string { return s.values[keyword] }

// how a keyword's arguments are kept
type form int

const (
	one  form = iota + 1 // one argument, the first line counts
	list                 // the arguments of the first line
	each                 // one argument of every line, each value once
	text                 // the rest of the line as it stands
)

// keywords are those that mean something to a connection of ours. Others are passed over, whatever they say.
var keywords = map[string]form{
	"addressfamily": one, "bindaddress": one, "bindinterface": one, "canonicaldomains": list, "canonicalizefallbacklocal": one,
	"canonicalizehostname": one, "canonicalizemaxdots": one, "canonicalizepermittedcnames": list, "casignaturealgorithms": one,
	"certificatefile": each, "ciphers": one, "connecttimeout": one, "globalknownhostsfile": list, "hostkeyalgorithms": one,
	"hostkeyalias": one, "hostname": one, "identitiesonly": one, "identityagent": one, "identityfile": each, "kexalgorithms": one,
	"knownhostscommand": text, "macs": one, "port": one, "proxycommand": text, "proxyjump": text, "proxyusefdpass": one,
	"pubkeyacceptedalgorithms": one, "revokedhostkeys": one, "serveralivecountmax": one, "serveraliveinterval": one,
	"stricthostkeychecking": one, "tag": one, "user": one, "userknownhostsfile": list,
}

// aliases are older names.
var aliases = map[string]string{"pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms", "identityfile2": "identityfile"}

// evaluation is one evaluation for one host, over at most two passes.
type evaluation struct {
	ctx       context.Context
	query     *Query
	settings  *Settings
	host      string // what Host lines are compared with
	final     bool   // the second pass
	wantFinal bool   // a Match final was met
	ran       map[string]bool
}

// Resolve evaluates the files for a host. A file that is not there, or not ours to read, says nothing.
func Resolve(ctx context.Context, query Query) (*Settings, error) {
	query.complete()
	e := &evaluation{ctx: ctx, query: &query, host: query.Host, ran: make(map[string]bool)}
	e.settings = &Settings{typed: query.Host, query: &query, values: make(map[string][]string)}
	for keyword, typed := range map[string]string{"user": query.User, "port": query.Port, "proxyjump": query.Jump} {
		if typed != "" {
			e.settings.values[keyword] = []string{typed}
		}
	}
	if err := e.pass(); err != nil {
		return nil, err
	}
	s := e.settings
	if name := s.Get("hostname"); name != "" {
		expanded, err := percent(name, map[byte]string{'h': e.host})
		if err != nil {
			return nil, fmt.Errorf("HostName %s: %w", name, err)
		}
		e.host = expanded
	}
	if net.ParseIP(e.host) == nil {
		e.host = strings.ToLower(e.host)
	}
	canonical, err := e.canonicalize()
	if err != nil {
		return nil, err
	}
	e.host = canonical
	if mode := s.Get("canonicalizehostname"); e.wantFinal || isYes(mode) || strings.EqualFold(mode, "always") {
		e.final = true
		s.values["hostname"] = []string{e.host}
		if err := e.pass(); err != nil {
			return nil, err
		}
	}
	return s, s.settle(e.host)
}

func (q *Query) complete() {
	if q.Env == nil {
		q.Env = os.LookupEnv
	}
	if q.Exec == nil {
		q.Exec = func(ctx context.Context, command string) (bool, error) { return Execute(ctx, command, nil) }
	}
	if q.LookupHost == nil {
		q.LookupHost = net.DefaultResolver.LookupHost
	}
	if q.LookupCNAME == nil {
		q.LookupCNAME = net.DefaultResolver.LookupCNAME
	}
}

// settle fills in what every connection has.
func (s *Settings) settle(host string) error {
	s.Host, s.User, s.Port = host, s.Get("user"), s.Get("port")
	if s.User == "" {
		s.User = s.query.LocalUser
	}
	if s.Port == "" {
		s.Port = "22"
	}
	return checkPort(s.Port)
}

func checkPort(port string) error {
	if number, err := strconv.Atoi(port); err != nil || number < 1 || number > 65535 {
		return fmt.Errorf("port %q is not between 1 and 65535", port)
	}
	return nil
}

// pass reads all files once.
func (e *evaluation) pass() error {
	for _, file := range e.query.Files {
		if err := e.read(file, true, 0, e.optional); err != nil {
			return err
		}
	}
	return nil
}

// optional decides what becomes of a file that cannot be opened.
func (e *evaluation) optional(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// included is optional for files that an Include names: only one that vanished meanwhile is passed over.
func (e *evaluation) included(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// read evaluates one file. active says whether the lines before the first Host or Match count.
func (e *evaluation) read(file File, active bool, depth int, unopened func(error) error) error {
	if depth > includesMax {
		return fmt.Errorf("%s: more than %d files include each other", file.Name, includesMax)
	}
	if file.Safe {
		if err := safe(file.Name); err != nil {
			return err
		}
	}
	content, err := os.ReadFile(file.Name)
	if err != nil {
		return unopened(err)
	}
	never := !active && depth > 0 // included by a block that does not count: no block in there does
	number := 0
	for line := range strings.Lines(string(content)) {
		number++
		parsed, err := parseLine(line)
		if err == nil && parsed.keyword != "" {
			active, err = e.line(parsed, active, never, file, depth)
		}
		var placed *LineError
		if err != nil && !errors.As(err, &placed) {
			err = &LineError{File: file.Name, Line: number, Err: err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// line evaluates one line and returns whether the lines after it count.
func (e *evaluation) line(l line, active, never bool, file File, depth int) (bool, error) {
	switch l.keyword {
	case "host":
		return !never && matchesAny(e.host, l.args), nil
	case "match":
		matches, err := e.match(l.rest, never)
		return matches && !never, err
	case "include":
		for _, pattern := range l.args {
			if err := e.include(pattern, active, file, depth); err != nil {
				return active, err
			}
		}
		return active, nil
	default:
		return active, e.state(l, active)
	}
}

// state takes in a setting.
func (e *evaluation) state(l line, active bool) error {
	keyword := l.keyword
	if current, ok := aliases[keyword]; ok {
		keyword = current
	}
	form := keywords[keyword]
	if form == 0 {
		return nil
	}
	values := l.args
	switch form {
	case text:
		values = []string{l.rest}
		if keyword == "proxyjump" { // it alone may be followed by a comment
			jump, _, _ := strings.Cut(l.rest, "#")
			values[0] = strings.TrimRight(jump, blank)
		}
	case one, each:
		if len(values) != 1 {
			return fmt.Errorf("%s takes one argument, not %d", l.keyword, len(values))
		}
	}
	if len(values) == 0 || values[0] == "" {
		return fmt.Errorf("%s has no argument", l.keyword)
	}
	if keyword == "port" {
		if err := checkPort(values[0]); err != nil {
			return err
		}
	}
	if !active || e.proxyStands(keyword) {
		return nil
	}
	stands := e.settings.values[keyword]
	switch {
	case form == each && !slices.Contains(stands, values[0]):
		e.settings.values[keyword] = append(stands, values[0])
	case form != each && stands == nil:
		e.settings.values[keyword] = values
	}
	return nil
}

// proxyStands reports that ProxyJump or ProxyCommand came first: they exclude each other. A ProxyJump of none excludes only further ones.
func (e *evaluation) proxyStands(keyword string) bool {
	switch keyword {
	case "proxyjump":
		return e.settings.values["proxycommand"] != nil
	case "proxycommand":
		jump := e.settings.Get("proxyjump")
		return jump != "" && !strings.EqualFold(jump, "none")
	default:
		return false
	}
}

// safe refuses a file that somebody else may have written.
func safe(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return nil //nolint:nilerr // opening it tells
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm()&0o022 == 0 && (owner.Uid == 0 || int(owner.Uid) == os.Getuid()) {
		return nil
	}
	return fmt.Errorf("%s: others may write to it (mode %04o, owner %d): chmod go-w, or make it your own", name, info.Mode().Perm(), owner.Uid)
}

func isYes(value string) bool {
	return strings.EqualFold(value, "yes") || strings.EqualFold(value, "true")
}
