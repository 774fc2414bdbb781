package attack

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Stopped is the cause with which the context of an attack ends early. Code is the exit code of the command.
type Stopped struct {
	Why  string
	Code int
}

// Error returns why.
func (s *Stopped) Error() string { return s.Why }

// Why an attack ended early.
var (
	errHalted = &Stopped{Why: "halt", Code: 143}
	errLost   = &Stopped{Why: "connection lost", Code: 129}
)

// A standard input that ends this soon was never a lifeline: Jenkins closes it right after the start, and so does "< /dev/null" over SSH.
const lifelineGrace = 2 * time.Second

// waker is a descriptor that can be read when a context has ended. A poll that looked up now and then whether it has would cost more
// processor time than all else that an attack in force does: with it a poll waits without end.
type waker struct {
	ended   unix.PollFd
	unwatch func() bool
	done    chan struct{} // closed when the end was told
}

func newWaker(ctx context.Context) (*waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w := &waker{ended: unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}, done: make(chan struct{})}
	w.unwatch = context.AfterFunc(ctx, func() {
		defer close(w.done)
		_, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	return w, nil
}

func (w *waker) close() {
	if !w.unwatch() {
		<-w.done
	}
	_ = unix.Close(int(w.ended.Fd))
}

// WatchLifeline returns when the one who started us is gone: standard input, if it is a pipe or socket that was open at the start, has
// ended, or nobody reads standard output any more. It returns nil when ctx ends. Either file may be nil.
func WatchLifeline(ctx context.Context, in, out *os.File) error {
	watched, err := newWaker(ctx)
	if err != nil {
		return fmt.Errorf("watch who started us: %w", err)
	}
	defer watched.close()
	started := time.Now()
	fds := []unix.PollFd{{Fd: -1}, {Fd: -1}}
	if isStream(in) {
		fds[0] = unix.PollFd{Fd: int32(in.Fd()), Events: unix.POLLIN}
	}
	if isStream(out) {
		fds[1] = unix.PollFd{Fd: int32(out.Fd())} // errors and hang-ups are reported without being asked for
	}
	fds = append(fds, watched.ended)
	for ctx.Err() == nil {
		fds[0].Revents, fds[1].Revents = 0, 0
		if _, err := unix.Poll(fds, -1); err != nil {
			continue // EINTR
		}
		if fds[1].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
			return errLost
		}
		if fds[0].Revents == 0 || !ended(int(fds[0].Fd)) {
			continue
		}
		if time.Since(started) > lifelineGrace {
			return errLost
		}
		fds[0].Fd = -1
	}
	return nil
}

func isStream(file *os.File) bool {
	if file == nil {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
}

// ended reads what is there and throws it away; it reports whether nothing will come any more.
func ended(fd int) bool {
	var sink [4096]byte
	n, err := unix.Read(fd, sink[:])
	switch err {
	case nil:
		return n == 0
	case unix.EAGAIN, unix.EINTR:
		return false
	}
	return true
}
