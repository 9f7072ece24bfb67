package drain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/drain/draintest"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// upstream is an Upstream that a test scripts; it remembers what was sent.
type upstream struct {
	answer func(j *drain.Job, n int) drain.Answer // n-th time (>= 1) that the job was sent
	takes  time.Duration

	mu       sync.Mutex
	sent     map[string]int
	order    []string
	inFlight int
	most     int
}

func (u *upstream) Send(ctx context.Context, j *drain.Job) drain.Answer {
	u.mu.Lock()
	if u.sent == nil {
		u.sent = map[string]int{}
	}
	u.sent[j.ID]++
	n := u.sent[j.ID]
	u.order = append(u.order, j.ID)
	u.inFlight++
	u.most = max(u.most, u.inFlight)
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		u.inFlight--
		u.mu.Unlock()
	}()
	if u.takes > 0 {
		if err := limiter.Sleep(ctx, u.takes); err != nil {
			return drain.Answer{Err: err, Outcome: limiter.Outcome{Class: feedback.Canceled}}
		}
	}
	if u.answer == nil {
		return served
	}
	return u.answer(j, n)
}

func (u *upstream) times(id string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sent[id]
}

var served = drain.Answer{Status: 200, Body: []byte(`{"ok":true}`)}

func failed(status int, class feedback.Class) drain.Answer {
	return drain.Answer{Status: status, Body: []byte(`{"error":{}}`), Outcome: limiter.Outcome{Class: class}, Retryable: class != feedback.ClientError}
}

func jobs(n int) (all []*drain.Delivery) {
	for i := range n {
		all = append(all, &drain.Delivery{Body: line(fmt.Sprint("job-", i), i), Where: fmt.Sprint("memory:", i)})
	}
	return all
}

func line(id string, n int) []byte {
	return fmt.Appendf(nil, `{"custom_id":%q,"url":"/v1/chat/completions","body":{"model":"m","n":%d,"max_tokens":7}}`, id, n)
}

// world is a runner in a bubble with everything in memory.
type world struct {
	src   *draintest.Memory
	store *draintest.Results
	up    *upstream
	guard *limiter.Guard
	cfg   drain.Config
}

func newWorld(t *testing.T, limit int) *world {
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(limit), PauseJitter: -1, MaxWait: 24 * time.Hour, MaxPause: 24 * time.Hour, Queue: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{src: &draintest.Memory{}, store: &draintest.Results{}, up: &upstream{}, guard: guard}
	w.cfg = drain.Config{Source: w.src, Store: w.store, Upstream: w.up, Guard: guard}
	return w
}

func (w *world) run(t *testing.T) (drain.Progress, error) { return w.runFor(t, t.Context()) }

func (w *world) runFor(t *testing.T, ctx context.Context) (drain.Progress, error) {
	t.Helper()
	r, err := drain.New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Run(ctx)
	if n := w.guard.Stats().InFlight; n != 0 {
		t.Errorf("%d permits are held at the end", n)
	}
	return r.Progress(), err
}

func TestDrainsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.up.takes = time.Second
		w.src.Publish(jobs(200)...)
		w.src.Finish()
		start := time.Now()
		p, err := w.run(t)
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("took %v, want 20s: 200 jobs of a second, 10 at a time", d)
		}
		if w.up.most != 10 {
			t.Errorf("%d in flight at most, want 10", w.up.most)
		}
		if p.Done != 200 || p.Fetched != 200 || w.store.Len() != 200 || w.src.Left() != 0 {
			t.Errorf("progress %+v, %d results, %d left", p, w.store.Len(), w.src.Left())
		}
		for id, n := range w.up.sent {
			if n != 1 {
				t.Errorf("%s was sent %d times", id, n)
			}
		}
	})
}

// A refusal is no failure of the job: it is sent until it is served, and the delay that was named is kept by all.
func TestRefusalsAreNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		w.up.takes = 10 * time.Millisecond
		var pausedUntil atomic.Int64
		w.up.answer = func(j *drain.Job, n int) drain.Answer {
			now := time.Now().UnixNano()
			// What was sent in the instant of the refusal was on its way before anybody could know of it, and is answered a
			// little later.
			if left := time.Duration(pausedUntil.Load() - now); left > 0 && left < 30*time.Second-w.up.takes {
				t.Errorf("%s was sent %v before the end of a pause", j.ID, left)
			}
			if j.ID == "job-5" && n == 1 {
				a := failed(429, feedback.Throttled)
				a.HasRetryAfter, a.RetryAfter = true, 30*time.Second
				pausedUntil.Store(now + int64(30*time.Second))
				return a
			}
			if n <= 12 && strings.HasSuffix(j.ID, "7") {
				return failed(429, feedback.Throttled)
			}
			return served
		}
		w.src.Publish(jobs(20)...)
		w.src.Finish()
		p, err := w.run(t)
		if err != nil || p.Done != 20 || p.Dead != 0 {
			t.Fatalf("%v, progress %+v", err, p)
		}
		if want := int64(1 + 2*12); p.Throttled != want {
			t.Errorf("%d refusals counted, want %d", p.Throttled, want)
		}
		if n := w.up.times("job-7"); n != 13 {
			t.Errorf("job-7 was sent %d times, want 13", n)
		}
	})
}

// A delay that the upstream names is kept although the guard holds nothing back for it, because it only observes or leaves that to its
// callers; and so is the pause for a quota that is used up.
func TestDelaysWithoutTheGuard(t *testing.T) {
	for name, cfg := range map[string]limiter.Config{"observe": {Observe: true}, "ignore": {IgnoreRetryAfter: true}} {
		for _, class := range []feedback.Class{feedback.Throttled, feedback.Overloaded, feedback.QuotaExhausted} {
			t.Run(fmt.Sprint(name, " ", class), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 4)
					cfg.Law, cfg.MaxWait = adaptive.NewFixed(4), time.Hour
					var err error
					if w.guard, err = limiter.New(cfg); err != nil {
						t.Fatal(err)
					}
					w.cfg.Guard, w.cfg.QuotaPause = w.guard, 30*time.Second
					w.up.takes = 10 * time.Millisecond
					w.up.answer = func(_ *drain.Job, n int) drain.Answer {
						if n > 3 {
							return served
						}
						a := failed(429, class)
						a.HasRetryAfter, a.RetryAfter = class != feedback.QuotaExhausted, 30*time.Second
						return a
					}
					w.src.Publish(jobs(4)...)
					w.src.Finish()
					start := time.Now()
					p, err := w.run(t)
					if err != nil || p.Done != 4 || p.Dead != 0 {
						t.Fatalf("%v, progress %+v", err, p)
					}
					if d := time.Since(start); d < 90*time.Second || d > 5*time.Minute { // a pause of the guard is for all
						t.Errorf("took %v for three delays of 30 s each", d)
					}
				})
			})
		}
	}
}

