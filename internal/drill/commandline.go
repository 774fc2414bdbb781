//go:build !attackpart

package drill

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ReadFlags reads flags as the command line does: -l 240, -l240, --length 240, --length=240, and switches without a value.
func ReadFlags(kind AttackKind, words []string) ([]Option, error) {
	var options []Option
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		name, value, has := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		byName := func(flag AttackFlag) bool { return flag.Name == name }
		if !strings.HasPrefix(word, "--") {
			if len(word) < 2 || word[0] != '-' {
				return nil, fmt.Errorf("%q is no flag", word)
			}
			name, value = word[1:2], strings.TrimPrefix(word[2:], "=")
			has = value != ""
			byName = func(flag AttackFlag) bool { return flag.Short == name }
		}
		i := slices.IndexFunc(kind.Flags, byName)
		if i < 0 {
			return nil, fmt.Errorf("%s has no flag %q", kind.Name, word)
		}
		flag := kind.Flags[i]
		switch {
		case has:
		case flag.Type == "bool":
			value = "true"
		case len(words) == 0:
			return nil, fmt.Errorf("%q needs a value", word)
		default:
			value, words = words[0], words[1:]
		}
		values := []string{value}
		if flag.Type == "list" {
			values = strings.Split(value, ",")
		}
		if flag.Type == "seconds" {
			if _, err := strconv.ParseUint(value, 10, 31); err != nil {
				return nil, fmt.Errorf("%q is not a number of seconds", value)
			}
		}
		if j := slices.IndexFunc(options, func(o Option) bool { return o.Name == flag.Name }); j >= 0 {
			if flag.Type == "list" {
				options[j].Values = append(options[j].Values, values...)
			} else {
				options[j].Values = values
			}
			continue
		}
		options = append(options, Option{Name: flag.Name, Values: values})
	}
	return options, nil
}

// ShellWords splits a line as a shell would, as long as nothing in it needs one.
func ShellWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	for _, r := range line {
		switch {
		case quote == 0 && strings.ContainsRune("$`;|&<>()*?[]{}\\!~", r), quote == '"' && strings.ContainsRune("$`\\!", r):
			return nil, fmt.Errorf("it needs a shell (%q)", r)
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote is open")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
