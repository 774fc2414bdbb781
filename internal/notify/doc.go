// Package notify carries out the actions of alarms: it tells a webhook, Slack, PagerDuty, a mailbox or a program that an alarm has moved.
//
// It decides nothing: whoever calls it knows which alarm and when (internal/alarm). It never blocks its caller, never repeats a notice that
// was taken, and never prints a secret: addresses of webhooks and keys are read from files, and errors name the file instead.
// Its invariant: every notice that was taken is delivered, or reported as not delivered; none is lost in silence. Start reading at Notifier.
package notify
