package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// answerMax bounds an answer over HTTPS: what the parts of one over the fleet's port come to.
const answerMax = 128 << 20

// overHTTPS asks by a token, at the address that a server serves its API on.
type overHTTPS struct {
	base, token string
	web         *http.Client
}

// OverHTTPS asks the server at an address, https://HOST[:PORT][#PIN], with a token of firedrill fleet api-token. With a pin, as the server's log
// shows it, the server is the holder of that key and nobody else; without one its certificate must be of an authority that this machine trusts.
// Nothing is sent before the first call.
func OverHTTPS(address, token string) (*Client, error) {
	wrong := func(err error, hint string) (*Client, error) {
		return nil, &drill.Error{Op: "--server", Kind: drill.Invalid, Err: err, Hint: hint}
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return wrong(err, "write https://HOST:PORT#sha256//PIN, with the pin of the server's log")
	}
	if parsed.Scheme != "https" || parsed.Host == "" || parsed.User != nil || parsed.RawQuery != "" || parsed.Path != "" && parsed.Path != "/" {
		return wrong(fmt.Errorf("%q is not https://HOST:PORT", address), "write https://HOST:PORT#sha256//PIN, with the pin of the server's log")
	}
	if token = strings.TrimSpace(token); token == "" {
		return wrong(errors.New("over HTTPS a token is needed, and none is there"), "put one into FIREDRILL_TOKEN: firedrill fleet api-token NAME --may SCOPE,...; people with credentials of their own write --server HOST:"+fleet.DefaultPort)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if parsed.Fragment != "" {
		pin, err := readPin(parsed.Fragment)
		if err != nil {
			return wrong(err, "write it as the server's log shows it: #sha256//...")
		}
		transport.TLSClientConfig = fleet.PinnedTLS(pin)
	}
	web := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // the token is for nobody else
	return &Client{https: &overHTTPS{base: "https://" + parsed.Host, token: token, web: web}}, nil
}

// readPin reads a pin as the server's log and curl write it, or as credentials do.
func readPin(text string) (string, error) {
	text = strings.TrimPrefix(text, "sha256//")
	sum, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(text), "="))
	if err != nil || len(sum) != sha256.Size {
		return "", fmt.Errorf("%q is no pin", text)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// call asks, and returns what was answered, an error of the server's included.
func (o *overHTTPS) call(ctx context.Context, call string, asked []byte) (fleet.Reply, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.base+fleet.CallsPath+url.PathEscape(call), bytes.NewReader(asked))
	if err != nil {
		return fleet.Reply{}, err
	}
	request.Header.Set("Authorization", "Bearer "+o.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := o.web.Do(request)
	if err != nil {
		return fleet.Reply{}, o.unreachable(call, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerMax))
	if err != nil {
		return fleet.Reply{}, o.unreachable(call, err)
	}
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		var refused struct {
			Error struct{ Text, Hint string } `json:"error"`
		}
		_ = json.Unmarshal(text, &refused) // what is not said is said by the status
		return fleet.Reply{}, &drill.Error{Op: "fleet " + call, Kind: drill.Refused, Err: errors.New(strings.TrimSpace(response.Status + " " + refused.Error.Text)), Hint: refused.Error.Hint}
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return fleet.Reply{}, &drill.Error{Op: "fleet " + call, Kind: drill.Unsupported, Err: fmt.Errorf("%s does not answer calls: %s", o.base, response.Status), Hint: "is it the address of firedrill server --fleet-http, and is that server as new as this program?"}
	}
	var reply fleet.Reply
	if err := json.Unmarshal(text, &reply); err != nil || response.StatusCode >= http.StatusMultipleChoices && reply.Error == nil {
		return fleet.Reply{}, &drill.Error{Op: "fleet " + call, Kind: drill.Internal, Err: fmt.Errorf("%s answers %s, and not as a server of a fleet does", o.base, response.Status)}
	}
	return reply, nil
}

// unreachable says why nobody answered, or the wrong one.
func (o *overHTTPS) unreachable(call string, err error) error {
	known := &drill.Error{Op: "fleet " + call, Kind: drill.Unreachable, Err: err, Hint: "does the server run, with --fleet-http? what was ordered may have begun: see firedrill fleet runs"}
	var unknown x509.UnknownAuthorityError
	var named x509.HostnameError
	var look *net.DNSError
	switch {
	case errors.Is(err, fleet.ErrPin):
		known.Kind, known.Hint = drill.Refused, "somebody else answers there, or the server has a new certificate: its log shows the pin"
	case errors.As(err, &unknown), errors.As(err, &named):
		known.Kind, known.Hint = drill.Refused, "name the key of the server: --server "+o.base+"#sha256//PIN; the server's log shows the pin. Where it shows a certificate of yours (--fleet-http-cert): have this machine trust its authority"
	case errors.As(err, &look):
		known.Hint = "does the name lead to the server?"
	}
	return known
}
