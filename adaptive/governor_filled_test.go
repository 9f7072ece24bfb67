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

// Each condition of filled is needed: a pace that is sure and no faster than the quota, and more in flight than ever went well and than was refused before.
func TestGovernorFilledNeeds(t *testing.T) {
	for _, tt := range []struct {
		name    string
		spoil   func(s *GovernorState)
		n, most float64
		want    bool
	}{
		{"all places are taken", func(*GovernorState) {}, 17, 16, true},
		{"as many went well", func(*GovernorState) {}, 17, 17, false},
		{"more were refused before", func(s *GovernorState) { s.RefusedAt = 18 }, 17, 16, false},
		{"the pace is not sure", func(s *GovernorState) { s.Pace[paceRequests].Sure = false }, 17, 16, false},
		{"a faster pace is tried", func(s *GovernorState) { s.Pace[paceRequests].Rate = 4.1 }, 17, 16, false},
		{"a call passed in the row", func(s *GovernorState) { s.PassedAt = s.DarkSince }, 17, 16, false},
	} {
		g := New(Config{})
		s := &g.s
		s.RefusedAt, s.PassedAt, s.DarkSince = 17, time.Minute, 61*time.Second
		s.Pace[paceRequests] = PaceState{Rate: 3.9, Known: 4, Sure: true, Measured: true}
		tt.spoil(s)
		if got := g.filled(tt.n, tt.most, &Call{SentAt: 63 * time.Second}); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
