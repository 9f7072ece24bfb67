package metrics

import (
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// family is one metric: its name, what a reader must know, and how its series come out of the Stats of a guard or a pool.
type family[S any] struct {
	name string // without a histogram's suffixes
	kind string // gauge, counter or histogram
	// label is the label besides guard or pool; empty when there is none.
	label string
	unit  string
	help  string
	write func(p *page, s *S)
}

// sample is a guard's Stats with its label.
type sample struct {
	label string // guard="...", escaped
	limiter.Stats
}

const (
	gauge     = "gauge"
	counter   = "counter"
	histogram = "histogram"
)

// families are the metrics of guards, by name. docs/metrics.md shows this table.
var families = []family[sample]{
	{"flyball_binding", gauge, "scope", "0 or 1",
		"The upstream's limit that the law takes for the one that binds is at 1.",
		func(p *page, s *sample) {
			for i := range feedback.NumScopes {
				scope := feedback.Scope(i).String()
				p.series(s.label, "", "scope", scope).uint(bit(s.Binding == scope))
			}
		}},
	{"flyball_canceled_waits_total", counter, "", "callers",
		"Callers that gave up while they waited.",
		func(p *page, s *sample) { p.series(s.label, "", "", "").uint(s.Counts.Canceled) }},
	{"flyball_decisions_total", counter, "cause", "decisions",
		"Changes of the law's decision (limit, pace, pause, binding limit), by cause.",
		func(p *page, s *sample) {
			for i, n := range s.Counts.Causes {
				p.series(s.label, "", "cause", adaptive.Cause(i).String()).uint(n)
			}
		}},
	{"flyball_in_flight", gauge, "", "calls",
		"Calls in flight.",
		func(p *page, s *sample) { p.series(s.label, "", "", "").int(s.InFlight) }},
	{"flyball_limit", gauge, "", "calls",
		"How many calls may be in flight.",
		func(p *page, s *sample) { p.series(s.label, "", "", "").int(s.Limit) }},
	{"flyball_outcomes_total", counter, "class", "calls",
		"Calls that ended, by what their answer meant.",
		func(p *page, s *sample) {
			for i, n := range s.Counts.Outcomes {
				p.series(s.label, "", "class", feedback.Class(i).String()).uint(n)
			}
		}},
	{"flyball_pace_calls_per_second", gauge, "", "calls per second",
		"How many calls may start a second; 0 when no pace is set.",
		func(p *page, s *sample) { p.series(s.label, "", "", "").float(s.Pace) }},
	{"flyball_pace_tokens_per_second", gauge, "", "tokens per second",
		"How many tokens may be spent a second; 0 when no pace is set.",
		func(p *page, s *sample) { p.series(s.label, "", "", "").float(s.TokenPace) }},
	{"flyball_pause_remaining_seconds", gauge, "", "seconds",
		"How much longer nothing starts because of a pause; 0 when there is none.",
		func(p *page, s *sample) { p.series(s.label, "", "", "").float(s.Paused.Seconds()) }},
	{"flyball_pauses_total", counter, "", "pauses",
		"Pauses that began or were moved to a later end: by a Retry-After, the law or the program.",
		func(p *page, s *sample) { p.series(s.label, "", "", "").uint(s.Counts.Pauses) }},
	{"flyball_refusals_total", counter, "reason", "callers",
		"Callers that the guard refused, by reason; nothing was sent.",
		func(p *page, s *sample) { p.refusals(s.label, s.Counts.Refused[:]) }},
	{"flyball_wait_reason_seconds", histogram, "why", "seconds",
		"How long callers waited that waited and were then let in, by what they waited for longest.",
		waitsFor},
	{"flyball_wait_seconds", histogram, "", "seconds",
		"How long callers waited that waited and were then let in.",
		waits},
	{"flyball_waiting", gauge, "", "callers",
		"Callers that wait to be let in.",
		func(p *page, s *sample) { p.series(s.label, "", "", "").int(s.Waiting) }},
}

// noReason is the Reason of those who were not refused.
const noReason limiter.Reason = 0

// noWhy is the Why of those who did not wait.
const noWhy limiter.Why = 0

// waitBounds are the upper bounds of the buckets of Counts.Waits, in seconds. The last bucket has none.
var waitBounds = func() (le [limiter.WaitBuckets]string) {
	for i := range le {
		le[i] = formatFloat((time.Millisecond << i).Seconds())
	}
	le[len(le)-1] = "+Inf"
	return le
}()

func waits(p *page, s *sample) { p.waits(s.label, &s.Counts.Waits, s.Counts.WaitSum) }

func waitsFor(p *page, s *sample) { p.waitsFor(s.label, &s.Counts.WaitedFor) }

// seconds is a sum of waits. A thousand callers who wait at a time have 292 years together in 106 days, and the sum is negative from then on.
// Taken for a number without a sign it grows for as long again and begins anew at 0, which is how a counter may.
func seconds(sum time.Duration) float64 { return float64(uint64(sum)) / float64(time.Second) }

// waits writes the histogram of waits. Stats counts a wait of exactly 2^i ms with the longer ones;
// a bucket here should hold it, but nobody can see the difference.
func (p *page) waits(label string, buckets *[limiter.WaitBuckets]uint64, sum time.Duration) {
	var n uint64 // of this bucket and all before it
	for i, c := range buckets {
		n += c
		p.series(label, "_bucket", "le", waitBounds[i]).uint(n)
	}
	p.series(label, "_sum", "", "").float(seconds(sum))
	p.series(label, "_count", "", "").uint(n)
}

// waitsFor writes a histogram of waits for each reason, with every other bound, because there are many reasons.
func (p *page) waitsFor(label string, waitedFor *[limiter.NumWhys]limiter.Waits) {
	for y, w := range waitedFor {
		why := limiter.Why(y)
		if why == noWhy {
			continue
		}
		var n uint64
		for i, c := range w.Buckets {
			if n += c; i%2 == 0 || i == len(w.Buckets)-1 {
				p.series2(label, "_bucket", "why", why.String(), "le", waitBounds[i]).uint(n)
			}
		}
		p.series(label, "_sum", "why", why.String()).float(seconds(w.Sum))
		p.series(label, "_count", "why", why.String()).uint(n)
	}
}

// refusals writes how many callers were refused, by reason.
func (p *page) refusals(label string, refused []uint64) {
	for i, n := range refused {
		if r := limiter.Reason(i); r != noReason {
			p.series(label, "", "reason", r.String()).uint(n)
		}
	}
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
