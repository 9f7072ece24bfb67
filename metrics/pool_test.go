package metrics

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

func newPool(t testing.TB, name string, keys ...string) *limiter.Pool {
	t.Helper()
	cfg := limiter.PoolConfig{
		Guard:  limiter.Config{Name: name, Seed: 1, MaxWait: time.Minute, PauseJitter: -1},
		NewLaw: func() adaptive.Law { return adaptive.NewFixed(1) },
	}
	for _, k := range keys {
		cfg.Keys = append(cfg.Keys, limiter.NewSecret(k))
	}
	p, err := limiter.NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func withKey(t testing.TB, p *limiter.Pool) *limiter.KeyPermit {
	t.Helper()
	permit, err := p.Acquire(context.Background(), limiter.Request{})
	if err != nil {
		t.Fatal(err)
	}
	return &permit
}

// What happens to a pool is on the page, by fingerprints, and no key is.
func TestPoolHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := newPool(t, "chat", "sk-secret-one", "sk-secret-two")
		m := New()
		if err := m.RegisterPool(pool); err != nil {
			t.Fatal(err)
		}
		a, b := withKey(t, pool), withKey(t, pool)
		ofA, ofB := a.Key(), b.Key()
		go func() {
			c := withKey(t, pool) // waits for 100 ms
			time.Sleep(time.Millisecond)
			c.Release(limiter.Outcome{}, limiter.KeyFine)
		}()
		synctest.Wait()
		e := mustParse(t, read(t, m))
		for name, want := range map[string]float64{
			"flyball_pool_in_flight": 2, "flyball_pool_waiting": 1, "flyball_pool_keys": 2, "flyball_pool_keys_in_service": 2,
		} {
			if got := e.value(t, name, "pool", "chat"); got != want {
				t.Errorf("%s = %v, want %v", name, got, want)
			}
		}
		time.Sleep(100 * time.Millisecond)
		a.Release(limiter.Outcome{}, limiter.KeyFine)
		time.Sleep(time.Second)
		b.Release(limiter.Outcome{Class: feedback.ClientError}, limiter.KeyUnauthorized)
		c := withKey(t, pool)
		c.Release(limiter.Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 5 * time.Minute}, limiter.KeyFine) // max_pause
		if _, err := pool.Acquire(context.Background(), limiter.Request{}); err == nil {
			t.Fatal("a pool without a key let a call in")
		}
		text := read(t, m)
		e = mustParse(t, text)
		for _, c := range []struct {
			name, label, value string
			want               float64
		}{
			{"flyball_key_served_total", "key", ofA, 2},
			{"flyball_key_served_total", "key", ofB, 0},
			{"flyball_key_faults_total", "key", ofB, 1},
			{"flyball_key_in_service", "key", ofA, 1},
			{"flyball_key_in_service", "key", ofB, 0},
			{"flyball_key_limit", "key", ofA, 1},
			{"flyball_key_in_flight", "key", ofA, 0},
			{"flyball_key_pause_remaining_seconds", "key", ofA, 300},
			{"flyball_key_probes_total", "key", ofB, 0},
			{"flyball_pool_refusals_total", "reason", "paused", 1},
			{"flyball_pool_wait_seconds_count", "", "", 1},
			{"flyball_pool_wait_seconds_sum", "", "", 0.1},
			{"flyball_pool_wait_reason_seconds_count", "why", "limit", 1},
		} {
			labels := []string{"pool", "chat"}
			if c.label != "" {
				labels = append(labels, c.label, c.value)
			}
			if got := e.value(t, c.name, labels...); got != c.want {
				t.Errorf("%s%v = %v, want %v", c.name, labels, got, c.want)
			}
		}
		if strings.Contains(text, "secret") {
			t.Errorf("a key is on the page:\n%s", text)
		}
	})
}

// Guards and pools have names apart, and pools come and go.
func TestRegisterPool(t *testing.T) {
	m := New()
	pool, other := newPool(t, "x", "a"), newPool(t, "x", "b")
	mustRegister(t, m, newGuard(t, limiter.Config{Name: "x"}))
	if err := m.RegisterPool(pool); err != nil {
		t.Fatal(err)
	}
	var twice *DuplicateError
	if err := m.RegisterPool(other); !errors.As(err, &twice) || !twice.Pool || twice.Guard != "x" || !strings.Contains(err.Error(), "a pool named") {
		t.Errorf("a second pool of a name: %v", err)
	}
	for _, g := range pool.Guards() {
		mustRegister(t, m, g)
	}
	mustParse(t, read(t, m))
	if m.UnregisterPool(other) || !m.UnregisterPool(pool) || m.UnregisterPool(pool) {
		t.Error("a pool is taken out by itself, once")
	}
	if text := read(t, m); strings.Contains(text, "pool=") {
		t.Errorf("a pool that was taken out is on the page:\n%s", text)
	}
}
