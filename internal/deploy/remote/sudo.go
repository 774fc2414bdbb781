package remote

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
)

const (
	// sudoTimeout bounds what passes between us and sudo: a question that is not ours to answer would wait for ever.
	sudoTimeout = 30 * time.Second
	// sudoEnds is how long sudo may take to end after its command.
	sudoEnds = 3 * time.Second
)

// sudo leads one command past sudo. The password goes over the standard input, and only when sudo asks for it with our own prompt: where no
// password is needed, the command would get it.
type sudo struct {
	nonce    string
	password string
	through  chan struct{} // closed when the command runs, or never will
	admitted bool          // set before through is closed
	ended    chan struct{} // closed when the command told how it ended, which it does on a terminal only
	code     int           // its exit code, set before ended is closed

	mu    sync.Mutex // guards the fields below
	asked int
	said  []string // what sudo says, for the error
}

// becoming settles how a command becomes root: mode is "" for not at all, n without a password, S with one.
func (c *Client) becoming(spec spec, nonce string) (s *sudo, mode string, err error) {
	switch spec.become {
	case "":
		return nil, "", nil
	case "sudo":
	default:
		return nil, "", &drill.Error{Op: spec.op, Host: c.host, Kind: drill.Invalid, Err: fmt.Errorf("become %q is not sudo", spec.become)}
	}
	s = &sudo{nonce: nonce, through: make(chan struct{}), ended: make(chan struct{})}
	password, ok, err := c.sudoPassword.value()
	if err != nil {
		return nil, "", err
	}
	if !ok {
		return s, "n", nil
	}
	s.password = password
	return s, "S", nil
}

// watch reads what comes before the command, up to the line that says that it runs. The standard output decides about that.
func (s *sudo) watch(p *Process, reader *bufio.Reader, decides bool) {
	if decides {
		stop := time.AfterFunc(sudoTimeout, func() { _ = p.session.channel.Close() })
		defer stop.Stop()
		defer close(s.through)
	}
	err := scanLines(reader, func(line string) bool {
		switch line {
		case s.nonce + " ready":
			return true
		case s.nonce + " password":
			s.answer(p)
		default:
			s.note(line)
		}
		return false
	})
	if decides {
		s.admitted = err == nil
	}
}

// answer gives the password once. A second question means that it was wrong.
func (s *sudo) answer(p *Process) {
	s.mu.Lock()
	s.asked++
	again := s.asked > 1
	s.mu.Unlock()
	if again {
		_ = p.session.channel.CloseWrite()
		if p.spec.pty {
			_ = p.session.channel.Close()
		}
		return
	}
	_, _ = io.WriteString(p.session.channel, s.password+"\n") // a failure shows as the end of the output
}

// tell takes down how the command ended.
func (s *sudo) tell(code int) {
	s.code = code
	close(s.ended)
}

// over is closed when the command has told how it ended, though sudo may be there still.
func (s *sudo) over() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.ended
}

// end waits for sudo, whose command is over. A sudo with a terminal of its own (use_pty) may stay for ever when its command ends just as
// it passes input on: Debian's 1.9.13p3 did in 13 of 800 runs of "exit 0". Only the end of our terminal ends it then.
func (s *sudo) end(p *Process) status {
	select {
	case ended := <-p.session.ended:
		if ended.err == nil {
			return ended
		}
	case <-time.After(sudoEnds):
	}
	return status{code: s.code}
}

func (s *sudo) note(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if line != "" && len(s.said) < 20 {
		s.said = append(s.said, line)
	}
}

// errTerminal says that sudo wants a terminal.
var errTerminal = errors.New("sudo insists on a terminal")

// refused says why the command never ran.
func (s *sudo) refused(p *Process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := &drill.Error{Op: p.spec.op, Host: p.client.host, Kind: drill.Refused}
	var ours []string
	for _, line := range s.said {
		if strings.HasPrefix(line, "sudo:") || strings.Contains(line, "sudo") {
			ours = append(ours, line)
		}
	}
	said := strings.Join(ours, "; ")
	user := p.client.user
	allow := fmt.Sprintf("Allow it without a password, in /etc/sudoers.d/firedrill: %s ALL=(root) NOPASSWD: ALL", user)
	give := fmt.Sprintf("put the password of %s into a file for you alone and name it in %s_FILE", user, SudoVariable)
	switch {
	case s.asked > 1:
		refused.Err = errors.New("sudo does not accept the password that is given")
		refused.Hint = fmt.Sprintf("Mend what %s or %s_FILE gives: it must be the password of %s on that host.", SudoVariable, SudoVariable, user)
	case strings.Contains(said, "have a tty"):
		refused.Err = fmt.Errorf("%w: %s", errTerminal, said)
		refused.Hint = fmt.Sprintf("Ask for a terminal (restart_pty), or lift it in /etc/sudoers.d/firedrill: Defaults:%s !requiretty", user)
	case strings.Contains(said, "password is required"):
		refused.Err = errors.New("sudo asks for a password")
		refused.Hint = allow + " ; or " + give + "."
	case said == "":
		refused.Err = errors.New("sudo did not start the command, and does not say why")
		refused.Hint = "Try on the host: sudo true"
	default:
		refused.Err = errors.New(said)
		refused.Hint = allow
	}
	return refused
}
