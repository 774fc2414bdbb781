package cpu

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// meter reads how much processor time the kernel says that each thread of the worker has used.
type meter struct {
	asked   float64 // percent of each core
	threads []pinned
	began   time.Time
	read    time.Time // of the last reading that worked
	first   []time.Duration
	last    []time.Duration
}

// Begin implements worker.Meter.
func (m *meter) Begin(pid int, report json.RawMessage) error {
	if err := json.Unmarshal(report, &m.threads); err != nil {
		return err
	}
	used, err := m.used(pid)
	m.first, m.began = used, time.Now()
	return err
}

// Read implements worker.Meter.
func (m *meter) Read(pid int) error {
	used, err := m.used(pid)
	if err == nil {
		m.last, m.read = used, time.Now()
	}
	return err
}

func (m *meter) used(pid int) ([]time.Duration, error) {
	var used []time.Duration
	for _, thread := range m.threads {
		d, err := threadTime(pid, thread.Thread)
		if err != nil {
			return nil, err
		}
		used = append(used, d)
	}
	return used, nil
}

// Evidence implements worker.Meter. It bit when every core was held to half of what was asked at least: on a busy core others have the rest.
func (m *meter) Evidence() (bool, []string) {
	span := m.read.Sub(m.began)
	if len(m.last) != len(m.threads) || len(m.last) == 0 || span <= 0 {
		return false, []string{"the kernel's figures of the worker were never read while it was in force"}
	}
	bit := true
	var figures []string
	for i, thread := range m.threads {
		held := 100 * float64(m.last[i]-m.first[i]) / float64(span)
		bit = bit && held >= m.asked/2
		figures = append(figures, fmt.Sprintf("%.1f %% of core %d", held, thread.Core))
	}
	return bit, []string{fmt.Sprintf("by the kernel's accounts the worker had %s over %.1f s, asked %s %%", strings.Join(figures, ", "), span.Seconds(),
		strconv.FormatFloat(m.asked, 'f', -1, 64))}
}

// threadTime is the processor time of a thread: exact from schedstat, else in ticks of 10 ms from stat.
func threadTime(pid, thread int) (time.Duration, error) {
	dir := fmt.Sprintf("/proc/%d/task/%d/", pid, thread)
	if text, err := os.ReadFile(dir + "schedstat"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) == 3 && fields[0] != "0" {
			ns, err := strconv.ParseInt(fields[0], 10, 64)
			return time.Duration(ns), err
		}
	}
	text, err := os.ReadFile(dir + "stat")
	if err != nil {
		return 0, err
	}
	return statTime(string(text))
}

const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on

// statTime adds up user and system time of a line of /proc/PID/stat.
func statTime(text string) (time.Duration, error) {
	const user, system = 11, 12 // counted after the name, which may hold blanks and brackets
	end := strings.LastIndex(text, ")")
	if end < 0 {
		return 0, errors.New("no name in stat")
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) <= system {
		return 0, errors.New("stat is too short")
	}
	var sum time.Duration
	for _, at := range []int{user, system} {
		ticks, err := strconv.ParseInt(fields[at], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat: %w", err)
		}
		sum += time.Duration(ticks) * tick
	}
	return sum, nil
}
