package httplimit

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// What upstreams, bases and callers do that is not nice.

func wantOutcomes(t testing.TB, tr *Transport, c feedback.Class, n uint64) {
	t.Helper()
	if got := tr.Guard().Stats().Counts.Outcomes; uint64(got[c]) != n {
		t.Errorf("%d calls ended as %v, want %d; all: %v", got[c], c, n, got)
	}
}

// toldLaw keeps what it is told of calls that did not end well.
type toldLaw struct {
	*adaptive.Fixed
	ended []limiter.Outcome
}

func (l *toldLaw) Ended(now time.Duration, c adaptive.Call, o limiter.Outcome) adaptive.Decision {
	l.ended = append(l.ended, o)
	return l.Fixed.Ended(now, c, o)
}

// A caller's deadline is the upstream's fault when that had most of the time and did not begin to answer.
func TestDeadlineTellsOfAStalledUpstream(t *testing.T) {
	stall := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	after := func(d time.Duration) func(*http.Request) (*http.Response, error) {
		return func(r *http.Request) (*http.Response, error) {
			time.Sleep(d)
			return nil, io.ErrUnexpectedEOF
		}
	}
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		queued  time.Duration // how long the request waits for its permit
		base    func(*http.Request) (*http.Response, error)
		want    feedback.Class
	}{
		{"all the time", 10 * time.Second, 0, stall, feedback.Timeout},
		{"more than half of it", 10 * time.Second, 4 * time.Second, stall, feedback.Timeout},
		{"less than half of it", 10 * time.Second, 6 * time.Second, stall, feedback.Canceled},
		{"an impatient caller", 900 * time.Millisecond, 0, stall, feedback.Canceled},
		{"another error before", 10 * time.Second, 0, after(9 * time.Second), feedback.ServerError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				law := &toldLaw{Fixed: adaptive.NewFixed(1)}
				tr := newTransport(t, 1, roundTripper(func(r *http.Request) (*http.Response, error) {
					sent++
					return tt.base(r)
				}), func(c *limiter.Config) { c.Law, c.MaxWait = law, time.Minute })
				if tt.queued > 0 {
					p, err := tr.Guard().Acquire(context.Background(), limiter.Request{})
					if err != nil {
						t.Fatal(err)
					}
					time.AfterFunc(tt.queued, func() { p.Abandon() })
				}
				ctx, cancel := context.WithTimeout(context.Background(), tt.timeout)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, "POST", "http://upstream.test/", nil)
				if _, err := tr.RoundTrip(req); err == nil {
					t.Error("no error")
				}
				wantOutcomes(t, tr, tt.want, 1)
				if sent != 1 {
					t.Errorf("sent %d times, want once", sent)
				}
				if n := len(law.ended); n != 1 || law.ended[0].Deadline != (tt.want == feedback.Timeout) {
					t.Errorf("the law was told %+v, want that it was the caller's deadline if it is a time-out", law.ended)
				}
				wantInFlight(t, tr, 0)
			})
		})
	}
}

// Callers whose deadlines are shorter than any answer lower the limit for nobody, and an upstream that hangs is still noticed by deadlines.
func TestShortDeadlinesLowerNobodysLimit(t *testing.T) {
	for _, tt := range []struct {
		name     string
		takes    time.Duration
		deadline func(call int) time.Duration
		hangs    bool
	}{
		{"one of 20 has 2.5 s for 3", 3 * time.Second, func(call int) time.Duration {
			if call%20 == 7 {
				return 2500 * time.Millisecond
			}
			return time.Hour
		}, false},
		{"one of two", 3 * time.Second, func(call int) time.Duration { return 2500*time.Millisecond + time.Duration(call%2)*time.Hour }, false},
		{"all have 5 s for 1, and it hangs", time.Second, func(int) time.Duration { return 5 * time.Second }, true},
		{"all have more, and it hangs", 3 * time.Second, func(call int) time.Duration { return time.Duration(8+call%5) * time.Second }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				var calls, flying, most atomic.Int64
				tr := newTransport(t, 1, roundTripper(func(r *http.Request) (*http.Response, error) {
					most.Store(max(most.Load(), flying.Add(1)))
					defer flying.Add(-1)
					takes := time.After(tt.takes)
					if tt.hangs && time.Since(begun) > 2*time.Minute {
						takes = nil
					}
					select {
					case <-takes:
						return answer(200, "{}"), nil
					case <-r.Context().Done():
						return nil, r.Context().Err()
					}
				}), func(c *limiter.Config) { c.Law, c.MaxWait = nil, time.Hour })
				var wg sync.WaitGroup
				for i := range 60 {
					wg.Go(func() {
						time.Sleep(time.Duration(i) * time.Millisecond)
						for time.Since(begun) < 4*time.Minute {
							ctx, cancel := context.WithTimeout(context.Background(), tt.deadline(int(calls.Add(1))))
							resp, err := get(t, ctx, tr)
							if err == nil {
								_ = resp.Body.Close()
							}
							cancel()
							if err != nil {
								time.Sleep(100 * time.Millisecond) // the guard refuses at once who cannot make it
							}
						}
					})
				}
				time.Sleep(2 * time.Minute)
				before := most.Load()
				time.Sleep(time.Minute)
				most.Store(0)
				time.Sleep(time.Minute / 2)
				if got := most.Load(); before < 55 || !tt.hangs && got < 55 || tt.hangs && got > 20 {
					t.Errorf("%d in flight in two minutes, and %d later, of 60 callers", before, got)
				}
				wg.Wait()
			})
		})
	}
}

