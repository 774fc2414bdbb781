package deploy

import (
	"context"

	"firedrill/internal/drill"
)

// Healthy asks the host's own address once. endpoint is the URL that clients use; its host becomes the Host header.
func Healthy(ctx context.Context, host drill.Host, healthy drill.Healthy, endpoint string) error {
	check := newCheck(host, healthy, endpoint)
	defer check.client.CloseIdleConnections()
	return check.try(ctx)
}
