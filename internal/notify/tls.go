package notify

import (
	"crypto/tls"
	"errors"
	"net/textproto"
)

func tlsFor(host string) *tls.Config {
	return &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
}

// refused marks what a mail server refuses for good: its 5xx answers.
func refused(err error) error {
	var answer *textproto.Error
	if errors.As(err, &answer) && answer.Code >= 500 {
		return permanent{err}
	}
	return err
}
