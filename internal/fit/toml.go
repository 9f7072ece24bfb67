package fit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// TOML writes a model as a scenario file that the simulator runs. source names the trace.
func (r *Result) TOML(source string) string {
	m := &r.Model
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	q := &r.HeldOut
	line("# Fitted to %s by simulate fit. On the half of it that was held out: %s.", comment(source), q.Verdict())
	line("# %s", q.String())
	for _, n := range r.Notes {
		line("# Note: %s.", comment(n))
	}
	line("name = \"fitted\"")
	line("intent = \"The upstream that a trace was recorded at, as far as it could be fitted: %s.\"", q.Verdict())
	whole := min(max(1, (m.Duration+time.Second-1)/time.Second)*time.Second, mostDuration)
	line("duration = %q", whole.String())
	line("")
	line("# The mean of the trace. For its own arrivals: simulate replay --upstream FILE TRACE.")
	line("[workload]")
	line("kind = \"poisson\"")
	line("rate = %s", decimal(within(m.Rate, 1e-3, 1e6)))
	line("patience = \"5m\"") // as of a replay, and longer than a guard lets callers wait: with the same, who gets a place then has no time for an answer
	tokens := func(name string, t Tokens) {
		switch {
		case t.Quantiles != nil:
			line("# Not lognormal (its distribution is %.2f away): quantiles of the trace.", t.Distance)
			var pairs []string
			for _, q := range t.Quantiles {
				pairs = append(pairs, fmt.Sprintf("[%s, %s]", decimal(q[0]), decimal(q[1])))
			}
			line("%s = { dist = \"table\", quantiles = [%s] }", name, strings.Join(pairs, ", "))
		case t.Median > 0 && t.Sigma < constantSigma:
			line("%s = { mean = %s }", name, decimal(t.Median))
		case t.Median > 0:
			line("%s = { dist = \"lognormal\", median = %s, sigma = %s, max = %s }", name, decimal(t.Median), decimal(min(t.Sigma, 4)), decimal(t.Max))
		}
	}
	tokens("input", m.Input)
	tokens("output", m.Output)
	if t := &m.Output; t.Quantiles == nil && t.Median > 0 && t.Sigma < constantSigma { // else it is twice as much, for which a bucket may have no room
		line("max_output = %.0f", within(math.Round(t.Median), 1, 1e8))
	}
	line("")
	if m.Refusal > 0 || m.Batch.Before > 0 {
		line("[upstream.network]")
	}
	if rtt := min(seconds(m.Batch.Before), time.Minute); rtt > 0 {
		line("rtt = %q  # and what else is around the server", brief(rtt))
	}
	if m.Refusal > 0 {
		line("refusal = { dist = \"exponential\", mean = %q }", brief(min(m.Refusal, 24*time.Hour)))
	}
	if m.Refusal > 0 || m.Batch.Before > 0 {
		line("")
	}
	l := &m.Limit
	changed := ""
	per := 1.0 // of a change's value
	retry := func(exact bool) {
		if m.Status != 0 && m.Status != 429 {
			line("status = %d", m.Status)
		}
		switch {
		case m.RetryAfter > 0:
			line("retry_after = %q", m.RetryAfter.Round(time.Millisecond).String())
		case m.RetryAfter < 0 && exact:
			line("retry_after = \"exact\"")
		}
	}
	switch l.Kind {
	case Bucket, Window, Log:
		line("[[upstream.quota]]")
		name, most := "requests_per_minute", mostChange
		if l.Tokens {
			name, most = "tokens_per_minute", 1e12
		}
		line("%s = %s", name, decimal(within(l.Rate*60, 0.01, most)))
		switch l.Kind {
		case Log:
			line("algorithm = \"sliding-log\"")
			line("window = %q", l.Period.String())
		case Window:
			line("window = %q  # starts anew at each multiple of it; in the trace, %v later", l.Period.String(), l.Phase.Round(time.Millisecond))
		default:
			line("burst = %s", decimal(within(l.Burst, 1, 1e12)))
		}
		if l.Charged {
			line("charge_refused = true")
		}
		if l.Tokens {
			line("charge = \"settled\"  # a trace has what was used, and not what was reserved")
		}
		retry(true)
		line("")
		changed, per = "upstream.quota.limit", 60
	case InFlight:
		line("[upstream.concurrency]")
		line("limit = %d", min(max(1, l.Most), 1_000_000))
		retry(false)
		line("")
		changed = "upstream.concurrency.limit"
	case Noise:
		line("# No limit explains what was refused.")
		line("[upstream.noise]")
		line("share = %s", decimal(l.Share))
		retry(false)
		line("")
	}
	t := &m.Latency
	line("[upstream.server]")
	if b := &m.Batch; b.Profile != "" {
		// What the server does not explain is around it.
		line("kind = \"batch\"")
		line("profile = %q", b.Profile)
		line("slow = %s", decimal(within(b.Slow, 0.01, 1000)))
		t = &Latency{}
	} else if t.Servers > 0 {
		line("kind = \"sharing\"")
		line("servers = %s", decimal(within(t.Servers, 1, 1e6)))
	}
	service, batch := seconds(within(t.Service, 1e-6, 86400)), m.Batch.Profile != "" // a server that takes no time is none
	if batch {
		// It has no other time.
	} else if t.Sigma > 0 {
		line("service = { dist = \"lognormal\", mean = %q, sigma = %s }", brief(service), decimal(t.Sigma))
	} else {
		line("service = { mean = %q }", brief(service))
	}
	if t.Input > 0 {
		line("input_token = %q", brief(seconds(within(t.Input, 0, 1))))
	}
	if t.Output > 0 {
		line("output_token = %q", brief(seconds(within(t.Output, 0, 60))))
	}
	if t.Scale > 0 {
		line("scale = %s", decimal(within(t.Scale, 0, 1000)))
	}
	for _, c := range l.Changes {
		if c.At.Round(time.Millisecond) <= 0 || c.At >= whole {
			continue
		}
		line("")
		line("[[change]]")
		line("at = %q", c.At.Round(time.Millisecond).String())
		line("set = %q", changed)
		line("to = %s", decimal(within(c.Value*per, 0.01, mostChange)))
	}
	return b.String()
}

