package fit

import (
	"math"
	"slices"

	"github.com/flyball-go/flyball/internal/upstream"
)

// Batch is a server that batches requests of a language model continuously: a profile of package upstream, some times slower. Its calls take what
// that model gives, and Before beside it, on the network and around it.
type Batch struct {
	Profile string // "" for none
	Slow    float64
	Before  float64 // s
}

// mostBatch is how many calls are tried with a batching server: what comes after them is as good for a verdict.
const mostBatch = 20_000

// times returns how long calls take in s, which are sent at their instants; 0 for those that were not served. Calls before them, whose times are
// not asked for, may still be in the batch.
func (b *Batch) times(calls, before []call) []float64 {
	llm, _ := upstream.Profile(b.Profile)
	u := upstream.New(upstream.Config{Server: upstream.Server{Kind: upstream.Batch, LLM: llm, Slow: b.Slow}})
	out := make([]float64, len(calls))
	from := max(0, len(before)-2000)
	all := slices.Concat(before[from:], calls)
	skip := len(before) - from
	if len(all) == 0 {
		return out
	}
	start := all[0].sent
	ns := func(s float64) int64 { return int64((s - start) * 1e9) }
	tell := func(e *upstream.Event) {
		if i := int(e.ID) - skip; e.Kind == upstream.Done && i >= 0 {
			out[i] = float64(e.At-ns(calls[i].sent))/1e9 + b.Before
		}
	}
	for i := range all {
		c := &all[i]
		if !c.served || c.took <= 0 {
			continue
		}
		u.Advance(ns(c.sent), tell)
		u.Submit(ns(c.sent), upstream.Call{ID: uint64(i), Key: uint64(i), Input: int64(c.in), Output: int64(max(1, c.out))})
	}
	u.Advance(math.MaxInt64-1, tell)
	return out
}

// fitBatch finds the batching server that foretells calls best, when it foretells them clearly better than the error of another model; all calls
// must have tokens.
func fitBatch(calls []call, other float64) Batch {
	var served []call
	for _, c := range calls {
		if c.served && c.took > 0 {
			if c.in <= 0 || c.out <= 0 {
				return Batch{}
			}
			served = append(served, c)
		}
	}
	if len(served) < least || len(served) > 0 && slices.MaxFunc(served, func(a, b call) int { return a.flight - b.flight }).flight < 2 {
		return Batch{} // alone, a batching server looks like any other
	}
	served = served[:min(len(served), mostBatch)]
	best, value := Batch{}, math.Inf(1)
	for _, name := range upstream.ProfileNames() {
		if name == "tiny-kv" {
			continue // llama-8b-a100 with a smaller cache
		}
		try := func(slow float64) float64 {
			b := Batch{Profile: name, Slow: slow}
			foretold := b.times(served, nil)
			// What is constant is around the server: the median of what is missing, if anything is.
			var missing []float64
			for i := range served {
				missing = append(missing, served[i].took-foretold[i])
			}
			slices.Sort(missing)
			if b.Before = max(0, missing[len(missing)/2]); b.Before > 0 {
				for i := range foretold {
					foretold[i] += b.Before
				}
			}
			var err deviation
			for i := range served {
				err.add(served[i].took, foretold[i])
			}
			e := err.squares / err.n // with its mean: slow is what makes it 0
			if e < value {
				best, value = b, e
			}
			return e
		}
		at, low := 1.0, math.Inf(1)
		for slow := 0.25; slow <= 4; slow *= math.Sqrt2 {
			if e := try(slow); e < low {
				at, low = slow, e
			}
		}
		for step := math.Pow(2, 0.25); step > 1.01; step = math.Sqrt(step) {
			for _, slow := range []float64{at / step, at * step} {
				if e := try(slow); e < low {
					at, low = slow, e
				}
			}
		}
	}
	if value > clearly*other {
		return Batch{}
	}
	return best
}

// clearly is by which factor the error of a batching server must be smaller than that of a simpler model.
const clearly = 0.7
