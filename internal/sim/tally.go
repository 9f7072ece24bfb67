package sim

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
)

// Result is what happened in a run.
type Result struct {
	// Offered is how many requests the workload wanted served; OK, Failed, Refused and
	// Unfinished add up to it.
	Offered, OK, Failed, Refused, Unfinished int64
	// InTime is how many of OK succeeded before the horizon.
	InTime int64
	// Sent is how many attempts were sent; Rejected is how many of them were answered with 429.
	Sent, Rejected int64
	// Reasons is how many requests the guard refused, by reason.
	Reasons [admission.NumReasons]int64
	// Classes is how many attempts ended, by class.
	Classes [feedback.NumClasses]int64
	// Latencies of the requests that succeeded, from their intended arrival, in the order in which they ended.
	Latencies []time.Duration
	// MeanLimit and MeanInFlight are means over Duration; MeanLimit is NaN without a guard.
	MeanLimit, MeanInFlight float64
	// Starts is how many calls the server started, QueueWait how long they were queued there together, and
	// ServerTime how long those that were served took together.
	Starts                int64
	QueueWait, ServerTime time.Duration
	Series                Series
	Decisions             []Step
	// Events is how many events happened, and Hash depends on each of them.
	Events uint64
	Hash   uint64
}

// Series is a run over time: element i covers [i·Step, (i+1)·Step) within Duration.
type Series struct {
	Step time.Duration
	// Limit and Pace are those in force at the end of the step; NaN when there is none.
	Limit, Pace []float64
	// InFlight and Waiting are means over the step.
	InFlight, Waiting []float64
	// OK and Rejected are how many successes and 429s there were in the step.
	OK, Rejected []float64
}

// tally is the books of a run.
type tally struct {
	arrived                   int64
	ok, failed, refused       int64
	inTime                    int64
	sent, rejected            int64
	reasons                   [admission.NumReasons]int64
	classes                   [feedback.NumClasses]int64
	in                        [numStatus]int64
	horizon, measured         int64
	limitArea, inFlightArea   float64
	step, stepEnd             int64
	stepInFlight, stepWaiting float64 // ns
	index                     int

	// For Little's law: sums of whole ns, which may wrap; equality survives that.
	systemArea, sojournSum uint64
	flightArea, attemptSum uint64
	busyArea, servedSum    uint64
}

func (t *tally) init(cfg *Config) {
	t.horizon, t.measured = int64(cfg.horizon()), int64(cfg.Duration)
	t.step = int64(cfg.Step)
	t.stepEnd = t.step
	if t.step == 0 {
		t.stepEnd = never
	}
}

// inSystem returns how many requests have arrived and not ended.
func (t *tally) inSystem() int64 { return t.in[waiting] + t.in[inFlight] + t.in[resting] }

// advance counts the time in which nothing happens.
func (t *tally) advance(r *run, from, to int64) {
	dt := uint64(to - from)
	t.systemArea += dt * uint64(t.inSystem())
	t.flightArea += dt * uint64(t.in[inFlight])
	t.busyArea += dt * uint64(r.up.busy)
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
	}
}

func (t *tally) succeeded(r *run, q *request) {
	t.ok++
	if r.now <= t.horizon {
		t.inTime++
	}
	if t.step > 0 && r.now < t.measured {
		t.grow(&r.res.Series)
		r.res.Series.OK[t.index]++
	}
	r.res.Latencies = append(r.res.Latencies, time.Duration(r.now-q.due))
}

func (t *tally) attempt(r *run, q *request, a *answer) {
	t.attemptSum += uint64(r.now - q.sent)
	t.classes[a.outcome.Class]++
	if a.status == 429 {
		t.rejected++
		if t.step > 0 && r.now < t.measured {
			t.grow(&r.res.Series)
			r.res.Series.Rejected[t.index]++
		}
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
	s.Sent, s.Rejected = t.sent, t.rejected
	s.Reasons, s.Classes = t.reasons, t.classes
	s.Starts, s.QueueWait, s.ServerTime = r.up.starts, time.Duration(r.up.waitSum), time.Duration(t.servedSum)
	over := float64(min(t.measured, max(r.now, 1)))
	s.MeanInFlight = t.inFlightArea / over
	s.MeanLimit = math.NaN()
	if r.guarded {
		s.MeanLimit = t.limitArea / over
	}
	if t.step > 0 {
		s.Series.Step = time.Duration(t.step)
		for t.stepEnd != never { // a run that ended early stands still until its end
			t.endStep(r)
			t.stepEnd += t.step
			if t.stepEnd > t.measured {
				t.stepEnd = never
			}
		}
		n := len(s.Series.Limit)
		for len(s.Series.OK) < n {
			s.Series.OK = append(s.Series.OK, 0)
			s.Series.Rejected = append(s.Series.Rejected, 0)
		}
		s.Series.OK, s.Series.Rejected = s.Series.OK[:n], s.Series.Rejected[:n]
	}
}
