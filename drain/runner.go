package drain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrQuota is why a run stopped: the upstream says that money or a quota is used up.
var ErrQuota = errors.New("drain: the upstream says that the quota is used up")

// ErrUnauthorized is why a run stopped: the upstream does not accept the key.
var ErrUnauthorized = errors.New("drain: the upstream does not accept the key")

// ErrRefused is why a run stopped: the upstream refused Config.StopAfter jobs in a row for what they are.
var ErrRefused = errors.New("drain: the upstream refuses every job")

// ErrFailing is why a run stopped: Config.StopAfter jobs in a row failed, and became dead letters.
var ErrFailing = errors.New("drain: the upstream fails every job")

// Runner drains one source. Make it with New; Run it once.
type Runner struct {
	cfg   Config
	keyed KeyUpstream // Config.Upstream, with a Pool
	// keeper is Config.Source, when it knows what it has lost.
	keeper Keeper
	// waiter is Config.Source, when it wants to know what waits for another attempt.
	waiter Waiter
	progress

	// stopping ends when nothing more is to be fetched or started, working when calls in flight are cut off, settling when
	// nobody waits any longer for what has ended to be made durable and told to the source.
	stopping, working, settling context.Context
	stop                        context.CancelCauseFunc

	freed chan struct{} // takes a token when a job was answered or settled
	jobs  sync.WaitGroup
	// failing is how many results and dead letters could not be made durable and are tried again.
	failing atomic.Int32
	// held is how many bytes the jobs have that are not being sent and not settled, with their answers.
	held atomic.Int64

	// Goroutines end one task after another, so that their stacks grow once. hands is taken from by those that have none; over ends
	// them, and workers waits for it.
	hands   chan start
	over    chan struct{}
	idle    atomic.Int32
	workers sync.WaitGroup

	mu       sync.Mutex
	inHand   int // fetched, and not yet answered
	unsaved  int // answered, and not yet settled
	active   map[string]*task
	lanes    map[string]*lane
	unburied map[string]ended // by id; see remember
	letters  letters          // see remember
	straight int              // dead letters in a row by what the upstream answered
	firstBad time.Time        // when the first of them was answered
	later    int              // of them, how many were sent after that, or refused
	ran      bool
}

// task is one delivery on its way.
type task struct {
	d        *Delivery
	job      *Job
	first    time.Time // when it was fetched
	since    time.Time // when it was first delivered
	attempts int       // how many times it was sent
	sent     time.Time // the last time
	failed   int       // how many of these may have had their effect
	key      string    // the fingerprint of the key of the last attempt, of a pool
	barred   string    // the fingerprint of a key that was forbidden the job, so that another one is to be tried
	answered bool      // it counts as unsaved, no longer as in hand
	last     Answer    // of the last attempt; its Body only where it failed
	same     []*Delivery
	lane     *lane
	behind   []*task // of its lane, that end with it
	held     int     // of Runner.held
	sameHeld int     // of Runner.held, for same; guarded by Runner.mu
}

// start is a task and how it goes on its way.
type start struct {
	task *task
	do   func(*Runner, *task)
}

// ended is a task with why it is dead.
type ended struct {
	task  *task
	fault Fault
}

// letters knows the jobs that were sent and are dead letters; of many, the last ones.
type letters struct{ now, before map[string]Hash }

// mostLetters is how many of them are known at least.
const mostLetters = 50_000

func (l *letters) add(job *Job) {
	if len(l.now) >= mostLetters {
		l.now, l.before = nil, l.now
	}
	if l.now == nil {
		l.now = map[string]Hash{}
	}
	l.now[job.ID] = job.Hash
}

func (l *letters) remove(job *Job) {
	delete(l.now, job.ID)
	delete(l.before, job.ID)
}

func (l *letters) has(job *Job) bool {
	h, ok := l.now[job.ID]
	if !ok {
		h, ok = l.before[job.ID]
	}
	return ok && h == job.Hash
}

// lane is the jobs of one key; the first of them is on its way.
type lane struct {
	key  string
	wait []*task
}

// New returns a runner. The error joins one error for each field that is out of range.
func New(cfg Config) (*Runner, error) {
	cfg = cfg.defaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	keyed, _ := cfg.Upstream.(KeyUpstream)
	keeper, _ := cfg.Source.(Keeper)
	waiter, _ := cfg.Source.(Waiter)
	return &Runner{cfg: cfg, keyed: keyed, keeper: keeper, waiter: waiter, freed: make(chan struct{}, 1), hands: make(chan start), over: make(chan struct{}), active: map[string]*task{}, lanes: map[string]*lane{}, unburied: map[string]ended{}}, nil
}

