package adaptive

import (
	"math"
	"time"
)

// try begins a trial: a pace at what a limit of n - 1 calls gives, after refusals at the same number n. At a limit on calls it costs hardly
// anything, and it is refused there again; a quota it meets elsewhere.
func (g *Governor) try(t time.Duration, n float64, first bool) {
	s := &g.s
	p := &s.Pace[paceRequests]
	s.Same, s.Trial, s.Hits, s.Seen = 0, float32(n), 0, 0
	g.quotaRefused(t, max(float64(s.Memory), n), first)
	if x := (n - 1) / max(s.Mean, 1e-6); s.Mean > 0 && x > p.Known {
		p.Known, p.Rate = x, paceMargin*x
		p.Lowest = float32(p.Rate)
	}
}

// refuted notes a refusal of a call that saw n in flight while a pace is on trial, and reports whether it is none: a limit on calls refuses
// at the same number, whatever the pace.
func (g *Governor) refuted(n, proven float64, o *Outcome) bool {
	s := &g.s
	switch d := n - float64(s.Trial); {
	case n <= proven && g.spanned(&s.Pace[paceRequests], n):
		s.Hits = min(s.Hits, 0)
	case d < -near*float64(s.Trial)-1:
		g.watch(n, o) // fewer than a limit on calls would refuse
	case d < -0.02*float64(s.Trial):
		s.Trial, s.Hits = float32(n), 0
	case s.Hits < 0 && d > near*float64(s.Trial)+1 && s.Top > float64(s.Trial):
		s.Trial, s.Hits = float32(n), -2 // as many were accepted
	case d > max(0.5, 0.02*float64(s.Trial)):
		s.Hits = max(s.Hits-1, min(s.Hits, 0))
	case g.flows(n, o):
		// At a pace that stays as it is, calls that take as long see as many.
	case g.seenByMany(n, o):
		s.Hits = min(s.Hits, 0)
	case s.Top > n+1+0.01*n+0.5*g.unresolved():
		s.Hits = min(s.Hits, 0) // calls that saw more in flight were accepted, and calls on their way do not explain it
	case s.Hits > 0 && g.accepted()-s.HitsFrom < hitTurn*n:
		// Hardly any of those in flight are others than at the hit before, so there are as many of them.
	default:
		s.Hits++
		s.HitsFrom = g.accepted()
	}
	s.Seen = 0
	if s.Hits < trialHits {
		return false
	}
	s.Hits, s.Trial = 0, 0
	s.Refuted = min(s.Refuted+1, 3)
	return true
}

// seenByMany reports whether so many calls that saw n in flight and more were accepted since the hit before that n is no limit's number: it accepts one more only while one of the others
// is on its way, which is so for no greater a share of them than there are on their way on average. That counts where a delay is named only: others who fill a limit, too, and leave
// more room at times look the same, and without a delay a hit costs little. Where it is not known when calls started, nor is it for how long they are on their way.
func (g *Governor) seenByMany(n float64, o *Outcome) bool {
	s := &g.s
	return o.HasRetryAfter && s.Way > 0 && math.Pow(g.inTransit(n), float64(s.Seen)) < seenChance
}

// seenChance is how likely it may be at least that a limit accepted them.
const seenChance = 0.01

// passedTrial takes note of what accepted calls saw in flight. Right after a refusal others may have been refused that they saw.
func (g *Governor) passedTrial(w *Window) {
	s := &g.s
	if s.Trial > 0 && float64(w.MaxInFlight) >= float64(s.Trial) && (s.At-s.RefusedLast).Seconds() > s.Mean {
		s.Seen = min(s.Seen, math.MaxUint8-1) + 1
	}
}

// capTold reports whether a trial has told that a limit on calls in flight refuses, and nothing speaks against that since: no accepted call saw as many in
// flight as the one that was refused last. How evenly calls start needs no test then, and starts that are spread leave places free. Of few calls any two numbers are
// the same, and a quota that is met by starts in bunches would be taken for a limit for good.
func (g *Governor) capTold() bool {
	s := &g.s
	return s.Refuted > 0 && s.RefusedAt >= watchFrom && s.Top < float64(s.RefusedAt)
}

// flows reports whether n calls in flight are as many as a quota that was measured well lets start while one takes: it refuses at that number, too. Where calls take
// the same time each, as many are in flight whenever one starts, but for one, and that one itself. A limit of so few is refused at such a number, too, so that counts
// where a delay is named only: there it costs pauses to take the one for the other, and at a limit the pace costs little.
func (g *Governor) flows(n float64, o *Outcome) bool {
	s := &g.s
	p := &s.Pace[paceRequests]
	few := p.Known * s.Mean
	return p.Sure && p.Use >= useBinding && (math.Abs(n-few) <= agree*n || o.HasRetryAfter && g.even() && n >= few && n <= few+2)
}

// watch says that what is known speaks for a quota, which only a row of refusals at the same number n refutes; of few calls, any two
// numbers are the same.
func (g *Governor) watch(n float64, o *Outcome) {
	s := &g.s
	s.Trial, s.Hits, s.Seen = 0, 0, 0
	if n >= watchFrom && !o.HasRetryAfter {
		s.Trial, s.Hits = float32(n), -2
	}
}

// watchFrom is from how many calls in flight on it says something that two refusals come at the same number.
const watchFrom = 8

// mayBeQuota reports whether a delay that came with a refusal could be how long a bucket takes to have room for one.
func (g *Governor) mayBeQuota(o *Outcome) bool {
	return !o.HasRetryAfter || (o.RetryAfter-time.Second).Seconds()*(g.s.LastBound-1) <= g.s.Mean
}

// firstBeyond reports whether a refused call that saw n in flight, gap accepted calls after the refusal before, was the first that saw so many, after
// many that saw one fewer: so refuses a limit on calls in flight. A quota that gave what those took has saved up something.
func (g *Governor) firstBeyond(n, gap float64) bool {
	s := &g.s
	return n >= beyondFrom && n > s.Flight && s.Top >= n-1.5 && gap >= max(aloneAfter, beyondFull*n)
}

// beyondFrom is from how many in flight on: of two, one alone was what all others saw.
const beyondFrom = 3

// beyondFull is how many times as many calls as are in flight must have been accepted at one fewer.
const beyondFull = 4

// hitTurn is the share of the calls in flight that must have been accepted since the hit before for the next one to count.
const hitTurn = 0.5

// trialHits is how many refusals at the same number refute a pace on trial.
const trialHits = 2

// mostSame is how many refusals at the same number are counted: as many as a trial takes at most.
const mostSame = 2 << 12
