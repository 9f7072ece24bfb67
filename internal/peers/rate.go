package peers

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// Rate is a token bucket into which somebody typed a rate: a constant pace, and nothing learned. It is what golang.org/x/time/rate
// or a gateway's plug-in does, and hard to beat where the number is right and stays right.
// The guard's pace lets a few starts through at once after a rest, as such a bucket does.
type Rate struct{ d adaptive.Decision }

var _ adaptive.Law = (*Rate)(nil)

// NewRate returns a law with a constant pace, in starts a second. Anything but a positive finite number is no pace
// at all, which is what a bucket does for an upstream whose rate nobody knows.
func NewRate(perSecond float64) *Rate {
	if !(perSecond > 0) || math.IsInf(perSecond, 1) {
		perSecond = 0
	}
	return &Rate{adaptive.Decision{Limit: adaptive.MaxLimit, Pace: perSecond, Cause: adaptive.CauseExternal, AskAgain: math.MaxInt64}}
}

// Window implements [adaptive.Law] and changes nothing.
func (r *Rate) Window(time.Duration, adaptive.Window) adaptive.Decision { return r.d }

// Ended implements [adaptive.Law] and changes nothing.
func (r *Rate) Ended(time.Duration, adaptive.Call, adaptive.Outcome) adaptive.Decision { return r.d }

// Hint implements [adaptive.Law] and changes nothing.
func (r *Rate) Hint(time.Duration, feedback.Window) adaptive.Decision { return r.d }

// Decision implements [adaptive.Law].
func (r *Rate) Decision() adaptive.Decision { return r.d }
