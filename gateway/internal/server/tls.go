package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/settings"
)

// certificate is what callers are shown. Whoever renews it writes its files in place, so they are read again.
type certificate struct {
	files settings.TLS
	log   *slog.Logger
	shown atomic.Pointer[tls.Certificate]

	mu   sync.Mutex // held by whoever reads the files
	read time.Time
}

// certificateAge is how long after one reading of the files the next one is, when somebody connects.
const certificateAge = time.Minute

// newCertificate reads the files.
func newCertificate(files settings.TLS, log *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, log: log, read: time.Now()}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("gateway.tls: %w", err)
	}
	return c, nil
}

func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return err
	}
	c.shown.Store(&pair)
	if end := pair.Leaf.NotAfter; time.Now().After(end) { // callers turn away, of which nobody here would hear
		c.log.Error("the certificate has expired: renew it in its files", "file", c.files.Cert, "expired", end.UTC().Format(time.RFC3339))
	}
	return nil
}

// get is for tls.Config.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		if now := time.Now(); now.Sub(c.read) >= certificateAge {
			c.read = now
			if err := c.load(); err != nil { // one of two files is new, say
				c.log.Error("the certificate cannot be read again, the old one stays", "error", err)
			}
		}
	}
	return c.shown.Load(), nil
}
