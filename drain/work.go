package drain

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

const (
	backoffFirst = 500 * time.Millisecond // the most before the second attempt, when the upstream named no delay
	backoffMost  = 30 * time.Second
	retryLeast   = time.Second // a job that goes back to its source stays there for so long
	saveFirst    = 50 * time.Millisecond
	saveMost     = 5 * time.Second
	savePause    = time.Second // how often it is asked whether what failed can be made durable again
)

// work sends a job until it has come to an end.
func (r *Runner) work(t *task) {
	for {
		// Whatever is sent while nothing can be made durable is paid for in vain when that goes on.
		if r.failing.Load() > 0 {
			if !r.sitOut(t, savePause, "results cannot be made durable") {
				return
			}
			continue
		}
		permit, again, fault := r.admit(t)
		if fault != nil {
			r.bury(t, *fault)
			return
		}
		if !permit.held() {
			if again == 0 {
				r.giveBack(t)
				return
			}
			if !r.sitOut(t, again, "the guard let nothing start") {
				return
			}
			continue
		}
		if end := r.overtaken(t); end != nil {
			permit.abandon()
			end(r, t)
			return
		}
		if r.failing.Load() > 0 {
			permit.abandon()
			r.waits(t)
			continue
		}
		waits := t.held
		r.hold(t, 0)
		r.sending.Add(1)
		t.sent = time.Now()
		a := r.send(t, &permit)
		r.sending.Add(-1)
		t.attempts++
		if a.Class == feedback.OK && !a.TooLarge {
			r.save(t, &a)
			return
		}
		r.hold(t, waits)
		wait, done := r.judge(t, &a)
		if !done {
			said := a.describe()
			r.trouble.Store(&said)
			r.waits(t)
		}
		if done || !r.sitOut(t, wait, "refused: "+a.Class.String()) {
			return
		}
	}
}

// waits tells the source that a task waits for another attempt.
func (r *Runner) waits(t *task) {
	if r.waiter != nil {
		r.waiter.Waits(t.d)
	}
}

// overtaken returns what ends a task that must not be sent after all, because of what happened while it waited; nil when there is nothing.
// Who got a delivery that was lost here may have done the job meanwhile, and so may have who had it before: he had a call in flight when it
// was taken away from him.
func (r *Runner) overtaken(t *task) (end func(*Runner, *task)) {
	if r.lostAll(t) {
		return (*Runner).drop
	}
	return r.finished(t.job)
}

// finished returns what ends a task whose job has a result; nil when it has none.
func (r *Runner) finished(job *Job) (end func(*Runner, *task)) {
	switch h, ok := r.cfg.Store.Has(job.ID); {
	case !ok:
		return nil
	case h == job.Hash:
		return (*Runner).again
	}
	return buryWith(Fault{ReasonConflict, fmt.Sprintf("a result under the id %q is there, of a job with other content", job.ID)})
}

// lostAll reports whether the source has lost a task's delivery and those that were the same; then the task is off the list of those on
// their way, and so are those behind it in its lane that are lost as well: one by one, they would go before what comes again for it.
func (r *Runner) lostAll(t *task) bool {
	if r.keeper == nil || !r.keeper.Lost(t.d) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.lostNow(t) {
		return false
	}
	if t.lane != nil {
		t.lane.wait = slices.DeleteFunc(t.lane.wait, func(o *task) bool {
			lost := r.lostNow(o)
			if lost {
				o.lane = nil
				t.behind = append(t.behind, o)
			} else {
				r.waits(o) // it was only asked
			}
			return lost
		})
	}
	return true
}

// lostNow is lostAll for one task. A delivery that is not lost takes the place of one that is. It needs the lock.
func (r *Runner) lostNow(t *task) bool {
	if !r.keeper.Lost(t.d) {
		return false
	}
	for i, d := range t.same {
		if !r.keeper.Lost(d) {
			t.d, t.same[i] = d, t.d
			return false
		}
	}
	if r.active[t.job.ID] == t {
		delete(r.active, t.job.ID)
	}
	return true
}

