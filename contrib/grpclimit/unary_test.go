package grpclimit

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

func TestLimitInFlight(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		const limit, calls = 3, 40
		var c counter
		full := make(chan struct{}) // closed when limit calls have been there at once
		u := start(t, network, &server{check: func(context.Context) error {
			n := c.enter()
			defer c.leave()
			if n == limit {
				close(full)
			}
			<-full
			time.Sleep(time.Millisecond)
			return nil
		}}, newGuard(t, limit, nil), Config{})
		var wg sync.WaitGroup
		for range calls {
			wg.Go(func() {
				if err := u.check(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most := c.most.Load(); most != limit {
			t.Errorf("%d calls at a time, want %d", most, limit)
		}
		u.wantInFlight(0)
		u.wantOutcomes(feedback.OK, calls)
	})
}

// "Retry-After closes one gate for everyone behind it."
func TestRetryInfoPausesEveryone(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		const delay = 80 * time.Millisecond
		var mu sync.Mutex
		var sent []time.Time
		u := start(t, network, &server{check: func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if sent = append(sent, time.Now()); len(sent) == 1 {
				return refusal(delay)
			}
			return nil
		}}, newGuard(t, 10, once), Config{})
		if err := u.check(t.Context()); status.Code(err) != codes.ResourceExhausted || errors.Is(err, limiter.ErrRejected) {
			t.Fatalf("error %v, want the upstream's refusal", err)
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := u.check(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, at := range sent[1:] {
			if d := at.Sub(sent[0]); d < delay {
				t.Errorf("a call was sent %v after the refusal, want at least %v", d, delay)
			}
		}
		u.wantInFlight(0)
		u.wantOutcomes(feedback.Throttled, 1)
	})
}

// "Servers may explicitly pushback by setting metadata in their response to the client. The pushback can
// either tell the client to retry after a given delay or to not retry at all." (gRFC A6)
func TestPushback(t *testing.T) {
	const long = 24 * time.Hour // of a RetryInfo that must not count
	for _, tt := range []struct {
		name     string
		values   []string
		answer   error
		attempts int64
		delay    time.Duration // at least
	}{
		{"none", nil, status.Error(codes.ResourceExhausted, ""), 2, 0},
		{"a delay", []string{"60"}, status.Error(codes.ResourceExhausted, ""), 2, 60 * time.Millisecond},
		{"none at all", []string{"0"}, status.Error(codes.ResourceExhausted, ""), 2, 0},
		{"of an overload", []string{"60"}, status.Error(codes.Unavailable, ""), 2, 60 * time.Millisecond},
		{"before RetryInfo", []string{"60"}, refusal(long), 2, 60 * time.Millisecond},
		{"RetryInfo alone", nil, refusal(60 * time.Millisecond), 2, 60 * time.Millisecond},
		{"negative", []string{"-1"}, status.Error(codes.ResourceExhausted, ""), 1, 0},
		{"negative beside RetryInfo", []string{"-1"}, refusal(time.Millisecond), 1, 0},
		{"of an overload, negative", []string{"-5"}, status.Error(codes.Unavailable, ""), 1, 0},
		{"unreadable", []string{"soon"}, status.Error(codes.ResourceExhausted, ""), 1, 0},
		{"empty", []string{""}, status.Error(codes.ResourceExhausted, ""), 1, 0},
		{"a fraction", []string{"1.5"}, status.Error(codes.ResourceExhausted, ""), 1, 0},
		{"a list", []string{"10,20"}, status.Error(codes.ResourceExhausted, ""), 1, 0},
		{"several", []string{"10", "20"}, status.Error(codes.ResourceExhausted, ""), 1, 0},
		{"several that agree", []string{"10", "10"}, status.Error(codes.ResourceExhausted, ""), 1, 0},
		{"more than 32 bits", []string{"2147483648"}, status.Error(codes.ResourceExhausted, ""), 1, 0},
		{"longer than the guard waits", []string{"86400000"}, status.Error(codes.ResourceExhausted, ""), 1, 0},
		{"of what is no refusal", []string{"1"}, status.Error(codes.InvalidArgument, ""), 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c counter
			var sent [10]time.Time
			u := start(t, "bufconn", &server{check: func(ctx context.Context) error {
				n := c.enter()
				defer c.leave()
				if sent[n] = time.Now(); n > 1 {
					return nil
				}
				pushback(ctx, tt.values...)
				return tt.answer
			}}, newGuard(t, 10, nil), Config{})
			var trailer metadata.MD
			err := u.check(t.Context(), grpc.Trailer(&trailer)) // the caller's own options still work
			if n := c.all.Load(); n != tt.attempts || (err == nil) != (n == 2) {
				t.Errorf("error %v after %d attempts, want %d", err, n, tt.attempts)
			}
			if err != nil && status.Code(err) != status.Code(tt.answer) {
				t.Errorf("error %v, want the upstream's", err)
			}
			if got := trailer.Get("grpc-retry-pushback-ms"); err != nil && !slices.Equal(got, tt.values) {
				t.Errorf("the caller's trailer holds %q, want %q", got, tt.values)
			}
			if d := sent[2].Sub(sent[1]); err == nil && d < tt.delay {
				t.Errorf("sent again after %v, want at least %v", d, tt.delay)
			}
			u.wantInFlight(0)
		})
	}
}