// An upstream that is overloaded in the middle of a stream has done a part of the job, which may be paid for: it is not sent again unless
// it may be repeated. One that says so before anything came has refused it.
func TestOverloadedInTheMiddle(t *testing.T) {
	const (
		begin = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Once\"}}\n\n"
		cut   = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"
		whole = begin + "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	)
	for _, c := range []struct {
		name, first string
		idempotent  bool
		sent        int
		dead        drain.Reason
	}{
		{"begun", begin + cut, false, 1, drain.ReasonAmbiguous},
		{"begun and idempotent", begin + cut, true, 2, ""},
		{"refused", cut, false, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				sent := 0
				up, err := drain.NewHTTP(drain.HTTP{BaseURL: "http://h", Base: roundTripper(func(*http.Request) (*http.Response, error) {
					body := whole
					if sent++; sent == 1 {
						body = c.first
					}
					return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, ContentLength: -1, Body: io.NopCloser(strings.NewReader(body))}, nil
				})})
				if err != nil {
					t.Fatal(err)
				}
				w.cfg.Upstream, w.cfg.Idempotent = up, c.idempotent
				w.src.Publish(jobs(1)...)
				w.src.Finish()
				if _, err := w.run(t); err != nil {
					t.Fatal(err)
				}
				var dead drain.Reason
				if l := w.src.Letters(); len(l) == 1 {
					dead = l[0].Reason
				}
				if sent != c.sent || dead != c.dead {
					t.Errorf("sent %d times, dead letter %q; want %d, %q", sent, dead, c.sent, c.dead)
				}
			})
		})
	}
}

// What a guard in the base of an HTTP upstream refused was not sent, and is sent later.
func TestGuardInTheBase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		calls := 0
		up, err := drain.NewHTTP(drain.HTTP{BaseURL: "http://h", Base: roundTripper(func(*http.Request) (*http.Response, error) {
			if calls++; calls < 3 {
				return nil, &limiter.RejectedError{Guard: "shared", Reason: limiter.ReasonQueueFull}
			}
			return &http.Response{StatusCode: 200, ContentLength: 2, Body: io.NopCloser(strings.NewReader("{}"))}, nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		w.cfg.Upstream = up
		w.src.Publish(jobs(1)...)
		w.src.Finish()
		if _, err := w.run(t); err != nil || calls != 3 || len(w.src.Letters()) != 0 {
			t.Errorf("%d calls, %d dead letters, %v; want 3 and none", calls, len(w.src.Letters()), err)
		}
		if o := w.guard.Stats().Counts.Outcomes; o[feedback.OK] != 1 || o[feedback.Canceled] != 0 {
			t.Errorf("the run's own guard counts %v, want the call that was sent alone", o)
		}
	})
}

// What such a guard will never let pass is not asked of it for a day.
func TestGuardInTheBaseThatNeverLetsPass(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		want   error
		letter drain.Reason
	}{
		{"closed", &limiter.RejectedError{Reason: limiter.ReasonClosed}, limiter.ErrClosed, ""},
		{"too large", &limiter.RejectedError{Reason: limiter.ReasonTooLarge}, nil, drain.ReasonTooLarge},
		{"no key", &limiter.NoKeyError{Out: true, Keys: []limiter.KeyStatus{{Out: limiter.KeyUnauthorized}}}, drain.ErrUnauthorized, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				calls := 0
				up, err := drain.NewHTTP(drain.HTTP{BaseURL: "http://h", Base: roundTripper(func(*http.Request) (*http.Response, error) {
					calls++
					return nil, tt.err
				})})
				if err != nil {
					t.Fatal(err)
				}
				w.cfg.Upstream = up
				w.src.Publish(jobs(1)...)
				w.src.Finish()
				_, err = w.run(t)
				letters := w.src.Letters()
				if !errors.Is(err, tt.want) || calls != 1 || (len(letters) == 1) != (tt.letter != "") || len(letters) == 1 && letters[0].Reason != tt.letter {
					t.Errorf("%d calls, %v, dead letters %+v; want 1, %v, %q", calls, err, letters, tt.want, tt.letter)
				}
			})
		})
	}
}

// A delay of years, beside a limit on calls in flight, is not waited for: the job is tried once more when it is given up.
func TestDelayOfYears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		w.up.answer = func(*drain.Job, int) drain.Answer {
			a := failed(429, feedback.Throttled)
			a.HasRetryAfter, a.RetryAfter, a.Scope = true, 1<<63-1, feedback.ScopeConcurrency
			return a
		}
		w.src.Publish(jobs(1)...)
		w.src.Finish()
		start := time.Now()
		p, err := w.run(t)
		if d := time.Since(start); err != nil || p.Dead != 1 || d < 24*time.Hour || d > 25*time.Hour {
			t.Errorf("after %v: %v, progress %+v; want a dead letter after a day", d, err, p)
		}
	})
}

// An upstream that has accepted nothing yet and says "come back tomorrow" is asked again when the guard does, after MaxPause.
func TestDrainAsksAgainAfterMaxPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		var err error
		if w.guard, err = limiter.New(limiter.Config{Law: adaptive.NewFixed(4), PauseJitter: -1, MaxWait: 30 * time.Second, MaxPause: 5 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		w.cfg.Guard = w.guard
		w.up.takes = time.Second
		var asked atomic.Int64
		w.up.answer = func(*drain.Job, int) drain.Answer {
			if asked.Add(1) <= 4 {
				a := failed(429, feedback.Throttled)
				a.HasRetryAfter, a.RetryAfter = true, 24*time.Hour
				return a
			}
			return served
		}
		w.src.Publish(jobs(20)...)
		w.src.Finish()
		start := time.Now()
		p, err := w.run(t)
		if err != nil || p.Done != 20 {
			t.Fatalf("%v, progress %+v", err, p)
		}
		if d := time.Since(start); d < 5*time.Minute || d > 6*time.Minute {
			t.Errorf("took %v, want 5 to 6 minutes", d)
		}
	})
}

