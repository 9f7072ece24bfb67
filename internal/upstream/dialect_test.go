package upstream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/draw"
)

// read is what package feedback makes of a reply.
func read(r *Reply, now time.Time) feedback.Signal {
	return feedback.Parse(feedback.Answer{Status: r.Status, Header: r.Header, Body: r.Body, Now: now})
}

// only submits one call to an upstream and returns its refusal.
func only(t *testing.T, u *Upstream, at int64, c Call) *Reply {
	t.Helper()
	var r *Reply
	u.Advance(at, func(*Event) {})
	c.ID = 1e9
	u.Submit(at, c)
	u.Advance(at, func(e *Event) {
		if e.ID == 1e9 && e.Kind == Refused {
			r = e.Reply
		}
	})
	if r == nil {
		t.Fatal("the call was not refused")
	}
	return r
}

// What each dialect says is understood by the code that reads real answers.
func TestDialectsAreUnderstood(t *testing.T) {
	exact := Answer{RetryAfter: RetryAfter{Mode: RetryExact}}
	rpm := Quota{Counter: Requests, Limit: 60, Burst: 1, Answer: exact}
	tpm := Quota{Counter: Tokens, Limit: 6000, Burst: 1000, Answer: exact}
	itpm := Quota{Counter: InputTokens, Limit: 6000, Burst: 1000, Answer: exact}
	otpm := Quota{Counter: OutputTokens, Limit: 6000, Burst: 150, Answer: exact}
	daily := Quota{Counter: Requests, Limit: 1, Daily: true, Algorithm: FixedWindow, Answer: exact}
	outage := []Fault{{To: time.Minute, Kind: Refuse}}
	type want struct {
		class feedback.Class
		scope feedback.Scope
		after time.Duration // -1: none
		limit int64         // of a window of the scope's kind; 0: none
	}
	const s = time.Second
	for name, c := range map[string]struct {
		cfg Config
		by  map[Dialect]want
	}{
		"requests": {Config{Quotas: []Quota{rpm}}, map[Dialect]want{
			Generic:   {feedback.Throttled, feedback.ScopeUnknown, 1 * s, 0},
			OpenAI:    {feedback.Throttled, feedback.ScopeRequests, 1 * s, 60},
			Azure:     {feedback.Throttled, feedback.ScopeRequests, 1 * s, 0},
			Anthropic: {feedback.Throttled, feedback.ScopeRequests, 1 * s, 60},
			Gemini:    {feedback.Throttled, feedback.ScopeRequests, 1 * s, 0},
		}},
		"tokens": {Config{Quotas: []Quota{tpm}}, map[Dialect]want{
			OpenAI:    {feedback.Throttled, feedback.ScopeTokens, 10 * s, 6000},
			Azure:     {feedback.Throttled, feedback.ScopeTokens, 10 * s, 0},
			Anthropic: {feedback.Throttled, feedback.ScopeTokens, 10 * s, 6000},
		}},
		"input": {Config{Quotas: []Quota{itpm}}, map[Dialect]want{
			Anthropic: {feedback.Throttled, feedback.ScopeInputTokens, 8 * s, 6000},
			Gemini:    {feedback.Throttled, feedback.ScopeInputTokens, 8 * s, 0},
		}},
		"output": {Config{Quotas: []Quota{otpm}}, map[Dialect]want{
			Anthropic: {feedback.Throttled, feedback.ScopeOutputTokens, 0, 6000},
		}},
		"day": {Config{Quotas: []Quota{daily}}, map[Dialect]want{
			OpenAI: {feedback.QuotaExhausted, feedback.ScopeDaily, 24 * time.Hour, 0},
			Gemini: {feedback.QuotaExhausted, feedback.ScopeDaily, 24 * time.Hour, 0},
		}},
		"overloaded": {Config{Faults: outage}, map[Dialect]want{
			Generic:   {feedback.Overloaded, feedback.ScopeNone, -1, 0},
			OpenAI:    {feedback.Overloaded, feedback.ScopeNone, -1, 0},
			Azure:     {feedback.Overloaded, feedback.ScopeNone, -1, 0},
			Anthropic: {feedback.Overloaded, feedback.ScopeNone, -1, 0},
			Gemini:    {feedback.Overloaded, feedback.ScopeNone, -1, 0},
		}},
		"slope": {Config{Slope: Slope{Growth: .2, Floor: 1}}, map[Dialect]want{
			OpenAI:    {feedback.Throttled, feedback.ScopeRequests, -1, 0},
			Anthropic: {feedback.Throttled, feedback.ScopeUnknown, -1, 0},
		}},
		"cap": {Config{Concurrency: Concurrency{Limit: 1}}, map[Dialect]want{
			Generic:   {feedback.Throttled, feedback.ScopeUnknown, -1, 0},
			OpenAI:    {feedback.Throttled, feedback.ScopeUnknown, -1, 0},
			Anthropic: {feedback.Throttled, feedback.ScopeConcurrency, -1, 0},
		}},
		"key": {Config{Keys: []Key{{Revoked: true}}}, map[Dialect]want{
			Generic: {feedback.ClientError, feedback.ScopeNone, -1, 0},
			OpenAI:  {feedback.ClientError, feedback.ScopeNone, -1, 0},
		}},
	} {
		for d, w := range c.by {
			cfg := c.cfg
			cfg.Dialect = d
			cfg.Server = Server{Service: draw.Of(time.Hour)}
			u := New(cfg)
			call := Call{Input: 900, Output: 100}
			u.Submit(0, call)
			r := only(t, u, 0, call)
			got := read(r, u.date(0))
			after := time.Duration(-1)
			if got.HasRetryAfter {
				after = got.RetryAfter
			}
			if w.after == 0 { // any
				after = 0
			}
			limit := int64(0)
			for _, x := range got.Windows {
				if x.Kind == w.scope {
					limit = x.Limit
				}
			}
			if w.limit == 0 {
				limit = 0
			}
			if g := (want{got.Class, got.Scope, after, limit}); g != w {
				t.Errorf("%s, %v: read as %v %v, after %v, limit %d; want %v %v, after %v, limit %d\n%d %v %s", name, d,
					g.class, g.scope, g.after, g.limit, w.class, w.scope, w.after, w.limit, r.Status, r.Header, r.Body)
			}
		}
	}
}

