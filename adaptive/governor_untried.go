package adaptive

import (
	"math"
	"time"
)

// A pause counts how many places there are at least, and the refusal before it says how many are too many. Between the two lies what was never refused: a call that was on
// its way then is in flight here and has no place there. Of few places one is much of what can be had, so what lies between is tried, call by call.

const (
	// fewest is the limit below which one call more, that went well lately, is tried although no refusal can be afforded, once fewTry times the square of the limit have ended well:
	// it is half of the limit, or as much again. From three on that is more calls than earn a refusal.
	fewest, fewTry = 3.0, 12.0
)

// moreWentWell reports whether the limit is so low that one call more is much of it, and as many went well lately: what refused then was hardly that limit.
func (g *Governor) moreWentWell() bool {
	s := &g.s
	w := math.Floor(s.Limit + limitSlack)
	return w < fewest && float64(s.Peak) > w+0.5 && s.At >= s.ProbeAt
}

// untried returns how many calls more than the limit allows were never refused, where few places were counted; 0: none, or all places are known to have been taken.
func (g *Governor) untried() float64 {
	s := &g.s
	w := math.Floor(s.Limit + limitSlack)
	if s.Places == 0 || s.Least == 0 || w >= nearestBelow {
		return 0
	}
	return max(0, s.Bound-1-w)
}

// untriedWait returns how long as many calls as the limit allows are left as they are while room calls more were never refused. Each number from here to there is as
// likely to be that of the places, so one call more is refused once in room + 1 times, which costs a pause, and else gains its share of what passes. After so long
// as much was lost by not trying it as a try costs.
func (g *Governor) untriedWait(room float64) time.Duration {
	s := &g.s
	return time.Duration(min(1e9*g.pauseCost(s.LastPause)*s.Limit/room, float64(time.Hour)))
}

// tryUntried returns by how much the limit rises now towards what was never refused, room calls more. What it leaves went well for as long: there are as many places.
func (g *Governor) tryUntried(room float64) float64 {
	s := &g.s
	if s.Credit < 1 || s.At < after(max(s.PausedUntil, s.TriedAt), g.untriedWait(room)) {
		return 0
	}
	s.Places = max(s.Places, float32(math.Floor(s.Limit+limitSlack)))
	s.TriedAt = s.At
	return 1
}
