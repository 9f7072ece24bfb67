package fit

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/trace"
	"github.com/flyball-go/flyball/internal/upstream"
)

// change sets a parameter at an instant.
type change struct {
	at    time.Duration
	param upstream.Param
	to    float64
}

// recorded is a trace of Poisson calls to a model of an upstream, each with a prompt and an answer of random length.
func recorded(cfg upstream.Config, rate float64, d time.Duration, tokens bool, changes ...change) *trace.Trace {
	cfg.Seed = 7
	u := upstream.New(cfg)
	random := rand.New(rand.NewPCG(1, 2))
	t := &trace.Trace{Name: "recorded"}
	tell := func(e *upstream.Event) {
		if e.Reply == nil {
			return
		}
		r := &t.Rows[e.ID]
		r.Seen, r.End, r.Status, r.RetryAfter = true, time.Duration(e.At), e.Reply.Status, -1
		for _, name := range []string{"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests"} {
			if v := e.Reply.Header[name]; v != nil {
				if r.Header == nil {
					r.Header = map[string]string{}
				}
				r.Header[strings.ToLower(name)] = v[0]
			}
		}
	}
	at := time.Duration(0)
	for {
		at += time.Duration(random.ExpFloat64() / rate * 1e9)
		if at > d {
			break
		}
		for len(changes) > 0 && changes[0].at <= at {
			u.Advance(int64(changes[0].at), tell)
			u.Set(int64(changes[0].at), changes[0].param, changes[0].to)
			changes = changes[1:]
		}
		r := trace.Row{At: at, Sent: at}
		if tokens {
			r.In = int64(50 + math.Exp(6+random.NormFloat64()))
			r.Out = int64(10 + math.Exp(4.5+0.8*random.NormFloat64()))
		}
		id := uint64(len(t.Rows))
		t.Rows = append(t.Rows, r)
		u.Advance(int64(at), tell)
		u.Submit(int64(at), upstream.Call{ID: id, Key: id, Input: r.In, Output: r.Out})
	}
	u.Advance(math.MaxInt64-1, tell)
	return t
}

func profile(name string) upstream.LLM { llm, _ := upstream.Profile(name); return llm }

func near(got, want, by float64) bool { return math.Abs(got/want-1) <= by }

