package upstream

import (
	"strconv"
	"time"
	"unsafe"

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

	// Of a reply that may be made again: the values in Header in the order in which they were told, how many were, and the bytes
	// that they are made of.
	values [][]string
	told   int
	text   []byte
	again  bool // it may be made again
}

// room returns where the next value of a reply is written to.
func (r *Reply) room() []byte { return r.text[len(r.text):] }

// field tells of something in the header: text is what was appended to room.
func (r *Reply) field(name string, text []byte) {
	from := len(r.text)
	r.text = append(r.text, text...) // onto itself, unless the room was too small
	v := unsafe.String(&r.text[from], len(text))
	if r.told == len(r.values) {
		r.values = append(r.values, make([]string, 1))
	}
	s := r.values[r.told]
	s[0] = v
	if r.Stage != StageNone || len(r.Header[name]) == 0 { // successes have the same fields in the same order each time
		r.Header[name] = s
	}
	r.told++
}

// jsonType is the type of the bodies; nobody may change it.
var jsonType = []string{"application/json"}

// Recycle takes back a reply that nobody will look at again, not even at a string of its header, and makes another one of it. Only
// replies whose ID is -1 are taken; a driver need not give any back.
func (u *Upstream) Recycle(r *Reply) {
	switch {
	case r.ID >= 0 || !r.again:
	case r.Stage == StageNone:
		u.spare = append(u.spare, r)
	default:
		u.spareNo = append(u.spareNo, r)
	}
}

// anew returns a reply to be made, if possible of one that was given back.
func anew(spare *[]*Reply) *Reply {
	if n := len(*spare); n > 0 {
		r := (*spare)[n-1]
		*spare = (*spare)[:n-1]
		r.told, r.text = 0, r.text[:0]
		return r
	}
	return &Reply{ID: -1, Header: map[string][]string{}, text: make([]byte, 0, 192), again: true}
}

// replies makes every distinct reply once, where there are not too many of them.
type replies struct {
	all  []*Reply
	said map[replyKey]int
}

// replyKey is what the bytes of a reply depend on.
type replyKey struct {
	stage Stage
	index int     // of the fault or quota
	delay int64   // ns that it says; -1: nothing
	too   bool    // the call is too large for the quota
	cost  int64   // of a call that is too large
	share float64 // of the key: limits are told as they are for it
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
	acc := &u.accounts[s.call.Account]
	k := replyKey{stage: stage, index: index, delay: u.delay(now, s, stage, index, a, until)}
	if u.dialect.body != nil {
		k.share = acc.share
	}
	if stage == StageQuota && until == never {
		k.too, k.cost = true, int64(cost)
	}
	// Where windows are told of, hardly two answers are equal.
	once := a.RetryAfter.Form == FormDate && k.delay >= 0 || u.dialect.tells
	build := func() *Reply {
		rep := anew(&u.spareNo)
		rep.Stage, rep.Counter, rep.Reset = stage, 0, never
		clear(rep.Header)
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
	rep := anew(&u.spare)
	rep.Status, rep.Header["Content-Type"] = 200, jsonType
	u.dialect.windows(u, rep, now, &u.accounts[s.call.Account])
	return rep
}

// replyOK is the ID of the plain success.
const replyOK = 0

func (u *Upstream) initReplies() {
	if u.replies.said == nil {
		u.replies.said = map[replyKey]int{}
		u.replies.all = append(u.replies.all, &Reply{ID: replyOK, Status: 200})
	}
	clear(u.replies.said)
	clear(u.bodies)
	u.replies.all = u.replies.all[:1]
}

// date returns an instant as the wall clock shows it.
func (u *Upstream) date(now int64) time.Time { return u.epoch.Add(time.Duration(now)) }

// body returns what a refusal says in words, written once.
func (u *Upstream) body(r *Reply, acc *account, k replyKey) []byte {
	if b, ok := u.bodies[k]; ok {
		return b
	}
	b := []byte(u.dialect.body(u, r, acc, k))
	if len(u.bodies) < mostReplies {
		if u.bodies == nil {
			u.bodies = map[replyKey][]byte{}
		}
		u.bodies[k] = b
	}
	return b
}

// setRetryAfter writes a delay into a header.
func (u *Upstream) setRetryAfter(r *Reply, now, delay int64, form RetryForm) {
	if delay < 0 {
		return
	}
	switch form {
	case FormMillis:
		r.field("Retry-After-Ms", strconv.AppendInt(r.room(), delay/int64(time.Millisecond), 10))
	case FormDate:
		const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"
		r.field("Date", u.date(now).UTC().AppendFormat(r.room(), httpDate))
		r.field("Retry-After", u.date(now+delay).UTC().AppendFormat(r.room(), httpDate))
	default:
		r.field("Retry-After", strconv.AppendInt(r.room(), delay/int64(time.Second), 10))
	}
}
