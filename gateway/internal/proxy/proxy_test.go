package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/gateway/internal/settings"
)

// What calls to an upstream are sent with stays while its limit does, and goes with the limit and with the upstream.
func TestTransports(t *testing.T) {
	file := filepath.Join(t.TempDir(), "limits.toml")
	parse := func(text string) *settings.Settings {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := settings.Parse(file, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	two := func(limit int) string {
		return fmt.Sprintf("[upstream.a]\nbase_url='http://127.0.0.1:1'\nmax_limit=%d\n[upstream.b]\nbase_url='http://127.0.0.1:1'\n", limit)
	}
	s := parse(two(10))
	limits, err := config.NewReloaderFunc(file, func(name string, data []byte) (*config.File, error) {
		n, err := settings.Parse(name, data)
		if err != nil {
			return nil, err
		}
		return n.Limits, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(s, Config{Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	a, b := p.transports["a"].Transport, p.transports["b"].Transport
	for i := range 5 {
		if err := p.Use(parse(two(20 + i))); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.transports) != 2 || p.transports["a"].Transport == a || p.transports["b"].Transport != b {
		t.Errorf("after five limits of one upstream: %v, before: %p and %p", p.transports, a, b)
	}
	if err := p.Use(parse("[upstream.b]\nbase_url='http://127.0.0.1:1'\n")); err != nil {
		t.Fatal(err)
	}
	if len(p.transports) != 1 || p.transports["b"].Transport != b {
		t.Errorf("after an upstream has gone: %v", p.transports)
	}
}
