//go:build !attackpart

package containers

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// A call of gRPC without streams is a POST of HTTP/2: five bytes before the message, on the way there and back, and the outcome in the
// trailers. The standard library speaks that; Google's library would make each part of the program that holds it five megabytes larger.

const (
	criTimeout = 10 * time.Second // of one question; a runtime that is busy with pulling images still answers in tenths
	criMax     = 64 << 20         // bytes of an answer; a pod takes some kilobytes of a list
	criPrefix  = "/runtime.v1.RuntimeService/"
	grpcHeader = 5 // a flag and the length of what follows

	grpcUnimplemented = 12
)

// errUnimplemented says that somebody answers there and does not know the question: a containerd whose part for pods is switched off.
var errUnimplemented = errors.New("it runs no pods")

// criRuntime is a runtime that answers for pods.
type criRuntime struct {
	socket, name, version string

	transport *http.Transport
}

// openRuntime connects to a runtime and asks for its name.
func openRuntime(ctx context.Context, socket string) (*criRuntime, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	r := &criRuntime{socket: socket, transport: &http.Transport{Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}}
	answer, err := r.ask(ctx, askVersion, nil)
	if err == nil {
		err = eachField(answer, func(number protowire.Number, value []byte, _ uint64) error {
			switch number {
			case 2:
				r.name = string(value)
			case 3:
				r.version = string(value)
			}
			return nil
		})
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *criRuntime) close() { r.transport.CloseIdleConnections() }

// ask puts one question of the runtime service.
func (r *criRuntime) ask(ctx context.Context, question string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, criTimeout)
	defer cancel()
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(request))), request...)
	asked, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+criPrefix+question, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	asked.Header.Set("Content-Type", "application/grpc")
	asked.Header.Set("Te", "trailers")
	answer, err := r.transport.RoundTrip(asked)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", question, err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, criMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", question, err)
	case answer.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s", question, answer.Status)
	case len(said) > criMax:
		return nil, fmt.Errorf("%s: an answer of more than %d MiB", question, criMax>>20)
	}
	if err := outcome(answer); err != nil {
		return nil, fmt.Errorf("%s: %w", question, err)
	}
	if len(said) < grpcHeader || said[0] != 0 || uint64(binary.BigEndian.Uint32(said[1:])) != uint64(len(said)-grpcHeader) {
		return nil, fmt.Errorf("%s: %d bytes that are no answer", question, len(said))
	}
	return said[grpcHeader:], nil
}

// outcome reads what stands behind the answer, or in its head when there is nothing but the outcome.
func outcome(answer *http.Response) error {
	from := answer.Trailer
	if from.Get("Grpc-Status") == "" {
		from = answer.Header
	}
	code, err := strconv.Atoi(from.Get("Grpc-Status"))
	switch {
	case err != nil:
		return errors.New("the answer has no outcome: what listens there does not speak gRPC")
	case code == 0:
		return nil
	}
	said, err := url.PathUnescape(from.Get("Grpc-Message"))
	if err != nil {
		said = from.Get("Grpc-Message")
	}
	if code == grpcUnimplemented {
		return fmt.Errorf("%w: %s", errUnimplemented, said)
	}
	return fmt.Errorf("the runtime says: %s (%d)", said, code)
}
