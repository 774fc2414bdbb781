package onefile

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Rule sends command lines to one of the programs: those on which the argument at Index is Word. Index 0 is the name of the program as it
// was called. The first rule that fits decides.
type Rule struct {
	Index int
	Word  string
	To    Part
}

// Part is one of the programs of a joined file.
type Part byte

// The parts, in the order of their addresses.
const (
	Whole  Part = iota // everything
	Attack             // what carries out an attack on this host, and no more
	Host               // what a host needs, and all that is pushed there
)

// entryCode returns the instructions at the entry of the file. The kernel starts them with the number of arguments on top of the stack and
// pointers to them above; they change neither, so the program that they jump to starts as if it were alone.
func entryCode(attack, host, whole uint64, rules []Rule) ([]byte, error) {
	const (
		jumpIfZero    = 0x74
		jumpIfNotZero = 0x75
		jumpIfEqual   = 0x74
		jumpIfUnequal = 0x75
		jumpIfGreater = 0x7f
		jump          = 0xeb
	)
	c := &code{labels: map[string]int{}}
	c.put(0x4c, 0x8b, 0x04, 0x24) // mov r8, [rsp]: the number of arguments
	c.put(0x48, 0x8d, 0x35)       // lea rsi, [rip + rules]
	table := len(c.bytes)
	c.put(0, 0, 0, 0)
	c.label("next rule")
	c.put(0x0f, 0xb6, 0x0e) // movzx ecx, byte [rsi]: index + 1, or 0 at the end
	c.put(0x85, 0xc9)       // test ecx, ecx
	c.to(jumpIfZero, "whole")
	c.put(0x44, 0x0f, 0xb6, 0x4e, 0x01) // movzx r9d, byte [rsi+1]: to which part
	c.put(0x48, 0x83, 0xc6, 0x02)       // add rsi, 2
	c.put(0x4c, 0x39, 0xc1)             // cmp rcx, r8
	c.to(jumpIfGreater, "skip")         // there is no such argument
	c.put(0x48, 0x8b, 0x3c, 0xcc)       // mov rdi, [rsp+rcx*8]
	c.label("compare")
	c.put(0x8a, 0x06) // mov al, [rsi]
	c.put(0x3a, 0x07) // cmp al, [rdi]
	c.to(jumpIfUnequal, "skip")
	c.put(0x48, 0xff, 0xc6, 0x48, 0xff, 0xc7) // inc rsi; inc rdi
	c.put(0x84, 0xc0)                         // test al, al
	c.to(jumpIfNotZero, "compare")
	c.put(0x41, 0x83, 0xf9, byte(Host)) // cmp r9d, Host
	c.to(jumpIfEqual, "host")
	c.put(0x41, 0x83, 0xf9, byte(Attack)) // cmp r9d, Attack
	c.to(jumpIfEqual, "attack")
	c.label("whole")
	c.far(whole)
	c.label("attack")
	c.far(attack)
	c.label("host")
	c.far(host)
	c.label("skip") // the rest of the word
	c.put(0x8a, 0x06, 0x48, 0xff, 0xc6)
	c.put(0x84, 0xc0)
	c.to(jumpIfNotZero, "skip")
	c.to(jump, "next rule")
	if err := c.link(); err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint32(c.bytes[table:], uint32(len(c.bytes)-(table+4)))
	for _, rule := range rules {
		if rule.Index < 0 || rule.Index > 100 || rule.Word == "" || strings.ContainsRune(rule.Word, 0) || rule.To > Host {
			return nil, fmt.Errorf("rule %+v: an index of 0 to 100, a word without NUL, and a part that there is", rule)
		}
		c.put(byte(rule.Index+1), byte(rule.To))
		c.put(append([]byte(rule.Word), 0)...)
	}
	c.put(0)
	return c.bytes, nil
}

// code is a very small assembler: short jumps to labels that may stand later.
type code struct {
	bytes  []byte
	labels map[string]int
	open   []reference
}

type reference struct {
	at    int // of the byte that holds the distance
	label string
}

func (c *code) put(b ...byte) { c.bytes = append(c.bytes, b...) }

func (c *code) label(name string) { c.labels[name] = len(c.bytes) }

func (c *code) to(instruction byte, label string) {
	c.put(instruction, 0)
	c.open = append(c.open, reference{at: len(c.bytes) - 1, label: label})
}

// far jumps to an address by way of r11, which means nothing at the start of a program.
func (c *code) far(address uint64) {
	c.put(0x49, 0xbb)
	c.bytes = binary.LittleEndian.AppendUint64(c.bytes, address)
	c.put(0x41, 0xff, 0xe3)
}

func (c *code) link() error {
	for _, reference := range c.open {
		distance := c.labels[reference.label] - (reference.at + 1)
		if distance < -128 || distance > 127 {
			return fmt.Errorf("the jump to %q is too far", reference.label)
		}
		c.bytes[reference.at] = byte(distance)
	}
	return nil
}
