package chaostoolkit

import (
	"fmt"
	"strings"

	"firedrill/internal/drill"
)

// value is what ${name} stands for.
type value struct {
	text   string
	secret bool
}

// placeholder stands where a value is not known.
const placeholder = "TODO-"

// configuration reads values that activities name.
func (m *importer) configuration() {
	configuration := m.root.get("configuration")
	if configuration.empty() {
		return
	}
	if configuration.kind != object {
		m.lost(configuration, "it is no mapping of names to values")
		return
	}
	for i, name := range configuration.keys {
		n := configuration.items[i]
		switch {
		case secretName().MatchString(name) && n.kind == scalar:
			m.values[name] = value{secret: true}
			m.lost(n, "it looks like a secret: none is copied")
		case n.kind == scalar:
			m.values[name] = value{text: n.text} // whether anything uses it is said by usedValues
		case n.str("type") == "env":
			m.variable(name, n)
		case n.str("type") == "probe":
			m.values[name] = value{text: placeholder + name}
			m.lost(n, "a value that a probe finds when the experiment starts: write it where TODO stands")
		default:
			m.values[name] = value{text: placeholder + name}
			m.lost(n, "a value of type %q: write it where TODO stands", orElse(n.str("type"), "object"))
		}
	}
}

// usedValues says of values that are written in the experiment whether they stand in the service file.
func (m *importer) usedValues() {
	configuration := m.root.get("configuration")
	for i, n := range itemsOf(configuration) {
		switch name := configuration.keys[i]; {
		case n.said || n.kind != scalar || n.empty():
		case m.used[name]:
			m.carried(n, "its value, where ${"+name+"} stood")
		default:
			m.lost(n, "nothing that was carried over uses it")
		}
	}
}

func (m *importer) variable(name string, n *node) {
	key := n.str("key")
	if fallback := n.get("default"); fallback != nil && fallback.kind == scalar && !fallback.null() && !secretName().MatchString(name+key) {
		m.values[name] = value{text: fallback.text}
		m.changed(n, "its default, where ${"+name+"} stood", "the environment variable %s is not read: a service file says the same wherever it is used", key)
		return
	}
	m.values[name] = value{text: placeholder + name, secret: secretName().MatchString(name + key)}
	m.lost(n, "the environment variable %s is not read, and has no default: write its value where TODO stands", key)
}

// secrets are named and never copied.
func (m *importer) secrets() {
	secrets := m.root.get("secrets")
	if secrets.empty() {
		return
	}
	for i, group := range secrets.items {
		if group.kind != object {
			m.values[secrets.keys[i]] = value{secret: true}
			m.lost(group, "a secret: none is copied")
			continue
		}
		for j, item := range group.items {
			m.values[group.keys[j]] = value{secret: true}
			switch kind := item.str("type"); {
			case item.kind == scalar:
				m.lost(item, "a secret that is written in the experiment: it is not copied; put it into a file that its owner alone can read")
			case kind == "env":
				m.lost(item, "a secret out of the environment variable %s: a command of a probe finds that in its own environment", item.str("key"))
			default:
				m.lost(item, "a secret of type %q: a command of a probe must get it by itself", kind)
			}
		}
	}
	secrets.said = true
}

var reference = drill.Pattern(`\$\{([^{}]+)\}`)

// substituted replaces ${name}. Where a secret stood, secret is true and a placeholder is written.
func (m *importer) substituted(text string) (result string, secret bool) {
	result = reference().ReplaceAllStringFunc(text, func(match string) string {
		name := strings.TrimSpace(match[2 : len(match)-1])
		known, ok := m.values[name]
		switch {
		case !ok:
			return match // as the Chaos Toolkit leaves it
		case known.secret:
			secret = true
			return placeholder + name
		}
		m.used[name] = true
		return known.text
	})
	return result, secret
}

// leftOut notes of a value with a secret in it that the secret was left out.
func (m *importer) leftOut(n *node) {
	m.note(Lost, n, "", "a secret stood in it: %sNAME stands there now; let the command read it from a file or from its environment", placeholder)
}

// texts are the scalars of a list as text, substituted; of an object, keys and values in turn, as the Chaos Toolkit passes them.
func (m *importer) texts(n *node) []string {
	var all []string
	add := func(item *node) {
		if item.empty() {
			return
		}
		text, secret := m.substituted(m.plain(item))
		if secret {
			m.leftOut(item)
		}
		all = append(all, text)
	}
	switch {
	case n == nil:
	case n.kind == scalar:
		add(n)
	case n.kind == list:
		for _, item := range n.items {
			add(item)
		}
	case n.kind == object:
		for i, item := range n.items {
			all = append(all, n.keys[i])
			add(item)
		}
	}
	return all
}

// plain is a value as one word.
func (m *importer) plain(n *node) string {
	switch n.kind {
	case list:
		var parts []string
		for _, item := range n.items {
			parts = append(parts, m.plain(item))
		}
		return strings.Join(parts, ",")
	case object:
		return fmt.Sprintf("%sobject", placeholder)
	}
	return n.text
}
