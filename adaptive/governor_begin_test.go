package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// streams lets n streams of a class begin, one every gap, each after it took first, while callers wait. None ends.
func streams(g *Governor, now time.Duration, n int, gap, first time.Duration, class uint8) time.Duration {
	for range n {
		now += gap
		d := g.Window(now, Window{Start: now - gap, InFlight: g.Decision().Limit, Waiting: 1, Full: true})
		g.Began(now, Call{SentAt: now - first, Episode: d.Episode, InFlight: d.Limit, Class: class})
	}
	return now
}

func TestStreamsThatHaveBegunAreAccepted(t *testing.T) {
	// Streams last for minutes: none has ended, and the limit has long risen. They start faster than before the first had begun, and not all at once.
	g := New(Config{})
	if d := g.Decision(); d.Pace != startPace {
		t.Fatalf("%v a second at first, want %v", d.Pace, startPace)
	}
	streams(g, 0, 100, 10*time.Millisecond, 300*time.Millisecond, 0)
	d := g.Decision()
	if d.Limit < 150 || d.Limit > 204 {
		t.Errorf("limit %d after 100 streams have begun, want 2 for each", d.Limit)
	}
	if per := d.Pace / float64(d.Limit); per < 0.5 || per > 2 {
		t.Errorf("%v a second with a limit of %d, want it to double in about a second", d.Pace, d.Limit)
	}
	if s := g.State(); s.Done != 0 || s.MeanOf != 0 {
		t.Errorf("%d calls ended", s.Done)
	}
}

func TestStreamsCountOnce(t *testing.T) {
	// A stream raises the limit when it begins, and not again when it ends.
	g := New(Config{})
	now := streams(g, 0, 10, 100*time.Millisecond, 300*time.Millisecond, 0)
	limit := g.Decision().Limit
	d := g.Window(now+time.Second, Window{Start: now, OK: 10, Begun: 10, Timed: 10, Latency: 50 * time.Second, MinLatency: time.Second, MaxInFlight: limit, InFlight: limit, Waiting: 1, Full: true})
	if d.Limit != limit {
		t.Errorf("limit %d after streams have ended that had begun, want %d as before", d.Limit, limit)
	}
	if d = g.Window(now+2*time.Second, Window{Start: now + time.Second, OK: 1, MaxInFlight: limit, InFlight: limit, Waiting: 1, Full: true}); d.Limit <= limit {
		t.Errorf("limit %d after a call has ended that was not told of before", d.Limit)
	}
}

func TestStreamsOfOldEpisodesSayNothing(t *testing.T) {
	g := New(Config{})
	now := streams(g, 0, 20, 100*time.Millisecond, 300*time.Millisecond, 0)
	old := g.Decision().Episode
	g.Ended(now, Call{SentAt: now, Episode: old, InFlight: 40}, refused(feedback.ScopeConcurrency))
	d := g.Window(now+time.Second, Window{Start: now, InFlight: 10})
	if got := g.Began(now+time.Second, Call{SentAt: now - time.Second, Episode: old, InFlight: 10}); got != d {
		t.Errorf("%+v after a stream from before the cut has begun, want %+v as before", got, d)
	}
}

func TestAnswersThatBeginLateHoldTheLimit(t *testing.T) {
	// With 50 starts a second, answers that begin 2 s later than at first mean that 100 calls wait at the upstream. A quarter of that
	// is little, and so is a time that jumps up and down as much as it rises.
	for _, test := range []struct {
		name  string
		class uint8
		late  time.Duration
		held  bool
	}{
		{"late", 0, 2300 * time.Millisecond, true},
		{"hardly later", 0, 310 * time.Millisecond, false},
		{"another class, which begins late always", 1, 2300 * time.Millisecond, false},
	} {
		g := New(Config{})
		now := streams(g, 0, 30, 20*time.Millisecond, 300*time.Millisecond, 0)
		limit := g.Decision().Limit
		now = streams(g, now, 100, 20*time.Millisecond, test.late, test.class)
		mid := g.Decision().Limit
		streams(g, now, 50, 20*time.Millisecond, test.late, test.class)
		if d := g.Decision(); (d.Limit == mid) != test.held {
			t.Errorf("%s: limit %d, then %d, then %d, want it held %v; %+v", test.name, limit, mid, d.Limit, test.held, g.State().Begin)
		}
	}
}

func TestLateBeginningsAreForgotten(t *testing.T) {
	// Answers may begin later now for all, whatever is in flight: the limit rises again after a while.
	g := New(Config{})
	now := streams(g, 0, 30, 20*time.Millisecond, 300*time.Millisecond, 0)
	now = streams(g, now, 200, 20*time.Millisecond, 2300*time.Millisecond, 0)
	held := g.Decision().Limit
	streams(g, now, 20_000, 20*time.Millisecond, 2300*time.Millisecond, 0)
	if d := g.Decision(); d.Limit <= held {
		t.Errorf("limit %d, which was %d 400 s before", d.Limit, held)
	}
}

func TestBeginningsTeachAfterARefusalWhereCallsAreLong(t *testing.T) {
	for _, test := range []struct {
		took    time.Duration
		teaches bool
	}{{5 * time.Second, false}, {50 * time.Second, true}} {
		g := New(Config{})
		now := streams(g, 0, 10, 100*time.Millisecond, 300*time.Millisecond, 0)
		now += test.took
		d := g.Window(now, Window{Start: now - time.Second, OK: 1, Begun: 1, Timed: 1, Latency: test.took, MinLatency: test.took, MaxInFlight: 20, InFlight: 20})
		d = g.Ended(now, Call{SentAt: now, Episode: d.Episode, InFlight: d.Limit}, refused(feedback.ScopeConcurrency))
		now = streams(g, now+time.Minute, 5, 100*time.Millisecond, 300*time.Millisecond, 0)
		if got := g.Decision().Limit; (got > d.Limit) != test.teaches {
			t.Errorf("calls of %v: limit %d after a refusal, and %d after 5 more have begun, want more %v", test.took, d.Limit, got, test.teaches)
		}
	}
}
