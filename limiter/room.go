package limiter

import (
	"fmt"
	"time"

	"github.com/flyball-go/flyball/internal/admission"
)

// Drop is whom a full queue drops.
type Drop = admission.Drop

// Whom a full queue drops.
const (
	// DropNewest refuses the caller that finds the queue full.
	DropNewest = admission.DropNewest
	// DropOldest drops the one that has waited longest among those that are not more urgent than the newcomer.
	DropOldest = admission.DropOldest
	// DropLowest drops the newest of the lowest priority that waits, when the newcomer is more urgent.
	DropLowest = admission.DropLowest
	// DropLongest drops the newest of the tenant that has most waiting, so that one tenant cannot keep the others out.
	DropLongest = admission.DropLongest
)

// Room says who of those who wait goes next. The zero Room is first in, first out within a tenant, equal shares
// between tenants, and strict priorities. It must not be changed after it was given to a guard.
type Room struct {
	// Aging is how long a priority must have somebody waiting to rise by one (0 or 1 ms to 24 h). Zero is no
	// aging: less urgent callers may then wait until MaxWait behind more urgent ones. 10 s is a good value.
	// Smaller helps the less urgent sooner; larger keeps priorities apart for longer.
	Aging time.Duration
	// Weights are the shares of tenants, relative to each other (1/1024 to 1024); a tenant without one has 1.
	Weights map[string]float64
	// Drop is whom a full queue drops.
	Drop Drop
	// ReservedShare is the share of the places (0 to 0.9) that only callers with priority ReservedFor (1 to 7)
	// or higher may use. Zero reserves nothing. Smaller uses places better; larger keeps urgent
	// calls from waiting for slow ones.
	ReservedShare float64
	ReservedFor   uint8
}

func (r *Room) config() admission.QueueConfig {
	if r == nil {
		return admission.QueueConfig{}
	}
	c := admission.QueueConfig{Aging: r.Aging, Weights: r.Weights, Drop: r.Drop}
	if r.ReservedShare > 0 {
		c.ReservedShare, c.ReservedFor = r.ReservedShare, r.ReservedFor
	}
	return c
}

func (r *Room) check(bad func(field string, value any, allowed string)) {
	if r == nil {
		return
	}
	if r.Aging != 0 && (r.Aging < time.Millisecond || r.Aging > 24*time.Hour) {
		bad("Room.Aging", r.Aging, "0 (none) or 1ms to 24h")
	}
	for tenant, w := range r.Weights {
		if !(w >= 1.0/1024 && w <= 1024) {
			bad(fmt.Sprintf("Room.Weights[%q]", tenant), w, "1/1024 to 1024")
		}
	}
	if int(r.Drop) >= admission.NumDrops {
		bad("Room.Drop", uint8(r.Drop), "one of the Drop constants")
	}
	if !(r.ReservedShare >= 0 && r.ReservedShare <= 0.9) {
		bad("Room.ReservedShare", r.ReservedShare, "a ratio of 0 to 0.9")
	}
	if r.ReservedShare > 0 && (r.ReservedFor < 1 || r.ReservedFor > 7) {
		bad("Room.ReservedFor", r.ReservedFor, "1 to 7, as ReservedShare is set")
	}
}
