package drain

import (
	"errors"
	"fmt"
	"time"

	"github.com/flyball-go/flyball/limiter"
)

// Config is what a Runner is made from. Source, Store, Upstream and one of Guard and Pool must be set; zero means the default everywhere
// else.
type Config struct {
	// Source hands out the jobs, Store keeps the results, Upstream sends, and Guard says when.
	Source   Source
	Store    Store
	Upstream Upstream
	Guard    *limiter.Guard
	// Pool stands in the place of Guard for an upstream with several keys: each job is sent with the key that has most room, a key that is not
	// accepted or has no quota is out for the others to go on, and the run stops only when all are. Upstream must be a KeyUpstream.
	Pool *limiter.Pool

	// Reply, when set, gets each result once the Store has it; the job is done when both have it. A job that is delivered again
	// although the Store has its result is not sent: Reply gets the result from the Store. So Reply may get a result more than
	// once, under the same id.
	Reply Sink

	// Request returns what the guard is to know of a job. nil means its tenant, its priority, and its max_tokens as the most
	// that it may generate.
	Request func(*Job) limiter.Request

	// InHand is how many jobs may be fetched and not yet answered (1 to 1,000,000). Zero means twice the guard's limit
	// and 16 more, and never more than 10,000: enough that a job is there whenever a place becomes free. Smaller holds fewer
	// deliveries back from other consumers. Nothing is fetched, either, while those that wait for a place or for the Store have 64 MiB.
	InHand int
	// Ordered sends jobs of one Delivery.Key one after another, each once the one before is settled. A job that waits is then
	// held, and not handed back for others to overtake it.
	Ordered bool
	// MaxBody is the largest request body, in bytes (1 KiB to 1 GiB). Zero means 8 MiB. A larger one is a dead letter.
	MaxBody int
	// Idempotent says that a job may be sent again although it may have had its effect and may have been paid for: after
	// time-outs, lost connections and server errors.
	Idempotent bool
	// MaxAttempts is how often a job is sent that fails in such a way (1 to 100). Zero means 5. Refusals (429, 503, 529) do
	// not count: they say nothing of the job.
	MaxAttempts int
	// MaxDeliveries is how often a job is delivered and not handed back with Source.Retry before it is put aside as poison (1 to
	// 1000). Zero means 20. It is for jobs that take their consumer with them.
	MaxDeliveries int
	// GiveUp is for how long a job is tried that is refused each time (1 s or more). Zero means 24 h. The time counts from
	// when it was first delivered, as far as the source knows.
	GiveUp time.Duration
	// MaxHold is the longest wait that is sat out with a delivery in hand that has no HoldUntil (1 ms or more). Zero means as
	// long as it takes. A longer wait hands the job back with Source.Retry.
	MaxHold time.Duration
	// QuotaPause is for how long nothing is sent when the upstream says that money or a quota is used up and names no time
	// (1 s or more). Zero means that the run stops with ErrQuota; jobs stay with their source.
	QuotaPause time.Duration
	// StopAfter is how many jobs in a row, without one that ended well, may be refused by the upstream for what they are (400,
	// 403, 404) before the run stops with ErrRefused: a wrong model or path makes a dead letter of each job (1 or more). Those
	// count, too, that become dead letters because they failed (500, a time-out, a broken connection), if half as many were sent after
	// the first of them did: what is on its way may fail at once. Then it is ErrFailing. Zero
	// means 100; -1 means any number.
	StopAfter int
	// Grace is how long calls in flight may take to end when the run is stopped (1 ms or more). Zero means 30 s.
	// Calls that are cut off then are ambiguous; see Idempotent.
	Grace time.Duration
	// Patience is how long a result, a dead letter or a job that is to wait is tried to be made durable while the Store, Reply, Source.Dead or
	// Source.Retry fails, a full disk for instance (1 ms or more), before the run stops. Nothing is sent meanwhile. Zero means 1 min.
	Patience time.Duration
	// PauseAfter is how long a pause of the guard must have to go for a Source that is a Pauser to be told (1 ms or more). Zero
	// means 5 s.
	PauseAfter time.Duration

	// Prices are what tokens cost, by model; "" is for every other model. They are for Progress.Cost only.
	Prices map[string]Price
	// OnProgress, when set, is called every ProgressEvery and at the end, by the goroutine that runs Run. It must be quick.
	OnProgress func(Progress)
	// ProgressEvery is how often (10 ms or more). Zero means 1 s.
	ProgressEvery time.Duration
	// OnDead, when set, is called after each dead letter, by any goroutine. It must be quick.
	OnDead func(*Delivery, *DeadLetter)
}

