package event

import (
	"math/rand/v2"
	"testing"
)

func TestQueueOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	q := Queue{seq: 1<<32 - 500} // wraps on the way
	var last Event
	pending := 0
	for i := range 5000 {
		if pending == 0 || rng.IntN(2) == 0 {
			at := last.At + rng.Int64N(20)
			if rng.IntN(2) == 0 {
				q.Push(at, 0)
			} else {
				lane := rng.IntN(lanes)
				q.PushLane(lane, max(at, q.lane[lane].last), 0)
			}
			pending++
			continue
		}
		e, ok := q.Pop()
		if !ok || i > 0 && e.Before(last) {
			t.Fatalf("step %d: %v comes after %v", i, e, last)
		}
		last = e
		pending--
	}
}
