package adaptive

import (
	"math"
	"time"
)

// Overload and a limit may look the same: nginx says 503 for both. An upstream that lacks capacity refuses whatever is asked, or a share of it; a
// limit lets pass what it allows, refuses what is more, and does so time and again.
const (
	// spellAfter is how many calls must have been accepted since the refusal before for one to begin a spell.
	spellAfter = 12
	// spells is how many spells, each of which counts less the longer ago it began (spellAge), make a limit.
	spells   = 2.5
	spellAge = 30 * time.Second
	// spellPauses is by how many of its delays the age of a spell is longer where they cost much. There, with the limit in use, one accepted call is enough between two: of a limit of two,
	// hardly more pass between two refusals. Where a share of all is refused, one with fewer in flight comes soon, and ends the count.
	spellPauses = 8
	// deadRow is how many refusals in a row make an outage of what was a limit.
	deadRow = 30
	// rising is how many times as many as ever went well must be in flight for more and more to be tried.
	rising = 1.3
)

// limiting notes a fresh refusal for a lack of capacity, of a call that saw n in flight, and reports whether it is by a limit.
func (g *Governor) limiting(t time.Duration, n float64) bool {
	s := &g.s
	accepted := g.accepted()
	after, age := float64(spellAfter), spellAge
	switch {
	case !g.costly(t):
	case n >= 2 && n > s.Limit-1:
		after, age = 1, spellAge+spellPauses*s.LastPause
	default:
		s.Spells = 0 // no limit refuses with places free
	}
	if accepted-s.SpellCount-g.unresolved() >= after {
		s.Spells = float32(float64(s.Spells)*math.Exp(-float64(max(0, t-s.SpellAt))/float64(age)) + 1)
		s.SpellAt = t
		s.Limiting = s.Limiting || s.Spells >= spells || s.found(n)
	}
	s.SpellCount = accepted
	if s.Streak >= deadRow {
		s.Limiting, s.Spells = false, 0
	}
	return s.Limiting
}

// found reports whether the refusal that came now, of a call that saw n in flight, is the first of all, and comes while more and more is tried, in slow start: that
// an upstream should begin to lack capacity just then is less likely than that this is more than it allows.
func (s *GovernorState) found(n float64) bool {
	return s.Refused == 1 && s.SlowStart && s.Threshold == 0 && n >= float64(s.Peak) && float64(s.InFlight) > rising*float64(s.Peak)
}
