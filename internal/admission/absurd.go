package admission

import (
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// A delay beyond the longest pause is not believed where calls were accepted: upstreams say "a day" because of a burst that is over in a second. It says
// nothing, then, and the law alone answers the refusal. Unless it is so: while nothing is accepted any more, the guard asks again after 1 s, 2 s, 4 s
// and so on, up to the longest pause. Where nothing was ever accepted, it is the longest pause at once.
const firstAbsurd = time.Second

// absurd is a row of refusals with delays that are not believed.
type absurd struct {
	at     time.Duration // when the last of them came that counts
	well   uint64        // calls that had ended well by then
	ended  uint32        // calls that had ended in any way, as Slots.ended
	flying int32         // calls in flight then, which may have been accepted long before
	row    int32
}

// Absurd reports whether the delay that o names is not believed where the longest pause is maxPause (0: any is). A quota that is gone for the day
// names the day, and is believed.
func Absurd(o *adaptive.Outcome, maxPause time.Duration) bool {
	return o.HasRetryAfter && maxPause > 0 && o.RetryAfter > maxPause && o.Class != feedback.QuotaExhausted && o.Scope != feedback.ScopeDaily
}

// disbelieve notes a refusal with a delay that is not believed, of a call that started at sent, or at an instant that nobody knows (Untimed), and
// returns for how long nothing starts: 0 for the first since a call was accepted. well calls ended well so far, ended as Slots.ended, and
// flying are in flight. Of calls that are refused together one counts.
func (a *absurd) disbelieve(now, sent time.Duration, well uint64, ended uint32, flying int, longest time.Duration) time.Duration {
	if well == 0 {
		return longest
	}
	together := sent <= a.at
	if sent < 0 {
		together = int64((ended-a.ended)&countMask) < int64(a.flying) // it may have been one of those in flight
	}
	switch {
	case a.row > 0 && together:
		return 0
	case well-a.well > uint64(a.flying):
		a.row = 0
	}
	a.at, a.well, a.ended, a.flying = now, well, ended, int32(min(max(flying, 0), 1<<30))
	a.row = min(a.row+1, 40)
	if a.row == 1 {
		return 0
	}
	return min(firstAbsurd<<min(a.row-2, 30), longest)
}
