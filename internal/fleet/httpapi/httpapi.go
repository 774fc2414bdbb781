package httpapi

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
)

const (
	bodyMax   = 1 << 20     // a service file as JSON; each call has bounds of its own
	guessWait = time.Second // a wrong token is answered after this; keys of 24 random bytes are not guessed at that pace
	beatEvery = 15 * time.Second
	writeMax  = 10 * time.Second // a reader of events or of a file that does not read is let go
	// drillsStanding is how many drills events begin with.
	drillsStanding = 50
)

//go:embed openapi.json
var description []byte

// route is a way to make a call.
type route struct {
	method, path string
	call         string // scope and call of the control plane
	asked        func(r *http.Request, body []byte) ([]byte, error)
	ok           int
}

// routes are all but the events and the description.
var routes = []route{
	{http.MethodGet, "/v1/hosts", "hosts", none, http.StatusOK},
	{http.MethodGet, "/v1/runs", "runs", none, http.StatusOK},
	{http.MethodPost, "/v1/runs", "attack", whole, http.StatusCreated},
	{http.MethodGet, "/v1/runs/{run}", "run", value("run"), http.StatusOK},
	{http.MethodPost, "/v1/runs/{run}/stop", "stop", value("run"), http.StatusAccepted},
	{http.MethodGet, "/v1/runs/{run}/journals/{host}", "journal", func(r *http.Request, _ []byte) ([]byte, error) {
		return json.Marshal([]string{r.PathValue("run"), r.PathValue("host")})
	}, http.StatusOK},
	{http.MethodGet, "/v1/services", "services", none, http.StatusOK},
	{http.MethodPost, "/v1/services", "putservice", func(_ *http.Request, body []byte) ([]byte, error) {
		return json.Marshal(fleet.PutService{Text: string(body)})
	}, http.StatusCreated},
	{http.MethodGet, "/v1/services/{service}", "service", func(r *http.Request, _ []byte) ([]byte, error) {
		version, err := number(r, "version")
		return encoded(fleet.ServiceRequest{Name: r.PathValue("service"), Version: int(version)}, err)
	}, http.StatusOK},
	{http.MethodGet, "/v1/drills", "drills", func(r *http.Request, _ []byte) ([]byte, error) {
		return json.Marshal(fleet.DrillsRequest{Service: r.URL.Query().Get("service"), Before: r.URL.Query().Get("before")})
	}, http.StatusOK},
	{http.MethodPost, "/v1/drills", "drill", whole, http.StatusCreated},
	{http.MethodGet, "/v1/drills/{drill}", "drillrun", value("drill"), http.StatusOK},
	{http.MethodPost, "/v1/drills/{drill}/stop", "stopdrill", value("drill"), http.StatusAccepted},
	{http.MethodGet, "/v1/drills/{drill}/log", "drilllog", func(r *http.Request, _ []byte) ([]byte, error) {
		from, err := number(r, "from")
		return encoded(fleet.LogRequest{ID: r.PathValue("drill"), From: from}, err)
	}, http.StatusOK},
	{http.MethodGet, "/v1/audit", "audit", func(r *http.Request, _ []byte) ([]byte, error) {
		count, err := number(r, "count")
		q := r.URL.Query()
		return encoded(fleet.AuditRequest{From: q.Get("from"), Count: int(count), Contains: q.Get("contains"), Server: q.Get("server")}, err)
	}, http.StatusOK},
	{http.MethodGet, "/v1/audit/proof", "auditproof", none, http.StatusOK},
	{http.MethodGet, "/v1/drills/{drill}/files", "drillfiles", value("drill"), http.StatusOK},
	{http.MethodGet, "/v1/cadences", "cadences", none, http.StatusOK},
	{http.MethodGet, "/v1/schedule", "scheduled", none, http.StatusOK},
	{http.MethodPost, "/v1/schedule", "schedule", whole, http.StatusCreated},
	{http.MethodPost, "/v1/schedule/{entry}/leash", "leash", value("entry"), http.StatusOK},
	{http.MethodPost, "/v1/schedule/{entry}/run", "runscheduled", value("entry"), http.StatusCreated},
	{http.MethodDelete, "/v1/schedule/{entry}", "unschedule", value("entry"), http.StatusOK},
	{http.MethodGet, "/v1/freezes", "freezes", none, http.StatusOK},
	{http.MethodPost, "/v1/freezes", "freeze", whole, http.StatusCreated},
	{http.MethodGet, "/v1/lever", "lever", none, http.StatusOK},
	{http.MethodPost, "/v1/halt", callHalt, haltFor, http.StatusOK},
}

func none(*http.Request, []byte) ([]byte, error) { return []byte("null"), nil }

