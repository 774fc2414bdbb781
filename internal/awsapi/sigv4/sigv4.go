package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	ending    = "aws4_request"
	stamp     = "20060102T150405Z"
	skewMax   = 15 * time.Minute
)

// Reason is why a request is refused, as AWS distinguishes it.
type Reason string

// The reasons.
const (
	Missing    Reason = "MissingAuthenticationToken"
	Incomplete Reason = "IncompleteSignature"
	UnknownKey Reason = "InvalidClientTokenId"
	Mismatch   Reason = "SignatureDoesNotMatch"
)

// Refusal is the error of Verify.
type Refusal struct {
	Reason  Reason
	Message string
}

func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Message }

// Scope is what a signature is good for.
type Scope struct {
	Key, Date, Region, Service string
}

// Verify returns the scope of a request's signature, or a *Refusal. secrets gives the secret of a key.
func Verify(r *http.Request, body []byte, secrets map[string]string, now time.Time) (Scope, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return Scope{}, &Refusal{Missing, "Missing Authentication Token"}
	}
	scope, signed, signature, err := parse(header)
	if err != nil {
		return scope, err
	}
	at, err := signedAt(r, scope, now)
	if err != nil {
		return scope, err
	}
	secret, known := secrets[scope.Key]
	if !known || r.Header.Get("X-Amz-Security-Token") != "" {
		return scope, &Refusal{UnknownKey, "The security token included in the request is invalid."}
	}
	if err := covers(r, signed); err != nil {
		return scope, err
	}
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	if said := r.Header.Get("X-Amz-Content-Sha256"); said != "" && said != payload {
		return scope, &Refusal{Mismatch, "The provided 'x-amz-content-sha256' header does not match what was computed."}
	}
	canonical := sha256.Sum256([]byte(canonicalRequest(r, signed, payload)))
	toSign := strings.Join([]string{
		algorithm, at.Format(stamp), strings.Join([]string{scope.Date, scope.Region, scope.Service, ending}, "/"), hex.EncodeToString(canonical[:]),
	}, "\n")
	want := hash(signingKey(secret, scope), toSign)
	if given, err := hex.DecodeString(signature); err != nil || !hmac.Equal(given, want) {
		return scope, &Refusal{Mismatch, "The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}
	}
	return scope, nil
}

// parse reads the Authorization header.
func parse(header string) (scope Scope, signed []string, signature string, err error) {
	rest, found := strings.CutPrefix(header, algorithm+" ")
	if !found {
		return scope, nil, "", &Refusal{Incomplete, fmt.Sprintf("Unsupported AWS 'algorithm'; write %s.", algorithm)}
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if parts[name] == "" {
			return scope, nil, "", &Refusal{Incomplete, fmt.Sprintf("Authorization header requires '%s' parameter. Authorization=%s", name, algorithm)}
		}
	}
	credential := strings.Split(parts["Credential"], "/")
	if len(credential) != 5 || credential[4] != ending {
		return scope, nil, "", &Refusal{Incomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term"}
	}
	scope = Scope{Key: credential[0], Date: credential[1], Region: credential[2], Service: credential[3]}
	return scope, strings.Split(parts["SignedHeaders"], ";"), parts["Signature"], nil
}

// signedAt returns when the request was signed, which must be now, give or take.
func signedAt(r *http.Request, scope Scope, now time.Time) (time.Time, error) {
	at, err := time.Parse(stamp, r.Header.Get("X-Amz-Date"))
	if err != nil {
		if at, err = http.ParseTime(r.Header.Get("Date")); err != nil {
			return at, &Refusal{Incomplete, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."}
		}
	}
	at = at.UTC()
	switch text := at.Format(stamp); {
	case at.Format("20060102") != scope.Date:
		return at, &Refusal{Mismatch, fmt.Sprintf("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s'", scope.Date, text)}
	case at.Before(now.Add(-skewMax)):
		return at, &Refusal{Mismatch, fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 15 min.)", text, now.Add(-skewMax).UTC().Format(stamp), now.UTC().Format(stamp))}
	case at.After(now.Add(skewMax)):
		return at, &Refusal{Mismatch, fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 15 min.)", text, now.Add(skewMax).UTC().Format(stamp), now.UTC().Format(stamp))}
	}
	return at, nil
}

// covers says whether what must be signed is: the host, and everything that AWS would act on.
func covers(r *http.Request, signed []string) error {
	must := []string{"host"}
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") {
			must = append(must, lower)
		}
	}
	for _, name := range must {
		if !slices.Contains(signed, name) {
			return &Refusal{Mismatch, fmt.Sprintf("'%s' must be a 'SignedHeader' in the AWS Authorization.", name)}
		}
	}
	if !slices.IsSorted(signed) {
		return &Refusal{Mismatch, "'SignedHeaders' must be sorted."}
	}
	return nil
}

func canonicalRequest(r *http.Request, signed []string, payload string) string {
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	lines := []string{r.Method, encode(path, true), canonicalQuery(r.URL.RawQuery)}
	for _, name := range signed {
		values := r.Header.Values(name)
		switch name {
		case "host":
			values = []string{r.Host}
		case "content-length":
			values = []string{fmt.Sprint(r.ContentLength)}
		}
		clean := make([]string, 0, len(values))
		for _, value := range values {
			clean = append(clean, strings.Join(strings.Fields(value), " "))
		}
		lines = append(lines, name+":"+strings.Join(clean, ","))
	}
	return strings.Join(append(lines, "", strings.Join(signed, ";"), payload), "\n")
}

// canonicalQuery sorts the parameters and writes each in the one way that is signed.
func canonicalQuery(raw string) string {
	if raw == "" {
		return ""
	}
	var all []string
	for part := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(part, "=")
		all = append(all, encode(unescape(name), false)+"="+encode(unescape(value), false))
	}
	slices.Sort(all)
	return strings.Join(all, "&")
}

func unescape(text string) string {
	plain, err := url.QueryUnescape(text)
	if err != nil {
		return text
	}
	return plain
}

// encode writes a text with all but RFC 3986's unreserved characters escaped; in a path a slash stays.
func encode(text string, path bool) string {
	const hexDigits = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(text) {
		c := text[i]
		plain := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~", c) >= 0
		if plain || path && c == '/' {
			out.WriteByte(c)
			continue
		}
		out.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
	}
	return out.String()
}

func signingKey(secret string, scope Scope) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{scope.Date, scope.Region, scope.Service, ending} {
		key = hash(key, part)
	}
	return key
}

func hash(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
