package grpclimit

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// server is an upstream whose methods a test writes. It is gRPC's health service, and a second one
// with a client stream and a stream both ways.
type server struct {
	healthpb.UnimplementedHealthServer
	check   func(context.Context) error
	watch   func(grpc.ServerStream) error
	collect func(grpc.ServerStream) error
	chat    func(grpc.ServerStream) error
}

func (s *server) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func (s *server) Watch(_ *healthpb.HealthCheckRequest, st grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	return s.watch(st)
}

const (
	checkMethod   = healthpb.Health_Check_FullMethodName
	collectMethod = "/flyball.test.Streams/Collect"
	chatMethod    = "/flyball.test.Streams/Chat"
)

var (
	collectDesc = grpc.StreamDesc{
		StreamName: "Collect", ClientStreams: true,
		Handler: func(s any, st grpc.ServerStream) error { return s.(*server).collect(st) },
	}
	chatDesc = grpc.StreamDesc{
		StreamName: "Chat", ClientStreams: true, ServerStreams: true,
		Handler: func(s any, st grpc.ServerStream) error { return s.(*server).chat(st) },
	}
	streamsDesc = grpc.ServiceDesc{
		ServiceName: "flyball.test.Streams", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{collectDesc, chatDesc},
	}
)

// networks are where servers listen: in memory, and on a real socket.
var networks = []string{"bufconn", "tcp"}

func onEach(t *testing.T, f func(t *testing.T, network string)) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) { f(t, network) })
	}
}

// pipes is a listener that remembers its connections.
type pipes struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *pipes) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

// cut closes all connections without a word.
func (l *pipes) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// upstream is a server that runs, with a guarded connection to it.
type upstream struct {
	t     testing.TB
	conn  *grpc.ClientConn
	pipes *pipes
	guard *limiter.Guard
}

// start starts a server and returns it with a connection, both of which the test's end stops.
func start(t testing.TB, network string, srv *server, g *limiter.Guard, cfg Config, opts ...grpc.DialOption) *upstream {
	t.Helper()
	wantNoLeak(t)
	l := &pipes{}
	target := "passthrough:///bufconn"
	switch network {
	case "bufconn":
		b := bufconn.Listen(1 << 16)
		l.Listener = b
		opts = append(opts, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return b.DialContext(ctx)
		}))
	default:
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Listener = tcp
		target = tcp.Addr().String()
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, srv)
	s.RegisterService(&streamsDesc, srv)
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Stop()
		serving.Wait()
	})
	return &upstream{t, dial(t, target, g, cfg, opts...), l, g}
}

var insecureDial = grpc.WithTransportCredentials(insecure.NewCredentials())

func dial(t testing.TB, target string, g *limiter.Guard, cfg Config, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, append(opts,
		insecureDial,
		grpc.WithChainUnaryInterceptor(Unary(g, cfg)),
		grpc.WithChainStreamInterceptor(Stream(g, cfg)),
		grpc.WithDisableRetry(),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func newGuard(t testing.TB, limit int, edit func(*limiter.Config)) *limiter.Guard {
	t.Helper()
	cfg := limiter.Config{Name: "test", Law: adaptive.NewFixed(limit), PauseJitter: -1, Seed: 1}
	cfg.Retry.BaseDelay = time.Millisecond
	if edit != nil {
		edit(&cfg)
	}
	g, err := limiter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func once(c *limiter.Config) { c.Retry.MaxAttempts = 1 }

func (u *upstream) check(ctx context.Context, opts ...grpc.CallOption) error {
	_, err := healthpb.NewHealthClient(u.conn).Check(ctx, &healthpb.HealthCheckRequest{}, opts...)
	return err
}

func (u *upstream) watch(ctx context.Context) grpc.ServerStreamingClient[healthpb.HealthCheckResponse] {
	u.t.Helper()
	s, err := healthpb.NewHealthClient(u.conn).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		u.t.Fatal(err)
	}
	return s
}

func (u *upstream) wantInFlight(n int) {
	u.t.Helper()
	if got := u.guard.Stats().InFlight; got != n {
		u.t.Errorf("%d in flight, want %d", got, n)
	}
}

// wantIdle waits until every permit is back: gRPC ends what was abandoned in a goroutine of its own.
func (u *upstream) wantIdle() {
	u.t.Helper()
	if !eventually(func() bool { return u.guard.Stats().InFlight == 0 }) {
		u.t.Errorf("%d in flight, want none", u.guard.Stats().InFlight)
	}
}

func (u *upstream) wantOutcomes(c feedback.Class, n uint64) {
	u.t.Helper()
	if got := u.guard.Stats().Counts.Outcomes[c]; got != n {
		u.t.Errorf("%d calls ended %v, want %d (all: %v)", got, c, n, u.guard.Stats().Counts.Outcomes)
	}
}

// eventually waits for at most 10 s until ok.
func eventually(ok func() bool) bool {
	for range 10_000 {
		if ok() {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// wantNoLeak checks, when all else of the test has ended, that no goroutine is left of it.
func wantNoLeak(t testing.TB) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		if !eventually(func() bool { return runtime.NumGoroutine() <= before }) {
			buf := make([]byte, 1<<20)
			buf = buf[:runtime.Stack(buf, true)]
			t.Errorf("%d goroutines before the test, %d after it:\n%s", before, runtime.NumGoroutine(), buf)
		}
	})
}

// refusal returns RESOURCE_EXHAUSTED with a RetryInfo.
func refusal(delay time.Duration) error {
	info := &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}
	st, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(info)
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// pushback sets the trailer of the answer that is under way.
func pushback(ctx context.Context, values ...string) {
	for _, v := range values {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", v))
	}
}

// counter counts calls, and those that run at a time.
type counter struct{ all, now, most atomic.Int64 }

func (c *counter) enter() (n int64) {
	now := c.now.Add(1)
	for {
		most := c.most.Load()
		if now <= most || c.most.CompareAndSwap(most, now) {
			return c.all.Add(1)
		}
	}
}

func (c *counter) leave() { c.now.Add(-1) }

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }
