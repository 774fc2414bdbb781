package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/database"
	"firedrill/internal/history"
	"firedrill/internal/probe"
	alarmsource "firedrill/internal/source"
)

const (
	// idleMax is the longest time between two decisions.
	idleMax = time.Second
	// stallMin is how late the loop must be to take itself for the one that was stopped.
	stallMin = time.Second
	// stallPause is how long samples that waited in the sockets have to come in after a stall.
	stallPause = 500 * time.Millisecond
	// stallsMax is how often in a row evaluation is put off: a machine that is always late must still raise alarms.
	stallsMax = 3
	// saveMax is how long an answer waits for the disk.
	saveMax = time.Second
	// endMax is how long a graceful end may take: a rolling restart waits for it.
	endMax = 3 * time.Second
	// inboxSize takes a burst of samples from many hosts while an answer is saved.
	inboxSize = 1024
)

var (
	errUnknownName = errors.New("there is no such failover name")
	errEnded       = errors.New("the watch has ended")
)

// Options are what a watch needs. Service and Sources are required.
type Options struct {
	Service   drill.Service
	Sources   SourceStarter
	Token     string       // secret for switching; empty: nobody may switch
	Listen    string       // address of the HTTP interface; empty: none
	Directory string       // where the paths of secrets in the service file count from
	StateFile string       // keeps the answers over a restart, and beside it, FILE.history, past events; empty: they are forgotten
	Log       *slog.Logger // default: nothing is logged

	// AlarmSources opens what alarms live elsewhere in; needed when the service has such alarms.
	AlarmSources func(alarm string, s drill.AlarmSource) (alarmsource.Source, error)

	// Databases are kept: their primaries are remembered, and promoted when their alarms order it.
	Databases []*database.Keeper

	// Notify is told what actions have to tell; it must return at once. Nil: nobody is told.
	Notify func(Notice)
}

// Watch samples, raises and decides. Make one with New; Run it once.
type Watch struct {
	options Options
	log     *slog.Logger
	probes  map[string][]probe.Spec // by the host that they run on
	own     map[string][]probe.Spec // by the host that they are about: they run here
	beats   map[string]bool         // names of the heartbeat probes

	inbox chan any    // from streams
	asks  chan func() // from the HTTP interface; run by the loop
	ready chan struct{}
	ended chan struct{} // closed when the loop has ended

	core    *core // owned by the loop
	hub     *hub  // owned by the loop
	stalls  int   // owned by the loop: how often in a row evaluation was put off
	saver   *saver
	started time.Time
	address net.Addr // set before ready is closed
	statsD  net.Addr // likewise
}

// New checks the service and reads the state file. Errors say what to change.
func New(options Options) (*Watch, error) {
	if options.Sources == nil {
		return nil, errors.New("watch: nothing starts the probes")
	}
	probes := map[string][]probe.Spec{}
	own, err := ownProbes(options.Service, options.Directory)
	for _, environment := range options.Service.Environments {
		for _, host := range environment.Hosts {
			var wrong error
			probes[host.Name], wrong = Probes(options.Service, host, options.Directory)
			err = errors.Join(err, wrong)
		}
	}
	if err != nil {
		return nil, &drill.Error{Op: "watch", Kind: drill.Invalid, Err: err}
	}
	w := &Watch{
		options: options, log: options.Log, probes: probes, own: own, beats: map[string]bool{}, inbox: make(chan any, inboxSize), asks: make(chan func()),
		ready: make(chan struct{}), ended: make(chan struct{}), hub: newHub(), started: time.Now(),
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	for _, specs := range probes {
		for _, spec := range specs {
			if spec.Kind == probe.Heartbeat {
				w.beats[spec.Name] = true
			}
		}
	}
	var saved *savedState
	if options.StateFile != "" {
		if saved, err = loadState(options.StateFile, options.Service.Name); err != nil {
			return nil, err
		}
		w.saver = newSaver(options.StateFile)
	}
	if w.core, err = newCore(options.Service, saved, w.started); err != nil {
		return nil, &drill.Error{Op: "watch", Kind: drill.Invalid, Err: err}
	}
	if err := w.core.openSources(options.AlarmSources); err != nil {
		return nil, &drill.Error{Op: "watch", Kind: drill.Invalid, Err: err}
	}
	return w, nil
}

// Ready is closed when the watch listens.
func (w *Watch) Ready() <-chan struct{} { return w.ready }

// Addr returns where it listens; nil without an HTTP interface. Call it after Ready.
func (w *Watch) Addr() net.Addr { return w.address }

// Run watches until ctx ends, then ends the probes, lets followers go and returns nil. It returns an error when it cannot listen or the
// state file cannot be written at the start; later troubles are logged and told by the HTTP interface.
func (w *Watch) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	if w.saver != nil {
		parts.Go(func() { w.saver.run(w.ended) })
		if err := w.saver.save(w.core.save(), 10*saveMax); err != nil {
			close(w.ended)
			return &drill.Error{Op: "watch", Kind: drill.Invalid, Err: err, Hint: "Name a file in a directory that the watch may write to with --state."}
		}
		kept, err := openArchive(w.options.StateFile+".history", archiveMax)
		if err != nil {
			close(w.ended)
			return err
		}
		w.hub.archive = kept
		parts.Go(func() { kept.run(w.ended) })
	}
	if settings := w.options.Service.Watch; settings != nil && settings.StatsD != "" {
		conn, err := listenStatsD(ctx, settings.StatsD)
		if err != nil {
			close(w.ended)
			return err
		}
		w.statsD = conn.LocalAddr()
		parts.Go(func() { w.serveStatsD(ctx, conn) })
	}
	if w.options.Listen != "" {
		server, err := w.listen(ctx, &parts)
		if err != nil {
			close(w.ended)
			return err
		}
		defer w.stopServing(server)
	}
	close(w.ready)
	for _, host := range w.core.hosts {
		parts.Go(func() { w.follow(ctx, host.host) })
	}
	for about, specs := range w.own {
		parts.Go(func() { w.measure(ctx, about, specs) })
	}
	for _, a := range w.core.alarms {
		if a.external != nil && !a.alarm.Rule.Disabled {
			parts.Go(func() { w.lookAt(ctx, a) })
		}
	}
	for _, keeper := range w.options.Databases {
		keeper.Mover.Tell = w.databaseTold(ctx)
		parts.Go(func() { w.keep(ctx, keeper) })
	}
	w.loop(ctx)
	return nil
}

