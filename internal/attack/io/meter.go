package io

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// counters are what the kernel counts of a process's reads and writes, in bytes and calls.
type counters struct {
	readCalls, writeCalls  uint64
	readBytes, writeBytes  uint64 // asked for
	fromStorage, toStorage uint64 // that the disk had to do with
}

// meter reads the counters of the worker.
type meter struct {
	mode        Mode
	direct      bool
	began, read time.Time
	first, last counters
}

// Begin implements worker.Meter.
func (m *meter) Begin(pid int, text json.RawMessage) error {
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	m.direct = r.Direct
	now, err := countersOf(pid)
	m.first, m.began = now, time.Now()
	return err
}

// Read implements worker.Meter.
func (m *meter) Read(pid int) error {
	now, err := countersOf(pid)
	if err == nil {
		m.last, m.read = now, time.Now()
	}
	return err
}

// Evidence implements worker.Meter. It bit when blocks were moved in every direction that was asked for.
func (m *meter) Evidence() (bool, []string) {
	span := m.read.Sub(m.began).Seconds()
	if span <= 0 {
		return false, []string{"the kernel's counters of the worker were never read while it was in force"}
	}
	reads, writes := m.last.readCalls-m.first.readCalls, m.last.writeCalls-m.first.writeCalls
	bit := (m.mode == Write || reads > 0) && (m.mode == Read || writes > 0)
	past := "through the page cache"
	if m.direct {
		past = "past the page cache"
	}
	return bit, []string{
		fmt.Sprintf("by the kernel's accounts the worker made %.0f reads/s and %.0f writes/s %s over %.1f s: %.1f MB read, %.1f MB written", float64(reads)/span,
			float64(writes)/span, past, span, float64(m.last.readBytes-m.first.readBytes)/mega, float64(m.last.writeBytes-m.first.writeBytes)/mega),
		fmt.Sprintf("of that the disk itself did %.1f MB and %.1f MB", float64(m.last.fromStorage-m.first.fromStorage)/mega, float64(m.last.toStorage-m.first.toStorage)/mega)}
}

func countersOf(pid int) (counters, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return counters{}, err
	}
	return parseCounters(string(text))
}

// parseCounters reads the lines of /proc/PID/io.
func parseCounters(text string) (counters, error) {
	var c counters
	fields := map[string]*uint64{"syscr:": &c.readCalls, "syscw:": &c.writeCalls, "rchar:": &c.readBytes, "wchar:": &c.writeBytes,
		"read_bytes:": &c.fromStorage, "write_bytes:": &c.toStorage}
	found := 0
	for line := range strings.Lines(text) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		field, known := fields[name]
		if !known {
			continue
		}
		value, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return counters{}, fmt.Errorf("counters of the kernel: %w", err)
		}
		*field = value
		found++
	}
	if found != len(fields) {
		return counters{}, fmt.Errorf("counters of the kernel: %d of %d are there", found, len(fields))
	}
	return c, nil
}
