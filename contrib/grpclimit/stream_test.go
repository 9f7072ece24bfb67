package grpclimit

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// send sends n messages to the client.
func send(st grpc.ServerStream, n int) error {
	for range n {
		if err := st.SendMsg(&healthpb.HealthCheckResponse{}); err != nil {
			return err
		}
	}
	return nil
}

func (u *upstream) open(ctx context.Context, desc *grpc.StreamDesc, method string) grpc.ClientStream {
	u.t.Helper()
	s, err := u.conn.NewStream(ctx, desc, method)
	if err != nil {
		u.t.Fatal(err)
	}
	return s
}

func TestPermitLivesAsLongAsTheStream(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		end := make(chan struct{})
		u := start(t, network, &server{watch: func(st grpc.ServerStream) error {
			err := send(st, 2)
			<-end
			return err
		}}, newGuard(t, 1, nil), Config{})
		s := u.watch(t.Context())
		u.wantInFlight(1)
		for range 2 {
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			u.wantInFlight(1)
		}
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := healthpb.NewHealthClient(u.conn).Watch(short, nil)
		if status.Code(err) != codes.DeadlineExceeded && !errors.Is(err, limiter.ErrRejected) {
			t.Errorf("error %v for a second stream while one is open, want it to wait", err)
		}
		close(end)
		for range 2 { // the end may be read more than once
			if _, err := s.Recv(); err != io.EOF {
				t.Errorf("error %v, want EOF", err)
			}
			u.wantInFlight(0)
		}
		u.wantOutcomes(feedback.OK, 1)
		if _, err := u.watch(t.Context()).Recv(); err != nil {
			t.Errorf("error %v for a stream after it", err)
		}
	})
}

// listener is a law that counts the answers that began.
type listener struct {
	adaptive.Law
	mu    sync.Mutex
	began int
}

func (l *listener) Began(time.Duration, adaptive.Call) adaptive.Decision {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began++
	return l.Decision()
}

func (l *listener) times() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.began
}

// The first message of a stream tells the law that the call was accepted, once, while the stream goes on. One that ends at once tells nothing
// but its end.
func TestStreamBegins(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		end := make(chan struct{})
		law := &listener{Law: adaptive.NewFixed(8)}
		u := start(t, network, &server{check: func(context.Context) error { return nil }, watch: func(st grpc.ServerStream) error {
			err := send(st, 3)
			<-end
			return err
		}}, newGuard(t, 8, func(c *limiter.Config) { c.Law = law }), Config{})
		for n := 1; n <= 3; n++ {
			s := u.watch(t.Context())
			for range 3 {
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
				if law.times() != n {
					t.Errorf("%d answers have begun, want %d", law.times(), n)
				}
			}
		}
		u.wantInFlight(3)
		close(end)
		if err := u.check(t.Context()); err != nil {
			t.Error(err)
		}
		if law.times() != 3 {
			t.Errorf("%d answers have begun, want 3 of streams and none of a unary call", law.times())
		}
	})
}

// A stream's context ends while its first message is read.
func TestStreamBeginsAsItEnds(t *testing.T) {
	u := start(t, "bufconn", &server{watch: func(st grpc.ServerStream) error { return send(st, 1) }},
		newGuard(t, 64, func(c *limiter.Config) { c.Law = &listener{Law: adaptive.NewFixed(64)} }), Config{})
	var all sync.WaitGroup
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*20*time.Microsecond)
		all.Go(func() {
			defer cancel()
			s, err := healthpb.NewHealthClient(u.conn).Watch(ctx, &healthpb.HealthCheckRequest{})
			for err == nil {
				_, err = s.Recv()
			}
		})
	}
	all.Wait()
	u.wantInFlight(0)
}

func TestServerAborts(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		const delay = 60 * time.Millisecond
		var c counter
		var sent [3]time.Time
		u := start(t, network, &server{watch: func(st grpc.ServerStream) error {
			n := c.enter()
			defer c.leave()
			sent[n] = time.Now()
			if n > 1 {
				return nil
			}
			_ = send(st, 1)
			st.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", "60"))
			return status.Error(codes.ResourceExhausted, "too many streams")
		}}, newGuard(t, 10, nil), Config{Idempotent: func(string) bool { return true }})
		s := u.watch(t.Context())
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("error %v, want the server's", err)
		}
		u.wantInFlight(0)
		u.wantOutcomes(feedback.Throttled, 1)
		if n := c.all.Load(); n != 1 {
			t.Errorf("opened %d times, want once: the caller had it", n)
		}
		// Its pushback is everybody's.
		if _, err := u.watch(t.Context()).Recv(); err != io.EOF {
			t.Errorf("error %v, want EOF", err)
		}
		if d := sent[2].Sub(sent[1]); d < delay {
			t.Errorf("opened again after %v, want at least %v", d, delay)
		}
	})
}

