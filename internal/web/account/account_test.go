package account

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"firedrill/internal/fleet"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

const good = "correct horse battery"

func newBook(t *testing.T) *Book {
	t.Helper()
	b := Open(filepath.Join(t.TempDir(), "users.json"))
	b.Cheap = true
	if err := b.Put(User{Name: "ann", Role: fleet.RoleOperator}, good, noon); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestALogInNeedsNamePasswordAndCode(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	for _, row := range []struct {
		name, password, reason string
	}{{"ann", good, ""}, {"ann", "wrong horse battery", "password"}, {"bob", good, "no such user"}, {"", "", "no such user"}, {"ann", "", "password"}} {
		_, reason, err := b.Check(row.name, row.password, "", noon)
		if (err == nil) != (row.reason == "") || !strings.Contains(reason, row.reason) {
			t.Errorf("%s: %q %v, want %q", row.name, reason, err, row.reason)
		}
	}
	secret, address, err := NewSecret("ann")
	if err != nil || !strings.HasPrefix(address, "otpauth://totp/firedrill:ann?") {
		t.Fatal(address, err)
	}
	if err := b.SetSecret("ann", secret, "000000", noon); err == nil {
		t.Error("a factor that was not tried is turned on")
	}
	code := func(at time.Time) string {
		text, err := totp.GenerateCode(secret, at)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if err := b.SetSecret("ann", secret, code(noon), noon); err != nil {
		t.Fatal(err)
	}
	later := noon.Add(time.Minute)
	if _, reason, err := b.Check("ann", good, "", later); err == nil || reason != "the code is wrong" {
		t.Errorf("no code: %q %v", reason, err)
	}
	if _, reason, err := b.Check("ann", good, code(later), later); err != nil {
		t.Errorf("the right code: %q %v", reason, err)
	}
	if _, reason, err := b.Check("ann", good, code(later), later); err == nil || reason != "the code was used before" {
		t.Errorf("the same code again: %q %v", reason, err)
	}
	if _, _, err := b.Check("ann", good, code(later.Add(-5*time.Minute)), later); err == nil {
		t.Error("an old code is taken")
	}
	b.ForgetCodes = true // the planted bug that the check above catches
	if _, _, err := b.Check("ann", good, code(later), later); err != nil {
		t.Error("a book that forgets codes would not be noticed")
	}
}

func TestTheFileHoldsNoPasswordAndIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	b.Cheap = false
	if err := b.SetPassword("ann", good, noon); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(b.path)
	if err != nil || strings.Contains(string(text), good) || !strings.Contains(string(text), "$argon2id$v=19$m=65536,t=3,p=2$") {
		t.Fatalf("%s %v", text, err)
	}
	if info, err := os.Stat(b.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := os.Chmod(b.path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := b.List(); err == nil {
		t.Error("a file that others may read is taken")
	}
	if _, known := b.Find("ann"); known {
		t.Error("a file that others may read lets somebody in")
	}
}

func TestPasswordsThatAreGuessedAreRefused(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	for _, password := range []string{"short", "aaaaaaaaaaaaaaaaaa", "my name is ann, as you know", strings.Repeat("abcdef", 50)} {
		if err := b.SetPassword("ann", password, noon); err == nil {
			t.Errorf("%q is taken", password)
		}
	}
}

func TestHashesThatAreNotOursMatchNothing(t *testing.T) {
	t.Parallel()
	for _, kept := range []string{"", "x", "$argon2id$v=19$m=99999999,t=3,p=2$AA$AAAA", "$argon2id$v=19$m=64,t=0,p=0$AAAAAAAAAAAAAAAAAAAAAA$AAAA", "$2b$10$abc", nobody, strings.Repeat("$", 5)} {
		if matches(kept, "") || matches(kept, good) {
			t.Errorf("%q matches", kept)
		}
	}
}

func TestASessionEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(b *Book, s *Sessions, secret string) (at time.Time){
		"idle": func(*Book, *Sessions, string) time.Time { return noon.Add(SessionIdle) },
		"old": func(_ *Book, s *Sessions, secret string) time.Time {
			at := noon
			for ; at.Sub(noon) < SessionMax; at = at.Add(SessionIdle / 2) {
				s.Find(secret, at, true)
			}
			return at
		},
		"password": func(b *Book, _ *Sessions, _ string) time.Time {
			if err := b.SetPassword("ann", "another horse battery", noon.Add(time.Second)); err != nil {
				t.Error(err)
			}
			return noon.Add(2 * time.Second)
		},
		"removed": func(b *Book, _ *Sessions, _ string) time.Time {
			if err := b.Remove("ann"); err != nil {
				t.Error(err)
			}
			return noon.Add(time.Second)
		},
		"log out": func(_ *Book, s *Sessions, secret string) time.Time {
			session, _, _ := s.Find(secret, noon, true)
			s.End(session)
			return noon.Add(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBook(t)
			s := NewSessions(b)
			secret := s.Begin("ann", noon)
			if _, user, ok := s.Find(secret, noon.Add(time.Millisecond), false); !ok || user.Name != "ann" {
				t.Fatal("it does not begin")
			}
			at := end(b, s, secret)
			if _, _, ok := s.Find(secret, at, true); ok {
				t.Error("it goes on")
			}
		})
	}
	b := newBook(t)
	b.KeepOld = true // the planted bug that "password" catches
	s := NewSessions(b)
	secret := s.Begin("ann", noon)
	if err := b.SetPassword("ann", "another horse battery", noon.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := s.Find(secret, noon.Add(2*time.Second), true); !ok {
		t.Error("a book that forgets when a password changed would not be noticed")
	}
}

func TestALookByThePageDoesNotKeepASession(t *testing.T) {
	t.Parallel()
	s := NewSessions(newBook(t))
	secret := s.Begin("ann", noon)
	s.Find(secret, noon.Add(SessionIdle-time.Second), false)
	if _, _, ok := s.Find(secret, noon.Add(SessionIdle), true); ok {
		t.Error("an open page keeps its session for ever")
	}
}

func TestWhoGuessesHasToWait(t *testing.T) {
	t.Parallel()
	tries := func(l *Limiter, name, address string, count int) (allowed int) {
		for i := range count {
			now := noon.Add(time.Duration(i) * time.Second)
			if l.Wait(name, address, now) == 0 {
				allowed++
				l.Failed(name, address, now)
			}
		}
		return allowed
	}
	var l Limiter
	if n := tries(&l, "ann", "10.0.0.1", 60); n < failuresFree || n > failuresFree+3 {
		t.Errorf("%d tries in a minute", n)
	}
	if l.Wait("ann", "10.0.0.2", noon) != 0 {
		t.Error("who guesses elsewhere keeps ann out")
	}
	l.Succeeded("ann", "10.0.0.1")
	if l.Wait("ann", "10.0.0.1", noon) != 0 {
		t.Error("ann has to wait after she was let in")
	}
	if n := tries(&Limiter{Off: true}, "ann", "10.0.0.1", 60); n != 60 {
		t.Error("a limiter that is off would not be noticed")
	}
	var many Limiter
	allowed := 0
	for i := range 3600 {
		name, now := "user"+strings.Repeat("x", i%97), noon.Add(time.Duration(i)*time.Second/10)
		if many.Wait(name, "10.0.0.1", now) == 0 {
			allowed++
			many.Failed(name, "10.0.0.1", now)
		}
	}
	if allowed > failuresFree*addressFactor+10 {
		t.Errorf("an address tries %d names in six minutes", allowed)
	}
}

func TestTwoProcessesChangeTheFile(t *testing.T) {
	t.Parallel()
	one := newBook(t)
	two := Open(one.path)
	if err := two.Put(User{Name: "bob", Role: fleet.RoleViewer}, good, noon); err != nil {
		t.Fatal(err)
	}
	if err := one.Remove("ann"); err != nil {
		t.Fatal(err)
	}
	users, err := two.List()
	text, _ := json.Marshal(users)
	if err != nil || len(users) != 1 || users[0].Name != "bob" {
		t.Errorf("%s %v", text, err)
	}
}

// FuzzHash: whatever stands in the file, nothing panics and no password is right for it by chance.
func FuzzHash(f *testing.F) {
	f.Add(nobody)
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, kept string) {
		if len(kept) < 200 && strings.Contains(kept, "m=8,") && matches(kept, "x") {
			t.Errorf("%q", kept)
		}
	})
}
