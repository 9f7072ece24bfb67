package upstream

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
)

// randomConfig returns an upstream with random stages.
func randomConfig(rng *rand.Rand) Config {
	chance := func(p float64) bool { return rng.Float64() < p }
	c := Config{Seed: rng.Uint64(), Dialect: Dialect(rng.IntN(numDialects)), Refusal: draw.Of(time.Duration(rng.IntN(20)) * time.Millisecond)}
	answer := func() Answer {
		return Answer{RetryAfter: RetryAfter{
			Mode: RetryMode(rng.IntN(5)), Form: RetryForm(rng.IntN(3)), Delay: time.Duration(rng.IntN(5000)) * time.Millisecond,
			Factor: rng.Float64() * 2, Jitter: rng.Float64(), Missing: rng.Float64() / 2,
		}}
	}
	for range rng.IntN(3) {
		c.Quotas = append(c.Quotas, Quota{
			Counter: Counter(rng.IntN(numCounters)), Limit: 50 + 20000*rng.Float64(), Daily: chance(.1), Algorithm: Algorithm(rng.IntN(numAlgorithms)),
			Window: time.Duration(rng.IntN(20)) * time.Second, Burst: 1 + 2000*rng.Float64(), Charge: Charge(rng.IntN(numCharges)),
			CachedFree: chance(.5), ChargeRefused: chance(.5), Answer: answer(),
		})
	}
	if chance(.3) {
		c.Keys = []Key{{}, {Share: .1}, {Revoked: true}}
	}
	if chance(.3) {
		c.Connections = Connections{Limit: 1 + rng.IntN(10), Backlog: rng.IntN(10)}
	}
	if chance(.4) {
		c.Concurrency = Concurrency{Limit: 1 + rng.IntN(20), Answer: answer()}
		if chance(.5) {
			c.Concurrency.Lag = draw.Dist{Shape: draw.Uniform, Mean: 250e6, Spread: 250e6}
		}
	}
	if chance(.2) {
		c.Slope = Slope{Growth: .2, Floor: 1 + rng.IntN(50)}
	}
	if chance(.2) {
		c.Noise = Noise{Share: .1}
	}
	for range rng.IntN(3) {
		from := time.Duration(rng.IntN(20)) * time.Second
		c.Faults = append(c.Faults, Fault{From: from, To: from + time.Second*time.Duration(1+rng.IntN(10)), Kind: FaultKind(rng.IntN(numFaults)), Share: rng.Float64(), Capacity: rng.Float64(), Slow: 1 + rng.Float64()})
	}
	s := &c.Server
	s.Kind = Kind(rng.IntN(numKinds))
	s.Service = draw.Dist{Shape: draw.Lognormal, Mean: 300e6, Sigma: 1}
	s.InputToken, s.OutputToken = time.Duration(rng.IntN(100))*time.Microsecond, time.Duration(rng.IntN(10))*time.Millisecond
	s.KnowsHangups = chance(.5)
	if chance(.5) || s.Kind == Sharing {
		s.Servers = float64(1 + rng.IntN(20))
	}
	if chance(.4) {
		s.Bounded, s.Queue, s.LIFO = true, rng.IntN(10), chance(.5)
	}
	if chance(.3) {
		s.QueueTimeout = time.Duration(1+rng.IntN(3000)) * time.Millisecond
	}
	if chance(.3) && s.Kind != Sharing { // which would make some calls take years
		s.Scale, s.Knee, s.KneeBase, s.RateScale = .1*rng.Float64(), 5, 1.1, .01
	}
	if chance(.2) {
		s.StallShare, s.Stall = .1, draw.Dist{Shape: draw.Pareto, Mean: 1e9, Alpha: 1.5, Max: 60e9}
	}
	s.LLM, _ = Profile("tiny-kv")
	s.LLM.KV = int64(3000 + rng.IntN(100000))
	if chance(.3) {
		c.Neighbour = Neighbour{Rate: 3, Busy: 20, Quiet: 5 * time.Second, Burst: 2 * time.Second, Input: draw.Dist{Mean: 100}, Output: draw.Dist{Mean: 50}}
	}
	if chance(.3) && s.Servers > 0 {
		c.Autoscaler = Autoscaler{Max: s.Servers * 3, Step: 2, Tick: time.Second, Down: 3 * time.Second, ColdStart: draw.Dist{Shape: draw.Normal, Mean: 4e9, Spread: 1e9}}
	}
	if chance(.5) {
		c.FirstByte, c.Progress = true, int64(1+rng.IntN(20))
	}
	return c
}

