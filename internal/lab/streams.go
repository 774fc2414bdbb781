package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"sync"
)

// streams are the standard streams of a program on a host, on the caller's side. Files are handed over as they are; readers and writers
// are copied through pipes.
type streams struct {
	cmd    Cmd
	theirs []*os.File     // handed over; empty on a terminal
	opened []*os.File     // of theirs: ours to close once handed over
	feeds  []func() error // copies to the program: not waited for, since a reader may never return
	drains []func() error // copies from the program
	ours   []*os.File     // our ends of the pipes

	wait sync.WaitGroup
	mu   sync.Mutex // guards err
	err  error
}

func newStreams(c Cmd) (*streams, error) {
	s := &streams{cmd: c}
	if c.TTY {
		return s, nil
	}
	err := s.input(c.Stdin)
	if err == nil {
		err = s.output(c.Stdout)
	}
	switch {
	case err != nil:
	case sameWriter(c.Stdout, c.Stderr):
		s.theirs = append(s.theirs, s.theirs[len(s.theirs)-1])
	default:
		err = s.output(c.Stderr)
	}
	if err != nil {
		s.abandon()
		return nil, fmt.Errorf("lab exec: streams: %w", err)
	}
	return s, nil
}

// sameWriter says whether both outputs go to one writer. Then they share a pipe, as in os/exec: two copies into, say, a bytes.Buffer would
// lose what they write at the same time.
func sameWriter(a, b io.Writer) bool {
	return a != nil && b != nil && reflect.TypeOf(a).Comparable() && a == b
}

func (s *streams) input(r io.Reader) error {
	if f, ok := r.(*os.File); ok && f != nil {
		s.share(f)
		return nil
	}
	if r == nil {
		return s.null(os.O_RDONLY)
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	s.hand(theirs, ours)
	s.feeds = append(s.feeds, func() error {
		_, _ = io.Copy(ours, r) // a program need not read its input
		return ours.Close()
	})
	return nil
}

func (s *streams) output(w io.Writer) error {
	if f, ok := w.(*os.File); ok && f != nil {
		s.share(f)
		return nil
	}
	if w == nil {
		return s.null(os.O_WRONLY)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	s.hand(theirs, ours)
	s.drains = append(s.drains, func() error {
		_, err := io.Copy(w, ours)
		return err
	})
	return nil
}

func (s *streams) null(flag int) error {
	f, err := os.OpenFile(os.DevNull, flag, 0)
	if err != nil {
		return err
	}
	s.theirs = append(s.theirs, f)
	s.opened = append(s.opened, f)
	return nil
}

// share hands a file over. Fd switches what Go has made non-blocking back, as os/exec does: programs expect that of standard streams.
func (s *streams) share(f *os.File) {
	_ = f.Fd()
	s.theirs = append(s.theirs, f)
}

func (s *streams) hand(theirs, ours *os.File) {
	s.share(theirs)
	s.opened = append(s.opened, theirs)
	s.ours = append(s.ours, ours)
}

// begin starts the copying. files is what the init sent: the terminal, if there is one.
func (s *streams) begin(files []*os.File) error {
	closeAll(s.opened)
	s.opened = nil
	if s.cmd.TTY {
		if len(files) != 1 {
			closeAll(files)
			return errors.New("lab exec: no terminal came")
		}
		s.terminal(files[0])
	} else {
		closeAll(files)
	}
	for _, feed := range s.feeds {
		go func() { _ = feed() }() // ends when the pipe is closed by abandon, or with its reader
	}
	for _, drain := range s.drains {
		s.wait.Go(func() {
			if err := drain(); err != nil && !errors.Is(err, os.ErrClosed) {
				s.mu.Lock()
				s.err = errors.Join(s.err, err)
				s.mu.Unlock()
			}
		})
	}
	return nil
}

func (s *streams) terminal(master *os.File) {
	s.ours = append(s.ours, master)
	if r := s.cmd.Stdin; r != nil {
		s.feeds = append(s.feeds, func() error {
			_, err := io.Copy(master, r)
			return err
		})
	}
	w := s.cmd.Stdout
	if w == nil {
		w = io.Discard
	}
	s.drains = append(s.drains, func() error {
		_, _ = io.Copy(w, master) // EIO is how a terminal says that nobody is left on it
		return nil
	})
}

// finish waits for what the program wrote, until ctx ends: something that it left behind may hold the pipe.
func (s *streams) finish(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { closeAll(s.ours) })
	defer stop()
	s.wait.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// abandon closes what is ours. It is safe after finish.
func (s *streams) abandon() {
	closeAll(s.opened)
	closeAll(s.ours)
	s.wait.Wait()
}
