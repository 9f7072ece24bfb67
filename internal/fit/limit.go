package fit

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/trace"
)

// Kind is a kind of limit.
type Kind string

// The kinds that are told apart.
const (
	// None refuses nothing, or nothing that could be explained.
	None Kind = "none"
	// Bucket refills continuously.
	Bucket Kind = "bucket"
	// Window starts anew at each multiple of a period.
	Window Kind = "window"
	// Log counts what passed in the last period.
	Log Kind = "sliding log"
	// InFlight bounds calls in flight.
	InFlight Kind = "in flight"
	// Noise refuses at random.
	Noise Kind = "noise"
)

// Limit is what refuses.
type Limit struct {
	Kind Kind
	// Tokens says that tokens are counted, and not requests.
	Tokens bool
	// Charged says that a refused call uses up what is left of a Bucket, too.
	Charged bool
	// Rate is how much a second is allowed, for Bucket, Window and Log, and Burst how much at once, for Bucket.
	Rate, Burst float64
	// Period is that of a Window or a Log. A Window starts anew at Phase and each Period after. What Fit returns counts from the first request.
	Period, Phase time.Duration
	// Most is how many calls may be in flight, for InFlight.
	Most int
	// Share is the share that Noise refuses.
	Share float64
	// Changes are later values of Rate or of Most, in the order of time.
	Changes []Change
}

// since makes an instant the one from which all others count, as a replay begins with the first request, however late it came.
func (l *Limit) since(start time.Duration) {
	for i := range l.Changes {
		l.Changes[i].At -= start
	}
	if l.Period > 0 {
		l.Phase = ((l.Phase-start)%l.Period + l.Period) % l.Period
	}
}

// words says in words what kind of limit it is.
func (l *Limit) words() string {
	s := string(l.Kind)
	if l.Tokens {
		s += " of tokens"
	}
	if l.Charged {
		s += " that charges what it refuses"
	}
	if l.Period > 0 {
		s += fmt.Sprintf(" of %v", l.Period)
	}
	return s
}

// Change is a later value.
type Change struct {
	At    time.Duration
	Value float64
}

// cost returns what a call costs.
func (l *Limit) cost(c *call) float64 {
	if l.Tokens {
		return c.in + c.out
	}
	return 1
}

// value returns the rate or the number in flight at an instant.
func (l *Limit) value(at float64) float64 {
	v := l.Rate
	if l.Kind == InFlight {
		v = float64(l.Most)
	}
	for i := range l.Changes {
		if l.Changes[i].At.Seconds() > at {
			break
		}
		v = l.Changes[i].Value
	}
	return v
}

// gate is a limit at work. It is told what happened, or decides by itself.
type gate struct {
	l      *Limit
	left   float64   // in the bucket
	last   float64   // when it was that
	window float64   // number of the window
	used   float64   // in it
	ends   []float64 // of those in flight; or of the time that they count in a Log
}

func (l *Limit) gate() *gate {
	return &gate{l: l, left: l.Burst, last: math.Inf(-1), window: math.Inf(-1)}
}

// refuses reports whether the limit would refuse c.
func (g *gate) refuses(c *call) bool {
	l := g.l
	switch l.Kind {
	case Bucket:
		if c.sent > g.last {
			if !math.IsInf(g.last, -1) {
				g.left = min(l.Burst, g.left+(c.sent-g.last)*l.value(c.sent))
			}
			g.last = c.sent
		}
		return g.left < min(l.cost(c), l.Burst)
	case Window:
		if w := math.Floor((c.sent - l.Phase.Seconds()) / l.Period.Seconds()); w != g.window {
			g.window, g.used = w, 0
		}
		return g.used+l.cost(c) > math.Round(l.value(c.sent)*l.Period.Seconds())
	case InFlight:
		g.expire(c.sent)
		return float64(len(g.ends)) >= l.value(c.sent)
	case Log:
		g.expire(c.sent)
		return float64(len(g.ends)) >= math.Round(l.value(c.sent)*l.Period.Seconds())
	}
	return false
}

// expire forgets what has ended at an instant.
func (g *gate) expire(at float64) {
	gone, _ := slices.BinarySearch(g.ends, at+1e-12)
	g.ends = g.ends[gone:]
}

// deny tells that c was refused.
func (g *gate) deny(c *call) {
	if g.l.Charged { // a bucket is never emptier than empty
		g.left = max(0, g.left-g.l.cost(c))
	}
}