func TestEndsOfAJob(t *testing.T) {
	big := `{"custom_id":"big","url":"/x","body":{"p":"` + strings.Repeat("x", 2000) + `"}}`
	for _, test := range []struct {
		name       string
		line       string
		answer     drain.Answer
		idempotent bool
		reason     drain.Reason // "" is a result
		sent       int
	}{
		{"served", string(line("a", 1)), served, false, "", 1},
		{"not JSON", `{"custom_id":"a"`, served, false, drain.ReasonBadJSON, 0},
		{"another encoding", "{\"custom_id\":\"caf\xe9\",\"url\":\"/x\",\"body\":{}}", served, false, drain.ReasonBadJSON, 0},
		{"no object", `[1]`, served, false, drain.ReasonInvalid, 0},
		{"no url", `{"custom_id":"a","body":{}}`, served, false, drain.ReasonInvalid, 0},
		{"no body", `{"custom_id":"a","url":"/x"}`, served, false, drain.ReasonInvalid, 0},
		{"a GET without a body", `{"custom_id":"a","method":"GET","url":"/x"}`, served, false, "", 1},
		{"a method", `{"custom_id":"a","method":"CONNECT","url":"/x","body":{}}`, served, false, drain.ReasonInvalid, 0},
		{"another host", `{"custom_id":"a","url":"https://evil.example/x","body":{}}`, served, false, drain.ReasonInvalid, 0},
		{"another host, without a scheme", `{"custom_id":"a","url":"//evil.example/x","body":{}}`, served, false, drain.ReasonInvalid, 0},
		{"a user before the host", `{"custom_id":"a","url":"@evil.example/x","body":{}}`, served, false, drain.ReasonInvalid, 0},
		{"a line in the path", `{"custom_id":"a","url":"/x\r\nHost: evil","body":{}}`, served, false, drain.ReasonInvalid, 0},
		{"no path", `{"custom_id":"a","url":"/x/%zz","body":{}}`, served, false, drain.ReasonInvalid, 0},
		{"a byte that no path has", `{"custom_id":"a","url":"/x\u0001","body":{}}`, served, false, drain.ReasonInvalid, 0},
		{"priority", `{"custom_id":"a","url":"/x","priority":9,"body":{}}`, served, false, drain.ReasonInvalid, 0},
		{"large", big, served, false, drain.ReasonTooLarge, 0},
		{"400", string(line("a", 1)), failed(400, feedback.ClientError), true, drain.ReasonRefused, 1},
		{"an endpoint that the key is not for", string(line("a", 1)), drain.Answer{Status: 401, Key: limiter.KeyForbidden, Outcome: limiter.Outcome{Class: feedback.ClientError}}, false, drain.ReasonRefused, 1},
		{"a model that is not in the plan", string(line("a", 1)), drain.Answer{Status: 429, Key: limiter.KeyForbidden, Outcome: limiter.Outcome{Class: feedback.QuotaExhausted}}, false, drain.ReasonRefused, 1},
		{"500", string(line("a", 1)), failed(500, feedback.ServerError), false, drain.ReasonAmbiguous, 1},
		{"500, may be repeated", string(line("a", 1)), failed(500, feedback.ServerError), true, drain.ReasonAttempts, 5},
		{"time-out", string(line("a", 1)), failed(504, feedback.Timeout), false, drain.ReasonAmbiguous, 1},
		{"429 for ever", string(line("a", 1)), failed(429, feedback.Throttled), false, drain.ReasonGaveUp, -1},
		{"a large answer", string(line("a", 1)), drain.Answer{Status: 200, TooLarge: true}, false, drain.ReasonAnswer, 1},
		{"not reached for long", string(line("a", 1)), drain.Answer{Unsent: true, Err: io.EOF, Outcome: limiter.Outcome{Class: feedback.Overloaded}}, false, drain.ReasonGaveUp, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				w.cfg.MaxBody, w.cfg.Idempotent, w.cfg.GiveUp = 1024, test.idempotent, time.Hour
				w.up.answer = func(*drain.Job, int) drain.Answer { return test.answer }
				w.src.Publish(&drain.Delivery{Body: []byte(test.line), Where: "it"})
				w.src.Finish()
				if _, err := w.run(t); err != nil {
					t.Fatal(err)
				}
				letters := w.src.Letters()
				if test.reason == "" {
					if len(letters) != 0 || w.store.Len() != 1 {
						t.Errorf("dead letters %v and %d results, want a result", letters, w.store.Len())
					}
				} else if len(letters) != 1 || letters[0].Reason != test.reason || letters[0].Detail == "" || w.store.Len() != 0 {
					t.Errorf("dead letters %v and %d results, want one because of %s", letters, w.store.Len(), test.reason)
				}
				if n := len(w.up.order); test.sent >= 0 && n != test.sent || test.sent < 0 && n < 2 {
					t.Errorf("sent %d times, want %d", n, test.sent)
				}
			})
		})
	}
}

// A run that waits for an upstream that cannot be reached, or refuses everything, tells why for as long as nothing gets through.
func TestProgressTellsOfTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		away := time.Now().Add(5 * time.Minute)
		w.up.answer = func(*drain.Job, int) drain.Answer {
			if time.Now().Before(away) {
				return drain.Answer{Unsent: true, Err: errors.New("connection refused"), Outcome: limiter.Outcome{Class: feedback.Overloaded}}
			}
			return served
		}
		told := 0
		w.cfg.OnProgress = func(p drain.Progress) {
			if strings.Contains(p.Trouble, "connection refused") {
				told++
			}
		}
		w.src.Publish(jobs(3)...)
		w.src.Finish()
		if p, err := w.run(t); err != nil || p.Done != 3 || p.Trouble != "" || told < 250 {
			t.Errorf("%v, told %d times of 300, and at the end %+v", err, told, p)
		}
	})
}

// What has a result is not sent: in this run, in the next, and when it is delivered twice at a time.
func TestNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		w.up.takes = time.Second
		ds := jobs(10)
		w.src.Publish(ds...)
		for range 3 {
			for _, d := range ds { // again, while the first is in flight
				again := *d
				w.src.Publish(&again)
			}
		}
		w.src.Finish()
		p, err := w.run(t)
		if err != nil || w.store.Len() != 10 || w.src.Left() != 0 || len(w.src.Letters()) > 0 {
			t.Fatalf("%v, %d results, %d left, letters %v", err, w.store.Len(), w.src.Left(), w.src.Letters())
		}
		if p.Done != 10 {
			t.Errorf("%d done, want 10", p.Done)
		}
		// A second start, with more of the same, and one with other content.
		w.src = &draintest.Memory{}
		w.cfg.Source = w.src
		w.src.Publish(jobs(10)...)
		w.src.Publish(&drain.Delivery{Body: line("job-3", 99), Where: "other"})
		w.src.Finish()
		p, err = w.run(t)
		if err != nil || p.Known != 10 || p.Done != 0 || p.Dead != 1 {
			t.Errorf("%v, the second run: %+v", err, p)
		}
		if l := w.src.Letters(); len(l) != 1 || l[0].Reason != drain.ReasonConflict {
			t.Errorf("dead letters %v, want a conflict", l)
		}
		for id, n := range w.up.sent {
			if n != 1 {
				t.Errorf("%s was sent %d times", id, n)
			}
		}
	})
}