// Every call has exactly one end, events come in the order of time, and an upstream that everybody has left is empty.
func TestConservation(t *testing.T) {
	worlds := 400
	if testing.Short() {
		worlds = 60
	}
	for n := range worlds {
		rng := rand.New(rand.NewPCG(uint64(n), 9))
		cfg := randomConfig(rng)
		if err := cfg.Check(); err != nil {
			t.Fatal(err)
		}
		u := New(cfg)
		type caller struct {
			h        Handle
			first    bool
			progress int64
			out      int64
		}
		open := map[uint64]*caller{}
		var now int64
		ends := 0
		tell := func(e *Event) {
			if e.At < now {
				t.Fatalf("world %d: an event at %v after %v", n, e.At, now)
			}
			now = e.At
			c := open[e.ID]
			if c == nil || c.h != e.Handle {
				t.Fatalf("world %d: %+v is about nobody", n, e)
			}
			switch e.Kind {
			case FirstByte:
				if c.first {
					t.Fatalf("world %d: a second first byte", n)
				}
				c.first = true
			case Progress:
				if e.Tokens <= c.progress || e.Tokens > c.out {
					t.Fatalf("world %d: progress from %d to %d of %d", n, c.progress, e.Tokens, c.out)
				}
				c.progress = e.Tokens
			case Done, Refused:
				ends++
				if e.Reply == nil || e.Kind == Refused && e.Reply.Status < 400 || e.Kind == Done && (e.Reply.Status != 200 || e.First < 0) {
					t.Fatalf("world %d: %+v", n, e)
				}
				delete(open, e.ID)
			}
		}
		var id uint64
		for at := int64(0); at < 30e9; at += rng.Int64N(200e6) {
			u.Advance(at, tell)
			now = at
			id++
			c := Call{ID: id, Key: id << 8, Account: rng.IntN(3), Input: rng.Int64N(1500), Output: rng.Int64N(300)}
			c.Cached = c.Input / 3
			c.MaxOutput = c.Output * rng.Int64N(4)
			h := u.Submit(at, c)
			open[id] = &caller{h: h, out: c.Output}
			if rng.IntN(20) == 0 {
				for id, c := range open {
					u.Cancel(at, c.h)
					delete(open, id)
					break
				}
			}
			if rng.IntN(50) == 0 {
				u.Set(at, Param{ParamKind(1 + rng.IntN(12)), rng.IntN(2)}, rng.Float64()*30)
			}
		}
		// The neighbour goes, and so do the others.
		u.Set(30e9, Param{Kind: ParamNeighbour}, 0)
		for id, c := range open {
			if u.slots[c.h].state == stuck {
				u.Cancel(30e9, c.h)
				delete(open, id)
			}
		}
		u.Set(30e9, Param{Kind: ParamServers}, 10)
		u.Set(30e9, Param{Kind: ParamSlow}, 1)
		u.Advance(1e14, tell)
		if len(open) > 0 {
			t.Fatalf("world %d: %d calls have no end\n%+v", n, len(open), cfg)
		}
		used := 0
		for i := range u.slots {
			if u.slots[i].state != free {
				used++
			}
		}
		in := 0
		for _, a := range u.accounts {
			in += a.in
		}
		if used != 0 || u.busy != 0 || u.connections != 0 || in != 0 || u.Waiting() != 0 || u.batch.kv != 0 || u.batch.seqs != 0 || len(u.pool.heap) != 0 {
			t.Fatalf("world %d: left are %d slots, %d busy, %d connections, %d counted, %d waiting, %d tokens in the cache, %d sequences\n%+v",
				n, used, u.busy, u.connections, in, u.Waiting(), u.batch.kv, u.batch.seqs, cfg)
		}
		if n < 50 && ends == 0 {
			t.Errorf("world %d: nothing happened", n)
		}
	}
}

// closed runs n clients that ask again at once, for some time, and returns the completions a second and the first bytes and ends, in s.
func closed(cfg Config, n int, d time.Duration, lengths func(uint64) (in, out int64)) (rate float64, first, whole []float64) {
	u := New(cfg)
	var id uint64
	born := map[uint64]int64{}
	ask := func(now int64) {
		id++
		in, out := lengths(id)
		born[id] = now
		u.Submit(now, Call{ID: id, Key: id, Input: in, Output: out})
	}
	for range n {
		ask(0)
	}
	u.Advance(int64(d), func(e *Event) {
		if e.Kind != Done {
			return
		}
		first = append(first, float64(e.First)/1e9)
		whole = append(whole, float64(e.At-born[e.ID])/1e9)
		delete(born, e.ID)
		ask(e.At)
	})
	return float64(len(whole)) / d.Seconds(), first, whole
}

