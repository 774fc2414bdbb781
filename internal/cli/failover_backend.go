//go:build !hostpart

package cli

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"

	"firedrill/internal/amazon"
	"firedrill/internal/drill"
	"firedrill/internal/failover/haproxy"
	"firedrill/internal/failover/hostsfile"
	"firedrill/internal/failover/keep"
	"firedrill/internal/failover/nginx"
	"firedrill/internal/failover/rfc2136"
	"firedrill/internal/failover/route53"
	"firedrill/internal/failover/tsig"
)

// backendOf makes what gives a name's answer to clients. publishes is nil for our own name servers, which need nobody to tell them.
func backendOf(service drill.Service, f drill.Failover, directory string, log *slog.Logger) (looks backend, publishes keep.Backend, err error) {
	switch f.Provider {
	case drill.ProviderHAProxy:
		publisher, err := haproxy.New(haproxy.Options{Sockets: f.HAProxy.Sockets, Backend: f.HAProxy.Backend, CutOff: f.HAProxy.CutOff, Lock: f.HAProxy.Lock, Log: log})
		return publisher, publisher, err
	case drill.ProviderNginx:
		publisher, err := nginx.New(nginx.Options{
			File: f.Nginx.File, Upstream: f.Nginx.Upstream, Port: f.Nginx.Port, Status: f.Nginx.Status, Lines: f.Nginx.Lines, Reload: f.Nginx.Reload,
			Test: f.Nginx.Test, Log: log,
		})
		return publisher, publisher, err
	case drill.ProviderHosts:
		var options hostsfile.Options
		if f.Hosts != nil {
			options = hostsfile.Options{File: f.Hosts.File, Lock: f.Hosts.Lock}
		}
		publisher := hostsfile.New(options)
		return publisher, publisher, nil
	case drill.ProviderRoute53:
		publisher, err := route53Of(service, f, directory, log)
		if err != nil {
			return nil, nil, err
		}
		return publisher, publisher, nil
	case drill.ProviderRFC2136:
		options := rfc2136.Options{Server: f.Update.Server, Servers: f.Servers, Zone: f.Update.Zone, TTL: f.TTL.Duration(), Log: log}
		if f.Update.Keys != "" {
			path := f.Update.Keys
			if !filepath.IsAbs(path) {
				path = filepath.Join(directory, path)
			}
			keys, err := tsig.Read(path)
			if err != nil {
				return nil, nil, err
			}
			if options.Key, err = keys.Find(f.Update.Key); err != nil {
				return nil, nil, err
			}
		}
		publisher, err := rfc2136.New(options)
		return publisher, publisher, err
	}
	if len(f.Servers) == 0 {
		return nil, nil, &drill.Error{
			Op: "failover " + f.Name, Kind: drill.Invalid, Err: errors.New("servers is missing"), Hint: "Name the servers to verify the answer on.",
		}
	}
	looker, err := rfc2136.New(rfc2136.Options{Server: f.Servers[0], Servers: f.Servers})
	return looker, nil, err
}

func route53Of(service drill.Service, f drill.Failover, directory string, log *slog.Logger) (*route53.Publisher, error) {
	config, err := amazon.Config(context.Background(), f.Route53.AWS, directory)
	if err != nil {
		return nil, err
	}
	options := route53.Options{
		Config: config, Zone: f.Route53.Zone, Servers: f.Servers, TTL: f.TTL.Duration(), Log: log,
		Controls: f.Route53.Controls, Cluster: f.Route53.Cluster, Checks: f.Route53.Checks, Environments: map[string][]netip.Addr{},
	}
	for _, environment := range service.Environments {
		for _, host := range environment.Hosts {
			options.Environments[environment.Name] = append(options.Environments[environment.Name], host.Address)
		}
	}
	return route53.New(options)
}