// drop ends a task that will be delivered again, to whomever.
func (r *Runner) drop(t *task) {
	r.settle(t, func(ctx context.Context, d *Delivery) error {
		if err := r.cfg.Source.Release(ctx, d); err != nil {
			return err
		}
		return ErrLost
	})
	for _, o := range t.behind {
		r.drop(o)
		r.leave(o)
	}
}

// send sends a job under a permit, and gives the permit back.
func (r *Runner) send(t *task, p *pass) (a Answer) {
	a.Class = feedback.Canceled // a panic says nothing about the upstream
	defer func() { p.release(&a) }()
	if p.keyed.Held() {
		return r.keyed.SendWith(r.working, t.job, p.keyed.Secret())
	}
	return r.cfg.Upstream.Send(r.working, t.job)
}

// admit waits for a permit. Without one it returns why the job is dead, or how long until it is worth asking again; 0 when the
// run stops.
func (r *Runner) admit(t *task) (p pass, again time.Duration, f *Fault) {
	req := r.cfg.Request(t.job)
	req.Retry = req.Retry || t.attempts > 0
	ctx := r.stopping
	if until := r.holdUntil(t); !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	err := r.acquire(ctx, t, req, &p)
	if err == nil {
		return p, 0, nil
	}
	if r.stopping.Err() != nil {
		return p, 0, nil
	}
	reason, at, ok := rejected(err)
	if !ok {
		return p, max(retryLeast, r.paused()), nil // it may not be held any longer
	}
	if stop, left := r.keysOut(err); stop {
		return p, left, nil
	}
	switch reason {
	case limiter.ReasonTooLarge:
		return p, 0, &Fault{ReasonTooLarge, err.Error()}
	case limiter.ReasonClosed:
		r.stop(err)
		return p, 0, nil
	}
	again = 100 * time.Millisecond // the queue is full, or it waited for as long as the guard lets it
	switch {
	case reason == limiter.ReasonPaused && r.cfg.Pool == nil:
		again = max(again, r.paused()) // at is what the upstream said; the guard may find out sooner
	case !at.IsZero():
		again = max(again, time.Until(at))
	}
	return p, again, nil
}

// holdUntil returns until when a delivery may be held; zero when nothing says so.
func (r *Runner) holdUntil(t *task) time.Time {
	if r.cfg.Ordered && t.d.Key != "" {
		return time.Time{} // those behind it would overtake it
	}
	until := t.d.HoldUntil
	if until.IsZero() && r.cfg.MaxHold > 0 {
		until = t.first.Add(r.cfg.MaxHold)
	}
	return until
}

// judge says what is to become of a job whose attempt did not end well: it is over (done), or it is to wait before the next
// attempt.
func (r *Runner) judge(t *task, a *Answer) (wait time.Duration, done bool) {
	t.last = *a
	t.last.Body = a.Body[:min(len(a.Body), 64<<10)]
	if a.TooLarge {
		r.bury(t, Fault{ReasonAnswer, "the answer is larger than it may be; it was most likely paid for"})
		return 0, true
	}
	if a.Unsent && errors.Is(a.Err, limiter.ErrRejected) {
		if wait, done, ok := r.barred(t, a.Err); ok {
			return wait, done
		}
	}
	if r.otherKey(t, a) {
		return 0, false
	}
	switch a.Class {
	case feedback.Throttled, feedback.Overloaded:
		if a.Begun {
			break // it is no refusal of the job
		}
		r.count(&r.throttled)
		if time.Since(t.since) > r.cfg.GiveUp {
			r.bury(t, Fault{ReasonGaveUp, fmt.Sprintf("refused for %v: %s", r.cfg.GiveUp, a.describe())})
			return 0, true
		}
		return r.backoff(t, a), false
	case feedback.QuotaExhausted:
		if a.Key == limiter.KeyForbidden { // a model that is not in the plan: others may be
			return 0, r.refused(t, a)
		}
		return r.exhausted(t, a)
	case feedback.Canceled:
		if r.working.Err() != nil || r.stopping.Err() != nil {
			if a.Unsent {
				r.giveBack(t)
			} else {
				r.cutOff(t)
			}
			return 0, true
		}
	case feedback.ClientError:
		if t.failed++; a.Retryable && t.failed < r.cfg.MaxAttempts { // a 409, say, that the upstream calls passing
			return r.backoff(t, a), false
		}
		return 0, r.refused(t, a)
	}
	if a.Unsent {
		if time.Since(t.since) > r.cfg.GiveUp {
			r.bury(t, Fault{ReasonGaveUp, fmt.Sprintf("not reached for %v: %s", r.cfg.GiveUp, a.describe())})
			return 0, true
		}
		return r.backoff(t, a), false
	}
	r.count(&r.failed)
	t.failed++
	switch {
	case !r.cfg.Idempotent:
		r.bury(t, Fault{ReasonAmbiguous, "it may have been done and paid for: " + a.describe()})
	case t.failed >= r.cfg.MaxAttempts:
		r.bury(t, Fault{ReasonAttempts, fmt.Sprintf("it failed %d times: %s", t.failed, a.describe())})
	default:
		return r.backoff(t, a), false
	}
	if r.tooMany(t.sent) { // an outage must not take the whole queue
		r.stop(fmt.Errorf("%w: %d in a row, the last with %s", ErrFailing, r.cfg.StopAfter, a.describe()))
	}
	return 0, true
}

