package grpclimit

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// Config is what interceptors are made from, besides their guard. The zero Config is fine.
type Config struct {
	// Provider hints at who answers, for instance "google"; see feedback.GRPCStatus. Empty means
	// that answers speak for themselves.
	Provider string
	// Rules are the user's own rules for reading answers; nil means none.
	Rules *feedback.Rules
	// Cost returns what a call is expected to cost in tokens (>= 0, 0 when unknown). The method is
	// written "/package.Service/Method"; req is the message of a unary call, nil for a stream,
	// and must not be changed. nil means 0 for all.
	Cost func(method string, req any) int64
	// Request returns what the guard is to know of a call: its tenant, priority, class and expected cost, for instance from what ctx carries; method and req are
	// those of Cost, which goes before what Request says of tokens. nil means a limiter.Request with nothing but Cost.
	Request func(ctx context.Context, method string, req any) limiter.Request
	// Usage returns what a message that was received, which it must not change, tells of the tokens that the call used; of a stream's messages the
	// last one that is Known counts. It is asked while the guard makes use of tokens (limiter.Guard.Needs), by the goroutine that receives.
	// nil means that nothing tells: a budget then stays charged what was reserved.
	Usage func(method string, reply any) feedback.Usage
	// Idempotent reports whether a call of the method may be sent again although it may have had
	// its effect; a call of which Request says so may, too. nil means the function Idempotent, which goes by what the .proto file says.
	Idempotent func(method string) bool
}

// Inlined, an interceptor would have its caller's name, and limiter.Leak take it for the line that acquired a permit.

// Unary returns an interceptor that sends unary calls through guard. It may be used by any number
// of connections and goroutines. It panics when guard is nil.
//
//go:noinline
func Unary(guard *limiter.Guard, cfg Config) grpc.UnaryClientInterceptor {
	in := newInterceptor("Unary", guard, cfg)
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
		invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return in.run(ctx, method, req, func(c *call) error {
			err := invoke(ctx, method, req, reply, cc, c.wire.options(opts)...)
			if err == nil {
				c.received(reply)
			}
			c.endUnary(err, &c.wire)
			return err
		})
	}
}

// Stream returns an interceptor that sends streams through guard. It may be used by any number
// of connections and goroutines. It panics when guard is nil.
//
// The permit is given back when the stream has ended as gRPC defines it (grpc.ClientConn.NewStream): an
// error or io.EOF was received, or the only answer of a client-streaming call; or the context
// or the connection is gone. A caller that abandons a stream must cancel its context, as always.
//
// A stream that stays open for hours, as a watch does, has its permit for hours. Such
// streams want a guard of their own.
//
//go:noinline
func Stream(guard *limiter.Guard, cfg Config) grpc.StreamClientInterceptor {
	in := newInterceptor("Stream", guard, cfg)
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		var opened grpc.ClientStream
		err := in.run(ctx, method, nil, func(c *call) error {
			s, err := open(ctx, desc, cc, method, c.onFinish(opts)...)
			if err != nil {
				c.end(err, &c.wire)
				return err
			}
			opened = &stream{s, c, desc.ServerStreams}
			return nil
		})
		if err != nil {
			return nil, err
		}
		return opened, nil
	}
}

// interceptor is what Unary and Stream have in common.
type interceptor struct {
	guard *limiter.Guard
	cfg   Config
}

func newInterceptor(name string, guard *limiter.Guard, cfg Config) *interceptor {
	if guard == nil {
		panic("grpclimit: " + name + " with a nil guard")
	}
	if cfg.Idempotent == nil {
		cfg.Idempotent = Idempotent
	}
	return &interceptor{guard, cfg}
}

// run sends a call until it succeeds, or until it failed for good.
func (in *interceptor) run(ctx context.Context, method string, req any, send func(*call) error) error {
	r := in.request(ctx, method, req)
	asked := time.Now()
	var last error // the refusal that is to be followed by another attempt
	for attempt := 1; ; attempt++ {
		permit, err := in.guard.Acquire(ctx, r)
		switch {
		case err == nil:
		case !refusedByGuard(ctx, err):
			return ended(ctx)
		case last != nil:
			return last // it says more than that the guard did not let it be repeated
		default:
			return refused(err)
		}
		c := &call{in: in, ctx: ctx, method: method, asked: asked, start: time.Now(), permit: permit}
		if err = c.run(send); err == nil {
			return nil
		}
		if c.final || !limiter.Retryable(&c.outcome, r.Idempotent || in.cfg.Idempotent(method)) {
			return err
		}
		delay, ok := in.guard.MayRetry(ctx, attempt, &c.outcome)
		if !ok {
			return err
		}
		if in.guard.Sleep(ctx, delay) != nil {
			return ended(ctx)
		}
		last = err
		r.Retry = true
	}
}

// request returns what the guard is to know of a call.
func (in *interceptor) request(ctx context.Context, method string, req any) (r limiter.Request) {
	if in.cfg.Request != nil {
		r = in.cfg.Request(ctx, method, req)
	}
	if in.cfg.Cost != nil {
		r.Tokens = in.cfg.Cost(method, req)
	}
	return r
}
