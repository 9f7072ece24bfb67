package scenario

import "time"

// Clipped returns s with the first d of its time, which is shorter than its duration: what changes, breaks, joins or leaves after that is left
// out. Its expectations are those of the whole and mean nothing any more.
func (s *Scenario) Clipped(d time.Duration) *Scenario {
	t := *s
	t.Expect = nil
	w := &t.World
	if w.Drain == min(w.Duration, defaultDrain) {
		w.Drain = min(d, defaultDrain)
	}
	w.Duration, w.Step = d, step(d)
	w.Changes = nil
	for _, c := range s.World.Changes {
		if c.At <= d {
			w.Changes = append(w.Changes, c)
		}
	}
	w.Upstream.Faults = nil
	for _, f := range s.World.Upstream.Faults {
		if f.From < d {
			w.Upstream.Faults = append(w.Upstream.Faults, f)
		}
	}
	w.Replicas = nil
	for _, r := range s.World.Replicas {
		if r.Leave > d {
			r.Leave = 0
		}
		if r.Join >= d {
			continue
		}
		w.Replicas = append(w.Replicas, r)
	}
	return &t
}

// defaultDrain is how long a run goes on after its duration when nobody says otherwise; no longer than its duration.
const defaultDrain = time.Minute