// What is fitted to a recording of a known upstream is that upstream.
func TestFitFindsTheUpstream(t *testing.T) {
	lognormal := upstream.Server{Service: draw.Dist{Shape: draw.Lognormal, Mean: 400e6, Sigma: 0.5}}
	tokens := upstream.Server{Service: draw.Of(200 * time.Millisecond), InputToken: 100 * time.Microsecond, OutputToken: 10 * time.Millisecond}
	crowded := tokens
	crowded.Scale = 0.05
	requests := func(a upstream.Algorithm, limit, burst float64, window time.Duration) []upstream.Quota {
		return []upstream.Quota{{Counter: upstream.Requests, Algorithm: a, Limit: limit, Burst: burst, Window: window}}
	}
	for _, c := range []struct {
		name    string
		cfg     upstream.Config
		rate    float64
		tokens  bool
		changes []change
		check   func(m *Model) string
	}{
		{"nothing refuses", upstream.Config{Server: lognormal}, 5, false, nil, func(m *Model) string {
			if m.Limit.Kind != None || !near(m.Latency.Service, 0.4, 0.05) || !near(m.Latency.Sigma, 0.5, 0.1) || m.Latency.Scale != 0 || m.Latency.Servers != 0 {
				return "want a service of 0.4 s with sigma 0.5"
			}
			return ""
		}},
		{"bucket", upstream.Config{Server: lognormal, Quotas: requests(upstream.Refill, 240, 10, 0)}, 6, false, nil, func(m *Model) string {
			if m.Limit.Kind != Bucket || !near(m.Limit.Rate, 4, 0.02) || !near(m.Limit.Burst, 10, 0.11) || len(m.Limit.Changes) > 0 {
				return "want a bucket of 4 a second and 10 at once"
			}
			return ""
		}},
		{"bucket of which four times as much is asked", upstream.Config{Server: lognormal, Quotas: requests(upstream.Refill, 120, 20, 0)}, 8, false, nil, func(m *Model) string {
			if m.Limit.Kind != Bucket || !near(m.Limit.Rate, 2, 0.01) || !near(m.Limit.Burst, 20, 0.11) || len(m.Limit.Changes) > 0 {
				return "want a bucket of 2 a second and 20 at once"
			}
			return ""
		}},
		{"bucket that is seldom empty", upstream.Config{Server: lognormal, Quotas: requests(upstream.Refill, 120, 20, 0)}, 2.2, false, nil, func(m *Model) string {
			if m.Limit.Kind != Bucket || !near(m.Limit.Rate, 2, 0.01) || !near(m.Limit.Burst, 20, 0.11) || len(m.Limit.Changes) > 0 {
				return "want a bucket of 2 a second and 20 at once"
			}
			return ""
		}},
		{"bucket that changes", upstream.Config{Server: lognormal, Quotas: requests(upstream.Refill, 240, 10, 0)}, 8, false,
			[]change{{200 * time.Second, upstream.Param{Kind: upstream.ParamQuotaLimit}, 120}, {400 * time.Second, upstream.Param{Kind: upstream.ParamQuotaLimit}, 360}},
			func(m *Model) string {
				l := &m.Limit
				if l.Kind != Bucket || len(l.Changes) != 2 || !near(l.Rate, 4, 0.04) || !near(l.Changes[0].Value, 2, 0.04) || !near(l.Changes[1].Value, 6, 0.04) ||
					math.Abs(l.Changes[0].At.Seconds()-200) > 8 || math.Abs(l.Changes[1].At.Seconds()-400) > 8 {
					return "want 4 a second, 2 from 200 s on, 6 from 400 s on"
				}
				return ""
			}},
		{"window", upstream.Config{Server: lognormal, Quotas: requests(upstream.FixedWindow, 240, 0, time.Minute)}, 6, false, nil, func(m *Model) string {
			if m.Limit.Kind != Window || m.Limit.Period != time.Minute || !near(m.Limit.Rate, 4, 0.001) {
				return "want 240 in each minute"
			}
			return ""
		}},
		{"bucket that charges what it refuses", upstream.Config{Server: lognormal, Quotas: []upstream.Quota{{Counter: upstream.Requests, Limit: 240, Burst: 10, ChargeRefused: true}}}, 6, false, nil, func(m *Model) string {
			if l := &m.Limit; l.Kind != Bucket || !l.Charged || !near(l.Rate, 4, 0.02) || !near(l.Burst, 10, 0.3) || len(l.Changes) > 0 {
				return "want a bucket of 4 a second and 10 at once that charges what it refuses"
			}
			return ""
		}},
		{"sliding log", upstream.Config{Server: lognormal, Quotas: requests(upstream.SlidingLog, 240, 0, time.Minute)}, 6, false, nil, func(m *Model) string {
			if l := &m.Limit; l.Kind != Log || l.Period != time.Minute || !near(l.Rate, 4, 0.001) {
				return "want 240 in any minute"
			}
			return ""
		}},
		{"cap", upstream.Config{Server: tokens, Concurrency: upstream.Concurrency{Limit: 12}}, 10, true, nil, func(m *Model) string {
			if m.Limit.Kind != InFlight || m.Limit.Most != 12 || len(m.Limit.Changes) > 0 {
				return "want 12 in flight"
			}
			return ""
		}},
		{"tokens a minute", upstream.Config{Server: tokens, Quotas: []upstream.Quota{{Counter: upstream.Tokens, Limit: 120_000, Burst: 20_000}}}, 6, true, nil, func(m *Model) string {
			if m.Limit.Kind != Bucket || !m.Limit.Tokens || !near(m.Limit.Rate, 2000, 0.05) || !near(m.Limit.Burst, 20_000, 0.2) {
				return "want a bucket of 2000 tokens a second and 20000 at once"
			}
			return ""
		}},
		{"window of tokens", upstream.Config{Server: tokens, Quotas: []upstream.Quota{{Counter: upstream.Tokens, Algorithm: upstream.FixedWindow, Limit: 120_000, Window: time.Minute}}}, 6, true, nil, func(m *Model) string {
			if l := &m.Limit; l.Kind != Window || !l.Tokens || l.Period != time.Minute || !near(l.Rate, 2000, 0.02) {
				return "want 120000 tokens in each minute"
			}
			return ""
		}},
		{"sliding log of half a minute", upstream.Config{Server: lognormal, Quotas: requests(upstream.SlidingLog, 240, 0, 30*time.Second)}, 6, false, nil, func(m *Model) string {
			if l := &m.Limit; l.Kind != Log || l.Period != 30*time.Second || !near(l.Rate, 4, 0.001) {
				return "want 120 in any half minute"
			}
			return ""
		}},
		{"tokens of prompts", upstream.Config{Server: lognormal, Quotas: []upstream.Quota{{Counter: upstream.Tokens, Limit: 120_000, Burst: 20_000}}}, 6, true, nil, func(m *Model) string {
			if m.Limit.Kind != Bucket || !m.Limit.Tokens || !near(m.Limit.Rate, 2000, 0.05) || !near(m.Limit.Burst, 20_000, 0.2) {
				return "want a bucket of 2000 tokens a second and 20000 at once"
			}
			return ""
		}},
		{"noise", upstream.Config{Server: lognormal, Noise: upstream.Noise{Share: 0.1}}, 6, false, nil, func(m *Model) string {
			if m.Limit.Kind != Noise || math.Abs(m.Limit.Share-0.1) > 0.02 {
				return "want a tenth at random"
			}
			return ""
		}},
		{"tokens", upstream.Config{Server: tokens}, 4, true, nil, func(m *Model) string {
			l := &m.Latency
			if !near(l.Service, 0.2, 0.05) || !near(l.Input, 1e-4, 0.05) || !near(l.Output, 0.01, 0.02) {
				return "want 0.2 s, 0.1 ms a token of input, 10 ms a token of output"
			}
			return ""
		}},
		{"a batching server", upstream.Config{Server: upstream.Server{Kind: upstream.Batch, LLM: profile("llama-8b-a100"), Slow: 1.3}}, 3, true, nil, func(m *Model) string {
			if m.Batch.Profile != "llama-8b-a100" || !near(m.Batch.Slow, 1.3, 0.03) || m.Batch.Before > 0.01 {
				return "want llama-8b-a100, 1.3 times slower"
			}
			return ""
		}},
		{"tokens in a crowd", upstream.Config{Server: crowded}, 4, true, nil, func(m *Model) string {
			l := &m.Latency
			if !near(l.Service, 0.2, 0.1) || !near(l.Output, 0.01, 0.05) || !near(l.Scale, 0.05, 0.1) {
				return "want 0.2 s, 10 ms a token of output, 5 % more for each other call"
			}
			return ""
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := recorded(c.cfg, c.rate, 600*time.Second, c.tokens, c.changes...)
			if c.name == "tokens of prompts" { // a log may have no others
				for i := range tr.Rows {
					r := &tr.Rows[i]
					r.In, r.Out = r.In+r.Out, 0
				}
			}
			r, err := Fit(tr)
			if err != nil {
				t.Fatal(err)
			}
			if noise := r.Model.Limit.Kind == Noise; noise != strings.Contains(strings.Join(r.Notes, "\n"), "at random") {
				t.Errorf("%q", r.Notes)
			}
			if wrong := c.check(&r.Model); wrong != "" {
				t.Errorf("%s; got %+v %+v %+v", wrong, r.Model.Limit, r.Model.Latency, r.Model.Batch)
			}
			if (r.Model.Batch.Profile != "") != (c.cfg.Server.Kind == upstream.Batch) {
				t.Errorf("batching: %+v", r.Model.Batch)
			}
			if d := r.HeldOut.Distance; c.changes == nil && !(d < 0.1) {
				t.Errorf("the distributions of the latency are %.3f apart", d)
			}
			// A limit that changes in the other half is nothing that the first half could foretell.
			if v := r.HeldOut.Verdict(); v != Good && c.changes == nil {
				t.Errorf("%s: %+v", v, r.HeldOut)
			}
		})
	}
}

