package chaostoolkit

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Times of probes that an experiment does not state. It has none: a probe that hangs there hangs the experiment.
const (
	everyDefault   = time.Second
	timeoutDefault = 5 * time.Second
	timeoutMax     = time.Minute // of a service file
)

// probe makes a probe of the service file of one of the experiment.
func (m *importer) probe(activity *node, hypothesis bool) {
	m.controls(activity)
	provider := activity.get("provider")
	p := writtenProbe{name: m.probeName(activity.str("name")), source: activity.str("name"), every: everyDefault, timeout: timeoutDefault, hypothesis: hypothesis}
	var command []string
	switch provider.str("type") {
	case "http":
		command = m.httpProbe(&p, activity, provider)
	case "process":
		command = m.processProbe(&p, activity, provider)
	case "python":
		command = m.pythonProbe(activity, provider)
	default:
		m.lost(activity, "%s is not known", m.provider(activity))
	}
	if len(command) == 0 {
		return
	}
	p.command = command
	m.names[p.name], m.names["said "+p.source] = true, true
	m.probes = append(m.probes, p)
	m.note(Carried, activity, fmt.Sprintf("probe %q", p.name), "")
	activity.said = true
	for _, known := range []*node{activity.get("type"), activity.get("name"), provider.get("type"), provider.get("secrets"), activity.get("secrets"), activity.get("configuration")} {
		known.say()
	}
	m.pauses(activity, "a probe is looked at on a schedule, all the time")
	switch {
	case hypothesis:
	case activity.get("tolerance").empty():
		m.note(Changed, activity, fmt.Sprintf("probe %q", p.name), "nothing judged what it found: here it must be good before and afterwards, and recover in time")
	default:
		m.note(Changed, activity, fmt.Sprintf("probe %q", p.name), "in the method a tolerance stops nothing by itself: here it is an expectation of the drill")
	}
	for _, item := range activity.items {
		m.rest(item)
	}
}

// probeName makes a name out of a sentence.
func (m *importer) probeName(sentence string) string {
	return unique(slug(sentence, "probe"), m.names)
}

func unique(name string, taken map[string]bool) string {
	result := name
	for i := 2; taken[result]; i++ {
		result = fmt.Sprintf("%s-%d", name, i)
	}
	return result
}

// slugMax leaves room for a number within the 63 characters of a name.
const slugMax = 50

// slug makes a name of a file out of a sentence.
func slug(sentence, fallback string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(sentence) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= slugMax {
			break
		}
	}
	if name := strings.Trim(b.String(), "-"); name != "" {
		return name
	}
	return fallback
}

// timeout reads a limit of a provider, in seconds, or a pair of them.
func (m *importer) timeout(p *writtenProbe, provider *node) {
	n := provider.get("timeout")
	if n.empty() {
		m.note(Changed, provider, fmt.Sprintf("timeout: %s", timeoutDefault), "it had no limit, so that one that hangs hung the experiment: a probe always has one")
		return
	}
	seconds, ok := 0.0, true
	for _, item := range append(items(n), n) {
		if item.kind != scalar {
			continue
		}
		text, _ := m.substituted(item.text)
		number, err := strconv.ParseFloat(text, 64)
		ok = ok && err == nil && number >= 0
		seconds += number
	}
	switch limit := time.Duration(min(max(seconds, 0), 1e6) * float64(time.Second)); {
	case !ok || limit < 100*time.Millisecond:
		m.changed(n, fmt.Sprintf("timeout: %s", timeoutDefault), "it is no number of seconds from 0.1")
	case limit > timeoutMax:
		p.timeout = timeoutMax
		m.changed(n, fmt.Sprintf("timeout: %s", timeoutMax), "a probe of a drill answers within a minute, or it is not good")
	default:
		p.timeout = limit.Round(time.Millisecond)
		m.carried(n, fmt.Sprintf("timeout: %s", p.timeout))
	}
}

