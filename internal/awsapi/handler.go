package awsapi

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"firedrill/internal/awsapi/cloudwatch"
	"firedrill/internal/awsapi/rds"
	"firedrill/internal/awsapi/recovery"
	"firedrill/internal/awsapi/route53"
	"firedrill/internal/awsapi/sigv4"
	"firedrill/internal/awsapi/wire"
)

// bodyMax bounds a request: CloudWatch takes 1 MB.
const bodyMax = 1 << 20

// Handler serves the API. All fields but Log and Now are needed.
type Handler struct {
	Keys       map[string]string // secrets by access key
	CloudWatch *cloudwatch.Engine
	Route53    *route53.Service
	Recovery   *recovery.Service
	RDS        *rds.Service
	Log        *slog.Logger
	Now        func() time.Time // for signatures; default: the clock
}

// call is a request that was let in.
type call struct {
	*http.Request
	body  []byte
	scope sigv4.Scope
	id    string
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := call{Request: r, id: uuid.NewString()}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
	if err != nil {
		h.refuse(w, c, &wire.Fault{Code: "RequestEntityTooLarge", Status: http.StatusRequestEntityTooLarge, Message: "Request body is too large; at most 1 MB is read."})
		return
	}
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}
	if c.scope, err = sigv4.Verify(r, body, h.Keys, now()); err != nil {
		h.refuse(w, c, h.refusal(r, err))
		return
	}
	if c.body, err = plain(r, body); err != nil {
		h.refuse(w, c, &wire.Fault{Code: "MalformedInput", Message: "The body cannot be decompressed: " + err.Error()})
		return
	}
	switch c.scope.Service {
	case "monitoring":
		h.cloudWatch(w, c)
	case "route53":
		h.route53(w, c)
	case "rds":
		h.rds(w, c)
	case "route53-recovery-cluster":
		h.recoveryCluster(w, c)
	case "route53-recovery-control-config":
		h.recoveryControl(w, c)
	default:
		h.refuse(w, c, &wire.Fault{Code: "UnknownService", Status: http.StatusNotFound, Message: "Service " + c.scope.Service + " is not served by this endpoint; monitoring, rds, route53 and route53-recovery-cluster are."})
	}
}

// plain returns the body as it was before it was compressed; the signature is over the compressed one.
func plain(r *http.Request, body []byte) ([]byte, error) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return body, nil
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	all, err := io.ReadAll(io.LimitReader(unpacked, bodyMax+1))
	if err == nil && len(all) > bodyMax {
		err = errors.New("it is larger than 1 MB")
	}
	return all, err
}

// jsonCodes are what the reasons of a refused signature are called in protocols younger than the query protocol.
var jsonCodes = map[sigv4.Reason]string{
	sigv4.Missing: "MissingAuthenticationTokenException", sigv4.Incomplete: "IncompleteSignatureException",
	sigv4.UnknownKey: "UnrecognizedClientException", sigv4.Mismatch: "InvalidSignatureException",
}

// refusal makes a fault of a refused signature.
func (h *Handler) refusal(r *http.Request, err error) *wire.Fault {
	var refused *sigv4.Refusal
	if !errors.As(err, &refused) {
		return &wire.Fault{Code: "InternalFailure", Status: http.StatusInternalServerError, Message: err.Error()}
	}
	h.Log.Warn("request refused", "reason", string(refused.Reason), "message", refused.Message, "from", r.RemoteAddr)
	fault := &wire.Fault{Code: string(refused.Reason), Message: refused.Message, Status: http.StatusForbidden, Shape: jsonCodes[refused.Reason]}
	if refused.Reason == sigv4.Incomplete {
		fault.Status = http.StatusBadRequest
	}
	return fault
}

// refuse answers in the protocol of the request, before it is known which service it is for.
func (h *Handler) refuse(w http.ResponseWriter, c call, fault *wire.Fault) {
	request, known := wire.Of(c.Request, c.body)
	if !known {
		wire.WriteXMLFault(w, route53.Namespace, c.id, fault)
		return
	}
	request.Refuse(w, cloudWatchNamespace, cloudWatchModel, c.id, fault)
}

// faultOf makes a fault of any error: what is none is our own.
func (h *Handler) faultOf(c call, err error) *wire.Fault {
	var fault *wire.Fault
	if errors.As(err, &fault) {
		return fault
	}
	h.Log.Error("request not carried out", "service", c.scope.Service, "error", err)
	return &wire.Fault{Code: "InternalFailure", Shape: "InternalServiceFault", Status: http.StatusInternalServerError, Message: "The request could not be carried out: " + err.Error()}
}
