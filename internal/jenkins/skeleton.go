package jenkins

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"firedrill/internal/drill"
)

// Result is what became of a job.
type Result struct {
	File string   // the service file: it parses, and holds TODO where a person must write
	Left []string // what could not be carried over, each with its reason
}

// environments are the two that a service file has.
var environments = [2]string{"blue", "green"}

// hostsMax is how many hosts get an address out of the block that stands for addresses to be written (192.0.2.0/24).
const hostsMax = 200

// importer turns a job into the parts of a service file.
type importer struct {
	kinds []drill.AttackKind
	left  []string

	hosts        []string // names of the servers' configurations, in the order of the job
	deploy       *Transfer
	after        bool                // something was published already
	attackedOn   map[string][]string // by the command of an attack: where it ran
	dependencies []dependency
	drills       []attackDrill
}

type dependency struct{ name, host string }

type attackDrill struct {
	name, kind string
	options    []drill.Option
	source     string // the command it was made of
}

// Import writes the job as a service file. kinds is the catalogue of attacks, which commands of the job are read with.
func Import(job Job, kinds []drill.AttackKind) Result {
	m := importer{kinds: kinds, attackedOn: map[string][]string{}}
	for _, p := range job.Publishers {
		m.publisher(p)
	}
	m.wherever()
	m.unread(job.Unread)
	if len(m.hosts) > hostsMax {
		m.leave("%d servers after the first %d: write them yourself", len(m.hosts)-hostsMax, hostsMax)
		m.hosts = m.hosts[:hostsMax]
	}
	if len(m.hosts) < len(environments) {
		m.leave("the job knows one server alone; a service that survives needs a second one, and its place stands as TODO")
	}
	return Result{File: m.write(job), Left: m.left}
}

func (m *importer) leave(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(m.left, text) {
		m.left = append(m.left, text)
	}
}

// wherever says of attacks that ran on some of the servers that a drill is not told which.
func (m *importer) wherever() {
	for _, made := range m.drills {
		if on := m.attackedOn[made.source]; len(on) < len(m.hosts) {
			m.leave("%q ran on %s alone: a drill hits the hosts of one environment, the idle or the answered one", "attack "+made.source, strings.Join(on, ", "))
		}
	}
}

// What to do about a part of a job that is not of this importer, by the last of its path that fits.
var elsewhere = []struct{ part, cure string }{
	{"TimerTrigger/spec", "the job runs by itself: write its times into schedule:, and start firedrill schedule"},
	{"SCMTrigger/spec", "the job starts when the repository changes: let the CI server do that"},
	{"hudson.tasks.Shell/command", "a build step: let the CI server do that before firedrill pipeline"},
	{"hudson.tasks.BatchFile/command", "a build step: let the CI server do that before firedrill pipeline"},
	{"credentialsId", "credentials of Jenkins stay there: git and ssh find their own keys"},
	{"UserRemoteConfig/url", "a second repository: a release comes from one"},
	{"BranchSpec/name", "a second branch: a release comes from one"},
	{"description", "for people"},
	{"disabled", "the job is switched off"},
}

// unread names everything else that the job says.
func (m *importer) unread(all []Unread) {
	for i, one := range all {
		if i == unreadMax {
			m.leave("more than that: look at the rest of the job yourself")
			return
		}
		cure := "not known to this importer"
		for _, known := range elsewhere {
			if strings.HasSuffix(one.Path, known.part) {
				cure = known.cure
				break
			}
		}
		if one.Value == "" {
			m.leave("%s: %s", one.Path, cure)
			continue
		}
		m.leave("%s %q: %s", one.Path, one.Value, cure)
	}
}

func (m *importer) publisher(p Publisher) {
	if !slices.Contains(m.hosts, p.Config) {
		m.hosts = append(m.hosts, p.Config)
	}
	if p.Retries > 0 {
		m.leave("%q: %d retries, %s ms apart: an exec command is never run twice; a deployment that failed goes back to the release before", p.Config, p.Retries, p.RetryDelay)
	}
	if p.ContinueOn {
		m.leave("%q: continue on error: a failed host stops the deployment; stop_at_failures in deploy: lets more of them fail", p.Config)
	}
	if !p.FailOnError {
		m.leave("%q: a failure made the build unstable and no more: here it fails the run", p.Config)
	}
	if p.Promotion {
		m.leave("%q: it belongs to a promotion of the job, not to each build: think of which pipeline it belongs into", p.Config)
	}
	if p.Label != "" {
		m.leave("%q: label %q: there are no labels; run firedrill where you want the run to be", p.Config, p.Label)
	}
	for _, unknown := range p.Unknown {
		m.leave("%q: %s: not known to this importer", p.Config, unknown)
	}
	for i, t := range p.Transfers {
		m.transfer(fmt.Sprintf("%q, transfer %d", p.Config, i+1), t)
	}
}