// A place may hold another message later, which is another job and not one with the id of the first.
func TestPlaceOfAnotherMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(n int) *drain.Delivery {
			return &drain.Delivery{ID: "jobs/0@3", Place: true, Body: line("", n), Where: "jobs/0@3"}
		}
		w := newWorld(t, 4)
		w.up.takes = time.Second
		for i, run := range []struct {
			ds          []*drain.Delivery
			done, known int64
		}{
			{[]*drain.Delivery{at(1)}, 1, 0},
			{[]*drain.Delivery{at(2)}, 1, 0},
			{[]*drain.Delivery{at(1), at(2)}, 0, 2},
			{[]*drain.Delivery{at(3), at(4), at(3)}, 2, 0}, // while the first is on its way
			{[]*drain.Delivery{at(4), at(3)}, 0, 2},
		} {
			w.src = &draintest.Memory{}
			w.cfg.Source = w.src
			w.src.Publish(run.ds...)
			w.src.Finish()
			if p, err := w.run(t); err != nil || p.Done != run.done || p.Known != run.known || p.Dead != 0 {
				t.Errorf("run %d: %v, %+v, want %d done and %d known", i+1, err, p, run.done, run.known)
			}
		}
	})
}

// White space between tokens is not content.
func TestHash(t *testing.T) {
	parse := func(s string) drain.Hash {
		j, err := drain.ParseJob([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return j.Hash
	}
	a := parse(`{"custom_id":"1","method":"POST","url":"/x","body":{"a":1,"b":[1,2]}}`)
	if b := parse(`{ "body": {"a": 1, "b": [1, 2]}, "url":"/x", "custom_id":"2"}`); a != b {
		t.Error("spaces, order and id of the line change the hash")
	}
	for _, s := range []string{
		`{"url":"/y","body":{"a":1,"b":[1,2]}}`, `{"url":"/x","body":{"a":2,"b":[1,2]}}`, `{"method":"PUT","url":"/x","body":{"a":1,"b":[1,2]}}`,
	} {
		if parse(s) == a {
			t.Errorf("%s has the same hash", s)
		}
	}
	if h, ok := drain.ParseHash(a.String()); !ok || h != a {
		t.Error("a hash does not survive its text")
	}
}

func TestOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		w.cfg.Ordered = true
		w.up.takes = 10 * time.Millisecond
		w.up.answer = func(j *drain.Job, n int) drain.Answer {
			if n == 1 && strings.HasSuffix(j.ID, "-3") {
				return failed(503, feedback.Overloaded) // those behind it wait
			}
			return served
		}
		for i := range 10 {
			for _, key := range []string{"a", "b", "c"} {
				w.src.Publish(&drain.Delivery{Key: key, Body: line(fmt.Sprintf("%s-%d", key, i), i), HoldUntil: time.Now().Add(time.Millisecond)})
			}
		}
		w.src.Finish()
		if p, err := w.run(t); err != nil || p.Done != 30 || p.Retried != 0 {
			t.Fatalf("%v, %+v", err, p)
		}
		last := map[string]int{}
		for _, id := range w.up.order {
			key, n, _ := strings.Cut(id, "-")
			i := int(n[0] - '0')
			if i < last[key] || i > last[key]+1 {
				t.Errorf("%s was sent after %s-%d", id, key, last[key])
			}
			last[key] = i
		}
	})
}

// A delivery that may not be held for as long as it has to wait goes back, and comes again.
func TestHandsBackWhatWaitsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.src.Hold = 20 * time.Second
		w.up.takes = time.Second
		w.src.Publish(jobs(6)...)
		var answers atomic.Int64
		w.up.answer = func(*drain.Job, int) drain.Answer {
			if answers.Add(1) == 1 { // whichever came first
				a := failed(429, feedback.Throttled)
				a.HasRetryAfter, a.RetryAfter = true, time.Minute
				return a
			}
			return served
		}
		w.src.Finish()
		p, err := w.run(t)
		if err != nil || p.Done != 6 || p.Retried < 4 || p.Retried > 12 {
			t.Fatalf("%v, %+v", err, p)
		}
		if p.Dead != 0 {
			t.Error(w.src.Letters())
		}
	})
}

func TestStops(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer drain.Answer
		cfg    func(*drain.Config)
		want   error
		sent   int // at most
	}{
		{"money", failed(429, feedback.QuotaExhausted), nil, drain.ErrQuota, 8},
		{"key", failed(401, feedback.ClientError), nil, drain.ErrUnauthorized, 8},
		{"model", failed(404, feedback.ClientError), func(c *drain.Config) { c.StopAfter = 10 }, drain.ErrRefused, 18},
		{"outage", failed(500, feedback.ServerError), func(c *drain.Config) { c.StopAfter = 10 }, drain.ErrFailing, 18},
		{"outage, repeated", failed(500, feedback.ServerError), func(c *drain.Config) { c.StopAfter, c.Idempotent, c.MaxAttempts = 10, true, 2 }, drain.ErrFailing, 60},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				w.up.takes = time.Millisecond
				if test.cfg != nil {
					test.cfg(&w.cfg)
				}
				test.answer.Retryable = false
				w.up.answer = func(*drain.Job, int) drain.Answer { return test.answer }
				w.src.Publish(jobs(1000)...)
				w.src.Finish()
				p, err := w.run(t)
				if !errors.Is(err, test.want) {
					t.Fatalf("Run: %v, want %v", err, test.want)
				}
				if n := len(w.up.order); n > test.sent {
					t.Errorf("%d jobs were sent, want %d at most", n, test.sent)
				}
				if int64(w.src.Left())+p.Dead != 1000 {
					t.Errorf("%d left and %d dead of 1000", w.src.Left(), p.Dead)
				}
			})
		})
	}
}

// A connection that breaks fails all that are on their way at once. That is no upstream that fails every job.
func TestBreakDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 100)
		w.cfg.StopAfter = 10
		w.up.takes = time.Second
		began := time.Now()
		w.up.answer = func(*drain.Job, int) drain.Answer {
			if time.Since(began) < 1500*time.Millisecond {
				return failed(500, feedback.ServerError)
			}
			return served
		}
		w.src.Publish(jobs(300)...)
		w.src.Finish()
		p, err := w.run(t)
		if err != nil || p.Done != 200 || p.Dead != 100 {
			t.Fatalf("%v, %+v", err, p)
		}
	})
}

// A quota that comes back is waited for when the run may.
func TestQuotaPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		w.cfg.QuotaPause = 10 * time.Minute
		start := time.Now()
		w.up.answer = func(*drain.Job, int) drain.Answer {
			if time.Since(start) < 25*time.Minute {
				return failed(429, feedback.QuotaExhausted)
			}
			return served
		}
		w.src.Publish(jobs(20)...)
		w.src.Finish()
		if p, err := w.run(t); err != nil || p.Done != 20 {
			t.Fatalf("%v, %+v", err, p)
		}
		if n := len(w.up.order); n > 20+3*4 {
			t.Errorf("%d sent, want few while the quota was used up", n)
		}
	})
}

