package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// The exit codes of systemctl that scripts know.
const (
	systemctlInactive  = 3
	systemctlNoUnit    = 4
	systemctlNotLoaded = 5
)

// systemctlMain is `systemctl` on a lab host: enough of it for deployments, which restart services, and for drills, which reboot.
func systemctlMain(args []string, out, errOut io.Writer) int {
	verb, units, quiet := systemctlArguments(args)
	switch verb {
	case "daemon-reload", "reset-failed", "enable", "disable":
		return 0 // nothing to do: the topology file says what a host runs
	case "reboot", "poweroff", "halt":
		op := opPowerOff
		if verb == "reboot" {
			op = opReboot
		}
		if _, err := askInit(message{Op: op}); err != nil {
			fmt.Fprintln(errOut, err)
			return 1
		}
		return 0
	case "start", "stop", "restart", "reload-or-restart", "try-restart", "status", "is-active":
	default:
		fmt.Fprintf(errOut, "systemctl: a lab host knows start, stop, restart, status, is-active, reboot and poweroff, not %q\n", verb)
		return 1
	}
	if len(units) == 0 {
		fmt.Fprintf(errOut, "systemctl: %s needs a service\n", verb)
		return 1
	}
	code := 0
	for _, unit := range units {
		var this int
		switch verb {
		case "status", "is-active":
			this = systemctlShow(verb, unit, quiet, out, errOut)
		default:
			this = systemctlOrder(verb, unit, errOut)
		}
		code = max(code, this)
	}
	return code
}

func systemctlArguments(args []string) (verb string, units []string, quiet bool) {
	for _, a := range args {
		switch {
		case a == "-q" || a == "--quiet":
			quiet = true
		case strings.HasPrefix(a, "-"): // --no-wall, --now, --force and the like change nothing here
		case verb == "":
			verb = a
		default:
			units = append(units, a)
		}
	}
	return verb, units, quiet
}

func systemctlOrder(verb, unit string, errOut io.Writer) int {
	op := opRestart
	switch verb {
	case "start":
		op = opStart
	case "stop":
		op = opStop
	}
	if _, err := askInit(message{Op: op, Unit: unit}); err != nil {
		if strings.Contains(err.Error(), "no service") {
			fmt.Fprintf(errOut, "Failed to %s %s: Unit %s.service not found.\n", verb, unit, strings.TrimSuffix(unit, ".service"))
			return systemctlNotLoaded
		}
		fmt.Fprintf(errOut, "Failed to %s %s: %v\n", verb, unit, err)
		return 1
	}
	return 0
}

func systemctlShow(verb, unit string, quiet bool, out, errOut io.Writer) int {
	answer, err := askInit(message{Op: opStatus})
	if err != nil {
		fmt.Fprintln(errOut, err)
		return 1
	}
	for _, s := range answer.Services {
		if s.Name != strings.TrimSuffix(unit, ".service") {
			continue
		}
		if !quiet && verb == "is-active" {
			fmt.Fprintln(out, s.State)
		}
		if verb == "status" {
			fmt.Fprintf(out, "%s.service\n     Active: %s since %s\n", s.Name, s.State, s.Since.Format("2006-01-02 15:04:05"))
			if s.PID != 0 {
				fmt.Fprintf(out, "   Main PID: %d\n", s.PID)
			}
			fmt.Fprintf(out, "   Restarts: %d\n       Log: /var/log/%s.log\n", s.Restarts, s.Name)
		}
		if s.State == stateActive {
			return 0
		}
		return systemctlInactive
	}
	if verb == "is-active" {
		if !quiet {
			fmt.Fprintln(out, stateInactive)
		}
		return systemctlNoUnit
	}
	fmt.Fprintf(errOut, "Unit %s.service could not be found.\n", strings.TrimSuffix(unit, ".service"))
	return systemctlNoUnit
}

// askInit asks the init of the host that this process runs on.
func askInit(m message) (message, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: controlSocket, Net: "unixpacket"})
	if err != nil {
		return message{}, fmt.Errorf("reach init: %w", err)
	}
	w := &wire{conn: c}
	defer w.close()
	answer, files, err := w.ask(m)
	closeAll(files)
	return answer, err
}

// sudoMain is `sudo` on a lab host: it runs the command as it is, since who is root already needs no more.
func sudoMain(args []string, errOut io.Writer) int {
	name, env, command, err := sudoArguments(args)
	if err == nil && os.Geteuid() != 0 {
		err = errors.New("only root may use it on a lab host")
	}
	var path string
	all := append(os.Environ(), env...)
	if err == nil {
		path, err = lookPath(command[0], all, ".")
	}
	if err == nil && name != "" && name != "root" {
		var u *user
		if u, err = findUser(name); err == nil {
			all = append(all, environment(u, variable(all, markVariable))...)
			err = become(u)
		}
	}
	if err == nil {
		err = syscall.Exec(path, command, all)
	}
	fmt.Fprintf(errOut, "sudo: %v\n", err)
	return 1
}

// become gives up root for u.
func become(u *user) error {
	groups := make([]int, 0, len(u.groups))
	for _, g := range u.groups {
		groups = append(groups, int(g))
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("become %s: %w", u.name, err)
	}
	if err := syscall.Setgid(int(u.gid)); err != nil {
		return fmt.Errorf("become %s: %w", u.name, err)
	}
	if err := syscall.Setuid(int(u.uid)); err != nil {
		return fmt.Errorf("become %s: %w", u.name, err)
	}
	return nil
}

func sudoArguments(args []string) (user string, env, command []string, err error) {
	for len(args) > 0 {
		a := args[0]
		switch {
		case a == "--":
			args = args[1:]
			if len(args) == 0 {
				return "", nil, nil, errors.New("no command")
			}
			return user, env, args, nil
		case a == "-u" || a == "--user":
			if len(args) < 2 {
				return "", nil, nil, errors.New("-u needs a user")
			}
			user, args = args[1], args[2:]
			continue
		case strings.HasPrefix(a, "--user="):
			user = strings.TrimPrefix(a, "--user=")
		case strings.HasPrefix(a, "-u"):
			user = strings.TrimPrefix(a, "-u")
		case strings.HasPrefix(a, "-"): // -n, -E, -H, -i and the like change nothing here
		case strings.Contains(a, "=") && !strings.Contains(strings.SplitN(a, "=", 2)[0], "/"):
			env = append(env, a)
		default:
			return user, env, args, nil
		}
		args = args[1:]
	}
	return "", nil, nil, errors.New("no command")
}
