package sim

import (
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/upstream"
)

// Result is what happened in a run.
type Result struct {
	// Offered is how many requests the workload wanted served; OK, Failed, Refused and
	// Unfinished add up to it.
	Offered, OK, Failed, Refused, Unfinished int64
	// InTime is how many of OK succeeded before the horizon, and TokensInTime their tokens, input and output together.
	InTime, TokensInTime int64
	// Finished is when the last success came back: the length of a batch that was done.
	Finished time.Duration
	// Sent is how many attempts were sent; Rejected is how many of them were answered with 429.
	Sent, Rejected int64
	// Inside is how many attempts were sent although an answer had asked that replica and key to wait.
	Inside int64
	// Tokens is how many tokens the successes had, TokensWasted how many were generated for callers who had hung up.
	Tokens, TokensWasted int64
	// Stages is how many attempts each stage of the upstream refused.
	Stages [upstream.NumStages]int64
	// Reasons is how many requests the guard refused, by reason.
	Reasons [admission.NumReasons]int64
	// Classes is how many attempts ended, by class.
	Classes [feedback.NumClasses]int64
	// Causes is how many decisions there were, by cause; Cuts is how many began an episode, and Attributed how many of those
	// named the limit that the last refusal before came from.
	Causes           [adaptive.NumCauses]int64
	Cuts, Attributed int64
	// Latencies of the requests that succeeded, from their intended arrival, in the order in which they ended.
	Latencies []time.Duration
	// FirstBytes, PerToken and Waits are, for each of the same requests, the time from its intended arrival to the first byte
	// of its answer, the time for each token after the first, and the time in the guard; kept when Config.Samples is set. FirstBytes and
	// PerToken are only kept for a workload that streams.
	FirstBytes, PerToken, Waits []time.Duration
	// LongestWait is the longest time that a request waited in a guard at a stretch.
	LongestWait time.Duration
	// Releases are the instants at which an upstream's delay ended, and how many attempts all replicas sent in the second after.
	Releases []Release
	// MeanLimit and MeanInFlight are means over Duration, of a batch until it is done; MeanLimit is NaN without a guard.
	MeanLimit, MeanInFlight float64
	// Starts is how many calls the servers started, QueueWait how long they were queued there together, and
	// ServerTime how long the servers worked.
	Starts                int64
	QueueWait, ServerTime time.Duration
	Preemptions           uint64
	Series                Series
	// Replicas and Tenants are what each had; nil where there is only one.
	Replicas, Tenants []Share
	Decisions         []Step
	// Events is how many events happened, and Hash depends on each of them.
	Events uint64
	Hash   uint64
}

// Share is what one replica or tenant had.
type Share struct {
	Offered, OK, Rejected, Tokens int64
	// Join is when it came, and Present how long it was there within Duration.
	Join, Present time.Duration
	// Series is its successes in each step; nil when none are kept.
	Series []float64
}

// Release is the end of a delay that an upstream asked for.
type Release struct {
	At    time.Duration
	Sends int
}

// Series is a run over time: element i covers [i·Step, (i+1)·Step) within Duration.
type Series struct {
	Step time.Duration
	// Limit and Pace are those in force at the end of the step, of all replicas together; NaN when there is none.
	Limit, Pace []float64
	// InFlight and Waiting are means over the step.
	InFlight, Waiting []float64
	// OK, Rejected and Sent are how many successes, 429s and attempts there were in the step, and Tokens those of the
	// successes.
	OK, Rejected, Sent, Tokens []float64
}

// tally is the books of a run.
type tally struct {
	arrived                   int64
	ok, failed, refused       int64
	inTime                    int64
	sent, rejected            int64
	inside                    int64
	reasons                   [admission.NumReasons]int64
	classes                   [feedback.NumClasses]int64
	in                        [numStatus]int64
	horizon, measured         int64
	limitArea, inFlightArea   float64
	step, stepEnd             int64
	stepInFlight, stepWaiting float64 // ns
	index                     int
	longest                   int64
	last                      *signal // that the guard is told of
	release                   int64   // when the last delay that was asked for ends
	samples, several, streams bool

	// For Little's law: sums of whole ns, which may wrap; equality survives that.
	systemArea, sojournSum uint64
	flightArea, attemptSum uint64
	busyArea               uint64
}

func (t *tally) init(cfg *Config, res *Result) {
	t.horizon, t.measured = int64(cfg.horizon()), int64(cfg.Duration)
	t.step = int64(cfg.Step)
	t.stepEnd = t.step
	if t.step == 0 {
		t.stepEnd = never
	} else {
		// One piece of memory for all series; what is added after the last step is cut off.
		n := int(t.measured/t.step) + 1
		all := make([]float64, 8*n)
		cut := func() []float64 { xs := all[:0:n]; all = all[n:]; return xs }
		s := &res.Series
		s.Limit, s.Pace, s.InFlight, s.Waiting = cut(), cut(), cut(), cut()
		s.OK, s.Rejected, s.Sent, s.Tokens = cut(), cut(), cut(), cut()
	}
	t.samples = cfg.Samples
	t.several = len(cfg.Replicas) > 1 || len(cfg.Workload.Tenants) > 1
	t.streams = cfg.Workload.Streams
	t.release = -1
}

