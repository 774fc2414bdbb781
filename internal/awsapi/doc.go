// Package awsapi answers, over HTTP, the operations of Amazon CloudWatch, Route 53, the routing controls of its recovery controller and RDS that
// programs for resiliency use, in the protocols that real clients speak. Behind it are our own alarms, name server, health checks and drivers of
// databases.
//
// It holds no state of its own (packages cloudwatch, route53, recovery and rds do) and serves nobody without a valid signature. An operation or
// parameter that is not served is refused by name and never passed over. Its invariant: every answer has the shape that the service's own
// clients read, faults included.
//
// Start reading at Handler (handler.go), then cloudwatch.go and route53.go.
package awsapi