// A heavy tail is chance, and neither a batching server that is too slow nor a crowd.
func TestFitHeavyTail(t *testing.T) {
	for _, sigma := range []float64{0.8, 1.2} {
		tr := recorded(upstream.Config{Server: upstream.Server{Service: draw.Dist{Shape: draw.Lognormal, Mean: 1.5e9, Sigma: sigma}}}, 3, 600*time.Second, false)
		for i := range tr.Rows {
			tr.Rows[i].In, tr.Rows[i].Out = 20, 100
		}
		r, err := Fit(tr)
		if err != nil {
			t.Fatal(err)
		}
		l := &r.Model.Latency
		if r.Model.Batch.Profile != "" || l.Scale != 0 || l.Servers != 0 || !near(l.Service, 1.5, 0.1) || !near(l.Sigma, sigma, 0.1) || r.HeldOut.Verdict() != Good {
			t.Errorf("sigma %v: %+v, %+v, %+v", sigma, l, r.Model.Batch, r.HeldOut)
		}
	}
}

// Refusals that come in rows are not chance: a model that refuses at random is poor, whatever share it refuses.
func TestFitRows(t *testing.T) {
	tr := recorded(upstream.Config{Server: upstream.Server{Service: draw.Of(300 * time.Millisecond)}}, 6, 600*time.Second, false)
	for i := range tr.Rows { // for 20 s of each 100, whatever is sent
		if r := &tr.Rows[i]; int(r.Sent.Seconds())%100 < 20 {
			r.Status, r.End = 429, r.Sent+time.Millisecond
		}
	}
	r, err := Fit(tr)
	if err != nil {
		t.Fatal(err)
	}
	if l := &r.Model.Limit; l.Kind != Noise || r.HeldOut.Verdict() != Poor || !strings.Contains(strings.Join(r.Notes, "\n"), "refusals come in rows") {
		t.Errorf("%+v, %+v, %q", l, r.HeldOut, r.Notes)
	}
}

