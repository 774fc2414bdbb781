package bookstore

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

// Options says what a Service serves and where its dependencies are.
type Options struct {
	App             string       // directory of the release, usually a link that deployments switch
	DatabaseURL     string       // as postgres://bookstore@db.bookstore.example.test:5432/bookstore
	DatabaseURLFile string       // holds another URL, which counts when the file exists; empty: none
	CDN             string       // base URL of the CDN
	Environment     string       // name in answers; empty: the host's name
	Log             *slog.Logger // nil: silent
}

// Service is the Bookstore's HTTP service. It serves the release that it found when it was made. It is safe for concurrent use.
type Service struct {
	environment string
	log         *slog.Logger
	release     *Release
	missing     error // why there is no release: everything answers 503 with it
	catalog     *catalog
	cdn         *cdn
	mux         *http.ServeMux
}

// NewService reads the release and returns the service; it connects to nothing yet. A missing or broken release is no error here: the
// service says so in every answer, until it is started again on a good one. An error means that an option is wrong.
func NewService(options Options) (*Service, error) {
	if _, err := pgconn.ParseConfig(options.DatabaseURL); err != nil {
		return nil, err
	}
	environment := options.Environment
	if environment == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("name of this host: %w", err)
		}
		environment = name
	}
	log := options.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Service{environment: environment, log: log, cdn: newCDN(options.CDN)}
	s.release, s.missing = OpenRelease(options.App)
	s.catalog = &catalog{pool: newPool(environment, databaseURL(options.DatabaseURLFile, options.DatabaseURL))}
	if s.missing != nil {
		log.Error("no release to serve", "app", options.App, "reason", s.missing)
	} else {
		s.catalog.seed = s.release.Seed
		log.Info("serving", "environment", environment, "release", s.release.Name, "version", s.release.Version)
	}
	s.mux = http.NewServeMux()
	s.mux.HandleFunc("GET /version", s.version)
	s.mux.HandleFunc("GET /version/", s.version)
	s.mux.HandleFunc("GET /healthy", s.healthy)
	s.mux.HandleFunc("GET /books/", s.listBooks)
	s.mux.HandleFunc("POST /books/", s.addBook)
	s.mux.HandleFunc("GET /authors/", s.listAuthors)
	s.mux.HandleFunc("GET /ledger", s.readLedger)
	s.mux.HandleFunc("POST /ledger", s.writeLedger)
	s.mux.HandleFunc("GET /static/status.json", s.throughCDN)
	s.mux.HandleFunc("GET /static/", s.static)
	s.mux.HandleFunc("GET /", s.page)
	return s, nil
}

// Close ends the connections to the database.
func (s *Service) Close() { s.catalog.pool.shut() }

// ServeHTTP answers one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Bookstore-Environment", s.environment)
	w.Header().Set("Cache-Control", "no-store")
	if s.missing != nil {
		s.fail(w, http.StatusServiceUnavailable, problem{Error: s.missing.Error()})
		return
	}
	s.mux.ServeHTTP(w, r)
}

// problem is the body of every answer that is not a success.
type problem struct {
	Error       string `json:"error"`
	Dependency  string `json:"dependency,omitempty"` // db or cdn, when that one failed
	Environment string `json:"environment"`
}

func (s *Service) fail(w http.ResponseWriter, status int, p problem) {
	p.Environment = s.environment
	writeJSON(w, status, p)
}

// databaseFailed answers for a database that did not do what was asked.
func (s *Service) databaseFailed(w http.ResponseWriter, err error) {
	if stateOf(err) == stateUniqueViolation {
		s.fail(w, http.StatusConflict, problem{Error: "it is there already"})
		return
	}
	s.log.Warn("database failed", "error", err)
	s.fail(w, http.StatusServiceUnavailable, problem{Error: err.Error(), Dependency: "db"})
}

type versionAnswer struct {
	Environment string `json:"environment"`
	Version     int    `json:"version"`
	Revision    string `json:"revision"`
	Release     string `json:"release"`
}

func (s *Service) versionAnswer() versionAnswer {
	return versionAnswer{s.environment, s.release.Version, s.release.Revision, s.release.Name}
}

// version needs nothing but the release: it answers while every dependency is gone.
func (s *Service) version(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.versionAnswer())
}

// healthy asks the dependencies too, both at once, and names the ones that failed.
func (s *Service) healthy(w http.ResponseWriter, r *http.Request) {
	cdnAnswer := make(chan error, 1)
	go func() {
		_, err := s.cdn.fetch(r.Context(), "/static/status.json")
		cdnAnswer <- err
	}()
	databaseErr := s.catalog.ping(r.Context())
	cdnErr := <-cdnAnswer
	answer := struct {
		versionAnswer
		Failed map[string]string `json:"failed,omitempty"` // dependency to reason
	}{s.versionAnswer(), map[string]string{}}
	status := http.StatusOK
	if databaseErr != nil {
		status, answer.Failed["db"] = http.StatusServiceUnavailable, databaseErr.Error()
	}
	if cdnErr != nil {
		status, answer.Failed["cdn"] = http.StatusServiceUnavailable, plainCause(cdnErr)
	}
	writeJSON(w, status, answer)
}