func TestGracefulStop(t *testing.T) {
	for _, long := range []bool{false, true} {
		t.Run(fmt.Sprint("longer than the grace: ", long), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				w.cfg.Grace = 5 * time.Second
				w.up.takes = 3 * time.Second
				if long {
					w.up.takes = time.Minute
				}
				w.src.Publish(jobs(50)...)
				ctx, cancel := context.WithCancelCause(t.Context())
				cause := errors.New("SIGTERM")
				time.AfterFunc(time.Second, func() { cancel(cause) })
				start := time.Now()
				p, err := w.runFor(t, ctx)
				if !errors.Is(err, cause) {
					t.Fatal(err)
				}
				want, done, dead := 3*time.Second, int64(4), int64(0)
				if long {
					want, done, dead = 6*time.Second, 0, 4
				}
				if d := time.Since(start); d != want || p.Done != done || p.Dead != dead {
					t.Errorf("ended after %v with %+v, want %v, %d done and %d dead", d, p, want, done, dead)
				}
				if n := int64(w.src.Left()); n != 50-done-dead {
					t.Errorf("%d left, want %d", n, 50-done-dead)
				}
			})
		})
	}
}

// failing is a store that fails for a while.
type failing struct {
	draintest.Results
	until time.Time
}

func (f *failing) Put(ctx context.Context, r *drain.Result) error {
	if time.Now().Before(f.until) {
		return errors.New("no space left on device")
	}
	return f.Results.Put(ctx, r)
}

func TestStoreThatFails(t *testing.T) {
	for _, d := range []time.Duration{30 * time.Second, time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				store := &failing{until: time.Now().Add(d)}
				w.cfg.Store = store
				w.src.Publish(jobs(20)...)
				w.src.Finish()
				p, err := w.run(t)
				if d == time.Hour {
					if err == nil || !strings.Contains(err.Error(), "no space left") || p.Done != 0 || w.src.Left() != 20 {
						t.Errorf("%v, %+v, %d left", err, p, w.src.Left())
					}
					return
				}
				if err != nil || p.Done != 20 || len(w.up.order) != 20 {
					t.Errorf("%v, %+v, %d sent", err, p, len(w.up.order))
				}
			})
		})
	}
}

// While results cannot be made durable, nothing more is sent: it would be paid for in vain when that goes on.
func TestNothingIsSentThatCannotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		store := &failing{until: time.Now().Add(30*time.Second + time.Millisecond)}
		w.cfg.Store = store
		w.up.takes = time.Second
		w.src.Publish(jobs(60)...)
		w.src.Finish()
		time.AfterFunc(30*time.Second, func() {
			w.up.mu.Lock()
			defer w.up.mu.Unlock()
			if n := len(w.up.order); n != 4 {
				t.Errorf("%d jobs were sent whose results cannot be made durable, want the 4 that were in flight", n)
			}
		})
		if p, err := w.run(t); err != nil || p.Done != 60 || len(w.up.order) != 60 {
			t.Errorf("%v, %+v, %d sent", err, p, len(w.up.order))
		}
	})
}

// large is a source of large jobs without an end, one at a time.
type large struct {
	draintest.Memory
	id      func(n int) string
	fetched atomic.Int64
}

func (l *large) Fetch(ctx context.Context, n int) ([]*drain.Delivery, error) {
	i := int(l.fetched.Add(1))
	if i > 300 {
		return nil, errors.New("far too many jobs are fetched")
	}
	l.Publish(&drain.Delivery{Body: fmt.Appendf(nil, `{"custom_id":%q,"url":"/x","body":{"pad":"%s"}}`, l.id(i), strings.Repeat("x", 1<<20))})
	return l.Memory.Fetch(ctx, 1)
}

// What waits is bounded by its bytes, too, however many calls the guard would let be in flight, and also when it is one job again and again.
func TestLargeJobs(t *testing.T) {
	for name, id := range map[string]func(int) string{
		"each its own": strconv.Itoa,
		"all the same": func(int) string { return "same" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 40)
				src := &large{id: id}
				w.cfg.Source, w.cfg.InHand = src, 1000
				w.guard.Pause(time.Now().Add(time.Minute))
				w.up.takes = time.Second
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(59*time.Second, func() {
					if n := src.fetched.Load(); n < 60 || n > 70 {
						t.Errorf("%d jobs of a MiB each wait in a pause, want about 64", n)
					}
					if id(1) == id(2) {
						cancel() // else one would be sent, and the others known as fast as they come
					}
				})
				time.AfterFunc(65*time.Second, func() {
					if n := src.fetched.Load(); ctx.Err() == nil && n < 200 {
						t.Errorf("%d jobs were fetched 5 s after the pause, want 40 a second", n)
					}
					cancel()
				})
				if _, err := w.runFor(t, ctx); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		})
	}
}

// slowly is a Store that takes its time.
type slowly struct {
	drain.Store
	takes time.Duration
}

func (s slowly) Put(ctx context.Context, res *drain.Result) error {
	time.Sleep(s.takes)
	return s.Store.Put(ctx, res)
}

// A job is held until its answer is durable, and counts for as long, however small its answer is.
func TestLargeJobsOnASlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 40)
		src := &large{id: strconv.Itoa}
		w.cfg.Source, w.cfg.InHand, w.cfg.Store = src, 1000, slowly{w.cfg.Store, time.Minute}
		w.up.takes = time.Second
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(59*time.Second, func() {
			if n := src.fetched.Load(); n < 60 || n > 110 {
				t.Errorf("%d jobs of a MiB each are held, want about 64 and the 40 that were in flight", n)
			}
		})
		time.AfterFunc(65*time.Second, func() {
			if n := src.fetched.Load(); n < 120 {
				t.Errorf("%d jobs were fetched 5 s after the first answers were durable, want more", n)
			}
			cancel()
		})
		if _, err := w.runFor(t, ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// A reply is sent again when nobody knows whether it was; the job is not.
func TestReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		reply := &draintest.Results{}
		w.cfg.Reply = reply
		w.src.Publish(jobs(5)...)
		w.src.Finish()
		if _, err := w.run(t); err != nil {
			t.Fatal(err)
		}
		w.src = &draintest.Memory{}
		w.cfg.Source = w.src
		w.src.Publish(jobs(5)...)
		w.src.Finish()
		if _, err := w.run(t); err != nil {
			t.Fatal(err)
		}
		if reply.Puts != 10 || reply.Len() != 5 || len(w.up.order) != 5 {
			t.Errorf("%d replies to %d jobs, %d sent", reply.Puts, reply.Len(), len(w.up.order))
		}
	})
}

