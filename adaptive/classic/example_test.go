package classic_test

import (
	"context"
	"fmt"
	"time"

	"github.com/platinummonkey/go-concurrency-limits/core"
	"github.com/platinummonkey/go-concurrency-limits/limiter"
	"github.com/platinummonkey/go-concurrency-limits/strategy"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/adaptive/classic"
	"github.com/flyball-go/flyball/feedback"
)

// Their limits as laws of ours: three answers to the same burst of refusals at a limit of 100.
func ExampleNew() {
	for _, name := range classic.Names() {
		law, err := classic.New(name, adaptive.Config{Initial: 100})
		if err != nil {
			fmt.Println(err)
			return
		}
		for range 10 {
			law.Ended(time.Second, adaptive.Call{SentAt: 990 * time.Millisecond, InFlight: 100}, adaptive.Outcome{Class: feedback.Throttled})
		}
		fmt.Printf("%-10s limit %d\n", name, law.Decision().Limit)
	}
	ours := adaptive.New(adaptive.Config{Initial: 100})
	for range 10 {
		ours.Ended(time.Second, adaptive.Call{SentAt: 990 * time.Millisecond, InFlight: 100}, adaptive.Outcome{Class: feedback.Throttled})
	}
	fmt.Printf("%-10s limit %d\n", "ours", ours.Decision().Limit)
	// Output:
	// aimd       limit 32
	// vegas      limit 90
	// gradient2  limit 108
	// ours       limit 102
}

// Our law in their limiter.
func ExampleNewLimit() {
	law := adaptive.NewAIMD(adaptive.Config{Initial: 4, Max: 100})
	lim, err := limiter.NewDefaultLimiter(
		classic.NewLimit(law, 11), // a sample stands for 11 calls
		1, 1, 0, 10,               // in the shortest windows that it takes
		strategy.NewSimpleStrategy(1), nil, core.EmptyMetricRegistryInstance,
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 100 {
		var calls []core.Listener
		for {
			call, ok := lim.Acquire(context.Background())
			if !ok {
				break
			}
			calls = append(calls, call)
		}
		for _, call := range calls {
			call.OnSuccess()
		}
	}
	fmt.Println("limit", lim.EstimatedLimit())
	// Output: limit 100
}

// A limiter of one's own tells each call.
func ExampleLimit_OnSample() {
	limit := classic.NewLimit(adaptive.NewAIMD(adaptive.Config{Initial: 10}), 1)
	limit.NotifyOnChange(func(n int) { fmt.Println("limit", n) })

	start := time.Now().Add(-20 * time.Millisecond)
	limit.OnSample(start.UnixNano(), int64(20*time.Millisecond), 10, false) // ended well, with 10 in flight
	limit.OnSample(start.UnixNano(), int64(20*time.Millisecond), 11, true)  // refused, with 11 in flight
	// Output:
	// limit 11
	// limit 8
}
