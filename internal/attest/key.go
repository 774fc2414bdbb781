package attest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"aead.dev/minisign"
)

// PrivateKey signs statements; get one from NewKey or ParsePrivateKey.
type PrivateKey struct{ key minisign.PrivateKey }

// PublicKey tells whether a statement was signed by its other half.
type PublicKey struct{ key minisign.PublicKey }

// ErrPassword says that a key is encrypted, and the password does not open it.
var ErrPassword = errors.New("the password does not open the key")

// NewKey makes a pair of keys as texts, in minisign's form. An empty password leaves the private one open: then the rights of its file are
// all that protects it.
func NewKey(password string) (private, public []byte, err error) {
	publicKey, privateKey, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	if password == "" {
		private, err = privateKey.MarshalText()
	} else {
		private, err = minisign.EncryptKey(password, privateKey)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("encode the private key: %w", err)
	}
	text, err := publicKey.MarshalText()
	if err != nil {
		return nil, nil, fmt.Errorf("encode the public key: %w", err)
	}
	return append(private, '\n'), append(text, '\n'), nil
}

// Encrypted says whether a private key needs a password.
func Encrypted(text []byte) bool { return minisign.IsEncrypted(text) }

// ParsePrivateKey reads a private key in minisign's form; password is only looked at when the key is encrypted.
func ParsePrivateKey(text []byte, password string) (PrivateKey, error) {
	if !minisign.IsEncrypted(text) {
		var key minisign.PrivateKey
		if err := key.UnmarshalText(text); err != nil {
			return PrivateKey{}, fmt.Errorf("not a private key of minisign: %w", err)
		}
		return PrivateKey{key}, nil
	}
	key, err := minisign.DecryptKey(password, text)
	if err != nil {
		return PrivateKey{}, ErrPassword
	}
	return PrivateKey{key}, nil
}

// ParsePublicKey reads a public key: the text of its file, or the one line that identifies it.
func ParsePublicKey(text []byte) (PublicKey, error) {
	var key minisign.PublicKey
	if err := key.UnmarshalText([]byte(strings.TrimSpace(string(text)))); err != nil {
		return PublicKey{}, fmt.Errorf("not a public key of minisign: %w", err)
	}
	return PublicKey{key}, nil
}

// ID names a key as minisign prints it.
func (k PublicKey) ID() string { return keyID(k.key.ID()) }

// ID names the pair that the key belongs to.
func (k PrivateKey) ID() string { return keyID(k.key.ID()) }

func keyID(id uint64) string { return fmt.Sprintf("%016X", id) }

// Sign signs the bytes of a statement. The run and its outcome stand in the trusted comment too, so that `minisign -V` shows them.
func (k PrivateKey) Sign(text []byte, s Statement) []byte {
	return k.SignText(text, fmt.Sprintf("timestamp:%d\trun:%s\toutcome:%s\thead:%s", s.Made.Unix(), s.Run, s.Outcome, s.Head))
}

// SignText signs any text; the comment, one line, is signed with it and shown by minisign -V.
func (k PrivateKey) SignText(text []byte, comment string) []byte {
	return append(minisign.SignWithComments(k.key, text, comment, "signature of firedrill by key "+k.ID()), '\n')
}

// Signer says by which key a signature claims to have been made: a claim, until Verify has said so.
func Signer(signature []byte) (string, error) {
	parsed, err := parse(signature)
	if err != nil {
		return "", err
	}
	return keyID(parsed.KeyID), nil
}

// parse reads a signature, and refuses every way to write it but the one. The last letter of base64 has bits that say nothing (RFC 4648, 3.5):
// with them one signature could be written in several ways, and a changed file would be told to be the one that was signed.
func parse(signature []byte) (minisign.Signature, error) {
	var parsed minisign.Signature
	err := parsed.UnmarshalText(signature)
	if err == nil && !hooks.lenient {
		var again []byte
		if again, err = parsed.MarshalText(); err == nil && !slices.Equal(lines(again), lines(signature)) {
			err = errors.New("it is not written as minisign writes it")
		}
	}
	if err != nil {
		return parsed, fmt.Errorf("%s is no signature of minisign: %w", SignatureName, err)
	}
	return parsed, nil
}

// lines of a text, however they end.
func lines(text []byte) []string {
	var all []string
	for line := range strings.Lines(strings.TrimRight(string(text), "\r\n")) {
		all = append(all, strings.TrimRight(line, "\r\n"))
	}
	return all
}

// hooks are the planted bugs of tests.
var hooks struct{ lenient bool } // planted: bits that say nothing are passed over

// Verify returns nil only if the key signed exactly these bytes.
func (k PublicKey) Verify(text, signature []byte) error {
	claimed, err := Signer(signature)
	if err != nil {
		return err
	}
	if claimed != k.ID() {
		return fmt.Errorf("it was signed by key %s, not by %s", claimed, k.ID())
	}
	if !minisign.Verify(k.key, text, signature) {
		return fmt.Errorf("the signature by key %s does not fit: %s or %s was changed", claimed, FileName, SignatureName)
	}
	return nil
}
