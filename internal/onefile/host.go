package onefile

import (
	"bytes"
	"encoding/binary"
	"io"
)

// Host returns the host part of a joined file of the given size, as an executable of its own, and its size; joined is false for any other
// file. Reading the result reads from file.
func Host(file io.ReaderAt, size int64) (part *io.SectionReader, joined bool, err error) {
	if size < int64(headerSize+trailerSize) {
		return nil, false, nil
	}
	trailer := make([]byte, trailerSize)
	if _, err := file.ReadAt(trailer, size-int64(trailerSize)); err != nil {
		return nil, false, err
	}
	if !bytes.HasSuffix(trailer, []byte(magic)) {
		return nil, false, nil
	}
	length := int64(binary.LittleEndian.Uint64(trailer[headerSize:]))
	if length < headerSize || length > size-int64(trailerSize) {
		return nil, false, io.ErrUnexpectedEOF
	}
	return io.NewSectionReader(reheaded{file: file, header: trailer[:headerSize]}, 0, length), true, nil
}

// reheaded is a file whose first bytes are others.
type reheaded struct {
	file   io.ReaderAt
	header []byte
}

// ReadAt implements io.ReaderAt.
func (r reheaded) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.file.ReadAt(p, off)
	if off < int64(len(r.header)) {
		copy(p[:n], r.header[off:])
	}
	return n, err
}