// httpProbe makes a command that asks with curl. Everything of the experiment is an argument, never part of the script.
func (m *importer) httpProbe(p *writtenProbe, activity, provider *node) []string {
	address := provider.get("url")
	if address.empty() {
		m.lost(activity, "its provider has no url")
		return nil
	}
	target, secret := m.substituted(address.text)
	if secret {
		m.leftOut(address)
	}
	if parsed, err := url.Parse(target); err == nil {
		if _, has := parsed.User.Password(); has {
			parsed.User = nil
			target = parsed.String()
			m.note(Lost, address, "", "a password stood in it: let curl read it from a file (--netrc-file)")
		}
		if m.endpoint == "" && p.hypothesis && parsed.Host != "" && (parsed.Scheme == "http" || parsed.Scheme == "https") && !strings.Contains(target, placeholder) {
			m.endpoint = target
		}
	}
	m.carried(address, "the address that curl asks")
	m.timeout(p, provider)
	if verify, is := provider.get("verify_tls").truth(); is && !verify {
		m.changed(provider.get("verify_tls"), "certificates are checked", "an experiment that believes any certificate proves nothing of TLS: add --cacert FILE to the command for one of your own")
	} else {
		provider.get("verify_tls").say()
	}
	if n := provider.get("max_retries"); !n.empty() {
		m.changed(n, "one try", "a try that failed is a fact: it is looked at again after a second, and both are in the log")
	}
	args := m.request(provider)
	condition, pattern := m.httpTolerance(activity.get("tolerance"), provider.get("expected_status"))
	const asked = `curl --silent --show-error --location --globoff --max-time `
	limit := strconv.FormatFloat(p.timeout.Seconds(), 'f', -1, 64)
	if pattern != "" {
		script := `pattern=$1; shift; answer=$(` + asked + limit + ` "$@") || exit 1; printf %s "$answer" | grep --quiet --null-data --perl-regexp --regexp="$pattern"`
		return append(append([]string{"sh", "-c", script, p.name, pattern}, args...), "--url", clean(target))
	}
	script := `code=$(` + asked + limit + ` --output /dev/null --write-out '%{http_code}' "$@") || exit 1; case $code in ` + condition + `) ;; *) exit 1 ;; esac`
	return append(append([]string{"sh", "-c", script, p.name}, args...), "--url", clean(target))
}

// clean takes characters out that no argument can hold.
func clean(text string) string { return strings.ReplaceAll(text, "\x00", "") }

// request are the arguments of curl for method, headers and body.
func (m *importer) request(provider *node) []string {
	var args []string
	method := strings.ToUpper(orElse(provider.str("method"), "GET"))
	if method != "GET" {
		args = append(args, "--request", clean(method))
	}
	provider.get("method").say()
	inJSON := false
	headers := provider.get("headers")
	for i, item := range itemsOf(headers) {
		text, secret := m.substituted(item.text)
		name := headers.keys[i]
		switch {
		case item.kind != scalar || strings.ContainsAny(name+text, "\r\n\x00"):
			m.lost(item, "it is no line of text")
		case secret || secretName().MatchString(name):
			m.lost(item, "a header with a secret: write the header into a file, and add --header @FILE to the command")
		default:
			inJSON = inJSON || strings.EqualFold(name, "content-type") && strings.HasPrefix(text, "application/json")
			args = append(args, "--header", name+": "+text)
			item.say()
		}
	}
	body := provider.get("arguments")
	if body.empty() {
		return args
	}
	switch {
	case method != "GET" && inJSON:
		text, secret := m.substituted(string(body.json()))
		if secret {
			m.leftOut(body)
		}
		args = append(args, "--data-raw", clean(text))
	case body.kind == object:
		if method == "GET" {
			args = append(args, "--get")
		}
		for i, item := range body.items {
			text, secret := m.substituted(m.plain(item))
			if secret {
				m.leftOut(item)
			}
			args = append(args, "--data-urlencode", clean(body.keys[i]+"="+text))
		}
	default:
		text, secret := m.substituted(m.plain(body))
		if secret {
			m.leftOut(body)
		}
		args = append(args, "--data-raw", clean(text))
	}
	m.carried(body, "what curl sends")
	return args
}

func itemsOf(n *node) []*node {
	if n == nil || n.kind != object {
		return nil
	}
	return n.items
}

