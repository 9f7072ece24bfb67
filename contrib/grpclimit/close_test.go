package grpclimit

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// A guard that is closed ends the delay before a call is sent again, with the refusal that the delay was for.
func TestCloseEndsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, 1, nil)
		start := time.Now()
		time.AfterFunc(10*time.Second, guard.Close)
		err := Unary(guard, Config{})(t.Context(), "/s/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			return refusal(50 * time.Second)
		})
		if took := time.Since(start); !contains(err, "slow down") || took != 10*time.Second {
			t.Errorf("%v after %v, want the refusal after 10s, when the guard was closed", err, took)
		}
	})
}

// A context may end with another call's refusal as its cause, as errgroup's does: who waits then was canceled, and not refused.
func TestCutByARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := newGuard(t, 1, nil)
		guard.TryAcquire(limiter.Request{})
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(&limiter.RejectedError{Reason: limiter.ReasonQueueFull}) })
		if err := Unary(guard, Config{})(ctx, "/s/m", nil, nil, nil, nil); status.Code(err) != codes.Canceled {
			t.Errorf("code %v of %v, want Canceled", status.Code(err), err)
		}
	})
}

// A call that a guard below refused was not sent, also when another call's refusal has ended its context meanwhile, as where many are refused at a time.
func TestRefusedBesideARefusal(t *testing.T) {
	guard := newGuard(t, 1, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	err := Unary(guard, Config{})(ctx, "/s/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		cancel(&limiter.RejectedError{Reason: limiter.ReasonQueueFull})
		return refused(&limiter.RejectedError{Reason: limiter.ReasonQueueFull})
	})
	if c := guard.Stats().Counts; err == nil || c.Outcomes != [feedback.NumClasses]uint64{} {
		t.Errorf("%v, outcomes %v, want a refusal and none", err, c.Outcomes)
	}
}

// A stream that is held too long is told with the line that opened it, and not with one of gRPC or of this package.
func TestLeakTellsWhoAsked(t *testing.T) {
	guard := newGuard(t, 1, func(c *limiter.Config) { c.MaxHold = time.Second })
	leaks := make(chan limiter.Leak, 1)
	guard.OnLeak(func(l limiter.Leak) { leaks <- l })
	u := start(t, "bufconn", &server{watch: func(s grpc.ServerStream) error {
		<-s.Context().Done()
		return nil
	}}, guard, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	u.watch(ctx)
	if got := (<-leaks).String(); !strings.Contains(got, "(*upstream).watch (") {
		t.Errorf("%s: want the line that opened the stream", got)
	}
}
