package upstream

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/internal/event"
)

// LLM is a server that batches requests to a language model continuously: in each iteration every sequence in the batch gets one
// more token, and what is left of Chunk prefills prompts. With S sequences decoding, P prompt tokens in the iteration and K
// tokens in the cache it takes
//
//	sqrt(Step² + (Token·(P+S))²) + Sequence·S + Cache·K
//
// (bound by the weights or by arithmetic, and then overheads). Requests are admitted in order while fewer than MaxSeqs are in the batch
// and the cache has room for the prompt. When decoding overflows the cache, the newest sequence is preempted: it loses its cache and is computed
// anew. Prefix caching (Call.Cached) saves prefill, not room.
type LLM struct {
	Step     time.Duration // of an empty iteration
	Token    float64       // ns a token that is computed
	Sequence float64       // ns a sequence that decodes
	Cache    float64       // ns a token in the cache
	KV       int64         // how many tokens the cache holds
	MaxSeqs  int           // how many sequences are in the batch at most
	Chunk    int           // how many tokens are computed in an iteration at most
	Ingest   time.Duration // before a request reaches the batch
	Detach   time.Duration // a token of output, after a request has left it
}

// profiles are servers that were fitted to public measurements: Step and Token to Vidur's profiles of operators (microsoft/vidur 7d47513;
// mean error 4 to 8 %), the rest after BLIS's coefficients (inference-sim/inference-sim f90a1e3): Ingest 15.6 ms, Detach 46 µs a token,
// 32 µs a layer, 4.4 µs a request; MaxSeqs and Chunk are vLLM's defaults. llama-8b-h100 is scaled from
// bandwidth and arithmetic, which is less sure; tiny-kv has a cache so small that it overflows first.
var profiles = map[string]LLM{
	"llama-8b-a100":    {11200 * time.Microsecond, 70e3, 20e3, 125, 400_000, 256, 2048, 15600 * time.Microsecond, 46 * time.Microsecond},
	"llama-8b-h100":    {7700 * time.Microsecond, 24e3, 10e3, 76, 400_000, 256, 2048, 15600 * time.Microsecond, 46 * time.Microsecond},
	"llama-70b-h100x8": {14000 * time.Microsecond, 32e3, 8e3, 24, 1_300_000, 256, 2048, 15600 * time.Microsecond, 46 * time.Microsecond},
	"tiny-kv":          {11200 * time.Microsecond, 70e3, 20e3, 125, 120_000, 256, 2048, 15600 * time.Microsecond, 46 * time.Microsecond},
}

// Profile returns the server of a profile.
func Profile(name string) (LLM, bool) { p, ok := profiles[name]; return p, ok }

// ProfileNames returns the names of all profiles in order.
func ProfileNames() []string {
	return []string{"llama-8b-a100", "llama-8b-h100", "llama-70b-h100x8", "tiny-kv"}
}

// batch is the state of a batching server. Between two requests that come or go, all iterations of a decoding batch differ only in how full
// the cache is, so they are computed at once: a run of them is the unit of time here.
type batch struct {
	cfg     *LLM
	next    int64  // when the run ends; never when nothing runs
	waiting list   // not admitted
	filling list   // being prefilled
	decode  []mark // v is the iteration with which it ends
	seqs    int    // in the batch: filling and decoding
	kv      int64  // tokens in the cache
	iter    int64  // iterations that are over

	// The run.
	from    int64   // when it began
	runs    int64   // how many iterations it has
	first   float64 // ns of the first
	grows   float64 // ns by which each is longer than the one before
	prefill int64   // tokens that are prefilled, in a run of one
	preempt uint64  // preemptions so far
	seq     uint32
}

func (b *batch) init(cfg *Config) {
	b.cfg, b.next = &cfg.Server.LLM, never
	b.waiting, b.filling = empty(), empty()
}

func (b *batch) maxSeqs() int {
	if b.cfg.MaxSeqs > 0 {
		return b.cfg.MaxSeqs
	}
	return math.MaxInt
}

// Preemptions returns how many sequences a batching server had to throw out of its batch.
func (u *Upstream) Preemptions() uint64 { return u.batch.preempt }

// join puts a request into the line for the batch.
func (u *Upstream) join(now int64, i int32) {
	b := &u.batch
	s := &u.slots[i]
	s.prompt, s.room = max(1, s.call.Input-s.call.Cached), roomOf(&s.call)
	u.push(&b.waiting, i, false)
	if d := int64(u.cfg.Server.QueueTimeout); d > 0 {
		s.timeout = u.events.Push(now+d, event.Ref(onTimeout, int(i)))
	}
	if b.waiting.n == 1 && u.fits(s.room) {
		u.interrupt(now)
	}
}

