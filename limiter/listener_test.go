package limiter_test

import (
	"fmt"
	"strings"
	"testing"

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
