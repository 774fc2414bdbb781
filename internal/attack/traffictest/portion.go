package traffictest

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
)

// connectWithin is generous: a connection that is answered takes far less.
const connectWithin = 5 * time.Second

// RefusesHalf checks that of 60 connections to the first target about half are refused and the others are not hit at all. The standard
// deviation is 3.9; the bounds are 5 of them away.
func RefusesHalf(w *at.World, bug string, args []string) error {
	return During(w, bug, append([]string{"--ipaddress=" + at.Target4.String(), "--percent=50"}, args...), func() error {
		refused := 0
		for range 60 {
			conn, err := w.Host.Open(at.Target4, at.Port, connectWithin)
			if err != nil {
				if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.EACCES) {
					return fmt.Errorf("a connection is not refused, but: %w", err)
				}
				refused++
				continue
			}
			for range 5 {
				if err = at.Talk(conn, connectWithin); err != nil {
					break
				}
			}
			_ = conn.Close()
			if err != nil {
				return fmt.Errorf("a connection that was let through is hit later: %w", err)
			}
		}
		if refused < 10 || refused > 50 {
			return fmt.Errorf("%d of 60 connections were refused", refused)
		}
		return nil
	})
}
