package sim

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
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
