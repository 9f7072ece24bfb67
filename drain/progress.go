package drain

import (
	"sync/atomic"
	"time"
)

// Progress is how far a run has come.
type Progress struct {
	// Elapsed is the time since Run was called.
	Elapsed time.Duration
	// Total is how many jobs the source has, -1 when that is not known.
	Total int64
	// Fetched is how many jobs were fetched, Known how many of them had a result already, Done how many got one in this run, Dead
	// how many became dead letters, Retried how many went back to the source for another time, Released how many went back
	// because the run stopped, Lost how many deliveries the source will make again because it lost its connection.
	Fetched, Known, Done, Dead, Retried, Released, Lost int64
	// LeftOut is how many jobs a JSONL, or another Source with a LeftOut() int64, has left out because they are dead letters already, of an earlier run or on an earlier line.
	LeftOut int64
	// Throttled is how many attempts were refused (429, 503, 529) or found no connection, Failed how many failed after which the job may have had its
	// effect, Unsaved how many times a result could not be made durable at first.
	Throttled, Failed, Unsaved int64
	// Trouble is what became of the last attempt after which a job waits to be sent again; empty once a job has ended well after it.
	Trouble string
	// InFlight is how many calls are in flight, Limit how many may be, Paused how much longer nothing starts.
	InFlight, Limit int
	Paused          time.Duration
	// Rate is how many jobs a second ended well over the last 10 s or so. ETA is how long the rest takes at this rate; -1 when
	// that cannot be told.
	Rate float64
	ETA  time.Duration
	// Input, CachedInput and Output are the tokens used, as far as answers tell; Cost is what they cost by Config.Prices.
	Input, CachedInput, Output int64
	Cost                       float64
	// Final says that the run has ended.
	Final bool
}

// progress counts. What is atomic may be touched by any goroutine; the rest belongs to the one that runs Run.
type progress struct {
	fetched, known, done, dead, retried, released, lost atomic.Int64
	throttled, failed, unsavedErrors, sending           atomic.Int64
	input, cached, output                               atomic.Int64
	cost                                                atomic.Uint64 // in 1e-9
	trouble                                             atomic.Pointer[string]

	began atomic.Pointer[time.Time]
	marks atomic.Pointer[[]mark]
}

// mark is how many jobs were done at an instant.
type mark struct {
	at time.Time
	n  int64
}

const (
	rateWindow = 10 * time.Second
	costUnit   = 1e9
)

func (p *progress) count(n *atomic.Int64) { n.Add(1) }

func (p *progress) begin(r *Runner) {
	now := time.Now()
	p.marks.Store(&[]mark{{now, 0}}) // before began: Progress may be called by now
	p.began.Store(&now)
}

// spent counts a job that ended well, with what it used.
func (r *Runner) spent(j *Job, a *Answer) {
	r.done.Add(1)
	if r.trouble.Load() != nil {
		r.trouble.Store(nil)
	}
	u := &a.Usage
	if !u.Known {
		return
	}
	r.input.Add(u.Input)
	r.cached.Add(u.CachedInput)
	r.output.Add(u.Output)
	price, ok := r.cfg.Prices[j.Model]
	if !ok {
		price = r.cfg.Prices[""]
	}
	cost := float64(u.Input-u.CachedInput)*price.Input + float64(u.CachedInput)*price.CachedInput + float64(u.Output)*price.Output
	r.cost.Add(uint64(max(0, cost/1e6*costUnit)))
}

// report tells of the progress.
func (r *Runner) report(final bool) {
	now := time.Now()
	old := *r.marks.Load()
	for len(old) > 1 && now.Sub(old[1].at) > rateWindow {
		old = old[1:]
	}
	marks := append(old[:len(old):len(old)], mark{now, r.done.Load()})
	r.marks.Store(&marks)
	if r.cfg.OnProgress != nil {
		p := r.Progress()
		p.Final = final
		r.cfg.OnProgress(p)
	}
}

// Progress returns how far the run has come. It may be called by any goroutine, at any time.
func (r *Runner) Progress() Progress {
	p := Progress{
		Total:   -1,
		Fetched: r.fetched.Load(), Known: r.known.Load(), Done: r.done.Load(), Dead: r.dead.Load(),
		Retried: r.retried.Load(), Released: r.released.Load(), Lost: r.lost.Load(),
		Throttled: r.throttled.Load(), Failed: r.failed.Load(), Unsaved: r.unsavedErrors.Load(),
		InFlight: int(r.sending.Load()),
		Input:    r.input.Load(), CachedInput: r.cached.Load(), Output: r.output.Load(),
		Cost: float64(r.cost.Load()) / costUnit,
		ETA:  -1,
	}
	p.Limit, p.Paused = r.limit(), r.paused()
	if said := r.trouble.Load(); said != nil {
		p.Trouble = *said
	}
	if s, ok := r.cfg.Source.(interface{ LeftOut() int64 }); ok {
		p.LeftOut = s.LeftOut()
	}
	if c, ok := r.cfg.Source.(Counter); ok {
		if n, ok := c.Total(); ok {
			p.Total = n
		}
	}
	began := r.began.Load()
	if began == nil {
		return p
	}
	now := time.Now()
	p.Elapsed = now.Sub(*began)
	first := (*r.marks.Load())[0]
	if d := now.Sub(first.at); d > 0 {
		p.Rate = float64(p.Done-first.n) / d.Seconds()
	}
	if p.Total >= 0 && p.Rate > 0 {
		left := max(0, p.Total-p.Known-p.Done-p.Dead-p.LeftOut)
		p.ETA = time.Duration(float64(left) / p.Rate * float64(time.Second))
	}
	return p
}
