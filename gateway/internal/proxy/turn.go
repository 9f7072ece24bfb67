package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/gateway/internal/dialect"
	"github.com/flyball-go/flyball/limiter"
)

// turn is a call on its way to an answer: how long it may still take, and what its transports have to know. It is the context of
// its requests, so that they find it there.
type turn struct {
	context.Context // ends with the caller, or by cancel
	cancel          context.CancelCauseFunc

	request limiter.Request
	stall   time.Duration // how long an upstream may be silent
	// plain says that the caller was promised an answer without an encoding, because its stream has begun.
	plain *atomic.Bool
	// ended says that nothing is sent any more; nil for never.
	ended *atomic.Bool
	// sent is how many requests were sent, refused says that the upstream had no room for the last one, and poor that the stream that answers it begins
	// by saying that there is no money or quota.
	sent    atomic.Int32
	refused atomic.Bool
	poor    atomic.Bool
	inside  atomic.Uint32 // the feedback.Class that a refusal behind a 200 has; 0 for none
	reached atomic.Bool   // the last one got a connection
	conns   atomic.Int32  // how many it got

	mu    sync.Mutex
	first time.Time     // when the first was sent
	last  time.Time     // when the last was
	until time.Time     // zero: no bound
	all   time.Time     // what until is once a request was sent
	keep  time.Duration // how much before all its wait for a place ends, so that there is time for the answer
	place time.Duration // how long it may wait for a place; zero: until all, but for keep
	timer *time.Timer
}

// errLongest is why a call ended that took longer than its route allows.
var errLongest = errors.New("the answer took longer than the route allows")

type turnKey struct{}

// newTurn returns a turn that ends with ctx, and at the given instant when no answer has begun; its wait for a place ends earlier, by keep. When that is over
// already, as the call comes from another target or had a slow body, it takes a place that is there, if it has half of keep for its answer.
func newTurn(ctx context.Context, all time.Time, keep time.Duration) *turn {
	inner, cancel := context.WithCancelCause(ctx)
	t := &turn{Context: inner, cancel: cancel, until: all.Add(-keep), all: all, keep: keep}
	now := time.Now()
	switch {
	case now.Before(t.until):
		t.timer = time.AfterFunc(t.until.Sub(now), t.expire)
	case all.Sub(now) < max(keep/2, 1):
		t.timer = time.AfterFunc(0, t.expire)
		cancel(context.DeadlineExceeded)
	default: // no wait begins, as Deadline says so
		t.timer = time.AfterFunc(all.Sub(now), t.expire)
	}
	return t
}

// expire ends the turn when its time is over. After the process stood still, the timer may be late, and the turn have got another time meanwhile.
func (t *turn) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.until.IsZero() && !time.Now().Before(t.until) {
		t.cancel(context.DeadlineExceeded)
	}
}

// errRaised is why a call gave its turn up: it is more urgent now, and waits again.
var errRaised = errors.New("the call is more urgent now")

// urgency is how urgent a call is that may become more so while it waits. Its methods may be called by any goroutine.
type urgency struct {
	mu       sync.Mutex
	priority uint8
	turn     *turn // that the call waits in; nil for none
}

// raise makes the call more urgent. Unless it was sent, it gives up its turn for another one.
func (u *urgency) raise(priority uint8) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if priority <= u.priority {
		return
	}
	u.priority = priority
	if u.turn != nil {
		u.turn.giveUp()
	}
}

// waits notes the turn that the call waits in, and returns how urgent it is.
func (u *urgency) waits(t *turn) uint8 {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.turn = t
	return u.priority
}

// giveUp ends the wait, unless a request was sent.
func (t *turn) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sent.Load() == 0 {
		t.cancel(errRaised)
	}
}

// raised reports whether the turn was given up for a more urgent one.
func (t *turn) raised() bool { return context.Cause(t.Context) == errRaised && t.sent.Load() == 0 }

// turnOf returns the turn that a request is of; nil for none.
func turnOf(ctx context.Context) *turn {
	t, _ := ctx.Value(turnKey{}).(*turn)
	return t
}

// Value returns the turn itself for turnKey.
func (t *turn) Value(key any) any {
	if key == (turnKey{}) {
		return t
	}
	return t.Context.Value(key)
}