// A call that is larger than a window is told so.
func TestTooLarge(t *testing.T) {
	u := New(Config{Dialect: OpenAI, Quotas: []Quota{{Counter: Tokens, Limit: 6000, Burst: 1000}}})
	r := only(t, u, 0, Call{Input: 5000})
	if got := read(r, u.date(0)); got.Class != feedback.ClientError || got.Scope != feedback.ScopeTokens {
		t.Errorf("read as %v %v, want client_error tokens: %s", got.Class, got.Scope, r.Body)
	}
}

// The forms and lies of Retry-After.
func TestRetryAfter(t *testing.T) {
	for name, c := range map[string]struct {
		ra   RetryAfter
		want time.Duration // -1: none
	}{
		"none":     {RetryAfter{}, -1},
		"exact":    {RetryAfter{Mode: RetryExact}, 7 * time.Second},
		"millis":   {RetryAfter{Mode: RetryExact, Form: FormMillis}, 6500 * time.Millisecond},
		"date":     {RetryAfter{Mode: RetryExact, Form: FormDate}, 7 * time.Second},
		"constant": {RetryAfter{Mode: RetryConstant, Delay: 24 * time.Hour}, 24 * time.Hour},
		"small":    {RetryAfter{Mode: RetryWrong, Factor: .1}, time.Second},
		"missing":  {RetryAfter{Mode: RetryExact, Missing: 1}, -1},
	} {
		u := New(Config{Quotas: []Quota{{Limit: 6, Burst: 1, Answer: Answer{RetryAfter: c.ra}}}, Server: Server{Service: draw.Of(time.Hour)}})
		u.Submit(0, Call{})
		r := only(t, u, 3500e6, Call{})
		got := read(r, u.date(3500e6))
		after := time.Duration(-1)
		if got.HasRetryAfter {
			after = got.RetryAfter
		}
		if after != c.want {
			t.Errorf("%s: read as %v, want %v: %v", name, after, c.want, r.Header)
		}
	}
}

// Quotas allow what they say, whoever asks.
func TestQuotasAllowTheirLimit(t *testing.T) {
	const minutes = 30
	for name, c := range map[string]struct {
		q    Quota
		want float64 // units in the time
	}{
		"refill":          {Quota{Limit: 600, Burst: 20}, 600*minutes + 20},
		"refill/tokens":   {Quota{Counter: Tokens, Limit: 60000, Burst: 2000}, 60000*minutes + 2000},
		"settled":         {Quota{Counter: Tokens, Limit: 60000, Burst: 3000, Charge: ChargeSettled}, 60000*minutes + 3000},
		"window":          {Quota{Limit: 600, Algorithm: FixedWindow}, 600 * minutes},
		"window/slice":    {Quota{Limit: 600, Algorithm: FixedWindow, Window: time.Second}, 600 * minutes},
		"log":             {Quota{Limit: 600, Algorithm: SlidingLog}, 600 * minutes},
		"sliding-counter": {Quota{Limit: 600, Algorithm: SlidingCounter}, 600 * minutes},
	} {
		c.q.Answer.RetryAfter = RetryAfter{Mode: RetryExact, Form: FormMillis}
		u := New(Config{Quotas: []Quota{c.q}, Server: Server{Service: draw.Of(10 * time.Millisecond)}})
		var units float64
		var id uint64
		in := 0
		tell := func(e *Event) {
			in--
			if e.Kind == Done {
				units += u.accounts[0].counters[0].after(&Call{Input: 100, Output: 40})
			}
		}
		for at := int64(0); at < minutes*60e9; at += 20e6 {
			u.Advance(at, tell)
			if in < 5 {
				in++
				id++
				u.Submit(at, Call{ID: id, Key: id, Input: 100, Output: 40, MaxOutput: 60})
			}
		}
		u.Advance(1<<62, tell)
		want := c.want
		if c.q.Counter == Tokens && c.q.Charge == ChargeBefore {
			want *= 140.0 / 160 // what is reserved and not used is lost
		}
		if units > want || units < want*.985 {
			t.Errorf("%s: %v units passed, want %v or a little less", name, units, want)
		}
	}
}

// What is appended without an allocation is what time.Duration says.
func TestResetIsADuration(t *testing.T) {
	for _, ms := range []int64{0, 1, 9, 10, 99, 100, 999, 1000, 1001, 1010, 1100, 8640, 59_999, 60_000, 60_001, 61_500, 360_000, 3_599_999, 3_600_000, 3_601_000, 3_660_010, 86_400_000, 90_061_001, 8_640_000_000} {
		want := (time.Duration(ms) * time.Millisecond).String()
		if got := openaiReset(ms * int64(time.Millisecond)); got != want {
			t.Errorf("%d ms is written %q, want %q", ms, got, want)
		}
	}
	for ms := int64(1); ms < 10_000_000; ms += 997 {
		want := (time.Duration(ms) * time.Millisecond).String()
		if got := openaiReset(ms*int64(time.Millisecond) - 1); got != want {
			t.Fatalf("%d ms is written %q, want %q", ms, got, want)
		}
	}
}

// A reply that was given back is made again with other values, and one that is still looked at is not.
func TestRecycledReplies(t *testing.T) {
	for _, d := range []Dialect{OpenAI, Azure, Anthropic} {
		u := New(Config{Dialect: d, Quotas: []Quota{{Counter: Requests, Limit: 300, Burst: 10, Answer: Answer{RetryAfter: RetryAfter{Mode: RetryExact, Form: FormMillis, Missing: .3}}}, {Counter: Tokens, Limit: 60_000, Burst: 60_000, Charge: ChargeSettled}}, Server: Server{Service: draw.Of(time.Second)}})
		var kept []*Reply
		var texts []string
		text := func(r *Reply) string { return fmt.Sprint(r.Status, r.Header, string(r.Body)) }
		refused := 0
		for i := range uint64(60) {
			at := int64(i) * int64(100*time.Millisecond)
			u.Submit(at, Call{ID: i, Key: i, Input: 100 * int64(i), Output: 50})
			u.Advance(at, func(e *Event) {
				if e.Kind == Refused {
					refused++
				}
				if e.ID%3 == 0 { // nobody looks at it any more
					u.Recycle(e.Reply)
					return
				}
				kept, texts = append(kept, e.Reply), append(texts, text(e.Reply))
			})
		}
		for i, r := range kept {
			if text(r) != texts[i] {
				t.Fatalf("%v: reply %d was %s and is %s", d, i, texts[i], text(r))
			}
		}
		if len(kept) < 20 || refused < 10 || slices.Equal(texts[:1], texts[len(texts)-1:]) {
			t.Errorf("%v: %d replies: too few, or all alike", d, len(kept))
		}
	}
}

