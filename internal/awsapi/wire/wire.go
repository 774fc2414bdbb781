package wire

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Protocol is how a client wants to be spoken to.
type Protocol int

// The protocols.
const (
	Query Protocol = iota // form in, XML out
	JSON
	CBOR
)

// Request is what came in, with its operation named.
type Request struct {
	Protocol  Protocol
	Operation string
	body      []byte
	form      url.Values
}

// Of reads which operation is asked for, and in which protocol. ok is false when it is none of them.
func Of(r *http.Request, body []byte) (Request, bool) {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if r.Header.Get("Smithy-Protocol") == "rpc-v2-cbor" {
		_, operation, found := strings.Cut(r.URL.Path, "/operation/")
		return Request{Protocol: CBOR, Operation: operation, body: body}, found
	}
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		_, operation, found := strings.Cut(target, ".")
		return Request{Protocol: JSON, Operation: operation, body: body}, found
	}
	text := r.URL.RawQuery
	if r.Method == http.MethodPost && strings.TrimSpace(kind) == "application/x-www-form-urlencoded" {
		text = string(body)
	}
	form, err := url.ParseQuery(text)
	return Request{Protocol: Query, Operation: form.Get("Action"), form: form}, err == nil && form.Get("Action") != ""
}

// Into reads the request's parameters into a struct.
func (r Request) Into(target any) error {
	switch r.Protocol {
	case CBOR:
		if len(r.body) == 0 {
			return nil
		}
		return cborDecoder.Unmarshal(r.body, target)
	case JSON:
		if len(r.body) == 0 {
			return nil
		}
		return json.Unmarshal(r.body, target)
	case Query:
	}
	return decodeQuery(r.form, target)
}

// cborDecoder bounds what a request may make us build.
var cborDecoder = mustDecoder(cbor.DecOptions{MaxArrayElements: 1 << 17, MaxMapPairs: 1 << 17, MaxNestedLevels: 16})

var cborEncoder = mustEncoder(cbor.EncOptions{Time: cbor.TimeUnixDynamic, TimeTag: cbor.EncTagRequired})

func mustDecoder(options cbor.DecOptions) cbor.DecMode {
	mode, err := options.DecMode()
	if err != nil {
		panic(fmt.Sprintf("wire: %v", err))
	}
	return mode
}

func mustEncoder(options cbor.EncOptions) cbor.EncMode {
	mode, err := options.EncMode()
	if err != nil {
		panic(fmt.Sprintf("wire: %v", err))
	}
	return mode
}

// Answer writes the answer to a request; output nil is an operation that says nothing.
func (r Request) Answer(w http.ResponseWriter, namespace, requestID string, output any) error {
	w.Header().Set("X-Amzn-Requestid", requestID)
	if output == nil {
		output = struct{}{}
	}
	switch r.Protocol {
	case CBOR:
		packet, err := cborEncoder.Marshal(output)
		if err != nil {
			return err
		}
		w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		w.Header().Set("Content-Type", "application/cbor")
		_, err = w.Write(packet)
		return err
	case JSON:
		text, err := json.Marshal(output)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, err = w.Write(text)
		return err
	case Query:
	}
	w.Header().Set("Content-Type", "text/xml")
	_, err := w.Write(encodeXML(r.Operation, namespace, requestID, output))
	return err
}

// Fault is an error as AWS says it: a code that programs know, and a sentence for people.
type Fault struct {
	Code    string
	Message string
	Status  int    // of HTTP; 0: 400
	Shape   string // of the error in the service's model, where it is called otherwise than Code
}

func (f *Fault) Error() string { return f.Code + ": " + f.Message }

// StatusCode returns the HTTP status.
func (f *Fault) StatusCode() int {
	if f.Status == 0 {
		return http.StatusBadRequest
	}
	return f.Status
}

// sender says whose fault it is.
func (f *Fault) sender() string {
	if f.StatusCode() >= http.StatusInternalServerError {
		return "Receiver"
	}
	return "Sender"
}