func TestWhatIsSentAgain(t *testing.T) {
	quota, _ := status.New(codes.ResourceExhausted, "quota").WithDetails(&errdetails.QuotaFailure{
		Violations: []*errdetails.QuotaFailure_Violation{{QuotaId: "GenerateRequestsPerDayPerProject"}},
	})
	reason, _ := status.New(codes.ResourceExhausted, "no").WithDetails(&errdetails.ErrorInfo{Reason: "QUOTA_EXHAUSTED"})
	tooMuch := status.Error(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)")
	for _, tt := range []struct {
		name       string
		answer     error
		idempotent bool
		attempts   int64
		class      feedback.Class
	}{
		{"RESOURCE_EXHAUSTED", status.Error(codes.ResourceExhausted, ""), false, 5, feedback.Throttled},
		{"UNAVAILABLE", status.Error(codes.Unavailable, ""), false, 5, feedback.Overloaded},
		{"INTERNAL", status.Error(codes.Internal, ""), false, 1, feedback.ServerError},
		{"INTERNAL, idempotent", status.Error(codes.Internal, ""), true, 5, feedback.ServerError},
		{"UNKNOWN", status.Error(codes.Unknown, ""), false, 1, feedback.ServerError},
		{"DEADLINE_EXCEEDED", status.Error(codes.DeadlineExceeded, ""), false, 1, feedback.Timeout},
		{"DEADLINE_EXCEEDED, idempotent", status.Error(codes.DeadlineExceeded, ""), true, 5, feedback.Timeout},
		{"INVALID_ARGUMENT, idempotent", status.Error(codes.InvalidArgument, ""), true, 1, feedback.ClientError},
		{"CANCELLED, idempotent", status.Error(codes.Canceled, ""), true, 1, feedback.ClientError},
		{"a daily quota", quota.Err(), true, 1, feedback.QuotaExhausted},
		{"an exhausted quota", reason.Err(), true, 1, feedback.QuotaExhausted},
		{"a message that is too large", tooMuch, true, 1, feedback.ClientError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c counter
			u := start(t, "bufconn", &server{check: func(context.Context) error {
				c.enter()
				defer c.leave()
				return tt.answer
			}}, newGuard(t, 10, nil), Config{Idempotent: func(method string) bool {
				if method != checkMethod {
					t.Errorf("method %q, want %q", method, checkMethod)
				}
				return tt.idempotent
			}})
			if err := u.check(t.Context()); status.Code(err) != status.Code(tt.answer) {
				t.Errorf("error %v, want %v", err, tt.answer)
			}
			if n := c.all.Load(); n != tt.attempts {
				t.Errorf("sent %d times, want %d", n, tt.attempts)
			}
			u.wantInFlight(0)
			u.wantOutcomes(tt.class, uint64(tt.attempts))
		})
	}
}

func TestMessageLargerThanItMaySend(t *testing.T) {
	u := start(t, "tcp", &server{}, newGuard(t, 10, nil), Config{})
	req := &healthpb.HealthCheckRequest{Service: strings.Repeat("x", 100)}
	_, err := healthpb.NewHealthClient(u.conn).Check(t.Context(), req, grpc.MaxCallSendMsgSize(10))
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("error %v, want gRPC's", err)
	}
	u.wantOutcomes(feedback.ClientError, 1)
	u.wantOutcomes(feedback.Throttled, 0)
}

