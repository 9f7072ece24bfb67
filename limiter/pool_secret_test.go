package limiter

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestSecret(t *testing.T) {
	s := NewSecret("hello")
	// The SHA-256 of "hello" begins with 2cf24dba.
	if s.Fingerprint() != "key:2cf24dba" || s.Reveal() != "hello" || !s.Equal(NewSecret("hello")) || s.Equal(NewSecret("hell")) || s.Equal(Secret{}) {
		t.Errorf("fingerprint %s, reveals %s", s.Fingerprint(), s.Reveal())
	}
	if z := (Secret{}); z.Fingerprint() != "key:none" || z.Reveal() != "" || !z.Equal(Secret{}) || z.Equal(s) {
		t.Errorf("the zero Secret has %s, reveals %q", z.Fingerprint(), z.Reveal())
	}
	if b, err := json.Marshal(map[string]any{"a": s, "b": &s, "c": []Secret{s}}); string(b) != `{"a":"key:2cf24dba","b":"key:2cf24dba","c":["key:2cf24dba"]}` {
		t.Errorf("JSON %s, %v", b, err)
	}
	if got := fmt.Sprintf("%v %+v %#v %s %q %d", s, s, s, s, s, s); got != strings.TrimSpace(strings.Repeat("key:2cf24dba ", 6)) {
		t.Errorf("formatted: %s", got)
	}
}

// TestSecretIsNeverShown has every exported type that can hold a key printed in every way.
func TestSecretIsNeverShown(t *testing.T) {
	const word = "verysecret"
	keys := []Secret{NewSecret("sk-" + word + "-0"), NewSecret("sk-" + word + "-1")}
	cfg := PoolConfig{Guard: Config{Name: "test", Queue: -1}, Keys: keys}
	p, err := NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var events []KeyEvent
	p.OnKey(func(e KeyEvent) { events = append(events, e) })
	kp := takeKey(t, p)
	rot := p.Rotate(Request{}, true)
	other, err := rot.Acquire(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	busy := p.Stats()
	kp.Release(unauthorized, KeyUnauthorized)
	other.Release(brokeFor(time.Hour), KeyFine)
	_, _, again := rot.Again(context.Background(), &broke, KeyFine, false)
	_, refused := p.Acquire(context.Background(), Request{})
	if refused == nil || len(events) != 2 {
		t.Fatal(refused, events)
	}
	_, twice := NewPool(PoolConfig{Keys: []Secret{keys[0], NewSecret("sk-" + word + "-0"), NewSecret(word + "\n")}})
	done := p.Do(context.Background(), Request{}, func(context.Context, Secret) error { return nil })
	type theirs struct {
		Public  Secret
		Pointer *Secret
		private Secret
		deep    struct{ list []Secret }
	}
	mine := theirs{Public: keys[0], Pointer: &keys[0], private: keys[0]}
	mine.deep.list = keys

	var out bytes.Buffer
	handlers := []*slog.Logger{slog.New(slog.NewJSONHandler(&out, nil)), slog.New(slog.NewTextHandler(&out, nil))}
	for _, v := range []any{
		keys[0], &keys[0], keys, map[Secret]int{keys[0]: 1}, cfg, &cfg, p, kp, &kp, other, rot, &rot, busy, p.Stats(), p.Keys(), p.Keys()[0], events, events[0],
		refused, again, twice, done, p.Guards(), p.Guards()[0], p.Guards()[0].Stats(), mine, &mine, FailKey(KeyUnauthorized, errors.New("x")),
		KeyUnauthorized, LimitAccount, fmt.Errorf("wrapped: %w", refused), errors.Join(refused, twice),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		for _, l := range handlers {
			l.Info("x", "value", v, slog.Group("g", "value", v))
		}
		b, _ := json.Marshal(v)
		out.Write(b)
		b, _ = xml.Marshal(v)
		out.Write(b)
		_ = gob.NewEncoder(&out).Encode(v)
	}
	text := out.String()
	if !strings.Contains(text, keys[0].Fingerprint()) {
		t.Error("the fingerprint is not shown either")
	}
	for _, bad := range []string{word, fmt.Sprintf("%x", word), fmt.Sprintf("%X", word), strings.Trim(fmt.Sprintf("%d", []byte(word)), "[]")} {
		if strings.Contains(text, bad) {
			i := strings.Index(text, bad)
			t.Errorf("a key is shown: …%s…", text[max(0, i-200):min(len(text), i+50)])
		}
	}
}
