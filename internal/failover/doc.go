// Package failover decides which environment a failover name leads to. It is the policy alone: alarms say which hosts are unhealthy,
// Decide says what is answered, others publish the answer and serve it.
//
// It does no I/O, starts nothing and reads no clock. It never leaves a name without an answer, never leaves a healthy environment for
// an unhealthy one by itself, and never counts a host of which nothing is known as unhealthy: a watch that has just started must not
// move anything.
//
// The decisions are those of Route 53's failover records, with four additions: an operator may switch, which makes the other environment
// the preferred one; failback may be manual (stay until told, or until the active one turns unhealthy) instead of at once; a hold time
// keeps the answer from flapping; and a frozen name does not move at all.
//
//	active    the other  | failback manual           | failback auto
//	---------------------+---------------------------+------------------------------------
//	healthy   healthy    | stay                      | the preferred one
//	healthy   unhealthy  | stay                      | stay
//	unhealthy healthy    | the other                 | the other
//	unhealthy unhealthy  | the preferred one, or stay if on_all_unhealthy is last_known
//
// Beside that stand the decision tables of Route 53 as they are, for names that several records share: which record is answered by failover,
// weighted and multivalue routing (records.go), and when a health check is healthy, calculated, inverted or disabled (checks.go).
//
// The invariant: Decide and Switch raise the serial number with every change of the answer and with nothing else.
//
// Start reading at Policy and State (policy.go), then Decide, then Switch (switch.go). What a decision is on its way to the servers that
// give it stands in publish.go.
package failover
