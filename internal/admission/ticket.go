package admission

import (
	"time"

	"github.com/flyball-go/flyball/adaptive"
)

// Untimed is the start of a call that is not timed.
const Untimed time.Duration = -1

// Ticket is a call that started, in two words: an adaptive.Call without its tokens. It is small so that it is passed
// in registers.
type Ticket struct {
	// At is when the call started, or Untimed.
	At   time.Duration
	mark uint64
}

// The mark, from its low bits: in flight at the start (22 bits), class (8), begun (1), unused (1), episode (32).
const (
	markInFlight = 1<<22 - 1
	markClass    = 22
	markOfClass  = 0xff << markClass
	markBegun    = 1 << 30
	markEpisode  = 32
)

func mark(inFlight int, class uint8, episode uint32) uint64 {
	return uint64(inFlight)&markInFlight | uint64(class)<<markClass | uint64(episode)<<markEpisode
}

func markOf(c *adaptive.Call) uint64 {
	m := mark(c.InFlight, c.Class, c.Episode)
	if c.Begun {
		m |= markBegun
	}
	return m
}

func (t Ticket) inFlight() int { return int(t.mark & markInFlight) }

// Call returns the call, without its tokens.
func (t Ticket) Call() adaptive.Call {
	return adaptive.Call{
		SentAt: t.At, Episode: uint32(t.mark >> markEpisode), InFlight: t.inFlight(), Class: uint8(t.mark >> markClass),
		Begun: t.mark&markBegun != 0,
	}
}

// TicketOf returns the ticket of a call.
func TicketOf(c *adaptive.Call) Ticket { return Ticket{c.SentAt, markOf(c)} }
