package grpclimit

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
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
