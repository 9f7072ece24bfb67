package upstream

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/event"
)

// StreamService is the stream of Server.Service: its k-th number belongs to the k-th start. Other packages' streams are below
// 64, and neither 2 nor 6.
const StreamService draw.Stream = 2

const streamRefusal draw.Stream = 6 // time that the n-th refusal takes

const (
	streamNoise   draw.Stream = iota + 64 // whether a call is refused for no reason
	streamFault                           // whether a call meets the n-th fault
	streamMissing                         // whether a refusal says nothing
	streamRetryJitter
	// StreamLag is the stream of Concurrency.Lag: its k-th number belongs to the k-th start, too.
	StreamLag
	// StreamStalls is the stream of whether a body stands still, and StreamStall of for how long: their numbers belong to Call.Key.
	StreamStalls
	StreamStall
	streamNeighbour // gap before the neighbour's n-th call
	streamPhase     // how long the neighbour's n-th phase lasts
	streamNeighbourService
	streamNeighbourInput
	streamNeighbourOutput
	streamColdStart // of the n-th new server
	streamOtherLag  // how long a call is still counted that no server started, or that is a neighbour's
)

// Kinds of events.
const (
	onRefused  uint8 = iota // slot: the refusal goes out, or it is told that there will be no answer
	onServed                // slot: its server is done
	onFirst                 // slot: its answer begins
	onProgress              // slot: more of it is there
	onIngested              // slot: it reaches the batch
	onTimeout               // slot: it has queued too long
	onLag                   // account: a call is counted no more
	onFault                 // fault·2, +1 when it ends
	onNeighbour
	onPhase
	onScale
	onReady // servers
)

// Call is a call that reaches an upstream.
type Call struct {
	// ID is the driver's own; events have it.
	ID uint64
	// Key is what the call's random numbers belong to: make it of the request and of the attempt.
	Key uint64
	// Account is the key that it is made with, an index of Config.Keys.
	Account int
	// Input and Output are how many tokens its prompt has and its answer will have; Cached is the part of Input that
	// is read from a cache.
	Input, Output, Cached int64
	// MaxOutput is how long the caller lets the answer be, in tokens; zero is as long as it will be.
	MaxOutput int64
	// Work is how many times as long as Server.Service it takes; zero is once. A server that batches looks at tokens only.
	Work float64
}

func (c *Call) maxOutput() int64 {
	if c.MaxOutput > 0 {
		return c.MaxOutput
	}
	return c.Output
}

// Handle names a call in the upstream, from Submit until it is refused, done or canceled.
type Handle int32

// EventKind is what happened to a call.
type EventKind uint8

const (
	// Done: the call was served; its answer is complete.
	Done EventKind = iota
	// Refused: a stage said no; Reply is its answer.
	Refused
	// FirstByte: the answer begins. Only when Config.FirstByte asks for it.
	FirstByte
	// Progress: more tokens of the answer are there. Only when Config.Progress asks for it.
	Progress
	// Swallowed: there will be no answer. The call holds its Handle until it is canceled.
	Swallowed
)

// Event is something that happened to a call. It is valid until the function that it is given to returns.
type Event struct {
	Kind   EventKind
	At     int64
	ID     uint64
	Handle Handle // of Done and Refused it is no longer in use
	Reply  *Reply // of Done and Refused; of FirstByte, what the answer begins with
	Tokens int64  // of the output that are there, for Progress and Done
	// Start is the number of its start at the server, for Done.
	Start int64
	// Queued is how long it waited for a server, and First the time from its submission to the first byte of
	// its answer, both in ns, for Done.
	Queued, First int64
}

// state is where a call is.
type state uint8

const (
	free state = iota
	connecting
	queued
	serving  // or in the batch
	leaving  // refused, or its last bytes are on their way
	stuck    // swallowed
	prefills // in the batch, before its first token
)

// slot is a call in the upstream.
type slot struct {
	call      Call
	submitted int64
	admitted  int64 // when it passed the gates
	began     int64 // when a server began
	first     int64 // when its answer began, or will; -1: not yet
	start     int64 // number of its start
	reply     *Reply
	next      int32 // in a queue, or in the free list
	prev      int32
	seq       uint32 // of the event that ends its service
	timeout   uint32 // of the event that ends its wait
	state     state
	gone      bool // its caller hung up
	neighbour bool
	told      int64 // tokens that Progress told of

	// In a batch.
	prompt int64 // tokens that are to be prefilled
	room   int64 // tokens of the cache that it needs to be admitted
	filled int64 // of them that were
	made   int64 // tokens that were generated before a preemption
	ends   int64 // iteration with which it ends
}

