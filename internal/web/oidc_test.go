package web

import (
	"strings"
	"testing"

	"firedrill/internal/drill"
)

// What is missing or wrong is said by the flag that it is given with.
func TestAProviderThatIsHalfNamedIsRefusedByItsFlag(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		provider   *Provider
		text, cure string
	}{
		{&Provider{Address: "https://control.example.test:7443"}, "--dashboard-url", "--oidc-issuer"},
		{&Provider{Issuer: "login.example.test", Address: "https://control.example.test", Client: "c"}, "--oidc-issuer: \"login.example.test\"", "docs/fleet.md"},
		{&Provider{Issuer: "https://login.example.test", Client: "c"}, "--dashboard-url: \"\"", "docs/fleet.md"},
		{&Provider{Issuer: "https://login.example.test", Address: "https://control.example.test"}, "client has no name", "--oidc-client"},
	} {
		if err := row.provider.Check(); drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), row.text) || !strings.Contains(drill.HintOf(err), row.cure) {
			t.Errorf("%v, cure %q; want %q and %q", err, drill.HintOf(err), row.text, row.cure)
		}
	}
}
