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
	ended  uint64        // calls that had ended well by then
	flying int32         // calls in flight then, which may have been accepted long before
	row    int32
}

// Absurd reports whether the delay that o names is not believed where the longest pause is maxPause (0: any is). A quota that is gone for the day
// names the day, and is believed.
func Absurd(o *adaptive.Outcome, maxPause time.Duration) bool {
	return o.HasRetryAfter && maxPause > 0 && o.RetryAfter > maxPause && o.Class != feedback.QuotaExhausted && o.Scope != feedback.ScopeDaily
}

// disbelieve notes a refusal with a delay that is not believed, of a call that started at sent, and returns for how long nothing starts: 0 for the
// first since a call was accepted, of ended calls that ended well and flying that are in flight. Of calls that are refused together one counts.
func (a *absurd) disbelieve(now, sent time.Duration, ended uint64, flying int, longest time.Duration) time.Duration {
	if ended == 0 {
		return longest
	}
	switch {
	case a.row > 0 && sent <= a.at:
		return 0
	case ended-a.ended > uint64(a.flying):
		a.row = 0
	}
	a.at, a.ended, a.flying = now, ended, int32(min(max(flying, 0), 1<<30))
	a.row = min(a.row+1, 40)
	if a.row == 1 {
		return 0
	}
	return min(firstAbsurd<<min(a.row-2, 30), longest)
}
