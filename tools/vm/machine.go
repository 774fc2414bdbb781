package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"firedrill/tools/vm/guest"
)

const (
	memory    = "3072" // megabytes; the root, the modules and the tests lie in it
	diskSize  = 64 << 20
	lookEvery = 250 * time.Millisecond
	tailLines = 40
	panicked  = "Kernel panic - not syncing"
	// The last words of a kernel.
	restarting = "reboot: Restarting system"
	powerDown  = "reboot: Power down"
)

// machine is a computer that QEMU emulates: it can be switched on again when it went off, and keeps its disk.
type machine struct {
	directory string // for its disk and its ports
	kernel    string
	initramfs string
	powers    int           // how often it is switched on at most
	limit     time.Duration // for all of it
	accel     string
}

// life is what a machine said from the first switching on to the end.
type life struct {
	results guest.Results
	console string
	took    time.Duration
}

// tail is the end of the console, for people.
func (l life) tail() string {
	lines := strings.Split(strings.TrimSpace(l.console), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// live switches the machine on, and on again while it goes off before its end. What went wrong is among the failed results.
func (m machine) live(ctx context.Context) (life, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	if err := m.makeDisk(); err != nil {
		return life{}, err
	}
	var l life
	went := "new"
	for power := 1; power <= m.powers && !l.results.Ended; power++ {
		boots, before := len(l.results.Boots), len(l.console)
		why, err := m.power(ctx, power, went, &l)
		if err != nil {
			return l, err
		}
		if why != "" {
			l.results.Failed = append(l.results.Failed, why)
			break
		}
		if len(l.results.Boots) == boots {
			break // it went off without having come up: again would not help
		}
		went = lastWord(l.console[before:])
	}
	l.results.Close()
	l.took = time.Since(began)
	return l, nil
}

// lastWord says how a kernel went: the next one is told, so that a test knows whether the host did as it was ordered. A processor that gave
// up says nothing.
func lastWord(console string) string {
	switch {
	case strings.Contains(console, restarting):
		return guest.WentRestart
	case strings.Contains(console, powerDown):
		return guest.WentOff
	}
	return "unknown"
}

func (m machine) path(name string) string { return filepath.Join(m.directory, name) }

func (m machine) makeDisk() error {
	file, err := os.Create(m.path("disk"))
	if err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(diskSize), file.Close()); err != nil {
		return err
	}
	_, err = output("", "env", sbinPath(), "mkfs.ext4", "-q", "-F", m.path("disk"))
	return err
}

// power switches the machine on and waits until it is off. why says why it had to be ended.
func (m machine) power(ctx context.Context, number int, went string, l *life) (why string, err error) {
	console, port := m.path(fmt.Sprintf("console-%d", number)), m.path(fmt.Sprintf("results-%d", number))
	qemu := exec.Command("qemu-system-x86_64", m.options(console, port, went)...)
	var complaint strings.Builder
	qemu.Stderr = &complaint
	if err := qemu.Start(); err != nil {
		return "", err
	}
	off := make(chan error, 1)
	go func() { off <- qemu.Wait() }()
	why, err = m.watch(ctx, console, off)
	if why != "" {
		_ = qemu.Process.Kill()
		err = nil
		<-off
	}
	if err != nil {
		return "", fmt.Errorf("qemu: %w: %s", err, complaint.String())
	}
	text, err := os.ReadFile(console)
	if err != nil {
		return why, err
	}
	l.console += string(text)
	said, err := os.Open(port)
	if err != nil {
		return why, err
	}
	defer said.Close()
	return why, l.results.Read(said)
}

func (m machine) options(console, port, went string) []string {
	// A panic must stand still, so that it is seen, and an oops must become one.
	line := "console=ttyS0 quiet panic=0 panic_on_oops=1 oops=panic systemd.getty_auto=0 systemd.show_status=0 " + guest.OptionVM + " " + guest.OptionWent + went
	return []string{
		"-M", "q35", "-accel", m.accel, "-cpu", "max", "-smp", "2", "-m", memory, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-serial", "file:" + console, "-serial", "file:" + port, "-rtc", "base=utc",
		"-drive", "if=virtio,format=raw,file=" + m.path("disk"), "-kernel", m.kernel, "-initrd", m.initramfs, "-append", line,
	}
}

// watch waits until the machine is off, panics, or the time is over.
func (m machine) watch(ctx context.Context, console string, off <-chan error) (why string, err error) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case err := <-off:
			return "", err
		case <-ctx.Done():
			return fmt.Sprintf("the machine hung: it was not off after %s", m.limit), nil
		case <-look.C:
		}
		if text, err := os.ReadFile(console); err == nil && strings.Contains(string(text), panicked) {
			return "the kernel panicked", nil
		}
	}
}
