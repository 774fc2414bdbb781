package account

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"sync"
	"time"
)

const (
	// SessionIdle ends a session that nobody uses, SessionMax any.
	SessionIdle = 30 * time.Minute
	SessionMax  = 12 * time.Hour

	sessionsMax = 10_000
)

// Session is a person who is logged in.
type Session struct {
	User  string
	CSRF  string // stands in every form
	Began time.Time
	seen  time.Time
	id    [sha256.Size]byte
}

// Sessions are all of them. They live in memory: a restart of the server logs everybody out.
type Sessions struct {
	book *Book
	mu   sync.Mutex // guards the field below
	all  map[[sha256.Size]byte]Session
}

// NewSessions begins with none.
func NewSessions(book *Book) *Sessions {
	return &Sessions{book: book, all: map[[sha256.Size]byte]Session{}}
}

// Begin logs a user in and returns the secret for the cookie. Only its hash is kept.
func (s *Sessions) Begin(user string, now time.Time) (secret string) {
	secret = rand.Text() + rand.Text()
	id := sha256.Sum256([]byte(secret))
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest Session
	for key, session := range s.all {
		if session.over(now) {
			delete(s.all, key)
		} else if oldest.seen.IsZero() || session.seen.Before(oldest.seen) {
			oldest = session
		}
	}
	if len(s.all) >= sessionsMax {
		delete(s.all, oldest.id)
	}
	s.all[id] = Session{User: user, CSRF: rand.Text(), Began: now, seen: now, id: id}
	return secret
}

func (s Session) over(now time.Time) bool {
	return now.Sub(s.seen) >= SessionIdle || now.Sub(s.Began) >= SessionMax
}

// Find returns the session of a cookie and its user as the user is now. A look by the person, used, keeps it from becoming idle; one by the
// page itself does not.
func (s *Sessions) Find(secret string, now time.Time, used bool) (Session, User, bool) {
	id := sha256.Sum256([]byte(secret))
	s.mu.Lock()
	session, ok := s.all[id]
	s.mu.Unlock()
	if !ok {
		return Session{}, User{}, false
	}
	user, known := s.book.Find(session.User)
	if !known || session.over(now) || session.Began.Before(user.Changed) {
		s.End(session)
		return Session{}, User{}, false
	}
	if used {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, ok := s.all[id]; ok {
			session.seen = now
			s.all[id] = session
		}
	}
	return session, user, true
}

// End logs out.
func (s *Sessions) End(session Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, session.id)
}

// Genuine reports whether a form is one that we gave to this session.
func (s Session) Genuine(token string) bool {
	return len(s.CSRF) > 0 && subtle.ConstantTimeCompare([]byte(s.CSRF), []byte(token)) == 1
}
