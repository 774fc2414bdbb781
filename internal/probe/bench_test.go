package probe

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// mute is a service that can fall silent: what it is asked meanwhile is never answered.
type mute struct{ silent atomic.Bool }

func (m *mute) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	if m.silent.Load() {
		<-r.Context().Done()
	}
}

// BenchmarkOutage prints, for a real outage of 7.00 s on loopback, how far off three rates of the open loop and two closed loops are, in
// milliseconds, and the bound that the measurement itself states.
func BenchmarkOutage(b *testing.B) {
	const outage = 7 * time.Second
	for b.Loop() {
		service := new(mute)
		server := httptest.NewServer(service)
		ctx, cancel := context.WithCancel(b.Context())
		samples := map[string][]history.Sample{}
		specs := []Spec{
			{Name: "open-1/s", Kind: HTTP, URL: server.URL, Every: second, Timeout: second},
			{Name: "open-10/s", Kind: HTTP, URL: server.URL, Every: 100 * ms, Timeout: second},
			{Name: "open-100/s", Kind: HTTP, URL: server.URL, Every: 10 * ms, Timeout: second},
			{Name: "closed-100ms-timeout-5s", Kind: HTTP, URL: server.URL, Every: 100 * ms, Timeout: 5 * second},
			{Name: "closed-1s-timeout-5s", Kind: HTTP, URL: server.URL, Every: second, Timeout: 5 * second},
		}
		r := &runner{source: "here", started: time.Now(), outlet: newOutlet()}
		var drained, loops sync.WaitGroup
		drained.Go(func() {
			r.outlet.drain(func(e history.Event) {
				if s, ok := e.Fact.(*history.Sample); ok {
					samples[s.Probe] = append(samples[s.Probe], *s)
				}
			})
		})
		for i, spec := range specs {
			loops.Go(func() {
				if i < 3 {
					r.loop(ctx, spec, r.task(spec))
				} else {
					closedLoop(ctx, r, spec, r.task(spec))
				}
			})
		}
		wait := func(length time.Duration) { <-time.After(length) }
		wait(2500 * time.Millisecond)
		fell := time.Now()
		service.silent.Store(true)
		wait(outage)
		service.silent.Store(false)
		truth := time.Since(fell)
		wait(5 * time.Second)
		cancel()
		loops.Wait()
		r.outlet.close(r.now(), "here")
		drained.Wait()
		server.CloseClientConnections()
		server.Close()
		for _, spec := range specs {
			measured := history.Outages(samples[spec.Name], spec.Every.Duration(), 0)
			if len(measured.Outages) == 0 {
				continue
			}
			found := measured.Outages[0]
			b.ReportMetric(float64((found.Length-drill.Seconds(truth))/ms), spec.Name+"-off-ms")
			b.ReportMetric(float64(found.Error/ms), spec.Name+"-bound-ms")
			b.Logf("%s: %v, bound %v, %d failed, void %q", spec.Name, found.Length, found.Error, found.Failed, measured.Void)
		}
	}
}