// inSystem returns how many requests have arrived and not ended.
func (t *tally) inSystem() int64 { return t.in[waiting] + t.in[inFlight] + t.in[resting] }

// advance counts the time in which nothing happens.
func (t *tally) advance(r *run, from, to int64) {
	dt := uint64(to - from)
	t.systemArea += dt * uint64(t.inSystem())
	t.flightArea += dt * uint64(t.in[inFlight])
	t.busyArea += dt * uint64(r.up.Busy())
	if from >= t.measured {
		return
	}
	to = min(to, t.measured)
	for to >= t.stepEnd {
		t.pass(r, from, t.stepEnd)
		from = t.stepEnd
		t.endStep(r)
		t.stepEnd += t.step
		if t.stepEnd > t.measured {
			t.stepEnd = never
		}
	}
	t.pass(r, from, to)
}

func (t *tally) pass(r *run, from, to int64) {
	dt := float64(to - from)
	f := float64(t.in[inFlight])
	t.inFlightArea += dt * f
	t.limitArea += dt * float64(r.limit)
	t.stepInFlight += dt * f
	t.stepWaiting += dt * float64(t.in[waiting])
}

func (t *tally) endStep(r *run) {
	s, per := &r.res.Series, 1/float64(t.step)
	t.grow(s)
	s.InFlight = append(s.InFlight, t.stepInFlight*per)
	s.Waiting = append(s.Waiting, t.stepWaiting*per)
	limit, pace := math.NaN(), math.NaN()
	if r.guarded {
		limit = float64(r.limit)
		if r.pace > 0 {
			pace = r.pace
		}
	}
	s.Limit = append(s.Limit, limit)
	s.Pace = append(s.Pace, pace)
	t.stepInFlight, t.stepWaiting = 0, 0
	t.index++
}

// grow makes room for the events of the present step.
func (t *tally) grow(s *Series) {
	for len(s.OK) <= t.index {
		s.OK = append(s.OK, 0)
		s.Rejected = append(s.Rejected, 0)
		s.Sent = append(s.Sent, 0)
		s.Tokens = append(s.Tokens, 0)
	}
}

// stepping reports whether the present step is kept, and makes room for it.
func (t *tally) stepping(r *run) bool {
	if t.step == 0 || r.now >= t.measured {
		return false
	}
	t.grow(&r.res.Series)
	return true
}

// shares calls f with the share of q's replica, and of its tenant.
func (t *tally) shares(r *run, q *request, f func(*Share)) {
	if n := len(r.cfg.Replicas); n > 1 {
		if r.res.Replicas == nil {
			r.res.Replicas = make([]Share, n)
		}
		f(&r.res.Replicas[q.rep])
	}
	if n := len(r.cfg.Workload.Tenants); n > 1 {
		if r.res.Tenants == nil {
			r.res.Tenants = make([]Share, n)
		}
		f(&r.res.Tenants[q.tenant])
	}
}

func (t *tally) sending(r *run, q *request) {
	t.sent++
	if t.stepping(r) {
		r.res.Series.Sent[t.index]++
	}
	if t.release >= 0 && r.now >= t.release {
		t.releases(r)
	}
}

// came counts a request that has arrived.
func (t *tally) came(r *run, q *request) {
	t.arrived++
	if t.several {
		t.shares(r, q, func(s *Share) { s.Offered++ })
	}
}

func (t *tally) succeeded(r *run, q *request) {
	t.ok++
	r.res.Finished = time.Duration(r.now)
	tokens := q.input + q.output
	r.res.Tokens += tokens
	if r.now <= t.horizon {
		t.inTime++
		r.res.TokensInTime += tokens
	}
	if t.stepping(r) {
		r.res.Series.OK[t.index]++
		r.res.Series.Tokens[t.index] += float64(tokens)
	}
	r.res.Latencies = append(r.res.Latencies, time.Duration(r.now-q.due))
	if t.samples {
		r.res.Waits = append(r.res.Waits, time.Duration(q.waited))
		if t.streams {
			r.res.FirstBytes = append(r.res.FirstBytes, time.Duration(q.first-q.due))
			if q.output > 1 {
				r.res.PerToken = append(r.res.PerToken, time.Duration((r.now-q.first)/(q.output-1)))
			}
		}
	}
	if t.several {
		t.shares(r, q, func(s *Share) {
			s.OK++
			s.Tokens += tokens
			if t.step > 0 && r.now < t.measured {
				for len(s.Series) <= t.index {
					s.Series = append(s.Series, 0)
				}
				s.Series[t.index]++
			}
		})
	}
}

