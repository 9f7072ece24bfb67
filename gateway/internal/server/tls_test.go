package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/settings"
)

// writePair writes a certificate and its key to files.
func writePair(t *testing.T, c tls.Certificate) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, typ string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", c.Certificate[0]), write("key.pem", "PRIVATE KEY", der)
}

// pairOf writes a certificate that is good until an instant.
func pairOf(t *testing.T, serial int64, until time.Time) (cert, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	return writePair(t, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: secret})
}

// Callers turn away from a certificate that has expired, so the log says so, also when nobody renewed it while the gateway runs.
func TestCertificateExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, key := pairOf(t, 1, time.Now().Add(90*time.Second))
		var log bytes.Buffer
		c, err := newCertificate(settings.TLS{Cert: cert, Key: key}, slog.New(slog.NewJSONHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []bool{false, true} {
			time.Sleep(certificateAge)
			if _, err := c.get(nil); err != nil || strings.Contains(log.String(), "has expired") != want {
				t.Errorf("after %v: %v, and the log says %q", time.Now(), err, log.String())
			}
		}
	})
}

// A gateway without its certificate does not start, and says so as of any other mistake in its file.
func TestNoCertificate(t *testing.T) {
	file := write(t, "[upstream.up]\nbase_url='http://127.0.0.1:1'\n[gateway.tls]\ncert='/no/cert'\nkey='/no/key'\n")
	if _, err := New(Options{Config: file, Listen: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), "gateway.tls: open /no/cert") {
		t.Errorf("New without a certificate: %v", err)
	}
}

// A certificate that is renewed in place is shown a minute later at the latest. One that is half written is not, and the log says so.
func TestCertificateIsRenewed(t *testing.T) {
	copyOver := func(to, from string) {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ends := time.Now().AddDate(1, 0, 0)
	cert, key := pairOf(t, 1, ends)
	newCert, newKey := pairOf(t, 2, ends)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c, err := newCertificate(settings.TLS{Cert: cert, Key: key}, slog.New(slog.NewJSONHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		shown := func(want int64) {
			t.Helper()
			time.Sleep(certificateAge)
			got, err := c.get(nil)
			if err != nil || got.Leaf.SerialNumber.Int64() != want {
				t.Errorf("shown is the certificate %v, %v; want %d", got.Leaf.SerialNumber, err, want)
			}
		}
		shown(1)
		copyOver(cert, newCert) // and the key is the old one still
		shown(1)
		if !strings.Contains(log.String(), "private key does not match") {
			t.Errorf("the log does not say why: %s", log.String())
		}
		copyOver(key, newKey)
		shown(2)
	})
	if _, err := newCertificate(settings.TLS{Cert: cert, Key: cert}, slog.Default()); err == nil {
		t.Error("a start without a key is no error")
	}
}