func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		d := jobs(1)[0]
		d.Attempts = 20
		w.src.Publish(d)
		w.src.Finish()
		if _, err := w.run(t); err != nil || len(w.up.order) != 0 {
			t.Fatal(err, w.up.order)
		}
		if l := w.src.Letters(); len(l) != 1 || l[0].Reason != drain.ReasonPoison {
			t.Error(l)
		}
	})
}

// A job that is handed back again and again because the upstream is busy is no poison. It is given up by the time since it was first
// delivered.
func TestRetriesAreNoPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		w.src.Hold = time.Minute
		w.cfg.GiveUp = 3 * time.Hour
		w.up.answer = func(*drain.Job, int) drain.Answer {
			a := failed(429, feedback.Throttled)
			a.RetryAfter, a.HasRetryAfter, a.Scope = 4*time.Minute, true, feedback.ScopeConcurrency
			return a
		}
		w.src.Publish(jobs(1)...)
		w.src.Finish()
		begin := time.Now()
		if _, err := w.run(t); err != nil {
			t.Error(err)
		}
		if l := w.src.Letters(); len(l) != 1 || l[0].Reason != drain.ReasonGaveUp {
			t.Errorf("dead letters: %v, want it given up", l)
		}
		if d := time.Since(begin); d < 3*time.Hour || d > 3*time.Hour+10*time.Minute {
			t.Errorf("it was given up after %v, want 3h", d)
		}
	})
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.up.takes = time.Second
		w.up.answer = func(*drain.Job, int) drain.Answer {
			a := served
			a.Usage = feedback.Usage{Known: true, Input: 1000, CachedInput: 400, Output: 100}
			return a
		}
		w.cfg.Prices = map[string]drain.Price{"m": {Input: 2, CachedInput: 1, Output: 10}}
		var all []drain.Progress
		w.cfg.OnProgress = func(p drain.Progress) { all = append(all, p) }
		w.src.Publish(jobs(200)...)
		w.src.Finish()
		if _, err := w.run(t); err != nil {
			t.Fatal(err)
		}
		last := all[len(all)-1]
		if len(all) < 20 || !last.Final || last.Done != 200 || last.Input != 200_000 || last.CachedInput != 80_000 || last.Output != 20_000 {
			t.Errorf("%d reports, the last %+v", len(all), last)
		}
		if want := 200 * (600*2 + 400*1 + 100*10.0) / 1e6; last.Cost < want*0.999 || last.Cost > want*1.001 {
			t.Errorf("cost %v, want %v", last.Cost, want)
		}
		if r := all[15].Rate; r < 9 || r > 11 {
			t.Errorf("rate %v, want 10", r)
		}
	})
}

func TestConfig(t *testing.T) {
	_, err := drain.New(drain.Config{InHand: -1, MaxBody: 5, Grace: -1})
	for _, want := range []string{"Source", "Store", "Upstream", "Guard", "InHand", "MaxBody", "Grace"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}

// Over real connections: an answer becomes a line of the batch format, and what cannot be a job a dead letter.
func TestJSONLOverHTTP(t *testing.T) {
	var keys sync.Map
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		keys.Store(r.Header.Get("Idempotency-Key"), true)
		if r.Header.Get("Authorization") != "Bearer k" || r.URL.Path != "/base/v1/chat/completions" {
			t.Errorf("%s with %v", r.URL, r.Header)
		}
		w.Header().Set("X-Request-Id", "req-1")
		switch {
		case bytes.Contains(body, []byte("redirect")):
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		case bytes.Contains(body, []byte("stream")):
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: [DONE]\n\n")
		default:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, "{\n \"choices\": [],\n \"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 2, \"total_tokens\": 5}\n}\n")
		}
	}))
	defer srv.Close()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.jsonl"), filepath.Join(dir, "out.jsonl")
	long := `{"custom_id":"long","url":"/v1/chat/completions","body":"` + strings.Repeat("x", 5000) + `"}`
	write(t, in, "\xef\xbb\xbf"+string(line("first", 1))+"\r\n\n  \n"+string(line("zwölf \"12\"", 2))+"\nnot json \xff\n"+
		`{"custom_id":"s","url":"/v1/chat/completions","body":{"stream":true}}`+"\n"+
		`{"custom_id":"r","url":"/v1/chat/completions","body":{"p":"redirect"}}`+"\n"+long+"\n"+string(line("last", 3)))
	run := func() drain.Progress {
		t.Helper()
		src, err := drain.OpenJSONL(in, drain.JSONLConfig{MaxLine: 4096})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		if n, ok := src.Total(); !ok || n != 7 {
			t.Errorf("%d jobs in all, want 7", n)
		}
		store, err := drain.OpenFile(out)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		up, err := drain.NewHTTP(drain.HTTP{BaseURL: srv.URL + "/base/", Header: http.Header{"Authorization": {"Bearer k"}}, IdempotencyKey: true})
		if err != nil {
			t.Fatal(err)
		}
		guard, err := limiter.New(limiter.Config{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := drain.New(drain.Config{Source: src, Store: store, Upstream: up, Guard: guard})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		return r.Progress()
	}
	if p := run(); p.Done != 4 || p.Dead != 3 || p.Input != 9 || p.Output != 6 {
		t.Errorf("%+v", p)
	}
	type outLine struct {
		CustomID string `json:"custom_id"`
		Response struct {
			Status    int             `json:"status_code"`
			RequestID string          `json:"request_id"`
			Body      json.RawMessage `json:"body"`
		} `json:"response"`
		Error any `json:"error"`
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for l := range strings.Lines(string(data)) {
		var o outLine
		if err := json.Unmarshal([]byte(l), &o); err != nil {
			t.Fatalf("%v in %s", err, l)
		}
		ids = append(ids, o.CustomID)
		if o.Response.Status != 200 || o.Response.RequestID != "req-1" || o.Error != nil {
			t.Errorf("%s", l)
		}
		if o.CustomID == "s" != (o.Response.Body[0] == '"') {
			t.Errorf("the body of %s: %s", o.CustomID, o.Response.Body)
		}
	}
	slices.Sort(ids)
	if want := []string{"first", "last", "s", "zwölf \"12\""}; !slices.Equal(ids, want) {
		t.Errorf("results for %q, want %q", ids, want)
	}
	reasons := map[drain.Reason]drain.DeadLine{}
	for _, l := range deadLines(t, filepath.Join(dir, "in.dead.jsonl")) {
		reasons[l.Error.Code] = l
	}
	if l := reasons[drain.ReasonBadJSON]; !strings.HasSuffix(l.Where, "in.jsonl:5") || string(l.InputBytes) != "not json \xff" {
		t.Errorf("%+v", l)
	}
	if l := reasons[drain.ReasonTooLarge]; len(l.Input) < 4000 {
		t.Errorf("%+v", l)
	}
	if l := reasons[drain.ReasonRefused]; l.ID != "r" || l.Response == nil || l.Response.Status != 302 {
		t.Errorf("%+v", l)
	}
	n := 0
	keys.Range(func(k, _ any) bool { n++; return k != "" })
	if n != 5 {
		t.Errorf("%d idempotency keys, want one for each job that was sent", n)
	}
	// A second start sends nothing.
	srv.Close()
	if p := run(); p.Known != 4 || p.Done != 0 || p.Dead != 0 {
		t.Errorf("the second start: %+v", p)
	}
}

// reconnecting is a source whose connection is lost now and then.
type reconnecting struct {
	*draintest.Memory
	mu   sync.Mutex
	out  []*drain.Delivery
	lost map[*drain.Delivery]bool
}

func (s *reconnecting) Fetch(ctx context.Context, n int) ([]*drain.Delivery, error) {
	ds, err := s.Memory.Fetch(ctx, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = append(s.out, ds...)
	return ds, err
}

func (s *reconnecting) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.out {
		s.lost[d] = true
	}
	s.Crash()
}

func (s *reconnecting) gone(d *drain.Delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost[d]
}

func (s *reconnecting) Ack(ctx context.Context, d *drain.Delivery) error {
	if s.gone(d) {
		return drain.ErrLost
	}
	return s.Memory.Ack(ctx, d)
}

func (s *reconnecting) Dead(ctx context.Context, d *drain.Delivery, l *drain.DeadLetter) error {
	if s.gone(d) {
		return drain.ErrLost
	}
	return s.Memory.Dead(ctx, d, l)
}

func (s *reconnecting) Release(ctx context.Context, d *drain.Delivery) error {
	if s.gone(d) {
		return drain.ErrLost
	}
	return s.Memory.Release(ctx, d)
}

// A job fails whose delivery was lost during its call. Delivered again before or after it failed, it is a dead letter, once, and is
// not sent again.
func TestDeadLetterOfALostDelivery(t *testing.T) {
	for name, takes := range map[string]time.Duration{"before": time.Second, "after": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				src := &reconnecting{Memory: w.src, lost: map[*drain.Delivery]bool{}}
				w.cfg.Source = src
				w.up.takes = takes
				w.up.answer = func(*drain.Job, int) drain.Answer { return failed(500, feedback.ServerError) }
				w.src.Publish(jobs(1)...)
				if name == "after" {
					w.up.answer = func(*drain.Job, int) drain.Answer {
						src.mu.Lock()
						src.lost[src.out[0]] = true
						src.mu.Unlock()
						return failed(500, feedback.ServerError)
					}
				}
				time.AfterFunc(500*time.Millisecond, src.lose)
				time.AfterFunc(5*time.Second, w.src.Finish)
				if _, err := w.run(t); err != nil {
					t.Error(err)
				}
				if l := w.src.Letters(); len(l) != 1 || l[0].Reason != drain.ReasonAmbiguous {
					t.Errorf("dead letters: %v, want one", l)
				}
				if n := w.up.times("job-0"); n != 1 {
					t.Errorf("it was sent %d times, want once", n)
				}
			})
		})
	}
}

