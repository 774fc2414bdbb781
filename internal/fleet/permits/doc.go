// Package permits holds the one leave that each service of a fleet, and each redundancy group of services, has to be attacked: at any moment at
// most one run has it.
//
// A permit is an entry of a bucket that a cluster keeps. It is made once, and changed only by who has seen its last revision; so two servers
// that believe to lead, or a message that comes late, cannot give it twice. It is a lease: it may be handed on when its time is over though
// nobody gave it back, and by then the hosts have ended what was ordered under it by themselves, because each order has a deadline that the
// host keeps by its own clock.
//
// It never reads a clock, and never decides who may attack what. Its invariant: no service is attacked by two runs at once, whatever is lost,
// doubled or late; internal/simulation asks for it after each event. Start reading at Store.Take.
package permits