// listen starts the HTTP interface.
func (w *Watch) listen(ctx context.Context, parts *sync.WaitGroup) (*http.Server, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", w.options.Listen)
	if err != nil {
		return nil, &drill.Error{
			Op: "watch", Kind: drill.Invalid, Err: err, Hint: "Choose a free address with --listen, as 0.0.0.0:7070.",
		}
	}
	w.address = listener.Addr()
	server := &http.Server{
		Handler: w.Handler(), ReadHeaderTimeout: readMax, ReadTimeout: readMax, IdleTimeout: idleConnMax, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
	parts.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			w.log.Error("http interface ended", "error", err)
		}
	})
	return server, nil
}

func (w *Watch) stopServing(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), endMax)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close() // whoever is still connected after the grace is let go the hard way
	}
}

// loop owns core and hub until ctx ends.
func (w *Watch) loop(ctx context.Context) {
	defer close(w.ended)
	defer w.hub.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case message := <-w.inbox:
			w.take(message)
			continue // the timer stands: only a tick moves what is due
		case ask := <-w.asks:
			ask()
			continue
		case <-timer.C:
			w.tick()
		}
		timer.Reset(time.Until(w.core.next(time.Now())))
	}
}

// tick takes in what has come, then evaluates what is due.
func (w *Watch) tick() {
	for range len(w.inbox) {
		w.take(<-w.inbox)
	}
	now := time.Now()
	late := w.core.overdue(now)
	if late <= stallMin {
		w.stalls = 0
	} else if w.stalls < stallsMax && !now.Before(w.core.pause.Add(stallPause)) {
		w.stalls++
		w.core.pause = now.Add(stallPause)
		w.log.Warn("the watch itself was stopped; waiting for the samples of that time", "late", late)
		w.publish([]history.Event{history.New(now, source, &history.Note{
			Text: fmt.Sprintf("the watch itself was stopped for %s", late.Round(time.Millisecond)),
		})})
		return
	}
	w.publish(w.core.tick(now))
	w.notify()
}

// notify hands out what actions have to tell.
func (w *Watch) notify() {
	for _, notice := range w.core.takeNotices() {
		w.log.Info("tell", "action", notice.Action, "alarm", notice.Alarm, "to", notice.To, "held_back_by", notice.Suppressed)
		if w.options.Notify != nil {
			w.options.Notify(notice)
		}
	}
}

// Mute keeps the actions of some alarms quiet, or of all when none is named, until a time: they go on moving, and what they are in then is
// told. Errors are *drill.Error of kind Invalid (no such alarm) or Refused (too long).
func (w *Watch) Mute(ctx context.Context, alarms []string, length time.Duration, reason string) (until time.Time, err error) {
	var refused error
	err = w.ask(ctx, func(now time.Time) {
		until = now.Add(length)
		if refused = w.core.quieten(now, mute{Alarms: alarms, Until: until, Reason: reason}); refused != nil {
			return
		}
		about := "all alarms"
		if len(alarms) > 0 {
			about = strings.Join(alarms, ", ")
		}
		w.publish([]history.Event{history.New(now, source, &history.Note{
			Text: fmt.Sprintf("the actions of %s are quiet for %s: %s", about, length, reason),
		})})
	})
	return until, errors.Join(err, refused)
}

