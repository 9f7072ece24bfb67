package httplimit

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// Budgets of input and of output tokens whose size nobody configured are filled from Anthropic's fields, settled with what the body tells, input
// and output apart and cached tokens left out, and hold back the call that would not fit into one of them.
func TestInputAndOutputTokensFromHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		input, output := 40_000, 8_000 // what is left of each
		send := func(use, cached, out int) *http.Response {
			input, output = input-use, output-out
			reset := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
			return answer(200, fmt.Sprintf(`{"type":"message","usage":{"input_tokens":%d,"cache_read_input_tokens":%d,"output_tokens":%d}}`, use, cached, out),
				"Content-Type", "application/json", "Date", time.Now().UTC().Format(http.TimeFormat),
				"Anthropic-Ratelimit-Input-Tokens-Limit", "40000", "Anthropic-Ratelimit-Input-Tokens-Remaining", fmt.Sprint(input),
				"Anthropic-Ratelimit-Input-Tokens-Reset", reset,
				"Anthropic-Ratelimit-Output-Tokens-Limit", "8000", "Anthropic-Ratelimit-Output-Tokens-Remaining", fmt.Sprint(output),
				"Anthropic-Ratelimit-Output-Tokens-Reset", reset)
		}
		next := func() *http.Response { return nil }
		guard, err := limiter.New(limiter.Config{
			Law: adaptive.NewFixed(10), MaxWait: time.Minute,
			Budget: &limiter.Budget{Limits: []limiter.BudgetLimit{
				{Kind: feedback.ScopeInputTokens, Period: time.Minute}, {Kind: feedback.ScopeOutputTokens, Period: time.Minute},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		var cost limiter.Request
		tr := New(roundTripper(func(*http.Request) (*http.Response, error) { return next(), nil }), guard,
			Config{Request: func(*http.Request) limiter.Request { return cost }})
		call := func(in, out int64, with func() *http.Response) time.Duration {
			t.Helper()
			cost, next = limiter.Request{Tokens: in + out, Output: out}, with
			began := time.Now()
			resp, err := get(t, context.Background(), tr)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			return time.Since(began)
		}
		left := func(in, out int64) {
			t.Helper()
			b := guard.Explain(0).Budgets
			if b[0].Limit != 40_000 || b[1].Limit != 8_000 || b[0].Left != in || b[1].Left != out {
				t.Fatalf("%+v, want %d of 40000 and %d of 8000 left", b, in, out)
			}
		}
		call(1_200, 300, func() *http.Response { return send(1_200, 9_000, 300) })
		left(38_800, 7_700)
		// One kind does not borrow from the other.
		call(30_400, 4_400, func() *http.Response { return send(30_400, 0, 4_400) })
		left(8_400, 3_300)
		if d := call(400, 3_700, func() *http.Response { return send(400, 0, 3_700) }); d != 3*time.Second { // 400 output tokens come back
			t.Errorf("the call that needs more output tokens than are left waited %v, want 3s", d)
		}
	})
}
