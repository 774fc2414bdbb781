package traffictest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	at "firedrill/internal/attack/attacktest"
)

// Slow is how long an answer takes, or a new connection, on each of several flows. A packet that is on its way for a while is no failure, and
// a busy machine makes everything slower, never faster: so only that a flow is slow is ever held against a bound that is near.
type Slow struct {
	AtLeast time.Duration
	From    *at.Namespace
	To      []netip.Addr
	Port    uint16
}

// patience bounds how long an answer is waited for that must come.
const patience = 10 * time.Second

// Check returns nil when each flow is answered, and takes at least as long as that.
func (s Slow) Check() error {
	return s.each(patience, func(took time.Duration) error {
		if took < s.AtLeast {
			return fmt.Errorf("is answered after %s, and should take at least %s", took, s.AtLeast)
		}
		return nil
	})
}

// Over returns nil when all flows are answered within half of that time, be it at the tenth try.
func (s Slow) Over() error {
	var err error
	for range 10 {
		if err = s.each(s.AtLeast/2, func(time.Duration) error { return nil }); err == nil {
			return nil
		}
	}
	return err
}

// each tries all flows side by side.
func (s Slow) each(limit time.Duration, judge func(took time.Duration) error) error {
	var wait sync.WaitGroup
	errs := make([]error, 2*len(s.To))
	for i, to := range s.To {
		for j, try := range []func(netip.Addr, time.Duration) (time.Duration, error){s.connect, s.datagram} {
			wait.Go(func() {
				took, err := try(to, limit)
				if err == nil {
					err = judge(took)
				}
				if err != nil {
					errs[2*i+j] = fmt.Errorf("%s to %s: %w", []string{"tcp", "udp"}[j], to, err)
				}
			})
		}
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (s Slow) connect(to netip.Addr, limit time.Duration) (time.Duration, error) {
	began := time.Now()
	err := s.From.Connect(to, s.Port, limit)
	return time.Since(began), err
}

func (s Slow) datagram(to netip.Addr, limit time.Duration) (time.Duration, error) {
	conn, err := s.From.Dial("udp", to, s.Port)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return Exchange(conn, limit)
}

// Exchange sends something over a connection to an echo and returns how long it takes to come back.
func Exchange(conn net.Conn, limit time.Duration) (time.Duration, error) {
	began := time.Now()
	err := at.Talk(conn, limit)
	return time.Since(began), err
}
