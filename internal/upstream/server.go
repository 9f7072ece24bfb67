package upstream

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/event"
)

// places returns how many calls may be served at a time; +Inf when there is no limit. A part of a server serves nobody, and one is always left.
func (u *Upstream) places() float64 {
	if u.servers == 0 {
		return math.Inf(1)
	}
	return max(1, math.Floor(u.servers*u.capacity))
}

// full reports whether the server's queue does not take a call.
func (u *Upstream) full(c *Call) bool {
	sv := &u.cfg.Server
	if !sv.Bounded {
		return false
	}
	switch sv.Kind {
	case Sharing:
		return float64(u.busy) >= u.places()+float64(sv.Queue)
	case Batch:
		return u.batch.waiting.n >= sv.Queue && u.beyond(roomOf(c)) > sv.Queue
	}
	return u.line.n >= sv.Queue && (u.line.n > 0 || float64(u.busy) >= u.places())
}

// toServer hands a call that was admitted to the server.
func (u *Upstream) toServer(now int64, i int32) {
	s := &u.slots[i]
	sv := &u.cfg.Server
	switch sv.Kind {
	case Sharing:
		u.begin(now, s)
		u.addShare(now, i)
		return
	case Batch:
		s.state = queued
		if d := int64(sv.LLM.Ingest); d > 0 {
			s.seq = u.events.Push(now+d, event.Ref(onIngested, int(i)))
		} else {
			u.join(now, i)
		}
		return
	}
	if u.line.n == 0 && float64(u.busy) < u.places() {
		u.serve(now, i)
		return
	}
	s.state = queued
	u.push(&u.line, i, sv.LIFO)
	if d := int64(sv.QueueTimeout); d > 0 {
		s.timeout = u.events.Push(now+d, event.Ref(onTimeout, int(i)))
	}
}

// unqueue takes a call out of the queue that it is in.
func (u *Upstream) unqueue(now int64, i int32) {
	if u.cfg.Server.Kind == Batch {
		b := &u.batch
		if s := &u.slots[i]; s.prompt > 0 {
			u.remove(&b.waiting, i)
		}
		if b.waiting.n > 0 && u.fits(u.slots[b.waiting.head].room) { // it waited behind the one that is gone
			u.interrupt(now)
		}
		return
	}
	u.remove(&u.line, i)
}

// begin counts the start of a call.
func (u *Upstream) begin(now int64, s *slot) {
	s.state, s.began = serving, now
	if s.neighbour {
		s.start = -1
	} else {
		s.start = u.starts
		u.starts++
		u.waitSum += now - s.admitted
	}
	u.occupy(now, 1)
}

// serve starts a call at a server.
func (u *Upstream) serve(now int64, i int32) {
	s := &u.slots[i]
	u.begin(now, s)
	before, after := u.work(now, s)
	s.first = now + before
	end := s.first + after
	if after == 0 || s.call.Output == 0 {
		s.first = end
	}
	s.seq = u.events.Push(end, event.Ref(onServed, int(i)))
	if u.cfg.FirstByte && !s.neighbour {
		s.timeout = u.events.Push(s.first, event.Ref(onFirst, int(i)))
	}
}

// work returns how long a call that starts at now takes until its answer begins, and then until its end, in ns.
func (u *Upstream) work(now int64, s *slot) (before, after int64) {
	sv := &u.cfg.Server
	if s.neighbour {
		before = sv.Service.Int(u.cfg.Seed, streamNeighbourService, s.call.Key)
	} else {
		before = sv.Service.Int(u.cfg.Seed, StreamService, uint64(s.start))
	}
	if w := s.call.Work; w > 0 && w != 1 {
		before = stretch(before, w)
	}
	before += int64(sv.InputToken) * (s.call.Input - s.call.Cached)
	after = int64(sv.OutputToken) * s.call.Output
	if f := u.load(now) * u.slow; f != 1 {
		before, after = stretch(before, f), stretch(after, f)
	}
	if sv.StallShare > 0 && draw.U(u.cfg.Seed, StreamStalls, s.call.Key) < sv.StallShare {
		after += sv.Stall.Int(u.cfg.Seed, StreamStall, s.call.Key)
	}
	return before, after
}

// stretch returns ns times by, which may be infinite where a knee is left far behind: at most 36 years.
func stretch(ns int64, by float64) int64 {
	const most = 1 << 60
	return int64(min(float64(ns)*min(by, most), most))
}

// load returns by how much the calls that are served slow down one that starts now; it is one of them already.
func (u *Upstream) load(now int64) float64 {
	sv := &u.cfg.Server
	f := 1.0
	if sv.Scale > 0 {
		f += sv.Scale * float64(u.busy-1)
	}
	if sv.Knee > 0 && float64(u.busy) > sv.Knee {
		f += math.Pow(sv.KneeBase, float64(u.busy)-sv.Knee) - 1
	}
	if sv.RateScale > 0 {
		for u.recent.n > 0 && u.recent.at(0).at <= now-int64(time.Second) {
			u.recent.drop()
		}
		u.recent.push(entry{at: now})
		f += sv.RateScale * float64(u.recent.n-1)
	}
	return f
}

// served ends a call at its server.
func (u *Upstream) served(now int64, i int32) {
	u.occupy(now, -1)
	u.leave(now, i)
	u.finish(now, i)
	u.pump(now)
}

// finish tells of the end of a call, and forgets it.
func (u *Upstream) finish(now int64, i int32) {
	s := &u.slots[i]
	if s.gone && !s.neighbour {
		u.wasted += s.call.Output
	}
	if !s.gone && !s.neighbour {
		first := s.first
		if first < 0 {
			first = now
		}
		u.emit(Event{
			Kind: Done, At: now, ID: s.call.ID, Handle: Handle(i), Reply: u.success(now, s), Tokens: s.call.Output,
			Start: s.start, Queued: s.began - s.admitted, First: first - s.submitted,
		})
	}
	u.give(i)
}

// pump lets free servers take calls from the queue.
func (u *Upstream) pump(now int64) {
	for u.line.n > 0 && float64(u.busy) < u.places() {
		i := u.pop(&u.line)
		u.serve(now, i)
	}
}

// planProgress plans the next event about the tokens of a call that a server works on: they come evenly.
func (u *Upstream) planProgress(now int64, i int32) {
	s := &u.slots[i]
	step := u.cfg.Progress
	if step <= 0 || s.told+step >= s.call.Output {
		return
	}
	each := float64(u.cfg.Server.OutputToken) * u.slow
	s.timeout = u.events.Push(max(now, s.first+int64(each*float64(s.told+step))), event.Ref(onProgress, int(i)))
}

// progress tells how many tokens of an answer are there.
func (u *Upstream) progress(now int64, i int32, tokens int64) {
	s := &u.slots[i]
	if tokens <= s.told || s.gone || s.neighbour {
		return
	}
	s.told = tokens
	u.emit(Event{Kind: Progress, At: now, ID: s.call.ID, Handle: Handle(i), Tokens: tokens})
}