// Many iterations at once are the same as one after the other.
func TestBatchClosedForm(t *testing.T) {
	for _, profile := range []string{"llama-8b-a100", "tiny-kv"} {
		llm, _ := Profile(profile)
		lengths := func(n uint64) (int64, int64) {
			in := draw.Dist{Shape: draw.Lognormal, Mean: 1300, Sigma: .9, Max: 8000}
			out := draw.Dist{Shape: draw.Lognormal, Mean: 200, Sigma: .8, Max: 2000}
			return in.Int(1, 1, n), out.Int(1, 2, n)
		}
		for _, n := range []int{1, 16, 100} {
			cfg := Config{Server: Server{Kind: Batch, LLM: llm}}
			fast, f1, w1 := closed(cfg, n, 5*time.Minute, lengths)
			cfg.Progress = 1
			slow, f2, w2 := closed(cfg, n, 5*time.Minute, lengths)
			if len(w1) == 0 || math.Abs(fast/slow-1) > 1e-3 {
				t.Fatalf("%s, %d clients: %v a second, one by one %v", profile, n, fast, slow)
			}
			for i := range min(len(w1), 50) {
				if math.Abs(w1[i]-w2[i]) > 1e-5 || math.Abs(f1[i]-f2[i]) > 1e-5 {
					t.Fatalf("%s, %d clients: the %d-th takes %v (first byte %v), one by one %v (%v)", profile, n, i, w1[i], f1[i], w2[i], f2[i])
				}
			}
		}
	}
}

// In a server that is shared, the mean time in it does not depend on the distribution of the work: s/(1-rho) for M/G/1-PS.
func TestSharingIsInsensitive(t *testing.T) {
	const rho, mean = .7, .1
	for _, work := range []draw.Dist{
		{Mean: mean * 1e9},
		{Shape: draw.Exponential, Mean: mean * 1e9},
		{Shape: draw.Mixture, Parts: []draw.Part{{Weight: 9, Dist: draw.Dist{Mean: mean * .5e9}}, {Weight: 1, Dist: draw.Dist{Mean: mean * 5.5e9}}}},
	} {
		var means []float64
		for seed := range uint64(20) {
			u := New(Config{Seed: seed, Server: Server{Kind: Sharing, Servers: 1, Service: work}})
			var sum float64
			var n int
			born := map[uint64]int64{}
			tell := func(e *Event) {
				sum += float64(e.At - born[e.ID])
				n++
				delete(born, e.ID)
			}
			now := 0.0
			for id := range uint64(20_000) {
				now += draw.Exp(seed, 1, id) * mean / rho * 1e9
				u.Advance(int64(now), tell)
				born[id] = int64(now)
				u.Submit(int64(now), Call{ID: id, Key: id})
			}
			u.Advance(1<<62, tell)
			means = append(means, sum/float64(n)/1e9)
		}
		m, se := meanOf(means)
		want := mean / (1 - rho)
		t.Logf("%v: mean %.4f ± %.4f, want %.4f", work.Shape, m, se, want)
		if math.Abs(m-want) > 3*se || math.Abs(m/want-1) > .02 {
			t.Errorf("%v: mean time is %v, want %v within 2 %% and 3 standard errors (%v)", work.Shape, m, want, se)
		}
	}
}

func meanOf(xs []float64) (mean, se float64) {
	for _, x := range xs {
		mean += x
	}
	mean /= float64(len(xs))
	var sq float64
	for _, x := range xs {
		sq += (x - mean) * (x - mean)
	}
	n := float64(len(xs))
	return mean, math.Sqrt(sq / n / (n - 1))
}

// A call costs no allocation once the slabs have grown.
func BenchmarkCall(b *testing.B) {
	for _, kind := range []Kind{Servers, Sharing, Batch} {
		b.Run(fmt.Sprint(kind), func(b *testing.B) {
			llm, _ := Profile("llama-8b-a100")
			u := New(Config{
				Quotas:      []Quota{{Limit: 1e7, Burst: 1e5}},
				Concurrency: Concurrency{Limit: 1000},
				Server:      Server{Kind: kind, Servers: 20, Service: draw.Dist{Shape: draw.Exponential, Mean: 1e8}, LLM: llm},
			})
			var now int64
			var id uint64
			tell := func(e *Event) {}
			b.ReportAllocs()
			for b.Loop() {
				id++
				now += 10e6
				u.Advance(now, tell)
				u.Submit(now, Call{ID: id, Key: id, Input: 100, Output: 10})
			}
		})
	}
}

