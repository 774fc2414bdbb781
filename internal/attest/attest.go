package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"firedrill/internal/history"
)

// The files that this package is about, beside the log of a run.
const (
	FileName      = "attestation.json"
	SignatureName = FileName + ".minisig"
)

// version is that of the statement's form; another one is refused, because what it promises is not known.
const version = 1

// Statement is what is signed.
type Statement struct {
	Version int             `json:"version"`
	Run     string          `json:"run"`
	Service string          `json:"service"`
	Outcome history.Outcome `json:"outcome"`
	Exit    int             `json:"exit"`   // the exit code that follows from the outcome
	Events  int64           `json:"events"` // lines of the log
	Head    string          `json:"head"`   // hash of the last line of the log, hex: a log cut at its end has another
	Made    time.Time       `json:"made"`
	Tool    string          `json:"tool"` // version of the program that made it
	Files   []File          `json:"files"`
}

// File is one file of the run.
type File struct {
	Name   string `json:"name"` // within the directory of the run, with slashes
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Digest reads a file of the run and says what it holds.
func Digest(run fs.FS, name string) (File, error) {
	file, err := run.Open(name)
	if err != nil {
		return File{}, err
	}
	defer file.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, file)
	if err != nil {
		return File{}, fmt.Errorf("read %s: %w", name, err)
	}
	return File{Name: name, Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// Make fills in the files of the statement, which must lie in run, and returns the bytes to be written and signed.
func Make(run fs.FS, statement Statement, names []string) ([]byte, error) {
	statement.Version, statement.Files = version, nil
	statement.Made = statement.Made.UTC().Truncate(time.Second)
	for _, name := range names {
		file, err := Digest(run, name)
		if err != nil {
			return nil, fmt.Errorf("attest: %w", err)
		}
		statement.Files = append(statement.Files, file)
	}
	text, err := json.MarshalIndent(statement, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("attest: %w", err)
	}
	return append(text, '\n'), nil
}

// Parse reads a statement. It refuses what it does not know whole: an unknown member could be what matters.
func Parse(text []byte) (Statement, error) {
	var statement Statement
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&statement); err != nil {
		return Statement{}, fmt.Errorf("%s: %w", FileName, err)
	}
	if decoder.More() {
		return Statement{}, fmt.Errorf("%s: something follows the statement", FileName)
	}
	if statement.Version != version {
		return Statement{}, fmt.Errorf("%s: is of version %d, and this program knows version %d", FileName, statement.Version, version)
	}
	if len(statement.Files) == 0 {
		return Statement{}, fmt.Errorf("%s: names no file", FileName)
	}
	named := map[string]bool{}
	for _, file := range statement.Files {
		if !fs.ValidPath(file.Name) || path.Base(file.Name) != file.Name {
			return Statement{}, fmt.Errorf("%s: %q is no name of a file of a run", FileName, file.Name)
		}
		if named[file.Name] {
			return Statement{}, fmt.Errorf("%s: names %s twice", FileName, file.Name)
		}
		named[file.Name] = true
	}
	return statement, nil
}

// Check compares the files of a run with what the statement says of them, and returns one error for each that differs.
func (s Statement) Check(run fs.FS) error {
	var all []error
	for _, stated := range s.Files {
		found, err := Digest(run, stated.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			all = append(all, fmt.Errorf("%s is missing", stated.Name))
		case err != nil:
			all = append(all, err)
		case found.Size != stated.Size:
			all = append(all, fmt.Errorf("%s was changed: %d bytes, attested with %d", stated.Name, found.Size, stated.Size))
		case found.SHA256 != stated.SHA256:
			all = append(all, fmt.Errorf("%s was changed: its digest is %s, attested with %s", stated.Name, abridged(found.SHA256), abridged(stated.SHA256)))
		}
	}
	return errors.Join(all...)
}

// abridged is as much of a digest as a person compares.
func abridged(digest string) string {
	const shown = 16
	return digest[:min(shown, len(digest))]
}
