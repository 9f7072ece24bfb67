// Package fit makes a model of an upstream from a trace of what was asked of it and what it answered: which limit refuses, how large
// it is and when it changed, and how long an answer takes with so many tokens and so many calls in flight.
//
// It fits to one half of the trace and says how well that foretells the other half, which it has not seen; what it
// returns is then fitted to all of it. It is pure: the same trace gives the same model.
package fit

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/internal/trace"
)

// Model is what was found.
type Model struct {
	Limit   Limit
	Latency Latency
	// Batch goes before Latency when it has a profile.
	Batch Batch
	// Refusal is how long a refusal takes, on average; 0 when none was seen.
	Refusal time.Duration
	// RetryAfter is the delay that every refusal named; -1 when they named different ones, and 0 when hardly any named one.
	RetryAfter time.Duration
	// Status is that of refusals: 429, or where there is none, 503 or 529, with which limits are told, too (nginx); 0 when nothing was refused.
	Status int
	// Rate is how many requests came a second, on average. Input and Output are the tokens of a request.
	Rate          float64
	Input, Output Tokens
	// Duration is how long the trace lasts.
	Duration time.Duration
}

// Tokens is a lognormal number of tokens; a Median of 0 means that none is known.
type Tokens struct {
	Median, Sigma, Max float64
	// Distance is that of the trace's distribution from the lognormal one (Kolmogorov and Smirnov). Quantiles are the trace's own, pairs of a share and
	// a value, where the distance is more than a lognormal distribution should have.
	Distance  float64
	Quantiles [][2]float64
}

// mostDistance is the largest distance at which tokens are called lognormal.
const mostDistance = 0.06

// tokensOf describes numbers of tokens; zeros are not known and left out.
func tokensOf(rows []trace.Row, of func(*trace.Row) int64) (t Tokens) {
	var logs, all []float64
	for i := range rows {
		if n := of(&rows[i]); n > 0 {
			logs, all = append(logs, math.Log(float64(n))), append(all, float64(n))
			t.Max = max(t.Max, float64(n))
		}
	}
	if len(logs) == 0 {
		return Tokens{}
	}
	mean, v := 0.0, 0.0
	for _, x := range logs {
		mean += x / float64(len(logs))
	}
	for _, x := range logs {
		v += (x - mean) * (x - mean) / float64(len(logs))
	}
	t.Median, t.Sigma = math.Exp(mean), math.Sqrt(v)
	if t.Sigma >= constantSigma {
		slices.Sort(all)
		if t.Distance = lognormalDistance(all, t.Median, t.Sigma); t.Distance > mostDistance {
			t.Quantiles = quantiles(all)
		}
	}
	return t
}

// Quality is how well a model foretells a trace.
type Quality struct {
	// Calls is how many attempts there were, and Timed how many of them were served and timed.
	Calls, Timed int
	// QuantileError is the mean of the relative errors of the 10th, 20th, … 90th and 99th percentile of the latency (MAPE, a
	// ratio). NaN when nothing was timed.
	QuantileError float64
	// Distance is the largest distance of the foretold distribution of latencies from the observed one (0 to 1; Kolmogorov and Smirnov). NaN when
	// nothing was timed.
	Distance float64
	// CallError is the mean relative error of the latency of each call, which contains all that is chance in it.
	CallError float64
	// Bias is how much longer the mean latency is foretold, as a ratio. Pearson is the correlation of the foretold and the
	// observed latency of the calls; NaN when one of them does not vary.
	Bias, Pearson float64
	// Refused and Foretold are the share of attempts that were refused, and that the model refuses, left alone with
	// the same attempts. Wrong is the share of attempts for which it says the wrong thing, told what happened before.
	Refused, Foretold, Wrong float64
	// Rows says that the model refuses by chance, and that refusals follow on each other as chance does not let them.
	Rows bool
	// Other says that what is written, which is fitted to all, has a limit of another kind than the model that was judged.
	Other bool
}

// Verdict is a word for a Quality.
type Verdict string

