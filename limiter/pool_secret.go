package limiter

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
)

// Secret is a credential that cannot be printed by accident. Whatever formats, marshals or logs it sees its
// fingerprint; only Reveal returns the credential. The zero Secret holds none.
//
// Secrets may be shared. Two of them are == only when one is a copy of the other; see Equal.
type Secret struct {
	// What is behind a pointer and a function is out of reach for fmt and for printers that look
	// at unexported fields, also when the Secret lies in somebody else's unexported field.
	m *material
}

type material struct {
	fingerprint string
	sum         [sha256.Size]byte
	reveal      func() string
}

// NewSecret returns a Secret that holds credential.
func NewSecret(credential string) Secret {
	sum := sha256.Sum256([]byte(credential))
	return Secret{&material{
		fingerprint: "key:" + hex.EncodeToString(sum[:4]),
		sum:         sum,
		reveal:      func() string { return credential },
	}}
}

// Reveal returns the credential itself, empty for the zero Secret. It is for the one place that sends it.
func (s Secret) Reveal() string {
	if s.m == nil {
		return ""
	}
	return s.m.reveal()
}

// Fingerprint returns what names the credential in logs, metrics and errors: "key:" and the first 8
// hexadecimal digits of its SHA-256. The zero Secret has "key:none".
func (s Secret) Fingerprint() string {
	if s.m == nil {
		return "key:none"
	}
	return s.m.fingerprint
}

// Equal reports whether s and t hold the same credential.
func (s Secret) Equal(t Secret) bool {
	if s.m == nil || t.m == nil {
		return s.m == t.m
	}
	return s.m.sum == t.m.sum
}

// String returns the fingerprint.
func (s Secret) String() string { return s.Fingerprint() }

// GoString returns the fingerprint.
func (s Secret) GoString() string { return s.Fingerprint() }

// Format writes the fingerprint, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.Fingerprint()) }

// MarshalText returns the fingerprint.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.Fingerprint()), nil }

// MarshalJSON returns the fingerprint as a string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.Fingerprint() + `"`), nil }

// LogValue returns the fingerprint.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.Fingerprint()) }
