package kafka

import "time"

// SetGoneTime sets for how long a broker may not know a topic before the brokers are asked.
func (s *Source) SetGoneTime(d time.Duration) { s.goneTime = d }
