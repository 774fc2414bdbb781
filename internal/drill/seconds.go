package drill

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Seconds is a duration that files write as "30s", "1m30s" or a plain number of seconds, and that JSON carries as a number of seconds.
type Seconds time.Duration

// Duration returns the value as the standard type.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }

// String prints like time.Duration, rounded to milliseconds.
func (s Seconds) String() string { return time.Duration(s).Round(time.Millisecond).String() }

// MarshalJSON writes a number of seconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON reads a number of seconds.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	value, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("%s is not a number of seconds", text)
	}
	*s = Seconds(math.Round(value * float64(time.Second)))
	return nil
}

// ParseSeconds reads "30", "30s", "1m30s", "250ms", "2h" or "7d". A negative duration is an error.
func ParseSeconds(text string) (Seconds, error) {
	text = strings.TrimSpace(text)
	if whole, err := strconv.ParseInt(text, 10, 32); err == nil {
		if whole < 0 {
			return 0, fmt.Errorf("%q is negative; write a duration such as 30s", text)
		}
		return Seconds(time.Duration(whole) * time.Second), nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if whole, err := strconv.ParseUint(days, 10, 16); err == nil {
			return Seconds(time.Duration(whole) * 24 * time.Hour), nil
		}
	}
	value, err := time.ParseDuration(text)
	if err != nil || value < 0 {
		return 0, fmt.Errorf("%q is not a duration; write 30s, 1m30s, 250ms, 2h or 7d", text)
	}
	return Seconds(value), nil
}
