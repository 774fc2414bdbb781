package control

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
)

// identityFile is where it lies in the directory.
const identityFile = "identity.json"

// certificateYears is how long the certificate holds. It is known by its key, so what an authority would look at matters little.
const certificateYears = 20

// identity is what makes a control plane the same after a restart. Its file is its owner's alone: who reads it can order.
type identity struct {
	Fleet       string `json:"fleet"`
	OrderSeed   []byte `json:"order_seed"`
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"`

	Alone bool `json:"alone,omitempty"` // one server keeps what the fleet has, in its own directory

	Turn uint64 `json:"turn,omitempty"` // how often one of its keys was replaced

	OrderSerial uint64    `json:"order_serial,omitempty"`
	OrderSince  time.Time `json:"order_since,omitzero"`
	Handovers   [][]byte  `json:"handovers,omitempty"`         // the oldest first
	OrderBefore []byte    `json:"order_seed_before,omitempty"` // seed of the key before, until OrderEnds
	OrderEnds   time.Time `json:"order_before_ends,omitzero"`

	Chain   [][]byte  `json:"chain,omitempty"` // certificates that came before, the newest first
	PinEnds time.Time `json:"pin_before_ends,omitzero"`
}

// loadIdentity reads the identity of a directory, or makes one.
func loadIdentity(directory string) (identity, error) {
	path := filepath.Join(directory, identityFile)
	var id identity
	info, err := os.Stat(path)
	switch {
	case err == nil && info.Mode().Perm()&0o077 != 0:
		return id, &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: fmt.Errorf("%s may be read by others", path), Hint: "chmod 600 " + path + ", and think of it as known"}
	case err == nil:
		if err := durable.Load(path, &id); err != nil {
			return id, &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: err, Hint: "bring it back from a backup: without it no agent trusts this server"}
		}
		if id.Fleet == "" || len(id.OrderSeed) != ed25519.SeedSize {
			return id, &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: fmt.Errorf("%s is not whole", path), Hint: "bring it back from a backup"}
		}
		return id, nil
	case !errors.Is(err, os.ErrNotExist):
		return id, err
	}
	id.Fleet = uuid.NewString()
	id.OrderSeed = make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(id.OrderSeed); err != nil {
		return id, err
	}
	if id.Certificate, id.Key, err = newCertificate(id.Fleet, nil, nil); err != nil {
		return id, err
	}
	return id, durable.Save(path, id)
}

// newCertificate makes a key and its certificate, which the key before signs, if there was one.
func newCertificate(name string, before *x509.Certificate, signer any) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "firedrill " + name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(certificateYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if before == nil {
		before, signer = &template, private
	}
	certificate, err = x509.CreateCertificate(rand.Reader, &template, before, private.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	key, err = x509.MarshalPKCS8PrivateKey(private)
	return certificate, key, err
}

func (id identity) orderKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(id.OrderSeed) }

// shown is what the server is known by, with all that it was known by before: who knows one of those can follow.
func (id identity) shown() (certificate *tls.Certificate, pin string, err error) {
	leaf, err := x509.ParseCertificate(id.Certificate)
	if err != nil {
		return nil, "", err
	}
	key, err := x509.ParsePKCS8PrivateKey(id.Key)
	if err != nil {
		return nil, "", err
	}
	return &tls.Certificate{Certificate: append([][]byte{id.Certificate}, id.Chain...), PrivateKey: key, Leaf: leaf}, fleet.Pin(leaf), nil
}

// orderPublic is the last half of the private key.
func (id identity) orderPublic() []byte { return id.orderKey()[ed25519.SeedSize:] }