// json is the value as JSON.
func (n *node) json() []byte {
	var value func(n *node) any
	value = func(n *node) any {
		switch n.kind {
		case list:
			all := []any{}
			for _, item := range n.items {
				all = append(all, value(item))
			}
			return all
		case object:
			all := map[string]any{}
			for i, item := range n.items {
				all[n.keys[i]] = value(item)
			}
			return all
		}
		if truth, is := n.truth(); is {
			return truth
		}
		if _, is := n.number(); is && !n.quoted {
			return json.Number(n.text)
		}
		if n.null() {
			return nil
		}
		return n.text
	}
	text, err := json.Marshal(value(n))
	if err != nil {
		return []byte("null") // a number of YAML that JSON does not have
	}
	return text
}

// anyGood are the answers that are good where nothing is said.
const anyGood = "2??|3??"

// httpTolerance is what must come back: patterns of the shell for the status, or an expression that the body must hold.
func (m *importer) httpTolerance(tolerance, expected *node) (condition, pattern string) {
	if tolerance.empty() && !expected.empty() {
		tolerance = expected
	}
	if tolerance.empty() {
		return anyGood, ""
	}
	const kept = "any answer of 2xx or 3xx"
	switch tolerance.kind {
	case scalar:
		if code, is := status(tolerance); is {
			m.carried(tolerance, "status "+code)
			return code, ""
		}
		m.changed(tolerance, kept, "an answer over HTTP is never equal to it")
	case list:
		if codes, all := codesOf(tolerance, status); all {
			m.carried(tolerance, "status "+strings.Join(codes, " or "))
			return strings.Join(codes, "|"), ""
		}
		m.changed(tolerance, kept, "it is no list of statuses")
	case object:
		if pattern := m.regex(tolerance, "body"); pattern != "" {
			return "", pattern
		}
		m.objectTolerance(tolerance, kept)
	}
	return anyGood, ""
}

// codesOf are the items of a list that are codes, and whether all are.
func codesOf(list *node, code func(*node) (string, bool)) (codes []string, all bool) {
	for _, item := range list.items {
		if text, is := code(item); is {
			codes = append(codes, text)
		}
	}
	return codes, len(codes) == len(list.items)
}

// status is a status of HTTP as text.
func status(n *node) (string, bool) {
	number, is := n.number()
	if !is || number < 100 || number > 599 || number != float64(int(number)) {
		return "", false
	}
	return strconv.Itoa(int(number)), true
}

// regex is the expression of a tolerance on the usual target, "" when it is something else.
func (m *importer) regex(tolerance *node, usual string) string {
	pattern, target := tolerance.get("pattern"), tolerance.str("target")
	if tolerance.str("type") != "regex" || pattern.empty() || target != "" && target != usual {
		return ""
	}
	text, secret := m.substituted(pattern.text)
	if secret || strings.ContainsRune(text, 0) {
		return ""
	}
	m.changed(tolerance, "grep", "the expression is Python's there and Perl's here; they differ in rare cases")
	return text
}

func (m *importer) objectTolerance(tolerance *node, kept string) {
	switch kind := tolerance.str("type"); kind {
	case "jsonpath":
		m.changed(tolerance, kept, "a path into JSON: pipe the answer through jq --exit-status in the command of the probe")
	case "probe":
		m.changed(tolerance, kept, "a tolerance that is a probe itself (%s): write a program that ends with 0 when all is well", m.provider(tolerance))
	case "range":
		m.changed(tolerance, kept, "a range: compare in the command of the probe, with test")
	default:
		m.changed(tolerance, kept, "a tolerance of type %q", kind)
	}
}

// processProbe makes a command of a program.
func (m *importer) processProbe(p *writtenProbe, activity, provider *node) []string {
	command := m.command(provider)
	if len(command) == 0 {
		m.lost(activity, "its provider has no path")
		return nil
	}
	m.timeout(p, provider)
	tolerance := activity.get("tolerance")
	if tolerance.empty() {
		return command
	}
	const kept = "it ends with 0"
	wrap := func(script string, args ...string) []string {
		return append(append([]string{"sh", "-c", script, p.name}, args...), command...)
	}
	switch tolerance.kind {
	case scalar:
		if code, is := exitStatus(tolerance); is {
			m.carried(tolerance, "it ends with "+code)
			if code == "0" {
				return command
			}
			return wrap(`"$@"; test $? -eq ` + code)
		}
		m.changed(tolerance, kept, "the outcome of a program is never equal to it")
	case list:
		if codes, all := codesOf(tolerance, exitStatus); all {
			m.carried(tolerance, "it ends with "+strings.Join(codes, " or "))
			return wrap(`"$@"; case $? in ` + strings.Join(codes, "|") + `) ;; *) exit 1 ;; esac`)
		}
		m.changed(tolerance, kept, "it is no list of exit codes")
	case object:
		if pattern := m.regex(tolerance, "stdout"); pattern != "" {
			return wrap(`pattern=$1; shift; answer=$("$@"); printf %s "$answer" | grep --quiet --null-data --perl-regexp --regexp="$pattern"`, pattern)
		}
		m.objectTolerance(tolerance, kept)
	}
	return command
}