// http.Client ends a request by its Cancel channel, too, which the context may not yet know.
func TestClientTimeoutOnAStalledUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, 1, roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Cancel //nolint:staticcheck // what http.Client does
			return nil, errors.New("net/http: request canceled")
		}), nil)
		c := &http.Client{Transport: tr, Timeout: 2 * time.Second}
		for range 20 {
			if _, err := c.Get("http://upstream.test/"); err == nil {
				t.Error("no error")
			}
		}
		wantOutcomes(t, tr, feedback.Timeout, 20)
	})
}

func TestDeadlineInAStreamIsTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		tr := newTransport(t, 1, roundTripper(func(r *http.Request) (*http.Response, error) {
			context.AfterFunc(r.Context(), func() { _ = pw.CloseWithError(r.Context().Err()) })
			resp := answer(200, "")
			resp.Body, resp.ContentLength = pr, -1
			return resp, nil
		}), nil)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		resp, err := get(t, ctx, tr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		wantOutcomes(t, tr, feedback.Canceled, 1)
	})
}

// An error may come after the request had its effect, whatever it asks for.
func TestErrorsRepeatOnlyWhatDoesNoHarm(t *testing.T) {
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	for _, tt := range []struct {
		name     string
		err      error
		post     int // how often a POST is sent
		repeated int // how often a GET is sent
	}{
		{"calm", errors.New("stream error: stream ID 1; ENHANCE_YOUR_CALM; received from peer"), 1, 2},
		{"calm for all", errors.New(`http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=ENHANCE_YOUR_CALM, debug=""`), 1, 2},
		{"a quote", errors.New(`http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug="stream error: stream ID 1; REFUSED_STREAM"`), 1, 2},
		{"before the stream", errors.New("http2: Transport received Server's graceful shutdown GOAWAY"), 2, 2},
		{"the stream refused", errors.New("stream error: stream ID 1; REFUSED_STREAM; received from peer"), 2, 2},
		{"nobody listens", &net.OpError{Op: "dial", Net: "tcp", Err: refused}, 2, 2},
		{"no proxy listens", &net.OpError{Op: "proxyconnect", Net: "tcp", Err: refused}, 2, 2},
		{"no file left for a connection", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}, 2, 2},
		{"a reset", &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, 1, 2},
	} {
		for method, want := range map[string]int{"POST": tt.post, "GET": tt.repeated} {
			t.Run(method+" "+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sent := 0
					tr := newTransport(t, 1, roundTripper(func(r *http.Request) (*http.Response, error) {
						if sent++; sent == 1 {
							return nil, tt.err
						}
						return answer(200, ""), nil
					}), nil)
					req, _ := http.NewRequest(method, "http://upstream.test/", strings.NewReader("pay"))
					_, err := tr.RoundTrip(req)
					if sent != want || want == 1 && err != tt.err {
						t.Errorf("sent %d times and error %v, want %d times", sent, err, want)
					}
				})
			})
		}
	}
}

func TestBaseLeavesThingsOut(t *testing.T) {
	for _, status := range []int{200, 404, 429} {
		for _, resp := range []*http.Response{
			{StatusCode: status},
			{StatusCode: status, Body: io.NopCloser(strings.NewReader("x"))},
			{StatusCode: status, Header: http.Header{}},
		} {
			tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) { return resp, nil }), nil)
			tr.Guard().Stats()
			req, _ := http.NewRequest("POST", "http://upstream.test/", io.MultiReader()) // cannot be repeated
			got, err := tr.RoundTrip(req)
			if err != nil || got.Body == nil || got.Header == nil {
				t.Fatalf("%+v, %v, want an answer with header and body", got, err)
			}
			_ = got.Body.Close()
			wantInFlight(t, tr, 0)
		}
	}
	tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) { return nil, nil }), nil)
	if resp, err := get(t, context.Background(), tr); resp != nil || err == nil {
		t.Errorf("%v, %v, want an error", resp, err)
	}
	wantInFlight(t, tr, 0)
}