// A guard is refused little: few refusals tell the bucket that charges them, as they do the simple one.
func TestFitFewRefusals(t *testing.T) {
	for _, charged := range []bool{false, true} {
		random := rand.New(rand.NewPCG(1, 2))
		tr := &trace.Trace{Name: "guarded"}
		at, left := 0.0, 10.0
		for i := range 740 {
			gap := (0.9 + 0.2*random.Float64()) / 4.3
			if i < 12 { // it starts with a burst, and rests for a second when it is refused
				gap = 0.05
			} else if tr.Rows[i-1].Status == 429 {
				gap++
			}
			at, left = at+gap, min(10, left+4*gap)
			sent := time.Duration(at * 1e9)
			r := trace.Row{At: sent, Sent: sent, Seen: true, RetryAfter: -1, Status: 429, End: sent + time.Millisecond}
			if left >= 1 {
				left--
				r.Status, r.End = 200, sent+200*time.Millisecond
			} else if charged {
				left = 0
			}
			tr.Rows = append(tr.Rows, r)
		}
		r, err := Fit(tr)
		if err != nil {
			t.Fatal(err)
		}
		if l := &r.Model.Limit; l.Kind != Bucket || l.Charged != charged || !near(l.Rate, 4, 0.01) || r.HeldOut.Verdict() == Poor {
			t.Errorf("charged %v: %+v, %+v, %q", charged, l, r.HeldOut, r.Notes)
		}
	}
}