// A call whose connection broke may have had its effect, although gRPC says UNAVAILABLE.
func TestConnectionThatBreaks(t *testing.T) {
	for _, tt := range []struct {
		name     string
		header   bool // the server has sent its header by then
		safe     bool
		attempts int64
	}{
		{"and it may not be repeated", false, false, 1},
		{"and it may be repeated", false, true, 2},
		{"after the header", true, false, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c counter
			var u *upstream
			u = start(t, "tcp", &server{check: func(ctx context.Context) error {
				defer c.leave()
				if c.enter() == 1 {
					if tt.header {
						_ = grpc.SendHeader(ctx, nil)
						time.Sleep(10 * time.Millisecond)
					}
					u.pipes.cut()
				}
				return nil
			}}, newGuard(t, 10, nil), Config{Idempotent: func(string) bool { return tt.safe }})
			err := u.check(t.Context(), grpc.WaitForReady(true))
			if n := c.all.Load(); n != tt.attempts || (err == nil) != (n == 2) {
				t.Errorf("error %v after %d attempts, want %d", err, n, tt.attempts)
			}
			u.wantOutcomes(feedback.ServerError, 1)
			u.wantOutcomes(feedback.Overloaded, 0)
		})
	}
}

func TestNobodyListens(t *testing.T) {
	wantNoLeak(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	g := newGuard(t, 10, func(c *limiter.Config) { c.Retry.MaxAttempts = 3 })
	u := &upstream{t, dial(t, l.Addr().String(), g, Config{}), nil, g}
	if err := u.check(t.Context()); status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want UNAVAILABLE", err)
	}
	u.wantOutcomes(feedback.Overloaded, 3) // nothing was sent, so any call may be repeated
}

// A certificate does not get better by trying again.
func TestCertificateThatIsNotTrusted(t *testing.T) {
	wantNoLeak(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	g := newGuard(t, 10, nil)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{})),
		grpc.WithUnaryInterceptor(Unary(g, Config{})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	u := &upstream{t, conn, nil, g}
	if err := u.check(t.Context()); status.Code(err) != codes.Unavailable || !contains(err, "tls: ") {
		t.Errorf("error %v, want a handshake that failed", err)
	}
	u.wantOutcomes(feedback.ClientError, 1)
}

// A proxy in between that does not speak gRPC answers with an HTTP status.
func TestProxyThatAnswersInHTTP(t *testing.T) {
	for _, tt := range []struct {
		status   int
		class    feedback.Class
		attempts int64
	}{
		{429, feedback.Throttled, 5},
		{503, feedback.Overloaded, 5},
		{502, feedback.ServerError, 1},
		{504, feedback.Timeout, 1},
		{404, feedback.ClientError, 1},
	} {
		t.Run(http.StatusText(tt.status), func(t *testing.T) {
			wantNoLeak(t)
			var c counter
			var h2c http.Protocols
			h2c.SetUnencryptedHTTP2(true)
			srv := &http.Server{Protocols: &h2c, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				c.enter()
				defer c.leave()
				http.Error(w, "not today", tt.status)
			})}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() { _ = srv.Serve(l) })
			t.Cleanup(func() { _ = srv.Close(); wg.Wait() })
			g := newGuard(t, 10, nil)
			u := &upstream{t, dial(t, l.Addr().String(), g, Config{}), nil, g}
			if err := u.check(t.Context()); !contains(err, "unexpected HTTP status code") {
				t.Errorf("error %v, want gRPC's", err)
			}
			if n := c.all.Load(); n != tt.attempts {
				t.Errorf("sent %d times, want %d", n, tt.attempts)
			}
			u.wantOutcomes(tt.class, uint64(tt.attempts))
		})
	}
}

// The end of the caller's patience says nothing about the upstream.
func TestCallerGivesUp(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		u := start(t, network, &server{check: func(ctx context.Context) error {
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		}}, newGuard(t, 10, nil), Config{Idempotent: func(string) bool { return true }})

		short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer stop()
		if err := u.check(short); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("error %v, want DEADLINE_EXCEEDED", err)
		}
		u.wantOutcomes(feedback.Canceled, 1)

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if err := u.check(ctx); status.Code(err) != codes.Canceled {
			t.Errorf("error %v, want CANCELLED", err)
		}
		u.wantOutcomes(feedback.Canceled, 2)
		u.wantInFlight(0)
	})
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

