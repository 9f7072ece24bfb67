package adaptive

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// impatientCalls is an upstream with as many places as are asked for, and callers who always wait and give each call a second.
type impatientCalls struct {
	g   *Governor
	rng *rand.Rand
	// mean is how long a call takes on average, of which calls differ as exponentials do, when it starts with n in flight.
	mean func(now time.Duration, n int) time.Duration
	// callers is how many there are.
	callers int

	now      time.Duration
	inFlight []flying
	good     int // calls that ended well
	area     time.Duration
}

// run lets time pass until end, and returns how many calls a second ended well and were in flight.
func (u *impatientCalls) run(end time.Duration) (good, level float64) {
	const patience = time.Second
	begin := u.now
	u.good, u.area = 0, 0
	for u.now < end {
		for len(u.inFlight) < min(u.callers, u.g.Decision().Limit) {
			c := Call{SentAt: u.now, InFlight: len(u.inFlight) + 1, Episode: u.g.Decision().Episode}
			took := time.Duration(u.rng.ExpFloat64() * float64(u.mean(u.now, c.InFlight)))
			u.inFlight = append(u.inFlight, flying{call: c, ends: u.now + min(took, patience), ok: took < patience})
		}
		i := 0
		for k := range u.inFlight {
			if u.inFlight[k].ends < u.inFlight[i].ends {
				i = k
			}
		}
		f := u.inFlight[i]
		u.area += time.Duration(len(u.inFlight)) * (f.ends - u.now)
		u.now = f.ends
		if f.ok {
			u.good++
			took := u.now - f.call.SentAt
			u.g.Window(u.now, Window{
				Start: u.now, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: f.call.InFlight,
				Full: true, InFlight: len(u.inFlight), Waiting: max(0, u.callers-len(u.inFlight)),
			})
		} else {
			u.g.Ended(u.now, f.call, Outcome{Class: feedback.Timeout})
		}
		u.inFlight = slices.Delete(u.inFlight, i, i+1)
	}
	took := (u.now - begin).Seconds()
	return float64(u.good) / took, u.area.Seconds() / took
}

// Calls that time out however few are in flight do not keep the limit down, and those that time out because many are in flight do as ever.
func TestGovernorTimeoutsOfTheTail(t *testing.T) {
	const half = 500 * time.Millisecond
	always := func(time.Duration, int) time.Duration { return half }
	for _, c := range []struct {
		name     string
		callers  int
		mean     func(time.Duration, int) time.Duration
		from, to float64 // in flight on average, from the second minute on
		good     float64 // a second, at least
	}{
		{"one in seven, whatever the load", 40, always, 36, 40, 70},
		{"one in twenty", 200, func(time.Duration, int) time.Duration { return 333 * time.Millisecond }, 190, 200, 560},
		{"one in three for a minute", 40, func(now time.Duration, _ int) time.Duration {
			if now > 2*time.Minute && now < 3*time.Minute {
				return 2 * half
			}
			return half
		}, 32, 40, 58},
		{"beyond twenty each makes all slower", 100, func(_ time.Duration, n int) time.Duration {
			return half / 2 * time.Duration(max(20, n)) / 20
		}, 20, 40, 72},
		{"beyond twenty none ends in time", 100, func(_ time.Duration, n int) time.Duration {
			if n > 20 {
				return time.Minute
			}
			return half
		}, 15, 25, 28},
	} {
		var good, level float64
		const seeds = 4
		for seed := range uint64(seeds) {
			u := &impatientCalls{g: New(Config{}), rng: rand.New(rand.NewPCG(seed, 1)), mean: c.mean, callers: c.callers}
			u.run(time.Minute)
			g, l := u.run(5 * time.Minute)
			good, level = good+g/seeds, level+l/seeds
		}
		if good < c.good || level < c.from || level > c.to {
			t.Errorf("%s: %.1f calls a second end well, want %.0f; %.1f are in flight, want %.0f to %.0f", c.name, good, c.good, level, c.from, c.to)
		}
	}
}