func exitStatus(n *node) (string, bool) {
	number, is := n.number()
	if !is || number < 0 || number > 255 || number != float64(int(number)) {
		return "", false
	}
	return strconv.Itoa(int(number)), true
}

// command is what a provider of type process runs, as arguments. A text of arguments goes through a shell there, and here.
func (m *importer) command(provider *node) []string {
	path, arguments := provider.get("path"), provider.get("arguments")
	program, secret := m.substituted(provider.str("path"))
	if strings.TrimSpace(program) == "" {
		return nil
	}
	if secret {
		m.leftOut(path)
	}
	path.say()
	if arguments != nil && arguments.kind == scalar && !arguments.empty() {
		text, secret := m.substituted(arguments.text)
		if secret {
			m.leftOut(arguments)
		}
		m.carried(arguments, "arguments, through a shell as there")
		return []string{"sh", "-c", clean(program + " " + text)}
	}
	command := []string{clean(program)}
	for _, text := range m.texts(arguments) {
		command = append(command, clean(text))
	}
	arguments.say()
	return command
}

// Functions of Python that a program does as well, by module and name.
var testFlags = map[string]string{"os.path.exists": "-e", "os.path.isfile": "-f", "os.path.isdir": "-d", "os.path.islink": "-L"}

// pythonProbe is a command for the few functions that programs do as well. Everything else is declared as not supported.
func (m *importer) pythonProbe(activity, provider *node) []string {
	function := provider.str("module") + "." + provider.str("func")
	if flag, known := testFlags[function]; known && len(itemsOf(provider.get("arguments"))) == 1 {
		file, secret := m.substituted(m.plain(provider.get("arguments").items[0]))
		if truth, is := activity.get("tolerance").truth(); !secret && (is || activity.get("tolerance").empty()) {
			activity.get("tolerance").say()
			provider.say()
			m.note(Changed, provider, "test "+flag, "Python's %s: the same question to a program", function)
			if is && !truth {
				return []string{"test", "!", flag, clean(file)}
			}
			return []string{"test", flag, clean(file)}
		}
	}
	m.lost(activity, "Python is not run (%s): %s", function, pythonCure(provider.str("module"), "write a program that ends with 0 when all is well, and give it as command: of a probe"))
	return nil
}

// Modules of Python and what does their work here, by the beginnings of their names.
var pythonCures = []struct{ module, cure string }{
	{"chaosk8s", "firedrill knows hosts, not the objects of Kubernetes: write a probe that runs kubectl, and attack the hosts of the nodes"},
	{"chaosistio", "attack the traffic itself with latency, reject or blackhole on the hosts"},
	{"chaosprometheus", "write its query as a metric ({prometheus: QUERY, server: URL}), and an alarm on it"},
	{"chaosgrafana", "load and graphs come from outside; write an alarm, or a client that measures"},
	{"chaosaws", "alarms of CloudWatch and records of Route 53 are read by themselves: aws: and failover:"},
	{"chaostoxi", "no proxy is needed: latency, bandwidth, packet_loss and blackhole are attacks"},
	{"chaosgremlin", "attack KIND has the same flags: see firedrill attack list"},
	{"chaospower", "an attack on the host: shutdown"},
	{"chaosazure", "attack the hosts themselves"},
	{"chaosgcp", "attack the hosts themselves"},
	{"chaoshttp", "a probe with curl does it"},
	{"os", "a probe with test(1) does it"},
}

func pythonCure(module, otherwise string) string {
	for _, known := range pythonCures {
		if module == known.module || strings.HasPrefix(module, known.module+".") {
			return known.cure
		}
	}
	return otherwise
}