// So does ten minutes of it, in which a rate that is a thousandth away is wrong about nearly all refusals.
func TestFitLongGuarded(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tr := &trace.Trace{Name: "guarded"}
	at, left, pace := 0.0, 10.0, 4.0
	for range 2400 {
		gap := (0.9 + 0.2*random.Float64()) / pace
		at, left = at+gap, min(10, left+4*gap)
		sent := time.Duration(at * 1e9)
		r := trace.Row{At: sent, Sent: sent, Seen: true, RetryAfter: -1, Status: 200, End: sent + 200*time.Millisecond}
		if pace += 0.01; left >= 1 {
			left--
		} else { // it goes slower for each refusal, after a second
			r.Status, r.End, left = 429, sent+time.Millisecond, 0
			at, left, pace = at+1, left+4, 0.85*pace
		}
		tr.Rows = append(tr.Rows, r)
	}
	r, err := Fit(tr)
	if err != nil {
		t.Fatal(err)
	}
	if l := &r.Model.Limit; l.Kind != Bucket || !l.Charged || !near(l.Rate, 4, 0.01) || r.HeldOut.Verdict() == Poor {
		t.Errorf("%+v, %+v, %q", l, r.HeldOut, r.Notes)
	}
}

// Who sends ten times as much as a bucket takes that charges what it refuses is refused everything after the burst. A model that refuses everything has
// the right share, and is wrong about what little passes.
func TestFitRefusedNearlyAll(t *testing.T) {
	q := []upstream.Quota{{Counter: upstream.Requests, Algorithm: upstream.SlidingLog, Limit: 240, Window: time.Minute, ChargeRefused: true}}
	r, err := Fit(recorded(upstream.Config{Server: upstream.Server{Service: draw.Of(300 * time.Millisecond)}, Quotas: q}, 6.4, 600*time.Second, false))
	if err != nil {
		t.Fatal(err)
	}
	if r.HeldOut.Verdict() != Poor {
		t.Errorf("%+v: %+v", r.Model.Limit, r.HeldOut)
	}
}

// Where the half that is judged has another limit than what is written, nothing is called good.
func TestFitOtherHalf(t *testing.T) {
	tr := recorded(upstream.Config{Server: upstream.Server{Service: draw.Of(300 * time.Millisecond)}}, 6, 300*time.Second, false)
	for i := range tr.Rows { // refusals only at the end, and few
		if r := &tr.Rows[i]; i > len(tr.Rows)-200 && i%20 == 0 {
			r.Status, r.End = 429, r.Sent+time.Millisecond
		}
	}
	r, err := Fit(tr)
	if err != nil {
		t.Fatal(err)
	}
	if r.Model.Limit.Kind == None || r.HeldOut.Verdict() != Fair || !strings.Contains(strings.Join(r.Notes, "\n"), "another limit (none) than all of it (") {
		t.Errorf("%+v, %+v, %q", r.Model.Limit, r.HeldOut, r.Notes)
	}
}

// A recording that began long before the first request came has its changes where a replay, which begins with that request, meets them.
func TestFitLateStart(t *testing.T) {
	lognormal := upstream.Server{Service: draw.Dist{Shape: draw.Lognormal, Mean: 400e6, Sigma: 0.5}}
	quota := func(a upstream.Algorithm) upstream.Config {
		return upstream.Config{Server: lognormal, Quotas: []upstream.Quota{{Counter: upstream.Requests, Algorithm: a, Limit: 240, Burst: 10, Window: time.Minute}}}
	}
	for _, tr := range []*trace.Trace{
		recorded(quota(upstream.Refill), 8, 600*time.Second, false, change{300 * time.Second, upstream.Param{Kind: upstream.ParamQuotaLimit}, 120}),
		recorded(quota(upstream.FixedWindow), 8, 600*time.Second, false),
	} {
		var want Limit
		for _, late := range []time.Duration{0, 5017 * time.Second} {
			for i := range tr.Rows {
				r := &tr.Rows[i]
				r.At, r.Sent, r.End = r.At+late, r.Sent+late, r.End+late
			}
			r, err := Fit(tr)
			if err != nil {
				t.Fatal(err)
			}
			got := r.Model.Limit
			if late == 0 {
				want = got
				continue
			}
			if len(got.Changes) != len(want.Changes) || got.Kind != want.Kind || len(got.Changes) == 1 && math.Abs(got.Changes[0].At.Seconds()-300) > 8 || got.Kind == Window && (got.Phase-want.Phase).Abs() > 3*time.Second {
				t.Errorf("%v late: %+v, want %+v", late, got, want)
			}
			if r.Model.Limit.Kind == Bucket && !strings.Contains(r.TOML("x"), "[[change]]") {
				t.Errorf("the change is not written:\n%s", r.TOML("x"))
			}
		}
	}
}

