package sshconfig

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// tokens are those of the keywords that take them all.
func (s *Settings) tokens(host string) map[byte]string {
	local, err := os.Hostname()
	if err != nil {
		local = "localhost"
	}
	short, _, _ := strings.Cut(local, ".")
	port, login, alias := s.Get("port"), s.Get("user"), s.Get("hostkeyalias")
	if port == "" {
		port = "22"
	}
	if login == "" {
		login = s.query.LocalUser
	}
	if alias == "" {
		alias = s.typed
	}
	jump := s.Get("proxyjump")
	hash := sha1.Sum([]byte(local + host + port + login + jump)) // ssh(1) names its control sockets so
	return map[byte]string{
		'C': hex.EncodeToString(hash[:]), 'L': short, 'd': s.query.Home, 'h': host, 'i': strconv.Itoa(os.Getuid()), 'j': jump, 'k': alias,
		'l': local, 'n': s.typed, 'p': port, 'r': login, 'u': s.query.LocalUser,
	}
}

// ProxyTokens expands the tokens of ProxyCommand and ProxyJump. host is the name or address that is going to be dialled. A name that a shell
// would read as more than a word is an error: names come from elsewhere than the command that they end up in.
func (s *Settings) ProxyTokens(value, host string) (string, error) {
	tokens := map[byte]string{'h': host, 'n': s.typed, 'p': s.Port, 'r': s.User}
	if err := harmless(value, tokens); err != nil {
		return "", err
	}
	return percent(value, tokens)
}

// harmless refuses names in a command line that are more than names.
func harmless(value string, tokens map[byte]string) error {
	for _, token := range []byte{'h', 'k', 'n', 'r'} {
		text := tokens[token]
		if !strings.Contains(value, "%"+string(token)) || text == "" {
			continue
		}
		control := strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f })
		if control || text[0] == '-' || strings.ContainsAny(text, "'`\"$\\;&<>|(){}") {
			return fmt.Errorf("%q is no name to put into a command", text)
		}
	}
	return nil
}

// Path expands what the names of files may hold: ~, tokens and ${VARIABLES}. host is the name or address that is going to be dialled.
func (s *Settings) Path(name, host string) (string, error) {
	expanded, err := s.query.home(name)
	if err == nil {
		expanded, err = s.query.variables(expanded)
	}
	if err == nil {
		expanded, err = percent(expanded, s.tokens(host))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return expanded, nil
}

// percent replaces %x by tokens, and %% by a percent sign.
func percent(value string, tokens map[byte]string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '%' {
			out.WriteByte(value[i])
			continue
		}
		if i++; i == len(value) {
			return "", errors.New("a % at the end stands for nothing; write %%")
		}
		token, ok := tokens[value[i]]
		switch {
		case value[i] == '%':
			out.WriteByte('%')
		case ok:
			out.WriteString(token)
		default:
			return "", fmt.Errorf("the token %%%c is not known here", value[i])
		}
	}
	return out.String(), nil
}

// variables replaces ${NAME}; one that is not set is an error.
func (q *Query) variables(value string) (string, error) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(value, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed || name == "" {
			return "", errors.New("${ without a name and }")
		}
		held, ok := q.Env(name)
		if !ok {
			return "", fmt.Errorf("the variable %s is not set", name)
		}
		out.WriteString(held)
		value = rest
	}
}

// home expands ~/ and ~user/.
func (q *Query) home(name string) (string, error) {
	rest, tilde := strings.CutPrefix(name, "~")
	if !tilde {
		return name, nil
	}
	who, below, _ := strings.Cut(rest, "/")
	if who == "" {
		return filepath.Join(q.Home, below), nil
	}
	other, err := user.Lookup(who)
	if err != nil {
		return "", err
	}
	return filepath.Join(other.HomeDir, below), nil
}
