package upstream

import (
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
)

// Far behind a knee a call takes longer than any number can say: for ever, and not into the past.
func TestStretch(t *testing.T) {
	const most = 1 << 60
	for _, test := range []struct {
		ns   int64
		by   float64
		want int64
	}{
		{0, math.Inf(1), 0},
		{0, math.MaxFloat64, 0},
		{1, math.Inf(1), most},
		{int64(time.Second), math.Inf(1), most},
		{int64(time.Second), 1e300, most},
		{int64(time.Second), 1.5, int64(1500 * time.Millisecond)},
	} {
		if got := stretch(test.ns, test.by); got != test.want {
			t.Errorf("%d ns, %g times: %d, want %d", test.ns, test.by, got, test.want)
		}
	}
}

// What servers that are shared have done until something changes, they have done at the pace of then.
func TestSharingKeepsWhatWasDone(t *testing.T) {
	fault := func(f Fault) Config {
		f.From, f.To, f.Kind = 5*time.Second, time.Hour, Brownout
		return Config{Faults: []Fault{f}}
	}
	for _, test := range []struct {
		name  string
		cfg   Config
		param ParamKind // set to value at 5 s
		value float64
		calls int           // that come at 0 s, of 10 s each
		want  time.Duration // when they end
	}{
		{"nothing changes", Config{}, 0, 0, 2, 20 * time.Second},
		{"a brown-out, half of the capacity", fault(Fault{Capacity: .5}), 0, 0, 2, 35 * time.Second},
		{"a brown-out, ten times slower", fault(Fault{Slow: 10}), 0, 0, 1, 55 * time.Second},
		{"slower", Config{}, ParamSlow, 10, 1, 55 * time.Second},
		{"faster", Config{Server: Server{Slow: 10}}, ParamSlow, 1, 1, 14500 * time.Millisecond},
		{"fewer servers", Config{}, ParamServers, .5, 1, 15 * time.Second},
		{"more servers", Config{}, ParamServers, 2, 2, 12500 * time.Millisecond},
		{"a server is ready", Config{Autoscaler: Autoscaler{Max: 2, Tick: time.Second, ColdStart: draw.Of(4 * time.Second)}}, 0, 0, 2, 12500 * time.Millisecond},
	} {
		test.cfg.Server.Kind, test.cfg.Server.Servers, test.cfg.Server.Service = Sharing, 1, draw.Of(10*time.Second)
		u := New(test.cfg)
		ends := []time.Duration{}
		tell := func(e *Event) { ends = append(ends, time.Duration(e.At)) }
		for id := range uint64(test.calls) {
			u.Submit(0, Call{ID: id, Key: id})
		}
		u.Advance(int64(5*time.Second), tell)
		if test.param != 0 {
			u.Set(int64(5*time.Second), Param{Kind: test.param}, test.value)
		}
		u.Advance(int64(time.Minute), tell)
		if want := slices.Repeat([]time.Duration{test.want}, test.calls); !slices.Equal(ends, want) {
			t.Errorf("%s: calls end at %v, want %v", test.name, ends, want)
		}
	}
}

// An autoscaler that takes a server away slows down what is being done from then on.
func TestSharingScalesDown(t *testing.T) {
	u := New(Config{
		Server:     Server{Kind: Sharing, Servers: 1, Service: draw.Of(10 * time.Second)},
		Autoscaler: Autoscaler{Max: 2, Target: 1, Tick: time.Second, Down: time.Second},
		Faults:     []Fault{{To: time.Hour, Kind: Brownout, Capacity: .5}},
	})
	u.Set(0, Param{Kind: ParamServers}, 2)
	u.least = 1
	u.Submit(0, Call{ID: 1, Key: 1})
	var ended time.Duration
	u.Advance(int64(time.Minute), func(e *Event) { ended = time.Duration(e.At) })
	if want := 18 * time.Second; ended != want { // 2 s at full speed, with half of two servers; then one is enough, and half of it is left
		t.Errorf("the call ends at %v, want %v", ended, want)
	}
}

