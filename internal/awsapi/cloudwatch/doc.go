// Package cloudwatch keeps metrics and alarms as Amazon CloudWatch does, and answers for them: datapoints by namespace, name, dimensions, unit and
// resolution; metric and composite alarms that are evaluated by package alarm; history with its texts.
//
// It speaks no protocol (package awsapi does) and carries out no actions: that an action was due stands in the history. It never changes an
// alarm by a request that it refuses. Its invariant: what has been answered with success is on the disk, alarms and history before the answer,
// datapoints with the system's next write.
//
// Differences from CloudWatch, all refused and none ignored: metric math, percentiles, anomaly detection, suppressors of composite alarms.
//
// Start reading at Engine (engine.go), then alarms.go and metrics.go. The shapes of the API stand in types.go.
package cloudwatch