// unheard is one to which nothing arrives of a dead letter but the letter itself, until it has lost its connection.
type unheard struct{ *reconnecting }

func (s unheard) Dead(ctx context.Context, d *drain.Delivery, l *drain.DeadLetter) error {
	if s.gone(d) || len(s.Letters()) > 0 {
		return s.reconnecting.Dead(ctx, d, l)
	}
	again := *d
	if err := s.Memory.Dead(ctx, d, l); err != nil {
		return err
	}
	again.Again = true
	time.AfterFunc(time.Second, func() { s.Publish(&again) })
	return nil
}

// A job is delivered again although its dead letter is there, because what was settled did not arrive. It is not sent again; one that
// somebody has put there anew is.
func TestDeadLetterThatIsDeliveredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		w.cfg.Source = unheard{&reconnecting{Memory: w.src, lost: map[*drain.Delivery]bool{}}}
		w.up.answer = func(*drain.Job, int) drain.Answer { return failed(500, feedback.ServerError) }
		w.src.Publish(jobs(1)...)
		var before int
		time.AfterFunc(10*time.Second, func() { before = w.up.times("job-0"); w.src.Publish(jobs(1)...) })
		time.AfterFunc(20*time.Second, w.src.Finish)
		if _, err := w.run(t); err != nil {
			t.Error(err)
		}
		if after := w.up.times("job-0"); before != 1 || after != 2 {
			t.Errorf("it was sent %d times, want once, and %d times with what was put there anew, want twice", before, after)
		}
		if n := len(w.src.Letters()); n != 2 {
			t.Errorf("%d dead letters, want one of each", n)
		}
	})
}

// keeping is one that knows what it has lost.
type keeping struct{ *reconnecting }

func (s keeping) Lost(d *drain.Delivery) bool { return s.gone(d) }

// Jobs wait in a pause, and the connection is lost. What comes again is sent once; what others have done meanwhile, or have now, is not sent;
// and neither needs the other.
func TestLostWhileItWaits(t *testing.T) {
	const n = 10
	for name, tc := range map[string]struct {
		keeper, again, done bool
		sent, lost, known   int64
	}{
		"comes again":                  {keeper: true, again: true, sent: n, lost: n},
		"comes again, nobody knows":    {again: true, sent: n, lost: n},
		"others have it":               {keeper: true, lost: n},
		"others have done it":          {done: true, known: n},
		"done and comes again":         {again: true, done: true, lost: n, known: n},
		"done, comes again, and known": {keeper: true, again: true, done: true, lost: n, known: n},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				src := &reconnecting{Memory: w.src, lost: map[*drain.Delivery]bool{}}
				w.cfg.Source = src
				if tc.keeper {
					w.cfg.Source = keeping{src}
				}
				w.guard.Pause(time.Now().Add(time.Minute))
				js := jobs(n)
				w.src.Publish(js...)
				time.AfterFunc(10*time.Second, func() {
					if tc.again {
						src.lose()
						return
					}
					src.mu.Lock()
					defer src.mu.Unlock()
					for _, d := range src.out {
						src.lost[d] = tc.keeper
					}
				})
				if tc.done {
					time.AfterFunc(20*time.Second, func() {
						for _, d := range js {
							j, err := drain.ParseJob(d.Body)
							if err != nil {
								t.Error(err)
								return
							}
							if err := w.store.Put(t.Context(), &drain.Result{ID: j.ID, Hash: j.Hash, Status: 200, Body: []byte("{}")}); err != nil {
								t.Error(err)
							}
						}
					})
				}
				time.AfterFunc(2*time.Minute, w.src.Finish)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // what others have does not end here
				defer cancel()
				p, err := w.runFor(t, ctx)
				if err != nil && (tc.again || tc.done) {
					t.Fatal(err)
				}
				sent := int64(0)
				for i := range n {
					sent += int64(w.up.times(fmt.Sprint("job-", i)))
				}
				if sent != tc.sent || p.Lost != tc.lost || p.Known != tc.known {
					t.Errorf("%d were sent, want %d; %d lost, want %d; %d known, want %d", sent, tc.sent, p.Lost, tc.lost, p.Known, tc.known)
				}
				ended := uint64(0)
				for _, n := range w.guard.Stats().Counts.Outcomes {
					ended += n
				}
				if ended != uint64(sent) {
					t.Errorf("the guard learned from %d calls, %d were made", ended, sent)
				}
			})
		})
	}
}

