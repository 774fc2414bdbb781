// Package alarm turns datapoints into the states OK, ALARM and INSUFFICIENT_DATA by the rules that CloudWatch follows, so that an
// alarm means the same here and there: M of N datapoints, an evaluation range of N+2 periods, four ways to treat missing data, and
// the same texts for the reason of a transition.
//
// It does no I/O, reads no clock and sends nothing: whoever calls it passes the time in and carries the changes out. It never takes
// the value 0 for missing, and it never changes the state of a disabled alarm. Its invariant: the same window and the same state
// before give the same state after.
//
// Two choices are ours, where the published rules are silent or too slow for a drill:
//
//   - When a period counts. A period is complete when its end has passed by the rule's grace: transportGrace, plus the longest time
//     that a sample of the metric may take. Rules with periods under 10 s are evaluated once for each period, at that instant; 10 s
//     and more every 10 s, a minute and more every minute, and once an hour when N periods span more than a day. A datapoint that
//     comes later than that still counts in the evaluations that follow, while its period is in range.
//   - Heartbeats. A metric that is a heartbeat has no missing data: a period without a beat is a datapoint 1, one with beats is 0.
//     So an alarm on 3 of 3 such periods raises after 3 silent periods, not after N+2. Counting begins with the first beat, or when
//     firstDataAllowance has passed without one: a watch that has just started must not take every host for dead. For the same reason
//     a new alarm that treats missing data as breaching is not raised by missing data alone within that time.
//
// Start reading at Rule (rule.go), then Evaluate (evaluate.go), then Step (step.go).
package alarm