// A caller's deadline is the upstream's fault when that had most of the time. Without that, one that hangs would be called as often as one
// that answers, as gRPC's callers all have deadlines.
func TestDeadlineTellsOfAStalledUpstream(t *testing.T) {
	there := peer.Peer{Addr: &net.TCPAddr{}}
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		queued  time.Duration // how long the call waits for its permit
		peer    peer.Peer
		want    feedback.Class
	}{
		{"all the time", 10 * time.Second, 0, there, feedback.Timeout},
		{"more than half of it", 10 * time.Second, 4 * time.Second, there, feedback.Timeout},
		{"less than half of it", 10 * time.Second, 6 * time.Second, there, feedback.Canceled},
		{"an impatient caller", 900 * time.Millisecond, 0, there, feedback.Canceled},
		{"no connection", 10 * time.Second, 0, peer.Peer{}, feedback.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				law := &toldLaw{Fixed: adaptive.NewFixed(1)}
				g := newGuard(t, 1, func(c *limiter.Config) { c.Law, c.MaxWait = law, time.Minute })
				if tt.queued > 0 {
					p, err := g.Acquire(t.Context(), limiter.Request{})
					if err != nil {
						t.Fatal(err)
					}
					time.AfterFunc(tt.queued, func() { p.Abandon() })
				}
				sent := 0
				stall := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
					sent++
					for _, o := range opts {
						if o, ok := o.(grpc.PeerCallOption); ok {
							*o.PeerAddr = tt.peer
						}
					}
					<-ctx.Done()
					return status.FromContextError(ctx.Err()).Err()
				}
				ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
				defer cancel()
				err := Unary(g, Config{Idempotent: func(string) bool { return true }})(ctx, checkMethod, nil, nil, nil, stall)
				if status.Code(err) != codes.DeadlineExceeded || sent != 1 {
					t.Errorf("sent %d times, %v; want once, and DEADLINE_EXCEEDED", sent, err)
				}
				if s := g.Stats(); s.Counts.Outcomes[tt.want] != 1 || s.InFlight != 0 {
					t.Errorf("ended as %v, want %v; %d in flight", s.Counts.Outcomes, tt.want, s.InFlight)
				}
				if n := len(law.ended); n != 1 || law.ended[0].Deadline != (tt.want == feedback.Timeout) {
					t.Errorf("the law was told %+v, want that it was the caller's deadline if it is a time-out", law.ended)
				}
			})
		})
	}
}

func TestCallerGivesUpWhileItWaits(t *testing.T) {
	u := start(t, "bufconn", &server{check: func(context.Context) error { return nil }}, newGuard(t, 1, nil), Config{})
	held, err := u.guard.Acquire(t.Context(), limiter.Request{})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release(limiter.Outcome{})
	cause := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
	if err := u.check(ctx); status.Code(err) != codes.Canceled || !errors.Is(err, cause) {
		t.Errorf("error %v with code %v, want the cause and CANCELLED", err, status.Code(err))
	}
	if n := u.guard.Stats().Waiting; n != 0 {
		t.Errorf("%d waiting, want none", n)
	}
}

func TestCallerGivesUpBetweenAttempts(t *testing.T) {
	var c counter
	u := start(t, "bufconn", &server{check: func(context.Context) error {
		c.enter()
		defer c.leave()
		return refusal(20 * time.Second)
	}}, newGuard(t, 10, nil), Config{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		eventually(func() bool { return u.guard.Stats().Counts.Outcomes[feedback.Throttled] == 1 })
		cancel()
	})
	if err := u.check(ctx); status.Code(err) != codes.Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want CANCELLED", err)
	}
	wg.Wait()
	if n := c.all.Load(); n != 1 {
		t.Errorf("sent %d times, want once", n)
	}
	u.wantInFlight(0)
}

