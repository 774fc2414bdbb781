package authority

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/miekg/dns"
)

const (
	notifyMax = time.Second // for one try: a secondary answers at once or not at all

	// A secondary that is away is told again after these spans; when it comes back it asks by itself.
	notifyAgainMin = 250 * time.Millisecond
	notifyAgainMax = 30 * time.Second
)

// notifier tells one secondary that the zone has changed, until it has heard it. Only the newest change matters, so that many at once are
// told as one.
type notifier struct {
	zone *Zone
	to   Secondary
	log  *slog.Logger
	wake chan struct{} // of size 1
	now  func() uint32 // serial number; 0: nothing to tell yet
}

// poke has the secondary told.
func (n *notifier) poke() {
	select {
	case n.wake <- struct{}{}:
	default: // it is about to be told anyway
	}
}

func (n *notifier) run(ctx context.Context) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	again := notifyAgainMin
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
			again = notifyAgainMin
		case <-wait.C:
		}
		wait.Stop()
		serial := n.now()
		if serial == 0 {
			continue
		}
		err := n.tell(ctx, serial)
		if err == nil || ctx.Err() != nil {
			continue
		}
		n.log.WarnContext(ctx, "secondary not told", "secondary", n.to.Address, "serial", serial, "error", err, "again_in", again)
		wait.Reset(again)
		again = min(2*again, notifyAgainMax)
	}
}

// tell sends one NOTIFY (RFC 1996) and waits for its reply. A secondary that refuses has heard it, and will not listen the next time either.
func (n *notifier) tell(ctx context.Context, serial uint32) error {
	message := new(dns.Msg).SetNotify(n.zone.Name)
	soa := *n.zone.soa
	soa.Hdr.Name, soa.Serial = n.zone.Name, serial
	message.Answer = []dns.RR{&soa}
	n.to.Key.Sign(message, time.Now())
	client := dns.Client{Timeout: notifyMax, TsigSecret: n.to.Key.Secrets()}
	reply, _, err := client.ExchangeContext(ctx, message, n.to.Address)
	if err != nil {
		return err
	}
	if reply.Rcode != dns.RcodeSuccess {
		n.log.ErrorContext(ctx, "secondary refuses to be told; it will only look by itself", "secondary", n.to.Address, "error",
			fmt.Sprintf("%s to NOTIFY of %s", dns.RcodeToString[reply.Rcode], n.zone.Name))
	}
	return nil
}
