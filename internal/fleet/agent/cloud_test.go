package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// asked answers as a metadata service does: what is asked without the header that it wants is refused.
func asked(want map[string]string, answers map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.Method+" "+r.URL.RequestURI()]
		if !known {
			http.NotFound(w, r)
			return
		}
		if r.Method == http.MethodGet {
			for name, value := range want {
				if r.Header.Get(name) != value {
					http.Error(w, "no "+name, http.StatusUnauthorized)
					return
				}
			}
		} else if r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") == "" {
			http.Error(w, "for how long?", http.StatusBadRequest)
			return
		}
		_, _ = fmt.Fprintln(w, answer)
	})
}

func dmi(file, text string) fstest.MapFS {
	return fstest.MapFS{"product_name": {Data: []byte("Standard PC\n")}, file: {Data: []byte(text + "\n")}}
}

func TestTheCloudSaysInWhichZoneAHostStands(t *testing.T) {
	t.Parallel()
	const zoneOfEC2 = "GET /latest/meta-data/placement/availability-zone"
	for name, row := range map[string]struct {
		firmware    fstest.MapFS
		header      map[string]string
		answers     map[string]string
		zone, cloud string
		fails       bool
	}{
		"EC2": {dmi("sys_vendor", "Amazon EC2"), map[string]string{"X-Aws-Ec2-Metadata-Token": "t0ken"},
			map[string]string{"PUT /latest/api/token": "t0ken", zoneOfEC2: "eu-central-1b"}, "eu-central-1b", "Amazon EC2", false},
		"EC2 on Xen": {dmi("product_version", "4.11.amazon"), nil, map[string]string{zoneOfEC2: "us-east-1a"}, "us-east-1a", "Amazon EC2", false},
		"OpenStack":  {dmi("product_name", "OpenStack Nova"), nil, map[string]string{zoneOfEC2: "nova"}, "nova", "OpenStack", false},
		"Google": {dmi("product_name", "Google Compute Engine"), map[string]string{"Metadata-Flavor": "Google"},
			map[string]string{"GET /computeMetadata/v1/instance/zone": "projects/123/zones/europe-west3-c"}, "europe-west3-c", "Google Compute Engine", false},
		"Azure": {dmi("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"), map[string]string{"Metadata": "true"},
			map[string]string{"GET /metadata/instance/compute?api-version=2021-02-01": `{"location":"westeurope","zone":"2","name":"x"}`}, "westeurope-2", "Microsoft Azure", false},
		"Azure without zones": {dmi("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"), map[string]string{"Metadata": "true"},
			map[string]string{"GET /metadata/instance/compute?api-version=2021-02-01": `{"location":"westus","zone":""}`}, "westus", "Microsoft Azure", false},
		"Hetzner":      {dmi("sys_vendor", "Hetzner"), nil, map[string]string{"GET /hetzner/v1/metadata/availability-zone": "hel1-dc2"}, "hel1-dc2", "Hetzner", false},
		"DigitalOcean": {dmi("sys_vendor", "DigitalOcean"), nil, map[string]string{"GET /metadata/v1/region": "fra1"}, "fra1", "DigitalOcean", false},

		"a machine of one's own":   {dmi("sys_vendor", "Dell Inc."), nil, nil, "", "", false},
		"no firmware":              {fstest.MapFS{}, nil, nil, "", "", false},
		"Hyper-V is not Azure":     {dmi("sys_vendor", "Microsoft Corporation"), nil, nil, "", "", false},
		"a service that is closed": {dmi("sys_vendor", "Amazon EC2"), nil, nil, "", "Amazon EC2", true},
		"a page in its place":      {dmi("sys_vendor", "Hetzner"), nil, map[string]string{"GET /hetzner/v1/metadata/availability-zone": "<html>log in</html>"}, "", "Hetzner", true},
	} {
		server := httptest.NewServer(asked(row.header, row.answers))
		zone, cloud, err := cloudZone(t.Context(), row.firmware, server.URL)
		server.Close()
		if zone != row.zone || cloud != row.cloud || (err != nil) != row.fails {
			t.Errorf("%s: %q %q %v", name, zone, cloud, err)
		}
	}
}

// A metadata service that does not answer, as in a network that drops link-local packets, is not waited for beyond the patience of who asks.
func TestASilentCloudIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	held := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-held:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(held)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if zone, cloud, err := cloudZone(ctx, dmi("sys_vendor", "Amazon EC2"), server.URL); zone != "" || cloud != "Amazon EC2" || err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("%q %q %v", zone, cloud, err)
	}
}
