package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// fetchMax bounds what the files of one drill come to, in bytes: the server says how large they are, and is not believed about everything.
const fetchMax = 8 << 30

// FetchDrill fetches a drill that is over, by its name or the last characters of one, with all files that it has left on the server, into a directory
// that is there and holds none of them. The name of its result may be that of a directory. They are what the server hands out, and prove nothing before they are verified. told, which may be nil, hears
// how many bytes have come of how many. When it returns an error the directory may hold a part of them.
func (c *Client) FetchDrill(ctx context.Context, id, directory string, told func(come, of int64)) (fleet.DrillRun, error) {
	var run fleet.DrillRun
	if err := c.Call(ctx, "drillrun", id, &run); err != nil {
		return run, err
	}
	wrong := func(err error) error {
		return &drill.Error{Op: "fetch drill " + run.ID, Kind: drill.Unproven, Err: err, Hint: "ask again; if it stays so, look at the files on the server itself: " + run.Server}
	}
	if err := fleet.CheckDrillFile(run.Result); err != nil {
		return run, wrong(err)
	}
	var files []fleet.DrillFile
	if err := c.Call(ctx, "drillfiles", run.ID, &files); err != nil {
		return run, err
	}
	all, named := int64(0), map[string]bool{}
	for _, file := range files {
		if err := fleet.CheckDrillFile(file.Name); err != nil {
			return run, wrong(err)
		}
		if named[file.Name] || file.Size < 0 || file.Size > fetchMax-all || len(files) > fleet.DrillFilesMax {
			return run, wrong(fmt.Errorf("%d files, of which %s has %d bytes, are not what a drill leaves", len(files), file.Name, file.Size))
		}
		named[file.Name] = true
		all += file.Size
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return run, err
	}
	defer root.Close()
	come := int64(0)
	for _, file := range files {
		if err := c.fetchFile(ctx, run.ID, file, root, func(more int64) {
			if come += more; told != nil {
				told(come, all)
			}
		}); err != nil {
			return run, err
		}
	}
	return run, nil
}

func (c *Client) fetchFile(ctx context.Context, id string, file fleet.DrillFile, root *os.Root, came func(int64)) (err error) {
	to, err := root.OpenFile(file.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return &drill.Error{Op: "fetch drill " + id, Kind: drill.Invalid, Err: err, Hint: "name another directory"}
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	for next := int64(0); next < file.Size; {
		var part fleet.FilePart
		if err := c.Call(ctx, "drillfile", fleet.FileRequest{ID: id, Name: file.Name, From: next}, &part); err != nil {
			return err
		}
		if part.Size != file.Size || len(part.Data) == 0 || part.Next != next+int64(len(part.Data)) || part.Next > file.Size {
			return &drill.Error{Op: "fetch drill " + id, Kind: drill.Unproven, Hint: "ask again; somebody may just be writing it there",
				Err: fmt.Errorf("%s changes while it is fetched: %d bytes from %d on, of %d that were %d", file.Name, len(part.Data), next, part.Size, file.Size)}
		}
		if _, err := to.Write(part.Data); err != nil {
			return &drill.Error{Op: "write " + filepath.Join(root.Name(), file.Name), Kind: drill.Invalid, Err: err, Hint: "make room, or name another directory"}
		}
		next = part.Next
		came(int64(len(part.Data)))
	}
	return nil
}