// Price is what a million tokens cost, in any currency.
type Price struct{ Input, CachedInput, Output float64 }

const (
	inHandSpare = 16
	inHandMost  = 10_000
	// mostUnsaved is how many answers may wait for the Store before nothing more is fetched.
	mostUnsaved = 4096
	// mostHeld is how many bytes of jobs that wait, and of those that were answered and are not settled, with their answers, there may be before
	// nothing more is fetched.
	mostHeld = 64 << 20
)

func (c Config) defaults() Config {
	zero := func(p *int, d int) {
		if *p == 0 {
			*p = d
		}
	}
	zeroTime := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	zero(&c.MaxBody, 8<<20)
	zero(&c.MaxAttempts, 5)
	zero(&c.MaxDeliveries, 20)
	zero(&c.StopAfter, 100)
	zeroTime(&c.GiveUp, 24*time.Hour)
	zeroTime(&c.Grace, 30*time.Second)
	zeroTime(&c.Patience, time.Minute)
	zeroTime(&c.PauseAfter, 5*time.Second)
	zeroTime(&c.ProgressEvery, time.Second)
	if c.Request == nil {
		c.Request = func(j *Job) limiter.Request {
			return limiter.Request{Tenant: j.Tenant, Priority: j.Priority, Output: j.MaxTokens}
		}
	}
	return c
}

func (c Config) check() error {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("drain: Config.%s is %v, must be %s", field, value, allowed))
	}
	if c.Source == nil {
		bad("Source", "nil", "set")
	}
	if c.Store == nil {
		bad("Store", "nil", "set")
	}
	if c.Upstream == nil {
		bad("Upstream", "nil", "set")
	}
	switch _, keyed := c.Upstream.(KeyUpstream); {
	case c.Guard == nil && c.Pool == nil:
		bad("Guard", "nil", "set, or Pool")
	case c.Guard != nil && c.Pool != nil:
		bad("Pool", "set", "nil beside Guard")
	case c.Pool != nil && c.Upstream != nil && !keyed:
		bad("Upstream", fmt.Sprintf("%T", c.Upstream), "a KeyUpstream, with a Pool")
	}
	number := func(field string, v, least, most int) {
		if v < least || v > most {
			bad(field, v, fmt.Sprintf("0 (default) or %d to %d", least, most))
		}
	}
	if c.InHand != 0 {
		number("InHand", c.InHand, 1, 1_000_000)
	}
	number("MaxBody", c.MaxBody, 1<<10, 1<<30)
	number("MaxAttempts", c.MaxAttempts, 1, 100)
	number("MaxDeliveries", c.MaxDeliveries, 1, 1000)
	if c.StopAfter != -1 && c.StopAfter < 1 {
		bad("StopAfter", c.StopAfter, "-1 (never), 0 (default) or at least 1")
	}
	duration := func(field string, v, least time.Duration) {
		if v < least {
			bad(field, v, fmt.Sprintf("0 (default) or at least %v", least))
		}
	}
	duration("GiveUp", c.GiveUp, time.Second)
	duration("Grace", c.Grace, time.Millisecond)
	duration("Patience", c.Patience, time.Millisecond)
	duration("PauseAfter", c.PauseAfter, time.Millisecond)
	duration("ProgressEvery", c.ProgressEvery, 10*time.Millisecond)
	if c.MaxHold != 0 {
		duration("MaxHold", c.MaxHold, time.Millisecond)
	}
	if c.QuotaPause != 0 {
		duration("QuotaPause", c.QuotaPause, time.Second)
	}
	return errors.Join(errs...)
}