// roomOf returns how many tokens of the cache a request needs to be admitted.
func roomOf(c *Call) int64 { return max(1, c.Input) }

// fits reports whether the batch has room for a request that needs so many tokens of the cache.
func (u *Upstream) fits(room int64) bool { return u.fitsBeside(u.batch.seqs, u.batch.kv, room) }

// fitsBeside is fits for a batch of so many sequences that hold so many tokens.
func (u *Upstream) fitsBeside(seqs int, kv, room int64) bool {
	if seqs == 0 {
		return true // alone, it gets what there is
	}
	b := &u.batch
	limit := float64(b.maxSeqs())
	if u.capacity != 1 {
		limit = max(1, math.Floor(limit*u.capacity))
	}
	return float64(seqs) < limit && kv+room <= b.cfg.KV
}

// beyond returns how many requests would wait without room in the batch, beside another one that needs so many tokens of the cache.
func (u *Upstream) beyond(room int64) int {
	b := &u.batch
	seqs, kv, n := b.seqs, b.kv, b.waiting.n+1
	for i := b.waiting.head; i >= 0; i = u.slots[i].next {
		s := &u.slots[i]
		if !u.fitsBeside(seqs, kv, s.room) {
			return n
		}
		seqs, kv, n = seqs+1, kv+s.room, n-1
	}
	if u.fitsBeside(seqs, kv, room) {
		n--
	}
	return n
}

// interrupt lets the run end with the iteration that goes on at now, so that the batch can change; a batch that rests begins.
func (u *Upstream) interrupt(now int64) {
	b := &u.batch
	if b.next == never {
		if b.waiting.n > 0 {
			u.iteration(now)
		}
		return
	}
	if b.runs <= 1 || b.next <= now {
		return
	}
	// How many iterations are over: the largest j with first·j + grows·j(j-1)/2 <= now - from.
	t := float64(now - b.from)
	j := math.Floor(t / b.first)
	if b.grows > 0 {
		p := b.first - b.grows/2
		j = math.Floor((math.Sqrt(p*p+2*b.grows*t) - p) / b.grows)
	}
	runs := min(b.runs, int64(max(0, j))+1)
	b.runs = runs
	b.next = max(now, b.from+b.span(runs))
}

// span returns how long the first n iterations of the run take.
func (b *batch) span(n int64) int64 {
	x := float64(n)
	return int64(x*b.first + b.grows*x*(x-1)/2)
}

// iterate ends the run, and begins the next.
func (u *Upstream) iterate(now int64) {
	b := &u.batch
	b.iter += b.runs
	decoding := int64(len(b.decode))
	b.kv += decoding * b.runs
	for len(b.decode) > 0 && int64(b.decode[0].v) <= b.iter {
		i := b.decode[0].i
		b.dropFirst()
		u.detach(now, i)
	}
	if u.cfg.Progress > 0 {
		for _, m := range b.decode {
			s := &u.slots[m.i]
			if n := s.call.Output - (int64(m.v) - b.iter); n >= s.told+u.cfg.Progress {
				u.progress(now, m.i, n)
			}
		}
	}
	// What was prefilled is in the cache already; a prompt that is complete has its next token, too.
	budget := b.prefill
	for budget > 0 && b.filling.n > 0 {
		i := b.filling.head
		s := &u.slots[i]
		n := min(budget, s.prompt-s.filled)
		s.filled += n
		budget -= n
		if s.filled < s.prompt {
			break
		}
		u.remove(&b.filling, i)
		s.state = serving
		if s.first < 0 {
			s.first = now
			u.answers(now, i)
		}
		b.kv++
		s.made++
		if left := s.call.Output - s.made; left > 0 {
			s.ends = b.iter + left
			b.seq++
			b.addDecode(mark{v: float64(s.ends), seq: b.seq, i: i})
		} else {
			u.detach(now, i)
		}
	}
	u.iteration(now)
}

// detach takes a sequence that is complete out of the batch.
func (u *Upstream) detach(now int64, i int32) {
	b := &u.batch
	s := &u.slots[i]
	b.seqs--
	b.kv -= max(1, s.call.Input) + max(s.call.Output, s.made)
	u.occupy(now, -1)
	u.leave(now, i)
	if d := int64(b.cfg.Detach) * s.call.Output; d > 0 && !s.neighbour && !s.gone {
		s.state = leaving
		s.seq = u.events.Push(now+d, event.Ref(onIngested, int(i)))
		return
	}
	u.finish(now, i)
}