// barred deals with a refusal by a guard in the base of an upstream that asking again does not change, as admit does with one by the run's own. It
// reports !ok when asking again may help.
func (r *Runner) barred(t *task, err error) (wait time.Duration, done, ok bool) {
	if out, left := r.keysOut(err); out {
		if left == 0 {
			r.giveBack(t)
		}
		return left, left == 0, true
	}
	switch reason, _, _ := rejected(err); reason {
	case limiter.ReasonTooLarge:
		r.bury(t, Fault{ReasonTooLarge, err.Error()})
	case limiter.ReasonClosed:
		r.stop(err)
		r.giveBack(t)
	default:
		return 0, false, false
	}
	return 0, true, true
}

// tooMany counts a job that came to nothing, and reports whether more than Config.StopAfter did so since one ended well. All that is on its way
// fails at once where a connection breaks, so half as many must have been sent after the first of them was answered. A refusal counts for that whenever it was sent (zero).
func (r *Runner) tooMany(sent time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.straight == 0 {
		r.firstBad, r.later = time.Now(), 0
	}
	r.straight++
	if sent.IsZero() || !sent.Before(r.firstBad) {
		r.later++
	}
	return r.cfg.StopAfter > 0 && r.straight > r.cfg.StopAfter && 2*r.later >= r.cfg.StopAfter
}

// refused ends a job that the upstream refuses for what it is. It stops the run when that is the run's fault, most likely.
func (r *Runner) refused(t *task, a *Answer) bool {
	if a.Key == limiter.KeyUnauthorized || a.Status == 401 && a.Key != limiter.KeyForbidden {
		r.stop(fmt.Errorf("%w: %s", ErrUnauthorized, a.describe()))
		r.giveBack(t)
		return true
	}
	if a.Status == 0 {
		// No such host, no trust in its certificate: that is nothing about the job.
		r.stop(fmt.Errorf("drain: the upstream cannot be reached: %w", a.Err))
		r.giveBack(t)
		return true
	}
	if r.tooMany(time.Time{}) {
		r.stop(fmt.Errorf("%w: %d in a row, the last with %s", ErrRefused, r.cfg.StopAfter, a.describe()))
		r.giveBack(t)
		return true
	}
	r.bury(t, Fault{ReasonRefused, a.describe()})
	return true
}

// exhausted deals with a quota that is used up.
func (r *Runner) exhausted(t *task, a *Answer) (wait time.Duration, done bool) {
	pause := r.cfg.QuotaPause
	if pause == 0 {
		r.stop(fmt.Errorf("%w: %s", ErrQuota, a.describe()))
		r.giveBack(t)
		return 0, true
	}
	if a.HasRetryAfter {
		pause = max(pause, a.RetryAfter)
	}
	if r.cfg.Pool != nil { // which keeps the key out, and probes it
		return time.Millisecond, false
	}
	r.cfg.Guard.Pause(time.Now().Add(pause))
	if !r.pauses() {
		return pause, false
	}
	return time.Millisecond, false // the guard says when
}

