package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// loop is a caller with an endless backlog before an upstream that allows so many calls in
// flight and refuses others at once. It keeps windows as a guard does: a call that ended well
// waits for AskAgain, and a window is told before each refusal. It leaves out queues, pauses,
// and retries with a delay: a refused call's place starts the next call at once.
type loop struct {
	law     Law
	room    func(now time.Duration) int // what the upstream allows
	latency time.Duration
	refuse  time.Duration // how long a refusal takes

	now     time.Duration
	calls   []loopCall // in flight, in the order of their ends
	served  int        // how many of them the upstream works on
	w       Window
	ok, bad int
}

type loopCall struct {
	Call
	end    time.Duration
	served bool
}

func (x *loop) start() {
	d := x.law.Decision()
	for len(x.calls) < d.Limit {
		c := loopCall{Call: Call{SentAt: x.now, Episode: d.Episode, InFlight: len(x.calls) + 1}, end: x.now + x.refuse}
		if x.served < x.room(x.now) {
			x.served++
			c.served, c.end = true, x.now+x.latency
		}
		i := len(x.calls)
		for i > 0 && x.calls[i-1].end > c.end {
			i--
		}
		x.calls = append(x.calls, loopCall{})
		copy(x.calls[i+1:], x.calls[i:])
		x.calls[i] = c
	}
	x.w.Full = true // with a backlog the last place is always taken
}

func (x *loop) flush(inFlight int) {
	x.w.InFlight, x.w.Waiting = inFlight, 1
	w := x.w
	x.w = Window{Start: x.now}
	x.law.Window(x.now, w)
}

// run runs the loop until the instant until.
func (x *loop) run(until time.Duration) {
	for x.start(); len(x.calls) > 0 && x.calls[0].end <= until; x.start() {
		c := x.calls[0]
		x.now = c.end
		if !c.served {
			x.bad++
			x.flush(len(x.calls))
			x.law.Ended(x.now, c.Call, Outcome{Class: feedback.Throttled})
			x.calls = x.calls[1:]
			continue
		}
		x.calls = x.calls[1:]
		x.served--
		x.ok++
		d := x.now - c.SentAt
		if x.w.Timed == 0 || d < x.w.MinLatency {
			x.w.MinLatency = d
		}
		x.w.OK, x.w.Timed, x.w.Latency = x.w.OK+1, x.w.Timed+1, x.w.Latency+d
		x.w.MaxInFlight = max(x.w.MaxInFlight, c.InFlight)
		if x.now >= x.law.Decision().AskAgain {
			x.flush(len(x.calls))
		}
	}
	x.now = until
}

// share runs the loop until the instant until and returns how much of what the upstream
// would allow was served, and how many calls were refused for each that was served. The
// room must not change meanwhile.
func (x *loop) share(until time.Duration) (goodput, refused float64) {
	ok, bad, from := x.ok, x.bad, x.now
	x.run(until)
	best := float64(x.room(from)) * float64(until-from) / float64(x.latency)
	return float64(x.ok-ok) / best, float64(x.bad-bad) / max(1, float64(x.ok-ok))
}

func TestHoldsAConstantLimit(t *testing.T) {
	for _, test := range []struct {
		room    int
		latency time.Duration
		goodput float64 // at least
		refused float64 // for each that was served, at most
	}{
		{2, 200 * time.Millisecond, 0.85, 0.15},
		{10, 50 * time.Millisecond, 0.85, 0.06},
		{24, 500 * time.Millisecond, 0.88, 0.02},
		{64, 5 * time.Second, 0.75, 0.02},
		{500, 200 * time.Millisecond, 0.85, 0.01},
	} {
		x := loop{law: NewAIMD(Config{}), room: func(time.Duration) int { return test.room }, latency: test.latency, refuse: test.latency / 10}
		goodput, refused := x.share(300 * test.latency)
		t.Logf("room %d, latency %v: goodput %.3f of the best, %.4f refused a success, limit %d", test.room, test.latency, goodput, refused, x.law.Decision().Limit)
		if goodput < test.goodput || refused > test.refused {
			t.Errorf("room %d, latency %v: goodput %.3f, refused %.4f, want at least %.2f, at most %.3f",
				test.room, test.latency, goodput, refused, test.goodput, test.refused)
		}
	}
}

func TestRecoversInRoundTrips(t *testing.T) {
	const latency = 500 * time.Millisecond
	for _, test := range []struct {
		name              string
		before, in, after int           // what the upstream allows
		length            time.Duration // of the trouble
		roundTrips        int           // until three quarters of the best are served again, at most
	}{
		{"outage", 48, 0, 48, 30 * time.Second, 7},
		{"long outage", 200, 0, 200, 10 * time.Minute, 8},
		{"deep dip", 64, 4, 64, 30 * time.Second, 24},
		{"half", 64, 64, 32, time.Second, 8},
		{"quarter", 64, 64, 16, time.Second, 10},
		{"double", 32, 32, 64, time.Second, 16},
		{"tenfold", 20, 20, 200, time.Second, 16},
	} {
		t.Run(test.name, func(t *testing.T) {
			const begin = 60 * time.Second
			x := loop{law: NewAIMD(Config{}), latency: latency, refuse: latency / 10}
			x.room = func(now time.Duration) int {
				switch {
				case now < begin:
					return test.before
				case now < begin+test.length:
					return test.in
				}
				return test.after
			}
			x.run(begin)
			t.Logf("before: limit %d", x.law.Decision().Limit)
			x.run(begin + test.length)
			d := x.law.Decision()
			t.Logf("at the end of the trouble: limit %d episode %d", d.Limit, d.Episode)
			for i := range 200 {
				good, bad := x.share(x.now + latency)
				t.Logf("%2d: goodput %.2f refused %.2f limit %d %v", i, good, bad, x.law.Decision().Limit, x.law.Decision().Cause)
				if good >= 0.75 {
					if i > test.roundTrips {
						t.Errorf("three quarters of the best after %d round trips, want at most %d", i, test.roundTrips)
					}
					return
				}
			}
			t.Error("no recovery in 200 round trips")
		})
	}
}
