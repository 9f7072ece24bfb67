package metrics_test

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/metrics"
)

func Example() {
	guard, err := limiter.New(limiter.Config{Name: "openai", Law: adaptive.NewFixed(10)})
	if err != nil {
		fmt.Println(err)
		return
	}
	m := metrics.New()
	if err := m.Register(guard); err != nil {
		fmt.Println(err)
		return
	}

	permit, err := guard.Acquire(context.Background(), limiter.Request{})
	if err != nil {
		fmt.Println(err)
		return
	}
	permit.Release(limiter.Outcome{Class: feedback.Throttled})

	server := httptest.NewServer(m.Handler())
	defer server.Close()
	answer, err := server.Client().Get(server.URL + "/metrics")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil {
		fmt.Println(err)
		return
	}
	for line := range strings.Lines(string(page)) {
		if strings.Contains(line, "flyball_limit") || strings.Contains(line, `class="throttled"`) {
			fmt.Print(line)
		}
	}
	// Output:
	// # HELP flyball_limit How many calls may be in flight.
	// # TYPE flyball_limit gauge
	// flyball_limit{guard="openai"} 10
	// flyball_outcomes_total{guard="openai",class="throttled"} 1
}
