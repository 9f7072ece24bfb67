package httplimit

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// An upstream that begins to tell of limits is noticed: at once when its header has another number of fields or its
// calls are rare, and else within lookAgain. From then on every answer counts.
func TestLimitsAreNoticed(t *testing.T) {
	silent := []string{"Content-Type", "text/plain", "Date", "Mon, 23 Nov 2026 12:00:00 GMT", "X-A", "1", "X-B", "2"}
	telling := []string{"Content-Type", "text/plain", "Date", "Mon, 23 Nov 2026 12:00:00 GMT", "X-Ratelimit-Limit-Requests", "50", "X-Ratelimit-Remaining-Requests", "40"}
	for _, c := range []struct {
		name  string
		tells []string
		every time.Duration
		timed int
		most  int // calls until it is noticed
	}{
		{"as many fields, a busy upstream", telling, time.Millisecond, 1, 100},
		{"as many fields, 1 in 16 timed", telling, time.Millisecond, 16, 300},
		{"as many fields, an upstream called ten times a second", telling, 100 * time.Millisecond, 1, 1},
		{"more fields", append([]string{"X-C", "3"}, telling...), time.Millisecond, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				guard, err := limiter.New(limiter.Config{
					Law: adaptive.NewFixed(4), Seed: 1, TimeOneIn: c.timed,
					Budget: &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeRequests, Period: time.Minute}}},
				})
				if err != nil {
					t.Fatal(err)
				}
				fields := silent
				tr := New(roundTripper(func(*http.Request) (*http.Response, error) { return answer(200, "x", fields...), nil }), guard, Config{})
				call := func() int64 {
					resp, err := get(t, context.Background(), tr)
					if err != nil {
						t.Fatal(err)
					}
					_ = resp.Body.Close()
					time.Sleep(c.every)
					return guard.Explain(0).Budgets[0].Limit
				}
				for range 200 {
					if n := call(); n != 0 {
						t.Fatalf("a limit of %d that nobody told", n)
					}
				}
				fields = c.tells
				n := 1
				for ; call() == 0; n++ {
					if n > c.most {
						t.Fatalf("not noticed in %d calls", n)
					}
				}
				tr.habits.next.Store(int64(time.Since(tr.born) + time.Hour))
				fields = append(append([]string{}, c.tells...), "X-D", "4")
				for i, f := range fields {
					switch f {
					case "50":
						fields[i] = "30"
					case "40":
						fields[i] = "20"
					}
				}
				if n := call(); n != 30 {
					t.Errorf("once the upstream tells, a limit of %d, want 30 with the next answer", n)
				}
			})
		})
	}
}

// A refusal within a 200 is read whatever those before it told: its header, too, with as many fields as theirs.
func TestLimitsOfARefusalWithinA200(t *testing.T) {
	for _, c := range []struct{ contentType, body string }{
		{"application/json", `{"error":{"type":"rate_limit_error","message":"Rate limit reached"}}`},
		{"text/event-stream", "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"Rate limit reached\"}}\n\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			body, fields := `{}`, []string{"Content-Type", c.contentType, "X-A", "1", "X-B", "2"}
			tr := newTransport(t, 4, roundTripper(func(*http.Request) (*http.Response, error) { return answer(200, body, fields...), nil }),
				func(g *limiter.Config) {
					g.Retry.MaxAttempts = 1
					g.Budget = &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeRequests, Period: time.Minute}}}
				})
			call := func() {
				resp, err := get(t, context.Background(), tr)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			for range lookFirst + 1 {
				call()
			}
			body, fields = c.body, []string{"Content-Type", c.contentType, "X-Ratelimit-Limit-Requests", "50", "X-Ratelimit-Remaining-Requests", "0"}
			call()
			if n := tr.Guard().Stats().Counts.Outcomes[feedback.Throttled]; n != 1 {
				t.Fatalf("%s: %d calls were throttled, want 1", c.contentType, n)
			}
			if n := tr.Guard().Explain(0).Budgets[0].Limit; n != 50 {
				t.Errorf("%s: a limit of %d, want the 50 that the refusal told", c.contentType, n)
			}
		})
	}
}

// Calls at the same instant are not all walked through, and one of any number of goroutines is told to look.
func TestHabitsAreDueOnce(t *testing.T) {
	var h habits
	for range lookFirst {
		if !h.due(0) {
			t.Fatal("one of the first answers is not looked at")
		}
	}
	h.due(time.Second)
	var due atomic.Int32
	done := make(chan struct{})
	for range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 1000 {
				if h.due(2 * time.Second) {
					due.Add(1)
				}
			}
		}()
	}
	for range 8 {
		<-done
	}
	if due.Load() != 1 {
		t.Errorf("%d looked at one instant, want 1", due.Load())
	}
	if h.due(-1) || h.due(2*time.Second+lookAgain-1) || !h.due(2*time.Second+lookAgain) {
		t.Error("want the next look after lookAgain, and none for a call that was not timed")
	}
}
