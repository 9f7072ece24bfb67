package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// A state that says a larger limit than it says is stated is moved into range: stated again, the same number would lower nothing.
func TestRestoredLimitStaysBelowStated(t *testing.T) {
	now := time.Hour
	for _, test := range []struct {
		cfg     Config
		doubted bool
		want    int
	}{{Config{}, false, 5}, {Config{Min: 8}, false, 8}, {Config{}, true, 50}} {
		g := New(test.cfg)
		s := g.State()
		s.At, s.Limit, s.Stated, s.StatedAt, s.Doubted = now, 50, 5, now, test.doubted
		g.Restore(now, s)
		if d := g.Hint(now, feedback.Window{Kind: feedback.ScopeConcurrency, Limit: 5}); d.Limit != test.want {
			t.Errorf("%+v, contradicted %v: a limit of %d where 5 is stated, want %d", test.cfg, test.doubted, d.Limit, test.want)
		}
	}
}

// A trial is refuted by refusals at the same number also after a state that says that the last of them came after more calls than there were.
func TestRestoredHitsCount(t *testing.T) {
	now := time.Hour
	g := New(Config{})
	s := g.State()
	s.At, s.Limit, s.Done, s.Trial, s.Hits, s.HitsFrom = now, 20, 1000, 20, 1, unbounded
	g.Restore(now, s)
	g.s.Done += 100
	if !g.refuted(20, 0, &Outcome{Class: feedback.Throttled}) {
		t.Errorf("a second refusal with 20 in flight, 100 calls later, refutes nothing: %d of %d", g.s.Hits, trialHits)
	}
}

// As many refusals at the same number as are counted are restored.
func TestRestoredSame(t *testing.T) {
	g := New(Config{})
	s := g.State()
	s.At, s.Same = time.Hour, mostSame
	if g.Restore(time.Hour, s); g.s.Same != mostSame {
		t.Errorf("%d refusals at the same number were counted, %d are restored", mostSame, g.s.Same)
	}
}

// A slow pace is tried again a minute after the last refusal at most, also after a state that says that it comes in an hour.
func TestRestoredRefusalIsOver(t *testing.T) {
	now := time.Hour
	g := New(Config{})
	s := g.State()
	s.At, s.RefusedLast = now, 2*now
	s.Pace[paceRequests] = PaceState{Rate: 0.5, Known: 0.5, Sure: true, Measured: true, Use: 1}
	g.Restore(now, s)
	if at := g.paceProbeAt(&g.s.Pace[paceRequests]); at > now+time.Minute {
		t.Errorf("tried again after %v, want a minute at most", at-now)
	}
}

// Since when calls are counted is an instant of the new clock, however far it is from the old one: in what passed between the clocks no calls
// ended, and that says nothing, nor is the count put off until the new clock is as late as the old one.
func TestRestoredMost(t *testing.T) {
	for _, now := range []time.Duration{time.Minute, 20 * time.Hour} {
		g := New(Config{})
		s := g.State()
		s.At, s.Limit, s.Mean, s.MeanOf, s.SlowStart, s.MostFull = 10*time.Hour, 30, 1, 32, false, true
		s.Most = MostState{From: s.At - time.Second, Level: 10, Rate: 10}
		g.Restore(now, s)
		full := func(after time.Duration) int {
			return g.Window(now+after, Window{Start: now, InFlight: 30, MaxInFlight: 30, Full: true}).Limit
		}
		if limit := full(time.Millisecond); limit != 30 {
			t.Errorf("restored at %v: a limit of %d at once, want 30", now, limit)
		}
		if limit := full(5 * time.Second); limit != 10 {
			t.Errorf("restored at %v: a limit of %d when none has ended for 6 s, want 10", now, limit)
		}
	}
}

// When one call more was tried last is an instant of the new clock, and none that is ahead: else it would not be tried for an hour.
func TestRestoredTryIsOver(t *testing.T) {
	const then, now = time.Hour, 5 * time.Hour
	for _, test := range []struct{ tried, want time.Duration }{{then - time.Minute, now - time.Minute}, {then + time.Minute, now}, {2 * then, now}} {
		g := New(Config{})
		s := g.State()
		s.At, s.TriedAt = then, test.tried
		if g.Restore(now, s); g.s.TriedAt != test.want {
			t.Errorf("tried at %v, %v ago, want %v ago", g.s.TriedAt, now-g.s.TriedAt, now-test.want)
		}
	}
}
