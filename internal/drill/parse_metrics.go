//go:build !attackpart

package drill

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// metricKinds are the fields of a metric of which exactly one is written.
const metricKinds = "connect, heartbeat, tls, http, dns, sql, command, prometheus, statsd, otlp"

// valuesOf says what can be the value of each kind, the first being the default.
var valuesOf = map[string][]string{
	"connect": {ValueUp, ValueLatency}, "heartbeat": {ValueUp}, "tls": {ValueUp, ValueLatency, ValueDaysLeft}, "http": {ValueUp, ValueLatency},
	"dns": {ValueUp, ValueLatency}, "sql": {ValueUp, ValueLatency}, "command": {ValueUp, ValueLatency, ValueNumber, ValueExitCode},
	"prometheus": {ValueNumber, ValueLatency, ValueUp}, "statsd": {ValueNumber}, "otlp": {ValueNumber},
}

func (c *checker) metrics() {
	for _, metric := range c.service.Metrics {
		path := "metrics." + metric.Name
		kind := metric.Kind()
		if kind == "" {
			c.mistake(path, "needs exactly one of %s", metricKinds)
			continue
		}
		c.oneOf(path+".from", metric.From, FromEachHost, FromWatch)
		c.oneOf(path+".value", metric.Value, valuesOf[kind]...)
		c.metricTarget(path, metric)
		if metric.Every < Seconds(100*time.Millisecond) {
			c.mistake(path+".every", "%s is too often; 100ms is the least", metric.Every)
		}
		if metric.Timeout >= metric.Every {
			c.mistake(path+".timeout", "%s must be shorter than every (%s), or a hung try eats the next datapoint", metric.Timeout, metric.Every)
		}
		if metric.Heartbeat && metric.From == FromWatch {
			c.mistake(path+".from", "only a host itself can say that it lives; write each host")
		}
		if metric.Received() && !c.receives(metric) {
			c.mistake(path, "the watch listens for no such values; add watch: with url, and for statsd its address")
		}
	}
}

func (c *checker) receives(metric Metric) bool {
	if c.service.Watch == nil {
		return false
	}
	return metric.StatsD == "" || c.service.Watch.StatsD != ""
}

func (c *checker) metricTarget(path string, metric Metric) {
	sample := metric.For(Host{Name: "host", Address: netip.IPv4Unspecified()})
	if sample.Connect != "" && c.service.Dependency(sample.Connect) == nil {
		c.hostPort(path+".connect", sample.Connect)
	}
	if sample.TLS != "" && c.service.Dependency(sample.TLS) == nil {
		c.hostPort(path+".tls", sample.TLS)
	}
	if sample.HTTP != "" {
		c.webURL(path+".http", sample.HTTP)
	}
	if sample.Prometheus != "" {
		c.webURL(path+".server", sample.Server)
	}
	if sample.SQL != "" {
		target, err := url.Parse(sample.SQL)
		if err != nil || (target.Scheme != "postgresql" && target.Scheme != "postgres") || target.Hostname() == "" || target.User.Username() == "" {
			c.mistake(path+".sql", "is not an address to log in at; write one such as postgresql://probe@db.example.com:5432/books")
		} else if _, written := target.User.Password(); written {
			c.mistake(path+".sql", "holds the password itself; put that into a file and name it in password_file")
		}
	}
	for i, address := range metric.Answer {
		if _, err := netip.ParseAddr(address); err != nil {
			c.mistake(fmt.Sprintf("%s.answer[%d]", path, i), "%q is not an IP address", address)
		}
	}
	for field, wrong := range map[string]bool{
		"server": metric.Server != "" && metric.DNS == "" && metric.Prometheus == "", "answer": len(metric.Answer) > 0 && metric.DNS == "",
		"status": metric.Status != 0 && metric.HTTP == "", "contains": metric.Contains != "" && metric.HTTP == "",
		"password_file": metric.PasswordFile != "" && metric.SQL == "", "server_name": metric.ServerName != "" && metric.TLS == "",
		"ca_file": metric.CAFile != "" && metric.TLS == "" && metric.HTTP == "" && metric.SQL == "",
	} {
		if wrong {
			c.mistake(path+"."+field, "says nothing about %s; leave it out", metric.Kind())
		}
	}
}

func (c *checker) webURL(path, text string) {
	if parsed, err := url.Parse(text); err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		c.mistake(path, "%q is not a URL; write one such as http://prometheus.example.com:9090", text)
	}
}

var comparisonPattern = Pattern(`^(<|<=|>|>=)\s*(-?[0-9]+(\.[0-9]+)?)$`)

func (c *checker) alarms() {
	for _, alarm := range c.service.Alarms {
		path := "alarms." + alarm.Name
		perHost := strings.Contains(alarm.Name, hostPlaceholder)
		if alarm.Source != nil {
			c.alarmSource(path, alarm, perHost)
			continue
		}
		metric := c.service.Metric(alarm.Metric)
		if metric == nil {
			c.mistake(path+".metric", "no metric %q; %s", alarm.Metric, Suggest(alarm.Metric, names(c.service.Metrics, func(m Metric) string { return m.Name })))
		}
		if alarm.Absent > 0 {
			c.absence(path, alarm, metric)
		} else {
			c.comparison(path, alarm, metric)
		}
		switch {
		case metric == nil:
		case !perHost && metric.PerHost() && !metric.Received():
			c.mistake(path, "the name must hold {host}: the metric is measured on each host")
		case perHost && !metric.PerHost():
			c.mistake(path, "the metric is measured once and not for each host; write the name without {host}")
		}
	}
}

