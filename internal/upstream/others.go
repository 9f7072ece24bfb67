package upstream

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/event"
)

func (u *Upstream) initNeighbour() {
	n := &u.cfg.Neighbour
	if n.Rate <= 0 && n.Busy <= 0 {
		return
	}
	if n.Burst > 0 {
		u.events.Push(u.lasts(n.Quiet), event.Ref(onPhase, 0))
	}
	u.planNeighbour(0)
}

// lasts returns how long the neighbour's next phase is.
func (u *Upstream) lasts(mean time.Duration) int64 {
	u.phases++
	return phaseOf(u.cfg.Seed, u.phases, mean)
}

// phaseOf returns how long a neighbour's k-th phase is.
func phaseOf(seed, k uint64, mean time.Duration) int64 {
	return int64(draw.Exp(seed, streamPhase, k) * float64(max(mean, time.Millisecond)))
}

// Phases returns the instants before an end at which a neighbour who begins quietly becomes busy, quiet again, busy again and so on.
func (n *Neighbour) Phases(seed uint64, end int64) (list []int64) {
	if n.Burst <= 0 || n.Rate <= 0 && n.Busy <= 0 {
		return nil
	}
	at := int64(0)
	for k := uint64(1); ; k++ {
		mean := n.Quiet
		if k%2 == 0 {
			mean = n.Burst
		}
		if at += phaseOf(seed, k, mean); at >= end {
			return list
		}
		list = append(list, at)
	}
}

// planNeighbour plans the neighbour's next call. A Poisson process forgets, so a new rate may begin anew.
func (u *Upstream) planNeighbour(now int64) {
	n := &u.cfg.Neighbour
	rate := n.Rate
	if u.isBusy {
		rate = n.Busy
	}
	rate *= u.factor
	u.nextCall = 0
	if rate > 0 {
		u.neighbours++
		gap := draw.Exp(u.cfg.Seed, streamNeighbour, u.neighbours) / rate * 1e9
		u.nextCall = u.events.Push(now+int64(min(gap, 1<<60)), event.Ref(onNeighbour, 0))
	}
}

// phase lets the neighbour become busy or quiet.
func (u *Upstream) phase(now int64) {
	n := &u.cfg.Neighbour
	u.isBusy = !u.isBusy
	mean := n.Quiet
	if u.isBusy {
		mean = n.Burst
	}
	u.events.Push(now+u.lasts(mean), event.Ref(onPhase, 0))
	u.planNeighbour(now)
}

// neighbour lets the neighbour call.
func (u *Upstream) neighbour(now int64) {
	n := &u.cfg.Neighbour
	i := u.take()
	k := u.neighbours
	u.slots[i] = slot{
		call: Call{
			Key:   1<<63 | k,
			Input: n.Input.Int(u.cfg.Seed, streamNeighbourInput, k), Output: n.Output.Int(u.cfg.Seed, streamNeighbourOutput, k),
		},
		submitted: now, first: -1, start: unstarted, next: -1, prev: -1, neighbour: true,
	}
	u.enter(now, i)
	u.planNeighbour(now)
}

// tick returns how often the autoscaler looks.
func (u *Upstream) tick() int64 {
	if t := int64(u.cfg.Autoscaler.Tick); t > 0 {
		return t
	}
	return int64(15 * time.Second)
}

// scale lets the autoscaler look.
func (u *Upstream) scale(now int64) {
	a := &u.cfg.Autoscaler
	u.events.Push(now+u.tick(), event.Ref(onScale, 0))
	target, step, down := a.Target, max(1, a.Step), int64(a.Down)
	if target <= 0 {
		target = .7
	}
	if down == 0 {
		down = int64(300 * time.Second)
	}
	demand := float64(u.busy + u.line.n + u.batch.waiting.n)
	wanted := min(a.Max, max(u.least, math.Ceil(demand/target)))
	have := u.servers + u.coming
	switch {
	case wanted > have:
		u.less = never
		if u.more == never {
			u.more = now
		}
		if now-u.more < int64(a.Up) {
			return
		}
		for have < wanted {
			n := math.Floor(min(step, a.Max-have)) // servers come whole
			if n < 1 {
				break
			}
			have += n
			u.coming += n
			u.started++
			u.events.Push(now+a.ColdStart.Int(u.cfg.Seed, streamColdStart, u.started), event.Ref(onReady, int(n)))
		}
	case wanted+step <= u.servers && u.coming == 0:
		u.more = never
		if u.less == never {
			u.less = now
		}
		if now-u.less >= down {
			u.servers = max(u.least, u.servers-step)
			u.less = now
			u.resize(now)
		}
	default:
		u.more, u.less = never, never
	}
}
