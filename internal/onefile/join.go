package onefile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

const (
	page = 0x1000
	// gap lies between the highest address of either program and the code at the entry, so that no program's end touches it.
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

// magic ends a joined file. Before it stand the length of the host part and its own ELF header: the only bytes of it that Join changes.
const magic = "firedrill/parts1"

const trailerSize = headerSize + 8 + len(magic)

// Join returns an executable that holds two static programs for Linux on x86-64: host is started when a rule says so, whole otherwise. Their
// addresses must not overlap: link one of them with -T.
//
// The programs are kept byte for byte, but for the ELF header of the first; Host gives it back.
func Join(host, whole []byte, rules []Rule) ([]byte, error) {
	first, err := parse("the host part", host)
	if err != nil {
		return nil, err
	}
	second, err := parse("the whole program", whole)
	if err != nil {
		return nil, err
	}
	if first.low < second.high && second.low < first.high {
		return nil, fmt.Errorf("the programs overlap: %#x-%#x and %#x-%#x; link one with -ldflags=-T=ADDRESS", first.low, first.high, second.low, second.high)
	}
	if first.low > second.low {
		return nil, errors.New("the host part must have the lower addresses: the kernel wants segments in order")
	}
	out := padded(host, page)
	shift := uint64(len(out))
	out = padded(append(out, whole...), page)
	at := roundUp(second.high, page) + gap
	code, err := entryCode(first.entry, second.entry, rules)
	if err != nil {
		return nil, err
	}
	segments := append(first.segments, second.shifted(shift)...)
	segments = append(segments,
		elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: uint64(len(out)), Vaddr: at, Paddr: at,
			Filesz: uint64(len(code)), Memsz: uint64(len(code)), Align: page},
		elf.Prog64{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W), Align: 8}) // no executable stack
	out = padded(append(out, code...), 8)

	header := out[:headerSize]
	original := bytes.Clone(header)
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
	out = append(out, original...)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(host)))
	return append(out, magic...), nil
}

// program is what Join must know of one of the two.
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