// value hands a part of the path on.
func value(name string) func(*http.Request, []byte) ([]byte, error) {
	return func(r *http.Request, _ []byte) ([]byte, error) { return json.Marshal(r.PathValue(name)) }
}

// number reads a number behind the question mark; without one it is 0.
func number(r *http.Request, name string) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	read, err := strconv.ParseInt(text, 10, 64)
	if err != nil || read < 0 {
		return 0, fmt.Errorf("%s: %q is no number from 0", name, text)
	}
	return read, nil
}

func encoded(asked any, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return json.Marshal(asked)
}

// whole hands the body on; an empty one is an empty object.
func whole(_ *http.Request, body []byte) ([]byte, error) {
	if len(strings.TrimSpace(string(body))) == 0 {
		return []byte("{}"), nil
	}
	return body, nil
}

// Handler serves a control plane.
func Handler(c *control.Control) http.Handler {
	mux := http.NewServeMux()
	for _, route := range routes {
		mux.Handle(route.method+" "+route.path, guarded(c, scoped(route.call), func(w http.ResponseWriter, r *http.Request, by fleet.Member) {
			serve(c, route, by, w, r)
		}))
	}
	mux.Handle("GET "+filePath, guarded(c, scoped(fileCall), func(w http.ResponseWriter, r *http.Request, by fleet.Member) { file(c, by, w, r) }))
	mux.Handle("GET /v1/events", guarded(c, scoped(control.ScopeEvents), func(w http.ResponseWriter, r *http.Request, _ fleet.Member) { events(c, w, r) }))
	mux.Handle("GET /v1/metrics", guarded(c, scoped(control.ScopeMetrics), metrics(c)))
	mux.Handle("POST "+fleet.CallsPath+"{call}", guarded(c, named, func(w http.ResponseWriter, r *http.Request, by fleet.Member) { call(c, by, w, r) }))
	mux.HandleFunc("GET /v1/health", health(c))
	mux.HandleFunc("GET /v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(description)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		r.Body = http.MaxBytesReader(w, r.Body, bodyMax)
		mux.ServeHTTP(w, r)
	})
}

// scoped is the scope of a route that has one alone.
func scoped(scope string) func(*http.Request) string {
	return func(*http.Request) string { return scope }
}

// named is the call that the path names, which is the scope of it.
func named(r *http.Request) string { return r.PathValue("call") }

// health says to whoever looks after servers, without a token, whether this one keeps what it is given, and has all that others kept while it was away. Why not is for
// those who may ask.
func health(c *control.Control) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if c.Problem() != nil {
			fail(w, http.StatusServiceUnavailable, fleet.Problem{Kind: drill.Unreachable, Text: "nothing can be kept", Hint: "see: firedrill fleet servers"})
			return
		}
		if c.Behind() {
			fail(w, http.StatusServiceUnavailable, fleet.Problem{Kind: drill.Unreachable, Text: "this server was just started, and does not have all yet that the others keep", Hint: "stop no other server before it has"})
			return
		}
		reply(w, http.StatusOK, map[string]bool{"keeps": true})
	}
}

// guarded lets a request through whose token has the scope.
func guarded(c *control.Control, scopeOf func(*http.Request) string, next func(http.ResponseWriter, *http.Request, fleet.Member)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		by, known := c.TokenHolder(strings.TrimSpace(secret))
		if !ok || !known {
			wait(r.Context(), guessWait)
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, http.StatusUnauthorized, fleet.Problem{Kind: drill.Refused, Text: "a token is needed", Hint: "firedrill fleet api-token"})
			return
		}
		if scope := scopeOf(r); !by.May(scope) {
			hint := "make one that may: firedrill fleet api-token --may " + scope
			if !slices.Contains(control.Scopes(), scope) {
				hint = "no token ever may; a person does it, with credentials: --server HOST:" + fleet.DefaultPort
			}
			fail(w, http.StatusForbidden, fleet.Problem{Kind: drill.Refused, Text: fmt.Sprintf("%s may not %s", by.Member.Name, scope), Hint: hint})
			return
		}
		next(w, r, by.Member)
	})
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func serve(c *control.Control, route route, by fleet.Member, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil || route.call == callHalt { // a body that is too long, or breaks off, is no reason not to halt
		body, err = route.asked(r, body)
	}
	if none, ok := errors.AsType[notMeant](err); ok {
		reply(w, http.StatusOK, map[string]string{"ignored": none.Error()})
		return
	}
	if err != nil {
		fail(w, http.StatusBadRequest, fleet.Problem{Kind: drill.Invalid, Text: err.Error()})
		return
	}
	// What was begun is not taken back because the one who asked has hung up.
	result, err := c.Call(context.WithoutCancel(r.Context()), by, route.call, body)
	if err != nil {
		problem := problemOf(err)
		fail(w, statusOf(problem.Kind), problem)
		return
	}
	if text, ok := result.(string); ok { // a journal: lines of JSON
		w.Header().Set("Content-Type", "application/x-ndjson")
		_, _ = io.WriteString(w, text)
		return
	}
	reply(w, route.ok, result)
}

