package feedback

import (
	"testing"
	"time"
)

func TestFromGRPC(t *testing.T) {
	rules, err := CompileRules([]Rule{{Name: "mine", Text: "house is full", Class: "overloaded", Delay: time.Minute}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status GRPCStatus
		want   string
	}{
		{GRPCStatus{}, "ok/none"}, {GRPCStatus{Code: 0, Pushback: []string{"5"}}, "ok/none"},
		{GRPCStatus{Code: 1}, "client_error/none retry"}, {GRPCStatus{Code: 2}, "server_error/none retry"}, {GRPCStatus{Code: 3}, "client_error/none"}, {GRPCStatus{Code: 4}, "timeout/none retry"},
		{GRPCStatus{Code: 8}, "throttled/unknown retry"}, {GRPCStatus{Code: 10}, "client_error/none retry"}, {GRPCStatus{Code: 14}, "overloaded/none retry"}, {GRPCStatus{Code: 16}, "client_error/none"},
		{GRPCStatus{Code: 17}, "server_error/none retry"}, {GRPCStatus{Code: 4294967295, Message: "Rate limit, tokens"}, "throttled/tokens retry"},
		{GRPCStatus{Code: 8, Message: "Too many concurrent streams, retry in 2s"}, "throttled/concurrency retry 2s"}, {GRPCStatus{Code: 8, Message: "requests per day"}, "quota_exhausted/daily"},
		{GRPCStatus{Code: 8, Message: "retry in 2s", RetryDelay: 1500 * time.Microsecond, HasRetryDelay: true}, "throttled/unknown retry 2ms"},
		{GRPCStatus{Code: 8, RetryDelay: 3 * time.Second, HasRetryDelay: true, Pushback: []string{"40"}}, "throttled/unknown retry 40ms"},
		{GRPCStatus{Code: 8, RetryDelay: 3 * time.Second}, "throttled/unknown retry"}, {GRPCStatus{Code: 8, RetryDelay: -1, HasRetryDelay: true}, "throttled/unknown retry"}, {GRPCStatus{Code: 8, HasRetryDelay: true}, "throttled/unknown retry 0s"},
		{GRPCStatus{Code: 8, RetryDelay: 1<<63 - 1, HasRetryDelay: true}, "throttled/unknown retry 2562047h47m16.854s"},
		{GRPCStatus{Code: 14, Pushback: []string{"-1"}}, "overloaded/none"}, {GRPCStatus{Code: 14, Pushback: []string{"soon"}}, "overloaded/none"}, {GRPCStatus{Code: 14, Pushback: []string{"0"}}, "overloaded/none retry 0s"},
		{GRPCStatus{Code: 8, Reasons: []string{"MODEL_CAPACITY_EXHAUSTED"}}, "overloaded/none retry"}, {GRPCStatus{Code: 8, Reasons: []string{"RATE_LIMIT_EXCEEDED"}, QuotaIDs: []string{"RequestsPerDay"}}, "quota_exhausted/daily"},
		{GRPCStatus{Code: 8, QuotaIDs: []string{"InputTokensPerMinute"}}, "throttled/input_tokens retry"}, {GRPCStatus{Code: 8, Message: "The House  is full", Rules: rules}, "overloaded/none retry 1m0s"},
		{GRPCStatus{Code: 8, Reasons: []string{"insufficient_quota"}, Provider: "dashscope"}, "throttled/tokens retry"},
	} {
		s := FromGRPC(c.status)
		checkSignal(t, s)
		if got := short(s); got != c.want {
			t.Errorf("FromGRPC(%+v) = %s, want %s", c.status, got, c.want)
		}
	}
}

// TestFromGRPCAgreesWithParse: the same status as an HTTP answer means the same.
func TestFromGRPCAgreesWithParse(t *testing.T) {
	for code := uint32(0); code < 20; code++ {
		for _, message := range []string{"", "tokens per minute", "limit: 0", "concurrent", "try again in 5s"} {
			h := headers("Content-Type", "application/grpc", "Grpc-Status", statusText(int(code)), "Grpc-Message", message)
			want := Parse(Answer{Status: 200, Header: h, Now: noon})
			if got := FromGRPC(GRPCStatus{Code: code, Message: message, Now: noon}); describe(got) != describe(want) || got.Source != want.Source {
				t.Errorf("code %d, %q: %s, Parse says %s", code, message, describe(got), describe(want))
			}
		}
	}
}
