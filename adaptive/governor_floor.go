package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// An upstream that lacks capacity may refuse a share of all calls, however few there are: one replica of three is broken, or a shard behind a balancer is full. What lacks capacity for fewer
// refuses none where few are in flight and less passes than passed before. So it is counted there which share is refused. That share, the floor, says nothing of how much may be asked for;
// what is refused beyond it does. Refusals that say 429 may be those of a quota or a limit that others use, too, which look the same: for those it is asked besides whether two calls that
// start together fare alike (governor_pair.go).
const (
	// floorLow is the share of the most that was accepted a second, forgotten within floorTime, up to which little passes, and floorFew the share of the most in flight lately that is few.
	floorLow, floorFew = 0.5, 0.7
	floorTime          = 300 * time.Second
	// floorNeed is how many calls must have been refused there, where a delay was named floorDelayed times as many, and twice as many for each time that what was found was wrong, at
	// most mostFloorWrong; floorCalls is how many must have been accepted beside them.
	floorNeed, floorDelayed, floorCalls = 6, 2, 20
	mostFloorWrong                      = 3
	// leastFloor and mostFloor are the least and the largest share that is found, lostFloor that below which it is none any more. Of floorOf calls half counts from then on.
	leastFloor, mostFloor, lostFloor, floorOf = 0.04, 0.45, 0.02, 400
	// floorRow is how many refusals in a row are none of chance, and floorGap how many times what passes between two on average is none of the same share. Of those that come at random
	// less than a third come within floorSoon of that; where more than floorClumps do they come in rows.
	floorRow, floorGap     = 5, 6
	floorSoon, floorClumps = 0.25, 0.6
	// On trial are the first calls with more in flight. floorTried of them, and floorMore times as many a second as when it was found, confirm the share; after floorStuck of them that are not
	// floorStuckAt times as many a second it was wrong.
	floorTried, floorMore, floorStuck, floorStuckAt = 20, 2, 80, 1.5
	// A refusal says for a share q beyond the floor what it is more likely with 2q + floorBeyond, at most half-way from q to all, and each accepted call says against it. From floorTrialSum (on
	// trial) and floorSum on, as logarithms, more is refused. What is counted may be less than the share by chance: on trial by one standard deviation, later by floorErrors; it is topFloor at most.
	floorBeyond, floorTrialSum, floorSum, floorErrors = 0.1, 4, 9, 3
	topFloor                                          = 0.65
	// sumUnit is how much of FloorState.Sum is 1.
	sumUnit = 4096
)

// What is known of a floor.
const (
	floorUnknown = iota
	floorSuspect // as many of the 429s; pairs of calls are to tell whether by chance
	floorOnTrial
	floorKnown
	floorMet // known, and more was refused lately: of 429s
)

// floor429 is added to FloorState.Wrong where it is of 429s.
const floor429 = 1 << 7

// FloorState is what is known of calls that are refused whatever is asked.
type FloorState struct {
	Calls uint16 // accepted where little is asked, or since that share is known
	Ref   uint16 // the most that was accepted a second, as a logarithm
	Base  uint16 // on trial: what was accepted a second when the share was found, as a logarithm; before: how many of Late came soon after another; suspect: when the last pair was asked for, in ms; later: the share, in parts of math.MaxUint16
	Sum   uint16 // evidence that more are refused than that share; suspect: that it is by chance, and pairMiddle
	Late  uint8  // refused beside Calls
	Run   uint8  // refusals in a row; suspect: of the last pair, by pairAsked and so on; on trial: calls accepted since it began
	Stage uint8  // floorUnknown and so on
	Wrong uint8  // how often what was found was wrong, at most mostFloorWrong, and floor429 or nothing
}

// sound moves what is remembered into range.
func (f *FloorState) sound() {
	f.Calls, f.Stage, f.Wrong = min(f.Calls, floorOf), min(f.Stage, floorMet), min(f.Wrong&^floor429, mostFloorWrong)|f.Wrong&floor429
	if f.Stage >= floorKnown {
		f.Base = uint16(min(float64(f.Base), topFloor*math.MaxUint16))
	}
	if f.Stage != floorUnknown && (f.Late == 0 || f.Calls == 0 || f.Stage >= floorOnTrial && f.Base == 0) {
		*f = FloorState{Ref: f.Ref}
	}
	if f.Stage == floorSuspect {
		f.Run = 0 // as no pair is on its way
	}
}

