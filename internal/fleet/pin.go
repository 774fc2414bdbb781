package fleet

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"firedrill/internal/drill"
)

// DefaultPort is where a control plane listens for agents and people.
const DefaultPort = "7422"

// Pin is what a certificate's key is known by: SHA-256 of its SubjectPublicKeyInfo. A control plane makes its own certificate, and whoever
// is told about it is told its pin; no authority that others run can stand in for it.
func Pin(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// ErrPin is what a connection fails with whose other side is not the control plane that was meant.
var ErrPin = errors.New("the certificate is not that of the control plane that was joined")

// PinnedTLS speaks to the holder of the pinned key, or of a key that followed it, and to nobody else.
func PinnedTLS(pin string) *tls.Config {
	return FollowingTLS(func() []string { return []string{pin} }, nil)
}

// FollowingTLS is PinnedTLS with pins that may change. moved, if there is one, is told of a key that has followed a pinned one: from then on it is to
// be the pin.
func FollowingTLS(pins func() []string, moved func(pin string)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The name in the certificate says nothing here: the key itself is compared below.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection: func(state tls.ConnectionState) error {
			for _, pin := range pins() {
				now, err := FollowPin(pin, state.PeerCertificates)
				if err == nil && now != pin && moved != nil {
					moved(now)
				}
				if err == nil {
					return nil
				}
			}
			return ErrPin
		},
	}
}

// MutualTLS is how servers of one fleet speak to each other: both sides hold the key of the fleet, and show it. Which that is may change, and for a
// while the one before counts too. moved is told when the other side shows a key that has followed one of ours: whether it lets us in is not known then.
func MutualTLS(own func() *tls.Certificate, pins func() []string, moved func(pin string)) *tls.Config {
	mutual := FollowingTLS(pins, moved)
	mutual.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own(), nil }
	mutual.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own(), nil }
	mutual.ClientAuth = tls.RequireAnyClientCert // which one, VerifyConnection says
	return mutual
}

const tokenPrefix = "fdj"

// Token is leave to join, as a person hands it from the control plane to a host.
type Token struct {
	Secret string // shown once; the control plane keeps its hash
	Pin    string
}

// String is the token as one word.
func (t Token) String() string { return strings.Join([]string{tokenPrefix, t.Secret, t.Pin}, ".") }

// ID names the token without giving it away.
func (t Token) ID() string { return TokenID(t.Secret) }

// TokenID is the ID of the token with a secret.
func TokenID(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// ParseToken reads a token.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) == 3 && parts[0] == tokenPrefix {
		secret, err1 := base64.RawURLEncoding.DecodeString(parts[1])
		pin, err2 := base64.RawURLEncoding.DecodeString(parts[2])
		if err1 == nil && err2 == nil && len(secret) >= 16 && len(secret) <= 64 && len(pin) == sha256.Size {
			return Token{Secret: parts[1], Pin: parts[2]}, nil
		}
	}
	return Token{}, &drill.Error{Op: "token", Kind: drill.Invalid, Err: errors.New("that is no token to join with"), Hint: "make one where the control plane runs: firedrill fleet token"}
}

// Address reads where a control plane is: host, host:port, or tls://host:port.
func Address(text string) (string, error) {
	wrong := func(err error) (string, error) {
		return "", &drill.Error{Op: "address of the control plane", Kind: drill.Invalid, Err: err, Hint: "write host:port, as control.example.test:" + DefaultPort}
	}
	if strings.Contains(text, "://") {
		parsed, err := url.Parse(text)
		if err != nil {
			return wrong(err)
		}
		if parsed.Scheme != "tls" || parsed.Path != "" && parsed.Path != "/" || parsed.User != nil {
			return wrong(fmt.Errorf("%q is not tls://HOST:PORT", text))
		}
		text = parsed.Host
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), DefaultPort
	}
	if host == "" || strings.ContainsAny(host, " /@") {
		return wrong(fmt.Errorf("%q names no host", text))
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return wrong(fmt.Errorf("%q is no port", port))
	}
	return net.JoinHostPort(host, port), nil
}

// Addresses reads where the servers of a control plane are: addresses as Address reads them, with commas between.
func Addresses(text string) (string, error) {
	var all []string
	for one := range strings.SplitSeq(text, ",") {
		address, err := Address(strings.TrimSpace(one))
		if err != nil {
			return "", err
		}
		all = append(all, address)
	}
	return strings.Join(all, ","), nil
}

// URLs are addresses as the engine's client takes them.
func URLs(addresses string) string { return "tls://" + strings.ReplaceAll(addresses, ",", ",tls://") }
