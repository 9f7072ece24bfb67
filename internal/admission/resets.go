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
	limit           int64
	soonest, latest time.Duration // between which it is, as told first, or since it moved last
	moves           uint8
}

// note learns from what an answer told of which the call started at sent (Untimed when nobody knows) and ended at now. It was told in between, long before
// now where the answer came as a stream, so a reset has moved where it must have, whenever that was.
func (r *resets) note(sent, now time.Duration, w *feedback.Window) {
	if w.Limit <= 0 || w.Reset < 0 || w.Reset > maxGate || int(w.Kind) >= len(r) {
		return
	}
	if sent < 0 || sent > now {
		sent = now
	}
	known, soonest, latest := &r[w.Kind], sent+w.Reset, now+w.Reset
	switch {
	case known.limit != w.Limit:
		known.limit, known.moves = w.Limit, 0
	case now >= known.soonest-resetSlack: // it may have passed, or is about to
	case soonest > known.latest+resetSlack:
		known.moves = min(known.moves+1, resetMoves)
	default:
		return
	}
	known.soonest, known.latest = soonest, latest
}

// ends reports whether the delay of o may be when windows end: that of one that is used up is not known to move.
func (r *resets) ends(o *adaptive.Outcome) bool {
	moves := false
	for i := range o.Windows {
		w := &o.Windows[i]
		if w.Remaining != 0 || w.Reset <= 0 {
			continue
		}
		if int(w.Kind) >= len(r) || r[w.Kind].moves < resetMoves || r[w.Kind].limit != w.Limit {
			return true
		}
		moves = true
	}
	return !moves // whoever names a delay and no window of which it is the end is believed
}

// Heeds reports whether the delay that o names is to be waited for: not one that is only told by when a quota that refills is full again. It needs the lock.
func (c *Core) Heeds(o *adaptive.Outcome) bool {
	s := c.state
	return o.HasRetryAfter && (!o.UntilReset || s == nil || s.resets == nil || s.resets.ends(o))
}
