package sim

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/event"
)

// A key without quota is probed after the delay that its refusal names, and once a day when that is longer, as limiter.Pool does.
func TestLongOutageOfKey(t *testing.T) {
	for _, test := range []struct{ after, want time.Duration }{
		{time.Hour, time.Hour},
		{31 * 24 * time.Hour, 24 * time.Hour},
		{1<<63 - 1, 24 * time.Hour},
	} {
		var p pool
		var l lane
		const now = time.Minute
		p.judge(now, &l, &admission.Waiter{}, &adaptive.Outcome{Class: feedback.QuotaExhausted, HasRetryAfter: true, RetryAfter: test.after}, false)
		if got := time.Duration(l.until) - now; !l.out || got != test.want {
			t.Errorf("a delay of %v keeps a key out for %v (out: %v), want %v", test.after, got, l.out, test.want)
		}
	}
}

// Keys that fail come last, and the one with most room first, also after one that is paused and lets nothing start: as with limiter.Pool.
func TestPoolOfKeysThatComeLast(t *testing.T) {
	guards := make([]guarded, 4)
	for i, limit := range []int{20, 20, 10, 20} {
		guards[i].core.Init(&admission.Config{Law: adaptive.NewFixed(limit), MaxPause: time.Hour})
	}
	guards[0].core.Pause(0, time.Hour)
	p := &pool{choice: func(*admission.Waiter) int { return anyKey }}
	p.init(&Guard{}, guards, &event.Queue{}, 0)
	for i := range p.lanes[1:] {
		p.lanes[i+1].lastTill = int64(time.Hour)
	}
	var calls [4]int
	for range 25 {
		k, _ := p.try(time.Second, &admission.Waiter{})
		if k < 0 {
			t.Fatal("no key lets a call start")
		}
		calls[k]++
	}
	if want := [4]int{0, 10, 5, 10}; calls != want {
		t.Errorf("calls with the keys: %v, want %v", calls, want)
	}
}