// pass tells that c passed; took is how long it will be in flight.
func (g *gate) pass(c *call, took float64) {
	switch g.l.Kind {
	case Bucket:
		g.left = max(0, g.left-g.l.cost(c))
	case Window:
		g.used += g.l.cost(c)
	case InFlight:
		end := c.sent + took
		at, _ := slices.BinarySearch(g.ends, end)
		g.ends = slices.Insert(g.ends, at, end)
	case Log:
		g.ends = append(g.ends, c.sent+g.l.Period.Seconds())
	}
}

// foretell returns how many calls the limit is wrong about, told what became of those before, and how many it refuses when it is left
// alone with them. before are the calls that were sent earlier.
func (l *Limit) foretell(calls, before []call) (wrong, refused int) {
	if l.Kind == Noise {
		for i := range calls {
			if calls[i].refused != (l.Share > 0.5) { // it says what is likelier
				wrong++
			}
		}
		return wrong, int(math.Round(l.Share * float64(len(calls))))
	}
	if l.Kind == None {
		for i := range calls {
			if calls[i].refused {
				wrong++
			}
		}
		return wrong, 0
	}
	told, free := l.gate(), l.gate()
	mean, n := 0.0, 0
	for _, part := range [][]call{before, calls} {
		for i := range part {
			if !part[i].refused {
				mean, n = mean+part[i].took, n+1
			}
		}
	}
	mean /= float64(max(1, n))
	for _, part := range [][]call{before, calls} {
		for i := range part {
			c := &part[i]
			no := told.refuses(c)
			if !c.refused {
				told.pass(c, c.took)
			} else {
				told.deny(c)
			}
			alone := free.refuses(c)
			if alone {
				free.deny(c)
			} else {
				took := c.took
				if c.refused {
					took = mean // nobody knows how long it would have taken
				}
				free.pass(c, took)
			}
			if len(before) > 0 && &part[0] == &before[0] {
				continue
			}
			if no != c.refused {
				wrong++
			}
			if alone {
				refused++
			}
		}
	}
	return wrong, refused
}

// wrong is the first result of foretell, without the second.
func (l *Limit) wrong(calls []call) int { return l.wrongBelow(calls, math.MaxInt) }

// wrongBelow is wrong for one who asks only whether it is less than most: it ends when it is not.
func (l *Limit) wrongBelow(calls []call, most int) int {
	g := l.gate()
	n := 0
	for i := range calls {
		c := &calls[i]
		if g.refuses(c) != c.refused {
			if n++; n >= most {
				break
			}
		}
		if !c.refused {
			g.pass(c, c.took)
		} else {
			g.deny(c)
		}
	}
	return n
}

// mostCalls is how many calls the search looks at.
const mostCalls = 20_000

// fitLimit returns the limit that explains most of what was refused and what was not.
func fitLimit(calls []call) Limit {
	if len(calls) > mostCalls {
		calls = calls[:mostCalls]
	}
	refused, tokens := 0, false
	for i := range calls {
		if calls[i].refused {
			refused++
		}
		tokens = tokens || calls[i].in+calls[i].out > 0
	}
	if refused == 0 {
		return Limit{Kind: None}
	}
	rare := min(refused, len(calls)-refused) // what one is wrong about who says the same of all
	best, least := Limit{Kind: Noise, Share: float64(refused) / float64(len(calls))}, rare
	// Another kind must explain half of the refusals, and a quarter of that, and a tie goes to the one that was tried first, the simplest.
	try := func(l Limit, wrong int) {
		if wrong < least && wrong*2 <= refused && wrong*4 <= rare*3 {
			best, least = l, wrong
		}
	}
	changing := func(l Limit, wrong int) {
		try(l, wrong)
		if wrong < math.MaxInt {
			l.split(calls, 3)
			l.polish(calls)
			// A change more must explain more than chance does.
			if w := l.wrong(calls); len(l.Changes) > 0 && w+worth(calls) < least {
				try(l, w)
			}
		}
	}
	changing(fitInFlight(calls))
	changing(fitBucket(calls, Limit{}))
	try(fitWindow(calls, false))
	// What is less simple must explain more than chance beyond what this does.
	chance := max(8, min(len(calls)/100, rare/4))
	more := func(calls []call, l Limit) {
		if least <= chance {
			return
		}
		if l, wrong := fitBucket(calls, l); wrong < least-chance {
			changing(l, wrong)
		}
	}
	if l, wrong := fitLog(calls); wrong < least-chance {
		try(l, wrong)
	}
	more(calls, Limit{Charged: true})
	if tokens {
		known := comparable(calls)
		more(known, Limit{Tokens: true})
		if least > chance {
			if l, wrong := fitWindow(known, true); wrong < least-chance {
				try(l, wrong)
			}
		}
		more(known, Limit{Tokens: true, Charged: true})
	}
	return best
}

