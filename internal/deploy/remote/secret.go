package remote

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"firedrill/internal/drill"
)

// Secret says where a password or passphrase is read when it is needed. The zero value has none. It is never an argument of a program, and
// never part of an error.
type Secret struct {
	File     string // its first line; refused when others than its owner may read it
	Variable string // name of an environment variable, when File is ""
}

// SecretFromEnvironment is a secret whose file is named by the variable NAME_FILE, or whose value is that of NAME.
func SecretFromEnvironment(name string) Secret {
	return Secret{File: os.Getenv(name + "_FILE"), Variable: name}
}

// value reads the secret; ok is false when there is none.
func (s Secret) value() (text string, ok bool, err error) {
	if s.File == "" {
		text = os.Getenv(s.Variable)
		return text, s.Variable != "" && text != "", nil
	}
	info, err := os.Stat(s.File)
	if err != nil {
		return "", false, &drill.Error{Op: "read secret", Kind: drill.Invalid, Err: err, Hint: "Put it there, readable for you alone."}
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return "", false, &drill.Error{Op: "read secret", Kind: drill.Invalid, Err: fmt.Errorf("%s: others may read it (mode %04o)", s.File, info.Mode().Perm()),
			Hint: "chmod 600 " + quote(s.File)}
	}
	content, err := os.ReadFile(s.File)
	if err != nil {
		return "", false, &drill.Error{Op: "read secret", Kind: drill.Invalid, Err: err}
	}
	line, _, _ := strings.Cut(string(content), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", false, &drill.Error{Op: "read secret", Kind: drill.Invalid, Err: errors.New(s.File + ": the first line is empty")}
	}
	return line, true, nil
}

// withoutSecrets is an environment for programs of others.
func withoutSecrets(environment []string) []string {
	return slices.DeleteFunc(slices.Clone(environment), func(line string) bool {
		name, _, _ := strings.Cut(line, "=")
		return name == PassphraseVariable || name == SudoVariable
	})
}
