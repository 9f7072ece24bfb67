package sim

import (
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/event"
)

// refusedPause is how long a client or a worker whose request was refused or failed waits before it takes up the
// next one, beside its time to think.
const refusedPause = int64(time.Second)

// source makes requests arrive.
type source struct {
	cfg   *Config
	taken uint64   // how many requests have arrived
	flow  flow     // of open loops and of sessions
	asked []uint32 // of each client: how many requests it has made

	sessions []session
	idle     int // free list of sessions

	tokens   bool
	outputs  []outputs // of each tenant; one where there are none
	weights  []float64 // of tenants
	come     bool      // some of them come, or leave
	priority uint8     // of the request that arrives, for Tracedd
}

// outputs are how long a tenant's answers are on average, and may be, in tokens; a most of 0 is as long as they are.
type outputs struct{ mean, most int64 }

// session is a conversation.
type session struct {
	key     uint64
	left    int
	turn    uint64
	context int64 // tokens that were said
	next    int
}

func (s *source) init(cfg *Config) {
	w := &cfg.Workload
	old := *s
	*s = source{cfg: cfg, sessions: old.sessions[:0], asked: old.asked[:0], weights: old.weights[:0], outputs: old.outputs[:0]}
	s.flow.init(cfg)
	s.tokens = w.tokens()
	s.idle = -1
	_, traced := meanTokens(cfg, s)
	for i := range max(1, len(w.Tenants)) {
		s.outputs = append(s.outputs, outputs{most: w.MaxOutput})
		if !s.tokens {
			continue
		}
		out, o := &w.Output, &s.outputs[i]
		if i < len(w.Tenants) && w.Tenants[i].Output != nil {
			out = w.Tenants[i].Output
		}
		if w.Kind == Traced { // nobody knows how long they may be
			o.mean = int64(math.Ceil(traced))
			continue
		}
		if o.mean = int64(math.Ceil(out.Average())); o.most == 0 {
			o.most = 2 * o.mean
		}
	}
	for i := range w.Tenants {
		s.weights = append(s.weights, w.Tenants[i].Weight)
		s.come = s.come || w.Tenants[i].Join > 0 || w.Tenants[i].Leave > 0
	}
	if w.Kind.patient() {
		s.asked = slices.Grow(s.asked, w.Clients)[:w.Clients]
		clear(s.asked)
	}
}

// begin makes the first requests arrive.
func (r *run) begin() {
	w := &r.cfg.Workload
	if !w.Kind.patient() {
		r.push(r.source.flow.next(), 0)
		return
	}
	for i := range w.Clients {
		if r.replicas[i%len(r.replicas)].here {
			r.push(stagger(r.cfg, i), i)
		}
	}
}

// push makes a client's next request arrive at an instant, when that is before the end.
func (r *run) push(at int64, client int) {
	if at < r.end {
		r.queue.Push(at, event.Ref(onArrive, client))
	}
}

// next fills in the request that arrives now; it reports false when there is none.
func (s *source) next(r *run, client int, q *request) bool {
	w := &s.cfg.Workload
	q.due, q.client, q.guard, q.rep, q.pinned, q.deadline = r.now, client, 0, 0, false, 0
	patience := w.Patience
	switch w.Kind {
	case Closed, Backlog:
		if w.Kind == Backlog && w.Jobs > 0 && s.taken >= uint64(w.Jobs) || !r.replicas[client%len(r.replicas)].here {
			return false
		}
		s.asked[client]++
		q.key = uint64(client)<<24 | uint64(s.asked[client])
		q.rep = client % len(r.replicas)
		q.guard = q.rep * r.keys
		if w.Kind == Backlog {
			q.key = s.taken
			if w.Jobs > 0 {
				q.due = 0 // all were due at the start
			}
		}
	case Sessions:
		if client == 0 { // a new one
			client = s.open(r)
			q.client = client
			r.push(s.flow.next(), 0)
		}
		v := &s.sessions[client-1]
		q.key = v.key<<12 | v.turn&(1<<12-1)
		v.turn++
		v.left--
		s.place(r, q, draw.Bits(s.cfg.Seed, streamReplica, v.key))
	default:
		q.client = -1
		q.key = s.taken
		r.push(s.flow.next(), 0)
		s.place(r, q, draw.Bits(s.cfg.Seed, streamReplica, q.key))
	}
	s.size(q, r.now)
	if w.Kind == Traced {
		t := &w.Requests[s.taken]
		q.input, q.output, q.cached = t.Input, t.Output, t.Cached
		s.priority = t.Priority
		if t.Tenant >= 0 {
			q.tenant = uint16(t.Tenant)
		}
		if t.Key > 0 && t.Key <= r.keys {
			q.pinned, q.guard = true, q.guard+t.Key-1
		}
		if t.Patience > 0 {
			patience = t.Patience
		}
	}
	if w.Kind == Sessions {
		v := &s.sessions[client-1]
		q.cached = int64(w.Cached * float64(v.context))
		q.input += v.context
	}
	if patience > 0 {
		q.deadline = q.due + int64(patience)
	}
	s.taken++
	return true
}