// A brown-out multiplies what a schedule sets, whichever comes first, and takes nothing of it away when it ends.
func TestSlowInBrownOut(t *testing.T) {
	u := New(Config{
		Server: Server{Service: draw.Of(time.Second), Slow: 2},
		Faults: []Fault{{From: 20 * time.Second, To: 40 * time.Second, Kind: Brownout, Slow: 3}},
	})
	took := map[uint64]time.Duration{}
	tell := func(e *Event) { took[e.ID] = time.Duration(e.At) - time.Duration(e.ID)*time.Second }
	for id := range uint64(60) {
		now := int64(id) * int64(time.Second)
		u.Advance(now, tell)
		switch id {
		case 10:
			u.Set(now, Param{Kind: ParamSlow}, 4)
		case 30:
			u.Set(now, Param{Kind: ParamSlow}, 5)
		}
		u.Submit(now, Call{ID: id, Key: id})
	}
	u.Advance(int64(time.Hour), tell)
	for id, want := range map[uint64]time.Duration{0: 2 * time.Second, 10: 4 * time.Second, 20: 12 * time.Second, 30: 15 * time.Second, 40: 5 * time.Second} {
		if took[id] != want {
			t.Errorf("a call that comes after %d s takes %v, want %v", id, took[id], want)
		}
	}
}

// Servers come whole, whatever a step is, and those that are on their way are forgotten when they are there: or none would ever go again.
func TestAutoscalerStepsAreWhole(t *testing.T) {
	u := New(Config{
		Server:     Server{Servers: 1, Service: draw.Of(time.Minute)},
		Autoscaler: Autoscaler{Max: 10, Step: 1.5, Target: 1, Tick: time.Second, Down: time.Second, ColdStart: draw.Of(time.Second)},
	})
	for id := range uint64(4) {
		u.Submit(0, Call{ID: id, Key: id})
	}
	tell := func(*Event) {}
	u.Advance(int64(30*time.Second), tell)
	if u.servers != 4 || u.coming != 0 {
		t.Errorf("%v servers, and %v are coming, want 4 and 0", u.servers, u.coming)
	}
	u.Advance(int64(10*time.Minute), tell)
	if u.servers != 1 {
		t.Errorf("%v servers are left when nobody calls, want 1", u.servers)
	}
}

// Connections that are added serve those who wait for one at once, and not when the next call ends.
func TestMoreConnections(t *testing.T) {
	u := New(Config{Server: Server{Service: draw.Of(time.Minute)}, Connections: Connections{Limit: 1, Backlog: 10}})
	ends := map[time.Duration]int{}
	for id := range uint64(4) {
		u.Submit(0, Call{ID: id, Key: id})
	}
	tell := func(e *Event) { ends[time.Duration(e.At)]++ }
	u.Advance(int64(10*time.Second), tell)
	u.Set(int64(10*time.Second), Param{Kind: ParamConnections}, 3)
	u.Advance(int64(time.Hour), tell)
	if want := map[time.Duration]int{time.Minute: 1, 70 * time.Second: 2, 2 * time.Minute: 1}; !maps.Equal(ends, want) {
		t.Errorf("calls end at %v, want %v", ends, want)
	}
}

// Calls that come in the middle of an iteration wait for its end, and all but those that get in then are in the queue.
func TestBatchRefusesBetweenIterations(t *testing.T) {
	llm, _ := Profile("tiny-kv")
	llm.Ingest = 0
	for _, test := range []struct {
		kv   int64
		seqs int
		most int // how many are there, in the batch and in a queue of 2
	}{{1 << 20, 4, 4 + 2}, {10_000, 1000, 4 + 2}} { // with what is generated, four are all that such a cache holds
		llm.KV, llm.MaxSeqs = test.kv, test.seqs
		u := New(Config{Server: Server{Kind: Batch, LLM: llm, Bounded: true, Queue: 2}})
		done := 0
		tell := func(e *Event) {
			if e.Kind == Done {
				done++
			}
		}
		for id := range uint64(40) {
			now := int64(id) * int64(time.Microsecond)
			u.Advance(now, tell)
			u.Submit(now, Call{ID: id, Key: id, Input: 2400, Output: 50})
		}
		if u.Advance(int64(time.Hour), tell); done != test.most {
			t.Errorf("with a cache of %d tokens and %d sequences, %d calls of a burst are served, want %d", test.kv, test.seqs, done, test.most)
		}
	}
}

