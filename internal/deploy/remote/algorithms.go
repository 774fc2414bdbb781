package remote

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// algorithms are those that the configuration restricts us to; nil where it says nothing.
type algorithms struct {
	hostKeys, publicKeys, exchanges, ciphers, macs []string
	authorities                                    []string // what certificates may be signed with
}

// algorithmsOf reads the lists of algorithms. What we have not got is left out, as nobody can negotiate it.
func algorithmsOf(said spoken) (a algorithms, err error) {
	safe, weak := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	for _, one := range []struct {
		into       *[]string
		keyword    string
		safe, weak []string
	}{
		{&a.hostKeys, "hostkeyalgorithms", safe.HostKeys, weak.HostKeys},
		{&a.publicKeys, "pubkeyacceptedalgorithms", safe.PublicKeyAuths, weak.PublicKeyAuths},
		{&a.exchanges, "kexalgorithms", safe.KeyExchanges, weak.KeyExchanges},
		{&a.ciphers, "ciphers", safe.Ciphers, weak.Ciphers},
		{&a.macs, "macs", safe.MACs, weak.MACs},
		{&a.authorities, "casignaturealgorithms", safe.PublicKeyAuths, weak.PublicKeyAuths},
	} {
		stated := said.get(one.keyword)
		if stated == "" {
			continue
		}
		if *one.into = chosen(stated, one.safe, one.weak); len(*one.into) == 0 {
			return a, fmt.Errorf("%s %s leaves none that we have; we have %s", one.keyword, stated, strings.Join(one.safe, ","))
		}
	}
	return a, nil
}

// chosen applies a list to what we have: +list adds, -list removes, ^list puts first, a plain list replaces. Weak ones count only when named.
func chosen(stated string, safe, weak []string) []string {
	have := append(slices.Clone(safe), weak...)
	names := strings.Split(strings.TrimLeft(stated, "+-^"), ",")
	var named []string
	for _, name := range names {
		for _, one := range have {
			if matched, err := path.Match(name, one); err == nil && matched && !slices.Contains(named, one) {
				named = append(named, one)
			}
		}
	}
	var first, second []string
	switch stated[0] {
	case '+':
		first, second = safe, named
	case '-':
		return slices.DeleteFunc(slices.Clone(safe), func(one string) bool { return slices.Contains(named, one) })
	case '^':
		first, second = named, safe
	default:
		return named
	}
	all := slices.Clone(first)
	for _, one := range second {
		if !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return all
}
