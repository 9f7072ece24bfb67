package adaptive

import (
	"math"
	"time"
)

// The answers of streams begin long before they end. A call whose answer has begun was accepted, so what is accepted teaches the limit,
// not what is complete; and how long answers take to begin tells of a queue at the upstream, whatever their length.
const (
	// numClasses is the number of classes of calls.
	numClasses = NumClasses
	// firstCalls is how many calls of a class tell how long an answer takes to begin with few in flight.
	firstCalls = 8
	// firstGain is the share of a call in what answers take lately.
	firstGain = 1.0 / 8
	// beginLeast is the shortest time in which the limit doubles while answers begin at once: a refusal should be known by then.
	beginLeast = 0.5
	// beginSpread is how much of the limit may start in that time.
	beginSpread = 0.5
	// beginWait is for how many mean latencies (10 s at most) after a cut what begins says nothing of it: others are in flight still that were too many.
	beginWait = 0.25
	// longCall is the mean latency, in s, from which ends come too late.
	longCall = 10
	// queueHold and queueFull are which share of the limit waits at the upstream for answers to begin where the limit rises no more, and
	// where it is lowered. queueSure is by how many standard errors answers must begin later for anybody to wait.
	queueHold, queueFull = 0.1, 0.25
	queueSure            = 3.0
)

// FirstState is what is known of how long the answers to calls of each class take to begin with few in flight: the mean of the logarithms, in
// s, and of how many calls.
type FirstState struct {
	Base [numClasses]float32
	Of   [numClasses]uint8
}

// BeginState is what is known of how long answers take to begin now.
type BeginState struct {
	Until time.Duration // the limit does not rise before it, because answers begin late; 0: they do not
	Full  bool          // the limit was in use since an answer began last
	Mean  float32       // smoothed over some 8 calls, s
	Late  float32       // by how much longer they take than with few in flight, as a logarithm, smoothed likewise
	Noise float32       // the variance of that
	Of    float32       // calls, at most 1/firstGain
	Times float32       // how often that was so, at most 8
}

var _ Listener = (*Governor)(nil)

// Began implements [Listener].
func (g *Governor) Began(now time.Duration, c Call) Decision {
	s := &g.s
	t := g.advance(now)
	start := unknownStart
	if c.SentAt >= 0 {
		start = c.SentAt
	}
	g.answered(t, start, s.InFlight, 0)
	if c.SentAt >= 0 {
		g.thawed(t, t-c.SentAt, 1)
	}
	s.PassedAt = t
	if int32(c.Episode-s.Episode) < 0 {
		return g.Decision() // what was accepted before the cut says nothing of what it is good for
	}
	c.InFlight = max(1, s.beside(level(c.InFlight)))
	if c.SentAt >= 0 && !s.frozen(t, t-c.SentAt) {
		g.learnFirst((t - c.SentAt).Seconds(), c.Class)
	}
	if !s.early() {
		return g.Decision()
	}
	g.took = 0
	if s.Recovering {
		if (t - s.CutAt).Seconds() < min(beginWait*s.Mean, 10) {
			return g.Decision()
		}
		g.recovered()
	}
	g.reopen(t, c.SentAt)
	if s.SlowStart && g.beginsLate() {
		s.SlowStart, s.Threshold = false, 0
		s.Good, s.Used, s.Wins = 0, false, 0
	}
	g.grow(&Window{OK: 1, Begun: 1, MaxInFlight: c.InFlight, InFlight: s.beside(s.InFlight), Full: s.Begin.Full}, 1)
	s.Begin.Full = false
	if ask := s.AskAgain; ask != 0 {
		g.ask(now)
		s.AskAgain = min(s.AskAgain, ask) // or it would be put off for ever
	}
	return g.Decision()
}

// early reports whether what begins teaches the limit, and not what ends: before the first refusal, and where calls take so long that their ends
// come too late. Else it would be tried so often that those who share a limit find no balance.
func (s *GovernorState) early() bool {
	return s.Refused == 0 || s.Mean == 0 || s.Mean > longCall || s.returns()
}

// learnFirst notes how long an answer took to begin, in s.
func (g *Governor) learnFirst(took float64, class uint8) {
	s := &g.s
	if took <= 0 {
		return
	}
	b, base, of := &s.Begin, &s.First.Base[class%numClasses], &s.First.Of[class%numClasses]
	b.Of = min(b.Of+1, 1/firstGain)
	b.Mean += float32((took - float64(b.Mean)) / float64(b.Of))
	x := math.Log(took)
	if *of < firstCalls {
		*of++
		n, d := float64(*of), x-float64(*base)
		*base += float32(d / n)
		if n > 1 {
			b.Noise += float32((d*(x-float64(*base))*n/(n-1) - float64(b.Noise)) / n)
		}
		return
	}
	d := x - float64(*base) - float64(b.Late)
	b.Late += float32(d * firstGain)
	b.Noise += float32((d*d - float64(b.Noise)) * firstGain)
}

// queued returns which share of the calls in flight waits at the upstream for its answer to begin; 0 when it is not sure that any does.
func (g *Governor) queued() float64 {
	s := &g.s
	b := &s.Begin
	if !(float64(b.Late) > queueSure*math.Sqrt(float64(b.Noise)*(firstGain/(2-firstGain)+1.0/firstCalls))) {
		return 0
	}
	wait := float64(b.Mean) * (1 - math.Exp(-float64(b.Late)))
	if s.Mean > 0 {
		return wait / (s.Mean + wait) // those that ended may not have waited as long
	}
	return min(1, s.Flow*wait/s.Limit) // Little's law
}

// beginsLate reports whether so many calls wait at the upstream that more should not be. Now and then it forgets how long
// answers took to begin with few in flight, because that may be longer now.
func (g *Governor) beginsLate() bool {
	s := &g.s
	b := &s.Begin
	if g.queued() <= queueHold {
		b.Until = 0
		return false
	}
	switch {
	case b.Until == 0:
		b.Until = after(s.At, time.Duration(1e9*math.Exp2(float64(b.Times))*max(slowerTime, slowerWait*min(float64(b.Mean), 60))))
		b.Times = min(b.Times+1, 8)
	case s.At >= b.Until:
		s.First, b.Late, b.Until = FirstState{}, 0, 0
		return false
	}
	return true
}