// Where a file of a drill is answered as it is, and the call for its parts.
const (
	filePath = "/v1/drills/{drill}/files/{file}"
	fileCall = "drillfile"
)

// file hands out a file of a drill. One that breaks off, or is not the same any more, ends before the length that was said: whoever reads it is told.
func file(c *control.Control, by fleet.Member, w http.ResponseWriter, r *http.Request) {
	to := http.NewResponseController(w)
	defer func() { _ = to.SetWriteDeadline(time.Time{}) }() // the connection may be asked again
	asked := fleet.FileRequest{ID: r.PathValue("drill"), Name: r.PathValue("file")}
	for size := int64(-1); size < 0 || asked.From < size; {
		text, err := json.Marshal(asked)
		if err != nil {
			return
		}
		result, err := c.Call(r.Context(), by, fileCall, text)
		part, is := result.(fleet.FilePart)
		switch {
		case size < 0 && err != nil:
			problem := problemOf(err)
			fail(w, statusOf(problem.Kind), problem)
			return
		case err != nil || !is || size >= 0 && (part.Size != size || len(part.Data) == 0):
			return
		case size < 0:
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Length", strconv.FormatInt(part.Size, 10))
			w.WriteHeader(http.StatusOK)
			size = part.Size
		}
		if to.SetWriteDeadline(time.Now().Add(writeMax)) != nil {
			return
		}
		if _, err := w.Write(part.Data); err != nil {
			return
		}
		asked.From = part.Next
	}
}

// call makes the call that the path names, and answers as members are answered on the fleet's own port: a result may come with an error.
func call(c *control.Control, by fleet.Member, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, http.StatusBadRequest, fleet.Problem{Kind: drill.Invalid, Text: err.Error()})
		return
	}
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("null")
	}
	result, err := c.Call(context.WithoutCancel(r.Context()), by, named(r), body)
	answer, status := fleet.Reply{}, http.StatusOK
	if err != nil {
		problem := problemOf(err)
		answer.Error, status = &problem, statusOf(problem.Kind)
	}
	if answer.Result, err = json.Marshal(result); err != nil {
		fail(w, http.StatusInternalServerError, fleet.Problem{Kind: drill.Internal, Text: err.Error()})
		return
	}
	reply(w, status, answer)
}

func problemOf(err error) fleet.Problem {
	problem := fleet.Problem{Kind: drill.Internal, Text: err.Error(), Hint: drill.HintOf(err)}
	var known *drill.Error
	if errors.As(err, &known) {
		problem.Kind = known.Kind
	}
	return problem
}

func statusOf(kind drill.ErrorKind) int {
	switch kind {
	case drill.Invalid:
		return http.StatusBadRequest
	case drill.Refused, drill.Unsupported, drill.Unproven:
		return http.StatusConflict
	case drill.Unreachable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func fail(w http.ResponseWriter, status int, problem fleet.Problem) {
	reply(w, status, map[string]any{"error": map[string]string{"kind": problem.Kind.String(), "text": problem.Text, "hint": problem.Hint}})
}

func reply(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // who has hung up hears nothing
}

// events says what changes, from now on; first how things stand. Who reads too slowly is let go, and begins anew with how things stand then: that is also why
// there is no Last-Event-ID to come back with.
func events(c *control.Control, w http.ResponseWriter, r *http.Request) {
	changes, stop := c.Watch()
	defer stop()
	to := http.NewResponseController(w)
	say := func(name string, value any) error {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if err := to.SetWriteDeadline(time.Now().Add(writeMax)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, text); err != nil {
			return err
		}
		return to.Flush()
	}
	w.Header().Set("Content-Type", "text/event-stream")
	lever, runs := c.Standing()
	for _, one := range []control.Change{{Name: "lever", Value: lever}, {Name: "runs", Value: runs}, {Name: "drills", Value: c.Drills(drillsStanding, nil)},
		{Name: "scheduled", Value: c.Scheduled(time.Now())}, {Name: "freezes", Value: c.Freezes()}} {
		if say(one.Name, one.Value) != nil {
			return
		}
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-r.Context().Done():
			return
		case change, open := <-changes:
			if !open {
				return
			}
			err = say(change.Name, change.Value)
		case <-beat.C:
			err = say("beat", struct{}{})
		}
		if err != nil {
			return
		}
	}
}