// backoff returns how long a job waits that is to be sent again: with full jitter, and not before the upstream said. For a named
// delay the guard keeps everybody back, and lets them go one after another, unless it holds nothing back.
func (r *Runner) backoff(t *task, a *Answer) time.Duration {
	if a.HasRetryAfter && a.RetryAfter > 0 {
		if a.Scope != feedback.ScopeConcurrency && (a.Class == feedback.Throttled || a.Class == feedback.Overloaded) && r.pauses() {
			return time.Millisecond
		}
		wait := min(a.RetryAfter, r.cfg.GiveUp) // whatever was named, it is tried once more then
		return wait + rand.N(min(backoffMost, wait/20)+1)
	}
	most := backoffMost
	if shift := max(0, t.attempts-1); shift < 10 {
		most = min(most, backoffFirst<<shift)
	}
	return time.Millisecond + rand.N(most)
}

// sitOut waits for a job's next attempt. It reports false when the job is settled instead: it went back to its source, because
// the run stops, or because the wait is longer than it may be held.
func (r *Runner) sitOut(t *task, wait time.Duration, why string) bool {
	if until := r.holdUntil(t); !until.IsZero() && time.Now().Add(wait).After(until) {
		r.count(&r.retried)
		r.settle(t, func(ctx context.Context, d *Delivery) error {
			return r.insist(func() error { return r.cfg.Source.Retry(ctx, d, max(wait, retryLeast), why) })
		})
		return false
	}
	if limiter.Sleep(r.stopping, wait) != nil {
		r.giveBack(t)
		return false
	}
	return true
}

// describe says in a few words how an attempt ended.
func (a *Answer) describe() string {
	s := a.Class.String()
	if a.Status > 0 {
		s = fmt.Sprintf("status %d (%s)", a.Status, s)
	}
	if a.Err != nil {
		s += ": " + a.Err.Error()
	} else if len(a.Body) > 0 {
		s += ": " + string(a.Body[:min(len(a.Body), 300)])
	}
	return s
}

// save makes a job's result durable and then says that it is done.
func (r *Runner) save(t *task, a *Answer) {
	r.answer(t, a.Body)
	r.mu.Lock()
	r.straight = 0
	r.mu.Unlock()
	if t.barred != "" && t.barred != t.key {
		r.cfg.Pool.Suspect(t.barred)
	}
	res := &Result{ID: t.job.ID, Hash: t.job.Hash, Status: a.Status, RequestID: a.RequestID, Body: a.Body, Usage: a.Usage, Attempts: t.attempts}
	if !r.put(r.cfg.Store, res) {
		r.giveBack(t)
		return
	}
	r.spent(t.job, a)
	r.reply(t, res)
}

// again ends a job whose result is there already.
func (r *Runner) again(t *task) {
	r.count(&r.known)
	var res *Result
	if r.cfg.Reply != nil {
		var err error
		if res, err = r.cfg.Store.Get(r.settling, t.job.ID); err != nil {
			r.stop(err)
			r.giveBack(t)
			return
		}
	}
	r.reply(t, res)
}

// reply hands a durable result on, when anybody wants it, and acknowledges the job.
func (r *Runner) reply(t *task, res *Result) {
	if r.cfg.Reply != nil && !r.put(r.cfg.Reply, res) {
		r.giveBack(t)
		return
	}
	r.settle(t, r.cfg.Source.Ack)
}

// put puts a result into a sink, for as long as Config.Patience while that fails; then it stops the run.
func (r *Runner) put(s Sink, res *Result) bool {
	if err := r.insist(func() error { return s.Put(r.settling, res) }); err != nil {
		r.stop(fmt.Errorf("drain: the result of %q could not be made durable: %w", res.ID, err))
		return false
	}
	return true
}

