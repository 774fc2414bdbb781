package notify

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/textproto"
	"os"
	"path/filepath"
)

func (m *mail) tls(host string) *tls.Config {
	return &tls.Config{ServerName: host, RootCAs: m.roots, MinVersion: tls.VersionTLS12}
}

// trusted reads certificates of authorities; nil when no file is named.
func trusted(file, directory string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // nil is whom this machine trusts
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(directory, file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: holds no certificate; PEM is wanted", file)
	}
	return pool, nil
}

// refused marks what a mail server refuses for good: its 5xx answers.
func refused(err error) error {
	var answer *textproto.Error
	if errors.As(err, &answer) && answer.Code >= 500 {
		return permanent{err}
	}
	return err
}