// Over HTTP/2 a Read that waits fails when another goroutine closes the body. That says nothing of the upstream.
func TestCloseDuringReadOverHTTP2(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	tr := newTransport(t, 1, srv.Client().Transport, nil)
	for range 20 {
		req, _ := http.NewRequest("GET", srv.URL, nil)
		resp, err := tr.RoundTrip(req)
		if err != nil || resp.ProtoMajor != 2 {
			t.Fatalf("%v, %v, want an answer over HTTP/2", resp, err)
		}
		read := make(chan error)
		go func() {
			_, err := resp.Body.Read(make([]byte, 1))
			read <- err
		}()
		_ = resp.Body.Close()
		if err := <-read; err == nil {
			t.Error("Read returned no error")
		}
	}
	wantOutcomes(t, tr, feedback.OK, 20)
}

// The same without luck: the reader is always in Read when the body is closed, and is always first to end it.
func TestCloseDuringRead(t *testing.T) {
	b := &slowClose{reading: make(chan struct{}), read: make(chan struct{}), done: make(chan struct{})}
	tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
		resp := answer(200, "")
		resp.Body, resp.ContentLength = b, -1
		return resp, nil
	}), nil)
	resp, err := get(t, context.Background(), tr)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = resp.Body.Read(make([]byte, 1))
		close(b.done)
	}()
	<-b.reading
	_ = resp.Body.Close()
	wantOutcomes(t, tr, feedback.OK, 1)
	wantOutcomes(t, tr, feedback.ServerError, 0)
}

// slowClose is a body whose Close returns after the Read that it ended.
type slowClose struct{ reading, read, done chan struct{} }

func (b *slowClose) Read([]byte) (int, error) {
	close(b.reading)
	<-b.read
	return 0, errors.New("http2: response body closed")
}

func (b *slowClose) Close() error {
	close(b.read)
	<-b.done
	return nil
}

// Retries that a deadline forbids are not paid for.
func TestDeadlineLeavesTheRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
			sent++
			return answer(429, "", "Retry-After", "10"), nil
		}), func(c *limiter.Config) { c.IgnoreRetryAfter = true })
		for range 300 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if _, err := get(t, ctx, tr); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		_, ok := tr.Guard().MayRetry(context.Background(), 1, &limiter.Outcome{Class: feedback.Throttled})
		if sent != 300 || !ok {
			t.Errorf("sent %d times, want 300; retries left: %v, want some", sent, ok)
		}
	})
}

// When the guard refuses the next attempt, the caller gets what the last one ended with.
func TestRefusedRetryGivesTheLastResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tr *Transport
		var first func() (*http.Response, error)
		sent := 0
		tr = newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
			sent++
			time.AfterFunc(0, func() { tr.Guard().Pause(time.Now().Add(24 * time.Hour)) })
			return first()
		}), nil)
		first = func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
		if _, err := get(t, context.Background(), tr); err != io.ErrUnexpectedEOF || sent != 1 {
			t.Errorf("error %v after %d sends, want the base's", err, sent)
		}
		time.Sleep(25 * time.Hour)
		first = func() (*http.Response, error) { return answer(500, "broken"), nil }
		resp, err := get(t, context.Background(), tr)
		if err != nil || resp.StatusCode != 500 || resp.Header.Get("X-Should-Retry") != "" {
			t.Fatalf("%+v, %v, want the 500 as it was", resp, err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "broken" || err != nil {
			t.Errorf("body %q, %v", b, err)
		}
		time.Sleep(25 * time.Hour)
		first = func() (*http.Response, error) { return answer(503, strings.Repeat("x", peekMost+1)), nil }
		resp, err = get(t, context.Background(), tr)
		if err != nil || resp.StatusCode != 503 || resp.Header.Get("X-Should-Retry") != "false" {
			t.Fatalf("%+v, %v, want the 503", resp, err)
		}
		if b, err := io.ReadAll(resp.Body); len(b) != peekMost || !errors.Is(err, ErrLetGo) {
			t.Errorf("%d bytes of the body and error %v, want %d and ErrLetGo", len(b), err, peekMost)
		}
	})
}