// of reports whether it is of refusals as o is.
func (f *FloorState) of(o *Outcome) bool {
	switch o.Class {
	case feedback.Overloaded:
		return f.Wrong&floor429 == 0
	case feedback.Throttled:
		return f.Wrong&floor429 != 0 && o.Scope <= feedback.ScopeUnknown
	default:
		return false
	}
}

// forget forgets the share that was counted, which was wrong or has ended.
func (f *FloorState) forget(wrong bool) {
	times := f.Wrong &^ floor429
	if wrong {
		times = min(times+1, mostFloorWrong)
	}
	*f = FloorState{Ref: f.Ref, Wrong: times | f.Wrong&floor429}
}

// share returns which share of the calls is refused.
func (f *FloorState) share() float64 {
	return float64(f.Late) / max(1, float64(f.Late)+float64(f.Calls))
}

// high returns from which evidence on more is refused than the share that was found.
func (f *FloorState) high() float64 {
	if f.Stage == floorOnTrial {
		return floorTrialSum
	}
	return floorSum
}

// add counts one call, which was refused, and apart before it that were accepted, and reports whether half counts from now on.
func (f *FloorState) add(apart float64, refused bool) (halved bool) {
	calls, late := float64(f.Calls)+apart, float64(f.Late)
	if refused {
		late++
	}
	if all := calls + late; all > floorOf || late > math.MaxUint8 {
		calls, late, halved = calls*floorOf/2/all, late*floorOf/2/all, true
	}
	f.Calls, f.Late = uint16(math.Round(calls)), uint8(math.Round(late))
	return halved
}

// learnFloor notes that c was refused, apart accepted calls after the one before.
func (g *Governor) learnFloor(t time.Duration, c *Call, o *Outcome, apart float64) {
	s := &g.s
	f := &s.Floor
	if !f.of(o) {
		if f.Stage != floorUnknown || o.Scope > feedback.ScopeUnknown {
			return
		}
		*f = FloorState{Ref: f.Ref, Wrong: f.Wrong&^floor429 | ^f.Wrong&floor429}
	}
	apart = math.Round(between(apart, 0, math.MaxUint16/2))
	ref := max(s.Flow, paceOf(f.Ref)*math.Exp(-between(float64(t-s.RefusedLast)/float64(floorTime), 0, 100)))
	f.Ref = paceCodeOf(ref)
	low := s.Flow <= floorLow*ref && (c.InFlight <= 1 || float64(c.InFlight) <= floorFew*float64(s.Peak))
	switch f.Stage {
	case floorUnknown:
	case floorSuspect:
		g.refusedPair(c)
		if low {
			f.add(apart, true)
		}
		if q := f.share(); q < lostFloor || q > mostFloor || apart > floorGap/q {
			f.forget(false)
		}
		return
	default:
		g.testFloor(apart, low)
		return
	}
	if f.Late >= 2 && apart > floorGap*(1+float64(f.Calls)/float64(f.Late)) {
		f.Calls, f.Late, f.Base = 0, 0, 0
	}
	if apart >= 1 {
		f.Run = 0
	}
	if f.Run = min(f.Run+1, floorRow); f.Run == floorRow {
		f.Calls, f.Late, f.Base = 0, 0, 0
		return
	}
	if !low && f.Late == 0 {
		return
	}
	if low && f.Late > 0 && apart <= floorSoon*float64(f.Calls)/float64(f.Late) {
		f.Base++
	}
	if f.add(apart, low) {
		f.Base /= 2
	}
	need := floorNeed << (f.Wrong &^ floor429)
	if o.HasRetryAfter && o.RetryAfter > 0 {
		need *= floorDelayed
	}
	if q := f.share(); low && apart >= 1 && int(f.Late) >= need && f.Calls >= floorCalls && q >= leastFloor && q <= mostFloor && float64(f.Base) <= floorClumps*float64(f.Late) && g.noQuota() {
		if f.Wrong&floor429 != 0 {
			if o.HasRetryAfter && o.RetryAfter > 0 {
				return // what is to be had beside pauses is little, and pairs cost those who share a quota some
			}
			f.Stage, f.Sum, f.Run, f.Base = floorSuspect, pairMiddle, 0, 0
			return
		}
		g.foundFloor()
	}
}

// noQuota reports whether nothing is known of a quota but what refusals as such tell.
func (g *Governor) noQuota() bool {
	s := &g.s
	return s.Pace[paceRequests].StatedKind == feedback.ScopeNone && s.Turn.Period == 0 && s.Slide.Of == 0 && s.Slide.Fails == 0
}

