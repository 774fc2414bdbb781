package deploy

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// rememberMax bounds what is kept in memory of a source. Larger files, and those that come after, are read again for each host.
const rememberMax = 128 << 20

// remembered keeps what was read once, by git object: a release is read for its digests and then for every host, and to git each reading
// of many small files costs more than sending them.
type remembered struct {
	from contents

	mu    sync.Mutex // guards texts and room
	texts map[string][]byte
	room  int64
}

func remember(from contents, room int64) *remembered {
	return &remembered{from: from, texts: make(map[string][]byte), room: room}
}

func (r *remembered) each(ctx context.Context, files []file, visit func(f file, reader io.Reader) error) error {
	var rest []file
	for _, f := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		text, ok := r.text(f.blob)
		if !ok {
			rest = append(rest, f)
			continue
		}
		f.size = int64(len(text))
		if err := visit(f, bytes.NewReader(text)); err != nil {
			return err
		}
	}
	return r.from.each(ctx, rest, func(f file, reader io.Reader) error {
		if !r.reserve(f) {
			return visit(f, reader)
		}
		text := make([]byte, f.size)
		if _, err := io.ReadFull(reader, text); err != nil {
			return err
		}
		r.keep(f.blob, text)
		return visit(f, bytes.NewReader(text))
	})
}

func (r *remembered) text(blob string) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, ok := r.texts[blob]
	return text, ok
}

// reserve takes the room for a file. A second host that reads the same one meanwhile finds less of it, which only costs a reading.
func (r *remembered) reserve(f file) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.blob == "" || f.size > r.room {
		return false
	}
	r.room -= f.size
	return true
}

func (r *remembered) keep(blob string, text []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.texts[blob]; known {
		r.room += int64(len(text))
		return
	}
	r.texts[blob] = text
}
