package account

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
)

const (
	codePeriod = 30 // seconds
	codeIssuer = "firedrill"
)

// User is a person who may log in.
type User struct {
	Name     string    `json:"name"`
	Role     string    `json:"role"`               // fleet.RoleViewer, RoleOperator or RoleAdmin
	Services []string  `json:"services,omitempty"` // that may be attacked; empty: all
	Kinds    []string  `json:"kinds,omitempty"`    // of attack; empty: all
	Hash     string    `json:"hash,omitempty"`     // argon2id; empty: no password, so only by an identity provider
	Secret   string    `json:"totp,omitempty"`     // of the second factor; empty: none
	Used     int64     `json:"totp_used,omitempty"`
	Subject  string    `json:"subject,omitempty"` // at the identity provider
	Changed  time.Time `json:"changed"`           // sessions that began before are over
}

// Member is the person as the control plane knows people.
func (u User) Member() fleet.Member {
	return fleet.Member{Name: u.Name, Role: u.Role, Services: u.Services, Kinds: u.Kinds}
}

// Book is the file with the users. It may be changed by another process at any time: each look notices that.
type Book struct {
	path string

	mu    sync.Mutex // guards the fields below
	stamp string     // of the file that was read
	users []User

	Cheap bool // for tests: a password that is set costs nothing to guess

	ForgetCodes bool // planted bug: a code of a second factor is good as often as it is typed
	KeepOld     bool // planted bug: a change of the password leaves Changed as it was
}

// Open names the file; it need not be there yet.
func Open(path string) *Book { return &Book{path: path} }

// memory is what a guess takes, in KiB.
func (b *Book) memory() uint32 {
	if b.Cheap {
		return 8 * hashLanes
	}
	return hashMemory
}

func wrong(op string, hint string, format string, args ...any) error {
	return &drill.Error{Op: op, Kind: drill.Invalid, Err: fmt.Errorf(format, args...), Hint: hint}
}

// read brings the users up to date with the file. The lock is held.
func (b *Book) read() error {
	info, err := os.Stat(b.path)
	if errors.Is(err, os.ErrNotExist) {
		b.users, b.stamp = nil, ""
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return wrong("users", "chmod 600 "+b.path+", and give all of them new passwords", "%s may be read by others", b.path)
	}
	stamp := info.ModTime().String() + fmt.Sprint(info.Size(), info.Sys().(*syscall.Stat_t).Ino) //nolint:forcetypeassert // this program is for Linux
	if stamp == b.stamp {
		return nil
	}
	var users []User
	if err := durable.Load(b.path, &users); err != nil {
		return wrong("users", "bring the file back from a backup", "%w", err)
	}
	b.users, b.stamp = users, stamp
	return nil
}

// List returns all users by name.
func (b *Book) List() ([]User, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.read(); err != nil {
		return nil, err
	}
	return slices.SortedFunc(slices.Values(b.users), func(x, y User) int { return strings.Compare(x.Name, y.Name) }), nil
}

// Find returns the user of a name. A file that cannot be read knows nobody.
func (b *Book) Find(name string) (User, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read() != nil {
		return User{}, false
	}
	i := slices.IndexFunc(b.users, func(u User) bool { return u.Name == name })
	if i < 0 {
		return User{}, false
	}
	return b.users[i], true
}

// BySubject returns the user that an identity provider knows by a subject.
func (b *Book) BySubject(subject string) (User, bool) {
	users, err := b.List()
	if err != nil || subject == "" {
		return User{}, false
	}
	i := slices.IndexFunc(users, func(u User) bool { return u.Subject == subject })
	if i < 0 {
		return User{}, false
	}
	return users[i], true
}

// change changes the file while no other process does.
func (b *Book) change(with func([]User) ([]User, error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(b.path), 0o700); err != nil {
		return wrong("users", "name the server's directory with --data", "%w", err)
	}
	lock, err := os.OpenFile(b.path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return wrong("users", "the server's directory is its owner's: run this as that user", "%w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if err := b.read(); err != nil {
		return err
	}
	users, err := with(slices.Clone(b.users))
	if err != nil {
		return err
	}
	b.stamp = ""
	if err := durable.Save(b.path, users); err != nil {
		return err
	}
	return b.own()
}

// own gives the file to the owner of the directory: root adds users to a server that runs as somebody else.
func (b *Book) own() error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(b.path))
	if err != nil {
		return err
	}
	of := info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // this program is for Linux
	return errors.Join(os.Chown(b.path, int(of.Uid), int(of.Gid)), os.Chown(b.path+".lock", int(of.Uid), int(of.Gid)))
}