// What cannot be repeated in time is answered at once, with what the upstream said.
func TestDeadlineBeforeTheRetry(t *testing.T) {
	srv := &server{check: func(context.Context) error { return refusal(20 * time.Second) }}
	u := start(t, "bufconn", srv, newGuard(t, 10, nil), Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	begin := time.Now()
	err := u.check(ctx)
	if !contains(err, "slow down") || time.Since(begin) > 5*time.Second {
		t.Errorf("error %v after %v, want the refusal at once", err, time.Since(begin))
	}
}

func TestRefusalByTheGuard(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		srv := &server{check: func(context.Context) error { return refusal(time.Hour) }}
		u := start(t, network, srv, newGuard(t, 10, nil), Config{})

		_ = u.check(t.Context()) // the upstream asks for an hour
		err := u.check(t.Context())
		var r *limiter.RejectedError
		if !errors.Is(err, limiter.ErrRejected) || !errors.As(err, &r) || r.Reason != limiter.ReasonPaused {
			t.Errorf("error %v, want a refusal for the pause", err)
		}
		st, ok := status.FromError(err)
		if !ok || st.Code() != codes.ResourceExhausted || st.Message() != r.Error() {
			t.Errorf("status %v, want RESOURCE_EXHAUSTED and the text of %v", st, r)
		}
		var delay time.Duration
		for _, d := range st.Details() {
			if info, ok := d.(*errdetails.RetryInfo); ok {
				delay = info.GetRetryDelay().AsDuration()
			}
		}
		if delay < 59*time.Minute || delay > time.Hour {
			t.Errorf("RetryInfo says %v, want the rest of the hour", delay)
		}

		u.guard.Close()
		if err := u.check(t.Context()); !errors.Is(err, limiter.ErrClosed) || status.Code(err) != codes.ResourceExhausted {
			t.Errorf("error %v, want ErrClosed", err)
		}
		_, err = healthpb.NewHealthClient(u.conn).Watch(t.Context(), nil)
		if !errors.Is(err, limiter.ErrClosed) || status.Code(err) != codes.ResourceExhausted {
			t.Errorf("error %v for a stream, want ErrClosed", err)
		}
	})
}

// A guard refuses the second attempt: the caller gets the upstream's words, which say more.
func TestRefusalBeforeTheRetry(t *testing.T) {
	var u *upstream
	u = start(t, "bufconn", &server{check: func(context.Context) error {
		u.guard.Close()
		return refusal(0)
	}}, newGuard(t, 10, nil), Config{})
	if err := u.check(t.Context()); !contains(err, "slow down") || errors.Is(err, limiter.ErrRejected) {
		t.Errorf("error %v, want the upstream's", err)
	}
}

// A call that a guard below refused was not sent: it tells the one above nothing, and costs nothing of its budget.
func TestTwoGuards(t *testing.T) {
	budget := &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1000, Period: time.Hour}}}
	inner, outer := newGuard(t, 1, nil), newGuard(t, 1, func(c *limiter.Config) { c.Budget = budget })
	inner.Close()
	cfg := Config{Cost: func(string, any) int64 { return 200 }}
	u := start(t, "bufconn", &server{}, inner, Config{}, grpc.WithChainUnaryInterceptor(Unary(outer, cfg)), grpc.WithChainStreamInterceptor(Stream(outer, cfg)))
	for range 2 {
		if err := u.check(t.Context()); !errors.Is(err, limiter.ErrClosed) {
			t.Errorf("error %v, want ErrClosed", err)
		}
		if _, err := healthpb.NewHealthClient(u.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{}); !errors.Is(err, limiter.ErrClosed) {
			t.Errorf("a stream: error %v, want ErrClosed", err)
		}
	}
	s, left := outer.Stats(), outer.Explain(0).Budgets[0].Left
	if s.Counts.Outcomes != [feedback.NumClasses]uint64{} || s.InFlight != 0 || left != 1000 {
		t.Errorf("outcomes %v, %d in flight, %d tokens left; want none, none and 1000", s.Counts.Outcomes, s.InFlight, left)
	}
}

