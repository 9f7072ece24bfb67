package feedback_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

func ExampleParse() {
	s := feedback.Parse(feedback.Answer{
		Status: 429,
		Header: http.Header{"Retry-After": {"2"}},
		Body:   []byte(`{"error":{"message":"request reached organization max concurrency: 3","type":"rate_limit_reached_error"}}`),
		Now:    time.Now(),
	})
	fmt.Println(s.Class, s.Retryable, s.RetryAfter, s.Scope)
	fmt.Println(s.Stated[0].Kind, s.Stated[0].Limit)
	fmt.Println(s.Source)
	// Output:
	// throttled true 2s concurrency
	// concurrency 3
	// code:rate_limit_reached_error text:concurrency header:retry-after
}

func ExampleCompileRules() {
	rules, err := feedback.CompileRules([]feedback.Rule{
		{Name: "teapot", Status: 418, Class: "overloaded", Delay: 30 * time.Second},
	})
	if err != nil {
		panic(err)
	}
	s := feedback.Parse(feedback.Answer{Status: 418, Now: time.Now(), Rules: rules})
	fmt.Println(s.Class, s.RetryAfter, s.Source)

	_, err = feedback.CompileRules([]feedback.Rule{{Name: "teapot", Status: 418, Class: "busy"}})
	fmt.Println(err)
	// Output:
	// overloaded 30s rule:teapot delay:rule
	// feedback: rule 1 ("teapot"): class = "busy", want one of ok, throttled, quota_exhausted, overloaded, timeout, client_error, server_error
}

func ExampleWatcher() {
	body := io.NopCloser(strings.NewReader("data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n" +
		"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1,\"total_tokens\":6}}\n\ndata: [DONE]\n\n"))
	w := feedback.NewWatcher(body, feedback.WatchConfig{StreamConfig: feedback.StreamConfig{
		Status: 200, Header: http.Header{"Content-Type": {"text/event-stream"}},
	}})
	n, _ := io.Copy(io.Discard, w)
	w.Close()
	r := w.Report()
	fmt.Println(n == r.Bytes, r.Refused, r.Complete, r.Usage.Input, r.Usage.Output)
	// Output: true false true 5 1
}

func ExampleFromError() {
	s := feedback.FromError(context.Background(), fmt.Errorf("dial: %w", syscall.ECONNREFUSED))
	fmt.Println(s.Class, s.Retryable, s.Source)
	// Output: overloaded true conn:refused
}

func ExampleFromGRPC() {
	s := feedback.FromGRPC(feedback.GRPCStatus{Code: 8, Message: "too many concurrent streams", Pushback: []string{"2500"}})
	fmt.Println(s.Class, s.Scope, s.RetryAfter)
	// Output: throttled concurrency 2.5s
}
