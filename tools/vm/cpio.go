package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
)

// The types of files that an initramfs holds, as the upper bits of a mode.
const (
	typeDirectory = 0o040000
	typeRegular   = 0o100000
	typeSymlink   = 0o120000
	typeCharacter = 0o020000
)

// entry is one file of an initramfs.
type entry struct {
	name         string // without a leading slash
	mode         uint32 // type and permissions
	uid, gid     int
	major, minor int64 // of a device
	size         int64
	body         io.Reader // may be nil when size is 0; the target of a symbolic link too
}

// cpio writes an archive in the format "newc", which the kernel unpacks into its first file system. Call Close at its end.
type cpio struct {
	out   *bufio.Writer
	at    int64
	inode int64
}

func newCPIO(out io.Writer) *cpio { return &cpio{out: bufio.NewWriterSize(out, 1<<20)} }

// trailer is the name that ends an archive.
const trailer = "TRAILER!!!"

// add writes one file. Directories must come before what is in them.
func (c *cpio) add(e entry) error {
	if e.name == "" || e.name == trailer || fs.ValidPath(e.name) == false || e.name == "." {
		return fmt.Errorf("initramfs: %q is no name for a file", e.name)
	}
	if e.size < 0 || e.size > 1<<32-1 {
		return fmt.Errorf("initramfs: %s: %d bytes; the format holds less than 4 GiB", e.name, e.size)
	}
	c.inode++
	return c.write(e)
}

func (c *cpio) write(e entry) error {
	links := 1
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		c.inode, e.mode, e.uid, e.gid, links, 0, e.size, 0, 0, e.major, e.minor, len(e.name)+1, 0)
	if err := c.text(header + e.name + "\x00"); err != nil {
		return err
	}
	if err := c.pad(); err != nil {
		return err
	}
	if e.size > 0 {
		copied, err := io.CopyN(c.out, e.body, e.size)
		c.at += copied
		if err != nil {
			return fmt.Errorf("initramfs: %s: %d of %d bytes: %w", e.name, copied, e.size, err)
		}
	}
	return c.pad()
}

func (c *cpio) text(s string) error {
	n, err := c.out.WriteString(s)
	c.at += int64(n)
	return err
}

// pad fills up to the next multiple of four, as the format asks.
func (c *cpio) pad() error {
	return c.text("\x00\x00\x00"[:(4-c.at%4)%4])
}

// Close ends the archive.
func (c *cpio) Close() error {
	c.inode = 0
	if err := c.write(entry{name: trailer}); err != nil {
		return err
	}
	return c.out.Flush()
}
