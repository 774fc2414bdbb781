package bookstore

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// drainPatience is how long running requests may take to end when the service stops. A request's own deadline is not much longer, and
// a deployment waits for this.
const drainPatience = 1 * time.Second

// ServeHTTP answers HTTP on listener until ctx is done, then lets running requests end and closes everything. An error means that it
// could not go on.
func ServeHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    64 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainPatience)
	defer cancel()
	if server.Shutdown(draining) != nil {
		server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