// A refusal that waits for its retry must not keep the only connection from whoever has the permit.
func TestWaitingRefusalHoldsNoConnection(t *testing.T) {
	for _, size := range []int{10, 1 << 20} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			body := &closeTime{Reader: strings.NewReader(strings.Repeat("x", size))}
			sent := 0
			tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
				if sent++; sent > 1 {
					return answer(200, ""), nil
				}
				resp := answer(503, "", "Retry-After", "2")
				resp.Body, resp.ContentLength = body, -1
				return resp, nil
			}), nil)
			if _, err := get(t, context.Background(), tr); err != nil {
				t.Fatal(err)
			}
			if sent != 2 || !body.at.Equal(start) || time.Since(start) < 2*time.Second {
				t.Errorf("a refusal of %d bytes was closed after %v (sent %d times), want at once", size, body.at.Sub(start), sent)
			}
		})
	}
}

type closeTime struct {
	io.Reader
	at time.Time
}

func (c *closeTime) Close() error {
	if c.at.IsZero() {
		c.at = time.Now()
	}
	return nil
}

// A refusal by a header field below 400 has a body like any other: it may stall, and holds its permit while it is looked at.
func TestRefusalByHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		go func() { _, _ = io.WriteString(pw, "frame") }()
		sent := 0
		tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
			if sent++; sent > 1 {
				return answer(200, ""), nil
			}
			resp := answer(200, "", "Grpc-Status", "14", "Content-Type", "application/grpc-web")
			resp.Body, resp.ContentLength = pr, -1
			return resp, nil
		}), nil)
		start := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := get(t, context.Background(), tr); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(time.Second)
		wantInFlight(t, tr, 1)
		<-done
		if d := time.Since(start); sent != 2 || d < peekTime || d > peekTime+time.Second {
			t.Errorf("sent %d times in %v, want twice in %v and a little", sent, d, peekTime)
		}
		if _, err := pw.Write(nil); err != io.ErrClosedPipe {
			t.Errorf("the stalled body is still open")
		}
	})
}

func TestShouldRetryIsLeftToOthersWhenTheGuardDoesNot(t *testing.T) {
	for attempts, want := range map[int]string{1: "", 2: "false"} {
		synctest.Test(t, func(t *testing.T) {
			tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) { return answer(429, ""), nil }),
				func(c *limiter.Config) { c.Retry.MaxAttempts = attempts })
			resp, err := get(t, context.Background(), tr)
			if err != nil || resp.Header.Get("X-Should-Retry") != want {
				t.Errorf("MaxAttempts %d: %v, %v, want X-Should-Retry %q", attempts, resp, err, want)
			}
		})
	}
}

type idler struct {
	http.RoundTripper
	n atomic.Int32
}

func (i *idler) CloseIdleConnections() { i.n.Add(1) }

func TestCloseIdleConnections(t *testing.T) {
	base := &idler{}
	c := http.Client{Transport: newTransport(t, 1, base, nil)}
	c.CloseIdleConnections()
	if base.n.Load() != 1 {
		t.Error("the base was not told to close its idle connections")
	}
	newTransport(t, 1, roundTripper(nil), nil).CloseIdleConnections() // has none
}

// A body that ignores its Close keeps nobody longer than the caller's deadline, or peekTime.
func TestRefusalThatCannotBeInterrupted(t *testing.T) {
	for _, tt := range []struct{ timeout, want time.Duration }{
		{500 * time.Millisecond, 500 * time.Millisecond},
		{time.Hour, peekTime},
	} {
		synctest.Test(t, func(t *testing.T) {
			pr, pw := io.Pipe()
			defer pw.Close()
			go func() { _, _ = io.WriteString(pw, "{") }()
			tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
				resp := answer(500, "")
				resp.Body, resp.ContentLength = io.NopCloser(pr), -1
				return resp, nil
			}), func(c *limiter.Config) { c.Retry.MaxAttempts = 1 })
			ctx, cancel := context.WithTimeout(context.Background(), tt.timeout)
			defer cancel()
			start := time.Now()
			resp, err := get(t, ctx, tr)
			if d := time.Since(start); err != nil || d != tt.want {
				t.Fatalf("%v, %v after %v, want an answer after %v", resp, err, d, tt.want)
			}
			if b, err := io.ReadAll(resp.Body); string(b) != "{" || err == nil {
				t.Errorf("body %q and error %v, want what came and an error", b, err)
			}
			_ = resp.Body.Close()
			wantInFlight(t, tr, 0)
		})
	}
}