// place gives a request a replica that is there.
func (s *source) place(r *run, q *request, bits uint64) {
	if n := len(r.present); n > 1 {
		q.rep = r.present[bits>>32%uint64(n)]
	} else if n == 1 {
		q.rep = r.present[0]
	}
	q.guard = q.rep * r.keys
}

// size draws whose a request is that comes at an instant, and how large it is.
func (s *source) size(q *request, at int64) {
	w := &s.cfg.Workload
	q.tenant, q.input, q.output, q.cached, q.work = 0, 0, 0, 0, 1
	in, out := &w.Input, &w.Output
	if len(s.weights) > 1 {
		if s.come {
			for i := range w.Tenants {
				if s.weights[i] = w.Tenants[i].Weight; !w.Tenants[i].asks(at) {
					s.weights[i] = 0
				}
			}
		}
		q.tenant = uint16(draw.Choose(s.weights, draw.U(s.cfg.Seed, streamTenant, q.key)))
	}
	if len(w.Tenants) > 0 && w.Tenants[q.tenant].Work > 0 {
		q.work = w.Tenants[q.tenant].Work
	}
	if !s.tokens {
		return
	}
	if len(w.Tenants) > 0 {
		t := &w.Tenants[q.tenant]
		if t.Input != nil {
			in = t.Input
		}
		if t.Output != nil {
			out = t.Output
		}
	}
	q.input = max(1, in.Int(s.cfg.Seed, streamInput, q.key))
	q.output = max(1, out.Int(s.cfg.Seed, streamOutput, q.key))
	if most := s.outputs[q.tenant].most; most > 0 {
		q.output = min(q.output, most)
	}
	q.cached = int64(w.Cached * float64(q.input))
}

// mostTurns is how many requests a session has at most.
const mostTurns = 1<<12 - 1

// turnsOf returns how many requests a session has.
func turnsOf(cfg *Config, key uint64) int {
	return int(min(mostTurns, max(1, cfg.Workload.Turns.Int(cfg.Seed, streamTurns, key))))
}

// open begins a session and returns its number, from 1 on.
func (s *source) open(*run) int {
	i := s.idle
	if i < 0 {
		s.sessions = append(s.sessions, session{})
		i = len(s.sessions) - 1
	} else {
		s.idle = s.sessions[i].next
	}
	key := s.flow.n
	s.sessions[i] = session{key: key, left: turnsOf(s.cfg, key)}
	return i + 1
}

// free tells that the caller of a request is done with it.
func (s *source) free(r *run, q *request, ok bool) {
	w := &s.cfg.Workload
	switch {
	case w.Kind == Sessions:
		v := &s.sessions[q.client-1]
		if !ok || v.left <= 0 {
			v.next = s.idle
			s.idle = q.client - 1
			return
		}
		v.context = q.input + q.output
		r.push(r.now+w.Think.Int(s.cfg.Seed, streamThink, q.key), q.client)
		return
	case !w.Kind.patient() || !r.replicas[q.rep].here:
		return
	}
	at := r.now
	if w.Kind == Closed {
		if ok {
			at += think(s.cfg, uint64(q.start))
		} else {
			at += w.Think.Int(s.cfg.Seed, streamThinkLost, q.key)
		}
	}
	if !ok {
		at += refusedPause
	}
	r.push(at, q.client)
}

// think returns how long the client thinks whose call was the n-th that the server started. See Bound.
func think(cfg *Config, n uint64) int64 { return cfg.Workload.Think.Int(cfg.Seed, streamThink, n) }

// stagger returns when a client of a closed loop first asks: within one time to think, so that they do
// not march in step. Workers ask at once.
func stagger(cfg *Config, client int) int64 {
	if cfg.Workload.Kind != Closed {
		return 0
	}
	return int64(draw.U(cfg.Seed, streamStagger, uint64(client)) * cfg.Workload.Think.Average())
}