// comparable returns the calls with tokens that a refusal does not give away: of a refused call nobody knows the output, and often
// not the input. When none of the refused has an output, and others have, all of them have the mean of the others; where nobody has one, only those without
// an input have it.
func comparable(calls []call) []call {
	var in, out, n float64
	for i := range calls {
		if c := &calls[i]; !c.refused {
			in, out, n = in+c.in, out+c.out, n+1
		} else if c.out > 0 {
			return calls
		}
	}
	if n == 0 {
		return calls
	}
	calls = slices.Clone(calls)
	for i := range calls {
		if c := &calls[i]; c.refused && (out > 0 || c.in == 0) {
			c.in, c.out = in/n, out/n
		}
	}
	return calls
}

// fitInFlight finds the number in flight that refusals have in common.
func fitInFlight(calls []call) (Limit, int) {
	most, wrong := inCommon(calls, func(c *call) int { return c.flight - 1 })
	return Limit{Kind: InFlight, Most: most}, wrong
}

// fitLog finds the period and the number of a sliding log that refusals have in common.
func fitLog(calls []call) (Limit, int) {
	best, least := Limit{Kind: Log}, math.MaxInt
	for _, period := range periods {
		l := Limit{Kind: Log, Period: period}
		if calls[len(calls)-1].sent-calls[0].sent < 2*period.Seconds() {
			continue
		}
		g := l.gate()
		most, wrong := inCommon(calls, func(c *call) int {
			g.expire(c.sent)
			n := len(g.ends)
			if !c.refused {
				g.pass(c, c.took)
			}
			return n
		})
		if wrong < least {
			l.Rate = float64(most) / period.Seconds()
			best, least = l, wrong
		}
	}
	return best, least
}

// inCommon returns the number of others that refusals have in common, and how many calls are wrong where a call is refused that meets so many or more.
func inCommon(calls []call, others func(*call) int) (most, wrong int) {
	var yes, no []int // by the number of others, how many calls passed, and how many did not
	for i := range calls {
		c := &calls[i]
		n := others(c)
		for len(yes) <= n+1 {
			yes, no = append(yes, 0), append(no, 0)
		}
		if c.refused {
			no[n]++
		} else {
			yes[n]++
		}
	}
	// With the limit m, calls that met m others or more are expected to be refused.
	for _, n := range yes {
		wrong += n // with a limit of 0 each call that passed is wrong
	}
	best, at := math.MaxInt, 1
	for m := 1; m < len(yes); m++ {
		wrong += no[m-1] - yes[m-1]
		if wrong < best {
			best, at = wrong, m
		}
	}
	return at, best
}

