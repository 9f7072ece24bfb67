package limiter_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/limiter"
)

// Who passes a nil listener is told, not the caller that would have called it later.
func TestNilListenerPanics(t *testing.T) {
	guard, err := limiter.New(limiter.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := limiter.NewPool(limiter.PoolConfig{Keys: []limiter.Secret{limiter.NewSecret("credential-a")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, listen := range map[string]func(){
		"OnDecision": func() { guard.OnDecision(nil) },
		"OnLeak":     func() { guard.OnLeak(nil) },
		"OnKey":      func() { pool.OnKey(nil) },
	} {
		func() {
			defer func() {
				if r := fmt.Sprint(recover()); !strings.HasPrefix(r, "limiter: "+name) {
					t.Errorf("%s(nil): panic %s, want one of limiter", name, r)
				}
			}()
			listen()
		}()
	}
}

// Who has stopped is told no more, and others are. Else listeners of those who come and go would stay with the guard.
func TestListenersStop(t *testing.T) {
	guard, err := limiter.New(limiter.Config{})
	if err != nil {
		t.Fatal(err)
	}
	first, second := 0, 0
	var stop func()
	stop = guard.OnDecision(func(limiter.Decision) {
		first++
		stop()
	})
	guard.OnDecision(func(limiter.Decision) { second++ })
	for limit := range 3 {
		if err := guard.Reload(limiter.Config{Law: adaptive.NewFixed(limit + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if first != 1 || second != 3 {
		t.Errorf("who has stopped was told %d times, who has not %d times, want 1 and 3", first, second)
	}

	pool, err := limiter.NewPool(limiter.PoolConfig{Keys: []limiter.Secret{limiter.NewSecret("credential-a"), limiter.NewSecret("credential-b")}})
	if err != nil {
		t.Fatal(err)
	}
	first, second = 0, 0
	stop = pool.OnKey(func(limiter.KeyEvent) { first++ })
	pool.OnKey(func(limiter.KeyEvent) { second++ })
	for range 2 {
		p, err := pool.Acquire(context.Background(), limiter.Request{})
		if err != nil {
			t.Fatal(err)
		}
		p.Release(limiter.Outcome{}, limiter.KeyUnauthorized)
		stop()
	}
	if first != 1 || second != 2 {
		t.Errorf("who has stopped was told %d times, who has not %d times, want 1 and 2", first, second)
	}
}

// A permit that was never acquired has no key, and says so.
func TestKeyOfNoPermit(t *testing.T) {
	for name, ask := range map[string]func(*limiter.KeyPermit){
		"Secret": func(p *limiter.KeyPermit) { p.Secret() },
		"Key":    func(p *limiter.KeyPermit) { _ = p.Key() },
	} {
		func() {
			defer func() {
				if r := fmt.Sprint(recover()); !strings.HasPrefix(r, "limiter: "+name) {
					t.Errorf("%s of no permit: panic %s, want one of limiter", name, r)
				}
			}()
			ask(new(limiter.KeyPermit))
		}()
	}
}