// unstarted is the number of a start that has not been.
const unstarted = -2

// account is the state of one key.
type account struct {
	revoked  bool
	share    float64
	counters []counter
	in       int // calls that the cap counts
}

// Upstream is a model of something that is called. It must be made with New, and is not safe for concurrent use.
type Upstream struct {
	cfg     Config
	epoch   time.Time
	dialect *dialect
	events  event.Queue
	out     []Event
	slots   []slot
	free    int32
	replies replies
	spare   []*Reply // successes that were given back
	spareNo []*Reply // refusals that were
	bodies  map[replyKey][]byte
	quotas  []Quota
	stale   [NumStages * 64]int64

	accounts []account
	slope    slope
	faults   []bool // are active
	capacity float64
	slow     float64
	factor   float64 // of the neighbour's rates

	connections int
	backlog     list
	line        list // waits for a server
	busy        int
	pool        sharing
	batch       batch
	starts      int64
	refusals    uint64
	waitSum     int64
	workSum     uint64 // ns: ends less beginnings, which may wrap
	wasted      int64
	recent      entries // starts in the last second, for RateScale

	neighbours uint64
	phases     uint64
	isBusy     bool
	nextCall   uint32 // sequence number of the neighbour's next call

	servers float64 // as set, without brown-outs
	least   float64
	coming  float64
	more    int64 // since when more, or less, servers are wanted; never when they are not
	less    int64
	started uint64
}

// New returns an upstream at instant 0. The slices of cfg must not be changed afterwards. See Check for what it may be.
func New(cfg Config) *Upstream {
	u := &Upstream{}
	u.Reset(cfg)
	return u
}