// Refuse writes a fault. model is the name of the service's model, as com.amazonaws.cloudwatch.
func (r Request) Refuse(w http.ResponseWriter, namespace, model, requestID string, f *Fault) {
	w.Header().Set("X-Amzn-Requestid", requestID)
	shape := f.Shape
	if shape == "" {
		shape = f.Code
	}
	if r.Protocol == Query {
		WriteXMLFault(w, namespace, requestID, f)
		return
	}
	w.Header().Set("X-Amzn-Query-Error", f.Code+";"+f.sender())
	said := map[string]string{"__type": model + "#" + shape, "message": f.Message}
	if r.Protocol == CBOR {
		packet, err := cborEncoder.Marshal(said)
		if err != nil {
			packet = nil // two strings always encode
		}
		w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		w.Header().Set("Content-Type", "application/cbor")
		w.WriteHeader(f.StatusCode())
		_, _ = w.Write(packet) // the client has gone
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(f.StatusCode())
	_ = json.NewEncoder(w).Encode(said) // the client has gone
}

// WriteXMLFault writes a fault as the query protocol and REST-XML say it.
func WriteXMLFault(w http.ResponseWriter, namespace, requestID string, f *Fault) {
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("X-Amzn-Requestid", requestID)
	w.WriteHeader(f.StatusCode())
	var text bytes.Buffer
	text.WriteString(xml.Header)
	fmt.Fprintf(&text, `<ErrorResponse xmlns="%s"><Error><Type>%s</Type>`, namespace, f.sender())
	element(&text, "Code", f.Code)
	element(&text, "Message", f.Message)
	text.WriteString("</Error>")
	element(&text, "RequestId", requestID)
	text.WriteString("</ErrorResponse>\n")
	_, _ = w.Write(text.Bytes()) // the client has gone
}

// Time is an instant as the protocols write it: seconds since 1970 in JSON and CBOR, ISO 8601 in XML and forms. All keep milliseconds.
type Time struct{ time.Time }

// At returns a Time.
func At(t time.Time) *Time { return &Time{t.UTC().Truncate(time.Millisecond)} }

// MarshalJSON writes seconds.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(fmt.Sprintf("%.3f", float64(t.UnixMilli())/1000)), nil
}

// UnmarshalJSON reads seconds, or a text.
func (t *Time) UnmarshalJSON(text []byte) error {
	var seconds float64
	if err := json.Unmarshal(text, &seconds); err == nil {
		*t = ofSeconds(seconds)
		return nil
	}
	var written string
	if err := json.Unmarshal(text, &written); err != nil {
		return err
	}
	return t.parse(written)
}

// MarshalCBOR writes seconds under tag 1.
func (t Time) MarshalCBOR() ([]byte, error) {
	return cborEncoder.Marshal(cbor.Tag{Number: 1, Content: float64(t.UnixMilli()) / 1000})
}

// UnmarshalCBOR reads tag 1 with any number in it.
func (t *Time) UnmarshalCBOR(packet []byte) error {
	var tag cbor.RawTag
	if err := cborDecoder.Unmarshal(packet, &tag); err != nil {
		return err
	}
	var seconds float64
	if err := cborDecoder.Unmarshal(tag.Content, &seconds); err != nil {
		return err
	}
	*t = ofSeconds(seconds)
	return nil
}

func ofSeconds(seconds float64) Time {
	return Time{time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()}
}

func (t *Time) parse(text string) error {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04:05Z0700", "2006-01-02"} {
		if parsed, err := time.Parse(layout, text); err == nil {
			*t = Time{parsed.UTC()}
			return nil
		}
	}
	return fmt.Errorf("%q is no time", text)
}

// isoLayout is how XML answers write an instant.
const isoLayout = "2006-01-02T15:04:05.000Z"

// MarshalText writes ISO 8601, for XML.
func (t Time) MarshalText() ([]byte, error) { return []byte(t.UTC().Format(isoLayout)), nil }

// UnmarshalText reads ISO 8601.
func (t *Time) UnmarshalText(text []byte) error { return t.parse(string(text)) }