// comparison checks an alarm on datapoints.
func (c *checker) comparison(path string, alarm Alarm, metric *Metric) {
	comparisons := 0
	for name, text := range map[string]string{"average": alarm.Average, "minimum": alarm.Minimum, "maximum": alarm.Maximum, "is": alarm.Is} {
		if text == "" {
			continue
		}
		comparisons++
		if !comparisonPattern().MatchString(text) {
			c.mistake(path+"."+name, "%q is not a comparison; write one such as \"< 1\"", text)
		}
	}
	if comparisons > 1 || (comparisons == 0 && (metric == nil || !metric.Heartbeat)) {
		c.mistake(path, "needs exactly one of average, minimum, maximum, or statistic with is")
	}
	if (alarm.Statistic == "") != (alarm.Is == "") {
		c.mistake(path, "statistic and is belong together, as statistic: p99 and is: \"> 0.25\"")
	}
	if alarm.LowSamples != "" {
		c.oneOf(path+".low_samples", alarm.LowSamples, "evaluate", "ignore")
		if !strings.HasPrefix(strings.ToLower(alarm.Statistic), "p") {
			c.mistake(path+".low_samples", "is about percentiles; leave it out")
		}
	}
	if alarm.Period < Seconds(time.Second) {
		c.mistake(path+".period", "%s is too short; 1s is the least", alarm.Period)
	}
	if alarm.Datapoints.M < 1 || alarm.Datapoints.M > alarm.Datapoints.N {
		c.mistake(path+".datapoints", "%d of %d cannot be; write one such as 2 of 3", alarm.Datapoints.M, alarm.Datapoints.N)
	}
	if treatments := []string{"missing", "ignore", "breaching", "notBreaching"}; !slices.Contains(treatments, alarm.Missing) {
		c.mistake(path+".missing", "%q is not known; %s", alarm.Missing, Suggest(alarm.Missing, treatments))
	}
}

// absence checks an alarm on silence.
func (c *checker) absence(path string, alarm Alarm, metric *Metric) {
	if alarm.Average+alarm.Minimum+alarm.Maximum+alarm.Is+alarm.Statistic != "" {
		c.mistake(path, "absent stands alone: it compares nothing")
	}
	least := Seconds(time.Second)
	if metric != nil && !metric.Heartbeat {
		least = max(least, 2*metric.Every+metric.Timeout)
	}
	if alarm.Absent < least {
		c.mistake(path+".absent", "%s is too short: a single late sample would raise it; write %s or more", alarm.Absent, least)
	}
}

func (c *checker) alarmSource(path string, alarm Alarm, perHost bool) {
	source, at := alarm.Source, path+".source"
	if alarm.Metric != "" || alarm.Average+alarm.Minimum+alarm.Maximum+alarm.Is+alarm.Statistic != "" || alarm.Absent > 0 {
		c.mistake(path, "has a source, which decides alone; leave metric and comparisons out")
	}
	ways := 0
	for field, text := range map[string]string{"prometheus": source.Prometheus, "alertmanager": source.Alertmanager, "http": source.HTTP} {
		if text == "" {
			continue
		}
		ways++
		c.webURL(at+"."+field, strings.NewReplacer(hostPlaceholder, "host", addressPlaceholder, "0.0.0.0").Replace(text))
	}
	if source.CloudWatch != "" {
		ways++
	}
	if ways != 1 {
		c.mistake(at, "needs exactly one of prometheus, alertmanager, cloudwatch, http")
	}
	switch {
	case source.CloudWatch != "":
		if len(source.Match)+len(source.Watchdog)+len(source.Raised)+len(source.OK) > 0 || source.Path+source.TokenFile+source.CAFile != "" {
			c.mistake(at, "cloudwatch names the alarm, and aws: of the service who asks; leave the rest out")
		}
	case source.HTTP == "" && len(source.Match) == 0:
		c.mistake(at, "match is missing; without it every alert would be this alarm. Write one such as ['alertname=\"HostDown\"']")
	case source.HTTP == "" && source.Path+strings.Join(source.Raised, "")+strings.Join(source.OK, "") != "":
		c.mistake(at, "path, raised and ok are about http; leave them out")
	case source.HTTP != "" && (source.Path == "" || len(source.Raised) == 0):
		c.mistake(at, "needs path and raised, as path: status.state and raised: [firing]")
	case source.Alertmanager == "" && len(source.Watchdog) > 0:
		c.mistake(at+".watchdog", "is about alertmanager, which forgets alerts; leave it out")
	case source.HTTP != "" && len(source.Match) > 0:
		c.mistake(at+".match", "is about alerts; use path and raised")
	}
	if source.Every < Seconds(100*time.Millisecond) {
		c.mistake(at+".every", "%s is too often; 100ms is the least", source.Every)
	}
	text := strings.Join(append([]string{source.Prometheus, source.Alertmanager, source.HTTP, source.Path, source.CloudWatch}, source.Match...), " ")
	if perHost && !strings.Contains(text, hostPlaceholder) && !strings.Contains(text, addressPlaceholder) {
		c.mistake(at, "is the same for every host; put {host} or {address} into it, or take {host} out of the alarm's name")
	}
}
