//go:build !attackpart

package drill

import (
	"strings"
	"time"
)

// The defaults of metrics and alarms.
const (
	metricEveryDefault = Seconds(time.Second)
	periodDefault      = Seconds(time.Minute) // CloudWatch's
	sourceEveryDefault = Seconds(time.Second)
	cloudWatchEvery    = Seconds(5 * time.Second) // it evaluates every ten seconds at most, and an account has nine requests a second
)

// Where a metric is measured.
const (
	FromEachHost = "each host"
	FromWatch    = "watch"
)

// What of a sample counts as the metric's value.
const (
	ValueUp       = "up"        // 1 when the try was good, else 0: the default
	ValueLatency  = "latency"   // how long the try took; one that failed took its whole timeout
	ValueDaysLeft = "days_left" // tls: days until the first certificate of the chain ends
	ValueNumber   = "number"    // what the query, the command or the sender says: the default of prometheus, statsd and otlp
	ValueExitCode = "exit_code" // command
)

// Metric is a measurement that is repeated. Exactly one of its kinds is set: connect, heartbeat, tls, http, dns, sql, command, prometheus,
// statsd or otlp. In the texts of a metric {host} and {address} stand for the host that it is about.
type Metric struct {
	Name string `yaml:"-" json:"name"`
	From string `yaml:"from" json:"from,omitempty"` // "each host" (default), or "watch": measured from where the watch runs

	Connect    string   `yaml:"connect" json:"connect,omitempty"`       // dependency by name, or host:port: TCP connects
	Heartbeat  bool     `yaml:"heartbeat" json:"heartbeat,omitempty"`   // the host says that it lives
	TLS        string   `yaml:"tls" json:"tls,omitempty"`               // dependency or host:port: the handshake is done and the certificate valid
	HTTP       string   `yaml:"http" json:"http,omitempty"`             // URL: GET answers status and contains
	DNS        string   `yaml:"dns" json:"dns,omitempty"`               // a name: server gives it an address, those of answer when there are some
	SQL        string   `yaml:"sql" json:"sql,omitempty"`               // postgresql://user@host:port/database: logs in and is answered
	Command    []string `yaml:"command" json:"command,omitempty"`       // a program and its arguments: it ends with 0
	Prometheus string   `yaml:"prometheus" json:"prometheus,omitempty"` // a query of one series, asked of server; from: watch
	StatsD     string   `yaml:"statsd" json:"statsd,omitempty"`         // the name under which values are sent to the watch
	OTLP       string   `yaml:"otlp" json:"otlp,omitempty"`             // likewise, by OpenTelemetry: OTLP/HTTP in protobuf or JSON to the watch's own address, POST /v1/metrics

	Value        string   `yaml:"value" json:"value,omitempty"`                 // up, latency, days_left, number or exit_code
	Unit         string   `yaml:"unit" json:"unit,omitempty"`                   // as CloudWatch names it; Milliseconds makes latency a number of them
	Server       string   `yaml:"server" json:"server,omitempty"`               // dns: name server to ask; prometheus: its URL
	Answer       []string `yaml:"answer" json:"answer,omitempty"`               // dns: the addresses that must be answered
	Status       int      `yaml:"status" json:"status,omitempty"`               // http: default any of 200 to 299
	Contains     string   `yaml:"contains" json:"contains,omitempty"`           // http: the body must hold it
	ServerName   string   `yaml:"server_name" json:"server_name,omitempty"`     // tls: default the host of the address
	CAFile       string   `yaml:"ca_file" json:"ca_file,omitempty"`             // tls, http, sql: authorities in place of the system's; read where the metric is measured
	Resolver     string   `yaml:"resolver" json:"resolver,omitempty"`           // name server to ask for the target; default the system's
	PasswordFile string   `yaml:"password_file" json:"password_file,omitempty"` // sql: read by the watch, sent to the hosts over SSH

	Every   Seconds `yaml:"every" json:"every_seconds,omitempty"`     // default 1s
	Timeout Seconds `yaml:"timeout" json:"timeout_seconds,omitempty"` // default half of every
}