// A refusal tells the limit that holds, also after it was changed.
func TestBodiesFollowTheLimit(t *testing.T) {
	for _, d := range []Dialect{OpenAI, Anthropic, Gemini} {
		u := New(Config{Dialect: d, Quotas: []Quota{{Counter: Requests, Limit: 60, Burst: 1}}, Server: Server{Service: draw.Of(time.Second)}})
		refusal := func(at time.Duration) (body string) {
			for i := range uint64(2) {
				u.Submit(int64(at), Call{ID: i, Key: i})
			}
			u.Advance(int64(at+time.Second), func(e *Event) {
				if e.Kind == Refused {
					body = string(e.Reply.Body)
				}
			})
			return body
		}
		before := refusal(0)
		u.Set(int64(10*time.Second), Param{Kind: ParamQuotaLimit}, 42)
		after := refusal(20 * time.Second)
		if !strings.Contains(before, "60") || !strings.Contains(after, "42") {
			t.Errorf("%v: before %s\nafter %s", d, before, after)
		}
	}
}

// What a refusal says of a limit is that of the key that was refused, whichever key was refused before.
func TestRefusalsTellTheKeysOwnLimit(t *testing.T) {
	for _, d := range []Dialect{OpenAI, Anthropic, Gemini} {
		u := New(Config{Dialect: d, Keys: []Key{{}, {Share: .5}}, Quotas: []Quota{{Limit: 60, Algorithm: FixedWindow, Answer: Answer{RetryAfter: RetryAfter{Mode: RetryConstant, Delay: time.Second}}}}})
		u.accounts[0].counters[0].used, u.accounts[1].counters[0].used = 60, 30
		for key, want := range []string{"60", "30"} {
			if body := string(only(t, u, 0, Call{Key: uint64(key), Account: key}).Body); !strings.Contains(body, want) {
				t.Errorf("%v: key %d is told %s, want its limit of %s", d, key, body, want)
			}
		}
	}
}

// Whoever is told the exact delay, and is alone, passes after it, also where a refusal itself uses up quota.
func TestExactDelayIsEnough(t *testing.T) {
	for seed := range uint64(600) {
		rng := rand.New(rand.NewPCG(seed, 1))
		quotas := make([]Quota, 1+rng.IntN(2))
		for i := range quotas {
			q := Quota{
				Counter: Counter(rng.IntN(numCounters)), Limit: float64(30 + rng.IntN(600)), Burst: float64(1 + rng.IntN(20)),
				Algorithm: Algorithm(rng.IntN(numAlgorithms)), Charge: Charge(rng.IntN(numCharges)), ChargeRefused: rng.IntN(2) == 0,
				Answer: Answer{RetryAfter: RetryAfter{Mode: RetryExact, Form: FormMillis}},
			}
			if rng.IntN(2) == 0 {
				q.Window = time.Duration(1+rng.IntN(20)) * time.Second
			}
			if q.Counter != Requests {
				q.Limit, q.Burst = 100*q.Limit, 3000
			}
			quotas[i] = q
		}
		u := New(Config{Quotas: quotas})
		now, told := int64(0), false
		var c Call
		for i := range uint64(100) {
			if !told {
				now += rng.Int64N(int64(time.Second))
				c = Call{Key: i, Input: 1 + rng.Int64N(500), Output: 1 + rng.Int64N(300), MaxOutput: 400}
			}
			u.Advance(now, func(*Event) {})
			u.Submit(now, c)
			var r *Reply
			u.Advance(now, func(e *Event) {
				if e.Kind == Refused {
					r = e.Reply
				}
			})
			if r != nil && told {
				t.Fatalf("seed %d: refused at %v, after the delay that was told: %v; %+v", seed, time.Duration(now), r.Header, quotas)
			}
			if told = false; r != nil {
				if s := read(r, u.date(now)); s.HasRetryAfter {
					now, told = now+int64(s.RetryAfter), true
				}
			}
		}
	}
}

// No dialect says that a quota is full again before it is.
func TestResetIsNotTooSoon(t *testing.T) {
	for _, d := range []Dialect{OpenAI, Anthropic} {
		for now := int64(1e6); now < 2e9; now += 137e6 {
			u := New(Config{Dialect: d, Quotas: []Quota{{Limit: 24, Burst: 1}}})
			u.Submit(0, Call{Key: 1})
			r := only(t, u, now, Call{Key: 2})
			told := time.Duration(-1)
			for _, w := range read(r, u.date(now)).Windows {
				told = max(told, w.Reset)
			}
			if truth := 2500*time.Millisecond - time.Duration(now); told < truth || told > truth+time.Second {
				t.Errorf("%v: at %v full in %v, told %v: %v", d, time.Duration(now), truth, told, r.Header)
			}
		}
	}
}
