package upstream

import (
	"strconv"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
)

// Stage is a part of an upstream that can refuse.
type Stage uint8

const (
	// StageNone is no refusal.
	StageNone Stage = iota
	StageFault
	StageNoise
	StageKey // a revoked key
	StageConnections
	StageQuota
	StageSlope
	StageConcurrency
	StageServer

	// NumStages is the number of stages; a Stage is always smaller.
	NumStages = int(StageServer) + 1
)

var stageNames = [NumStages]string{"none", "fault", "noise", "key", "connections", "quota", "slope", "concurrency", "server"}

// String returns the stage's name.
func (s Stage) String() string { return stageNames[min(int(s), NumStages-1)] }

// Reply is what an upstream answers: an HTTP status, header fields and, of a refusal, a body. It must not be changed.
type Reply struct {
	// ID is equal for replies that are equal, byte for byte; -1 is a reply that is made once.
	ID     int
	Status int
	Header map[string][]string
	Body   []byte
	// Stage and Counter say which part refused. Nothing in Header or Body need tell so much.
	Stage   Stage
	Counter Counter
	// Reset is in how many ns a call would pass, as the upstream knows and may not say; Never when nobody knows.
	Reset int64
}

// replies makes every distinct reply once, where there are not too many of them.
type replies struct {
	all  []*Reply
	said map[replyKey]int
}

// replyKey is what the bytes of a reply depend on.
type replyKey struct {
	stage    Stage
	index    int   // of the fault or quota
	delay    int64 // ns that it says; -1: nothing
	too      bool  // the call is too large for the quota
	cost     int64 // of a call that is too large
	contents int64 // of the windows, when the dialect tells of them
}

// mostReplies is how many distinct replies are kept; more are made anew each time.
const mostReplies = 1 << 14

// keep returns the reply of a key, made once.
func (r *replies) keep(k replyKey, make_ func() *Reply) *Reply {
	if i, ok := r.said[k]; ok {
		return r.all[i]
	}
	rep := make_()
	if len(r.all) >= mostReplies {
		rep.ID = -1
		return rep
	}
	rep.ID = len(r.all)
	r.all = append(r.all, rep)
	r.said[k] = rep.ID
	return rep
}

// refusal returns the reply of a stage that says no at now and would say yes at until. index is that of the fault or quota,
// cost what the call would have taken.
func (u *Upstream) refusal(now int64, s *slot, stage Stage, index int, a *Answer, until int64, cost float64) *Reply {
	k := replyKey{stage: stage, index: index, delay: u.delay(now, s, stage, index, a, until)}
	if stage == StageQuota && until == never {
		k.too, k.cost = true, int64(cost)
	}
	acc := &u.accounts[s.call.Account]
	once := a.RetryAfter.Form == FormDate && k.delay >= 0
	if u.dialect.tells {
		k.contents = acc.contents(now)
		once = once || u.dialect.dates
	}
	build := func() *Reply {
		rep := &Reply{ID: -1, Stage: stage, Reset: never}
		if stage == StageQuota {
			rep.Counter = u.cfg.Quotas[index].Counter
		}
		u.word(rep, now, acc, k, a)
		return rep
	}
	var rep *Reply
	if once {
		rep = build()
	} else {
		rep = u.replies.keep(k, build)
	}
	return rep
}

// delay returns what a refusal says about when to come back, in ns; -1 for nothing.
func (u *Upstream) delay(now int64, s *slot, stage Stage, index int, a *Answer, until int64) int64 {
	ra := &a.RetryAfter
	if ra.Missing > 0 && draw.U(u.cfg.Seed, streamMissing, s.call.Key) < ra.Missing {
		return -1
	}
	truth := until - now
	if until == never {
		truth = -1
	}
	d := int64(-1)
	switch ra.Mode {
	case RetryNone:
		return -1
	case RetryExact:
		d = truth
	case RetryConstant:
		d = int64(ra.Delay)
	case RetryWrong:
		if truth >= 0 {
			d = int64(min(float64(truth)*ra.Factor, 1<<60))
		}
	case RetryStale:
		// What was computed for the refusal before, and handed on with the time that has passed taken off.
		st := &u.stale[int(stage)*64+index%64]
		d = *st - now
		if d <= 0 {
			d = truth
		}
		if truth >= 0 {
			*st = until
		}
	}
	if d < 0 {
		return -1
	}
	if ra.Jitter > 0 {
		d = int64(float64(d) * (1 + ra.Jitter*(2*draw.U(u.cfg.Seed, streamRetryJitter, s.call.Key)-1)))
	}
	unit := int64(time.Second)
	if ra.Form == FormMillis {
		unit = int64(time.Millisecond)
	}
	return ceilTo(d, unit) * unit
}

func ceilTo(ns, unit int64) int64 { return (max(0, ns) + unit - 1) / unit }

// success returns the reply of a call that was served.
func (u *Upstream) success(now int64, s *slot) *Reply {
	if !u.dialect.tells {
		return u.replies.all[replyOK]
	}
	acc := &u.accounts[s.call.Account]
	build := func() *Reply {
		rep := &Reply{ID: -1, Status: 200, Header: map[string][]string{"Content-Type": {"application/json"}}}
		u.dialect.windows(u, rep, now, acc)
		return rep
	}
	if u.dialect.dates {
		return build()
	}
	return u.replies.keep(replyKey{contents: acc.contents(now)}, build)
}

// replyOK is the ID of the plain success.
const replyOK = 0

func (u *Upstream) initReplies() {
	u.replies.said = map[replyKey]int{}
	u.replies.all = append(u.replies.all, &Reply{ID: replyOK, Status: 200})
}

// contents returns a number that depends on what the account's windows tell.
func (a *account) contents(now int64) int64 {
	x := uint64(0)
	for i := range a.counters {
		c := &a.counters[i]
		x = draw.Mix(x^uint64(int64(c.remaining(now)))) + draw.Mix(uint64(ceilTo(c.reset(now), int64(time.Millisecond)))) + uint64(int64(c.limit))
	}
	return int64(x)
}

// date returns an instant as the wall clock shows it.
func (u *Upstream) date(now int64) time.Time { return u.epoch.Add(time.Duration(now)) }

// setRetryAfter writes a delay into a header.
func (u *Upstream) setRetryAfter(h map[string][]string, now, delay int64, form RetryForm) {
	if delay < 0 {
		return
	}
	switch form {
	case FormMillis:
		h["Retry-After-Ms"] = []string{strconv.FormatInt(delay/int64(time.Millisecond), 10)}
	case FormDate:
		const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"
		h["Date"] = []string{u.date(now).UTC().Format(httpDate)}
		h["Retry-After"] = []string{u.date(now + delay).UTC().Format(httpDate)}
	default:
		h["Retry-After"] = []string{strconv.FormatInt(delay/int64(time.Second), 10)}
	}
}
