package bookstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Release is what a published tree holds.
type Release struct {
	Name     string // of the directory, as 20260412T101500-d717226
	Revision string // content of the file REVISION, which the deployment writes; empty without
	Version  int
	Title    string
	Banner   string // shown on every page
	Seed     []Book

	directory string
	pages     *template.Template
}

// releaseFile is the file that makes a directory a release of the Bookstore.
type releaseFile struct {
	Version  int    `yaml:"version" json:"version"`
	Title    string `yaml:"title" json:"title"`
	Settings struct {
		Banner string `yaml:"banner" json:"banner"`
		Seed   string `yaml:"seed" json:"seed"`
	} `yaml:"settings" json:"settings"`
}

// OpenRelease reads the release in directory, following the link when it is one: what is read now stays the same when the link is
// switched. An error says what is missing, in words for the one who published it.
func OpenRelease(directory string) (*Release, error) {
	real, err := filepath.EvalSymlinks(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("nothing is published at %s yet", directory)
	}
	if err != nil {
		return nil, err
	}
	file, err := readReleaseFile(real)
	if err != nil {
		return nil, err
	}
	revision, err := os.ReadFile(filepath.Join(real, "REVISION"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	release := &Release{
		Name: filepath.Base(real), Revision: strings.TrimSpace(string(revision)), Version: file.Version,
		Title: file.Title, Banner: file.Settings.Banner, directory: real,
	}
	if release.pages, err = template.ParseGlob(filepath.Join(real, "templates", "*.html")); err != nil {
		return nil, fmt.Errorf("read templates of the release: %w", err)
	}
	if release.pages.Lookup("index.html") == nil {
		return nil, errors.New("the release has no templates/index.html")
	}
	if file.Settings.Seed != "" {
		if release.Seed, err = readSeed(real, file.Settings.Seed); err != nil {
			return nil, err
		}
	}
	return release, nil
}

func readReleaseFile(directory string) (releaseFile, error) {
	var file releaseFile
	for _, name := range []string{"bookstore.yaml", "bookstore.json"} { // JSON is YAML too
		text, err := os.ReadFile(filepath.Join(directory, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return file, err
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			return file, fmt.Errorf("%s of the release: %w", name, err)
		}
		if file.Version < 1 {
			return file, fmt.Errorf("%s of the release: version must be 1 or more", name)
		}
		return file, nil
	}
	return file, fmt.Errorf("%s holds no release: bookstore.yaml is missing", directory)
}

func readSeed(directory, name string) ([]Book, error) {
	if !filepath.IsLocal(name) {
		return nil, fmt.Errorf("seed %q of the release is not inside the release", name)
	}
	text, err := os.ReadFile(filepath.Join(directory, name))
	if err != nil {
		return nil, fmt.Errorf("seed of the release: %w", err)
	}
	var seed []Book
	if err := json.Unmarshal(text, &seed); err != nil {
		return nil, fmt.Errorf("seed %s of the release: %w", name, err)
	}
	return seed, nil
}