// fitBucket finds the rate and the burst of a bucket that counts and charges as l does.
func fitBucket(calls []call, l Limit) (Limit, int) {
	l.Kind = Bucket
	passed, refused := 0.0, 0
	for i := range calls {
		if calls[i].refused {
			refused++
		} else {
			passed += l.cost(&calls[i])
		}
	}
	span := calls[len(calls)-1].sent - calls[0].sent
	unit := 1.0
	if l.Tokens {
		unit = max(1, passed/float64(len(calls)))
	}
	best, least := l, math.MaxInt
	try := func(rate, burst float64) {
		l.Rate, l.Burst = rate, max(burst, 1)
		if w := l.wrongBelow(calls, least); w < least {
			best, least = l, w
		}
	}
	// Until the last refusal at most burst + rate·t passed, and nearly that when calls were refused all the time: a rate that is a hundredth
	// away is wrong about half of them then, as the bucket is soon full, or empty, for good.
	until, spent := 0.0, 0.0
	sum, denied, charged := 0.0, 0.0, 0.0
	for i := range calls {
		if c := &calls[i]; c.refused {
			until, spent, charged = c.sent-calls[0].sent, sum, denied
			denied += l.cost(c)
		} else {
			sum += l.cost(c)
		}
	}
	lost := []float64{0}
	if l.Charged { // of what was left when a call was refused, which was less than it costs
		lost = []float64{0.25, 0.4, 0.5, 0.6, 0.75}
	}
	exact := func(burst float64) {
		for _, left := range []float64{0, 0.5, 1} {
			for _, share := range lost {
				if rate := (spent + share*charged + left*unit - burst) / until; rate > 0 && until > 0 {
					try(rate, burst)
				}
			}
		}
	}
	// It passed at the mean rate or faster.
	mean := passed / span
	bursts := []float64{1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500}
	for _, b := range bursts {
		if b*unit <= passed {
			exact(b * unit)
		}
	}
	for f := 0.5; f <= 8; f *= 1.08 {
		for _, b := range bursts {
			if b*unit <= passed {
				try(mean*f, b*unit)
			}
		}
	}
	if l.Charged { // what refusals took of it depends on the rate
		for _, b := range bursts {
			if b*unit <= passed {
				try(l.balance(calls, b*unit, 20*mean), b*unit)
			}
		}
	}
	if least == math.MaxInt {
		return l, least
	}
	refine := func() {
		for step := 1.04; step > 1.00001; step = math.Sqrt(step) { // which over thousands of calls is a part of one
			for moved := true; moved; {
				before := least
				r, b := best.Rate, best.Burst
				for _, f := range []float64{1 / step, 1, step} {
					try(r*f, b)
					if l.Tokens {
						try(r*f, b*step)
						try(r*f, b/step)
					} else {
						try(r*f, b+1)
						try(r*f, b-1)
					}
				}
				if l.Tokens {
					exact(b * step)
					exact(b / step)
				} else {
					exact(b + 1)
					exact(max(1, b-1))
				}
				moved = least < before
			}
		}
	}
	refine()
	if rare := min(refused, len(calls)-refused); l.Charged && rare > 100 && least*5 > rare*4 {
		return best, least // it is none, or one that changed: a burst that is more exact sets too little of that right
	}
	// A burst that shows only at the start is lost in the noise of a rate that is not exact: once more, with one that is.
	rate := best.Rate
	for b := 1.0; b*unit <= passed && b <= 1000; b = math.Ceil(b * 1.01) {
		try(rate, b*unit)
		exact(b * unit)
	}
	refine()
	return best, least
}

// balance returns the rate, at most most, at which a bucket is as often wrong about what passed as about what was refused: with a higher one it is seldom wrong
// about the former, and with a lower one about the latter.
func (l Limit) balance(calls []call, burst, most float64) float64 {
	l.Burst = burst
	least := 0.0
	for range 24 {
		l.Rate = (least + most) / 2
		g, n := l.gate(), 0
		for i := range calls {
			c := &calls[i]
			switch no := g.refuses(c); {
			case c.refused:
				if !no {
					n--
				}
				g.deny(c)
			default:
				if no {
					n++
				}
				g.pass(c, c.took)
			}
		}
		if n > 0 {
			least = l.Rate
		} else {
			most = l.Rate
		}
	}
	return l.Rate
}

// periods are those that are tried.
var periods = []time.Duration{time.Second, 10 * time.Second, 30 * time.Second, time.Minute}

// fitWindow finds the period, the phase and the number of a window of requests, or of tokens.
func fitWindow(calls []call, tokens bool) (Limit, int) {
	best, least := Limit{Kind: Window, Tokens: tokens}, math.MaxInt
	more := []float64{0} // of a mean cost: the number is what passed, and of tokens what was left, which was too little
	unit := 0.0
	if tokens {
		more = []float64{0, 0.1, 0.25, 0.5, 1}
		for i := range calls {
			unit += best.cost(&calls[i]) / float64(len(calls))
		}
	}
	for _, period := range periods {
		p := period.Seconds()
		if calls[len(calls)-1].sent-calls[0].sent < 2*p {
			continue
		}
		for k := range 40 {
			phase := p * float64(k) / 40
			// The number is the most that passed in a window in which something was refused.
			most, used, window, refused := 0.0, 0.0, math.Inf(-1), false
			end := func() {
				if refused {
					most = max(most, used)
				}
				used, refused = 0, false
			}
			for i := range calls {
				if w := math.Floor((calls[i].sent - phase) / p); w != window {
					end()
					window = w
				}
				if calls[i].refused {
					refused = true
				} else {
					used += best.cost(&calls[i])
				}
			}
			end()
			if most == 0 {
				continue
			}
			for _, share := range more {
				l := Limit{Kind: Window, Tokens: tokens, Rate: (most + share*unit) / p, Period: period, Phase: time.Duration(phase * 1e9)}
				if w := l.wrongBelow(calls, least); w < least {
					best, least = l, w
				}
			}
		}
	}
	return best, least
}