// The connection is lost while jobs of one key wait for their turn, and other jobs have it before them. They come again, and are sent in order.
func TestOrderedAfterALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		src := &reconnecting{Memory: w.src, lost: map[*drain.Delivery]bool{}}
		w.cfg.Source, w.cfg.Ordered = keeping{src}, true
		w.up.takes = 10 * time.Second
		others, keyed := jobs(2), []*drain.Delivery{}
		for i := range 4 {
			keyed = append(keyed, &drain.Delivery{Key: "a", Body: line(fmt.Sprint("a-", i), i)})
		}
		// One is in flight for 10 s, then it is the turn of a-0, then that of the other one, for 10 s, then that of a-1.
		w.src.Publish(others[0])
		time.AfterFunc(time.Second, func() { w.src.Publish(keyed...) })
		time.AfterFunc(2*time.Second, func() { w.src.Publish(others[1]) })
		time.AfterFunc(5*time.Second, func() {
			src.mu.Lock()
			defer src.mu.Unlock()
			for _, d := range keyed {
				src.lost[d] = true
			}
		})
		time.AfterFunc(15*time.Second, func() {
			for _, d := range keyed {
				again := *d
				w.src.Publish(&again)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		p, _ := w.runFor(t, ctx)
		if got := strings.Join(w.up.order, " "); got != "job-0 job-1 a-0 a-1 a-2 a-3" || p.Lost != 4 {
			t.Errorf("sent: %s; %d lost", got, p.Lost)
		}
	})
}

// noting is a source that notes which deliveries may be in flight.
type noting struct {
	keeping
	flies map[*drain.Delivery]bool
}

func (s noting) Lost(d *drain.Delivery) bool {
	lost := s.keeping.Lost(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flies[d] = !lost
	return lost
}

func (s noting) Waits(d *drain.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flies[d] = false
}

// One job of a key is lost. The next one of the key is not, and waits for its turn: nobody who takes its partition away is to wait for it.
func TestNotInFlightAfterALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		src := noting{keeping{&reconnecting{Memory: w.src, lost: map[*drain.Delivery]bool{}}}, map[*drain.Delivery]bool{}}
		w.cfg.Source, w.cfg.Ordered = src, true
		w.up.takes = 10 * time.Second
		first := &drain.Delivery{Key: "a", Body: line("a-0", 0)}
		next := &drain.Delivery{Key: "a", Body: line("a-1", 1)}
		others := jobs(2)
		// One is in flight for 10 s, then it is the turn of a-0, then that of the other one, for 10 s, then that of a-1.
		w.src.Publish(others[0])
		time.AfterFunc(time.Second, func() { w.src.Publish(first, next) })
		time.AfterFunc(2*time.Second, func() { w.src.Publish(others[1]) })
		time.AfterFunc(5*time.Second, func() {
			src.mu.Lock()
			defer src.mu.Unlock()
			src.lost[first] = true
		})
		flies := map[time.Duration]bool{15 * time.Second: false, 25 * time.Second: true}
		for at, want := range flies {
			time.AfterFunc(at, func() {
				src.mu.Lock()
				defer src.mu.Unlock()
				if src.flies[next] != want {
					t.Errorf("after %v a-1 may be in flight: %v, want %v", at, src.flies[next], want)
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p, _ := w.runFor(t, ctx)
		if got := strings.Join(w.up.order, " "); got != "job-0 job-1 a-1" || p.Lost != 1 {
			t.Errorf("sent: %s; %d lost", got, p.Lost)
		}
	})
}

// full is a source whose dead letters have no room for a while.
type full struct {
	*draintest.Memory
	until time.Time
}

func (s *full) Dead(ctx context.Context, d *drain.Delivery, l *drain.DeadLetter) error {
	if time.Now().Before(s.until) {
		return errors.New("no space left on device")
	}
	return s.Memory.Dead(ctx, d, l)
}

func (s *full) Retry(ctx context.Context, d *drain.Delivery, after time.Duration, reason string) error {
	if time.Now().Before(s.until) {
		return errors.New("the broker takes no messages for now")
	}
	return s.Memory.Retry(ctx, d, after, reason)
}

// A broker that takes nothing for some seconds does not end a run of hours because a job has to wait longer than it may be held.
func TestRetryWaitsForTheSource(t *testing.T) {
	for d, ends := range map[time.Duration]bool{20 * time.Second: false, 5 * time.Minute: true} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				w.cfg.Source, w.cfg.MaxHold = &full{w.src, time.Now().Add(d)}, time.Millisecond
				w.up.answer = func(_ *drain.Job, n int) drain.Answer {
					if n == 1 {
						return failed(429, feedback.Throttled)
					}
					return served
				}
				w.src.Publish(jobs(1)...)
				w.src.Finish()
				p, err := w.run(t)
				if ended := err != nil; ended != ends || !ends && p.Done != 1 {
					t.Errorf("the run ended with %v, %d jobs done", err, p.Done)
				}
			})
		})
	}
}

// A job that may have been paid for would be sent again by the next run if a full disk ended this one.
func TestDeadLetterWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		w.cfg.Source = &full{w.src, time.Now().Add(20 * time.Second)}
		w.up.answer = func(*drain.Job, int) drain.Answer { return failed(500, feedback.ServerError) }
		w.src.Publish(jobs(1)...)
		w.src.Finish()
		if _, err := w.run(t); err != nil {
			t.Error(err)
		}
		if l := w.src.Letters(); len(l) != 1 || l[0].Reason != drain.ReasonAmbiguous {
			t.Errorf("dead letters: %v, want one", l)
		}
	})
}

// A message id need not be text. The file of results has it as text, and must know it again.
func TestIDThatIsNoText(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	for range 2 {
		w := newWorld(t, 4)
		store := openFile(t, path)
		w.cfg.Store = store
		w.src.Publish(&drain.Delivery{ID: "a\xff\xfe", Body: []byte(`{"url":"/v1/x","body":{}}`), Where: "memory"})
		w.src.Finish()
		p, err := w.run(t)
		if err != nil {
			t.Fatal(err)
		}
		if p.Done+p.Known != 1 || store.Len() != 1 {
			t.Errorf("%d done, %d known, %d results", p.Done, p.Known, store.Len())
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