// What was found is written so that the simulator reads it.
func TestTOMLOfLimits(t *testing.T) {
	for want, l := range map[string]Limit{
		"charge_refused = true\n": {Kind: Bucket, Rate: 4, Burst: 10, Charged: true}, "algorithm = \"sliding-log\"\nwindow = \"1m0s\"\n": {Kind: Log, Rate: 4, Period: time.Minute},
	} {
		r := Result{Model: Model{Limit: l, Rate: 1, Duration: time.Minute}}
		if text := r.TOML("x"); !strings.Contains(text, want) || !strings.Contains(text, "requests_per_minute = 240.0\n") {
			t.Errorf("%+v:\n%s", l, text)
		}
	}
}

// Where nobody has an output, a refusal of which no prompt is known has that of the others: it is not free.
func TestFitPromptsOfRefusals(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tr := &trace.Trace{Name: "embeddings"}
	at, left := 0.0, 40_000.0
	for range 3000 {
		gap := random.ExpFloat64() / 6
		at, left = at+gap, min(40_000, left+2000*gap)
		sent := time.Duration(at * 1e9)
		r := trace.Row{At: sent, Sent: sent, Seen: true, RetryAfter: -1, Status: 429, End: sent + time.Millisecond}
		if in := 50 + math.Floor(math.Exp(6+0.3*random.NormFloat64())); left >= in {
			left -= in
			r.Status, r.In, r.End = 200, int64(in), sent+200*time.Millisecond
		}
		tr.Rows = append(tr.Rows, r)
	}
	r, err := Fit(tr)
	if err != nil {
		t.Fatal(err)
	}
	if l := &r.Model.Limit; l.Kind != Bucket || !l.Tokens || !near(l.Rate, 2000, 0.02) || !near(l.Burst, 40_000, 0.05) {
		t.Errorf("%+v, want a bucket of 2000 tokens a second and 40000 at once", l)
	}
}

// What answers say goes before what was guessed.
func TestFitFollowsHeaders(t *testing.T) {
	cfg := upstream.Config{
		Dialect: upstream.OpenAI, Server: upstream.Server{Service: draw.Of(100 * time.Millisecond)},
		Quotas: []upstream.Quota{{Counter: upstream.Requests, Limit: 6000, Burst: 6000}},
	}
	r, err := Fit(recorded(cfg, 5, 200*time.Second, false, change{100 * time.Second, upstream.Param{Kind: upstream.ParamQuotaLimit}, 3000}))
	if err != nil {
		t.Fatal(err)
	}
	l := &r.Model.Limit
	if l.Kind != Bucket || l.Rate != 100 || len(l.Changes) != 1 || l.Changes[0].Value != 50 || math.Abs(l.Changes[0].At.Seconds()-100) > 1 {
		t.Errorf("%+v", l)
	}
	if len(r.Notes) == 0 || !strings.Contains(r.Notes[0], "6000 requests, from 1m40s on 3000") {
		t.Errorf("%q", r.Notes)
	}
}

// A window of tokens has the limit of tokens that answers tell of, and not that of requests.
func TestFitFollowsHeadersOfTokens(t *testing.T) {
	tr := recorded(upstream.Config{
		Server: upstream.Server{Service: draw.Of(100 * time.Millisecond)},
		Quotas: []upstream.Quota{{Counter: upstream.Tokens, Algorithm: upstream.FixedWindow, Limit: 120_000, Window: time.Minute}},
	}, 6, 400*time.Second, true)
	for i := range tr.Rows {
		tr.Rows[i].Header = map[string]string{"x-ratelimit-limit-requests": "6000", "x-ratelimit-limit-tokens": "120000"}
	}
	r, err := Fit(tr)
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(r.Notes, "\n")
	if l := &r.Model.Limit; l.Kind != Window || !l.Tokens || l.Rate != 2000 || !strings.Contains(notes, "6000 requests; it is left out, as that is not what refused") || !strings.Contains(notes, "120000 tokens; it is taken for one a minute") {
		t.Errorf("%+v, %s", l, notes)
	}
}