// What may be repeated is repeated when the upstream gives up a request, over HTTP/2 as over HTTP/1.1.
func TestAbortedRequestIsSentAgain(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var calls atomic.Int64
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) == 1 {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, r.Proto)
		}))
		srv.EnableHTTP2 = http2
		srv.StartTLS()
		tr := newTransport(t, 1, srv.Client().Transport, func(c *limiter.Config) { c.Retry.BaseDelay = time.Millisecond })
		req, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Errorf("HTTP/2 %v: %v after %d calls", http2, err, calls.Load())
		} else {
			if (resp.ProtoMajor == 2) != http2 || calls.Load() != 2 {
				t.Errorf("%s after %d calls", resp.Proto, calls.Load())
			}
			_ = resp.Body.Close()
		}
		srv.Close()
	}
}

// A request that a guard below refused was not sent: it tells the one above nothing, and costs nothing of its budget.
func TestTwoGuards(t *testing.T) {
	budget := &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1000, Period: time.Hour}}}
	inner := newTransport(t, 1, nil, nil)
	inner.Guard().Close()
	outer := newTransport(t, 1, nil, func(c *limiter.Config) { c.Budget = budget }).Guard()
	pool := newPool(t, func(c *limiter.PoolConfig) { c.Guard.Budget = budget }, "a")
	cfg := Config{Cost: func(*http.Request) int64 { return 400 }}
	for _, tt := range []struct {
		rt    http.RoundTripper
		guard *limiter.Guard
	}{{New(inner, outer, cfg), outer}, {NewPool(inner, pool, PoolConfig{Config: cfg}), pool.Guards()[0]}} {
		for range 2 {
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://upstream.test/", nil)
			if _, err := tt.rt.RoundTrip(req); !errors.Is(err, limiter.ErrClosed) {
				t.Fatalf("%T: error %v, want ErrClosed", tt.rt, err)
			}
		}
		s, left := tt.guard.Stats(), tt.guard.Explain(0).Budgets[0].Left
		if s.Counts.Outcomes != [feedback.NumClasses]uint64{} || s.InFlight != 0 || left != 1000 {
			t.Errorf("%T: outcomes %v, %d in flight, %d tokens left; want none, none and 1000", tt.rt, s.Counts.Outcomes, s.InFlight, left)
		}
	}
}

// A context may end with another call's refusal as its cause, as errgroup's does. What it cut was sent all the same.
func TestCutByARefusal(t *testing.T) {
	budget := &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1000, Period: time.Hour}}}
	ctx, cancel := context.WithCancelCause(t.Context())
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel(&limiter.RejectedError{Reason: limiter.ReasonQueueFull})
		<-r.Context().Done()
	}))
	defer srv.Close()
	tr := newTransport(t, 1, nil, func(c *limiter.Config) { c.Budget = budget })
	tr.cfg.Cost = func(*http.Request) int64 { return 400 }
	req, err := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.RoundTrip(req); !errors.Is(err, limiter.ErrRejected) {
		t.Fatalf("error %v, want the context's cause", err)
	}
	s, left := tr.Guard().Stats(), tr.Guard().Explain(0).Budgets[0].Left
	if s.Counts.Outcomes[feedback.Canceled] != 1 || left != 600 {
		t.Errorf("%d canceled, %d tokens left; want 1 and 600, as it was sent", s.Counts.Outcomes[feedback.Canceled], left)
	}
}

// A request that a guard below refused was not sent, also when another call's refusal has ended its context meanwhile, as where many are refused at a time.
func TestRefusedBesideARefusal(t *testing.T) {
	budget := &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1000, Period: time.Hour}}}
	ctx, cancel := context.WithCancelCause(t.Context())
	tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
		cancel(&limiter.RejectedError{Reason: limiter.ReasonQueueFull})
		return nil, &limiter.RejectedError{Reason: limiter.ReasonQueueFull}
	}), func(c *limiter.Config) { c.Budget = budget })
	tr.cfg.Cost = func(*http.Request) int64 { return 400 }
	if _, err := get(t, ctx, tr); !errors.Is(err, limiter.ErrRejected) {
		t.Fatalf("error %v, want the refusal", err)
	}
	s, left := tr.Guard().Stats(), tr.Guard().Explain(0).Budgets[0].Left
	if s.Counts.Outcomes != [feedback.NumClasses]uint64{} || left != 1000 {
		t.Errorf("outcomes %v, %d tokens left; want none and 1000, as it was not sent", s.Counts.Outcomes, left)
	}
}