// chat returns lengths as in the Azure conversation trace of 2023: input lognormal(6.63, 0.99), output 0.723·LN(4.64, 0.71) + 0.277·LN(6.01, 0.05).
func chat(n uint64) (int64, int64) {
	ln := func(mu, sigma float64) draw.Dist {
		return draw.Dist{Shape: draw.Lognormal, Mean: math.Exp(mu + sigma*sigma/2), Sigma: sigma}
	}
	in, out := ln(6.63, .99), draw.Dist{Shape: draw.Mixture, Parts: []draw.Part{{Weight: .723, Dist: ln(4.64, .71)}, {Weight: .277, Dist: ln(6.01, .05)}}}
	in.Max, out.Max = 8000, 1000
	return max(1, in.Int(1, 1, n)), max(1, out.Int(1, 2, n))
}

// A batching server does what an independent prototype of the same model did in a closed loop (requests a second), within 8 % (its lengths
// were those of the trace itself, of which these are a fit). Beyond what the cache holds throughput falls and the first byte takes seconds.
func TestBatchThroughput(t *testing.T) {
	if testing.Short() {
		t.Skip("ten simulated minutes of nine servers")
	}
	for _, c := range []struct {
		profile string
		n       int
		rate    float64
	}{
		{"llama-8b-a100", 1, .44}, {"llama-8b-a100", 16, 3.85}, {"llama-8b-a100", 64, 6.49}, {"llama-8b-a100", 128, 7.12}, {"llama-8b-a100", 256, 7.34},
		{"llama-70b-h100x8", 1, .36}, {"llama-70b-h100x8", 16, 4.58}, {"llama-70b-h100x8", 64, 12.0}, {"llama-70b-h100x8", 256, 18.1},
	} {
		llm, _ := Profile(c.profile)
		llm.Ingest, llm.Detach = 0, 0 // the prototype counts from the batch on
		rate, first, whole := closed(Config{Server: Server{Kind: Batch, LLM: llm}}, c.n, 10*time.Minute, chat)
		first, whole = first[len(first)/5:], whole[len(whole)/5:] // all came at once at the start
		slices.Sort(first)
		slices.Sort(whole)
		t.Logf("%s, %d in flight: %.2f a second (prototype %.2f), first byte p50 %.3f p99 %.3f s, whole p50 %.2f s",
			c.profile, c.n, rate, c.rate, first[len(first)/2], first[len(first)*99/100], whole[len(whole)/2])
		if math.Abs(rate/c.rate-1) > .08 {
			t.Errorf("%s, %d in flight: %.2f requests a second, the prototype had %.2f", c.profile, c.n, rate, c.rate)
		}
	}
	tiny, _ := Profile("tiny-kv")
	tail := func(n int) (rate, p99 float64) {
		rate, first, _ := closed(Config{Server: Server{Kind: Batch, LLM: tiny}}, n, 10*time.Minute, chat)
		first = first[len(first)/5:]
		slices.Sort(first)
		return rate, first[len(first)*99/100]
	}
	r64, f64 := tail(64)
	r96, f96 := tail(96)
	t.Logf("tiny-kv: 64 in flight %.2f a second, first byte p99 %.2f s; 96 in flight %.2f, %.2f s", r64, f64, r96, f96)
	if f64 > 2 || f96 < 3*f64 || r96 > r64*1.03 {
		t.Errorf("tiny-kv has no cliff: p99 of the first byte %.2f s with 64 in flight, %.2f s with 96; %.2f and %.2f a second", f64, f96, r64, r96)
	}
}

// A share of a limit is as many calls as it is written to be, whatever the product is rounded to.
func TestPartOfALimit(t *testing.T) {
	t.Parallel()
	for limit := 1; limit <= 1000; limit++ {
		for n := range limit + 1 {
			if got := Part(limit, float64(n)/float64(limit)); got != n {
				t.Fatalf("%d of %d are %d", n, limit, got)
			}
		}
	}
	if got := Part(100, .29); got != 29 {
		t.Errorf("0.29 of 100 are %d, want 29", got)
	}
	for _, test := range []struct {
		limit int
		share float64
		want  int
	}{{5, .5, 2}, {3, .33, 1}, {6, .333, 2}, {3, .66, 2}, {5, .55, 2}, {100, 1. / 3, 33}, {7, .25, 1}} {
		if got := Part(test.limit, test.share); got != test.want {
			t.Errorf("%v of %d are %d, want %d", test.share, test.limit, got, test.want)
		}
	}
}
