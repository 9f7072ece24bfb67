package sim

import (
	"math"
	"slices"
	"time"
)

// Measures are figures of a run that its books and the limits of its world give. What is not known is NaN, or -1 for a time.
type Measures struct {
	// Goodput and GoodputTokens are successes in time, and their tokens, as a share of the limits'.
	Goodput, GoodputTokens float64
	// Rejected is 429s as a share of the attempts; Steady counts those after a phase had settled, Transient those before.
	Rejected, RejectedSteady, RejectedTransient float64
	// AttemptsPerOK is attempts per success.
	AttemptsPerOK float64
	// Phases are the parts of the run in which what can be had stays the same, with the time to settle in each.
	Phases []Phase
	// Overshoot is by how much the limit exceeds the best one at most, once settled, as a share of it (>= 0); Oscillation is its coefficient
	// of variation then, and GoodputCV that of the successes in 10 s.
	Overshoot, Oscillation, GoodputCV float64
	// Jain is Jain's index of the replicas' successes a second that each was there (1: equal), over the second half; JainWindows the mean of
	// the same over windows of 10 s, and MinShare the smallest of them as a share of their mean. JainTenants is that of the tenants, by the share
	// of what each asked for.
	Jain, JainWindows, MinShare, JainTenants float64
	// Herd is the largest number of attempts in the second after a delay that the upstream asked for, as a multiple of what the world
	// sustains in a second.
	Herd float64
	// Inside is how many attempts were sent inside such a delay; LongestWait the longest wait in a guard.
	Inside      int64
	LongestWait time.Duration
	// Lost is how many requests failed or were refused.
	Lost int64
	// Wasted is tokens that were generated for callers who had hung up, as a share of all that were generated for anybody.
	Wasted float64
	// Attributed is the share of the episodes whose cut named the limit that the refusal came from.
	Attributed float64
	// Latency, FirstByte, PerToken and Wait are quantiles; all but the first need Config.Samples.
	Latency, FirstByte, PerToken, Wait Quantiles
}

// Quantiles are those of a list of times; all are -1 when it is empty.
type Quantiles struct{ P50, P90, P99, P999, Max time.Duration }

const jainSpan = 10 * time.Second

// Measure computes the measures of a run.
func Measure(r *Result, l *Limits) Measures {
	m := Measures{
		Goodput: math.NaN(), GoodputTokens: math.NaN(), Rejected: ratio(float64(r.Rejected), float64(r.Sent)),
		RejectedSteady: math.NaN(), RejectedTransient: math.NaN(), AttemptsPerOK: ratio(float64(r.Sent), float64(r.OK)),
		Overshoot: math.NaN(), Oscillation: math.NaN(), GoodputCV: math.NaN(),
		Inside: r.Inside, LongestWait: r.LongestWait, Lost: r.Failed + r.Refused,
		Wasted:     ratio(float64(r.TokensWasted), float64(r.TokensWasted+r.Tokens)),
		Attributed: ratio(float64(r.Attributed), float64(r.Cuts)),
		Latency:    quantiles(r.Latencies), FirstByte: quantiles(r.FirstBytes), PerToken: quantiles(r.PerToken), Wait: quantiles(r.Waits),
		Jain: math.NaN(), JainWindows: math.NaN(), MinShare: math.NaN(), JainTenants: math.NaN(), Herd: math.NaN(),
	}
	m.Goodput = ratio(float64(r.InTime), float64(l.OK))
	m.GoodputTokens = ratio(float64(r.TokensInTime), float64(l.Tokens))
	m.shares(r)
	if r.Series.Step <= 0 || len(r.Series.OK) == 0 || l.Step != r.Series.Step {
		return m
	}
	m.phases(r, l)
	m.herd(r, l)
	return m
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return math.NaN()
	}
	return a / b
}

func quantiles(list []time.Duration) Quantiles {
	if len(list) == 0 {
		return Quantiles{-1, -1, -1, -1, -1}
	}
	s := list
	if !slices.IsSorted(s) {
		s = slices.Clone(list)
		slices.Sort(s)
	}
	at := func(p float64) time.Duration { return s[min(len(s)-1, int(math.Ceil(p*float64(len(s))))-1)] }
	return Quantiles{at(.5), at(.9), at(.99), at(.999), s[len(s)-1]}
}