func (m *importer) transfer(place string, t Transfer) {
	for _, unknown := range t.Unknown {
		m.leave("%s: %s: not known to this importer", place, unknown)
	}
	if t.SourceFiles == "" {
		m.odd(place, t)
		m.onlyCommands(place, t)
		m.commands(place, t.ExecCommand)
		return
	}
	m.publishing(place, t)
	if len(m.drills) > 0 && !m.after {
		m.leave("%s: the job attacks before it publishes; the pipeline publishes first", place)
	}
	m.after = true
	switch {
	case m.deploy == nil:
		m.deploy = &t
		m.commandsBeyondRestart(place, t)
	case !sameFiles(*m.deploy, t):
		m.leave("%s: publishes %s: a service publishes one set of files to all of its hosts, and an earlier one was taken", place, inWords(t))
	case m.deploy.ExecCommand != t.ExecCommand:
		m.leave("%s: runs %q after publishing, another host runs %q: there is one restart command", place, t.ExecCommand, m.deploy.ExecCommand)
	}
	if t.ExecTimeout != m.deploy.ExecTimeout {
		m.leave("%s: exec timeout of %d ms, another host has %d: there is one timeout", place, t.ExecTimeout, m.deploy.ExecTimeout)
	}
	if t.UsePty != m.deploy.UsePty {
		m.leave("%s: exec in pty: %t, another host: %t: there is one restart_pty", place, t.UsePty, m.deploy.UsePty)
	}
}

// inWords lists what a set of files is.
func inWords(t Transfer) string {
	text := fmt.Sprintf("%q to %q", t.SourceFiles, t.RemoteDirectory)
	for _, field := range []struct{ name, value string }{
		{"without", t.Excludes}, {"split at", t.PatternSeparator}, {"removing the prefix", t.RemovePrefix}, {"then running", t.ExecCommand},
	} {
		if field.value != "" {
			text += fmt.Sprintf(", %s %q", field.name, field.value)
		}
	}
	return text
}

// onlyCommands says what is set for files although there are none, and of commands that a drill has another word for.
func (m *importer) onlyCommands(place string, t Transfer) {
	for _, field := range []struct{ name, value string }{{"excludes", t.Excludes}, {"remove prefix", t.RemovePrefix}, {"remote directory", t.RemoteDirectory}} {
		if field.value != "" {
			m.leave("%s: %s %q: it publishes no files", place, field.name, field.value)
		}
	}
	if t.CleanRemote {
		m.leave("%s: clean remote: it publishes no files, and a drill deletes none", place)
	}
	if t.ExecTimeout != execTimeoutDefault && t.ExecCommand != "" {
		m.leave("%s: exec timeout of %d ms: an attack has its own length, and its end is enforced on the host", place, t.ExecTimeout)
	}
	if t.UsePty {
		m.leave("%s: exec in pty: attacks need none", place)
	}
}

// sameFiles says whether two transfers differ in what they run alone.
func sameFiles(a, b Transfer) bool {
	return a.SourceFiles == b.SourceFiles && a.RemoteDirectory == b.RemoteDirectory && a.RemovePrefix == b.RemovePrefix && a.Excludes == b.Excludes && a.Flatten == b.Flatten &&
		a.NoDefaultExcludes == b.NoDefaultExcludes && a.PatternSeparator == b.PatternSeparator
}

// publishing says which fields of a set of files have no counterpart.
func (m *importer) publishing(place string, t Transfer) {
	if t.PatternSeparator != "" && t.PatternSeparator != separatorDefault {
		m.leave("%s: pattern separator %q: needless, patterns are a list here", place, t.PatternSeparator)
	}
	if t.RemoteDirectorySDF {
		m.leave("%s: the remote directory %q is a date pattern: every release gets a directory of its own, named by time and revision", place, t.RemoteDirectory)
	}
	if t.CleanRemote {
		m.leave("%s: clean remote: needless, every release begins in an empty directory (with layout: in-place it is clean: true)", place)
	}
	if t.MakeEmptyDirs {
		m.leave("%s: make empty dirs: git has none, so no release does; let restart make them, or put them into shared:", place)
	}
	if t.KeepFilePermissions {
		m.leave("%s: keep file permissions: needless, they are always kept", place)
	}
	if strings.Contains(t.SourceFiles+t.Excludes+t.RemoteDirectory+t.RemovePrefix, "$") {
		m.leave("%s: variables of Jenkins in file names are not replaced", place)
	}
	m.odd(place, t)
}

// odd says which fields of an exec command have no counterpart.
func (m *importer) odd(place string, t Transfer) {
	if t.UseAgentForwarding {
		m.leave("%s: agent forwarding: a host never gets to use your keys", place)
	}
	if t.UseSftpForExec {
		m.leave("%s: SFTP for exec: commands run in a session of their own", place)
	}
	if t.SourceFiles != "" && t.ExecTimeout == 0 {
		m.leave("%s: no limit on the exec command: there always is one; the default of 2m was taken", place)
	}
}