// The share of calls that time out with few in flight counts from the second on, and while more do not time out more seldom.
func TestGovernorLateAnyway(t *testing.T) {
	for _, c := range []struct {
		late   uint8
		calls  uint16
		many   float64
		share  float64
		spared float64 // of ten in flight
	}{
		{1, 10, 0.1, 0, 0},
		{2, 20, 0.1, 0.1, 3},
		{3, 30, 0.1, 0.1, 5},
		{10, 100, 0.1, 0.1, 6},
		{10, 100, 0.9, 0.1, 6},
		{10, 100, 0.03, 0.1, 6},
		{10, 100, 0.02, 0, 0}, // the trouble came later
		{2, 100, 0, 0.02, 2.2},
		{16, 20, 0.5, 0.5, 10},
	} {
		s := GovernorState{Limit: 20, Peak: 10, Few: FewState{Calls: c.calls, Many: uint16(c.many * math.MaxUint16), Late: c.late}}
		if share, spared := s.lateAnyway(), s.spared(); math.Abs(share-c.share) > 1e-9 || math.Abs(spared-c.spared) > 1e-9 {
			t.Errorf("%d of %d time out with few in flight, %v with more: share %v, up to %v mean nothing; want %v, %v", c.late, c.calls, c.many, share, spared, c.share, c.spared)
		}
	}
}

// Of timeouts in a row one counts with few in flight, and none of calls that began when more were.
func TestGovernorLearnsFew(t *testing.T) {
	g := New(Config{})
	s := &g.s
	g.advance(0)
	s.Peak, s.Verdict = 10, 1
	g.learnFew(time.Second, 1, 7)
	for i, c := range []struct {
		at    time.Duration
		late  uint8
		n     int
		calls uint16
		of    uint8
	}{
		{1500 * time.Millisecond, 3, 6, 0, 0}, // it began when seven were in flight
		{2100 * time.Millisecond, 3, 6, 2, 1},
		{2200 * time.Millisecond, 0, 7, 3, 1}, // seven again
		{2300 * time.Millisecond, 1, 6, 3, 1},
		{3300 * time.Millisecond, 1, 1, 5, 2},
	} {
		s.Few.Now = c.late
		g.learnFew(c.at, 1, c.n)
		if s.Few.Calls != c.calls || s.Few.Late != c.of || s.Few.Now != 0 {
			t.Errorf("after %d: %+v, want %d of %d", i, s.Few, c.of, c.calls)
		}
	}
	if many := s.Few.many(); many < 0.01 || many > 0.1 {
		t.Errorf("with more in flight %v time out", many)
	}
}

// After a crowd of timeouts more is not tried for minutes. Where calls time out with few in flight, too, though more seldom, to wait makes none of them rarer, so the next step is tried at once.
func TestGovernorTriesWhereFewTimeOut(t *testing.T) {
	for _, late := range []bool{true, false} {
		g := New(Config{})
		s := &g.s
		g.advance(0)
		s.SlowStart, s.Late, s.Limit, s.Bound, s.Peak, s.Few = false, true, 1, 1, 66, FewState{Calls: 36, Late: 6, Many: 62000}
		s.Mean, s.Verdict, s.TimeoutDebt, s.ProbeAt = 1, 12, 4, 10*time.Minute
		for now := 20 * time.Second; now < 4*time.Minute; {
			c := Call{SentAt: now, InFlight: 1, Episode: s.Episode}
			now += 12 * time.Second
			if late {
				g.Ended(now, c, Outcome{Class: feedback.Timeout})
			}
			for range 9 {
				now += time.Second
				g.Window(now, Window{Start: now - time.Second, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 1, Full: true, Waiting: 9})
			}
		}
		if tried := s.Limit > 1; tried != late {
			t.Errorf("one in ten times out with few in flight: %v; the limit is %v", late, s.Limit)
		}
	}
}

// Where far more time out with more in flight, a crowd may come again: half of the time is waited for.
func TestGovernorWaitsWhereMoreTimeOut(t *testing.T) {
	for many, want := range map[uint16]time.Duration{math.MaxUint16 / 2: 50 * time.Second, math.MaxUint16 / 50: 0} {
		g := New(Config{})
		s := &g.s
		g.advance(0)
		s.Late, s.Limit, s.Peak, s.Few = true, 10, 10, FewState{Calls: 200, Late: 4, Many: many}
		s.ProbeAt = 100 * time.Second
		if g.countFew(1, 1); s.ProbeAt != want {
			t.Errorf("a share of %d with more in flight: the next step is tried after %v, want %v", many, s.ProbeAt, want)
		}
	}
}