// A batch is full when its cache is, too: then no more calls wait than its queue takes.
func TestBatchRefusesBeyondItsQueue(t *testing.T) {
	llm, _ := Profile("tiny-kv")
	llm.Ingest, llm.KV, llm.MaxSeqs = 0, 10_000, 1000
	for _, queue := range []int{0, 3} {
		u := New(Config{Server: Server{Kind: Batch, LLM: llm, Bounded: true, Queue: queue}})
		refused, most := 0, 0
		tell := func(e *Event) {
			if e.Kind == Refused {
				refused++
			}
		}
		for id := range uint64(40) { // four are all that the cache holds
			now := int64(id) * int64(100*time.Millisecond)
			u.Advance(now, tell)
			u.Submit(now, Call{ID: id, Key: id, Input: 2400, Output: 300})
			most = max(most, u.Waiting())
		}
		if u.Advance(int64(time.Hour), tell); most > queue+2 || refused < 20 { // one more comes in the middle of an iteration, and one loses its place in the batch
			t.Errorf("with a queue of %d, %d calls wait and %d of 40 are refused", queue, most, refused)
		}
	}
}

// A call that no server began used no tokens; one that was refused after it had queued uses up quota only when that is charged, and one whose
// caller hung up has made its request.
func TestQuotaOfCallsThatNoServerBegan(t *testing.T) {
	const input, output, most = 100, 50, 300
	for alg := range Algorithm(numAlgorithms) {
		for charge := range Charge(numCharges) {
			for _, charged := range []bool{false, true} {
				for _, hangsUp := range []bool{false, true} {
					u := New(Config{
						Quotas: []Quota{
							{Counter: Requests, Limit: 10, Burst: 10, Algorithm: alg, ChargeRefused: charged},
							{Counter: Tokens, Limit: 10_000, Burst: 10_000, Algorithm: alg, Charge: charge, ChargeRefused: charged},
						},
						Server: Server{Servers: 1, Service: draw.Of(time.Hour), QueueTimeout: 10 * time.Millisecond, KnowsHangups: true},
					})
					left := func(i int) float64 { return math.Round(u.accounts[0].counters[i].remaining(10e6)) }
					u.Submit(0, Call{Key: 1, Input: input, Output: output, MaxOutput: most})
					requests, tokens := left(0), left(1)
					h := u.Submit(1, Call{Key: 2, Input: input, Output: output, MaxOutput: most})
					if hangsUp {
						u.Cancel(2, h)
					}
					u.Advance(11e6, func(*Event) {})
					wantRequests, wantTokens := 0.0, 0.0
					if charged || hangsUp {
						wantRequests = 1
						if charge == ChargeBefore || charged && !hangsUp && charge == ChargeSettled {
							wantTokens = input + most
						}
					}
					if r, k := requests-left(0), tokens-left(1); r != wantRequests || k != wantTokens {
						t.Errorf("%v, charged %v, refused ones %t, hangs up %t: %v requests and %v tokens are gone, want %v and %v", alg, charge, charged, hangsUp, r, k, wantRequests, wantTokens)
					}
				}
			}
		}
	}
}

// A request that waited behind one that is gone, and for which there is room, begins with the next iteration.
func TestBatchGoesOnBehindWhoLeft(t *testing.T) {
	for _, hangsUp := range []bool{false, true} {
		u := New(Config{Server: Server{
			Kind: Batch, LLM: LLM{Step: 10 * time.Millisecond, KV: 10_000, MaxSeqs: 8, Chunk: 2048}, KnowsHangups: true, QueueTimeout: time.Second,
		}})
		u.Submit(0, Call{ID: 1, Input: 100, Output: 3000})
		h := u.Submit(100e6, Call{ID: 2, Input: 9950, Output: 10}) // no room
		u.Submit(500e6, Call{ID: 3, Input: 50, Output: 10})
		if hangsUp {
			u.Advance(1100e6-1, func(*Event) {})
			u.Cancel(1100e6-1, h)
		}
		var done int64
		u.Advance(60e9, func(e *Event) {
			if e.Kind == Done && e.ID == 3 {
				done = e.At
			}
		})
		if done < 1100e6 || done > 1300e6 {
			t.Errorf("the one in front hangs up: %t: it is done at %v, want some 12 iterations of 10 ms after 1.1 s", hangsUp, time.Duration(done))
		}
	}
}
