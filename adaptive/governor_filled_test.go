package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Of 16 places and four calls a second that a quota gives, long answers take all places. Refusals in a row at the number of places, while no call ends and the quota
// would have given several, lower the limit, and not the pace. Where one of that is not so, a quota may have fallen.
func TestGovernorFilled(t *testing.T) {
	for _, tt := range []struct {
		name  string
		known float64       // calls a second that the quota gives
		gap   time.Duration // between refusals
		sees  int           // calls in flight that each refused one sees
		less  int           // how many fewer than the one before
		ends  time.Duration // when a call ends well; 0: none does
		want  float64
	}{
		{"all places are taken", 4, 400 * time.Millisecond, 17, 0, 0, 16},
		{"with as many as ever went well", 4, 400 * time.Millisecond, 16, 0, 0, 26},
		{"with fewer and fewer", 4, 400 * time.Millisecond, 18, 1, 0, 26},
		{"one has ended", 4, 400 * time.Millisecond, 17, 0, 500 * time.Millisecond, 26},
		{"within a second", 4, 200 * time.Millisecond, 17, 0, 0, 26},
		{"before a quota that halved gives one", 2, 400 * time.Millisecond, 17, 0, 0, 26},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := New(Config{})
			s := &g.s
			s.At, s.Limit, s.Top, s.Proven, s.Mean, s.SlowStart = 0, 26, 16, 16, 8, false
			s.Done, s.InFlight = 1000, tt.sees
			s.Pace[paceRequests] = PaceState{Rate: paceMargin * tt.known, Known: tt.known, Ceiling: tt.known, Sure: true, Measured: true, Saves: true, Use: 1,
				AnchorAt: 30 * time.Second, AnchorCount: g.accepted() - 30*tt.known}
			now := time.Minute
			for i := range 4 {
				if tt.ends > 0 && now > time.Minute+tt.ends {
					g.s.PassedAt = time.Minute + tt.ends
				}
				limit, pace := s.Limit, g.Decision().Pace
				s.InFlight = tt.sees - i*tt.less
				g.Ended(now+20*time.Millisecond, Call{SentAt: now, Episode: s.Episode, InFlight: tt.sees - i*tt.less}, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown})
				if s.Limit != limit && g.Decision().Pace != pace {
					t.Errorf("the pace went from %v to %v with the limit", pace, g.Decision().Pace)
				}
				now += tt.gap
			}
			if s.Limit != tt.want {
				t.Errorf("the limit is %v after four refusals in a row, want %v", s.Limit, tt.want)
			}
		})
	}
}