// commandsBeyondRestart makes drills of attacks in the command after publishing, and leaves the rest as the restart.
func (m *importer) commandsBeyondRestart(place string, t Transfer) {
	var restart []string
	for line := range strings.Lines(t.ExecCommand) {
		line = strings.TrimSpace(line)
		if isAttack(line) {
			m.commands(place, line)
		} else if line != "" {
			restart = append(restart, line)
		}
	}
	m.deploy.ExecCommand = strings.Join(restart, "\n")
	if strings.Contains(m.deploy.ExecCommand, "$") {
		m.leave("%s: %q: variables of Jenkins are not replaced; the host's shell sees them", place, m.deploy.ExecCommand)
	}
}

var attackCommand = drill.Pattern(`^(?:sudo\s+(?:-\S+\s+)*)?(?:\S*/)?(?:gremlin|firedrill)\s+attack(?:\s|$)`)

func isAttack(line string) bool { return attackCommand().MatchString(line) }

// commands makes drills of a command's lines.
func (m *importer) commands(place, command string) {
	for line := range strings.Lines(command) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case !isAttack(line):
			m.leave("%s: %q: it publishes nothing, and no attack is in it; a pipeline has no place for other commands", place, line)
		default:
			made, err := m.attack(line)
			if err != nil {
				m.leave("%s: %q: %v", place, line, err)
				continue
			}
			m.add(made)
			server, _, _ := strings.Cut(place, ", transfer")
			if on := m.attackedOn[made.source]; !slices.Contains(on, server) {
				m.attackedOn[made.source] = append(on, server)
			}
			if strings.HasPrefix(line, "sudo") {
				m.leave("%s: sudo: say become: sudo in ssh: of the host", place)
			}
		}
	}
}

// add keeps one drill for the same attack on several hosts.
func (m *importer) add(made attackDrill) {
	name, same := "lose-"+subject(made), 0
	for _, known := range m.drills {
		if known.source == made.source {
			return
		}
		if strings.HasPrefix(known.name, name) {
			same++
		}
	}
	made.name = name
	if same > 0 {
		made.name = fmt.Sprintf("%s-%d", name, same+1)
	}
	m.drills = append(m.drills, made)
}

// subject is what an attack takes away, in a word.
func subject(made attackDrill) string {
	switch made.kind {
	case "shutdown":
		return "host"
	case "blackhole", "latency", "packet_loss":
		return "dependencies"
	}
	return strings.ReplaceAll(made.kind, "_", "-")
}

// attack reads a command line by the catalogue.
func (m *importer) attack(line string) (attackDrill, error) {
	words, err := drill.ShellWords(line)
	if err != nil {
		return attackDrill{}, err
	}
	words = words[slices.Index(words, "attack")+1:]
	if len(words) == 0 {
		return attackDrill{}, fmt.Errorf("no attack is named")
	}
	i := slices.IndexFunc(m.kinds, func(kind drill.AttackKind) bool { return kind.Name == words[0] })
	if i < 0 {
		return attackDrill{}, fmt.Errorf("there is no attack %q in this build", words[0])
	}
	made := attackDrill{kind: words[0], source: strings.Join(words, " ")}
	if made.options, err = drill.ReadFlags(m.kinds[i], words[1:]); err != nil {
		return attackDrill{}, err
	}
	m.settle(&made)
	return made, nil
}

// settle turns the options of a command line into those of a drill.
func (m *importer) settle(made *attackDrill) {
	for i := range made.options {
		option := &made.options[i]
		if option.Name == "length" {
			option.Values[0] += "s"
		}
		if option.Name != "hostname" {
			continue
		}
		for j, value := range option.Values {
			if host, spared := strings.CutPrefix(value, "^"); !spared {
				option.Values[j] = m.dependency(host)
			}
		}
	}
	if made.kind == "shutdown" && !slices.ContainsFunc(made.options, func(o drill.Option) bool { return o.Name == "reboot" && o.Values[0] == "true" }) {
		made.options = slices.DeleteFunc(made.options, func(o drill.Option) bool { return o.Name == "reboot" })
		made.options = append(made.options, drill.Option{Name: "reboot", Values: []string{"true"}})
		m.leave("%q: the host stays off; a drill needs it back, so reboot: true was added", "attack "+made.source)
	}
}

var dependencyName = drill.Pattern(`^[A-Za-z0-9][A-Za-z0-9-]{0,62}$`)

// dependency gives a host that is taken away a name: its first label.
func (m *importer) dependency(host string) string {
	for _, known := range m.dependencies {
		if known.host == host {
			return known.name
		}
	}
	name, _, _ := strings.Cut(host, ".")
	taken := slices.ContainsFunc(m.dependencies, func(d dependency) bool { return d.name == name })
	if !dependencyName().MatchString(name) || taken {
		name = fmt.Sprintf("dependency-%d", len(m.dependencies)+1)
	}
	m.dependencies = append(m.dependencies, dependency{name: name, host: host})
	return name
}

// repositoryName makes a name for the service out of the URL of its repository.
func repositoryName(url string) string {
	name := strings.TrimSuffix(path.Base(strings.ReplaceAll(url, ":", "/")), ".git")
	if !dependencyName().MatchString(strings.ReplaceAll(name, "_", "-")) {
		return "imported"
	}
	return strings.ReplaceAll(name, "_", "-")
}
