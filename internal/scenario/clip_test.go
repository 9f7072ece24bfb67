package scenario

import (
	"testing"
	"time"
)

// The first part of a scenario has nothing of the rest.
func TestClipped(t *testing.T) {
	s, err := Parse("clip.toml", []byte(`
name = "clip"
intent = "Much happens."
duration = "5m"
[workload]
kind = "poisson"
rate = 2.0
[upstream.concurrency]
limit = 8
[upstream.server]
service = { mean = "1s" }
[[change]]
at = "60s"
set = "upstream.concurrency.limit"
to = 4
[[change]]
at = "200s"
set = "upstream.concurrency.limit"
to = 8
[[upstream.outage]]
from = "50s"
to = "150s"
[[upstream.outage]]
from = "220s"
to = "230s"
[[replica]]
leave = "110s"
[[replica]]
join = "150s"
`))
	if err != nil {
		t.Fatal(err)
	}
	c := s.Clipped(100 * time.Second)
	w := &c.World
	if w.Duration != 100*time.Second || w.Drain != time.Minute || len(w.Changes) != 1 || len(w.Upstream.Faults) != 1 || len(w.Replicas) != 1 || w.Replicas[0].Leave != 0 || w.Step != 200*time.Millisecond {
		t.Errorf("%v, drain %v, step %v, %d changes, %d faults, replicas %v", w.Duration, w.Drain, w.Step, len(w.Changes), len(w.Upstream.Faults), w.Replicas)
	}
	if c := s.Clipped(20 * time.Second); c.World.Drain != 20*time.Second || len(c.World.Changes)+len(c.World.Upstream.Faults) != 0 {
		t.Errorf("drain %v, %d changes", c.World.Drain, len(c.World.Changes))
	}
	if len(s.World.Changes) != 2 || len(s.World.Upstream.Faults) != 2 || len(s.World.Replicas) != 2 {
		t.Error("the whole was changed, too")
	}
}