func TestErrorThatIsNoStatus(t *testing.T) {
	boom := errors.New("boom")
	for name, fail := range map[string]func() error{
		"error": func() error { return boom },
		"panic": func() error { panic(boom) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, 1, nil)
			unary, stream := Unary(g, Config{}), Stream(g, Config{})
			func() {
				defer func() { _ = recover() }()
				err := unary(t.Context(), "/a.B/C", nil, nil, nil,
					func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return fail() })
				if err != boom {
					t.Errorf("error %v, want %v", err, boom)
				}
			}()
			func() {
				defer func() { _ = recover() }()
				_, err := stream(t.Context(), &chatDesc, nil, "/a.B/C",
					func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
						return nil, fail()
					})
				if err != boom {
					t.Errorf("error %v, want %v", err, boom)
				}
			}()
			if s := g.Stats(); s.InFlight != 0 {
				t.Errorf("%d in flight, want none", s.InFlight)
			}
		})
	}
}

func TestCost(t *testing.T) {
	var methods []string
	u := start(t, "bufconn", &server{
		check: func(context.Context) error { return nil },
		watch: func(grpc.ServerStream) error { return nil },
	}, newGuard(t, 1, nil), Config{Cost: func(method string, req any) int64 {
		if _, ok := req.(*healthpb.HealthCheckRequest); ok != (method == checkMethod) {
			t.Errorf("%s has the message %T", method, req)
		}
		methods = append(methods, method)
		return 100
	}})
	if err := u.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _ = u.watch(t.Context()).Recv()
	if want := []string{checkMethod, healthpb.Health_Watch_FullMethodName}; !slices.Equal(methods, want) {
		t.Errorf("asked for the cost of %q, want %q", methods, want)
	}
}

// tenantKey is what a program's contexts have.
type tenantKey struct{}

// What Request says of a call gets to the guard, with Cost's tokens before its own.
func TestRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, 1, func(c *limiter.Config) {
			c.Budget = &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1000}}}
		})
		in := Unary(guard, Config{
			Cost: func(string, any) int64 { return 40 },
			Request: func(ctx context.Context, method string, req any) limiter.Request {
				tenant, _ := ctx.Value(tenantKey{}).(string)
				return limiter.Request{Tenant: tenant, Priority: req.(uint8), Tokens: 900, Idempotent: method == "/s/read"}
			},
		})
		var sent []string
		send := func(tenant, method string, priority uint8) {
			broken := true // at first
			ctx := context.WithValue(t.Context(), tenantKey{}, tenant)
			err := in(ctx, method, priority, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
				sent = append(sent, tenant)
				if broken {
					broken = false
					return status.Error(codes.Internal, "broken")
				}
				return nil
			})
			if want := method == "/s/read"; (err == nil) != want {
				t.Errorf("%s by %s: %v, want it sent again: %v", method, tenant, err, want)
			}
		}
		permit, err := guard.Acquire(t.Context(), limiter.Request{})
		if err != nil {
			t.Fatal(err)
		}
		for i, tenant := range []string{"a", "a", "b"} {
			go send(tenant, "/s/write", 0)
			time.Sleep(time.Duration(i+1) * time.Millisecond)
		}
		go send("urgent", "/s/write", 7)
		synctest.Wait()
		if left := guard.Explain(4); len(left.Waits) != 4 || left.Waits[0].Tenant != "urgent" {
			t.Errorf("waiting: %v, want four, urgent first", left.Waits)
		}
		permit.Release(limiter.Outcome{Class: feedback.Throttled})
		synctest.Wait()
		if want := []string{"urgent", "a", "b", "a"}; !slices.Equal(sent, want) {
			t.Errorf("sent %v, want %v", sent, want)
		}
		send("c", "/s/read", 0)
	})
}

