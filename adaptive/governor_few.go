package adaptive

import (
	"math"
	"time"
)

// Where what calls take differs much, some time out however few are in flight, and fewer in flight make none of them rarer. So it is counted which share times out while
// few are in flight. That share, and as much again, says nothing of how many are in flight.
const (
	// fewShare is which share of the most in flight lately is few. Of as many calls with few in flight as fewCalls, or of which fewMost timed out, half counts from then on.
	fewShare, fewMost, fewCalls = 0.6, 16, 4000
	// fewKnown is how many must have timed out with few in flight for the share of them to be known, and mostFew the largest.
	fewKnown, mostFew = 2, 0.5
	// fewLater is how many times the share with more in flight it is at most, and timeoutShare: else the trouble is one that came later, or has not ended, and that few are in flight now tells
	// nothing. From fewLess of that share on it explains it. Of those with more in flight manyCalls count, and those of two latencies.
	fewLater, fewLess, manyCalls = 3, 0.5, 64
	// fewRoom is how many times the share may time out, fewDebt how many more, and fewFirst how many of these each that was counted makes.
	fewRoom, fewDebt, fewFirst = 2, 5, 2
)

// FewState is what is known of calls that time out with few in flight.
type FewState struct {
	Calls uint16 // that ended with few in flight, those that timed out included
	Many  uint16 // share of those that timed out with more in flight, in parts of math.MaxUint16
	Late  uint8  // of Calls, those that timed out
	Now   uint8  // timed out since a call ended well last
}

// sound moves what is remembered into range.
func (f *FewState) sound() {
	f.Calls = min(f.Calls, 2*fewCalls)
	f.Late = uint8(min(int(f.Late), math.MaxUint8, int(f.Calls)))
}

// few reports whether few have been in flight for so long that calls that end at t began since.
func (g *Governor) few(t time.Duration) bool {
	s := &g.s
	return s.Verdict > 0 && (t-s.Origin).Seconds() > float64(s.FewSince)+float64(s.Verdict)
}

// lateAnyway returns the share of calls that time out however few are in flight; 0 while that is not known.
func (s *GovernorState) lateAnyway() float64 {
	f := &s.Few
	late := float64(f.Late)
	if late < fewKnown {
		return 0
	}
	share := min(mostFew, late/float64(f.Calls))
	if share > timeoutShare+fewLater*f.many() {
		return 0
	}
	return share
}

// many returns the share of calls that time out with more than a few in flight.
func (f *FewState) many() float64 { return float64(f.Many) / math.MaxUint16 }

// spared returns up to which TimeoutDebt calls that time out say nothing of how many are in flight.
func (s *GovernorState) spared() float64 {
	share := s.lateAnyway()
	if share == 0 {
		return 0
	}
	return min(fewDebt, fewFirst*(float64(s.Few.Late)-1)) + share*min(s.Limit, float64(s.Peak))
}

// paidOff returns by how much a call that ends well lowers TimeoutDebt.
func (s *GovernorState) paidOff() float64 {
	share := s.lateAnyway()
	return timeoutShare + fewRoom*share/(1-share)
}

// learnFew notes ok calls that ended well by t, with n in flight then. Of those that time out in a row one counts with few in flight, as an outage is no tail.
func (g *Governor) learnFew(t time.Duration, ok, n int) {
	s := &g.s
	f := &s.Few
	if ok > 0 {
		late := float64(f.Now)
		f.Now = 0
		if g.few(t) {
			g.countFew(ok, min(int(late), ok))
		} else {
			all := float64(ok) + late
			f.Many = uint16(between(math.MaxUint16*(f.many()+(late/all-f.many())*min(1, all/(manyCalls+2*float64(n)))), 0, math.MaxUint16))
		}
	}
	if n > 1 && float64(n) > fewShare*float64(s.Peak) {
		s.FewSince = float32((t - s.Origin).Seconds())
	}
}

// countFew counts ok calls that ended well and late that timed out with few in flight. When the limit was lowered because of others that time out as often, it returns.
func (g *Governor) countFew(ok, late int) {
	s := &g.s
	f := &s.Few
	f.Late, f.Calls = uint8(min(int(f.Late)+late, math.MaxUint8)), uint16(min(int(f.Calls)+ok+late, math.MaxUint16))
	if f.Late > fewMost || f.Calls > fewCalls {
		f.Late, f.Calls = f.Late/2, f.Calls/2
	}
	share := s.lateAnyway()
	if late == 0 || share == 0 || !s.Late && s.Limit >= 0.65*float64(s.Peak) {
		return
	}
	more := share <= fewLess*f.many() // with more in flight there are more of them
	if s.Pauses == 0 && s.ProbeAt > s.At {
		wait := time.Duration(0) // to wait for longer makes none of them rarer
		if more {
			wait = (s.ProbeAt - s.At) / 2
		}
		s.ProbeAt = s.At + wait
	}
	if more {
		return
	}
	s.TimeoutDebt, s.LateDebt, s.Late, s.Open = 0, 0, false, false
	if s.Limit < float64(s.Peak) {
		s.Bound = max(s.Bound, float64(s.Peak))
		s.SlowStart, s.Threshold = true, s.Peak
		s.Good, s.Used, s.Wins = 0, false, 0
		s.startDoubling(s.At)
	}
}

// meansNothing notes that a call timed out at t, and reports whether that says nothing of how many are in flight, as no more do than with few.
func (g *Governor) meansNothing(t time.Duration) bool {
	s := &g.s
	spared := s.spared()
	if spared > 0 && g.few(t) && !g.stalled(t) {
		return true
	}
	s.TimeoutDebt = float32(min(float64(s.TimeoutDebt)+1, maxDebt+spared))
	return float64(s.TimeoutDebt) <= spared
}