// Kind names what the metric does; "" when it does nothing, or two things.
func (m Metric) Kind() string {
	found := ""
	for kind, there := range map[string]bool{
		"connect": m.Connect != "", "heartbeat": m.Heartbeat, "tls": m.TLS != "", "http": m.HTTP != "", "dns": m.DNS != "", "sql": m.SQL != "",
		"command": len(m.Command) > 0, "prometheus": m.Prometheus != "", "statsd": m.StatsD != "", "otlp": m.OTLP != "",
	} {
		if !there {
			continue
		}
		if found != "" {
			return ""
		}
		found = kind
	}
	return found
}

// Received says that the values are sent to the watch by others.
func (m Metric) Received() bool { return m.StatsD != "" || m.OTLP != "" }

// PerHost says that the metric is measured, or sent, once for each host, and not once for the whole service.
func (m Metric) PerHost() bool {
	if m.From != FromWatch {
		return true
	}
	texts := append([]string{m.Connect, m.TLS, m.HTTP, m.DNS, m.SQL, m.Prometheus, m.Server}, m.Command...)
	for _, text := range texts {
		if strings.Contains(text, hostPlaceholder) || strings.Contains(text, addressPlaceholder) {
			return true
		}
	}
	return false
}

// For returns the metric as it is measured for one host.
func (m Metric) For(host Host) Metric {
	fill := strings.NewReplacer(hostPlaceholder, host.Name, addressPlaceholder, host.Address.String()).Replace
	for _, text := range []*string{&m.Connect, &m.TLS, &m.HTTP, &m.DNS, &m.SQL, &m.Prometheus, &m.Server, &m.ServerName} {
		*text = fill(*text)
	}
	command := make([]string, 0, len(m.Command))
	for _, word := range m.Command {
		command = append(command, fill(word))
	}
	m.Command = command
	return m
}

// Alarm follows the rules of CloudWatch, or says which alarm of another system it stands for. It stands for each host when its name
// holds {host}.
type Alarm struct {
	Name        string `yaml:"-" json:"name"`
	Metric      string `yaml:"metric" json:"metric,omitempty"`           // exactly one of metric and source
	Host        string `yaml:"-" json:"host,omitempty"`                  // after expansion
	Environment string `yaml:"-" json:"environment,omitempty"`           // after expansion
	Average     string `yaml:"average" json:"average,omitempty"`         // comparison, as "< 1"; one of average, minimum, maximum, or statistic with is
	Minimum     string `yaml:"minimum" json:"minimum,omitempty"`         // none is needed for a heartbeat, or when only absence counts
	Maximum     string `yaml:"maximum" json:"maximum,omitempty"`         //
	Statistic   string `yaml:"statistic" json:"statistic,omitempty"`     // any that CloudWatch knows: Sum, SampleCount, p99, tm99, TM(10%:90%), IQM, PR(0:0.5), ...
	Is          string `yaml:"is" json:"is,omitempty"`                   // comparison of that statistic, as "> 0.25"
	LowSamples  string `yaml:"low_samples" json:"low_samples,omitempty"` // evaluate (default) or ignore percentiles of few samples

	Absent     Seconds      `yaml:"absent" json:"absent_seconds,omitempty"` // raised when nothing came for so long, in place of all comparisons and periods
	Period     Seconds      `yaml:"period" json:"period_seconds,omitempty"` // default 1m; from 1s
	Datapoints Datapoints   `yaml:"datapoints" json:"datapoints"`           // "2 of 3", default 1 of 1
	Missing    string       `yaml:"missing" json:"missing,omitempty"`       // missing (default), ignore, breaching, notBreaching
	Disabled   bool         `yaml:"disabled" json:"disabled,omitempty"`     // keeps its state, does nothing
	Source     *AlarmSource `yaml:"source" json:"source,omitempty"`
}

