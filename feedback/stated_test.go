package feedback

import (
	"fmt"
	"strings"
	"testing"
)

// statedText writes limits for a table: "tokens 15000 used=11972 asked=4351 per=1m0s".
func statedText(list []Stated) string {
	var out []string
	for _, s := range list {
		text := fmt.Sprintf("%v %d", s.Kind, s.Limit)
		if s.Used != Unstated {
			text += fmt.Sprintf(" used=%d", s.Used)
		}
		if s.Requested != Unstated {
			text += fmt.Sprintf(" asked=%d", s.Requested)
		}
		if s.Per != 0 {
			text += fmt.Sprintf(" per=%v", s.Per)
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func TestStated(t *testing.T) {
	for text, want := range map[string]string{
		// As providers write them.
		"Your current concurrency is 5, which exceeds your concurrency limit of 5 based on your remaining balance.": "concurrency 5 used=5",
		"reached organization max concurrency: 3, please try again after 1 seconds":                                 "concurrency 3",
		"Your account organization concurrency: 1, request reached max organization concurrency: 2":                 "concurrency 2",
		"request reached organization max RPM: 3, please try again after 1 seconds":                                 "requests 3 per=1m0s",
		"reached organization TPM rate limit, current:501200, limit:500000":                                         "tokens 500000 used=501200 per=1m0s",
		"reached organization TPD rate limit,current:1500100, limit:1500000":                                        "tokens 1500000 used=1500100 per=24h0m0s",
		"on tokens per minute (TPM): Limit 15000, Used 11972, Requested 4351. Please try again in 5.289s.":          "tokens 15000 used=11972 asked=4351 per=1m0s",
		"for gpt-4.1-mini on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try again in 7m12s.":  "requests 200 used=200 asked=1 per=24h0m0s",
		"Your team's rate limit is - Requests per Second (actual/limit): 2/2. See":                                  "requests 2 used=2 per=1s",
		"trial token rate limit exceeded, limit is 100000 tokens per minute":                                        "tokens 100000 per=1m0s",
		"your organization's rate limit of 40,000 input tokens per minute.":                                         "input_tokens 40000 per=1m0s",
		"rate limit of 8,000 output tokens per minute":                                                              "output_tokens 8000 per=1m0s",
		"policy ip over ratelimit,limit:5,time:1 minute":                                                            "unknown 5 per=1m0s",
		"request times equals to `21` in a second, which exceeds the frequency limit `20` for a second.":            "requests 20 used=21 per=1s",
		"Your current subscription is associated with a maximum of 5 concurrent requests.":                          "concurrency 5",
		"Exceeded 2 calls per second for api client.":                                                               "requests 2 per=1s",
		"Rate limit exceeded: 5 per 1 minute":                                                                       "unknown 5 per=1m0s",
		"Quota exceeded for metric: x.googleapis.com/generate_content_free_tier_requests, limit: 2":                 "requests 2",
		"Quota exceeded for metric: x.googleapis.com/free_tier_input_token_count, limit: 250000":                    "input_tokens 250000",
		// Variations.
		"limit of 250k tokens per minute": "tokens 250000 per=1m0s", "max TPM: 1,000,000": "tokens 1000000 per=1m0s", "limit 10 requests/min": "requests 10 per=1m0s", "limit: 5 requests per 10 seconds": "requests 5 per=10s",
		"QPS limit is 7": "requests 7 per=1s", "Limit 3, Used 2. Limit 9, Used 8.": "unknown 3 used=2, unknown 9 used=8", "token limit: 5, request limit: 6": "tokens 5, requests 6", "limit=2.0 concurrent requests": "concurrency 2",
		"requests per minute limit: 0": "requests 0 per=1m0s", "at most in-flight limit: 4": "concurrency 4", "limit: 5 (5 used)": "unknown 5", "limit 9223372036854775807": "unknown 9223372036854775807",
		// No limits.
		"Rate limit reached for gpt-4 in organization org-1": "", "limit: 0.5": "", "limit: -5": "", "limit 1e3": "", "limit: 5m": "", "try again in 20 seconds": "", "error 429": "", "limit 99999999999999999999": "",
		"limit 4-turbo": "", "limit: none, 5 left": "", "Error 1015": "", "limit: 12:34:56": "unknown 12", "rate limit. 5": "", "": "", "limit": "", "limit:": "", "(actual/limit): 2": "",
	} {
		e := evidence{document: document{text: normalize(text)}}
		if got := statedText(e.stated(ScopeUnknown)); got != want {
			t.Errorf("stated(%q) = %q, want %q", text, got, want)
		}
	}
}

// TestStatedScope: what the sentence does not name is the scope that refused.
func TestStatedScope(t *testing.T) {
	for body, want := range map[string]string{
		`{"error_msg":"over ratelimit,limit:5,time:1 minute","error_code":"APIG.0308"}`:         "requests 5 per=1m0s",
		`{"error":{"code":"1302","message":"limit: 5"}}`:                                        "concurrency 5",
		`{"error":{"code":"Arrearage","message":"limit: 5"}}`:                                   "unknown 5",
		`{"error":{"code":"1304","message":"limit: 5"}}`:                                        "unknown 5 per=24h0m0s",
		`{"error":{"code":"system_busy","message":"limit: 5 requests per second"}}`:             "",
		`{"error":{"type":"tokens","message":"Request too large: Limit 6000, Requested 9921"}}`: "tokens 6000 asked=9921",
	} {
		if got := statedText(Parse(Answer{Status: 429, Body: []byte(body)}).Stated); got != want {
			t.Errorf("%s states %q, want %q", body, got, want)
		}
	}
}

func TestQuotaValues(t *testing.T) {
	violation := func(id, value string) string { return `{"quotaId":"` + id + `","quotaValue":` + value + `}` }
	body := func(v ...string) []byte {
		return []byte(`{"error":{"status":"RESOURCE_EXHAUSTED","message":"limit: 77","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[` + strings.Join(v, ",") + `]}]}}`)
	}
	for _, c := range []struct {
		body []byte
		want string
	}{
		{body(violation("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", `"2"`)), "requests 2 per=1m0s"},
		{body(violation("GenerateRequestsPerDayPerProjectPerModel-FreeTier", `50`)), "requests 50 per=24h0m0s"},
		{body(violation("GenerateContentInputTokensPerModelPerMinute-FreeTier", `"250000"`), violation("GenerateRequestsPerMinute", `"2"`)), "input_tokens 250000 per=1m0s, requests 2 per=1m0s"},
		{body(violation("GenerateRequestsPerMinute", `"many"`)), "requests 77"}, {body(), "unknown 77"},
	} {
		if got := statedText(Parse(Answer{Status: 429, Body: c.body}).Stated); got != c.want {
			t.Errorf("%s states %q, want %q", c.body, got, c.want)
		}
	}
}
