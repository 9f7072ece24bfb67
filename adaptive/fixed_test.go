package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

func TestFixedNeverChangesItsMind(t *testing.T) {
	for _, test := range []struct{ limit, want int }{{-1, 1}, {0, 1}, {1, 1}, {64, 64}} {
		l := NewFixed(test.limit)
		want := Decision{Limit: test.want, Cause: CauseExternal, AskAgain: never}
		for name, got := range map[string]Decision{
			"Decision": l.Decision(),
			"Window":   l.Window(time.Second, Window{OK: 1000, MaxInFlight: 64, Full: true}),
			"Ended":    l.Ended(time.Second, Call{InFlight: 64}, Outcome{Class: feedback.Throttled}),
			"Hint":     l.Hint(time.Second, feedback.Window{Kind: feedback.ScopeConcurrency, Limit: 5}),
		} {
			if got != want {
				t.Errorf("NewFixed(%d): %s returns %+v, want %+v", test.limit, name, got, want)
			}
		}
	}
}
