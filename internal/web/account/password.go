package account

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"firedrill/internal/drill"
)

// The cost of a guess, by the second recommendation of RFC 9106 with fewer lanes: servers of a fleet are small.
const (
	hashTime   = 3
	hashMemory = 64 << 10 // KiB
	hashLanes  = 2
	hashLength = 32
	saltLength = 16

	// Bounds of what is taken from a file, so that a hash in it cannot make the server take all memory.
	hashTimeMax   = 16
	hashMemoryMax = 1 << 20 // KiB

	passwordMin = 12  // runes
	passwordMax = 256 // bytes
)

// hashing bounds how many passwords are hashed at the same time: each takes 64 MiB.
var hashing = make(chan struct{}, 2)

// checkPassword refuses what is too short to keep a guesser out.
func checkPassword(name, password string) error {
	why := ""
	switch {
	case len([]rune(password)) < passwordMin:
		why = fmt.Sprintf("it has fewer than %d characters", passwordMin)
	case len(password) > passwordMax:
		why = fmt.Sprintf("it is longer than %d bytes", passwordMax)
	case strings.Contains(strings.ToLower(password), strings.ToLower(name)):
		why = "it holds the name"
	case len(distinct(password)) < 5:
		why = "it is made of fewer than 5 different characters"
	default:
		return nil
	}
	return &drill.Error{Op: "password", Kind: drill.Invalid, Err: errors.New(why), Hint: "four words that nobody would put together are long enough"}
}

func distinct(text string) map[rune]bool {
	all := map[rune]bool{}
	for _, r := range text {
		all[r] = true
	}
	return all
}

// hash makes the text that is kept of a password, in the form that other tools use too.
func hash(password string, memory uint32) (string, error) {
	salt := make([]byte, saltLength)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	hashing <- struct{}{}
	defer func() { <-hashing }()
	sum := argon2.IDKey([]byte(password), salt, hashTime, memory, hashLanes, hashLength)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, memory, hashTime, hashLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum)), nil
}

// matches compares a password with what is kept. What is kept but not understood matches nothing.
func matches(kept, password string) bool {
	parts := strings.Split(kept, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || len(password) > passwordMax {
		return false
	}
	var version int
	var memory, time uint32
	var lanes uint8
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return false
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &lanes); err != nil || time < 1 || time > hashTimeMax || memory > hashMemoryMax || lanes < 1 {
		return false
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	sum, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(sum) < 16 || len(sum) > 64 {
		return false
	}
	hashing <- struct{}{}
	defer func() { <-hashing }()
	return subtle.ConstantTimeCompare(argon2.IDKey([]byte(password), salt, time, memory, lanes, uint32(len(sum))), sum) == 1
}

// nobody is what an unknown name's password is compared with, so that the time does not tell that it is unknown. No password has this sum.
var nobody = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashTime, hashLanes,
	base64.RawStdEncoding.EncodeToString(make([]byte, saltLength)), base64.RawStdEncoding.EncodeToString(make([]byte, hashLength)))