func (s *Service) listBooks(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/books/" {
		s.notFound(w)
		return
	}
	books, err := s.catalog.books(r.Context())
	if err != nil {
		s.databaseFailed(w, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Environment string `json:"environment"`
		Books       []Book `json:"books"`
	}{s.environment, books})
}

func (s *Service) addBook(w http.ResponseWriter, r *http.Request) {
	var book Book
	if err := readJSON(w, r, &book); err != nil {
		s.fail(w, http.StatusBadRequest, problem{Error: err.Error()})
		return
	}
	if !nameable(book.Title) || !nameable(book.Author) {
		s.fail(w, http.StatusBadRequest, problem{Error: `send {"title": "...", "author": "..."}, each of 1 to 200 characters`})
		return
	}
	added, err := s.catalog.add(r.Context(), book)
	if err != nil {
		s.databaseFailed(w, err)
		return
	}
	writeJSON(w, http.StatusCreated, added)
}

func (s *Service) listAuthors(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/authors/" {
		s.notFound(w)
		return
	}
	authors, err := s.catalog.authors(r.Context())
	if err != nil {
		s.databaseFailed(w, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Environment string   `json:"environment"`
		Authors     []Author `json:"authors"`
	}{s.environment, authors})
}

type ledgerEntry struct {
	Writer string `json:"writer"`
	Seq    *int64 `json:"seq"`
}

// writeLedger answers 201 only after the database acknowledged the entry. A repeated entry is a 409: whether the first one was
// acknowledged is not known here, so it is not claimed.
func (s *Service) writeLedger(w http.ResponseWriter, r *http.Request) {
	var entry ledgerEntry
	if err := readJSON(w, r, &entry); err != nil {
		s.fail(w, http.StatusBadRequest, problem{Error: err.Error()})
		return
	}
	if !nameable(entry.Writer) || entry.Seq == nil || *entry.Seq < 0 {
		s.fail(w, http.StatusBadRequest, problem{Error: `send {"writer": "...", "seq": 0}, the writer of 1 to 200 characters`})
		return
	}
	if err := s.catalog.record(r.Context(), entry.Writer, *entry.Seq); err != nil {
		s.databaseFailed(w, err)
		return
	}
	writeJSON(w, http.StatusCreated, entry)
}

func (s *Service) readLedger(w http.ResponseWriter, r *http.Request) {
	writer := r.URL.Query().Get("writer")
	if !nameable(writer) {
		s.fail(w, http.StatusBadRequest, problem{Error: "say whose entries: /ledger?writer=NAME"})
		return
	}
	seqs, err := s.catalog.recorded(r.Context(), writer)
	if err != nil {
		s.databaseFailed(w, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Seqs []int64 `json:"seqs"`
	}{seqs})
}

// throughCDN passes on what the CDN has; the service keeps no copy, so that it fails when the CDN does.
func (s *Service) throughCDN(w http.ResponseWriter, r *http.Request) {
	found, err := s.cdn.fetch(r.Context(), r.URL.Path)
	if err != nil {
		s.log.Warn("cdn failed", "path", r.URL.Path, "error", err)
		s.fail(w, gatewayStatus(err), problem{Error: plainCause(err), Dependency: "cdn"})
		return
	}
	w.Header().Set("Content-Type", found.kind)
	_, _ = w.Write(found.content) // the client may be gone
}

// static serves the release's own files, and none outside of its static directory.
func (s *Service) static(w http.ResponseWriter, r *http.Request) {
	root, err := os.OpenRoot(filepath.Join(s.release.directory, "static"))
	if err != nil {
		s.notFound(w)
		return
	}
	defer root.Close()
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/static/")
	content, err := root.ReadFile(filepath.FromSlash(name))
	if err != nil {
		s.notFound(w)
		return
	}
	if kind := mime.TypeByExtension(path.Ext(name)); kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	_, _ = w.Write(content) // the client may be gone
}

func (s *Service) notFound(w http.ResponseWriter) {
	s.fail(w, http.StatusNotFound, problem{Error: "there is no such page"})
}

// page is the shop's front page. It asks no dependency by itself: the browser loads the books.
func (s *Service) page(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		s.notFound(w)
		return
	}
	var text strings.Builder
	err := s.release.pages.ExecuteTemplate(&text, "index.html", struct {
		*Release
		Environment string
	}{s.release, s.environment})
	if err != nil {
		s.fail(w, http.StatusInternalServerError, problem{Error: err.Error()})
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, text.String()) // the client may be gone
}

// nameMax bounds titles and names: a shop's page has to show them.
const nameMax = 200

func nameable(text string) bool {
	return text != "" && utf8.ValidString(text) && !strings.ContainsRune(text, 0) && utf8.RuneCountInString(text) <= nameMax
}

// bodyMax bounds a request's body; the longest that makes sense is a title and a name.
const bodyMax = 16 << 10

func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyMax))
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("the body is not the JSON that belongs here: %w", err)
	}
	return nil
}