func TestConnectionOfAStreamBreaks(t *testing.T) {
	u := start(t, "tcp", &server{watch: func(st grpc.ServerStream) error {
		_ = send(st, 1)
		<-st.Context().Done()
		return nil
	}}, newGuard(t, 10, nil), Config{})
	s := u.watch(t.Context())
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	u.pipes.cut()
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want UNAVAILABLE", err)
	}
	u.wantInFlight(0)
	u.wantOutcomes(feedback.ServerError, 1)
}

// A caller that abandons a stream cancels its context, and need not read on.
func TestAbandonedStreams(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		const streams = 20
		u := start(t, network, &server{watch: func(st grpc.ServerStream) error {
			_ = send(st, 1)
			<-st.Context().Done()
			return nil
		}}, newGuard(t, streams, nil), Config{})
		ctx, cancel := context.WithCancel(t.Context())
		for i := range streams {
			s := u.watch(ctx)
			if i%2 == 0 { // half of them before the first message
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
			}
		}
		u.wantInFlight(streams)
		cancel()
		u.wantIdle()
		u.wantOutcomes(feedback.Canceled, streams)

		short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer stop()
		u.watch(short)
		u.wantIdle()
		u.wantOutcomes(feedback.Canceled, streams+1)
	})
}

// "To ensure resources are not leaked due to the stream returned, one of the following actions must be
// performed: 1. Call Close on the ClientConn." (grpc.ClientConn.NewStream)
func TestConnectionClosedUnderStreams(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		u := start(t, network, &server{watch: func(st grpc.ServerStream) error {
			<-st.Context().Done()
			return nil
		}}, newGuard(t, 10, nil), Config{})
		u.watch(t.Context())
		u.wantInFlight(1)
		_ = u.conn.Close()
		u.wantIdle()
		if o := u.guard.Stats().Counts.Outcomes; o[feedback.Overloaded] != 0 || o[feedback.Throttled] != 0 {
			t.Errorf("outcomes %v, want nothing against the upstream", o)
		}
	})
}

func TestClientStream(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		u := start(t, network, &server{collect: func(st grpc.ServerStream) error {
			for {
				if err := st.RecvMsg(new(healthpb.HealthCheckRequest)); err == io.EOF {
					return send(st, 1)
				} else if err != nil {
					return err
				}
			}
		}}, newGuard(t, 1, nil), Config{})
		for range 3 {
			s := u.open(t.Context(), &collectDesc, collectMethod)
			for range 3 {
				if err := s.SendMsg(&healthpb.HealthCheckRequest{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			u.wantInFlight(1)
			if err := s.RecvMsg(new(healthpb.HealthCheckResponse)); err != nil {
				t.Errorf("error %v, want the answer", err)
			}
			u.wantInFlight(0)
		}
		u.wantOutcomes(feedback.OK, 3)
	})
}

func TestClientStreamThatIsRefused(t *testing.T) {
	u := start(t, "tcp", &server{collect: func(grpc.ServerStream) error {
		return status.Error(codes.Unavailable, "full")
	}}, newGuard(t, 1, nil), Config{})
	s := u.open(t.Context(), &collectDesc, collectMethod)
	for s.SendMsg(&healthpb.HealthCheckRequest{}) == nil {
	}
	u.wantInFlight(1) // the stream's status is yet to be received
	if err := s.RecvMsg(new(healthpb.HealthCheckResponse)); status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want the server's", err)
	}
	u.wantInFlight(0)
	u.wantOutcomes(feedback.Overloaded, 1)
}

func TestStreamBothWays(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		u := start(t, network, &server{chat: func(st grpc.ServerStream) error {
			for {
				if err := st.RecvMsg(new(healthpb.HealthCheckRequest)); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				if err := send(st, 1); err != nil {
					return err
				}
			}
		}}, newGuard(t, 1, nil), Config{})
		s := u.open(t.Context(), &chatDesc, chatMethod)
		var wg sync.WaitGroup
		wg.Go(func() { // sending and receiving at the same time is allowed
			for range 100 {
				if err := s.SendMsg(&healthpb.HealthCheckRequest{}); err != nil {
					t.Error(err)
				}
			}
			if err := s.CloseSend(); err != nil {
				t.Error(err)
			}
		})
		n := 0
		for s.RecvMsg(new(healthpb.HealthCheckResponse)) == nil {
			n++
		}
		wg.Wait()
		if n != 100 {
			t.Errorf("%d answers, want 100", n)
		}
		u.wantInFlight(0)
		u.wantOutcomes(feedback.OK, 1)
	})
}

