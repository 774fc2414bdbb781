// Package source looks at alarms that live in another system, so that a drill can expect them as it expects our own: Prometheus,
// Alertmanager, CloudWatch, and whatever answers JSON over HTTP.
//
// It only asks; it never silences, acknowledges or changes an alert there. It never takes silence for good news: an answer that did not
// come, was cut short, or does not say what it must, is an error, and the watch then knows nothing of the alarm (INSUFFICIENT_DATA). Its
// invariant, which sourcetest holds every implementation to: OK is said only by a system that answered, that evaluates at that time, and
// in which nothing that fits is firing.
//
// Start reading at Source, then Open, then prometheus.go.
package source
