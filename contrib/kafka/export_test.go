package kafka

import (
	"context"
	"time"
)

// SetGoneTime sets for how long a broker may not know a topic before the brokers are asked.
func (s *Source) SetGoneTime(d time.Duration) { s.goneTime = d }

// SetFailTime sets for how long a partition may have no leader before that is told.
func (s *Source) SetFailTime(d time.Duration) { s.failTime = d }

// SetMostLater sets how many bytes of jobs of a topic may wait here for their time.
func (s *Source) SetMostLater(n int) { s.most = n }

// Waiting returns how many jobs wait here for their time.
func (s *Source) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.later)
}

// Look looks for transactions that do not end, now and at moments later.
func (s *Source) Look(ctx context.Context, later ...time.Duration) {
	now := time.Now()
	waits := s.look(ctx, now, nil)
	for _, d := range later {
		waits = s.look(ctx, now.Add(d), waits)
	}
}

// Commit commits what is done beside the client.
func (s *Source) Commit(ctx context.Context) error { return s.commit(ctx) }