// worth is how many calls a change of the limit must set right: chance explains some.
func worth(calls []call) int { return max(8, len(calls)/100) }

// split looks for instants at which the limit changed, depth levels deep.
func (l *Limit) split(calls []call, depth int) {
	base := l.wrong(calls)
	worth := worth(calls)
	if depth == 0 || base < worth || len(calls) < 4*least {
		return
	}
	var best Limit
	fewest := base
	for k := 1; k < 16; k++ {
		at := len(calls) * k / 16
		left, right := *l, *l
		left.refit(calls[:at])
		right.refit(calls[at:])
		two := left
		two.Changes = []Change{{time.Duration(calls[at].sent * 1e9), right.value(math.Inf(-1))}}
		if w := two.wrongBelow(calls, fewest); w < fewest {
			best, fewest = two, w
		}
	}
	if base-fewest < worth || float64(fewest) > 0.75*float64(base) {
		return
	}
	// The instant itself, more exactly.
	c := &best.Changes[0]
	step := (calls[len(calls)-1].sent - calls[0].sent) / 32
	for ; step > 0.25; step /= 2 {
		for _, d := range []float64{-step, step} {
			two := best
			two.Changes = []Change{{c.At + time.Duration(d*1e9), c.Value}}
			if w := two.wrongBelow(calls, fewest); w < fewest {
				best, fewest = two, w
				c = &best.Changes[0]
			}
		}
	}
	at := slices.IndexFunc(calls, func(x call) bool { return x.sent >= c.At.Seconds() })
	if at <= 0 {
		return
	}
	first, second := best, best
	first.Changes, second.Changes = nil, nil
	second.Rate, second.Most = c.Value, int(c.Value)
	first.split(calls[:at], depth-1)
	second.split(calls[at:], depth-1)
	changes := append(slices.Clone(first.Changes), Change{c.At, second.value(math.Inf(-1))})
	*l = first
	l.Changes = append(changes, second.Changes...)
}

// polish fits the burst and the values of all segments anew, now that it is known when the limit changed: the burst of a bucket that
// was taken for constant says nothing.
func (l *Limit) polish(calls []call) {
	if l.Kind != Bucket || len(l.Changes) == 0 {
		return
	}
	unit := 1.0
	if l.Tokens {
		for i := range calls {
			unit += l.cost(&calls[i]) / float64(len(calls))
		}
	}
	best, fewest := *l, l.wrong(calls)
	for b := 1.0; b <= 1000; b = math.Ceil(b * 1.3) {
		t := *l
		t.Burst, t.Changes = b*unit, slices.Clone(l.Changes)
		from := 0
		for i := range len(t.Changes) + 1 {
			to := len(calls)
			if i < len(t.Changes) {
				to = slices.IndexFunc(calls, func(c call) bool { return c.sent >= t.Changes[i].At.Seconds() })
			}
			if to <= from {
				continue
			}
			part := Limit{Kind: Bucket, Tokens: l.Tokens, Charged: l.Charged, Burst: t.Burst, Rate: t.Rate}
			if i > 0 {
				part.Rate = t.Changes[i-1].Value
			}
			part.refit(calls[from:to])
			for step := 1.025; step > 1.002; step = math.Sqrt(step) {
				now := part.wrong(calls[from:to])
				for _, f := range []float64{1 / step, step} {
					p := part
					p.Rate *= f
					if w := p.wrong(calls[from:to]); w < now {
						now, part = w, p
					}
				}
			}
			if i > 0 {
				t.Changes[i-1].Value = part.Rate
			} else {
				t.Rate = part.Rate
			}
			from = to
		}
		if w := t.wrongBelow(calls, fewest); w < fewest {
			best, fewest = t, w
		}
	}
	// All together: a segment by itself knows nothing of what was left in the bucket when it began.
	for step := 1.1; step > 1.002; step = math.Sqrt(step) {
		for moved := true; moved; {
			moved = false
			for i := range len(best.Changes) + 2 {
				for _, f := range []float64{1 / step, step} {
					t := best
					t.Changes = slices.Clone(best.Changes)
					switch i {
					case 0:
						t.Rate *= f
					case 1:
						t.Burst = max(1, t.Burst*f)
					default:
						t.Changes[i-2].Value *= f
					}
					if w := t.wrongBelow(calls, fewest); w < fewest {
						best, fewest, moved = t, w, true
					}
				}
			}
		}
	}
	*l = best
}