// mostDuration is how long a scenario lasts at most.
const mostDuration = 1000 * time.Hour

// mostChange is the largest value of a change.
const mostChange = 1e9

// within keeps x in what a scenario may say.
func within(x, lo, hi float64) float64 {
	if !(x >= lo) {
		return lo
	}
	return min(x, hi)
}

// String says how well in one line.
func (q *Quality) String() string {
	s := fmt.Sprintf("%d attempts, %.1f %% refused, %.1f %% foretold (%.1f %% of the calls wrong)", q.Calls, 100*q.Refused, 100*q.Foretold, 100*q.Wrong)
	if q.Timed == 0 {
		return s + "; nothing was timed"
	}
	return s + fmt.Sprintf("; latency percentiles within %.1f %% on average, distributions %.2f apart, single calls within %.0f %%, mean %+.1f %%, correlation %.2f",
		100*q.QuantileError, q.Distance, 100*q.CallError, 100*q.Bias, q.Pearson)
}

// constantSigma is below which tokens are one number.
const constantSigma = 0.001

func seconds(s float64) time.Duration { return time.Duration(s * 1e9) }

// brief rounds to what matters.
func brief(d time.Duration) string {
	switch {
	case d > time.Second:
		d = d.Round(time.Millisecond)
	case d > time.Millisecond:
		d = d.Round(10 * time.Microsecond)
	}
	return max(d, 1).String()
}

// decimal writes a number with four digits and without an exponent.
func decimal(x float64) string {
	x, _ = strconv.ParseFloat(strconv.FormatFloat(x, 'g', 4, 64), 64)
	s := strconv.FormatFloat(x, 'f', -1, 64)
	if !strings.ContainsRune(s, '.') {
		s += ".0"
	}
	return s
}

// comment makes a text safe for one line of a comment.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}
