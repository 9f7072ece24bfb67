package limiter

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// An upstream swallows all that it has, and answers again after 20 s. Its callers give up after ten minutes; the guard is not shut for so long.
func TestUpstreamThatSwallowsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g, err := New(Config{Name: "upstream", MaxWait: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		const from, to, patience = 60 * time.Second, 80 * time.Second, 10 * time.Minute
		var places atomic.Int64 // taken, of 20; those that hang have none
		begin, ended := time.Now(), make(chan time.Duration, 100_000)
		for range 60 { // callers
			go func() {
				for ctx.Err() == nil {
					p, err := g.Acquire(ctx, Request{})
					if err != nil {
						return
					}
					sent := time.Since(begin)
					took, outcome := time.Second, Outcome{}
					switch {
					case sent < to && sent+took > from:
						took, outcome = patience, Outcome{Class: feedback.Timeout}
					case places.Add(1) > 20:
						took, outcome = 10*time.Millisecond, Outcome{Class: feedback.Throttled}
					}
					select {
					case <-time.After(took):
					case <-ctx.Done():
					}
					if outcome.Class != feedback.Timeout {
						places.Add(-1)
					}
					p.Release(outcome)
					if outcome.Class == feedback.OK {
						ended <- time.Since(begin)
					}
				}
			}()
		}
		time.Sleep(4 * time.Minute)
		cancel()
		synctest.Wait()
		soon := 0
		for len(ended) > 0 {
			if at := <-ended; at > to+20*time.Second {
				soon++
			}
		}
		if soon < 2750 {
			t.Errorf("%d calls of 2800 from 20 s to 160 s after it answers again", soon)
		}
	})
}
