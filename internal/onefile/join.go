package onefile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"
)

const (
	page = 0x1000
	// gap lies between the highest address of any part and the code at the entry, so that no program's end touches it.
	gap = 0x10000

	headerSize  = 64 // of a 64-bit ELF file
	programSize = 56
)

// Fields of the ELF header, as offsets.
const (
	atEntry        = 24
	atPrograms     = 32
	atSections     = 40
	atProgramCount = 56
	atSectionCount = 60
	atNameSection  = 62
)

// magic ends a joined file. Before it stand where the host part begins, and its length.
const magic = "firedrill/parts2"

const trailerSize = 8 + 8 + len(magic)

// Join returns an executable that holds three static programs for Linux on x86-64; rules say which is started, and the whole one is when
// none fits. Their addresses must be in the order attack, host, whole, and must not overlap: link with -T.
//
// The programs are kept byte for byte, but for the ELF header of the first; HostPart gives the second back.
func Join(attack, host, whole []byte, rules []Rule) ([]byte, error) {
	var segments []elf.Prog64
	var out []byte
	var entries, offsets []uint64
	var end uint64 // of the addresses so far
	for _, part := range []struct {
		name string
		file []byte
	}{{"the attack part", attack}, {"the host part", host}, {"the whole program", whole}} {
		p, err := parse(part.name, part.file)
		if err != nil {
			return nil, err
		}
		if p.low < end {
			return nil, fmt.Errorf("%s begins at %#x, and what comes before it ends at %#x: they overlap; link it with -ldflags=-T=ADDRESS", part.name, p.low, end)
		}
		end = p.high
		segments = append(segments, p.shifted(uint64(len(out)))...)
		entries, offsets = append(entries, p.entry), append(offsets, uint64(len(out)))
		out = padded(append(out, part.file...), page)
	}
	at := roundUp(end, page) + gap
	code, err := entryCode(entries[0], entries[1], entries[2], rules)
	if err != nil {
		return nil, err
	}
	segments = append(segments,
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: uint64(len(out)), Vaddr: at, Paddr: at,
			Filesz: uint64(len(code)), Memsz: uint64(len(code)), Align: page},
		elf.Prog64{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W), Align: 8}) // no executable stack
	out = padded(append(out, code...), 8)

	header := out[:headerSize]
	binary.LittleEndian.PutUint64(header[atEntry:], at)
	binary.LittleEndian.PutUint64(header[atPrograms:], uint64(len(out)))
	binary.LittleEndian.PutUint64(header[atSections:], 0) // what tools for debugging read: it describes one program only
	binary.LittleEndian.PutUint16(header[atProgramCount:], uint16(len(segments)))
	binary.LittleEndian.PutUint16(header[atSectionCount:], 0)
	binary.LittleEndian.PutUint16(header[atNameSection:], 0)
	for _, segment := range segments {
		if out, err = binary.Append(out, binary.LittleEndian, segment); err != nil {
			return nil, err
		}
	}
	out = binary.LittleEndian.AppendUint64(out, offsets[1])
	out = binary.LittleEndian.AppendUint64(out, uint64(len(host)))
	return append(out, magic...), nil
}

// program is what Join must know of a part.
type program struct {
	segments  []elf.Prog64
	entry     uint64
	low, high uint64 // addresses
}

func parse(what string, file []byte) (program, error) {
	parsed, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return program{}, fmt.Errorf("%s: %w", what, err)
	}
	if parsed.Class != elf.ELFCLASS64 || parsed.Machine != elf.EM_X86_64 || parsed.Type != elf.ET_EXEC {
		return program{}, fmt.Errorf("%s: %v, %v, %v: only static 64-bit programs at fixed addresses for x86-64 can be joined", what, parsed.Class, parsed.Machine, parsed.Type)
	}
	p := program{entry: parsed.Entry, low: math.MaxUint64}
	for _, segment := range parsed.Progs {
		switch segment.Type {
		case elf.PT_INTERP, elf.PT_DYNAMIC, elf.PT_TLS:
			return program{}, fmt.Errorf("%s: has a %v: build with CGO_ENABLED=0", what, segment.Type)
		case elf.PT_LOAD:
			p.segments = append(p.segments, elf.Prog64{Type: uint32(segment.Type), Flags: uint32(segment.Flags), Off: segment.Off,
				Vaddr: segment.Vaddr, Paddr: segment.Paddr, Filesz: segment.Filesz, Memsz: segment.Memsz, Align: segment.Align})
			p.low, p.high = min(p.low, segment.Vaddr), max(p.high, segment.Vaddr+segment.Memsz)
		}
	}
	if len(p.segments) == 0 {
		return program{}, fmt.Errorf("%s: nothing in it is loaded", what)
	}
	return p, nil
}

func (p program) shifted(by uint64) []elf.Prog64 {
	var moved []elf.Prog64
	for _, segment := range p.segments {
		segment.Off += by
		moved = append(moved, segment)
	}
	return moved
}

func roundUp(n, to uint64) uint64 { return (n + to - 1) / to * to }

func padded(file []byte, to int) []byte {
	return append(bytes.Clone(file), make([]byte, int(roundUp(uint64(len(file)), uint64(to)))-len(file))...)
}
