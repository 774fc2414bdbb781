package certificate

import (
	"crypto/x509"
	"fmt"
	"time"

	"golang.org/x/crypto/ocsp"
)

const (
	day    = 24 * time.Hour
	dateAs = "2006-01-02 15:04 MST"
)

// seen is what an endpoint showed or a file held.
type seen struct {
	where  string
	chain  []*x509.Certificate // never empty; the host's own first
	staple []byte              // the OCSP answer that the endpoint brought along; may be nil
}

// opinion is one thing to be said of what was seen.
type opinion struct {
	text string
	bad  bool
}

// judge says of everything that was seen what it would be worth at a later date. It is pure. roots may be nil: then only dates are looked at.
func judge(s seen, now, then time.Time, roots *x509.CertPool, h hooks) []opinion {
	var all []opinion
	bad := false
	chain := s.chain
	if h.leafOnly {
		chain = chain[:1]
	}
	for _, certificate := range chain {
		o := date(certificate, now, then)
		o.text = s.where + ": " + o.text
		bad = bad || o.bad
		all = append(all, o)
	}
	// A bundle of authorities is no chain.
	if leaf := s.chain[0]; !leaf.IsCA && roots != nil && !h.trusting {
		if o, said := trust(s, now, then, roots, bad); said {
			all = append(all, o)
		}
	}
	if len(s.staple) > 0 {
		all = append(all, stapled(s, now))
	}
	return all
}

// date looks at the dates of one certificate.
func date(c *x509.Certificate, now, then time.Time) opinion {
	name := c.Subject.CommonName
	if len(c.DNSNames) > 0 {
		name = c.DNSNames[0]
	}
	if name == "" {
		name = c.Subject.String()
	}
	what := fmt.Sprintf("the certificate of %q (by %q)", name, c.Issuer.CommonName)
	until := c.NotAfter.UTC().Format(dateAs)
	switch {
	case now.After(c.NotAfter):
		return opinion{fmt.Sprintf("%s is expired since %s", what, until), true}
	case then.After(c.NotAfter):
		return opinion{fmt.Sprintf("%s would be expired: it ends on %s, in %d days", what, until, int(c.NotAfter.Sub(now)/day)), true}
	case then.Before(c.NotBefore):
		return opinion{fmt.Sprintf("%s would not be valid yet: it begins on %s", what, c.NotBefore.UTC().Format(dateAs)), true}
	}
	return opinion{fmt.Sprintf("%s would be valid: it ends on %s, in %d days", what, until, int(c.NotAfter.Sub(now)/day)), false}
}

// trust looks for a chain to a root, now and then. What has none now is told, and not held against it: roots of a company's own are not among
// those of this host. What has one now and would have none then would fail, though every certificate shown is valid: a root ends too.
func trust(s seen, now, then time.Time, roots *x509.CertPool, bad bool) (opinion, bool) {
	between := x509.NewCertPool()
	for _, certificate := range s.chain[1:] {
		between.AddCert(certificate)
	}
	at := func(when time.Time) error {
		_, err := s.chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: when, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err
	}
	if err := at(now); err != nil {
		return opinion{fmt.Sprintf("%s: no chain to a root that is trusted here, so only dates are looked at; --ca FILE names the roots: %v", s.where, err), false}, !bad
	}
	if err := at(then); err != nil {
		return opinion{fmt.Sprintf("%s: there would be no chain to a trusted root any more: %v", s.where, err), true}, !bad
	}
	return opinion{s.where + ": there would still be a chain to a trusted root", false}, true
}

// stapled looks at the OCSP answer. It lives for some days and is renewed by the server, so that it ends before the later date is no fault;
// that it has ended already is: then it is not renewed.
func stapled(s seen, now time.Time) opinion {
	answer, err := ocsp.ParseResponse(s.staple, nil)
	switch {
	case err != nil:
		return opinion{fmt.Sprintf("%s: the stapled OCSP answer cannot be read: %v", s.where, err), true}
	case answer.Status == ocsp.Revoked:
		return opinion{fmt.Sprintf("%s: the stapled OCSP answer says that the certificate was revoked on %s", s.where, answer.RevokedAt.UTC().Format(dateAs)), true}
	case !answer.NextUpdate.IsZero() && now.After(answer.NextUpdate):
		return opinion{fmt.Sprintf("%s: the stapled OCSP answer is expired since %s: it is not renewed", s.where, answer.NextUpdate.UTC().Format(dateAs)), true}
	}
	return opinion{fmt.Sprintf("%s: the stapled OCSP answer is good until %s; the server renews it", s.where, answer.NextUpdate.UTC().Format(dateAs)), false}
}