// insist calls save until it succeeds or says that the delivery is lost, for as long as Config.Patience. Nothing is sent meanwhile.
func (r *Runner) insist(save func() error) error {
	var since time.Time
	for wait := saveFirst; ; wait = min(2*wait, saveMost) {
		err := save()
		if err == nil || errors.Is(err, ErrLost) {
			return err
		}
		r.count(&r.unsavedErrors)
		if since.IsZero() {
			since = time.Now()
			r.failing.Add(1)
			defer r.failing.Add(-1)
		}
		if time.Since(since) >= r.cfg.Patience || limiter.Sleep(r.settling, wait) != nil {
			return err
		}
	}
}

// bury makes a dead letter of a job.
func (r *Runner) bury(t *task, f Fault) {
	letter := &DeadLetter{
		Fault: f, Status: t.last.Status, RequestID: t.last.RequestID, Attempts: t.attempts, Answer: t.last.Body, At: time.Now(),
	}
	if t.job != nil {
		letter.ID = t.job.ID
	} else {
		letter.ID = faultyID(t.d)
	}
	dead := func(ctx context.Context, d *Delivery) error {
		return r.insist(func() error { return r.cfg.Source.Dead(ctx, d, letter) })
	}
	ok := r.tell(t.d, dead)
	if t.job != nil && t.attempts > t.d.Attempts {
		r.remember(t, f, ok)
	}
	for _, d := range r.forget(t) {
		if ok {
			r.tell(d, r.cfg.Source.Ack) // the same job: its dead letter is there
		} else if ok = r.tell(d, dead); ok && t.job != nil {
			r.remember(t, f, ok)
		}
	}
	if ok {
		r.count(&r.dead)
		if r.cfg.OnDead != nil {
			r.cfg.OnDead(t.d, letter)
		}
	}
}

// remember keeps why a job that was sent is dead for as long as its source has no dead letter of it: when it is delivered again, it is
// put aside and not sent again. Once there is a dead letter, it is only known that there is one: whether the source will deliver the job again
// because what was settled did not arrive there, as with a connection that is cut or offsets that were not committed, nobody knows.
func (r *Runner) remember(t *task, f Fault, buried bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if buried {
		delete(r.unburied, t.job.ID)
		r.letters.add(t.job)
	} else {
		r.unburied[t.job.ID] = ended{t, f}
	}
}

// cutOff ends a job whose call was cut off because the run stops. It may have had its effect.
func (r *Runner) cutOff(t *task) {
	if r.cfg.Idempotent {
		r.giveBack(t)
		return
	}
	r.bury(t, Fault{ReasonAmbiguous, "its call was cut off when the run was stopped; it may have been done and paid for"})
}

// giveBack hands a job back at the end of a run.
func (r *Runner) giveBack(t *task) {
	r.count(&r.released)
	r.settle(t, r.cfg.Source.Release)
}

// release hands back a delivery that no task was made of.
func (r *Runner) release(d *Delivery) {
	r.count(&r.fetched)
	r.count(&r.released)
	r.tell(d, r.cfg.Source.Release)
}

// settle tells the source what became of a job, and of those that were the same.
func (r *Runner) settle(t *task, f func(context.Context, *Delivery) error) {
	r.tell(t.d, f)
	for _, d := range r.forget(t) {
		r.tell(d, f)
	}
}

// forget takes a job off the list of those on their way, and returns the deliveries that were the same.
func (r *Runner) forget(t *task) []*Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.job != nil && r.active[t.job.ID] == t {
		delete(r.active, t.job.ID)
	}
	return t.same
}

// tell tells the source what became of a delivery. What the source has lost will be delivered again.
func (r *Runner) tell(d *Delivery, f func(context.Context, *Delivery) error) bool {
	err := f(r.settling, d)
	switch {
	case err == nil:
		return true
	case errors.Is(err, ErrLost):
		r.count(&r.lost)
	default:
		r.stop(fmt.Errorf("drain: settling %s: %w", d.Where, err))
	}
	return false
}
