package grpclimit

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

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