// iteration begins the next run.
func (u *Upstream) iteration(now int64) {
	b := &u.batch
	cfg := b.cfg
	// Each sequence that decodes needs room for one more token.
	for b.kv+int64(len(b.decode)) > cfg.KV && b.seqs > 1 && len(b.decode) > 0 {
		u.preempt(now)
	}
	decoding := int64(len(b.decode))
	budget := int64(math.MaxInt64)
	if cfg.Chunk > 0 {
		budget = max(1, int64(cfg.Chunk)-decoding)
	}
	b.prefill = 0
	for i := b.filling.head; i >= 0 && budget > 0; i = u.slots[i].next {
		n := min(budget, u.slots[i].prompt-u.slots[i].filled)
		b.prefill += n
		budget -= n
	}
	for budget > 0 && b.waiting.n > 0 && u.fits(u.slots[b.waiting.head].room) {
		i := u.pop(&b.waiting)
		s := &u.slots[i]
		s.timeout = 0
		if s.start == unstarted {
			u.begin(now, s)
		} else {
			u.occupy(now, 1)
		}
		s.state = prefills
		u.push(&b.filling, i, false)
		b.seqs++
		b.kv += s.room
		n := min(budget, s.prompt)
		b.prefill += n
		budget -= n
	}
	if b.prefill == 0 && decoding == 0 {
		b.next = never
		return
	}
	b.from, b.runs = now, 1
	t, k := float64(cfg.Step), cfg.Token*float64(b.prefill+decoding)
	b.first = (math.Sqrt(t*t+k*k) + cfg.Sequence*float64(decoding) + cfg.Cache*float64(b.kv)) * u.slow
	b.grows = cfg.Cache * float64(decoding) * u.slow
	if b.prefill == 0 {
		b.runs = max(1, int64(b.decode[0].v)-b.iter)
		if room := (cfg.KV - b.kv) / decoding; b.seqs > 1 {
			b.runs = min(b.runs, max(1, room))
		}
		if u.cfg.Progress > 0 {
			b.runs = min(b.runs, u.cfg.Progress)
		}
	}
	b.next = now + max(1, b.span(b.runs))
}

// preempt takes the newest decoding sequence out of the batch, to be computed anew.
func (u *Upstream) preempt(now int64) {
	b := &u.batch
	at := 0
	for k := range b.decode {
		if int32(b.decode[k].seq-b.decode[at].seq) > 0 {
			at = k
		}
	}
	i := b.decode[at].i
	b.cut(at)
	s := &u.slots[i]
	made := s.call.Output - (s.ends - b.iter) // tokens that it has
	b.kv -= max(1, s.call.Input) + made
	b.seqs--
	b.preempt++
	u.occupy(now, -1)
	s.made = made
	s.prompt, s.room = max(1, s.call.Input-s.call.Cached)+made, max(1, s.call.Input)+made
	s.filled = 0
	s.state = queued
	u.push(&b.waiting, i, true)
}

// unbatch takes a request whose caller hung up out.
func (u *Upstream) unbatch(now int64, i int32) {
	b := &u.batch
	s := &u.slots[i]
	u.interrupt(now)
	b.seqs--
	u.occupy(now, -1)
	if s.state == prefills {
		b.kv -= s.room
		u.remove(&b.filling, i)
	} else {
		for k := range b.decode {
			if b.decode[k].i == i {
				b.cut(k)
				break
			}
		}
		b.kv -= max(1, s.call.Input) + s.call.Output - (s.ends - b.iter)
	}
	if len(b.decode) == 0 && b.filling.n == 0 {
		b.next = never
		u.iteration(now)
	}
}

func (b *batch) addDecode(m mark) {
	h := sharing{heap: b.decode}
	h.add(m)
	b.decode = h.heap
}

func (b *batch) dropFirst() {
	h := sharing{heap: b.decode}
	h.drop()
	b.decode = h.heap
}

// cut takes the k-th entry out of the heap.
func (b *batch) cut(k int) {
	n := len(b.decode) - 1
	b.decode[k] = b.decode[n]
	b.decode = b.decode[:n]
	h := sharing{heap: b.decode}
	for j := n/2 - 1; j >= 0; j-- {
		h.sink(j)
	}
}
