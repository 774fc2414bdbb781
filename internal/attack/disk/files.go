package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// hole is a file that takes room away.
type hole struct {
	file *os.File
	size int64
}

// allocate makes the file larger without writing.
func (h *hole) allocate(bytes int64) error {
	err := unix.Fallocate(int(h.file.Fd()), 0, h.size, bytes)
	for errors.Is(err, unix.EINTR) {
		err = unix.Fallocate(int(h.file.Fd()), 0, h.size, bytes)
	}
	if err == nil {
		h.size += bytes
	}
	return err
}

// write makes the file larger by writing what no file system can store in less room.
func (h *hole) write(bytes int64, block []byte) error {
	for bytes > 0 {
		// Blocks that are all the same could be stored once.
		binary.LittleEndian.PutUint64(block, rand.Uint64())
		n, err := h.file.WriteAt(block[:min(bytes, int64(len(block)))], h.size)
		h.size += int64(n)
		bytes -= int64(n)
		if err != nil {
			return err
		}
	}
	// Until then it is memory that is taken, and the room is only promised.
	return unix.Fdatasync(int(h.file.Fd()))
}

// files are all that a worker holds.
type files []*hole

func (all files) size() int64 {
	var sum int64
	for _, h := range all {
		sum += h.size
	}
	return sum
}

// write lets every file grow at the same time, by its part, in writes of one block.
func (all files) write(bytes int64, block int) error {
	each := (bytes + int64(len(all)) - 1) / int64(len(all))
	errs := make([]error, len(all))
	var writing sync.WaitGroup
	for i, h := range all {
		writing.Go(func() { errs[i] = h.write(each, noise(block)) })
	}
	writing.Wait()
	return errors.Join(errs...)
}

// noise is a block that cannot be compressed.
func noise(size int) []byte {
	block := make([]byte, max(size, 8))
	for at := 0; at+8 <= len(block); at += 8 {
		binary.LittleEndian.PutUint64(block[at:], rand.Uint64())
	}
	return block
}

// giveBack makes the files smaller by so many bytes in all, the last first.
func (all files) giveBack(bytes int64) error {
	for i := len(all) - 1; i >= 0 && bytes > 0; i-- {
		less := min(bytes, all[i].size)
		if err := all[i].file.Truncate(all[i].size - less); err != nil {
			return err
		}
		all[i].size -= less
		bytes -= less
	}
	return nil
}

func (all files) close() {
	for _, h := range all {
		_ = h.file.Close()
	}
}

// heldBy adds up the room that a process's files without a name take.
func heldBy(pid int) (uint64, error) {
	directory := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(directory)
	if err != nil {
		return 0, err
	}
	var held uint64
	for _, entry := range entries {
		name := filepath.Join(directory, entry.Name())
		target, err := os.Readlink(name)
		if err != nil || !strings.HasSuffix(target, " (deleted)") {
			continue
		}
		var stat unix.Stat_t
		if unix.Stat(name, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFREG {
			held += uint64(stat.Blocks) * 512
		}
	}
	return held, nil
}