// The verdicts. The bar of 10 % is that of BLIS (inference-sim) for its own calibration.
const (
	Good Verdict = "good" // percentiles within 10 %, the share of refusals within 2 points
	Fair Verdict = "fair" // within 25 %, and 5 points
	Poor Verdict = "poor"
)

// Verdict judges.
func (q *Quality) Verdict() Verdict {
	latency, refusals := q.QuantileError, math.Abs(q.Refused-q.Foretold)
	if math.IsNaN(latency) {
		latency = 0 // nothing was to be foretold
	}
	switch {
	case q.Rows, q.Wrong > min(q.Refused, 1-q.Refused)+0.02: // who says the same of all calls is wrong about fewer
		return Poor
	case latency < 0.10 && refusals <= 0.02 && !q.Other:
		return Good
	case latency < 0.25 && refusals <= 0.05:
		return Fair
	}
	return Poor
}

// Result is a model and its evidence.
type Result struct {
	Model Model
	// Fitted is how well a model of the first half foretells that half, and HeldOut how well it foretells the other.
	Fitted, HeldOut Quality
	// Notes say what a reader should know, in sentences.
	Notes []string
}

// least is how many attempts a fit needs.
const least = 40

// call is an attempt as it is used here. Times are in s.
type call struct {
	sent, took float64
	in, out    float64
	refused    bool
	served     bool
	flight     int // how many were in flight when it was sent, itself included, refused ones left out
}

// Fit fits a model to a trace. The error says what the trace lacks.
func Fit(t *trace.Trace) (*Result, error) {
	refusal := refusalOf(t.Rows)
	calls := callsOf(t.Rows, refusal)
	if len(calls) < least {
		return nil, fmt.Errorf("fit: %s has %d requests with an end, and at least %d are needed: record with simulate record, or name the columns of the end or the latency and of the status", t.Name, len(calls), least)
	}
	if calls[len(calls)-1].sent-calls[0].sent < 1 {
		return nil, errors.New("fit: all requests were sent within a second: nothing can be learned about a rate")
	}
	half := len(calls) / 2
	train, test := calls[:half], calls[half:]
	m := fitted(train)
	m.Limit.follow(stated(t.Rows, test[0].sent), train) // as what is written does, so that it is judged
	r := &Result{Fitted: m.judge(train, nil), HeldOut: m.judge(test, train)}
	all := fitted(calls)
	r.Notes = all.Limit.follow(stated(t.Rows, math.Inf(1)), calls)
	if a, b := &m.Limit, &all.Limit; a.Kind != b.Kind || a.Tokens != b.Tokens || a.Charged != b.Charged || a.Period != b.Period {
		r.HeldOut.Other = true
		r.Notes = append(r.Notes, fmt.Sprintf("the fitted half by itself has another limit (%s) than all of it (%s), which is what is written: the verdict is about the former", a.words(), b.words()))
	}
	all.Duration = time.Duration((calls[len(calls)-1].sent - calls[0].sent) * 1e9)
	all.Rate = float64(len(t.Rows)-1) / max(1e-9, t.Span().Seconds())
	all.Input = tokensOf(t.Rows, func(r *trace.Row) int64 { return r.In })
	all.Output = tokensOf(t.Rows, func(r *trace.Row) int64 { return r.Out })
	all.RetryAfter, all.Status = named(t.Rows, refusal), refusal
	all.Limit.since(t.Rows[0].At)
	r.Model = *all
	if n := r.Fitted.Timed + r.HeldOut.Timed; n < least {
		r.Notes = append(r.Notes, fmt.Sprintf("only %d requests were served: the latency is a guess", n))
	} else if n := r.HeldOut.Timed; n < least/2 {
		r.Notes = append(r.Notes, fmt.Sprintf("only %d requests of the held-out half were served: the verdict says little of the latency", n))
	}
	if len(calls) > mostCalls {
		r.Notes = append(r.Notes, fmt.Sprintf("the limit is that of the first %d requests, until %v: the search looks at no more", mostCalls, time.Duration(calls[mostCalls-1].sent*1e9).Round(time.Second)))
	}
	if refusal != 0 && refusal != 429 {
		r.Notes = append(r.Notes, fmt.Sprintf("no answer was a 429, so those with status %d are taken for refusals by a limit", refusal))
	}
	if n, which := failures(t.Rows, refusal); n*100 > len(calls) {
		r.Notes = append(r.Notes, fmt.Sprintf("%.0f %% of the requests failed otherwise (%s): the model serves them", 100*float64(n)/float64(len(calls)), which[2:]))
	}
	if n := keysOf(t.Rows); n > 1 && r.Fitted.Refused+r.HeldOut.Refused > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("requests came with %d keys, and the model has one limit for all of them: where each has its own, fit the trace of one", n))
	}
	if all.Limit.Kind == Noise {
		r.Notes = append(r.Notes, "no limit explains what was refused: the model refuses at random, however many are sent, so what it says of sending less is a guess")
		if inRows(calls) {
			r.HeldOut.Rows = true // as what is written
			r.Notes = append(r.Notes, "refusals come in rows, as chance does not make them: a limit that is none of those that are tried, or one that comes and goes")
		}
	}
	if all.Limit.Kind == None && r.Fitted.Refused+r.HeldOut.Refused == 0 {
		r.Notes = append(r.Notes, "no attempt was refused, so the upstream's limit was never met and is not known")
	}
	return r, nil
}