// AlarmSource says where an alarm lives that another system raises. The watch asks it, so that a drill can expect it like one of its own.
type AlarmSource struct {
	Prometheus   string   `yaml:"prometheus" json:"prometheus,omitempty"`     // its URL; exactly one of prometheus, alertmanager, cloudwatch and http
	Alertmanager string   `yaml:"alertmanager" json:"alertmanager,omitempty"` // its URL
	CloudWatch   string   `yaml:"cloudwatch" json:"cloudwatch,omitempty"`     // name of an alarm there, of a composite one too
	HTTP         string   `yaml:"http" json:"http,omitempty"`                 // URL of a JSON document
	Match        []string `yaml:"match" json:"match,omitempty"`               // labels, as alertname="HostDown": =, !=, =~, !~; raised while an alert fits all
	Watchdog     []string `yaml:"watchdog" json:"watchdog,omitempty"`         // alertmanager: labels of an alert that always fires; when it is missing nothing is known
	Path         string   `yaml:"path" json:"path,omitempty"`                 // http: where the state stands in the document, as checks[0].state or checks[name=db].state
	Raised       []string `yaml:"raised" json:"raised,omitempty"`             // http: what stands there when it is raised
	OK           []string `yaml:"ok" json:"ok,omitempty"`                     // http: and when it is well; anything else is not known. Default: anything else is well
	TokenFile    string   `yaml:"token_file" json:"token_file,omitempty"`     // sent as Authorization: Bearer
	CAFile       string   `yaml:"ca_file" json:"ca_file,omitempty"`           // authorities in place of the system's
	Every        Seconds  `yaml:"every" json:"every_seconds,omitempty"`       // how often it is asked, default 1s (cloudwatch: 5s): the error bound of a measured time
	Timeout      Seconds  `yaml:"timeout" json:"timeout_seconds,omitempty"`   // default 5 x every, at most 10s; after so long without an answer nothing is known

	AWS AWS `yaml:"-" json:"aws,omitzero"` // that of the service, for cloudwatch
}

const (
	hostPlaceholder    = "{host}"
	addressPlaceholder = "{address}"
)

func (s *Service) fillMetrics() {
	for i := range s.Metrics {
		metric := &s.Metrics[i]
		orDefault(&metric.From, FromEachHost)
		if metric.Prometheus != "" {
			metric.From = FromWatch
		}
		orDefault(&metric.Every, metricEveryDefault)
		orDefault(&metric.Timeout, metric.Every/2)
		if metric.Value == "" && (metric.Prometheus != "" || metric.Received()) {
			metric.Value = ValueNumber
		}
		orDefault(&metric.Value, ValueUp)
	}
	for i := range s.Alarms {
		alarm := &s.Alarms[i]
		orDefault(&alarm.Datapoints, Datapoints{M: 1, N: 1})
		if source := alarm.Source; source != nil {
			if source.CloudWatch != "" {
				orDefault(&source.Every, cloudWatchEvery)
			}
			orDefault(&source.Every, sourceEveryDefault)
			orDefault(&source.Timeout, min(5*source.Every, Seconds(10*time.Second)))
			continue
		}
		orDefault(&alarm.Period, periodDefault)
		orDefault(&alarm.Missing, "missing")
	}
}

// ExpandAlarms returns one alarm for each alarm of the file and each host, in the order of the file. An alarm whose name does not hold
// {host} is there once.
func ExpandAlarms(s Service) []Alarm {
	var all []Alarm
	for _, alarm := range s.Alarms {
		if !strings.Contains(alarm.Name, hostPlaceholder) {
			all = append(all, alarm)
			continue
		}
		for _, environment := range s.Environments {
			for _, host := range environment.Hosts {
				one := alarm
				one.Name = strings.ReplaceAll(alarm.Name, hostPlaceholder, host.Name)
				one.Host, one.Environment = host.Name, environment.Name
				one.Source = alarm.Source.forHost(host)
				all = append(all, one)
			}
		}
	}
	return all
}

func (s *AlarmSource) forHost(host Host) *AlarmSource {
	if s == nil {
		return nil
	}
	fill := strings.NewReplacer(hostPlaceholder, host.Name, addressPlaceholder, host.Address.String()).Replace
	one := *s
	one.Prometheus, one.Alertmanager, one.HTTP, one.Path, one.CloudWatch = fill(s.Prometheus), fill(s.Alertmanager), fill(s.HTTP), fill(s.Path), fill(s.CloudWatch)
	one.Match = nil
	for _, match := range s.Match {
		one.Match = append(one.Match, fill(match))
	}
	return &one
}