// take carries one message of a stream into the core.
func (w *Watch) take(message any) {
	switch m := message.(type) {
	case arrived:
		switch fact := m.event.Fact.(type) {
		case *history.Sample:
			w.core.sample(m.at, m.due, m.host, fact)
		case *history.Note:
			w.log.Warn("probe note", "host", m.host, "text", fact.Text)
		}
	case received:
		w.core.receive(time.Now(), m)
	case looked:
		w.publish(w.core.look(m))
		w.notify()
	case established:
		w.publish(w.core.reach(m.at, m.host, true, m.bootID, ""))
	case lost:
		w.log.Debug("stream lost", "host", m.host, "error", m.err)
		detail := "the stream ended"
		if m.err != nil {
			detail = m.err.Error()
		}
		w.publish(w.core.reach(m.at, m.host, false, "", detail))
	}
}

// publish saves what a restart must know, then tells everyone.
func (w *Watch) publish(events []history.Event) {
	if len(events) == 0 {
		return
	}
	matters := slices.ContainsFunc(events, func(e history.Event) bool {
		kind := e.Fact.Kind()
		return kind == history.KindAlarm || kind == history.KindAnswer
	})
	if matters {
		if err := w.saver.save(w.core.save(), saveMax); err != nil {
			w.log.Error("state is not saved", "error", err)
		}
	}
	for _, event := range events {
		w.logEvent(event)
	}
	if cut := w.hub.publish(events); cut > 0 {
		w.log.Warn("followers were too slow and are cut off", "count", cut)
	}
}

func (w *Watch) logEvent(event history.Event) {
	switch fact := event.Fact.(type) {
	case *history.Alarm:
		w.log.Info("alarm", "name", fact.Name, "from", fact.From, "to", fact.To, "reason", fact.Reason)
	case *history.Answer:
		w.log.Info("answer", "name", fact.Name, "environment", fact.Environment, "addresses", fact.Addresses, "serial", fact.Serial, "reason", fact.Reason)
	case *history.DatabaseStep:
		w.log.Info("database", "name", fact.Database, "step", fact.Step, "host", fact.Host, "detail", fact.Detail)
	case *history.Host:
		w.log.Info("host", "name", fact.Host, "up", fact.Up, "boot_id", fact.BootID, "detail", fact.Detail)
	}
}

// ask has the loop run a function and waits for it.
func (w *Watch) ask(ctx context.Context, question func(now time.Time)) error {
	done := make(chan struct{})
	ask := func() {
		defer close(done)
		question(time.Now())
	}
	select {
	case w.asks <- ask:
	case <-w.ended:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Switch makes another environment the answered and preferred one; see failover.Switch for the errors. It returns the answer's serial.
func (w *Watch) Switch(ctx context.Context, name string, order failover.Order) (uint64, error) {
	var serial uint64
	var refused error
	err := w.ask(ctx, func(now time.Time) {
		var events []history.Event
		serial, events, refused = w.core.switchTo(now, name, order)
		if refused == nil {
			w.publishSwitch(events)
		}
	})
	return serial, errors.Join(err, refused)
}

// publishSwitch also saves a switch that changed only the preference.
func (w *Watch) publishSwitch(events []history.Event) {
	if len(events) > 0 {
		w.publish(events)
		return
	}
	if err := w.saver.save(w.core.save(), saveMax); err != nil {
		w.log.Error("state is not saved", "error", err)
	}
}

// Follow returns the current state and then the live events, of the given kinds or of all. The channel is closed when the follower falls
// behind, the watch ends, or leave is called; leave must be called.
func (w *Watch) Follow(ctx context.Context, kinds ...history.Kind) (current []history.Event, live <-chan history.Event, leave func(), err error) {
	var f *follower
	err = w.ask(ctx, func(now time.Time) {
		if f = w.hub.add(kinds); f == nil {
			return
		}
		for _, event := range w.core.current(now) {
			if f.wants(event.Fact.Kind()) {
				current = append(current, event)
			}
		}
	})
	if err != nil {
		return nil, nil, nil, err
	}
	if f == nil {
		return nil, nil, nil, &drill.Error{Op: "follow", Kind: drill.Refused, Err: fmt.Errorf("%d followers are the most", followersMax)}
	}
	leave = func() {
		_ = w.ask(context.WithoutCancel(ctx), func(time.Time) { w.hub.remove(f) }) // ended: then it is closed already
	}
	return current, f.events, leave, nil
}