// Put adds a user, or changes role, bounds and subject of one. A password is set when one is given.
func (b *Book) Put(u User, password string, now time.Time) error {
	if err := fleet.CheckName("a person", u.Name); err != nil {
		return wrong("user", "", "%w", err)
	}
	if !slices.Contains([]string{fleet.RoleViewer, fleet.RoleOperator, fleet.RoleAdmin}, u.Role) {
		return wrong("user", "write viewer, operator or admin", "%q is no role", u.Role)
	}
	if password == "" && u.Subject == "" {
		return wrong("user", "type a password or pipe one in, or name who the person is at the identity provider with --subject", "%s has neither a password nor a subject at an identity provider", u.Name)
	}
	if password != "" {
		if err := checkPassword(u.Name, password); err != nil {
			return err
		}
		kept, err := hash(password, b.memory())
		if err != nil {
			return err
		}
		u.Hash = kept
	}
	u.Changed = now
	return b.change(func(users []User) ([]User, error) {
		for _, other := range users {
			if other.Name == u.Name {
				return nil, wrong("user", "change it with: firedrill server user password, or remove it first", "there is a user %q already", u.Name)
			}
			if u.Subject != "" && other.Subject == u.Subject {
				return nil, wrong("user", "", "%s has that subject already", other.Name)
			}
		}
		return append(users, u), nil
	})
}

// one changes one user.
func (b *Book) one(name string, with func(*User) error) error {
	return b.change(func(users []User) ([]User, error) {
		i := slices.IndexFunc(users, func(u User) bool { return u.Name == name })
		if i < 0 {
			return nil, wrong("user", "see: firedrill server user list", "there is no user %q", name)
		}
		return users, with(&users[i])
	})
}

// SetPassword gives a user a new password, which ends all sessions of the user.
func (b *Book) SetPassword(name, password string, now time.Time) error {
	if err := checkPassword(name, password); err != nil {
		return err
	}
	kept, err := hash(password, b.memory())
	if err != nil {
		return err
	}
	return b.one(name, func(u *User) error {
		u.Hash = kept
		if !b.KeepOld {
			u.Changed = now
		}
		return nil
	})
}

// Remove puts a user out; all sessions of the user end.
func (b *Book) Remove(name string) error {
	return b.change(func(users []User) ([]User, error) {
		left := slices.DeleteFunc(users, func(u User) bool { return u.Name == name })
		if len(left) == len(users) {
			return nil, wrong("user", "see: firedrill server user list", "there is no user %q", name)
		}
		return left, nil
	})
}

// NewSecret makes a secret for a second factor, and the address with which an authenticator takes it.
func NewSecret(name string) (secret, address string, err error) {
	key, err := totp.Generate(totp.GenerateOpts{Issuer: codeIssuer, AccountName: name, Period: codePeriod, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		return "", "", err
	}
	return key.Secret(), key.URL(), nil
}

// SetSecret turns the second factor on, or off with an empty secret. Turning it on needs a code, so that nobody locks themselves out.
func (b *Book) SetSecret(name, secret, code string, now time.Time) error {
	step := int64(0)
	if secret != "" {
		found, ok := stepOf(secret, code, now)
		if !ok {
			return wrong("second factor", "is the clock of the phone right?", "the code is not of this secret and this moment")
		}
		step = found
	}
	return b.one(name, func(u *User) error {
		u.Secret, u.Used, u.Changed = secret, step, now
		return nil
	})
}

// stepOf finds the period of which a code is: this one or its neighbours, because clocks differ.
func stepOf(secret, code string, now time.Time) (step int64, ok bool) {
	for _, offset := range []int64{0, -1, 1} {
		at := now.Unix()/codePeriod + offset
		valid, err := totp.ValidateCustom(strings.TrimSpace(code), secret, time.Unix(at*codePeriod, 0), totp.ValidateOpts{Period: codePeriod, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err == nil && valid {
			return at, true
		}
	}
	return 0, false
}

// ErrDenied is the answer to a log-in, whatever was wrong with it.
var ErrDenied = errors.New("name, password or code is wrong")

// Check decides about a log-in. The reason of a refusal is for the audit log; the one who tries is told ErrDenied alone.
func (b *Book) Check(name, password, code string, now time.Time) (u User, reason string, err error) {
	u, known := b.Find(name)
	if !matches(cmp.Or(u.Hash, nobody), password) {
		if !known {
			return User{}, "there is no such user", ErrDenied
		}
		return User{}, "the password is wrong", ErrDenied
	}
	if u.Secret == "" {
		return u, "", nil
	}
	step, ok := stepOf(u.Secret, code, now)
	if !ok {
		return User{}, "the code is wrong", ErrDenied
	}
	if b.ForgetCodes {
		return u, "", nil
	}
	err = b.one(name, func(u *User) error {
		if step <= u.Used {
			return ErrDenied
		}
		u.Used = step
		return nil
	})
	if err != nil {
		return User{}, "the code was used before", ErrDenied
	}
	return u, "", nil
}

// Knows reports whether a password is the user's.
func (b *Book) Knows(name, password string) bool {
	u, _ := b.Find(name)
	return matches(cmp.Or(u.Hash, nobody), password)
}
