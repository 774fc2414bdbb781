package bookstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// cdnPatience bounds a fetch from the CDN, name to last byte.
const cdnPatience = 1 * time.Second

// assetLimit bounds what is fetched; a status is a few bytes, an asset of a shop's page some kilobytes.
const assetLimit = 4 << 20

// cdn fetches assets. Each fetch resolves the name and connects anew, as browsers all over the world do: the CDN's addresses rotate.
type cdn struct {
	base   string
	client *http.Client
}

func newCDN(base string) *cdn {
	return &cdn{
		base: strings.TrimRight(base, "/"),
		client: &http.Client{
			Timeout: cdnPatience,
			Transport: &http.Transport{
				DisableKeepAlives:     true,
				DialContext:           dialer(cdnPatience).DialContext,
				ResponseHeaderTimeout: cdnPatience,
			},
		},
	}
}

// asset is a file of the CDN.
type asset struct {
	kind    string
	content []byte
}

// errBadAsset is a CDN that answers, but not with the asset.
var errBadAsset = errors.New("the CDN does not have it")

func (c *cdn) fetch(ctx context.Context, path string) (asset, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return asset{}, err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return asset{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return asset{}, fmt.Errorf("%w: %s answered %s", errBadAsset, c.base+path, response.Status)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, assetLimit))
	if err != nil {
		return asset{}, err
	}
	return asset{response.Header.Get("Content-Type"), content}, nil
}

// gatewayStatus is what a gateway answers when a fetch failed: 504 when time ran out, else 502.
func gatewayStatus(err error) int {
	var network net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout() {
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// plainCause is an error without the request that it happened in, which the reader knows.
func plainCause(err error) string {
	var in *url.Error
	if errors.As(err, &in) {
		return in.Err.Error()
	}
	return err.Error()
}

// NewOrigin returns the origin of a CDN: the files of root below /static/, and a status that names the origin. An empty root serves the
// status alone.
func NewOrigin(root, name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /static/status.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		writeJSON(w, http.StatusOK, struct {
			Online bool   `json:"online"`
			CDN    string `json:"cdn"`
		}{true, name})
	})
	if root != "" {
		mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServer(http.Dir(root))))
	}
	return mux
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client may be gone, and nobody else wants to know
}