// "Receive a non-nil, non-io.EOF error from Header or SendMsg" ends a stream, too. (grpc.ClientConn.NewStream)
func TestStreamThatEndsWithoutBeingReceived(t *testing.T) {
	u := start(t, "bufconn", &server{
		watch: func(grpc.ServerStream) error { return status.Error(codes.Unavailable, "full") },
		chat:  func(st grpc.ServerStream) error { <-st.Context().Done(); return nil },
	}, newGuard(t, 1, nil), Config{})
	_, _ = u.watch(t.Context()).Header()
	u.wantInFlight(0)
	u.wantOutcomes(feedback.Overloaded, 1)
	s := u.open(t.Context(), &chatDesc, chatMethod)
	if err := s.SendMsg("no message"); status.Code(err) != codes.Internal {
		t.Errorf("error %v, want INTERNAL", err)
	}
	u.wantInFlight(0)
}

// Only a stream that the caller does not have yet is opened again.
func TestStreamThatCannotBeOpened(t *testing.T) {
	g := newGuard(t, 1, nil)
	n := 0
	s, err := Stream(g, Config{})(t.Context(), &chatDesc, nil, chatMethod,
		func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
			if n++; n < 3 {
				return nil, status.Error(codes.Unavailable, "no connection")
			}
			return fakeStream{}, nil
		})
	if err != nil || n != 3 {
		t.Fatalf("error %v after %d attempts, want none after 3", err, n)
	}
	if s := g.Stats(); s.InFlight != 1 || s.Counts.Outcomes[feedback.Overloaded] != 2 {
		t.Errorf("%d in flight and outcomes %v, want 1 and two overloaded", s.InFlight, s.Counts.Outcomes)
	}
	// This stream is not gRPC's, so nobody but RecvMsg tells of its end.
	if err := s.RecvMsg(nil); err != io.EOF {
		t.Errorf("error %v, want EOF", err)
	}
	if s := g.Stats(); s.InFlight != 0 || s.Counts.Outcomes[feedback.OK] != 1 {
		t.Errorf("%d in flight and outcomes %v, want none and one ok", s.InFlight, s.Counts.Outcomes)
	}
}

type fakeStream struct{ grpc.ClientStream }

func (fakeStream) RecvMsg(any) error { return io.EOF }

// windows is a law that keeps what it is told of calls that ended well.
type windows struct {
	*adaptive.Fixed
	sum adaptive.Window
}

func (l *windows) Decision() adaptive.Decision {
	d := l.Fixed.Decision()
	d.AskAgain = 0
	return d
}

func (l *windows) Window(_ time.Duration, w adaptive.Window) adaptive.Decision {
	l.sum.OK += w.OK
	l.sum.FirstBytes += w.FirstBytes
	l.sum.FirstByte += w.FirstByte
	l.sum.Latency += w.Latency
	return l.Decision()
}

func TestFirstMessageIsTheFirstByte(t *testing.T) {
	const before, after = 20 * time.Millisecond, 30 * time.Millisecond
	law := &windows{Fixed: adaptive.NewFixed(1)}
	received := make(chan struct{})
	u := start(t, "bufconn", &server{watch: func(st grpc.ServerStream) error {
		time.Sleep(before)
		_ = send(st, 1)
		<-received
		time.Sleep(after)
		return send(st, 1)
	}}, newGuard(t, 1, func(c *limiter.Config) { c.Law = law }), Config{})
	s := u.watch(t.Context())
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	close(received)
	for {
		if _, err := s.Recv(); err != nil {
			break
		}
	}
	w := law.sum
	if w.OK != 1 || w.FirstBytes != 1 || w.FirstByte < before || w.Latency-w.FirstByte < after {
		t.Errorf("%d calls, first byte of %d after %v, end after %v; want 1, 1, %v and %v later",
			w.OK, w.FirstBytes, w.FirstByte, w.Latency, before, after)
	}
}

// Streams that begin, end and are cancelled all at once give every permit back exactly once; a second time
// would panic.
func TestStress(t *testing.T) {
	onEach(t, func(t *testing.T, network string) {
		u := start(t, network, &server{
			check: func(context.Context) error { return nil },
			watch: func(st grpc.ServerStream) error { return send(st, 3) },
		}, newGuard(t, 8, nil), Config{})
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				for j := range 30 {
					ctx, cancel := context.WithCancel(t.Context())
					switch (i + j) % 4 {
					case 0:
						_ = u.check(ctx)
					case 1:
						go cancel()
						fallthrough
					default:
						s, err := healthpb.NewHealthClient(u.conn).Watch(ctx, &healthpb.HealthCheckRequest{})
						for n := 0; err == nil && n <= j%5; n++ {
							_, err = s.Recv()
						}
					}
					cancel()
				}
			})
		}
		wg.Wait()
		u.wantIdle()
	})
}
