package verdict

import (
	"fmt"
	"strings"
	"time"
)

// sentence makes sure that a text ends like a sentence.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	if text == "" || strings.ContainsAny(text[len(text)-1:], ".!?") {
		return text
	}
	return text + "."
}

// because appends a reason to a sentence that may have none.
func because(reason string) string {
	if reason == "" {
		return "."
	}
	return ": " + sentence(reason)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// secs prints a duration as a person compares it: seconds with two digits.
func secs(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func share(part, whole int) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

func quantity(d time.Duration) *Quantity { return &Quantity{Value: d.Seconds(), Unit: UnitSeconds} }

func bounded(d, bound time.Duration) *Quantity {
	return &Quantity{Value: d.Seconds(), Bound: bound.Seconds(), Unit: UnitSeconds}
}

// list joins at most a few names.
func list(names []string) string {
	const shown = 4 // more do not help a reader of one sentence
	if len(names) > shown {
		return strings.Join(names[:shown], ", ") + fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return strings.Join(names, ", ")
}

// didDo counts things that all did the same.
func didDo(n int, word, did string) string {
	switch n {
	case 1:
		return "The " + word + " " + did
	case 2:
		return "Both " + word + "s " + did
	}
	return fmt.Sprintf("All %d %ss %s", n, word, did)
}