func (t *tally) attempt(r *run, q *request, sig *signal) {
	t.attemptSum += uint64(r.now - q.sent)
	t.classes[sig.outcome.Class]++
	r.res.Stages[sig.stage]++
	if sig.status == 429 {
		t.rejected++
		if t.stepping(r) {
			r.res.Series.Rejected[t.index]++
		}
		if t.several {
			t.shares(r, q, func(s *Share) { s.Rejected++ })
		}
	}
}

// waitedFor counts the wait of a request whose wait in the guard has ended.
func (t *tally) waitedFor(r *run, q *request) {
	wait := r.now - q.asked
	q.waited += wait
	t.longest = max(t.longest, wait)
}

// gated notes until when an upstream asked to wait.
func (t *tally) gated(until int64) { t.release = until }

// mostReleases is how many ends of delays are kept.
const mostReleases = 1000

// releases counts an attempt that is sent after a delay has ended.
func (t *tally) releases(r *run) {
	if r.now >= t.release+int64(time.Second) {
		t.release = -1
		return
	}
	list := r.res.Releases
	if n := len(list); n == 0 || list[n-1].At != time.Duration(t.release) {
		if n >= mostReleases {
			return
		}
		list = append(list, Release{At: time.Duration(t.release)})
		r.res.Releases = list
	}
	list[len(list)-1].Sends++
}

// decided counts a decision, and for one that begins an episode whether it names the limit that it met.
func (t *tally) decided(r *run, _ *guarded, d *adaptive.Decision, cut bool) {
	r.res.Causes[min(int(d.Cause), adaptive.NumCauses-1)]++
	if !cut || t.last == nil {
		return
	}
	r.res.Cuts++
	truth := feedback.ScopeNone
	switch t.last.stage {
	case upstream.StageQuota:
		truth = [...]feedback.Scope{feedback.ScopeRequests, feedback.ScopeInputTokens, feedback.ScopeOutputTokens, feedback.ScopeTokens}[t.last.counter]
	case upstream.StageConcurrency:
		truth = feedback.ScopeConcurrency
	}
	if d.Binding == truth {
		r.res.Attributed++
	}
}

// sojourn counts the time that a request that ends was in the world. A job of a batch is in it from when a worker took
// it up; its latency counts from when it was due.
func (t *tally) sojourn(r *run, q *request) { t.sojournSum += uint64(r.now - q.begun) }

// close writes the books into the result.
func (t *tally) close(r *run) {
	s := r.res
	s.OK, s.Failed, s.Refused, s.InTime = t.ok, t.failed, t.refused, t.inTime
	s.Offered = t.arrived
	if w := &r.cfg.Workload; w.Kind == Backlog && w.Jobs > 0 {
		s.Offered = int64(w.Jobs)
	}
	s.Unfinished = s.Offered - s.OK - s.Failed - s.Refused
	s.Sent, s.Rejected, s.Inside = t.sent, t.rejected, t.inside
	s.Reasons, s.Classes = t.reasons, t.classes
	s.LongestWait = time.Duration(t.longest)
	s.TokensWasted = r.up.Wasted()
	s.Starts, s.QueueWait, s.ServerTime = r.up.Starts(), time.Duration(r.up.QueueWait()), time.Duration(r.up.Worked(r.now))
	s.Preemptions = r.up.Preemptions()
	over := float64(t.measured)
	if w := &r.cfg.Workload; w.Kind == Backlog && w.Jobs > 0 && r.now > 0 { // until it is done
		over = min(over, float64(r.now))
	} else { // the limit stands still until the end
		t.limitArea += max(0, over-float64(r.now)) * float64(r.limit)
	}
	s.MeanInFlight = t.inFlightArea / over
	s.MeanLimit = math.NaN()
	if r.guarded {
		s.MeanLimit = t.limitArea / over
	}
	for i, p := range r.cfg.Replicas {
		if s.Replicas == nil {
			break
		}
		leave := r.cfg.Duration
		if p.Leave > 0 {
			leave = min(leave, p.Leave)
		}
		s.Replicas[i].Join, s.Replicas[i].Present = p.Join, max(0, leave-p.Join)
	}
	for i := range s.Tenants {
		s.Tenants[i].Present = r.cfg.Duration
	}
	if t.step == 0 {
		return
	}
	s.Series.Step = time.Duration(t.step)
	for t.stepEnd != never { // a run that ended early stands still until its end
		t.endStep(r)
		t.stepEnd += t.step
		if t.stepEnd > t.measured {
			t.stepEnd = never
		}
	}
	n := len(s.Series.Limit)
	fit := func(xs []float64) []float64 {
		if len(xs) > n {
			return xs[:n]
		}
		return append(xs, make([]float64, n-len(xs))...)
	}
	s.Series.OK, s.Series.Rejected = fit(s.Series.OK), fit(s.Series.Rejected)
	s.Series.Sent, s.Series.Tokens = fit(s.Series.Sent), fit(s.Series.Tokens)
	for _, list := range [][]Share{s.Replicas, s.Tenants} {
		for i := range list {
			list[i].Series = slices.Clip(fit(list[i].Series))
		}
	}
}
