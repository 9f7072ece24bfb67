package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// AIMDState is everything that an [AIMD] has learned and remembers, as a plain value: it can be
// compared, copied, printed, and saved as JSON. Counts are calls, levels are calls in
// flight, instants are since the origin of the law's caller.
//
// Binding and Cause are saved as numbers: a state is for the version of flyball that saved it.
type AIMDState struct {
	// Limit is the limit in force (Min to Max).
	Limit int `json:"limit"`
	// SlowStart says that the limit rises by one for each call that ends well.
	SlowStart bool `json:"slow_start"`
	// Threshold is the limit at which slow start ends without a cut; 0 when only a cut ends it.
	Threshold int `json:"threshold"`
	// Bound is how many were in flight when the call started whose refusal began the
	// last trouble; 0 when there was none, or when the upstream was seen to have grown.
	Bound int `json:"bound"`
	// Open says that the trouble that found Bound is not over: no epoch has ended well
	// since. Cuts in it are one row, and leave Bound alone.
	Open bool `json:"open"`
	// Recovering says that no call that started after the last cut is known to have ended well.
	Recovering bool `json:"recovering"`
	// CutAt is when the last cut was.
	CutAt time.Duration `json:"cut_at"`
	// Old is how many calls that were in flight at the last cut may still be.
	Old int `json:"old"`
	// Good is how many calls have ended well in this epoch; Used says that the limit
	// was in use in it.
	Good int  `json:"good"`
	Used bool `json:"used"`
	// Flight is the most that was in flight since the last cut, within the limit.
	Flight int `json:"flight"`
	// InFlight is how many were in flight at the last window's end.
	InFlight int `json:"in_flight"`
	// Stated is the limit on calls in flight that the upstream stated last; 0 when it stated none.
	Stated int `json:"stated"`
	// StatedAt is when it was stated last.
	StatedAt time.Duration `json:"stated_at"`
	// Doubted says that a refusal has contradicted Stated.
	Doubted bool `json:"doubted"`
	// Latency is the smoothed mean latency; 0 when unknown.
	Latency time.Duration `json:"latency"`
	// At is the latest instant that the law was told; the smallest instant before the first event.
	At time.Duration `json:"at"`
	// ValidAt is the last instant at which the limit was at least half in use.
	ValidAt time.Duration `json:"valid_at"`
	// AskAgain is when the law wants the next window.
	AskAgain time.Duration `json:"ask_again"`
	// Episode, Binding and Cause are those of the decision in force.
	Episode uint32         `json:"episode"`
	Binding feedback.Scope `json:"binding"`
	Cause   Cause          `json:"cause"`
}

// State returns what l has learned. It allocates nothing. Of a law that a guard was given it may be asked once the guard is closed and no call is in flight.
func (l *AIMD) State() AIMDState { return l.s }

// Restore replaces what l has learned by s, which may come from another process: now is the
// instant on the clock of l's caller that corresponds to s.At, so give s.At to go on where
// s was taken. The parameters stay l's own, and what does not fit them, or makes no sense,
// is moved into range.
func (l *AIMD) Restore(now time.Duration, s AIMDState) {
	s.Limit = min(max(s.Limit, l.cfg.Min), l.cfg.Max)
	for _, n := range [...]*int{&s.Threshold, &s.Bound, &s.Old, &s.Flight, &s.InFlight, &s.Stated} {
		*n = level(*n)
	}
	s.Good = min(max(s.Good, 0), 2*MaxLimit)
	s.Latency = max(0, s.Latency)
	if int(s.Binding) >= feedback.NumScopes {
		s.Binding = feedback.ScopeUnknown
	}
	if int(s.Cause) >= NumCauses {
		s.Cause = CauseExternal
	}
	if s.At == math.MinInt64 {
		// It was told nothing yet, so it remembers no instants.
		s.CutAt, s.ValidAt, s.StatedAt, s.AskAgain = 0, 0, 0, 0
		l.s = s
		return
	}
	// Instants become instants of the new clock. An age that is negative or that overflows is none.
	move := func(at time.Duration) time.Duration {
		age := s.At - at
		if at > s.At || age < 0 || now-age > now {
			return now
		}
		return now - age
	}
	s.CutAt, s.ValidAt, s.StatedAt = move(s.CutAt), move(s.ValidAt), move(s.StatedAt)
	if ahead := s.AskAgain - s.At; ahead > 0 && ahead <= maxAsk {
		s.AskAgain = after(now, ahead)
	} else {
		s.AskAgain = move(s.AskAgain)
	}
	s.At = now
	l.s = s
}
