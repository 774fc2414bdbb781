package drill

import (
	"strings"
	"testing"
)

// A service file with the layout of Publish Over SSH is one that can be written: no default contradicts it.
func TestLayoutInPlaceIsRead(t *testing.T) {
	const file = `service: shop
endpoint: http://shop.example.test/
environments:
  blue: {hosts: [{name: blue-1, address: 10.0.0.1}]}
  green: {hosts: [{name: green-1, address: 10.0.0.2}]}
deploy:
  source: {git: /srv/shop, revision: main, files: ["**/*"]}
  directory: /home/ubuntu/apps/shop
  restart: systemctl restart shop
  healthy: {http: /version}
`
	for name, test := range map[string]struct{ more, says string }{
		"releases":                      {"", ""},
		"in place":                      {"  layout: in-place\n", ""},
		"in place, clean":               {"  layout: in-place\n  clean: true\n", ""},
		"in place, with releases kept":  {"  layout: in-place\n  keep_releases: 3\n", "deploy.keep_releases"},
		"releases, clean":               {"  clean: true\n", "deploy.clean"},
		"releases, with as many as one": {"  keep_releases: 1\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			service, err := ParseService([]byte(file+test.more), "firedrill.yaml")
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Fatalf("got %v, want %q", err, test.says)
			}
			if kept := service.Deploy; err == nil && (kept.KeepReleases == 0) != kept.InPlace() {
				t.Errorf("%d releases are kept", kept.KeepReleases)
			}
		})
	}
}
