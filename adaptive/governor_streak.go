package adaptive

import (
	"math"
	"time"
)

// Refusals in a row, with nothing accepted in between: the upstream is asked less and less often.

const (
	// outageRow is how many answers in a row that say that the upstream lacks capacity, with nothing accepted in between, are an
	// outage, and outageShare the part of it, from its end, that may be missed because nobody asked.
	outageRow, outageShare = 3, 16
	// outageReturn is the share of what was good before an outage, of calls in flight and of starts a second, that the return begins with.
	outageReturn = 0.5
)

// boldRow is up to which hold a row of refusals triples its age with each while nothing is known of a quota.
const boldRow = 1700 * time.Millisecond

// longestHold is how long nothing starts at most after a row of refusals.
const longestHold = 30 * time.Second

// streak notes one more fresh refusal, and holds back when there is a row of them with nothing accepted in between.
func (g *Governor) streak(t time.Duration, overloaded bool) {
	s := &g.s
	s.Streak = min(s.Streak, math.MaxInt16-1) + 1
	s.DarkGap, s.DarkLast, s.DarkOverload = t-s.DarkLast, t, overloaded
	if s.Streak == 1 {
		s.DarkSince, s.Turn.Dark = t, g.accepted()
		if !s.Open {
			s.Memory = float32(s.Limit)
		}
		return
	}
	s.Charged = s.Charged || s.Streak == 2 && s.Probed && !overloaded
	base := min(max(s.Latency/8, 5*time.Millisecond), 150*time.Millisecond)
	hold := base
	quota := s.Pace[paceRequests].Rate > 0 && !overloaded && !s.Limiting
	for i := 2; i < min(int(s.Streak), 40) && hold < time.Minute; i++ {
		hold += hold / 2
		if quota && i > outageRow {
			hold += hold / 3 // twice as long
		}
	}
	// A quota may charge for being asked, so it is asked less and less often. From an outage the return should be quick.
	share, most := time.Duration(3), longestHold
	switch {
	case overloaded:
		share, most = outageShare, 5*time.Second
	case quota:
		share = 2 // a window may be long, and what it counts can be had in its rest
	}
	hold = min(hold, max(base, (t-s.DarkSince)/share), most)
	if quota {
		if s.InFlight == 0 && !s.Pace[paceRequests].Measured {
			hold = max(hold, min(t-s.DarkSince, most)) // nothing passes alone: what comes back is slow, and nobody knows how slow
		}
		if !s.Pace[paceRequests].Measured {
			// Nor how slow it is: until a row has lasted for some time each try finds a quota of three times less.
			hold = max(hold, min(2*(t-s.DarkSince), boldRow))
		}
		hold = max(hold, g.untilTurn(t)/2)
	}
	s.HoldUntil = max(s.HoldUntil, after(t, hold))
}

// surelyRefused is how many times the mean of what a refusal takes one takes once in a thousand times, where they differ as exponentials do: some ten are waited for in a row.
const surelyRefused = 6.9

// tooSoon reports whether what could start when the hold of a row of refusals was over started so short a time before t that a refusal of it may not be known yet.
func (g *Governor) tooSoon(t time.Duration) bool {
	s := &g.s
	return (t - s.HoldUntil).Seconds() < surelyRefused*float64(s.RefusalTime)
}
