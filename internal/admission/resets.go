package admission

import (
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// Of a quota that is used up an answer may tell nothing but its reset. Of a window, which ends, no call fits before it; of a quota that refills all the
// time, or counts back from each call, that is when all of it is there again, and a call fits long before. Answers tell which: the end of a window
// stays where it is until it has passed.
const (
	// resetSlack is by how much a reset that stays where it is may seem to move: dates are in whole seconds, and come by two clocks.
	resetSlack = 2 * time.Second
	// resetMoves is how often a reset must have moved before it had passed to be no window's end.
	resetMoves = 3
)

// resets is what is known of the resets of quotas, by what they count.
type resets [feedback.NumScopes]struct {
	limit int64
	at    time.Duration // when it was told first, or since it moved last
	moves uint8
}

// note learns from what an answer tells at now.
func (r *resets) note(now time.Duration, w *feedback.Window) {
	if w.Limit <= 0 || w.Reset < 0 || w.Reset > maxGate || int(w.Kind) >= len(r) {
		return
	}
	known, at := &r[w.Kind], now+w.Reset
	switch {
	case known.limit != w.Limit:
		known.limit, known.at, known.moves = w.Limit, at, 0
	case now >= known.at-resetSlack:
		known.at = at // it has passed, or is about to
	case at > known.at+resetSlack:
		known.at, known.moves = at, min(known.moves+1, resetMoves)
	}
}

// ends reports whether the delay of o may be when windows end: that of one that is used up is not known to move.
func (r *resets) ends(o *adaptive.Outcome) bool {
	for i := range o.Windows {
		w := &o.Windows[i]
		if w.Remaining == 0 && w.Reset > 0 && (int(w.Kind) >= len(r) || r[w.Kind].moves < resetMoves || r[w.Kind].limit != w.Limit) {
			return true
		}
	}
	return false
}

// Heeds reports whether the delay that o names is to be waited for: not one that is only told by when a quota that refills is full again. It needs the lock.
func (c *Core) Heeds(o *adaptive.Outcome) bool {
	return o.HasRetryAfter && (!o.UntilReset || c.resets == nil || c.resets.ends(o))
}