// phases computes when goodput is what it can be, and what depends on that.
func (m *Measures) phases(r *Result, l *Limits) {
	n := min(len(r.Series.OK), len(l.Done), len(l.Rate))
	m.Phases = PhasesOf(r, l)
	settled := make([]bool, n)
	for _, p := range m.Phases {
		if p.Settled >= 0 {
			for i := int((p.From + p.Settled) / l.Step); i < int(p.To/l.Step); i++ {
				settled[i] = true
			}
		}
	}
	var sent, rejected [2]float64
	var limits, goods []float64
	window, count, inWindow := 0.0, 0, max(1, int(jainSpan/l.Step))
	for i := range n {
		k := 0
		if settled[i] {
			k = 1
			if x := r.Series.Limit[i]; !math.IsNaN(x) {
				limits = append(limits, x)
				if best := l.Limit[i]; best > 0 {
					over := max(0, x/best-1)
					if math.IsNaN(m.Overshoot) || over > m.Overshoot {
						m.Overshoot = over
					}
				}
			}
			window += ratioOr(r.Series.OK[i], l.Rate[i])
			if count++; count%inWindow == 0 {
				goods = append(goods, window)
				window = 0
			}
		}
		sent[k] += r.Series.Sent[i]
		rejected[k] += r.Series.Rejected[i]
	}
	m.RejectedTransient, m.RejectedSteady = ratio(rejected[0], sent[0]), ratio(rejected[1], sent[1])
	m.Oscillation, m.GoodputCV = variation(limits), variation(goods)
}

// ratioOr is a/b, and 0 when b is.
func ratioOr(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// variation returns the coefficient of variation of a list; NaN when it has fewer than two numbers.
func variation(xs []float64) float64 {
	if len(xs) < 2 {
		return math.NaN()
	}
	var sum, sq float64
	for _, x := range xs {
		sum += x
		sq += x * x
	}
	n := float64(len(xs))
	mean := sum / n
	return ratio(math.Sqrt(max(0, sq/n-mean*mean)), mean)
}

// JainIndex returns (Σx)²/(n·Σx²): 1 when all are equal, 1/n when one has all (Jain, Chiu and Hawe, 1984). It is NaN for an empty list and for
// nothing but zeros.
func JainIndex(xs []float64) float64 {
	var sum, sq float64
	for _, x := range xs {
		sum += x
		sq += x * x
	}
	return ratio(sum*sum, float64(len(xs))*sq)
}

// shares computes what replicas and tenants had.
func (m *Measures) shares(r *Result) {
	if n := len(r.Replicas); n > 1 {
		steps := len(r.Series.OK)
		var second []float64 // a second that each was there
		window, count := make([]float64, n), 0
		var sum, windows float64
		inWindow := 1
		if r.Series.Step > 0 {
			inWindow = max(1, int(jainSpan/r.Series.Step))
		}
		for i := range steps {
			for k := range r.Replicas {
				window[k] += r.Replicas[k].Series[i]
			}
			if count++; count == inWindow {
				var there []float64 // of those that were there all the time: one that got nothing is the least fair of all
				from, to := time.Duration(i+1-inWindow)*r.Series.Step, time.Duration(i+1)*r.Series.Step
				for k, x := range window {
					if p := &r.Replicas[k]; p.Join <= from && p.Join+p.Present >= to {
						there = append(there, x)
					}
				}
				if len(there) > 1 && slices.Max(there) > 0 {
					sum += JainIndex(there)
					windows++
				}
				clear(window)
				count = 0
			}
		}
		m.JainWindows = ratio(sum, windows)
		longest := time.Duration(0)
		for k := range r.Replicas {
			longest = max(longest, r.Replicas[k].Present)
		}
		for k := range r.Replicas {
			p := &r.Replicas[k]
			if p.Present < longest/2 {
				continue
			}
			if steps == 0 {
				second = append(second, float64(p.OK)/p.Present.Seconds())
				continue
			}
			half := time.Duration(steps/2) * r.Series.Step
			there := p.Join + p.Present - max(half, p.Join)
			if there <= 0 {
				continue
			}
			x := 0.0
			for _, ok := range p.Series[steps/2:] {
				x += ok
			}
			second = append(second, x/there.Seconds())
		}
		m.Jain = JainIndex(second)
		if len(second) > 0 {
			total := 0.0
			for _, x := range second {
				total += x
			}
			m.MinShare = ratio(slices.Min(second)*float64(len(second)), total)
		}
	}
	if len(r.Tenants) > 1 {
		var xs []float64
		for i := range r.Tenants {
			if t := &r.Tenants[i]; t.Offered > 0 {
				xs = append(xs, float64(t.OK)/float64(t.Offered))
			}
		}
		m.JainTenants = JainIndex(xs)
	}
}

// herd computes the largest rush after a delay.
func (m *Measures) herd(r *Result, l *Limits) {
	for _, x := range r.Releases {
		i := min(int(x.At/l.Step), len(l.Rate)-1)
		if x.At >= l.Horizon || i < 0 {
			continue
		}
		// What the world sustains: the level of that step, or of the next one that has any.
		for i < len(l.Rate)-1 && l.Rate[i] == 0 {
			i++
		}
		if l.Rate[i] <= 0 {
			continue
		}
		if h := float64(x.Sends) / max(1, l.Rate[i]); math.IsNaN(m.Herd) || h > m.Herd {
			m.Herd = h
		}
	}
}
