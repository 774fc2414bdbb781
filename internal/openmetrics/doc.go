// Package openmetrics writes OpenMetrics text (https://openmetrics.io, version 1.0.0), as Prometheus and others read it.
//
// Every family is a gauge, so that the text is also Prometheus' older format (0.0.4), which the textfile collector of the node exporter
// takes. It never measures anything. Its invariant: a family is written once, with its samples together, and the text ends with # EOF.
//
// Start reading at Writer.
package openmetrics