// refusalOf returns the status of a trace's refusals; see Model.Status.
func refusalOf(rows []trace.Row) int {
	n := map[int]int{}
	for i := range rows {
		if rows[i].Seen {
			n[rows[i].Status]++
		}
	}
	switch {
	case n[429] > 0:
		return 429
	case n[503]+n[529] == 0:
		return 0
	case n[529] > n[503]:
		return 529
	}
	return 503
}

// failures counts the answers that are neither served nor refused, and says which they are.
func failures(rows []trace.Row, refusal int) (n int, which string) {
	by := map[int]int{}
	for i := range rows {
		if r := &rows[i]; r.Seen && r.Status >= 400 && r.Status != refusal {
			by[r.Status]++
			n++
		}
	}
	for _, status := range slices.Sorted(maps.Keys(by)) {
		which += fmt.Sprintf(", %d of status %d", by[status], status)
	}
	return n, which
}

// keysOf returns how many keys were used.
func keysOf(rows []trace.Row) int {
	keys := map[string]bool{}
	for i := range rows {
		if k := rows[i].Key; k != "" {
			keys[k] = true
		}
	}
	return len(keys)
}

// named returns what refusals say about when to come back; see Model.RetryAfter.
func named(rows []trace.Row, refusal int) time.Duration {
	refused, saying := 0, 0
	said := map[time.Duration]int{}
	for i := range rows {
		if r := &rows[i]; r.Seen && r.Status == refusal {
			refused++
			if r.RetryAfter >= 0 {
				saying++
				said[r.RetryAfter]++
			}
		}
	}
	if saying*2 < refused || saying == 0 {
		return 0
	}
	for d, n := range said {
		if n*10 >= saying*9 {
			return max(d, 1)
		}
	}
	return -1
}

// callsOf returns the attempts of a trace in the order in which they were sent.
func callsOf(rows []trace.Row, refusal int) []call {
	var calls []call
	tells := slices.ContainsFunc(rows, func(r trace.Row) bool { return r.Seen && r.Status != 0 })
	for i := range rows {
		r := &rows[i]
		if !r.Seen {
			continue
		}
		c := call{
			sent: r.Sent.Seconds(), took: r.Latency().Seconds(), in: float64(r.In - r.Cached), out: float64(r.Out),
			refused: refusal > 0 && r.Status == refusal, // In a trace without any status all were served; in others, none is no answer.
			served:  r.Status >= 200 && r.Status < 400 || !tells,
		}
		calls = append(calls, c)
	}
	slices.SortStableFunc(calls, func(a, b call) int {
		switch {
		case a.sent < b.sent:
			return -1
		case a.sent > b.sent:
			return 1
		}
		return 0
	})
	// How many were in flight: ends that are still to come, in a heap that is a sorted slice.
	var ends []float64
	for i := range calls {
		c := &calls[i]
		gone, _ := slices.BinarySearch(ends, c.sent+1e-12)
		ends = ends[gone:]
		c.flight = len(ends) + 1
		if !c.refused {
			end := c.sent + c.took
			at, _ := slices.BinarySearch(ends, end)
			ends = slices.Insert(ends, at, end)
		}
	}
	return calls
}