// What answers say is left alone where it cannot be a limit a minute, as what was refused shows, and where something else refused.
func TestFitDoubtsHeaders(t *testing.T) {
	for _, c := range []struct {
		name, says, note string
		cfg              upstream.Config
		check            func(l *Limit) bool
	}{
		{"a day", "14400", "wrong about", upstream.Config{Quotas: []upstream.Quota{{Counter: upstream.Requests, Limit: 120, Burst: 5}}}, func(l *Limit) bool {
			return l.Kind == Bucket && near(l.Rate, 2, 0.05)
		}},
		{"a second", "20", "wrong about", upstream.Config{}, func(l *Limit) bool { return l.Kind == None }},
		{"less than passes", "50", "wrong about", upstream.Config{Quotas: []upstream.Quota{{Counter: upstream.Requests, Limit: 60, Burst: 5}}}, func(l *Limit) bool {
			return l.Kind == Bucket && near(l.Rate, 1, 0.05)
		}},
		{"another limit", "120", "not what refused", upstream.Config{Concurrency: upstream.Concurrency{Limit: 2}}, func(l *Limit) bool {
			return l.Kind == InFlight && l.Most == 2
		}},
	} {
		c.cfg.Server = upstream.Server{Service: draw.Of(500 * time.Millisecond)}
		tr := recorded(c.cfg, 4, 400*time.Second, false)
		for i := range tr.Rows {
			tr.Rows[i].Header = map[string]string{"x-ratelimit-limit-requests": c.says}
		}
		r, err := Fit(tr)
		if err != nil {
			t.Fatal(err)
		}
		if !c.check(&r.Model.Limit) || len(r.Notes) == 0 || !strings.Contains(r.Notes[0], c.note) || r.HeldOut.Verdict() != Good {
			t.Errorf("%s: %+v, %q, %+v", c.name, r.Model.Limit, r.Notes, r.HeldOut)
		}
	}
}

// A verdict that rests on nothing says so.
func TestFitNotes(t *testing.T) {
	tr := recorded(upstream.Config{Server: upstream.Server{Service: draw.Of(100 * time.Millisecond)}}, 50, 600*time.Second, false)
	for i := range tr.Rows {
		if i > len(tr.Rows)/2+5 {
			tr.Rows[i].Status = 500
		}
	}
	r, err := Fit(tr)
	if err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(r.Notes, "\n"); strings.Contains(notes, "keys") || !strings.Contains(notes, "only 6 requests of the held-out half were served") || !strings.Contains(notes, "first 20000 requests, until 6m") {
		t.Errorf("%d requests: %s", len(tr.Rows), notes)
	}
}

// Of several keys each may have a limit of its own, which no model here has.
func TestFitKeys(t *testing.T) {
	tr := recorded(upstream.Config{Server: upstream.Server{Service: draw.Of(500 * time.Millisecond)}, Concurrency: upstream.Concurrency{Limit: 2}}, 5, 60*time.Second, false)
	for _, keys := range []int{1, 3} {
		for i := range tr.Rows {
			tr.Rows[i].Key = string(rune('a' + i%keys))
		}
		r, err := Fit(tr)
		if err != nil || strings.Contains(strings.Join(r.Notes, "\n"), "with 3 keys") != (keys > 1) {
			t.Errorf("%d keys: %q, %v", keys, r.Notes, err)
		}
	}
}

func TestFitRefuses(t *testing.T) {
	few := recorded(upstream.Config{}, 1, 10*time.Second, false)
	if _, err := Fit(few); err == nil || !strings.Contains(err.Error(), "at least 40 are needed") {
		t.Errorf("%v", err)
	}
	once := &trace.Trace{Name: "x"}
	for range 100 {
		once.Rows = append(once.Rows, trace.Row{Seen: true, End: time.Second, Status: 200})
	}
	if _, err := Fit(once); err == nil || !strings.Contains(err.Error(), "within a second") {
		t.Errorf("%v", err)
	}
}

