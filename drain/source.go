package drain

import (
	"context"
	"errors"
	"time"
)

// Source hands out jobs. Fetch is called by one goroutine at a time; the other methods may be called by any number
// of them, also while Fetch waits, in any order of the deliveries. Each delivery is settled once, by one of Ack, Retry,
// Dead and Release.
//
// When a call fails with an error that is [ErrLost], the source no longer has the delivery, because a connection was lost or a
// partition was taken away, and it will be delivered again; the runner goes on. Any other error stops the run.
type Source interface {
	// Fetch waits until there is at least one job, and returns up to n (>= 1) of them. After the last job of a source
	// that has an end it returns io.EOF, and may do so although jobs are not settled yet. When ctx ends it returns
	// promptly with the context's cause. A source sees to its own connections: an error is the end of the run.
	Fetch(ctx context.Context, n int) ([]*Delivery, error)
	// Ack says that the job is done and its result durable.
	Ack(ctx context.Context, d *Delivery) error
	// Retry hands a job back that was tried, to be delivered again not before after has passed, with one attempt more. It
	// must not come back at once (a hot loop): after is at least a second. After an error other than ErrLost it may be called
	// again, as Dead may.
	Retry(ctx context.Context, d *Delivery, after time.Duration, reason string) error
	// Dead puts a job aside for good. When it returns nil the dead letter is durable. After an error other than ErrLost it
	// may be called again.
	Dead(ctx context.Context, d *Delivery, letter *DeadLetter) error
	// Release hands a job back that was not tried, at the end of a run.
	Release(ctx context.Context, d *Delivery) error
}

// ErrLost is what an error of a Source is when it no longer has the delivery but will deliver the job again.
var ErrLost = errors.New("drain: the delivery was lost and will come again")

// Keeper is a Source that finds out by itself that it has lost a delivery, as when a partition was taken away. Whoever gets it next may have
// done the job already, so the runner asks before each attempt, and does not send what is lost.
type Keeper interface {
	// Lost reports whether settling the delivery would fail with ErrLost, or is soon to, as far as is known. It is called by any
	// number of goroutines, some of them with a lock of the runner, and returns at once.
	Lost(d *Delivery) bool
}

// Waiter is a Keeper that wants to know which deliveries may be in flight: those that Lost was asked of, until Waits tells or they are settled.
type Waiter interface {
	// Waits says that an attempt did not end the job, and that the delivery waits for the next one. It is called by any number of goroutines, and
	// returns at once.
	Waits(d *Delivery)
}

// Pauser is a Source that can be told that nothing will start for a while, so that it need not hold what it has fetched
// ahead. Neither method is called while Fetch waits.
type Pauser interface {
	// Pause says that nothing starts until about then.
	Pause(until time.Time)
	// Resume says that jobs are wanted again.
	Resume()
}

// Counter is a Source that knows how many jobs there are.
type Counter interface {
	// Total returns how many jobs there are, those of earlier runs included; ok is false when it is not known.
	Total() (n int64, ok bool)
}

// Delivery is one job as its source hands it out. It is not changed after it was handed out.
type Delivery struct {
	// ID names the job where Body has no custom_id; a message id, for instance. Empty means that Body has one, or
	// that equal jobs are one job.
	ID string
	// Place says that ID is where the message was, and not its name. Another one may be there later, in a topic that was deleted and made again:
	// where a job with other content was known by it, this one is known by it with its hash behind.
	Place bool
	// Key is what jobs have in common that must be sent one after another, where Config.Ordered asks for it. Empty means
	// nothing.
	Key string
	// Body is the job, a line of the batch format.
	Body []byte
	// Where says where the job comes from, for people: "requests.jsonl:17", "jobs/3@1200".
	Where string
	// Attempts is how many times the job was delivered before, as far as the source knows.
	Attempts int
	// Retries is how many of these attempts ended with Source.Retry: they say nothing against the job.
	Retries int
	// Again says that this very message was handed to this run before, as the source knows for sure: its settling did not arrive. One that somebody
	// has put there anew, a dead letter above all, is another message, also when it was on its way to somebody before. The runner does not send a
	// job again then whose dead letter is there; it would be lost if the message was another one.
	Again bool
	// Since is when the job was first delivered, as far as the source knows; zero means now.
	Since time.Time
	// HoldUntil is until when the job may be held without being settled; zero means as long as it takes.
	HoldUntil time.Time
	// Fault, when set, is why the job cannot be read at all; it becomes a dead letter.
	Fault *Fault
	// Handle is the source's own.
	Handle any
}

// Reason is why a job is a dead letter.
type Reason string

// The reasons for a dead letter.
const (
	// ReasonBadJSON: the job is not a JSON object.
	ReasonBadJSON Reason = "bad_json"
	// ReasonInvalid: the job is JSON but no request: no url, no body, a method or host that is not allowed.
	ReasonInvalid Reason = "invalid_request"
	// ReasonTooLarge: the job is larger than Config.MaxBody, or costs more than a whole budget of the guard holds.
	ReasonTooLarge Reason = "too_large"
	// ReasonConflict: another job with the same id and other content was there before.
	ReasonConflict Reason = "id_conflict"
	// ReasonRefused: the upstream says that this request will not do (a 400, for instance).
	ReasonRefused Reason = "refused"
	// ReasonAmbiguous: the job failed in a way in which it may have had its effect and may have been paid for, and
	// Config.Idempotent does not allow to send it again.
	ReasonAmbiguous Reason = "ambiguous"
	// ReasonAttempts: it failed Config.MaxAttempts times.
	ReasonAttempts Reason = "attempts"
	// ReasonPoison: it was delivered Config.MaxDeliveries times and never came to an end.
	ReasonPoison Reason = "poison"
	// ReasonGaveUp: it was refused for Config.GiveUp.
	ReasonGaveUp Reason = "gave_up"
	// ReasonAnswer: the answer is larger than HTTP.MaxAnswer.
	ReasonAnswer Reason = "answer_too_large"
)

// Fault is why a job cannot be sent.
type Fault struct {
	Reason Reason
	Detail string
}

// Error returns the reason and the detail.
func (f *Fault) Error() string { return string(f.Reason) + ": " + f.Detail }

// DeadLetter is why a job was put aside.
type DeadLetter struct {
	Fault
	// ID is the job's id, as far as it could be read.
	ID string
	// Status is the status of the last answer; 0 when there was none.
	Status int
	// RequestID is the upstream's name for the last attempt; empty when it gave none.
	RequestID string
	// Attempts is how many times the job was sent, earlier deliveries counted as one each.
	Attempts int
	// Answer is the body of the last answer, at most its first 64 KiB.
	Answer []byte
	// At is when the job was put aside.
	At time.Time
}
