package sim

import (
	"math"
	"time"
)

// What settling and recovery ask for.
const (
	// SettleShare is the share of what could be had that a run must get to have settled, RecoverShare that to have recovered after a change.
	SettleShare, RecoverShare = .9, .95
	// SettleTime and SettleRoundTrips are how soon it is asked to settle, whichever is longer, and RecoverTime how soon to recover.
	SettleTime       = 10 * time.Second
	SettleRoundTrips = 30
	RecoverTime      = 10 * time.Second

	// chance is how many standard errors a span may fall short without anybody's fault. A span in which n successes could be had has a
	// standard error of √n (Poisson's), so that 4 or 5 are missed before a standstill shows, and 400 are counted before a tenth does. With two,
	// limits that are known get through: TestSettleOfWhoKnows.
	chance = 2
	// evidence is how many successes there could have been in a span that says anything: 25 of which half are missed are two and a half standard
	// errors below nine tenths.
	evidence = 25
	// newPhase is by how much a level must change within a step to begin a phase (ratio), and shortest how long a phase, and what is left of it
	// when it has settled, must be. A share of it must be left, too, or whoever misses little all the time would settle in the end, when
	// nothing is left to tell it by.
	newPhase = .1
	shortest = 10 * time.Second
	leftOver = 3 // a third
)

// A Phase is a part of a run in which what can be had stays the same: from its beginning, or from a change of the world, to the next.
type Phase struct {
	// From is its beginning, and To its end.
	From, To time.Duration
	// Before and Level are the successes a second that could be had before it and at its beginning; Before is NaN for the first, and 0
	// after an outage.
	Before, Level float64
	// RoundTrip is the mean time of a call at its beginning when nothing is queued.
	RoundTrip time.Duration
	// Settled and Recovered are how long it took until nine tenths, and 95 %, of what could be had were got from then on; -1 when it did not
	// come to that. See Settle.
	Settled, Recovered time.Duration
}

// Rise reports whether more can be had than before.
func (p *Phase) Rise() bool { return p.Level > p.Before }

// Outage reports whether nothing could be had before.
func (p *Phase) Outage() bool { return p.Before == 0 }

// Allowed returns how soon it is asked to settle.
func (p *Phase) Allowed() time.Duration { return max(SettleTime, SettleRoundTrips*p.RoundTrip) }

// PhasesOf returns the phases of a run in which anything can be had, and when it had settled and recovered in each of them.
//
// A phase begins where the level changes by more than a tenth from one step to the next, and where an outage is over, of all calls or of a
// share of them. Phases shorter than 10 s and such as have no 25 successes to be had tell nothing and are
// left out, and so are outages.
func PhasesOf(r *Result, l *Limits) []Phase {
	n := min(len(r.Series.OK), len(l.Done), len(l.Rate), len(l.Down), len(l.RoundTrip))
	if l.Step <= 0 || r.Series.Step != l.Step {
		return nil
	}
	level := func(i int) float64 {
		if l.Down[i] {
			return 0
		}
		return l.Rate[i]
	}
	least := max(1, int((shortest+l.Step-1)/l.Step))
	var ps []Phase
	before := math.NaN()
	for from := 0; from < n; {
		to := from + 1
		for to < n && !changed(level(to-1), level(to)) {
			to++
		}
		if level(from) > 0 {
			p := Phase{
				From: time.Duration(from) * l.Step, To: time.Duration(to) * l.Step, Before: before, Level: level(from), RoundTrip: l.RoundTrip[from],
				Settled: -1, Recovered: -1,
			}
			var could float64
			for _, x := range l.Done[from:to] {
				could += x
			}
			if to-from >= least && could >= evidence {
				p.Settled = Settle(r, l, from, to, SettleShare)
				p.Recovered = Settle(r, l, from, to, RecoverShare)
				ps = append(ps, p)
			}
		}
		before = level(to - 1)
		from = to
	}
	return ps
}

func changed(a, b float64) bool { return math.Abs(b-a) > newPhase*max(a, b) }

// Settle returns how long it took, from the step from on, until a run got a share of what could be had from then on: in every span that begins
// there and ends until the step to, its successes are at least that share of those that could be had, less two standard errors of
// their number. -1 when there is no such instant with 10 s, and 25 successes that could be had, and a third of the time left.
//
// What could be had in a span is the least of what the oracle had, of what was asked for, and of what the upstream sustains. The oracle is faster
// than the latter two when it works off what an outage left, and where a quota begins anew or has saved up; whoever is slower then, or has
// nothing left to work off, is not late. More than could be had is never too much.
func Settle(r *Result, l *Limits, from, to int, share float64) time.Duration {
	to = min(to, len(r.Series.OK), len(l.Done), len(l.Capacity))
	var left float64
	for i := from; i < to; i++ {
		left += l.Done[i]
	}
	least := max(1, int((shortest+l.Step-1)/l.Step), (to-from)/leftOver)
	for at := from; at < to; {
		if to-at < least || left < evidence {
			return -1
		}
		if !fallsShort(r, l, at, to, share) {
			return time.Duration(at-from) * l.Step
		}
		// What begins later falls short of the same end, unless less than the share was got until then.
		for s := (span{}); at < to; {
			s.add(r, l, at)
			left -= l.Done[at]
			at++
			if s.got < share*max(s.done, s.asked, s.sustained) {
				break
			}
		}
	}
	return -1
}

// span is a part of a run: successes, and what could be had by each measure.
type span struct{ got, done, asked, sustained float64 }

func (s *span) add(r *Result, l *Limits, i int) {
	s.got += r.Series.OK[i]
	s.done += l.Done[i]
	s.sustained += l.Capacity[i] * l.Step.Seconds()
	if l.Asked != nil {
		s.asked += l.Asked[i]
	}
}

// fallsShort reports whether there is a span from at on in which too little was got.
func fallsShort(r *Result, l *Limits, at, to int, share float64) bool {
	var s span
	for i := at; i < to; i++ {
		s.add(r, l, i)
		could := min(s.done, s.sustained)
		if l.Asked != nil {
			could = min(could, s.asked)
		}
		if s.got < share*could-chance*math.Sqrt(could) {
			return true
		}
	}
	return false
}
