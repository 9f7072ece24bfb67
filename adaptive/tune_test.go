package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

func TestTuneKeepsWhatWasLearned(t *testing.T) {
	l := NewAIMD(Config{Initial: 40, Max: 100})
	if d := l.Tune(time.Second, Config{Max: 100, Epoch: 3}); d.Limit != 40 {
		t.Errorf("limit %d after a change of Epoch, want 40 as before", d.Limit)
	}
	before := l.Decision().Episode
	if d := l.Tune(2*time.Second, Config{Max: 10}); d.Limit != 10 || d.Cause != CauseExternal || d.Episode == before {
		t.Errorf("after Max 10: %+v, want limit 10 from outside in a new episode", d)
	}
	if d := l.Tune(3*time.Second, Config{Min: 20, Max: 100}); d.Limit != 20 {
		t.Errorf("limit %d after Min 20, want 20", d.Limit)
	}
	d := l.Ended(4*time.Second, Call{Episode: l.Decision().Episode, InFlight: 20}, Outcome{Class: feedback.Throttled})
	if d.Limit != 20 {
		t.Errorf("limit %d after a refusal, want it to stay at Min 20", d.Limit)
	}
}
