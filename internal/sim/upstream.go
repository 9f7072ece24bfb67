package sim

// Stages that can refuse, in the order in which an attempt passes them.
const (
	stageOutage = iota
	stageQuota
	stageConcurrency
	stageServer
	numStages
)

// call is an attempt in the upstream.
type call struct {
	request int   // -1: its caller gave up
	start   int64 // number of its start at the server
	began   int64 // when the server started on it
	reached int64 // when it passed the gates
	answer  int   // index in answers
	next    int   // in the queue or in the free list
	serving bool  // a server works on it
	stuck   bool  // it fell into a black hole
}

// upstream is the thing that is called.
type upstream struct {
	cfg   *Upstream
	half  int64 // ns from caller to upstream, or back
	calls []call
	free  int

	quota gate // nil: none
	cap   *concurrency
	gates []stagedGate

	servers    int // 0: no limit
	busy       int
	head, tail int // of the queue; -1: empty
	queued     int
	starts     int64
	refusals   uint64
	waitSum    int64 // time that started calls spent in the queue
}

type stagedGate struct {
	gate
	stage  int
	answer *Answer
}

func (u *upstream) init(cfg *Upstream) {
	u.cfg = cfg
	u.half = int64(cfg.RTT) / 2
	u.free, u.head, u.tail = -1, -1, -1
	u.servers = cfg.Server.Servers
	u.quota = newQuota(&cfg.Quota)
	if u.quota != nil {
		u.gates = append(u.gates, stagedGate{u.quota, stageQuota, &cfg.Quota.Answer})
	}
	if cfg.Concurrency.Limit > 0 {
		u.cap = &concurrency{limit: cfg.Concurrency.Limit}
		u.gates = append(u.gates, stagedGate{u.cap, stageConcurrency, &cfg.Concurrency.Answer})
	}
}

func newQuota(q *Quota) gate {
	switch {
	case q.PerMinute <= 0:
		return nil
	case q.Window > 0:
		return newWindow(q)
	}
	return newBucket(q)
}

func (u *upstream) take() int {
	if u.free < 0 {
		u.calls = append(u.calls, call{next: -1})
		return len(u.calls) - 1
	}
	c := u.free
	u.free = u.calls[c].next
	u.calls[c] = call{}
	return c
}

func (u *upstream) give(c int) {
	u.calls[c].next = u.free
	u.calls[c].request = -1
	u.free = c
}

// abandon tells that the caller of c gave up. What is inside the upstream goes on without it.
func (u *upstream) abandon(c int) {
	if cl := &u.calls[c]; cl.stuck {
		u.give(c)
	} else {
		cl.request = -1
	}
}

// change sets a parameter.
func (u *upstream) change(now int64, c *Change) {
	setGate(u.quota, now, c)
	switch c.Param {
	case ParamLimit:
		if u.cap != nil {
			u.cap.limit = max(0, int(c.To))
		}
	case ParamServers:
		u.servers = max(1, int(c.To))
	}
}

// setGate applies a change to a quota.
func setGate(g gate, now int64, c *Change) {
	switch q := g.(type) {
	case *bucket:
		switch c.Param {
		case ParamPerMinute:
			q.set(now, c.To)
		case ParamBurst:
			q.setBurst(now, c.To)
		}
	case *window:
		if c.Param == ParamPerMinute {
			q.set(now, c.To)
		}
	}
}

// outage returns the outage at now, or nil.
func (u *upstream) outage(now int64) *Outage {
	for i := range u.cfg.Outages {
		if o := &u.cfg.Outages[i]; now >= int64(o.From) && now < int64(o.To) {
			return o
		}
	}
	return nil
}

// reach lets a call through the stages, or refuses it.
func (r *run) reach(c int) {
	u := &r.up
	if len(u.cfg.Outages) > 0 {
		if o := u.outage(r.now); o != nil {
			if o.BlackHole {
				if u.calls[c].request < 0 {
					u.give(c)
				} else {
					u.calls[c].stuck = true
				}
				return
			}
			r.refuse(c, stageOutage, &o.Answer, int64(o.To))
			return
		}
	}
	for i := range u.gates {
		g := &u.gates[i]
		if at := g.earliest(r.now); at > r.now {
			g.refused(r.now)
			r.expel(i)
			r.refuse(c, g.stage, g.answer, at)
			return
		}
		g.enter(r.now)
	}
	cl := &u.calls[c]
	cl.reached = r.now
	switch {
	case u.servers == 0 || u.busy < u.servers && u.queued == 0:
		r.serve(c)
	case u.cfg.Server.Bounded && u.queued >= u.cfg.Server.Queue:
		r.expel(len(u.gates))
		r.refuse(c, stageServer, &u.cfg.Server.Answer, never)
	default:
		cl.next = -1
		if u.tail < 0 {
			u.head = c
		} else {
			u.calls[u.tail].next = c
		}
		u.tail = c
		u.queued++
	}
}

// expel undoes the passing of the first n gates. A quota keeps what it charged.
func (r *run) expel(n int) {
	for i := range n {
		r.up.gates[i].leave(r.now)
	}
}

// refuse answers a call with a stage's no.
func (r *run) refuse(c, stage int, a *Answer, until int64) {
	u := &r.up
	u.calls[c].answer = r.answers.refusal(stage, a, r.now, until)
	u.refusals++
	r.queue.push(r.now+u.half+u.cfg.Refusal.sample(r.cfg.Seed, streamRefusal, u.refusals), ref(onAnswer, c))
}

// serve starts a call at a server.
func (r *run) serve(c int) {
	u := &r.up
	cl := &u.calls[c]
	cl.start, cl.began, cl.serving = u.starts, r.now, true
	u.starts++
	u.busy++
	wait := r.now - cl.reached
	u.waitSum += wait
	r.queue.push(r.now+u.cfg.Server.Service.sample(r.cfg.Seed, streamService, uint64(cl.start)), ref(onServed, c))
}

// served ends a call at its server.
func (r *run) served(c int) {
	u := &r.up
	u.busy--
	u.calls[c].serving = false
	r.tally.servedSum += uint64(r.now - u.calls[c].began)
	for i := range u.gates {
		u.gates[i].leave(r.now)
	}
	if u.calls[c].request < 0 {
		u.give(c)
	} else {
		u.calls[c].answer = answerOK
		if u.half > 0 {
			r.queue.push(r.now+u.half, ref(onAnswer, c))
		} else {
			r.pump() // the server takes the next call before the caller can send one
			r.answer(c)
			return
		}
	}
	r.pump()
}

// pump lets free servers take calls from the queue.
func (r *run) pump() {
	u := &r.up
	for u.queued > 0 && (u.servers == 0 || u.busy < u.servers) {
		c := u.head
		u.head = u.calls[c].next
		if u.head < 0 {
			u.tail = -1
		}
		u.queued--
		r.serve(c)
	}
}
