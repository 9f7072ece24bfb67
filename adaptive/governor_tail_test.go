package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Alone in flight a call is never one too many: a limit of one, as it is taken for beside a pace that was measured, is not what refuses, so the pace is measured. Else
// nothing would ever change: a refusal each two seconds, of which the delay is one, for as long as the process lives.
func TestGovernorAloneBesidePace(t *testing.T) {
	for open, bound := range map[bool]float64{false: 2, true: 1} {
		g := boundedAndPaced(bound, 1, 20)
		s := &g.s
		s.Limit, s.Open, s.Flow, s.Mean, s.LastPause, s.InFlight = 1, open, 20.5, 0.05, time.Second, 1
		s.PausedUntil, s.PausedSum = s.At-time.Second, time.Hour
		s.Pace[paceRequests] = PaceState{Rate: 22.2, Known: 25.9, Ceiling: 26, Measured: true, Use: 0.64, AnchorAt: s.At - 2100*time.Millisecond, AnchorCount: g.accepted() - 21, AnchorPaused: s.PausedSum - time.Second}
		g.Ended(s.At+time.Millisecond, Call{SentAt: s.At, InFlight: 1, Episode: s.Episode}, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown, HasRetryAfter: true, RetryAfter: time.Second})
		if p := s.Pace[paceRequests]; p.Rate >= 22.2 || p.Known == 25.9 {
			t.Errorf("the same trouble %v: the pace is still %v, the quota %v a second", open, p.Rate, p.Known)
		}
	}
}
