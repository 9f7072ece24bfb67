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
	// deadRow is how many refusals in a row make an outage of what was a limit.
	deadRow = 30
)

// limiting notes a fresh refusal for a lack of capacity, and reports whether it is by a limit.
func (g *Governor) limiting(t time.Duration) bool {
	s := &g.s
	accepted := g.accepted()
	if accepted-s.SpellCount-g.unresolved() >= spellAfter {
		s.Spells = s.Spells*math.Exp(-float64(max(0, t-s.SpellAt))/float64(spellAge)) + 1
		s.SpellAt = t
		s.Limiting = s.Limiting || s.Spells >= spells
	}
	s.SpellCount = accepted
	if s.Streak >= deadRow {
		s.Limiting, s.Spells = false, 0
	}
	return s.Limiting
}
