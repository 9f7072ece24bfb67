package limiter

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// A guard that nobody told the quota, of which bursts of callers ask, names it once its refusals tell.
func TestExplainNamesASlidingWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, func(c *Config) { c.Law, c.MaxWait = nil, time.Hour })
		const calls, length = 60, 30 * time.Second
		var mu sync.Mutex // of log
		var log []time.Time
		call := func() {
			for {
				p, err := g.Acquire(context.Background(), Request{})
				if err != nil {
					t.Error(err)
					return
				}
				now := time.Now()
				mu.Lock()
				for len(log) > 0 && now.Sub(log[0]) >= length {
					log = log[1:]
				}
				passes := len(log) < calls
				if passes {
					log = append(log, now)
				}
				mu.Unlock()
				if passes {
					time.Sleep(100 * time.Millisecond)
					p.Release(Outcome{})
					return
				}
				time.Sleep(10 * time.Millisecond)
				p.Release(Outcome{Class: feedback.Throttled})
			}
		}
		rng := rand.New(rand.NewPCG(1, 1))
		said := ""
		for i := 0; i < 100 && said == ""; i++ {
			for range 50 + rng.IntN(60) {
				go call()
			}
			time.Sleep(time.Duration(40+rng.IntN(40)) * time.Second)
			synctest.Wait()
			said = g.Explain(0).Quota
		}
		if !strings.HasSuffix(said, " in any 30 s") {
			t.Fatalf("it says %q of a quota of %d calls in any %v:\n%v", said, calls, length, g.Explain(0))
		}
		if want := "the upstream counts in windows, as its refusals tell: " + said; !strings.Contains(g.Explain(0).String(), want) {
			t.Errorf("Explain does not say %q:\n%v", want, g.Explain(0))
		}
		t.Log(g.Explain(0))
		time.Sleep(5 * time.Minute)
		wantIdle(t, g)
	})
}
