package sigv4

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"firedrill/internal/drill"
)

// ReadKeys reads access keys as ~/.aws/credentials has them: sections with aws_access_key_id and aws_secret_access_key. The file must be
// readable by its owner alone.
func ReadKeys(path string) (map[string]string, error) {
	invalid := func(err error) error {
		return &drill.Error{Op: "read access keys", Kind: drill.Invalid, Err: err, Hint: "Write [default], aws_access_key_id = ... and aws_secret_access_key = ... into it, as the AWS CLI has them."}
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, invalid(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, &drill.Error{
			Op: "read access keys", Kind: drill.Invalid, Err: fmt.Errorf("%s may be read by others (mode %04o)", path, info.Mode().Perm()), Hint: "Run: chmod 600 " + path,
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, invalid(err)
	}
	keys, key := map[string]string{}, ""
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		switch value = strings.TrimSpace(value); strings.TrimSpace(name) {
		case "aws_access_key_id":
			key = value
		case "aws_secret_access_key":
			if key != "" && value != "" {
				keys[key] = value
			}
			key = ""
		}
	}
	if len(keys) == 0 {
		return nil, invalid(fmt.Errorf("%s holds no key", path))
	}
	return keys, nil
}

// Ensure reads the keys of a file, which gets a fresh one when it does not exist.
func Ensure(path string) (map[string]string, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return ReadKeys(path)
	}
	if err != nil {
		return nil, &drill.Error{Op: "write access key", Kind: drill.Invalid, Err: err, Hint: "Name a file that can be written, with --access-key."}
	}
	// Text has 26 characters of base 32: 130 bits.
	_, err = fmt.Fprintf(file, "[default]\naws_access_key_id = AKIA%s\naws_secret_access_key = %s\n", rand.Text()[:16], rand.Text()+rand.Text()[:14])
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return nil, err
	}
	return ReadKeys(path)
}