// An upstream that is no model here is called poor, and not good.
func TestVerdict(t *testing.T) {
	tr := recorded(upstream.Config{Server: upstream.Server{Service: draw.Of(100 * time.Millisecond)}}, 10, 100*time.Second, false)
	for i := range tr.Rows {
		if i > len(tr.Rows)/2 {
			tr.Rows[i].End += time.Duration(i%3) * time.Second // it became three times as slow
		}
	}
	r, err := Fit(tr)
	if err != nil || r.HeldOut.Verdict() != Poor {
		t.Errorf("%+v, %v", r.HeldOut, err)
	}
	for _, c := range []struct {
		q    Quality
		want Verdict
	}{
		{Quality{QuantileError: 0.09}, Good}, {Quality{QuantileError: 0.11}, Fair}, {Quality{QuantileError: 0.3}, Poor},
		{Quality{QuantileError: math.NaN(), Refused: 0.5, Foretold: 0.49}, Good}, {Quality{Refused: 0.5, Foretold: 0.46}, Fair}, {Quality{Refused: 0.5}, Poor},
	} {
		if got := c.q.Verdict(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.q, got, c.want)
		}
	}
}

// Distances are those of the textbook, and what is not lognormal is written as it is.
func TestDistances(t *testing.T) {
	if d := kolmogorov([]float64{1, 2, 3, 4}, []float64{1, 2, 3, 4}); d != 0 {
		t.Errorf("of a sample from itself: %v", d)
	}
	if d := kolmogorov([]float64{1, 2, 3, 4}, []float64{3, 4, 5, 6}); d != 0.5 {
		t.Errorf("of two that overlap by half: %v", d)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var normal, two []trace.Row
	for range 4000 {
		normal = append(normal, trace.Row{In: int64(math.Exp(6+0.8*random.NormFloat64()) + 0.5)})
		n := int64(100 + random.IntN(10))
		if random.IntN(2) == 0 {
			n = int64(3000 + random.IntN(100))
		}
		two = append(two, trace.Row{In: n})
	}
	of := func(r *trace.Row) int64 { return r.In }
	if a := tokensOf(normal, of); a.Distance > 0.03 || a.Quantiles != nil {
		t.Errorf("lognormal tokens are %v away from lognormal, with %d quantiles", a.Distance, len(a.Quantiles))
	}
	if b := tokensOf(two, of); b.Distance < 0.2 || len(b.Quantiles) == 0 {
		t.Errorf("two kinds of prompts are %v away from lognormal, with %d quantiles", b.Distance, len(b.Quantiles))
	}
}

// An upstream that says 503 where it has a limit, as nginx does, has one; beside 429s a 503 is something else, which is said.
func TestFitRefusalsWithoutA429(t *testing.T) {
	cfg := upstream.Config{
		Server: upstream.Server{Service: draw.Of(300 * time.Millisecond)},
		Quotas: []upstream.Quota{{Counter: upstream.Requests, Limit: 240, Burst: 6, Answer: upstream.Answer{Status: 503}}},
	}
	for _, c := range []struct {
		noise int // the status of one call in ten
		note  string
		found bool
		toml  string
	}{
		{0, "no answer was a 429, so those with status 503 are taken for refusals", true, "status = 503\n"},
		{500, "10 % of the requests failed otherwise (", true, "status = 503\n"},
		{429, "% of the requests failed otherwise (", false, "[upstream.noise]\n"},
	} {
		tr := recorded(cfg, 6, 300*time.Second, false)
		for i := range tr.Rows {
			if c.noise > 0 && i%10 == 0 {
				tr.Rows[i].Status = c.noise
			}
		}
		r, err := Fit(tr)
		if err != nil {
			t.Fatal(err)
		}
		l := &r.Model.Limit
		if found := l.Kind == Bucket && near(l.Rate, 4, .05); found != c.found || !strings.Contains(strings.Join(r.Notes, "\n"), c.note) || !strings.Contains(r.TOML("x"), c.toml) {
			t.Errorf("%d: %+v\n%s\n%s", c.noise, l, strings.Join(r.Notes, "\n"), r.TOML("x"))
		}
	}
}