// flow is the instants at which requests arrive in an open loop, one after the other.
type flow struct {
	cfg    *Config
	n      uint64 // how many were asked for
	at     int64  // the last one
	rate   rates
	states bool
	state  int   // the present one
	until  int64 // when it ends
	turns  uint64
	gap    draw.Dist
	mean   float64 // of gap
}

func (f *flow) init(cfg *Config) {
	w := &cfg.Workload
	f.cfg = cfg
	first := w.Rate
	if first == 0 {
		first = 1
	}
	f.rate = ratesOf(cfg, first)
	if w.Kind == Modulated {
		f.states = true
		f.until = f.lasts()
	}
	if w.Kind == Renewal {
		f.gap = w.Gap
		if f.mean = f.gap.Average(); f.mean <= 0 {
			f.gap, f.mean = draw.Dist{Mean: 1}, 1
		}
	}
}

// lasts returns how long the present state lasts.
func (f *flow) lasts() int64 {
	f.turns++
	return int64(draw.Exp(f.cfg.Seed, streamState, f.turns) * float64(f.cfg.Workload.States[f.state].Mean))
}

// next returns when the next request arrives; never when none does.
func (f *flow) next() int64 {
	w := &f.cfg.Workload
	if w.Kind == Traced {
		if f.n >= uint64(len(w.Requests)) {
			return never
		}
		at := float64(w.Requests[f.n].At) / f.rate.rate[0] / 1e9
		f.n++
		return int64(at)
	}
	// The time to the next one, at a rate of one.
	need := 0.0
	if w.Kind == Renewal {
		need = f.gap.Sample(f.cfg.Seed, streamArrival, f.n) / f.mean
	} else {
		need = gap(f.cfg.Seed, f.n)
	}
	f.n++
	if !f.states {
		f.at = f.rate.after(f.at, need)
		return f.at
	}
	for f.at < never {
		by := w.States[f.state].Rate
		if by > 0 {
			if at := f.rate.after(f.at, need/by); at <= f.until {
				f.at = at
				return at
			}
			need -= by * f.rate.between(f.at, f.until)
		}
		f.at = f.until
		f.state = (f.state + 1) % len(w.States)
		f.until = f.at + max(1, f.lasts())
		if f.at >= int64(f.cfg.Duration) {
			break // nobody asks for what comes so late
		}
	}
	f.at = never
	return never
}

// Arrivals returns when requests arrive within Duration, for a workload that is an open loop (Poisson, Renewal, Modulated, Traced) or the
// sessions of Sessions. It is what a report shows of a workload.
func Arrivals(cfg *Config) []time.Duration {
	var f flow
	f.init(cfg)
	var list []time.Duration
	for at := f.next(); at < int64(cfg.Duration); at = f.next() {
		list = append(list, time.Duration(at))
	}
	return list
}

// gap returns how much must be integrated over the rate before the n-th arrival (unitless, mean 1).
func gap(seed, n uint64) float64 { return draw.Exp(seed, streamArrival, n) }

// rates is a rate that is constant between steps.
type rates struct {
	at   []int64
	rate []float64 // per ns, from at on
	i    int       // of the step that was used last: time goes on
}

func ratesOf(cfg *Config, first float64) rates {
	s := rates{at: []int64{0}, rate: []float64{first / 1e9}}
	for _, c := range cfg.Changes {
		if c.Param == ParamRate {
			s.at = append(s.at, int64(c.At))
			s.rate = append(s.rate, max(0, c.To)/1e9)
		}
	}
	return s
}

// find moves to the step of an instant.
func (s *rates) find(now int64) int {
	if s.at[s.i] > now {
		s.i = 0
	}
	for s.i+1 < len(s.at) && s.at[s.i+1] <= now {
		s.i++
	}
	return s.i
}

// after returns the instant up to which the rate integrates to need, from now on.
func (s *rates) after(now int64, need float64) int64 {
	if now >= never {
		return never
	}
	for i := s.find(now); ; i++ {
		if i+1 == len(s.at) {
			if s.rate[i] <= 0 {
				return never
			}
			return now + int64(min(need/s.rate[i], 1<<61))
		}
		has := s.rate[i] * float64(s.at[i+1]-now)
		if has >= need && s.rate[i] > 0 {
			return now + int64(need/s.rate[i])
		}
		need -= has
		now = s.at[i+1]
	}
}

// between returns what the rate integrates to from one instant to another.
func (s *rates) between(from, to int64) float64 {
	sum := 0.0
	for i := s.find(from); from < to; i++ {
		end := to
		if i+1 < len(s.at) {
			end = min(to, s.at[i+1])
		}
		sum += s.rate[i] * float64(end-from)
		from = end
	}
	return sum
}
