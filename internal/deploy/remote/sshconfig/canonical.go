package sshconfig

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// dotsDefault is how many dots a name may have to be taken for a short one, when CanonicalizeMaxDots says nothing.
const dotsDefault = 1

// canonicalize completes the host name as CanonicalizeHostname asks.
func (e *evaluation) canonicalize() (string, error) {
	s := e.settings
	mode := s.Get("canonicalizehostname")
	always := strings.EqualFold(mode, "always")
	if !always && (!isYes(mode) || !e.direct()) || net.ParseIP(e.host) != nil {
		return e.host, nil
	}
	dots := dotsDefault
	if stated := s.Get("canonicalizemaxdots"); stated != "" {
		number, err := strconv.Atoi(stated)
		if err != nil {
			return "", fmt.Errorf("CanonicalizeMaxDots %q is no number", stated)
		}
		dots = number
	}
	if name, trailing := strings.CutSuffix(e.host, "."); trailing {
		return e.follow(name), nil
	}
	if strings.Count(e.host, ".") > dots {
		return e.follow(e.host), nil
	}
	for _, domain := range s.All("canonicaldomains") {
		if strings.EqualFold(domain, "none") {
			continue
		}
		// The dot at the end keeps the resolver from trying domains of its own.
		full := e.host + "." + domain
		if addresses, err := e.query.LookupHost(e.ctx, full+"."); err == nil && len(addresses) > 0 {
			return e.follow(full), nil
		}
	}
	if strings.EqualFold(s.Get("canonicalizefallbacklocal"), "no") {
		return "", fmt.Errorf("no domain of CanonicalDomains has a host %s, and CanonicalizeFallbackLocal is no", e.host)
	}
	return e.host, nil
}

// direct reports that no proxy leads to the host: behind one, names mean what the proxy takes them for.
func (e *evaluation) direct() bool {
	for _, keyword := range []string{"proxycommand", "proxyjump"} {
		if value := e.settings.Get(keyword); value != "" && !strings.EqualFold(value, "none") {
			return false
		}
	}
	return true
}

// follow takes the canonical name of the DNS where CanonicalizePermittedCNAMEs lets it.
func (e *evaluation) follow(name string) string {
	rules := e.settings.All("canonicalizepermittedcnames")
	if len(rules) == 0 || strings.EqualFold(rules[0], "none") {
		return name
	}
	canonical, err := e.query.LookupCNAME(e.ctx, name+".")
	if err != nil {
		return name
	}
	canonical = strings.ToLower(strings.TrimSuffix(canonical, "."))
	for _, rule := range rules {
		from, to, _ := strings.Cut(rule, ":")
		if canonical != name && matchesHost(name, from) && matchesHost(canonical, to) {
			return canonical
		}
	}
	return name
}
