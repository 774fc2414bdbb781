package onefile

import (
	"bytes"
	"encoding/binary"
	"io"
)

// HostPart returns the host part of a joined file of the given size, as an executable of its own, and its size; joined is false for any
// other file. Reading the result reads from file.
func HostPart(file io.ReaderAt, size int64) (part *io.SectionReader, joined bool, err error) {
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
	at, length := binary.LittleEndian.Uint64(trailer), binary.LittleEndian.Uint64(trailer[8:])
	if end := uint64(size) - uint64(trailerSize); at > end || length > end-at || length < headerSize {
		return nil, false, io.ErrUnexpectedEOF
	}
	return io.NewSectionReader(file, int64(at), int64(length)), true, nil
}
