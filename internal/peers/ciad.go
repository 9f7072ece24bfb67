package peers

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// CIAD is the concurrency limit of Palantir's dialogue, a limit on the client's side ("cautious increase, aggressive
// decrease"): it starts at 20; a success raises it by 1/limit when at least 0.9 of the limit was in flight as
// the call started; a 429, a 5xx, a failed connection or a time-out lowers it to ⌊0.9 · limit⌋, once for each of them.
//
// Known faults, left as they are: a burst of n refusals cuts n times; no Retry-After is read; there is no slow start, so a
// limit far above 20 takes long to find; a rate limit is met with a limit on calls in flight.
//
// The endpoint's and the host's limiter of the original are one here, as an upstream here has one endpoint: the former is lowered by 429 and 500, the latter
// by 503, the other 5xx and failed connections.
type CIAD struct {
	limit float64
	d     adaptive.Decision
}

var _ adaptive.Law = (*CIAD)(nil)

// The constants of dialogue.
const (
	ciadInitial = 20
	ciadMax     = 1_000_000
	ciadBackoff = 0.9
	ciadInUse   = 0.9
)

// NewCIAD returns the law with its defaults; it has no parameters.
func NewCIAD() *CIAD {
	return &CIAD{limit: ciadInitial, d: adaptive.Decision{Limit: ciadInitial, Cause: adaptive.CauseStart}}
}

// Window implements [adaptive.Law].
func (l *CIAD) Window(_ time.Duration, w adaptive.Window) adaptive.Decision {
	for range w.OK {
		if float64(w.MaxInFlight) < math.Floor(ciadInUse*l.limit) {
			break
		}
		l.limit = min(l.limit+1/l.limit, ciadMax)
	}
	apply(&l.d, int(l.limit), 0, adaptive.CauseProbe)
	return l.d
}

// Ended implements [adaptive.Law].
func (l *CIAD) Ended(_ time.Duration, _ adaptive.Call, o adaptive.Outcome) adaptive.Decision {
	switch o.Class {
	case feedback.Throttled, feedback.Overloaded, feedback.Timeout, feedback.ServerError:
		l.limit = max(1, math.Floor(l.limit*ciadBackoff))
		apply(&l.d, int(l.limit), 0, causeOf(o.Class))
	}
	return l.d
}

// Hint implements [adaptive.Law] and changes nothing.
func (l *CIAD) Hint(time.Duration, feedback.Window) adaptive.Decision { return l.d }

// Decision implements [adaptive.Law].
func (l *CIAD) Decision() adaptive.Decision { return l.d }
