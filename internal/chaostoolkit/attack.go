package chaostoolkit

import (
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// Lengths of attacks. An experiment has none: what an action broke stayed broken until a rollback, for as long as the pauses took.
const (
	lengthDefault = time.Minute
	lengthMax     = time.Hour
)

// attack is an action with a counterpart.
type attack struct {
	kind       string
	options    []drill.Option
	source     string // name of the action
	background bool
	lasting    bool // it went on when the action had ended, until a rollback
	oneWay     bool
}

// action makes attacks of an action, or says why there is none.
func (m *importer) action(activity *node, length time.Duration) {
	m.controls(activity)
	provider := activity.get("provider")
	var made []attack
	err := fmt.Errorf("%s: a drill breaks things by attacks alone, which it can take back; see: firedrill attack list", m.provider(activity))
	switch provider.str("type") {
	case "process":
		words := m.processWords(activity)
		if seconds, ok := sleeping(words); ok {
			m.changed(activity, "length: of the attacks before it", "a sleep of %s: a drill does not wait, its attacks have lengths", seconds)
			return
		}
		made, err = m.recognised(words)
	case "python":
		if provider.str("module") == "chaosgremlin.actions" && provider.str("func") == "attack" {
			made, err = m.gremlin(provider.get("arguments"))
		} else {
			err = fmt.Errorf("Python is not run (%s.%s): %s", provider.str("module"), provider.str("func"), pythonCure(provider.str("module"), "write the attack yourself; see: firedrill attack list"))
		}
	}
	if err != nil {
		m.lost(activity, "%v", err)
		return
	}
	background, _ := activity.get("background").truth()
	var kinds []string
	for i := range made {
		one := &made[i]
		one.source, one.background = activity.str("name"), background
		kinds = append(kinds, one.kind)
		if kind := m.kind(one.kind); kind != nil {
			one.oneWay = kind.OneWay
		}
		if !one.oneWay && !slices.ContainsFunc(one.options, func(o drill.Option) bool { return o.Name == "length" }) {
			one.options = append(one.options, drill.Option{Name: "length", Values: []string{length.String()}})
		}
	}
	m.attacks = append(m.attacks, made...)
	for _, known := range []*node{
		activity.get("type"), activity.get("name"), activity.get("background"), activity.get("secrets"), activity.get("configuration"), provider.get("type"), provider.get("path"), provider.get("module"),
		provider.get("func"), provider.get("secrets"), provider.get("arguments").get("command"),
	} {
		known.say()
	}
	if provider.str("type") == "process" {
		provider.get("arguments").say()
	}
	if n := provider.get("timeout"); n != nil {
		m.lost(n, "an attack has a length, which the host itself enforces")
	}
	for _, key := range []string{"before", "after"} {
		if n := activity.get("pauses").get(key); n != nil {
			m.changed(n, "length: of the attacks before it", "a drill does not wait, its attacks have lengths")
		}
	}
	m.note(Changed, activity, "attack "+strings.Join(kinds, " and "), "it ran where chaos ran, nothing looked whether it worked, and it lasted until a rollback: here it is on the hosts of an environment, must be seen to bite, and ends after its length")
	activity.said = true
	for _, item := range activity.items {
		m.rest(item)
	}
}

func (m *importer) kind(name string) *drill.AttackKind {
	for i := range m.kinds {
		if m.kinds[i].Name == name {
			return &m.kinds[i]
		}
	}
	return nil
}

// lengthFrom is how long what an action of the method broke stayed broken: its pause afterwards, and all that comes later.
func (m *importer) lengthFrom(method []*node, from int) time.Duration {
	total := 0.0
	add := func(n *node) {
		if n == nil || n.kind != scalar {
			return
		}
		text, _ := m.substituted(n.text)
		if number, err := strconv.ParseFloat(text, 64); err == nil && number > 0 {
			total += number
		}
	}
	for i, activity := range method[from:] {
		if target := m.activities[activity.str("ref")]; target != nil {
			activity = target
		}
		pauses := activity.get("pauses")
		if i > 0 {
			add(pauses.get("before"))
			if seconds, ok := sleeping(m.processWords(activity)); ok {
				total += seconds.Seconds()
			}
		}
		add(pauses.get("after"))
	}
	switch length := time.Duration(min(total, lengthMax.Seconds()) * float64(time.Second)).Round(time.Second); {
	case length < time.Second:
		return lengthDefault
	default:
		return length
	}
}

func sleeping(words []string) (time.Duration, bool) {
	if len(words) != 2 || path.Base(words[0]) != "sleep" {
		return 0, false
	}
	length, err := drill.ParseSeconds(words[1])
	return length.Duration(), err == nil
}

// processWords is what an activity runs, as words, without what leads to it; nil when it needs a shell.
func (m *importer) processWords(activity *node) []string {
	provider := activity.get("provider")
	if provider.str("type") != "process" {
		return nil
	}
	program, _ := m.substituted(provider.str("path"))
	words := []string{program}
	if arguments := provider.get("arguments"); arguments != nil && arguments.kind == scalar && !arguments.empty() {
		text, _ := m.substituted(arguments.text)
		split, err := drill.ShellWords(text)
		if err != nil {
			return nil
		}
		words = append(words, split...)
	} else {
		words = append(words, m.quietTexts(arguments)...)
	}
	if len(words) == 3 && slices.Contains([]string{"sh", "bash"}, path.Base(words[0])) && (words[1] == "-c" || words[1] == "-lc") {
		split, err := drill.ShellWords(words[2])
		if err != nil {
			return nil
		}
		words = split
	}
	for len(words) > 1 && slices.Contains([]string{"sudo", "nohup", "env"}, path.Base(words[0])) {
		words = words[1:]
		for len(words) > 1 && strings.HasPrefix(words[0], "-") {
			words = words[1:]
		}
	}
	return words
}

// quietTexts is texts without saying anything of them.
func (m *importer) quietTexts(n *node) []string {
	before := len(m.notes)
	all := m.texts(n)
	m.notes = m.notes[:before]
	return all
}

// recognised makes attacks of a command that breaks something in a way that an attack has, too.
func (m *importer) recognised(words []string) ([]attack, error) {
	if len(words) == 0 {
		return nil, errors.New("it needs a shell: write the attack yourself; see: firedrill attack list")
	}
	switch name, rest := path.Base(words[0]), words[1:]; name {
	case "gremlin", "firedrill":
		if len(rest) > 1 && rest[0] == "attack" {
			return m.catalogue(rest[1], rest[2:])
		}
	case "iptables", "ip6tables":
		return m.iptables(rest)
	case "tc":
		return m.tc(rest)
	case "stress", "stress-ng":
		return m.stress(rest)
	case "pkill", "killall":
		return m.kill(rest)
	case "systemctl":
		if len(rest) == 2 && slices.Contains([]string{"stop", "restart", "kill"}, rest[0]) {
			return m.made("service", drill.Option{Name: "unit", Values: []string{rest[1]}})
		}
	case "service":
		if len(rest) == 2 && (rest[1] == "stop" || rest[1] == "restart") {
			return m.made("service", drill.Option{Name: "unit", Values: []string{rest[0]}})
		}
	case "reboot", "shutdown", "poweroff", "halt":
		return m.made("shutdown", drill.Option{Name: "reboot", Values: []string{"true"}})
	case "kill":
		return nil, errors.New("the number of a process is another one next time: name it, with process_killer: {process: NAME}")
	case "docker", "podman":
		return nil, errors.New("containers are hit by their traffic (container: of the network attacks) or by their processes (process_killer, pause with cgroup:)")
	case "kubectl", "helm", "istioctl":
		return nil, errors.New("firedrill knows hosts, not the objects of Kubernetes: attack the hosts of the nodes")
	case "toxiproxy-cli":
		return nil, errors.New("no proxy is needed: latency, bandwidth, packet_loss and blackhole are attacks")
	case "dd", "fallocate", "truncate":
		return nil, errors.New("to fill a volume: disk: {dir: DIRECTORY, percent: 95}")
	case "vegeta", "ab", "wrk", "hey", "k6", "locust", "jmeter", "siege", "artillery", "gatling":
		return nil, errors.New("load breaks nothing by itself: have it run beside the drill; clients: measure what users see")
	case "date", "hwclock", "timedatectl":
		return nil, errors.New("to shift the clock: time_travel")
	case "aws", "az", "gcloud":
		return nil, errors.New("the objects of a cloud are not attacked: attack the hosts themselves")
	}
	return nil, fmt.Errorf("no attack does what %q does, and no other program is run to break something, since nothing could take that back", path.Base(words[0]))
}

// made is one attack, if this build has it with these options.
func (m *importer) made(kind string, options ...drill.Option) ([]attack, error) {
	known := m.kind(kind)
	if known == nil {
		return nil, fmt.Errorf("there is no attack %q in this build", kind)
	}
	for _, option := range options {
		if !slices.ContainsFunc(known.Flags, func(f drill.AttackFlag) bool { return f.Name == option.Name }) {
			return nil, fmt.Errorf("%s has no option %q", kind, option.Name)
		}
		for _, value := range option.Values {
			if strings.TrimSpace(value) == "" || strings.Contains(value, placeholder) || strings.ContainsAny(value, "\x00\n\r") {
				return nil, fmt.Errorf("%s: the value of %s is not known", kind, option.Name)
			}
		}
	}
	return []attack{{kind: kind, options: options, lasting: true}}, nil
}

// catalogue reads the flags of an attack of the catalogue.
func (m *importer) catalogue(kind string, words []string) ([]attack, error) {
	known := m.kind(kind)
	if known == nil {
		return nil, fmt.Errorf("there is no attack %q in this build", kind)
	}
	options, err := drill.ReadFlags(*known, words)
	if err != nil {
		return nil, err
	}
	options = slices.DeleteFunc(options, func(o drill.Option) bool {
		return slices.Contains([]string{"guid", "canary", "json", "yes", "dry-run", "help", "reboot"}, o.Name)
	})
	for i := range options {
		option := &options[i]
		switch option.Name {
		case "length":
			seconds, err := strconv.ParseUint(option.Values[0], 10, 31)
			if err != nil || seconds == 0 {
				return nil, fmt.Errorf("%q is no length", option.Values[0])
			}
			option.Values[0] += "s"
		case "delay":
			if option.Values[0] == "0" {
				option.Values[0] = "1s"
			} else if minutes, err := strconv.ParseUint(option.Values[0], 10, 8); err != nil || minutes == 0 {
				return nil, fmt.Errorf("%q is no delay in minutes", option.Values[0])
			}
		case "hostname":
			for j, value := range option.Values {
				if !strings.HasPrefix(value, "^") {
					option.Values[j] = m.dependency(value, "")
				}
			}
		}
	}
	if kind == "shutdown" {
		options = append(options, drill.Option{Name: "reboot", Values: []string{"true"}})
	}
	made, err := m.made(kind, options...)
	for i := range made {
		made[i].lasting = false // it has a length of its own
	}
	return made, err
}

// gremlin reads the arguments of the function that orders an attack.
func (m *importer) gremlin(arguments *node) ([]attack, error) {
	command := arguments.get("command")
	return m.catalogue(command.str("type"), m.quietTexts(command.get("args")))
}

// dependency gives a host that is taken away a name: its first label. A name that nothing can be asked at is left as it is.
func (m *importer) dependency(host, port string) string {
	for _, known := range m.dependencies {
		if known.host == host {
			return known.name
		}
	}
	if !hostName().MatchString(host) {
		return host
	}
	label, _, _ := strings.Cut(host, ".")
	taken := map[string]bool{}
	for _, known := range m.dependencies {
		taken[known.name] = true
	}
	name := unique(slug(label, "dependency"), taken)
	m.dependencies = append(m.dependencies, dependency{name: name, host: host, port: port})
	return name
}

var hostName = drill.Pattern(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,200}[A-Za-z0-9])?$`)

// iptables reads one rule that is put in.
func (m *importer) iptables(words []string) ([]attack, error) {
	kind, chain := "", ""
	var options []drill.Option
	var host, port string
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch word {
		case "-w", "--wait", "-4", "-6", "-n":
			continue
		}
		if len(words) == 0 {
			return nil, fmt.Errorf("%q needs a value", word)
		}
		value := words[0]
		words = words[1:]
		switch word {
		case "-A", "--append", "-I", "--insert":
			if chain = value; len(words) > 0 && isNumber(words[0]) {
				words = words[1:] // the place of the rule
			}
		case "-d", "--destination", "--dst":
			if chain != "OUTPUT" {
				return nil, errors.New("which way it cuts is not known to this importer: write blackhole yourself")
			}
			host = value
		case "-s", "--source", "--src":
			if chain != "INPUT" {
				return nil, errors.New("which way it cuts is not known to this importer: write blackhole yourself")
			}
			host = value
		case "--dport", "--destination-port":
			name := "egress_port"
			if chain == "INPUT" {
				name = "ingress_port"
			} else {
				port = value
			}
			options = append(options, drill.Option{Name: name, Values: []string{strings.ReplaceAll(value, ":", "-")}})
		case "-p", "--protocol":
			options = append(options, drill.Option{Name: "ipprotocol", Values: []string{strings.ToUpper(value)}})
		case "-m", "--match", "-t", "--table":
			if !slices.Contains([]string{"tcp", "udp", "filter", "comment"}, value) {
				return nil, fmt.Errorf("%s %s has no counterpart", word, value)
			}
		case "--comment":
		case "-i", "-o", "--in-interface", "--out-interface":
			options = append(options, drill.Option{Name: "device", Values: []string{value}})
		case "-j", "--jump":
			kind = map[string]string{"DROP": "blackhole", "REJECT": "reject"}[value]
		default:
			return nil, fmt.Errorf("%s %s of iptables has no counterpart", word, value)
		}
	}
	if kind == "" || chain != "INPUT" && chain != "OUTPUT" {
		return nil, errors.New("it is no rule that drops or rejects what comes in or goes out: write the attack yourself")
	}
	if host != "" {
		options = append(options, m.target(host, port))
	}
	return m.made(kind, options...)
}

func isNumber(text string) bool { _, err := strconv.Atoi(text); return err == nil }

// target is the option that narrows an attack to an address or a name.
func (m *importer) target(host, port string) drill.Option {
	if _, _, err := net.ParseCIDR(host); err == nil || net.ParseIP(host) != nil {
		return drill.Option{Name: "ipaddress", Values: []string{host}}
	}
	return drill.Option{Name: "hostname", Values: []string{m.dependency(host, port)}}
}

// tc reads a queue that is put on a device.
func (m *importer) tc(words []string) ([]attack, error) {
	at := slices.Index(words, "netem")
	if at < 0 || !slices.ContainsFunc(words[:at], func(w string) bool { return w == "add" || w == "replace" || w == "change" }) {
		return nil, errors.New("only netem queues that are put on a device have a counterpart: latency, packet_loss, bandwidth")
	}
	var device []drill.Option
	if i := slices.Index(words[:at], "dev"); i >= 0 && i+1 < at {
		device = append(device, drill.Option{Name: "device", Values: []string{words[i+1]}})
	}
	var all []attack
	add := func(kind string, options ...drill.Option) error {
		made, err := m.made(kind, append(options, device...)...)
		all = append(all, made...)
		return err
	}
	var err error
	for words = words[at+1:]; len(words) > 1 && err == nil; {
		word, value := words[0], words[1]
		words = words[2:]
		switch word {
		case "delay":
			options := []drill.Option{{Name: "ms", Values: []string{milliseconds(value)}}}
			if len(words) > 0 && milliseconds(words[0]) != "" {
				options = append(options, drill.Option{Name: "jitter", Values: []string{milliseconds(words[0])}})
				if words = words[1:]; len(words) > 0 && strings.HasSuffix(words[0], "%") {
					return nil, errors.New("a correlation of delays has no counterpart")
				}
			}
			err = add("latency", options...)
		case "loss", "corrupt":
			if value == "random" && len(words) > 0 {
				value, words = words[0], words[1:]
			}
			options := []drill.Option{{Name: "percent", Values: []string{strings.TrimSuffix(value, "%")}}}
			if word == "corrupt" {
				options = append(options, drill.Option{Name: "corrupt", Values: []string{"true"}})
			}
			err = add("packet_loss", options...)
		default:
			return nil, fmt.Errorf("%s of netem has no counterpart", word)
		}
	}
	if err != nil || len(words) > 0 || len(all) == 0 {
		return nil, errors.Join(errors.New("not all of this netem queue has a counterpart"), err)
	}
	return all, nil
}

// milliseconds reads a delay as tc does; "" when it is none.
func milliseconds(text string) string {
	length, err := time.ParseDuration(strings.Replace(text, "msec", "ms", 1))
	if err != nil || length <= 0 {
		return ""
	}
	return strconv.FormatFloat(float64(length)/float64(time.Millisecond), 'f', -1, 64)
}

// stress reads how much of what is burnt.
func (m *importer) stress(words []string) ([]attack, error) {
	var all []attack
	var cores, load, length string
	add := func(kind string, options ...drill.Option) error {
		made, err := m.made(kind, options...)
		all = append(all, made...)
		return err
	}
	var err error
	for len(words) > 0 && err == nil {
		word, value, has := strings.Cut(words[0], "=")
		if words = words[1:]; !has {
			if len(words) == 0 {
				return nil, fmt.Errorf("%q of stress has no counterpart", word)
			}
			value, words = words[0], words[1:]
		}
		switch word {
		case "-c", "--cpu":
			cores = value
		case "-l", "--cpu-load":
			load = value
		case "-t", "--timeout":
			seconds, parseErr := drill.ParseSeconds(value)
			if length = seconds.Duration().String(); parseErr != nil || seconds <= 0 {
				return nil, fmt.Errorf("%q is no length", value)
			}
		case "--vm", "-m":
		case "--vm-bytes":
			megabytes, parseErr := bytesAsMegabytes(value)
			if err = parseErr; err == nil {
				err = add("memory", drill.Option{Name: "megabytes", Values: []string{megabytes}})
			}
		case "-i", "--io", "-d", "--hdd":
			err = add("io", drill.Option{Name: "workers", Values: []string{value}})
		default:
			return nil, fmt.Errorf("%s of stress has no counterpart", word)
		}
	}
	if cores != "" && err == nil {
		options := []drill.Option{{Name: "cores", Values: []string{cores}}}
		if cores == "0" {
			return nil, errors.New("all cores: write cpu: {cores: NUMBER}")
		}
		if load != "" {
			options = append(options, drill.Option{Name: "percent", Values: []string{load}})
		}
		err = add("cpu", options...)
	}
	if err != nil || len(all) == 0 {
		return nil, errors.Join(errors.New("not all of this stress has a counterpart: cpu, memory, io and disk are attacks"), err)
	}
	for i := range all {
		all[i].lasting = false
		if length != "" {
			all[i].options = append(all[i].options, drill.Option{Name: "length", Values: []string{length}})
		}
	}
	return all, nil
}

func bytesAsMegabytes(text string) (string, error) {
	factor := 1.0 / (1 << 20)
	switch text = strings.ToLower(strings.TrimSuffix(strings.ToLower(text), "b")); {
	case strings.HasSuffix(text, "g"):
		factor = 1 << 10
	case strings.HasSuffix(text, "m"):
		factor = 1
	case strings.HasSuffix(text, "k"):
		factor = 1.0 / (1 << 10)
	}
	number, err := strconv.ParseFloat(strings.TrimRight(text, "gmk"), 64)
	if err != nil || number*factor < 1 || number*factor > 1e7 {
		return "", fmt.Errorf("%q is no amount of memory in bytes", text)
	}
	return strconv.Itoa(int(number * factor)), nil
}

// kill reads pkill and killall.
func (m *importer) kill(words []string) ([]attack, error) {
	kind, process := "process_killer", ""
	var options []drill.Option
	for _, word := range words {
		switch signal := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "SIG"); {
		case word == "-f" || word == "--full":
			options = append(options, drill.Option{Name: "full", Values: []string{"true"}})
		case word == "-x" || word == "-e" || word == "--exact":
			options = append(options, drill.Option{Name: "exact", Values: []string{"true"}})
		case word == "-9" || signal == "KILL" || word == "-15" || signal == "TERM":
		case signal == "STOP" || word == "-19":
			kind = "pause"
		case strings.HasPrefix(word, "-") || process != "":
			return nil, fmt.Errorf("%q has no counterpart: write process_killer yourself", word)
		default:
			process = word
		}
	}
	return m.made(kind, append([]drill.Option{{Name: "process", Values: []string{process}}}, options...)...)
}

// undoes says whether words take something back, and which of the attacks does what they undo.
func (m *importer) undoes(words []string) (kind string, undo bool) {
	if len(words) < 2 {
		return "", false
	}
	var kinds []string
	has := func(all ...string) bool {
		return slices.ContainsFunc(words[1:], func(w string) bool { return slices.Contains(all, w) })
	}
	switch path.Base(words[0]) {
	case "iptables", "ip6tables":
		undo, kinds = has("-D", "--delete", "-F", "--flush"), []string{"blackhole", "reject"}
	case "tc":
		undo, kinds = has("del", "delete"), []string{"latency", "packet_loss"}
	case "systemctl", "service":
		undo, kinds = has("start", "restart"), []string{"service", "process_killer"}
	case "pkill", "killall":
		undo, kinds = has("-CONT", "-SIGCONT", "-18", "stress", "stress-ng"), []string{"pause", "cpu", "memory", "io"}
	}
	for _, made := range m.attacks {
		if undo && slices.Contains(kinds, made.kind) {
			return made.kind, true
		}
	}
	return "", undo
}
