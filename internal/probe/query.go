package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"firedrill/internal/history"
)

// attemptQuery asks Prometheus. Its value is that of the one series that answers; without any, or with NaN, there is no value, which is
// missing data and no zero.
func attemptQuery(ctx context.Context, spec Spec) result {
	address := strings.TrimSuffix(spec.URL, "/") + "/api/v1/query?" + url.Values{"query": {spec.Query}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return result{}.failed(history.CauseProber, "%v", err)
	}
	return exchange(ctx, spec, request, func(response *http.Response, outcome result) result {
		body, err := io.ReadAll(io.LimitReader(response.Body, bodyMax))
		if err != nil {
			return outcome.failed(causeOf(err, history.CauseContent), "read body: %s", reason(err))
		}
		value, err := queryValue(body)
		switch {
		case err != nil:
			return outcome.failed(history.CauseContent, "%v", err)
		case response.StatusCode != http.StatusOK:
			return outcome.failed(history.CauseStatus, "status %d", response.StatusCode)
		case math.IsNaN(value) || math.IsInf(value, 0):
			return outcome.failed(history.CauseContent, "the query gives %v", value)
		}
		return outcome.with(value)
	})
}

// queryValue reads the answer to an instant query.
func queryValue(body []byte) (float64, error) {
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Type   string          `json:"resultType"`
			Result json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, fmt.Errorf("the answer is not Prometheus's: %w", err)
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("the query fails: %s", answer.Error)
	}
	var pair []json.RawMessage
	switch answer.Data.Type {
	case "scalar":
		if err := json.Unmarshal(answer.Data.Result, &pair); err != nil {
			return 0, err
		}
	case "vector":
		var series []struct {
			Value []json.RawMessage `json:"value"`
		}
		if err := json.Unmarshal(answer.Data.Result, &series); err != nil {
			return 0, err
		}
		if len(series) != 1 {
			return 0, fmt.Errorf("%d series answer, and one is wanted; put sum(), max() or the like around the query", len(series))
		}
		pair = series[0].Value
	default:
		return 0, fmt.Errorf("the query gives a %s, and one number is wanted", answer.Data.Type)
	}
	var text string
	if len(pair) != 2 || json.Unmarshal(pair[1], &text) != nil {
		return 0, fmt.Errorf("the answer holds no value")
	}
	return strconv.ParseFloat(text, 64)
}

// attemptLookup asks for the addresses of a name, and that they are those that are wanted.
func attemptLookup(ctx context.Context, spec Spec) result {
	found, err := resolve(ctx, spec.Resolver, spec.Query)
	if err != nil {
		return result{}.failed(causeOfResolve(err), "%v", err)
	}
	var got, want []string
	for _, address := range found {
		got = append(got, address.String())
	}
	slices.Sort(got)
	for _, text := range spec.Answer {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return result{}.failed(history.CauseProber, "%v", err)
		}
		want = append(want, address.Unmap().String())
	}
	slices.Sort(want)
	outcome := result{address: strings.Join(got, ",")}
	if len(want) > 0 && !slices.Equal(got, want) {
		return outcome.failed(history.CauseContent, "it leads to %s", strings.Join(got, ", "))
	}
	return outcome
}
