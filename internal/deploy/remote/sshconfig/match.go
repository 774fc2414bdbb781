package sshconfig

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// execTimeout bounds the command of a Match exec: it must answer a question, not do work. ssh(1) would wait for ever.
const execTimeout = 10 * time.Second

// match evaluates the criteria of a Match line. In a block that never counts no command is run.
func (e *evaluation) match(criteria string, never bool) (bool, error) {
	rest, attributes, result := criteria, 0, true
	for rest != "" && rest[0] != '#' {
		var attribute, argument string
		attribute, rest = nextAttribute(rest)
		name, negated := strings.CutPrefix(strings.ToLower(attribute), "!")
		if name == "all" {
			if attributes > 1 || rest != "" && rest[0] != '#' {
				return false, fmt.Errorf("match all stands alone, or after canonical or final: %q", criteria)
			}
			return result && !negated, nil
		}
		attributes++
		if name == "canonical" || name == "final" {
			e.wantFinal = e.wantFinal || name == "final"
			result = result && e.final != negated
			continue
		}
		if argument, rest = nextAttribute(rest); argument == "" || argument[0] == '#' {
			return false, fmt.Errorf("match %s has no argument", name)
		}
		holds, err := e.criterion(name, argument, result && !never)
		if err != nil {
			return false, err
		}
		result = result && holds != negated
	}
	if attributes == 0 {
		return false, fmt.Errorf("match states nothing: %q", criteria)
	}
	return result, nil
}

// criterion evaluates one criterion. Nothing is run when an earlier one has decided already.
func (e *evaluation) criterion(name, argument string, open bool) (bool, error) {
	s := e.settings
	switch name {
	case "host":
		host, err := e.hostNow()
		return matchesHost(host, argument), err
	case "originalhost":
		return matchesHost(e.query.Host, argument), nil
	case "user":
		user := s.Get("user")
		if user == "" {
			user = e.query.LocalUser
		}
		return matchesList(user, argument), nil
	case "localuser":
		return matchesList(e.query.LocalUser, argument), nil
	case "tagged":
		return matchesList(s.Get("tag"), argument), nil
	case "localnetwork":
		return onNetwork(argument)
	case "sessiontype":
		return matchesList("exec", argument), nil // what we run is always a command
	case "exec":
		return e.exec(argument, open)
	default:
		return false, fmt.Errorf("match %s is not understood; understood are all, canonical, exec, final, host, localnetwork, localuser, originalhost, sessiontype, tagged, user", name)
	}
}

// hostNow is the host name as far as the lines read so far have changed it.
func (e *evaluation) hostNow() (string, error) {
	name := e.settings.Get("hostname")
	switch {
	case e.final:
		return name, nil
	case name != "":
		return percent(name, map[byte]string{'h': e.host})
	default:
		return e.host, nil
	}
}

func matchesHost(host, list string) bool {
	return matchesList(strings.ToLower(host), strings.ToLower(list))
}

func (e *evaluation) exec(command string, open bool) (bool, error) {
	host, err := e.hostNow()
	if err != nil {
		return false, err
	}
	tokens := e.settings.tokens(host)
	expanded, err := percent(command, tokens)
	if err == nil {
		err = harmless(command, tokens)
	}
	if err != nil {
		return false, fmt.Errorf("match exec %s: %w", command, err)
	}
	if !open {
		return false, nil
	}
	if held, ok := e.ran[expanded]; ok { // asked in the first pass, or for another hop's sake in another file
		return held, nil
	}
	holds, err := e.query.Exec(e.ctx, expanded)
	if err != nil {
		return false, fmt.Errorf("match exec %s: %w", expanded, err)
	}
	e.ran[expanded] = holds
	return holds, nil
}

// Execute runs the command of a Match exec in the user's shell, for at most 10 s, and reports whether it ended with 0. Its output is shown
// nowhere. environment is what os/exec takes: nil for ours.
func Execute(ctx context.Context, line string, environment []string) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, execTimeout, fmt.Errorf("no answer within %s", execTimeout))
	defer cancel()
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	command := exec.CommandContext(ctx, shell, "-c", line)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	command.Stdout, command.Stderr, command.Env = io.Discard, io.Discard, environment
	err := command.Run()
	if cause := context.Cause(ctx); cause != nil {
		return false, cause
	}
	if command.ProcessState == nil {
		return false, err
	}
	return command.ProcessState.Success(), nil
}

// onNetwork reports whether one of our interfaces has an address in one of the networks.
func onNetwork(list string) (bool, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return false, err
	}
	matches := false
	for entry := range strings.SplitSeq(list, ",") {
		bare, negated := strings.CutPrefix(entry, "!")
		network, err := netip.ParsePrefix(bare)
		if err != nil {
			address, addrErr := netip.ParseAddr(bare)
			if addrErr != nil {
				return false, fmt.Errorf("match localnetwork %s: %w", entry, err)
			}
			network = netip.PrefixFrom(address, address.BitLen())
		}
		for _, own := range addresses {
			prefix, err := netip.ParsePrefix(own.String())
			if err != nil || prefix.Addr().IsLoopback() || !network.Contains(prefix.Addr().Unmap()) {
				continue
			}
			if negated {
				return false, nil
			}
			matches = true
		}
	}
	return matches, nil
}

// nextAttribute splits a word off a Match line: these know only double quotes, and take an equals sign for a blank.
func nextAttribute(content string) (word, rest string) {
	end := strings.IndexAny(content, blank+`"=`)
	if end < 0 {
		return content, ""
	}
	if content[end] == '"' {
		inside, after, closed := strings.Cut(content[end+1:], `"`)
		if !closed {
			return "", ""
		}
		return content[:end] + inside, strings.TrimLeft(after, blank)
	}
	rest = content[end+1:]
	equals := content[end] == '='
	word = content[:end]
	rest = strings.TrimLeft(rest, blank)
	if !equals && strings.HasPrefix(rest, "=") {
		rest = strings.TrimLeft(rest[1:], blank)
	}
	return word, rest
}