// What a message tells of tokens settles the budget, of a unary call, of a stream, and of the only answer of one.
func TestUsage(t *testing.T) {
	tokens := int64(0)
	guard := newGuard(t, 1, func(c *limiter.Config) {
		year := 365 * 24 * time.Hour // little is refilled meanwhile
		c.Budget = &limiter.Budget{Limits: []limiter.BudgetLimit{
			{Kind: feedback.ScopeInputTokens, Limit: 1 << 20, Period: year}, {Kind: feedback.ScopeOutputTokens, Limit: 1 << 20, Period: year},
		}}
	})
	answer := func(s grpc.ServerStream) error { return s.SendMsg(&healthpb.HealthCheckResponse{Status: 1}) }
	var methods []string
	u := start(t, "bufconn", &server{
		check:   func(context.Context) error { return nil },
		watch:   func(s grpc.ServerStream) error { return errors.Join(answer(s), answer(s), answer(s)) },
		collect: answer,
	}, guard, Config{
		Request: func(context.Context, string, any) limiter.Request { return limiter.Request{Tokens: 1000, Output: 500} },
		Usage: func(method string, reply any) feedback.Usage {
			if reply.(*healthpb.HealthCheckResponse).GetStatus() != healthpb.HealthCheckResponse_SERVING {
				t.Errorf("%s is asked with %v, want the message that was received", method, reply)
			}
			methods = append(methods, method)
			tokens++
			return feedback.Usage{Known: tokens != 4, Input: 10 * tokens, Output: tokens} // the last of the stream's tells nothing
		},
	})
	spent := func() (input, output int64) {
		b := guard.Explain(0).Budgets
		return 1<<20 - b[0].Left, 1<<20 - b[1].Left
	}
	want := func(what string, input, output int64) {
		t.Helper()
		u.wantIdle()
		if in, out := spent(); in != input || out != output {
			t.Errorf("%s: %d and %d tokens are spent, want %d and %d", what, in, out, input, output)
		}
	}
	if err := u.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("a unary call", 10, 1)
	s := u.watch(t.Context())
	for range 3 {
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Fatal(err)
	}
	want("a stream", 10+30, 1+3)
	c := u.open(t.Context(), &collectDesc, collectMethod)
	if err := errors.Join(c.CloseSend(), c.RecvMsg(new(healthpb.HealthCheckResponse))); err != nil {
		t.Fatal(err)
	}
	want("a client's stream", 10+30+50, 1+3+5)
	watch := healthpb.Health_Watch_FullMethodName
	if want := []string{checkMethod, watch, watch, watch, collectMethod}; !slices.Equal(methods, want) {
		t.Errorf("asked for the usage of %q, want %q", methods, want)
	}
}

// A Usage that panics costs no permit.
func TestUsageThatPanics(t *testing.T) {
	guard := newGuard(t, 1, func(c *limiter.Config) {
		c.Budget = &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1 << 20}}}
	})
	u := start(t, "bufconn", &server{
		check:   func(context.Context) error { return nil },
		collect: func(s grpc.ServerStream) error { return s.SendMsg(&healthpb.HealthCheckResponse{}) },
	}, guard, Config{Usage: func(string, any) feedback.Usage { panic("usage") }})
	for name, call := range map[string]func(){
		"unary": func() { _ = u.check(t.Context()) },
		"client's stream": func() {
			s := u.open(t.Context(), &collectDesc, collectMethod)
			_ = errors.Join(s.CloseSend(), s.RecvMsg(new(healthpb.HealthCheckResponse)))
		},
	} {
		func() {
			defer func() {
				if got := recover(); got != "usage" {
					t.Errorf("%s panics with %v, want what Usage did", name, got)
				}
			}()
			call()
		}()
		u.wantIdle()
	}
}

func TestNilGuard(t *testing.T) {
	for name, f := range map[string]func(){
		"Unary":  func() { Unary(nil, Config{}) },
		"Stream": func() { Stream(nil, Config{}) },
	} {
		func() {
			defer func() {
				if got, want := recover(), "grpclimit: "+name+" with a nil guard"; got != want {
					t.Errorf("%s(nil) panics with %v, want %q", name, got, want)
				}
			}()
			f()
		}()
	}
}

// A call that was refused goes before new ones when it comes back.
func TestRetryGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(1)})
		if err != nil {
			t.Fatal(err)
		}
		in := Unary(guard, Config{})
		var sent []string
		send := func(name string) {
			refused := name == "new" // once, and the old one
			if err := in(t.Context(), "/s/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
				sent = append(sent, name)
				if refused = !refused; refused {
					return status.Error(codes.ResourceExhausted, "slow down")
				}
				return nil
			}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		go send("old")
		synctest.Wait() // it was refused, and waits for its next attempt
		permit, err := guard.Acquire(t.Context(), limiter.Request{})
		if err != nil {
			t.Fatal(err)
		}
		go send("new")
		time.Sleep(time.Second) // both wait for the place
		permit.Release(limiter.Outcome{})
		synctest.Wait()
		if want := []string{"old", "old", "new"}; !slices.Equal(sent, want) {
			t.Errorf("sent %v, want %v", sent, want)
		}
	})
}
