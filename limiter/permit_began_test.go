package limiter

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// A call whose answer has begun may end in any way: the guard is idle afterwards, and goes on to serve.
func TestBeganThenAnyEnd(t *testing.T) {
	ends := []struct {
		name string
		end  func(p *Permit)
	}{
		{"well", func(p *Permit) { p.Release(Outcome{}) }},
		{"well with tokens", func(p *Permit) { p.Release(Outcome{InputTokens: 10, OutputTokens: 20}) }},
		{"refused", func(p *Permit) { p.Release(Outcome{Class: feedback.Throttled}) }},
		{"canceled", func(p *Permit) { p.Release(Outcome{Class: feedback.Canceled}) }},
		{"timed out", func(p *Permit) { p.Release(Outcome{Class: feedback.Timeout}) }},
		{"abandoned", func(p *Permit) { p.Abandon() }},
	}
	guards := []struct {
		name string
		cfg  Config
	}{
		{"plain", Config{}},
		{"observed", Config{Observe: true}},
		{"watched", Config{MaxHold: time.Hour, WatchOneIn: 1}},
		{"AIMD", Config{Law: adaptive.NewAIMD(adaptive.Config{})}},
	}
	for _, guard := range guards {
		for _, end := range ends {
			t.Run(fmt.Sprintf("%s, %s", guard.name, end.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g, err := New(guard.cfg)
					if err != nil {
						t.Fatal(err)
					}
					defer g.Close()
					served := 0
					for range 30 {
						ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
						p, err := g.Acquire(ctx, Request{Tokens: 5})
						cancel()
						var refused *RejectedError
						if errors.As(err, &refused) {
							continue // after refusals the law holds callers back
						}
						if err != nil {
							t.Fatal(err)
						}
						served++
						time.Sleep(10 * time.Millisecond)
						p.Began()
						p.Began() // tells nothing new
						time.Sleep(10 * time.Millisecond)
						end.end(&p)
						if p.Held() {
							t.Fatal("the permit is held after its end")
						}
					}
					if served < 5 {
						t.Errorf("%d calls served, want most", served)
					}
					wantIdle(t, g)
				})
			})
		}
	}
}