// Deadline is when the wait ends; it moves, and is gone once the answer has begun.
func (t *turn) Deadline() (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.until, !t.until.IsZero()
}

// Err tells the end of the wait from a caller that left.
func (t *turn) Err() error {
	err := t.Context.Err()
	if err != nil && context.Cause(t.Context) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return err
}

// bound lets the call wait no longer than that for a place, before it is sent and when it was refused, if that is before its own end.
func (t *turn) bound(place time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.place = place
	t.waitForPlace()
}

// waitForPlace has the time for a place begin. It needs the lock.
func (t *turn) waitForPlace() {
	now, at := time.Now(), t.all.Add(-t.keep)
	if t.place > 0 && now.Add(t.place).Before(at) {
		at = now.Add(t.place)
	}
	if !at.Before(t.all) {
		return
	}
	// When it is over already, no wait begins, as Deadline says so. A refusal that has come is still read.
	if !at.After(now) || t.timer.Stop() {
		t.until = at
		if at.After(now) {
			t.timer.Reset(at.Sub(now))
		}
	}
}

// noRoom says that the upstream refused what was sent, and that the call waits for a place again.
func (t *turn) noRoom() {
	t.refused.Store(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waitForPlace()
}

// noWay says that there was no connection for what was to be sent. A call that may go elsewhere is not tried again here: its time is as good as over
// for who asks, which is not the timer.
func (t *turn) noWay() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.place > 0 {
		t.until = time.Now().Add(time.Millisecond)
	}
}

// sending says that a request is about to be sent. The error is why it must not be.
func (t *turn) sending() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended != nil && t.ended.Load() {
		return ErrEnds
	}
	if t.Context.Err() != nil { // its time is over, it was given up, or its caller left: nothing is sent
		return context.Cause(t.Context)
	}
	t.last = time.Now()
	if t.sent.Add(1) == 1 {
		t.first = t.last
	}
	t.refused.Store(false)
	t.poor.Store(false)
	t.inside.Store(0)
	t.reached.Store(false)
	t.conns.Store(0)
	if !t.until.Equal(t.all) {
		t.until = t.all
		t.timer.Reset(time.Until(t.all))
	}
	return nil
}

// mostConns is how many connections over HTTP/2 one request may get.
const mostConns = 8

// errResets is why a call ended that got no answer on any of them.
var errResets = errors.New("it reset the request, or ended the connection, each time that it was sent")

// connected says that what was to be sent got a connection. Over HTTP/2 net/http sends a request without a body on the next one, at once, when it is
// reset or the connection ends, for as long as the call has time.
func (t *turn) connected(conn net.Conn) {
	t.reached.Store(true)
	below := conn
	if c, ok := conn.(*tls.Conn); ok {
		below = c.NetConn()
	}
	if c, ok := below.(interface{ begins() }); ok {
		c.begins()
	}
	if c, ok := conn.(*tls.Conn); t.conns.Add(1) > mostConns && ok && c.ConnectionState().NegotiatedProtocol == "h2" {
		t.cancel(errResets)
	}
}

// insideCode returns the code of a refusal behind a 200, which is what the turn ended with; empty for none.
func (t *turn) insideCode() string {
	switch feedback.Class(t.inside.Load()) {
	case feedback.OK:
		return ""
	case feedback.Throttled:
		return dialect.RateLimited.Code()
	case feedback.Overloaded:
		return dialect.Unavailable.Code()
	case feedback.QuotaExhausted:
		return dialect.NoQuota.Code()
	}
	return dialect.Unauthorized.Code() // nothing else is told
}

// tried reports whether the call was sent more than once.
func (t *turn) tried() bool { return t != nil && t.sent.Load() > 1 }

// firstSent returns when the first request was sent.
func (t *turn) firstSent() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first
}

// lastSent returns when the last request was sent.
func (t *turn) lastSent() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// answered says that the answer has begun, which may take so much longer. It reports whether there was still time.
func (t *turn) answered(longest time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.timer.Stop() {
		return false
	}
	t.until, t.all = time.Time{}, time.Time{}
	t.timer = time.AfterFunc(longest, func() { t.cancel(errLongest) })
	return true
}

// end gives up what the turn holds.
func (t *turn) end() {
	t.mu.Lock()
	t.timer.Stop()
	t.mu.Unlock()
	t.cancel(context.Canceled)
}