// testFloor notes a refusal, apart accepted calls after the one before, where it was found which share is refused anyway. When more are, or that was wrong, nothing is known of it any more.
// Of 429s, which limits beside it say, too, the share stays known while more are refused, until little passes again.
func (g *Governor) testFloor(apart float64, low bool) {
	s := &g.s
	f := &s.Floor
	trial := f.Stage == floorOnTrial
	q := float64(f.Base) / math.MaxUint16
	if trial {
		f.Run = uint8(min(float64(f.Run)+apart, math.MaxUint8))
		q = min(topFloor, f.share()*(1+1/math.Sqrt(float64(f.Late)))) // of few refusals it is not known well
	}
	more := min(2*q+floorBeyond, (1+q)/2)
	sum := max(0, float64(f.Sum)/sumUnit-apart*math.Log((1-q)/(1-more)))
	f.Sum = uint16(sumUnit * min(sum+math.Log(more/q), f.high()+1))
	wrong := float64(f.Sum) > sumUnit*f.high()
	if beyond := wrong && !trial && f.Wrong&floor429 != 0; beyond {
		if f.Stage = floorMet; low {
			f.forget(false)
		}
		return
	}
	switch base := paceOf(f.Base); {
	case wrong:
	case trial && f.Run >= floorTried && s.Flow >= floorMore*base:
		f.Stage, f.Base = floorKnown, uint16(math.MaxUint16*q)
		if s.Pace[paceRequests].Rate == 0 {
			s.Pace[paceRequests] = PaceState{} // it rested
		}
		s.Spells, s.Limiting = 0, false
	case trial:
		wrong = f.Run > floorStuck && s.Busy && s.Flow < floorStuckAt*base
	case f.Stage == floorMet && apart < 2:
	case f.Stage == floorMet && apart > floorGap/q:
		f.forget(false) // it has ended
	default:
		f.Stage = floorKnown
		f.add(apart, true)
		f.Base = uint16(math.MaxUint16 * min(q, f.share()*(1+floorErrors/math.Sqrt(max(1, float64(f.Late))))))
		if f.share() < lostFloor {
			f.forget(false) // it has ended
		}
	}
	if wrong {
		if trial {
			g.floorRefuted()
		}
		f.forget(true)
	}
}

// foundFloor puts a share that was found on trial, forgets what refusals said that say nothing, and goes back to where the limit was. A pace rests until it is known that it was none.
func (g *Governor) foundFloor() {
	s := &g.s
	f := &s.Floor
	f.Stage, f.Sum, f.Run, f.Base = floorOnTrial, 0, 0, paceCodeOf(s.Flow)
	s.Pace[paceRequests].Rate, s.Pace[paceRequests].Use = 0, 0
	s.Against, s.Contra, s.Streak, s.RetestAt = 0, 0, 0, 0
	s.HoldUntil, s.ProbeAt = min(s.HoldUntil, s.At), min(s.ProbeAt, s.At)
	if s.Limit < float64(s.Peak) {
		s.Bound = max(s.Bound, float64(s.Peak))
		s.SlowStart, s.Threshold = true, s.Peak
		s.Good, s.Used, s.Wins = 0, false, 0
		s.startDoubling(s.At)
	}
}

// floorRefuted notes that more is refused where more is asked for: the pace that rested is in force again.
func (g *Governor) floorRefuted() {
	s := &g.s
	if p := &s.Pace[paceRequests]; p.Rate == 0 && p.Known > 0 {
		p.Rate, p.Use, p.UsedAt, p.LastCount = max(paceMargin*p.Known, leastPace), 1, s.At, 0
		p.AnchorAt, p.AnchorCount, p.AnchorPaused, p.AnchorRefused = s.At, g.accepted(), s.PausedSum, s.Refused
	}
}

// onFloor reports whether the refusal that came now says nothing, as no more are refused than whatever is asked.
func (g *Governor) onFloor(o *Outcome) bool {
	s := &g.s
	if s.Floor.Stage != floorOnTrial && s.Floor.Stage != floorKnown || !s.Floor.of(o) {
		return false
	}
	s.Against = max(0, s.Against-0.5)
	s.Streak = 0
	g.unpay()
	return true
}

// unpay gives back what the last refusal cost: no probe caused it.
func (g *Governor) unpay() {
	if s := &g.s; s.Paid {
		s.Credit = max(s.Credit, min(s.Credit+1, maxCredit))
	}
}
