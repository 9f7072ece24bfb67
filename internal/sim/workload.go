package sim

import (
	"math"
	"time"
)

// refusedPause is how long a client or a worker whose request was refused or failed waits before it takes up the
// next one, beside its time to think.
const refusedPause = int64(time.Second)

// source makes requests arrive.
type source struct {
	cfg   *Config
	taken uint64 // how many requests have arrived
	rate  rates
	due   int64 // of the next arrival, for Poisson
}

func (s *source) init(cfg *Config) {
	s.cfg = cfg
	s.rate = ratesOf(cfg)
}

// begin makes the first requests arrive.
func (r *run) begin() {
	w := &r.cfg.Workload
	switch w.Kind {
	case Poisson:
		r.source.due = r.source.rate.after(0, gap(r.cfg.Seed, 0))
		r.push(r.source.due, 0)
	default:
		for i := range w.Clients {
			r.push(stagger(r.cfg, i), i)
		}
	}
}

// push makes a client's next request arrive at an instant, when that is before the end.
func (r *run) push(at int64, client int) {
	if at < r.end {
		r.queue.push(at, ref(onArrive, client))
	}
}

// next returns the instant at which the request that arrives now was due; ok is false when there is none.
func (s *source) next(r *run, client int) (due int64, ok bool) {
	w := &s.cfg.Workload
	switch w.Kind {
	case Poisson:
		due = r.now
		s.due = s.rate.after(r.now, gap(s.cfg.Seed, s.taken+1))
		r.push(s.due, 0)
		return due, true
	case Backlog:
		if w.Jobs > 0 {
			return 0, s.taken < uint64(w.Jobs) // all were due at the start
		}
	}
	return r.now, true
}

// free tells that a client or worker has its answer. n is the number of the start for a success, that of the request
// for anything else.
func (s *source) free(r *run, client int, n int64, ok bool) {
	w := &s.cfg.Workload
	if w.Kind == Poisson {
		return
	}
	at := r.now
	if w.Kind == Closed {
		at += think(s.cfg, n, ok)
	}
	if !ok {
		at += refusedPause
	}
	r.push(at, client)
}

func think(cfg *Config, n int64, ok bool) int64 {
	if ok {
		return cfg.Workload.Think.sample(cfg.Seed, streamThink, uint64(n))
	}
	return cfg.Workload.Think.sample(cfg.Seed, streamThinkLost, uint64(n))
}

// stagger returns when a client of a closed loop first asks: within one time to think, so that they do
// not march in step. Workers ask at once.
func stagger(cfg *Config, client int) int64 {
	if cfg.Workload.Kind != Closed {
		return 0
	}
	return int64(uniform(draw(cfg.Seed, streamStagger, uint64(client))) * float64(cfg.Workload.Think.Mean))
}

// gap returns how much must be integrated over the rate before the n-th arrival (unitless, mean 1).
func gap(seed, n uint64) float64 { return -math.Log(uniform(draw(seed, streamArrival, n))) }

// rates is a rate that is constant between steps.
type rates struct {
	at   []int64
	rate []float64 // per ns, from at on
}

func ratesOf(cfg *Config) rates {
	s := rates{at: []int64{0}, rate: []float64{cfg.Workload.Rate / 1e9}}
	for _, c := range cfg.Changes {
		if c.Param == ParamRate {
			s.at = append(s.at, int64(c.At))
			s.rate = append(s.rate, c.To/1e9)
		}
	}
	return s
}

// after returns the instant up to which the rate integrates to need, from now on.
func (s *rates) after(now int64, need float64) int64 {
	i := len(s.at) - 1
	for i > 0 && s.at[i] > now {
		i--
	}
	for ; ; i++ {
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
