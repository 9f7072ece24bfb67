package kafka

import "time"

// SetGoneTime sets for how long a broker may not know a topic before the brokers are asked.
func (s *Source) SetGoneTime(d time.Duration) { s.goneTime = d }

// SetFailTime sets for how long a partition may have no leader before that is told.
func (s *Source) SetFailTime(d time.Duration) { s.failTime = d }
