package watch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/probe"
)

// Probes returns what is to be measured on a host of a service. Paths of secrets count from directory.
func Probes(service drill.Service, host drill.Host, directory string) ([]probe.Spec, error) {
	var specs []probe.Spec
	beats := false
	for _, metric := range service.Metrics {
		if metric.From == drill.FromWatch || metric.Received() {
			continue
		}
		spec, err := specOf(service, metric.For(host), directory)
		if err != nil {
			return nil, err
		}
		beats = beats || metric.Heartbeat
		specs = append(specs, spec)
	}
	if !beats {
		specs = append(specs, probe.Spec{Name: bareHeartbeat, Kind: probe.Heartbeat, Every: drill.Seconds(beatEvery)})
	}
	return specs, nil
}

// ownProbes returns what is measured from where the watch runs, by the host that it is about; "" is the service as a whole.
func ownProbes(service drill.Service, directory string) (map[string][]probe.Spec, error) {
	all := map[string][]probe.Spec{}
	add := func(about string, metric drill.Metric) error {
		spec, err := specOf(service, metric, directory)
		all[about] = append(all[about], spec)
		return err
	}
	for _, metric := range service.Metrics {
		if metric.From != drill.FromWatch || metric.Received() {
			continue
		}
		if !metric.PerHost() {
			if err := add("", metric); err != nil {
				return nil, err
			}
			continue
		}
		for _, environment := range service.Environments {
			for _, host := range environment.Hosts {
				if err := add(host.Name, metric.For(host)); err != nil {
					return nil, err
				}
			}
		}
	}
	return all, nil
}

// specOf makes a probe of a metric whose placeholders are filled in.
func specOf(service drill.Service, metric drill.Metric, directory string) (probe.Spec, error) {
	spec := probe.Spec{Name: metric.Name, Every: metric.Every, Timeout: metric.Timeout, Resolver: metric.Resolver, CAFile: metric.CAFile}
	address := func(text string) string {
		if dependency := service.Dependency(text); dependency != nil {
			return dependency.Address
		}
		return text
	}
	switch metric.Kind() {
	case "heartbeat":
		spec.Kind, spec.Timeout, spec.Every = probe.Heartbeat, 0, drill.Seconds(beatEvery)
	case "connect":
		spec.Kind, spec.Address = probe.TCP, address(metric.Connect)
	case "tls":
		spec.Kind, spec.Address, spec.Server = probe.TLS, address(metric.TLS), metric.ServerName
	case "http":
		spec.Kind, spec.URL, spec.Status, spec.Contains = probe.HTTP, metric.HTTP, metric.Status, metric.Contains
	case "dns":
		spec.Kind, spec.Query, spec.Answer = probe.Lookup, metric.DNS, metric.Answer
		if metric.Server != "" {
			spec.Resolver = metric.Server
		}
	case "sql":
		password, err := secretOf(metric.PasswordFile, directory)
		if err != nil {
			return spec, fmt.Errorf("metric %s: password_file: %w", metric.Name, err)
		}
		spec.Kind, spec.URL, spec.Password = probe.SQL, metric.SQL, password
	case "command":
		spec.Kind, spec.Command, spec.Value = probe.Command, metric.Command, metric.Value
	case "prometheus":
		spec.Kind, spec.URL, spec.Query = probe.Query, metric.Server, metric.Prometheus
	default:
		return spec, fmt.Errorf("metric %s: it measures nothing, or two things", metric.Name)
	}
	return spec, spec.Validate()
}

// secretOf reads one line; "" names no file and no secret.
func secretOf(path, directory string) (string, error) {
	if path == "" {
		return "", nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(directory, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimRight(line, "\r"), nil
}

// measure probes from here until ctx ends.
func (w *Watch) measure(ctx context.Context, about string, specs []probe.Spec) {
	err := probe.Run(ctx, about, specs, func(event history.Event) {
		message := arrived{host: about, at: time.Now(), event: event}
		if sample, is := event.Fact.(*history.Sample); is {
			message.due = sample.Scheduled
		}
		w.tell(ctx, message)
	})
	if err != nil {
		w.log.Error("metrics measured from here are not measured", "about", about, "error", err)
	}
}