// Reset makes u what New returns, in the memory that it has. Replies of before are no longer valid.
func (u *Upstream) Reset(cfg Config) {
	old := *u
	*u = Upstream{cfg: cfg, epoch: cfg.Epoch, free: -1, factor: 1, backlog: empty(), line: empty()}
	u.events, u.out, u.slots, u.accounts = old.events, old.out[:0], old.slots[:0], old.accounts[:0]
	u.events.Reset()
	u.replies, u.recent.buf, u.bodies = old.replies, old.recent.buf, old.bodies
	u.quotas = append(old.quotas[:0], cfg.Quotas...) // what they answer may change
	u.cfg.Quotas = u.quotas
	u.pool.heap, u.batch.decode = old.pool.heap[:0], old.batch.decode[:0]
	if u.epoch.IsZero() {
		u.epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	u.dialect = &dialects[min(int(cfg.Dialect), numDialects-1)]
	u.initReplies()
	keys := cfg.Keys
	if len(keys) == 0 {
		keys = []Key{{}}
	}
	for _, k := range keys {
		a := account{revoked: k.Revoked, share: k.Share}
		if a.share == 0 {
			a.share = 1
		}
		a.counters = make([]counter, len(cfg.Quotas))
		for i := range cfg.Quotas {
			a.counters[i].init(&u.cfg.Quotas[i], a.share)
		}
		u.accounts = append(u.accounts, a)
	}
	u.slope.length = int64(cfg.Slope.Window)
	if u.slope.length == 0 {
		u.slope.length = int64(10 * time.Second)
	}
	u.servers, u.least = cfg.Server.Servers, cfg.Server.Servers
	u.faults = make([]bool, len(cfg.Faults))
	u.suffer()
	for i, f := range cfg.Faults {
		u.events.Push(int64(f.From), event.Ref(onFault, 2*i))
		u.events.Push(int64(f.To), event.Ref(onFault, 2*i+1))
	}
	u.pool.init()
	u.batch.init(&u.cfg)
	u.initNeighbour()
	u.more, u.less = never, never
	if cfg.Autoscaler.Max > 0 {
		u.events.Push(u.tick(), event.Ref(onScale, 0))
	}
}

// Reply returns the reply with an ID that is not negative.
func (u *Upstream) Reply(id int) *Reply { return u.replies.all[id] }

// Replies returns how many replies there are that have an ID.
func (u *Upstream) Replies() int { return len(u.replies.all) }

// Busy returns how many calls are at servers, Waiting how many wait for one or for a connection.
func (u *Upstream) Busy() int { return u.busy }

// Waiting returns how many calls wait for a server or for a connection.
func (u *Upstream) Waiting() int { return u.line.n + u.backlog.n + u.batch.waiting.n }

// Starts returns how many calls the servers have started.
func (u *Upstream) Starts() int64 { return u.starts }

// Worked returns how long servers have worked until now on all calls together, in ns, as a sum that may wrap.
func (u *Upstream) Worked(now int64) uint64 { return u.workSum + uint64(u.busy)*uint64(now) }

// Wasted returns how many tokens were generated for callers who had hung up.
func (u *Upstream) Wasted() int64 { return u.wasted }

// occupy counts calls at the servers.
func (u *Upstream) occupy(now int64, n int) {
	u.busy += n
	u.workSum -= uint64(n) * uint64(now)
}

// QueueWait returns how long those were queued together, in ns.
func (u *Upstream) QueueWait() int64 { return u.waitSum }

// Next returns the instant of the next thing that happens by itself; ok is false when nothing does.
func (u *Upstream) Next() (at int64, ok bool) {
	at = min(u.events.Peek(), u.pool.next, u.batch.next)
	return at, at != never
}

// Advance lets everything happen that happens until now, and gives it to tell in the order of time.
func (u *Upstream) Advance(now int64, tell func(*Event)) {
	for {
		at, ok := u.Next()
		if !ok || at > now {
			return
		}
		u.Step(at, tell)
	}
}

// Step lets one thing happen, at the instant that Next returned.
func (u *Upstream) Step(at int64, tell func(*Event)) {
	switch at {
	case u.pool.next:
		u.share(at)
	case u.batch.next:
		u.iterate(at)
	default:
		e, ok := u.events.Pop()
		if !ok {
			return
		}
		u.happen(at, e)
	}
	for i := 0; i < len(u.out); i++ {
		tell(&u.out[i]) // where it is stays as it is, should u.out grow meanwhile
	}
	u.out = u.out[:0]
}

func (u *Upstream) happen(now int64, e event.Event) {
	i := e.Index()
	switch e.Kind() {
	case onRefused:
		s := &u.slots[i]
		switch {
		case s.seq != e.Seq || s.state == free:
			return
		case s.state == stuck:
			u.emit(Event{Kind: Swallowed, At: now, ID: s.call.ID, Handle: Handle(i)})
			return
		case !s.gone:
			u.emit(Event{Kind: Refused, At: now, ID: s.call.ID, Handle: Handle(i), Reply: s.reply})
		}
		u.give(int32(i))
	case onServed:
		if s := &u.slots[i]; s.state == serving && s.seq == e.Seq {
			u.served(now, int32(i))
		}
	case onFirst:
		if s := &u.slots[i]; s.state == serving && s.timeout == e.Seq {
			u.answers(now, int32(i))
			u.planProgress(now, int32(i))
		}
	case onProgress:
		if s := &u.slots[i]; s.state == serving && s.timeout == e.Seq && !s.gone {
			u.progress(now, int32(i), min(s.told+u.cfg.Progress, s.call.Output))
			u.planProgress(now, int32(i))
		}
	case onIngested:
		if s := &u.slots[i]; s.state == leaving && s.seq == e.Seq { // on its way out
			u.finish(now, int32(i))
		} else if s.state == queued && s.seq == e.Seq {
			u.join(now, int32(i))
		}
	case onTimeout:
		if s := &u.slots[i]; s.state == queued && s.timeout == e.Seq {
			u.unqueue(now, int32(i))
			u.refuse(now, int32(i), StageServer, 0, &u.cfg.Server.Answer, never, 0)
			u.leave(now, int32(i))
		}
	case onLag:
		u.accounts[i].in--
	case onFault:
		u.fault(now, i/2, i%2 == 0)
	case onNeighbour:
		if e.Seq == u.nextCall {
			u.neighbour(now)
		}
	case onPhase:
		u.phase(now)
	case onScale:
		u.scale(now)
	case onReady:
		u.coming -= float64(i)
		u.servers += float64(i)
		u.resize(now)
	}
}

// answers tells that the answer of a call begins.
func (u *Upstream) answers(now int64, i int32) {
	if s := &u.slots[i]; u.cfg.FirstByte && !s.gone && !s.neighbour {
		u.emit(Event{Kind: FirstByte, At: now, ID: s.call.ID, Handle: Handle(i)})
	}
}

func (u *Upstream) emit(e Event) {
	if e.Kind == FirstByte {
		e.Reply = u.success(e.At, &u.slots[e.Handle])
	}
	u.out = append(u.out, e)
}

// take returns a free slot.
func (u *Upstream) take() int32 {
	if u.free < 0 {
		u.slots = append(u.slots, slot{})
		return int32(len(u.slots) - 1)
	}
	i := u.free
	u.free = u.slots[i].next
	return i
}

func (u *Upstream) give(i int32) {
	s := &u.slots[i]
	s.state, s.next, s.reply = free, u.free, nil
	u.free = i
}

// Submit takes a call that reaches the upstream at now.
func (u *Upstream) Submit(now int64, c Call) Handle {
	i := u.take()
	s := &u.slots[i]
	s.call, s.submitted, s.first, s.start, s.next, s.prev = c, now, -1, unstarted, -1, -1
	s.gone, s.neighbour, s.told, s.made, s.filled, s.prompt, s.seq, s.timeout = false, false, 0, 0, 0, 0, 0, 0
	if s.call.Account < 0 || s.call.Account >= len(u.accounts) {
		s.call.Account = 0
	}
	u.enter(now, i)
	return Handle(i)
}

// enter lets a call through the faults and to the connections.
func (u *Upstream) enter(now int64, i int32) {
	s := &u.slots[i]
	for f, active := range u.faults {
		cfg := &u.cfg.Faults[f]
		if !active || cfg.Kind == Brownout {
			continue
		}
		if cfg.Share > 0 && cfg.Share < 1 && draw.U(u.cfg.Seed, streamFault+draw.Stream(f)<<8, s.call.Key) >= cfg.Share {
			continue
		}
		if cfg.Kind == BlackHole {
			if s.neighbour {
				u.give(i)
				return
			}
			s.state = stuck
			s.seq = u.events.Push(now, event.Ref(onRefused, int(i)))
			return
		}
		u.refuse(now, i, StageFault, f, &cfg.Answer, Faultless(u.cfg.Faults, int64(cfg.To)), 0)
		return
	}
	if p := u.cfg.Noise.Share; p > 0 && draw.U(u.cfg.Seed, streamNoise, s.call.Key) < p {
		u.refuse(now, i, StageNoise, 0, &u.cfg.Noise.Answer, now, 0)
		return
	}
	if u.accounts[s.call.Account].revoked {
		u.refuse(now, i, StageKey, 0, &Answer{}, never, 0)
		return
	}
	if limit := u.cfg.Connections.Limit; limit > 0 {
		if u.connections >= limit {
			if u.backlog.n >= u.cfg.Connections.Backlog {
				u.refuse(now, i, StageConnections, 0, &u.cfg.Connections.Answer, never, 0)
				return
			}
			s.state = connecting
			u.push(&u.backlog, i, false)
			return
		}
	}
	u.connections++
	u.admit(now, i)
}

// admit lets a call that has a connection pass the quotas and the cap, and to the server. All gates are asked before any
// of them is charged.
func (u *Upstream) admit(now int64, i int32) {
	s := &u.slots[i]
	acc := &u.accounts[s.call.Account]
	var stage Stage
	var index int
	var answer *Answer
	var cost float64
	until := now
	for q := range acc.counters {
		c := &acc.counters[q]
		n := c.before(&s.call)
		if at := c.earliest(now, n); at > until {
			stage, index, answer, until, cost = StageQuota, q, &c.q.Answer, at, n
		}
	}
	if g := u.cfg.Slope.Growth; g > 0 {
		u.slope.turn(now)
		if stage == StageNone && u.slope.n >= u.slope.most(&u.cfg.Slope, g) {
			stage, answer, until = StageSlope, &u.cfg.Slope.Answer, u.slope.start+u.slope.length
		}
	}
	limit := u.cfg.Concurrency.Limit
	if stage == StageNone && limit > 0 && acc.in >= max(1, Part(limit, acc.share)) {
		stage, answer, until = StageConcurrency, &u.cfg.Concurrency.Answer, never
	}
	if stage == StageNone && u.full(&s.call) {
		stage, answer, until = StageServer, &u.cfg.Server.Answer, never
	}
	if stage != StageNone {
		for q := range acc.counters {
			c := &acc.counters[q]
			n := c.before(&s.call)
			c.refuse(now, n)
			if until != never && c.q.ChargeRefused { // the refusal itself makes the wait longer
				until = max(until, c.earliest(now, n))
			}
		}
		u.refuse(now, i, stage, index, answer, until, cost)
		u.disconnect(now)
		return
	}
	for q := range acc.counters {
		c := &acc.counters[q]
		if n := c.before(&s.call); n != 0 {
			c.take(now, n)
		}
	}
	u.slope.n++
	acc.in++
	s.admitted = now
	u.toServer(now, i)
}

// refuse answers a call with a stage's no.
func (u *Upstream) refuse(now int64, i int32, stage Stage, index int, a *Answer, until int64, cost float64) {
	s := &u.slots[i]
	if s.neighbour {
		u.give(i)
		return
	}
	if a.Silent {
		s.state = stuck
		s.seq = u.events.Push(now, event.Ref(onRefused, int(i)))
		return
	}
	s.reply = u.refusal(now, s, stage, index, a, until, cost)
	s.state = leaving
	u.refusals++
	s.seq = u.events.Push(now+u.cfg.Refusal.Int(u.cfg.Seed, streamRefusal, u.refusals), event.Ref(onRefused, int(i)))
}

// disconnect frees a connection for whoever waits for one.
func (u *Upstream) disconnect(now int64) {
	u.connections--
	u.connect(now)
}

// connect lets those in who wait for a connection, as many as there are.
func (u *Upstream) connect(now int64) {
	for u.backlog.n > 0 && u.connections < u.cfg.Connections.Limit {
		i := u.pop(&u.backlog)
		u.connections++
		u.admit(now, i)
	}
}

// leave gives back what a call that was admitted holds.
func (u *Upstream) leave(now int64, i int32) {
	s := &u.slots[i]
	acc := &u.accounts[s.call.Account]
	for q := range acc.counters {
		if c := &acc.counters[q]; s.start == unstarted {
			c.unserved(now, s.admitted, &s.call, s.state != queued)
		} else {
			c.settle(now, s.admitted, &s.call)
		}
	}
	if d := u.lag(s); d > 0 {
		u.events.Push(now+d, event.Ref(onLag, s.call.Account))
	} else {
		acc.in--
	}
	u.disconnect(now)
}

// Part returns a share of a limit on calls, of which there are whole ones: 5 % are rounded, as 0.33 of 3 are 1, and 0.333 of 6 are 2; else it is
// rounded down.
func Part(limit int, share float64) int {
	x := float64(limit) * share
	if n := math.Round(x); n-x <= .05*x {
		return int(n)
	}
	return int(x)
}

// lag returns for how long a call that leaves is still counted by the cap, in ns.
func (u *Upstream) lag(s *slot) int64 {
	c := &u.cfg.Concurrency
	switch {
	case c.Limit <= 0:
		return 0
	case s.start < 0:
		return c.Lag.Int(u.cfg.Seed, streamOtherLag, s.call.Key)
	}
	return c.Lag.Int(u.cfg.Seed, StreamLag, uint64(s.start))
}

// Answering reports whether the answer of a call has begun at an instant that is not after the last one.
func (u *Upstream) Answering(at int64, h Handle) bool {
	s := &u.slots[h]
	return s.first >= 0 && s.first <= at && (s.state == serving || s.state == leaving)
}

// Cancel tells that the caller of a call hung up. Its handle is then no longer in use.
func (u *Upstream) Cancel(now int64, h Handle) {
	if h < 0 || int(h) >= len(u.slots) {
		return
	}
	i := int32(h)
	s := &u.slots[i]
	switch s.state {
	case free:
		return
	case stuck:
		u.give(i)
		return
	case connecting:
		u.remove(&u.backlog, i)
		u.give(i)
		return
	}
	s.gone = true
	if !u.cfg.Server.KnowsHangups || s.state == leaving {
		return
	}
	switch {
	case s.state == queued:
		u.unqueue(now, i)
	case u.cfg.Server.Kind == Sharing:
		u.occupy(now, -1)
		u.unshare(now, i)
	case u.cfg.Server.Kind == Batch:
		u.unbatch(now, i)
	default:
		u.occupy(now, -1)
	}
	u.leave(now, i)
	u.give(i)
	u.pump(now)
}

// Set changes a parameter. Values out of range are brought into it; a parameter of a stage that is not there does nothing.
func (u *Upstream) Set(now int64, p Param, value float64) {
	if math.IsNaN(value) {
		return
	}
	switch p.Kind {
	case ParamQuotaLimit, ParamQuotaBurst:
		if p.Index < 0 || p.Index >= len(u.cfg.Quotas) {
			return
		}
		// What refusals say of the limit is no longer true.
		clear(u.replies.said)
		clear(u.bodies)
		for a := range u.accounts {
			if c := &u.accounts[a].counters[p.Index]; p.Kind == ParamQuotaLimit {
				c.set(now, value)
			} else {
				c.setBurst(now, value)
			}
		}
	case ParamConcurrency:
		if u.cfg.Concurrency.Limit > 0 {
			u.cfg.Concurrency.Limit = max(1, int(value))
		}
	case ParamConnections:
		if u.cfg.Connections.Limit > 0 {
			u.cfg.Connections.Limit = max(1, int(value))
			u.connect(now)
		}
	case ParamServers:
		if u.servers > 0 {
			u.servers = max(value, 1e-3)
			u.least = u.servers
			u.resize(now)
		}
	case ParamSlow:
		u.cfg.Server.Slow = max(value, 1e-6)
		u.suffer()
		u.resize(now)
	case ParamNoise:
		u.cfg.Noise.Share = min(1, max(0, value))
	case ParamNeighbour:
		u.factor = max(0, value)
		u.planNeighbour(now)
	case ParamKV:
		u.cfg.Server.LLM.KV = max(1, int64(value))
		u.resize(now)
	case ParamQueue:
		u.cfg.Server.Queue = max(0, int(value))
	case ParamService:
		u.cfg.Server.Service.Mean = max(0, value*1e9)
	case ParamSlopeGrowth:
		u.cfg.Slope.Growth = max(0, value)
	case ParamSlopeFloor:
		u.cfg.Slope.Floor = max(0, int(value))
	case ParamRefusal:
		u.cfg.Refusal.Mean = max(0, value*1e9)
	case ParamLag:
		u.cfg.Concurrency.Lag.Mean = max(0, value*1e9)
	case ParamBacklog:
		u.cfg.Connections.Backlog = max(0, int(value))
	case ParamRetryFactor, ParamRetryMissing, ParamRetryJitter:
		if p.Index < 0 || p.Index >= len(u.cfg.Quotas) {
			return
		}
		switch ra := &u.cfg.Quotas[p.Index].Answer.RetryAfter; p.Kind {
		case ParamRetryFactor:
			ra.Factor = max(0, value)
		case ParamRetryMissing:
			ra.Missing = min(1, max(0, value))
		case ParamRetryJitter:
			ra.Jitter = min(1, max(0, value))
		}
	case ParamScalerMax:
		if u.cfg.Autoscaler.Max > 0 {
			u.cfg.Autoscaler.Max = max(value, u.least)
		}
	case ParamScalerTarget:
		u.cfg.Autoscaler.Target = min(1, max(0.01, value))
	default:
		u.setServer(now, p.Kind, value)
	}
}

// setServer changes a parameter of the server; calls that it has begun are not changed by it, but for those of a batch.
func (u *Upstream) setServer(now int64, k ParamKind, value float64) {
	s := &u.cfg.Server
	value = max(0, value)
	ns := time.Duration(min(value*1e9, 1<<60))
	switch k {
	case ParamScale:
		s.Scale = value
	case ParamKnee:
		s.Knee = value
	case ParamKneeBase:
		s.KneeBase = max(1, value)
	case ParamRateScale:
		s.RateScale = value
	case ParamInputToken:
		s.InputToken = ns
	case ParamOutputToken:
		s.OutputToken = ns
	case ParamStallShare:
		s.StallShare = min(1, value)
	case ParamQueueTimeout:
		s.QueueTimeout = ns
	case ParamMaxSeqs:
		s.LLM.MaxSeqs = max(1, int(value))
		u.resize(now)
	case ParamChunk:
		s.LLM.Chunk = max(1, int(value))
		u.resize(now)
	}
}

// fault begins or ends a fault.
func (u *Upstream) fault(now int64, f int, begins bool) {
	u.faults[f] = begins
	u.suffer()
	u.resize(now)
}

// suffer computes what brown-outs leave of the servers, and by how much calls take longer, as set and in brown-outs.
func (u *Upstream) suffer() {
	u.capacity, u.slow = 1, 1
	if u.cfg.Server.Slow > 0 {
		u.slow = u.cfg.Server.Slow
	}
	for i, active := range u.faults {
		if c := &u.cfg.Faults[i]; active && c.Kind == Brownout {
			if c.Capacity > 0 {
				u.capacity *= c.Capacity
			}
			if c.Slow > 0 {
				u.slow *= c.Slow
			}
		}
	}
}

// resize acts on a change of what the servers can do.
func (u *Upstream) resize(now int64) {
	u.settleShare(now)
	u.planShare(now)
	u.interrupt(now)
	u.pump(now)
}
