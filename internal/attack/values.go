package attack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// Values are flags as a user gave them, by long name: one string for each time that the flag occurs.
type Values map[string][]string

// The types of flags, as drill.AttackFlag.Type names them.
const (
	TypeSeconds = "seconds"
	TypeMinutes = "minutes"
	TypeList    = "list"
	TypeString  = "string"
	TypeBool    = "bool"
	TypeInt     = "int"
	TypeFloat   = "float"
	TypeRate    = "rate" // bits a second: a number with bit, kbit, mbit or gbit behind it
)

// Length limits: an attack shorter than a second cannot be seen by any alarm; one longer than a day is an outage, not a drill.
const (
	LengthMin     = time.Second
	LengthMax     = 24 * time.Hour
	LengthDefault = 60 * time.Second
)

// LengthFlag is the flag that every attack but shutdown has.
func LengthFlag() drill.AttackFlag {
	return drill.AttackFlag{Name: "length", Short: "l", Type: TypeSeconds, Default: "60",
		Usage: "seconds that the impact lasts, 1 or more", Unit: "s", Range: &drill.Range{Min: LengthMin.Seconds(), Max: LengthMax.Seconds()}}
}

// Refuse makes the error for a wrong flag: what is wrong, and the cure.
func Refuse(kind, cure, format string, args ...any) error {
	return &drill.Error{Op: "attack " + kind, Kind: drill.Invalid, Hint: cure, Err: fmt.Errorf(format, args...)}
}

// Check returns an error when a flag is not one of kind's, or occurs more than once though it is no list.
func (v Values) Check(kind drill.AttackKind) error {
	for _, name := range sortedKeys(v) {
		at := slices.IndexFunc(kind.Flags, func(f drill.AttackFlag) bool { return f.Name == name })
		if at < 0 {
			return Refuse(kind.Name, "see: firedrill help attack "+kind.Name, "there is no flag --%s", name)
		}
		if kind.Flags[at].Type != TypeList && len(v[name]) > 1 {
			return Refuse(kind.Name, "", "--%s is given %d times", name, len(v[name]))
		}
	}
	return nil
}

// Text returns the flag's value, or fallback when it is not given.
func (v Values) Text(name, fallback string) string {
	if given := v[name]; len(given) > 0 {
		return strings.TrimSpace(given[len(given)-1])
	}
	return fallback
}

// Bool returns the flag's value; a flag that is not given is false.
func (v Values) Bool(name string) (bool, error) {
	value, err := strconv.ParseBool(v.Text(name, "false"))
	if err != nil {
		return false, fmt.Errorf("--%s=%s: write true or false", name, v.Text(name, ""))
	}
	return value, nil
}

// Length returns the flag length, in seconds or as a duration such as 1m30s. It is at least LengthMin and at most LengthMax.
func (v Values) Length() (time.Duration, error) {
	text := v.Text("length", "60")
	value, err := drill.ParseSeconds(text)
	if err != nil {
		return 0, fmt.Errorf("--length: %w", err)
	}
	if length := value.Duration(); length >= LengthMin && length <= LengthMax {
		return length, nil
	}
	return 0, fmt.Errorf("--length=%s: it must be from 1 second to 24 hours", text)
}

// List returns the flag's items: split at commas, trimmed, empty ones left out.
func (v Values) List(name string) []string {
	var items []string
	for _, text := range v[name] {
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
	}
	return items
}

// listFileMax bounds a file of targets: a million addresses of 40 characters and some room.
const listFileMax = 64 << 20

// Load replaces each value @FILE of a list flag by the lines of that file. Empty lines and lines that start with # are left out.
func (v Values) Load(kind drill.AttackKind) (Values, error) {
	loaded := Values{}
	for name, given := range v {
		list := slices.ContainsFunc(kind.Flags, func(f drill.AttackFlag) bool { return f.Name == name && f.Type == TypeList })
		for _, text := range given {
			path, isFile := strings.CutPrefix(text, "@")
			if !list || !isFile {
				loaded[name] = append(loaded[name], text)
				continue
			}
			lines, err := readList(path)
			if err != nil {
				return nil, Refuse(kind.Name, "", "--%s: %w", name, err)
			}
			loaded[name] = append(loaded[name], lines...)
		}
	}
	return loaded, nil
}

func readList(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, listFileMax+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > listFileMax {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, listFileMax>>20)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Share returns a flag that is a share in percent, above 0 and up to 100.
func Share(kind string, v Values, name, fallback string) (float64, error) {
	text := v.Text(name, fallback)
	percent, err := strconv.ParseFloat(text, 64)
	if err != nil || !(percent > 0 && percent <= 100) {
		return 0, Refuse(kind, "write a number above 0 and up to 100, as 5", "--%s=%s is not a share", name, text)
	}
	return percent, nil
}