// refit fits the value anew, and nothing else.
func (l *Limit) refit(calls []call) {
	if l.Kind == InFlight {
		f, _ := fitInFlight(calls)
		l.Most = f.Most
		return
	}
	start, least := l.Rate, math.MaxInt
	for f := 0.1; f <= 10; f *= 1.05 {
		t := *l
		t.Rate = start * f
		if w := t.wrongBelow(calls, least); w < least {
			least, l.Rate = w, t.Rate
		}
	}
}

// told is what answers said of a limit.
type told struct {
	kind    feedback.Scope
	changes []Change // the first one at the start
}

// stated returns what the recorded header fields of rows that were sent before an instant (s) say of the limits of requests or tokens per minute.
func stated(rows []trace.Row, before float64) []*told {
	byKind := map[feedback.Scope]*told{}
	for i := range rows {
		r := &rows[i]
		if len(r.Header) == 0 || r.Sent.Seconds() >= before {
			continue
		}
		h := make(map[string][]string, len(r.Header))
		for k, v := range r.Header {
			h[k] = []string{v}
		}
		s := feedback.Parse(feedback.Answer{Status: r.Status, Header: h, Now: time.Unix(0, 0).Add(r.End)})
		for _, w := range s.Windows {
			if w.Limit <= 0 || w.Kind != feedback.ScopeRequests && w.Kind != feedback.ScopeTokens {
				continue
			}
			t := byKind[w.Kind]
			if t == nil {
				t = &told{kind: w.Kind}
				byKind[w.Kind] = t
			}
			if n := len(t.changes); n == 0 || t.changes[n-1].Value != float64(w.Limit) {
				t.changes = append(t.changes, Change{r.Sent, float64(w.Limit)})
			}
		}
	}
	var all []*told
	for _, k := range []feedback.Scope{feedback.ScopeRequests, feedback.ScopeTokens} {
		if t := byKind[k]; t != nil && len(t.changes) < 100 {
			all = append(all, t)
		}
	}
	return all
}

// String says what was told.
func (t *told) String() string {
	s := fmt.Sprintf("answers tell of a limit of %.0f %v", t.changes[0].Value, t.kind)
	for _, c := range t.changes[1:] {
		s += fmt.Sprintf(", from %v on %.0f", c.At.Round(time.Second), c.Value)
	}
	return s
}

// follow puts what answers said in place of what was found, where it is about the same thing and what was refused does not speak against it: a number
// for a day or a second is none for a minute, nor does a trace know what was reserved of a quota of tokens. It returns what there is to say of it.
func (l *Limit) follow(all []*told, calls []call) (notes []string) {
	refused := 0
	for i := range calls {
		if calls[i].refused {
			refused++
		}
	}
	for _, t := range all {
		next, tokens := *l, t.kind == feedback.ScopeTokens
		switch {
		case l.Kind == None:
			next = Limit{Kind: Bucket, Tokens: tokens, Burst: t.changes[0].Value}
		case l.Kind == Bucket && l.Tokens == tokens, (l.Kind == Window || l.Kind == Log) && l.Tokens == tokens:
			next.Changes = nil
		default:
			notes = append(notes, fmt.Sprintf("%v; it is left out, as that is not what refused", t))
			continue
		}
		next.Rate = t.changes[0].Value / 60
		for _, c := range t.changes[1:] {
			next.Changes = append(next.Changes, Change{c.At, c.Value / 60})
		}
		known := calls
		if tokens {
			known = comparable(calls)
		}
		if w := next.wrong(known); w > l.wrong(known)+max(worth(calls), refused/10) {
			notes = append(notes, fmt.Sprintf("%v; it is left out, as one a minute would be wrong about %.0f %% of the calls", t, 100*float64(w)/float64(len(calls))))
			continue
		}
		*l = next
		return append(notes, fmt.Sprintf("%v; it is taken for one a minute", t))
	}
	return notes
}
