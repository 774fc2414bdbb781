package control

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"firedrill/internal/drill"
)

const serviceFile = `service: shop
endpoint: http://shop.example.test/
environments:
  blue: {hosts: [{name: blue-1, address: 10.0.0.1}]}
  green: {hosts: [{name: green-1, address: 10.0.0.2}]}
watch: {url: "http://control.example.test:7070"}
metrics: {status: {from: each host, heartbeat: true}}
alarms: {"{host}-status": {metric: status, maximum: ">= 1", period: 1s}}
failover: {shop.example.test: {provider: authority, servers: [ns.example.test], ttl: 1s, primary: blue, secondary: green, unhealthy_when: ["{host}-status"]}}
drills: {cut: {on: active environment, attack: {blackhole: {ipaddress: [10.0.0.9], length: 5s}}, expect: ["no other alarm"]}}
`

func TestServerRunsNothingAndLogsInNowhereForAServiceFile(t *testing.T) {
	for name, test := range map[string]struct{ more, says string }{
		"as it is":               {"", ""},
		"a client over SSH":      {"clients: {c: {ssh: {address: c.example.test, user: root}}}\n", "logs in nowhere"},
		"a client via a program": {"clients: {c: {via: [/bin/sh, -c, \"id >/tmp/x\"]}}\n", "runs none"},
		"a probe":                {"probes: {p: {command: [/bin/sh]}}\n", "runs none"},
		"layout in place":        {"deploy: {source: {git: /srv/x, revision: main}, directory: /srv/shop, layout: in-place, restart: \"true\", healthy: {http: /}}\n", "logs in nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			service, err := drill.ParseService([]byte(serviceFile+test.more), "service file")
			if err != nil {
				t.Fatal(err)
			}
			switch err := conductable(service); {
			case test.says == "" && err != nil:
				t.Error(err)
			case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says) || drill.HintOf(err) == ""):
				t.Errorf("got %v, want a refusal with %q and a cure", err, test.says)
			}
		})
	}
}

// considered are all places of a service file where a program or a file of the machine that reads it is named, and why the server of a fleet, to
// which others send service files, neither runs the one nor reads the other.
var considered = map[string]string{
	"clients[].ssh.*":  "refused",
	"clients[].via":    "refused",
	"probes[].command": "refused",
	"deploy.*":         "publishing is refused, and the hosts are looked at by their agents",
	"watch.token_file": "left out",
	"databases[].*":    "left out",
	"environments[].*": "hosts are reached through their agents",
	"metrics[].*":      "the watch alone reads it",
	"alarms[].*":       "the watch alone reads it",
	"actions[].*":      "the watch alone reads it",
	"failover[].*":     "moving the answer is refused",
	"aws.*":            "only what moves the answer, and the watch, speak to Amazon",
	"dependencies[].*": "names a page for people",
	"drills[].*":       "files of expectations are refused with the plan",
	"sources[].*":      "the watch alone reads it",
}

// A place that is new in the service file must be considered here before a server takes it.
func TestEveryProgramAndFileOfAServiceFileIsConsidered(t *testing.T) {
	found := map[string]bool{}
	walk(reflect.TypeFor[drill.Service](), "", found)
	if !found["clients[].via"] || !found["watch.token_file"] {
		t.Fatalf("the walk misses what is there: %v", slices.Sorted(maps.Keys(found)))
	}
	for _, place := range slices.Sorted(maps.Keys(found)) {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(considered)), func(known string) bool {
			prefix, all := strings.CutSuffix(known, "*")
			return known == place || all && strings.HasPrefix(place, prefix)
		}) {
			t.Errorf("%s: may a service file that somebody sends to a server name a program or a file of the server there?", place)
		}
	}
}

// walk notes the fields that name programs or files, with their way from the top.
func walk(of reflect.Type, way string, found map[string]bool) {
	switch of.Kind() {
	case reflect.Pointer:
		walk(of.Elem(), way, found)
	case reflect.Slice, reflect.Map:
		walk(of.Elem(), way+"[]", found)
	case reflect.Struct:
		for i := range of.NumField() {
			field := of.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if name == "" || name == "-" {
				continue
			}
			at := strings.TrimPrefix(way+"."+name, ".")
			program := slices.Contains([]string{"command", "exec", "via", "run", "restart", "before", "after"}, name)
			if program || strings.HasSuffix(name, "file") || slices.Contains([]string{"identity", "known_hosts", "git"}, name) {
				found[at] = true
			}
			if strings.Count(at, ".") < 6 {
				walk(field.Type, at, found)
			}
		}
	}
}
