// Package report shows what a run proved: a self-contained web page with the timeline, Markdown for a pull request, JUnit for a CI
// server, JSON and OpenMetrics for programs, and plain text for a terminal. All of them are pure functions of plan, log and verdict.
//
// It judges nothing: every outcome, figure and reason comes from the verdict. The page loads nothing and runs nothing: no script, no
// address, no font; its own content security policy forbids it.
//
// Its invariants: the same input gives the same bytes; an outcome is never told by colour alone; a log of a million events gives a page
// of less than 2 MiB, because the timeline draws columns of the picture, not events.
//
// Start reading at Write (report.go), then the page (page.go, page.html) and its picture (timeline.go, lanes.go, svg.go).
package report
