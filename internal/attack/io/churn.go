package io

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// task is what the worker is told.
type task struct {
	Directory string `json:"directory"`
	Workers   int    `json:"workers"`
	Mode      Mode   `json:"mode"`
	Block     int    `json:"block"` // bytes
	Count     int    `json:"count"`
}

// report is what the worker says when its files are there.
type report struct {
	Direct bool `json:"direct"` // past the page cache
}

// bugIdle is a worker that does nothing.
const bugIdle = "never bites"

// onlyCached is no bug, but a file system that goes through the page cache always.
const onlyCached = "only cached"

// Job is the worker's side.
func Job(d worker.Duty) error {
	task, err := worker.Arguments[task](d)
	if err != nil {
		return err
	}
	var files []*churned
	direct := true
	for range task.Workers {
		c, err := open(task, d.Bug != onlyCached)
		if err != nil {
			return explain(err)
		}
		defer c.file.Close()
		files = append(files, c)
		direct = direct && c.direct
	}
	if err := d.Ready(report{Direct: direct}); err != nil {
		return err
	}
	if d.Bug == bugIdle {
		worker.Hold()
	}
	errs := make([]error, len(files))
	var working sync.WaitGroup
	for i, c := range files {
		working.Go(func() { errs[i] = c.churn(task.Mode) })
	}
	working.Wait() // for what cannot go on; the attack then ends
	return errors.Join(errs...)
}

// churned is the file of one of those who read and write.
type churned struct {
	file   *os.File
	fd     int
	block  []byte // aligned to a page, as going past the cache needs it
	count  int
	direct bool
}

// open makes a file whose blocks are all there, so that reading them asks the disk.
func open(t task, direct bool) (*churned, error) {
	file, err := worker.Nameless(t.Directory)
	if err != nil {
		return nil, err
	}
	block, err := unix.Mmap(-1, 0, t.Block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map a block: %w", err), file.Close())
	}
	_, _ = rand.Read(block) // never fails; what cannot be compressed
	c := &churned{file: file, fd: int(file.Fd()), block: block, count: t.Count}
	if direct {
		flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFL, 0)
		if err == nil {
			_, err = unix.FcntlInt(file.Fd(), unix.F_SETFL, flags|unix.O_DIRECT)
		}
		c.direct = err == nil
	}
	err = c.write()
	if c.direct && errors.Is(err, unix.EINVAL) { // the disk's own blocks are larger
		_, err = unix.FcntlInt(file.Fd(), unix.F_SETFL, 0)
		c.direct = false
		err = errors.Join(err, c.write())
	}
	if err == nil {
		err = unix.Fdatasync(c.fd)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return c, nil
}

// churn goes on until the kernel kills us, or until a read or write fails.
func (c *churned) churn(mode Mode) error {
	for {
		if mode != Read {
			if err := c.write(); err != nil {
				return err
			}
		}
		if mode != Write {
			if err := c.read(); err != nil {
				return err
			}
		}
	}
}

// write writes every block once, and returns when they are on the disk.
func (c *churned) write() error {
	for i := range c.count {
		if err := whole(unix.Pwrite, c.fd, c.block, int64(i)*int64(len(c.block))); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if c.direct {
		return nil
	}
	return unix.Fdatasync(c.fd)
}

// read reads every block once from the disk.
func (c *churned) read() error {
	if !c.direct {
		if err := unix.Fadvise(c.fd, 0, 0, unix.FADV_DONTNEED); err != nil {
			return fmt.Errorf("drop from the cache: %w", err)
		}
	}
	for i := range c.count {
		if err := whole(unix.Pread, c.fd, c.block, int64(i)*int64(len(c.block))); err != nil {
			return fmt.Errorf("read: %w", err)
		}
	}
	return nil
}

// whole moves one block, in parts where the kernel wants it so.
func whole(move func(int, []byte, int64) (int, error), fd int, block []byte, at int64) error {
	for len(block) > 0 {
		n, err := move(fd, block, at)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return unix.EIO
		}
		block, at = block[max(n, 0):], at+int64(max(n, 0))
	}
	return nil
}

// explain adds the cure to what a user can do something about.
func explain(err error) error {
	e := &drill.Error{Op: "attack " + Name, Kind: drill.Failed, Err: err}
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		e.Kind, e.Hint = drill.Unsupported, "choose a directory that this user may write to, or run it as root: sudo firedrill attack io ..."
	case errors.Is(err, unix.EROFS):
		e.Kind, e.Hint = drill.Unsupported, "the volume is mounted for reading only; choose another: --dir"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Kind, e.Hint = drill.Unsupported, "there is too little room; ask for fewer blocks: --block-count"
	}
	return e
}
