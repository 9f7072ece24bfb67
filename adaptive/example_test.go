package adaptive_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// A guard tells the law what happened; here it is told by hand.
func ExampleAIMD() {
	law := adaptive.NewAIMD(adaptive.Config{Max: 100})
	print := func(what string, d adaptive.Decision) {
		fmt.Printf("%-24s limit %3d, because %v, episode %d, binding %v\n", what, d.Limit, d.Cause, d.Episode, d.Binding)
	}
	print("at the start", law.Decision())

	// Three round trips of 100 ms, in which all that may be in flight is, and ends well.
	const trip = 100 * time.Millisecond
	var now time.Duration
	for range 3 {
		n := law.Decision().Limit
		w := adaptive.Window{Start: now, OK: n, Timed: n, Latency: time.Duration(n) * trip, MinLatency: trip, MaxInFlight: n, InFlight: n, Full: true}
		now += trip
		print(fmt.Sprintf("%d calls ended well", n), law.Window(now, w))
	}

	// Two of the calls in flight are refused: one cut.
	call := adaptive.Call{SentAt: now, Episode: law.Decision().Episode, InFlight: 30}
	refusal := adaptive.Outcome{Class: feedback.Throttled, Scope: feedback.ScopeConcurrency}
	now += 5 * time.Millisecond
	print("a refusal", law.Ended(now, call, refusal))
	print("another of the burst", law.Ended(now, call, refusal))

	// The upstream tells its limit.
	print("a stated limit", law.Hint(now, feedback.Window{Kind: feedback.ScopeConcurrency, Limit: 20}))
	// Output:
	// at the start             limit   4, because start, episode 0, binding none
	// 4 calls ended well       limit   8, because slow_start, episode 0, binding none
	// 8 calls ended well       limit  16, because slow_start, episode 0, binding none
	// 16 calls ended well      limit  32, because slow_start, episode 0, binding none
	// a refusal                limit  24, because throttled, episode 1, binding concurrency
	// another of the burst     limit  24, because throttled, episode 1, binding concurrency
	// a stated limit           limit  20, because hint, episode 2, binding concurrency
}

// What a law has learned outlives the process.
func ExampleAIMD_State() {
	law := adaptive.NewAIMD(adaptive.Config{Initial: 50})
	law.Ended(time.Hour, adaptive.Call{InFlight: 50}, adaptive.Outcome{Class: feedback.Overloaded})
	saved, err := json.Marshal(law.State())
	if err != nil {
		fmt.Println(err)
		return
	}

	var state adaptive.AIMDState
	if err := json.Unmarshal(saved, &state); err != nil {
		fmt.Println(err)
		return
	}
	next := adaptive.NewAIMD(adaptive.Config{Initial: 50})
	next.Restore(0, state) // the clock of the new process begins at 0
	fmt.Println("limit", next.Decision().Limit)
	// Output: limit 35
}

func ExampleFixed() {
	law := adaptive.NewFixed(16)
	d := law.Ended(time.Second, adaptive.Call{InFlight: 16}, adaptive.Outcome{Class: feedback.Throttled})
	fmt.Println("limit", d.Limit)
	// Output: limit 16
}