// fitted returns the model of some calls.
func fitted(calls []call) *Model {
	latency, e := fitLatency(calls)
	m := &Model{Limit: fitLimit(calls), Latency: latency, Batch: fitBatch(calls, e)}
	sum, n := 0.0, 0
	for i := range calls {
		if calls[i].refused {
			sum, n = sum+calls[i].took, n+1
		}
	}
	if n > 0 {
		m.Refusal = time.Duration(sum / float64(n) * 1e9)
	}
	return m
}

// judge says how well m foretells calls; before are those that were sent before them.
func (m *Model) judge(calls, before []call) Quality {
	q := Quality{Calls: len(calls), QuantileError: math.NaN(), Distance: math.NaN(), CallError: math.NaN(), Pearson: math.NaN()}
	var got, want []float64 // observed, and foretold with its chance
	var mean []float64      // foretold without
	var batched []float64
	if m.Batch.Profile != "" {
		batched = m.Batch.times(calls, before)
	}
	for i := range calls {
		c := &calls[i]
		if c.refused {
			q.Refused += 1 / float64(len(calls))
		}
		if c.served && c.took > 0 {
			got = append(got, c.took)
			if batched != nil {
				mean, want = append(mean, batched[i]), append(want, batched[i])
				continue
			}
			mean = append(mean, m.Latency.mean(c))
			want = append(want, m.Latency.draw(c, i))
		}
	}
	q.Rows = m.Limit.Kind == Noise && inRows(calls)
	if m.Limit.Tokens {
		calls, before = comparable(calls), comparable(before)
	}
	wrong, refused := m.Limit.foretell(calls, before)
	q.Wrong, q.Foretold = float64(wrong)/float64(len(calls)), float64(refused)/float64(len(calls))
	if q.Timed = len(got); q.Timed == 0 {
		return q
	}
	sumGot, sumMean := 0.0, 0.0
	q.CallError = 0
	for i := range got {
		q.CallError += math.Abs(mean[i]-got[i]) / got[i] / float64(len(got))
		sumGot, sumMean = sumGot+got[i], sumMean+mean[i]
	}
	q.Bias = sumMean/sumGot - 1
	q.Pearson = pearson(got, mean)
	slices.Sort(got)
	slices.Sort(want)
	q.Distance = kolmogorov(got, want)
	q.QuantileError = 0
	for _, p := range []float64{.1, .2, .3, .4, .5, .6, .7, .8, .9, .99} {
		i := int(p * float64(len(got)-1))
		q.QuantileError += math.Abs(want[i]-got[i]) / got[i] / 10
	}
	return q
}

// inRows reports whether refusals come in rows: whether there are fewer changes from what passes to what is refused and back than chance makes, by
// four standard deviations (Wald and Wolfowitz 1940).
func inRows(calls []call) bool {
	runs, refused := 1.0, 0.0
	for i := range calls {
		if calls[i].refused {
			refused++
		}
		if i > 0 && calls[i].refused != calls[i-1].refused {
			runs++
		}
	}
	n := float64(len(calls))
	both := 2 * refused * (n - refused)
	if min(refused, n-refused) < 8 {
		return false
	}
	return runs < both/n+1-4*math.Sqrt(both*(both-n)/(n*n*(n-1)))
}

// pearson returns the correlation of two samples, or NaN.
func pearson(x, y []float64) float64 {
	n := float64(len(x))
	mx, my := 0.0, 0.0
	for i := range x {
		mx, my = mx+x[i]/n, my+y[i]/n
	}
	var xx, yy, xy float64
	for i := range x {
		dx, dy := x[i]-mx, y[i]-my
		xx, yy, xy = xx+dx*dx, yy+dy*dy, xy+dx*dy
	}
	if xx < 1e-18*n || yy < 1e-18*n {
		return math.NaN()
	}
	return xy / math.Sqrt(xx*yy)
}
