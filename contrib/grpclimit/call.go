package grpclimit

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// call is one attempt, from the grant of its permit to its end.
type call struct {
	in     *interceptor
	ctx    context.Context
	method string
	asked  time.Time // when the call asked for its first permit
	start  time.Time
	wire   wire
	first  atomic.Int64 // nanoseconds from start to the first message of a stream; 0 before it

	// mu guards what follows: a stream can end in the goroutine that reads it and, when its
	// context ends, in one of gRPC's.
	mu      sync.Mutex
	ended   bool
	last    bool // the only answer of a stream is being received, which ends the call once it was looked at
	usage   feedback.Usage
	permit  limiter.Permit
	outcome limiter.Outcome
	final   bool // sending it again does not help, or the upstream forbids it
}

// run sends the attempt; send ends it, or leaves that to its stream.
func (c *call) run(send func(*call) error) error {
	// A panic says nothing about the upstream. Otherwise, the attempt ended or has a stream.
	returned := false
	defer func() {
		if !returned {
			c.release(feedback.Signal{Class: feedback.Canceled})
		}
	}()
	err := send(c)
	returned = true
	return err
}

// end ends an attempt with its error, which may be nil or io.EOF. A nil w says that nothing else
// is known of it.
func (c *call) end(err error, w *wire) {
	if err == io.EOF {
		err = nil
	}
	c.release(c.in.read(c.ctx, err, w))
}

// endUnary is end for a unary call, which its caller's deadline may have ended. That is a time-out of the upstream when it had most of
// the time, as in package httplimit. The deadline of a stream is not: one that waits for news is idle, and none begins before there are any.
func (c *call) endUnary(err error, w *wire) {
	s := c.in.read(c.ctx, err, w)
	deadline, ok := c.ctx.Deadline()
	if ok && s.Source == callersDeadline && w.sent() && feedback.Overdue(time.Since(c.start), deadline.Sub(c.asked)) {
		s.Class = feedback.Timeout
	}
	c.release(s)
}

// release gives the permit back, once.
func (c *call) release(s feedback.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	c.outcome, c.final = limiter.OutcomeFrom(s), !s.Retryable
	if c.usage.Known {
		c.outcome.InputTokens, c.outcome.OutputTokens, c.outcome.CachedTokens = c.usage.Input, c.usage.Output, c.usage.CachedInput
	}
	c.outcome.FirstByte = time.Duration(c.first.Load())
	c.outcome.Deadline = s.Class == feedback.Timeout && s.Source == callersDeadline
	if s.Source == guardBelow {
		c.permit.Abandon()
		return
	}
	c.permit.Release(c.outcome)
}

// received keeps what a message that was received tells of tokens.
func (c *call) received(m any) {
	if c.in.cfg.Usage == nil || !c.in.guard.Needs().Tokens {
		return
	}
	u := c.in.cfg.Usage(c.method, m)
	if !u.Known {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.usage = u
}

// began tells the guard that the answer has begun, which a stream tells long before it ends.
func (c *call) began() {
	if !c.in.guard.Needs().Began {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.permit.Began()
	}
}

// onFinish returns opts with one that ends the call when gRPC has ended it.
//
// grpc.OnFinish is marked experimental, but nothing else tells of a stream that was abandoned when its connection
// was closed, or that ended in Header: the context of a stream tells, but asking for it
// before an answer came turns off gRPC's transparent retries.
func (c *call) onFinish(opts []grpc.CallOption) []grpc.CallOption {
	return append(c.wire.options(opts), grpc.OnFinish(func(err error) {
		if err != nil || !c.receivesLast() {
			c.end(err, &c.wire)
		}
	}))
}

// receiveLast says that the only answer of a stream is being received. gRPC ends the stream with it before anybody has seen it.
func (c *call) receiveLast() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = true
}

func (c *call) receivesLast() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// wire is what gRPC tells of an attempt besides its error. gRPC fills it in when the attempt ends.
type wire struct {
	header, trailer metadata.MD
	peer            peer.Peer
}

// options returns opts with those that fill w in.
func (w *wire) options(opts []grpc.CallOption) []grpc.CallOption {
	return append(slices.Clip(opts), grpc.Header(&w.header), grpc.Trailer(&w.trailer), grpc.Peer(&w.peer))
}

// sent reports whether there was a connection to send the attempt on.
func (w *wire) sent() bool { return w.peer.Addr != nil }

// answered reports whether a gRPC server answered, be it with an error: the content-type is always there, in
// the header or, of an answer that has only a trailer, in that.
func (w *wire) answered() bool { return len(w.header) > 0 || len(w.trailer) > 0 }

// stream is a stream that holds its permit until it ends.
type stream struct {
	grpc.ClientStream
	call   *call
	server bool // the server streams
}

// RecvMsg receives a message, and gives the permit back when the stream has ended.
func (s *stream) RecvMsg(m any) error {
	if !s.server && s.call.in.cfg.Usage != nil {
		s.call.receiveLast()
	}
	err := s.ClientStream.RecvMsg(m)
	if err != nil || !s.server {
		// gRPC has told so by now, but for an only answer, and an interceptor below may have ended the stream by itself.
		defer s.call.end(err, nil) // also when Usage panics
	}
	if err != nil {
		return err
	}
	if s.call.first.Load() == 0 {
		s.call.first.Store(max(1, int64(time.Since(s.call.start))))
		if s.server {
			s.call.began()
		}
	}
	s.call.received(m)
	return nil
}