// Run drains the source until it has no more jobs, until ctx ends, or until something makes it stop. Everything that was
// fetched is settled when it returns: nil when the source has come to its end and each job has ended, as a result or as a dead
// letter; the context's cause when ctx ended first, after calls in flight had Config.Grace to end; else why the run stopped. It
// closes nothing.
func (r *Runner) Run(ctx context.Context) error {
	r.mu.Lock()
	if r.ran {
		r.mu.Unlock()
		return errors.New("drain: Run was called before")
	}
	r.ran = true
	r.mu.Unlock()

	r.stopping, r.stop = context.WithCancelCause(ctx)
	defer r.stop(nil)
	var cut, leave context.CancelFunc
	r.working, cut = context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	r.settling, leave = context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	// Calls in flight have their grace once the run is to stop, whatever the reason.
	graceOver := make(chan struct{})
	var grace sync.WaitGroup
	grace.Go(func() {
		select {
		case <-graceOver:
			return
		case <-r.stopping.Done():
		}
		t := time.NewTimer(r.cfg.Grace)
		defer t.Stop()
		select {
		case <-graceOver:
			return
		case <-t.C:
			cut()
		}
		t.Reset(r.cfg.Patience)
		select {
		case <-graceOver:
		case <-t.C:
			leave()
		}
	})

	r.progress.begin(r)
	err := r.fetchAll()
	if err != io.EOF {
		r.stop(err)
	}
	r.wait()
	close(r.over)
	r.workers.Wait()
	close(graceOver)
	grace.Wait()
	if cause := context.Cause(r.stopping); cause != nil {
		err = cause
	}
	if err == io.EOF {
		err = nil
	}
	r.report(true)
	return err
}

// wait waits for all jobs, and reports meanwhile.
func (r *Runner) wait() {
	done := make(chan struct{})
	go func() { r.jobs.Wait(); close(done) }()
	tick := time.NewTicker(r.cfg.ProgressEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			r.report(false)
		}
	}
}

// fetched is what a call of Source.Fetch returned.
type fetched struct {
	ds  []*Delivery
	err error
}

// fetchAll fetches and starts jobs until there are no more (io.EOF) or the run stops.
func (r *Runner) fetchAll() error {
	tick := time.NewTicker(r.cfg.ProgressEvery)
	defer tick.Stop()
	pause := time.NewTicker(max(10*time.Millisecond, min(r.cfg.PauseAfter/4, time.Second)))
	defer pause.Stop()
	pauser, _ := r.cfg.Source.(Pauser)
	paused := false
	var came chan fetched // while Fetch is on its way; it is owned by this call, which waits for it
	defer func() {
		if came != nil {
			f := <-came // the run stops, so Fetch returns promptly
			for _, d := range f.ds {
				r.release(d)
			}
		}
	}()
	for {
		if r.stopping.Err() != nil {
			return context.Cause(r.stopping)
		}
		if came == nil && !paused {
			if n := r.room(); n > 0 {
				came = make(chan fetched, 1)
				go func() {
					ds, err := r.cfg.Source.Fetch(r.stopping, n)
					came <- fetched{ds, err}
				}()
			}
		}
		select {
		case f := <-came:
			came = nil
			for _, d := range f.ds {
				r.take(d)
			}
			if f.err != nil {
				if r.stopping.Err() != nil {
					return context.Cause(r.stopping)
				}
				return f.err
			}
		case <-r.freed:
		case <-r.stopping.Done():
		case <-tick.C:
			r.report(false)
		case <-pause.C:
			if pauser == nil || came != nil {
				continue // while Fetch waits, what there is to do is in hand
			}
			switch left := r.paused(); {
			case !paused && left >= r.cfg.PauseAfter:
				pauser.Pause(time.Now().Add(left))
				paused = true
			case paused && left < r.cfg.PauseAfter/2:
				pauser.Resume()
				paused = false
			}
		}
	}
}

// room returns how many jobs to fetch now; 0 while it is not worth asking.
func (r *Runner) room() int {
	window := r.cfg.InHand
	if window == 0 {
		window = min(inHandMost, 2*r.limit()+inHandSpare)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unsaved >= mostUnsaved || r.held.Load() >= mostHeld || r.failing.Load() > 0 {
		return 0
	}
	n := window - r.inHand
	if n < max(1, window/8) {
		return 0
	}
	return n
}

// take starts a delivery on its way, or ends it at once.
func (r *Runner) take(d *Delivery) {
	r.count(&r.fetched)
	now := time.Now()
	t := &task{d: d, first: now, since: now, attempts: d.Attempts}
	if !d.Since.IsZero() && d.Since.Before(now) {
		t.since = d.Since
	}
	r.hold(t, len(d.Body))
	job, fault := r.read(d)
	t.job = job
	if fault != nil {
		r.start(t, buryWith(*fault))
		return
	}

	r.mu.Lock()
	if d.Place && job.ID == d.ID && r.another(job) {
		job.ID += "#" + job.Hash.String()
	}
	if other := r.active[job.ID]; other != nil {
		if other.job.Hash == job.Hash {
			// The same job twice at a time: one is sent, and both end as it does.
			other.same = append(other.same, d)
			other.sameHeld += t.held
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		r.start(t, buryWith(Fault{ReasonConflict, fmt.Sprintf("another job with the id %q and other content is on its way", job.ID)}))
		return
	}
	// A job leaves the list only after its result is durable, so the Store is asked while nobody can leave it.
	if end := r.finished(job); end != nil {
		r.mu.Unlock()
		r.start(t, end)
		return
	}
	if !d.Again {
		r.letters.remove(job) // somebody wants it done after all
	} else if r.letters.has(job) {
		r.mu.Unlock()
		r.start(t, func(r *Runner, t *task) { r.settle(t, r.cfg.Source.Ack) })
		return
	}
	r.active[job.ID] = t
	if e, ok := r.unburied[job.ID]; ok && e.task.job.Hash == job.Hash {
		r.mu.Unlock()
		t.attempts, t.last = max(e.task.attempts, d.Attempts+1), e.task.last
		r.start(t, buryWith(e.fault))
		return
	}
	if r.cfg.Ordered && d.Key != "" {
		if l := r.lanes[d.Key]; l != nil {
			t.lane = l
			l.wait = append(l.wait, t)
			r.inHand++
			r.mu.Unlock()
			return
		}
		t.lane = &lane{key: d.Key}
		r.lanes[d.Key] = t.lane
	}
	r.mu.Unlock()
	r.start(t, (*Runner).work)
}

// another reports whether a job with other content is known by the id of a job. It needs the lock.
func (r *Runner) another(job *Job) bool {
	if t := r.active[job.ID]; t != nil {
		return t.job.Hash != job.Hash
	}
	h, ok := r.cfg.Store.Has(job.ID)
	return ok && h != job.Hash
}

// start has do end a task, which counts as in hand until it is settled or answered.
func (r *Runner) start(t *task, do func(*Runner, *task)) {
	r.mu.Lock()
	r.inHand++
	r.mu.Unlock()
	r.jobs.Add(1)
	s := start{t, do}
	select {
	case r.hands <- s:
	default:
		r.workers.Go(func() { r.worker(s) })
	}
}

// mostIdle is how many goroutines wait for tasks.
const mostIdle = 1024

// worker ends tasks, one after another, until there are none.
func (r *Runner) worker(s start) {
	for {
		s.do(r, s.task)
		for next := r.leave(s.task); next != nil; next = r.leave(next) {
			r.work(next)
		}
		r.jobs.Done()
		if r.idle.Add(1) > mostIdle {
			r.idle.Add(-1)
			return
		}
		select {
		case s = <-r.hands:
			r.idle.Add(-1)
		case <-r.over:
			return
		}
	}
}

// buryWith returns what makes a dead letter of a task, for start.
func buryWith(f Fault) func(*Runner, *task) {
	return func(r *Runner, t *task) { r.bury(t, f) }
}

// leave counts a task as settled, and returns the next one of its lane.
func (r *Runner) leave(t *task) (next *task) {
	r.mu.Lock()
	if t.answered {
		r.unsaved--
	} else {
		r.inHand--
	}
	r.held.Add(-int64(t.held + t.sameHeld))
	if l := t.lane; l != nil {
		if len(l.wait) > 0 {
			next, l.wait = l.wait[0], l.wait[1:]
		} else {
			delete(r.lanes, l.key)
		}
	}
	r.mu.Unlock()
	r.wake()
	return next
}

// hold notes how many bytes a task holds.
func (r *Runner) hold(t *task, n int) {
	now := r.held.Add(int64(n - t.held))
	if was := now - int64(n-t.held); was >= mostHeld && now < mostHeld {
		r.wake()
	}
	t.held = n
}

// answer counts a task as answered, so that another one can be fetched while it is made durable.
func (r *Runner) answer(t *task, body []byte) {
	r.hold(t, len(t.d.Body)+len(body))
	r.mu.Lock()
	r.inHand--
	r.unsaved++
	t.answered = true
	r.mu.Unlock()
	r.wake()
}

func (r *Runner) wake() {
	select {
	case r.freed <- struct{}{}:
	default:
	}
}

// read returns the job of a delivery, or why there is none.
func (r *Runner) read(d *Delivery) (*Job, *Fault) {
	if d.Fault != nil {
		return nil, d.Fault
	}
	if len(d.Body) > 2*r.cfg.MaxBody+maxID {
		return nil, &Fault{ReasonTooLarge, fmt.Sprintf("the job has %d bytes, its body may have %d", len(d.Body), r.cfg.MaxBody)}
	}
	job, err := ParseJob(d.Body)
	if err != nil {
		var f *Fault
		if !errors.As(err, &f) {
			f = &Fault{ReasonInvalid, err.Error()}
		}
		return nil, f
	}
	if job.ID == "" {
		job.ID = strings.ToValidUTF8(d.ID, "\ufffd") // as a file of results has it
	}
	if job.ID == "" {
		job.ID = job.Hash.String()
	}
	if len(job.Body) > r.cfg.MaxBody {
		return job, &Fault{ReasonTooLarge, fmt.Sprintf("the body has %d bytes, may have %d", len(job.Body), r.cfg.MaxBody)}
	}
	if n := d.Attempts - d.Retries; n >= r.cfg.MaxDeliveries {
		return job, &Fault{ReasonPoison, fmt.Sprintf("it was delivered %d times before and never came to an end", n)}
	}
	return job, nil
}
