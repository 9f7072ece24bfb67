package feedback

import "testing"

func TestWindows(t *testing.T) {
	const ok = "ok retryable=false after=- scope=none windows="
	date := []string{"Date", "Thu, 20 Aug 2026 10:00:00 GMT"}
	w := func(pairs ...string) map[string][]string { return headers(append(pairs, date...)...) }
	runAnswers(t, []answerCase{
		// The kinds of the suffixes.
		{"bare", 200, w("X-RateLimit-Limit", "5"), "", ok + "[requests 5 - -]"},
		{"requests", 200, w("x-ratelimit-limit-requests", "5"), "", ok + "[requests 5 - -]"},
		{"req-minute", 200, w("x-ratelimit-remaining-req-minute", "5"), "", ok + "[requests - 5 -]"},
		{"second", 200, w("x-ratelimit-limit-second", "5"), "", ok + "[requests 5 - -]"},
		{"minute", 200, w("x-ratelimit-limit-minute", "5"), "", ok + "[requests 5 - -]"},
		{"hour", 200, w("x-ratelimit-limit-hour", "5"), "", ok + "[requests 5 - -]"},
		{"day", 200, w("x-ratelimit-limit-day", "5"), "", ok + "[daily 5 - -]"},
		{"tokens-per-day", 200, w("x-ratelimit-limit-tokens-per-day", "5"), "", ok + "[daily 5 - -]"},
		{"week", 200, w("x-ratelimit-limit-requests-week", "5"), "", ok + "[daily 5 - -]"},
		{"month", 200, w("x-ratelimit-limit-month", "5"), "", ok + "[daily 5 - -]"},
		{"input", 200, w("x-ratelimit-limit-input-tokens", "5"), "", ok + "[input_tokens 5 - -]"},
		{"prompt", 200, w("x-ratelimit-limit-tokens-cache-adjusted-prompt", "5"), "", ok + "[input_tokens 5 - -]"},
		{"output", 200, w("x-ratelimit-limit-output-tokens", "5"), "", ok + "[output_tokens 5 - -]"},
		{"generated", 200, w("x-ratelimit-limit-tokens-generated", "5"), "", ok + "[output_tokens 5 - -]"},
		{"completion", 200, w("x-ratelimit-limit-completion", "5"), "", ok + "[output_tokens 5 - -]"},
		{"token", 200, w("x-ratelimit-limit-token", "5"), "", ok + "[tokens 5 - -]"},
		{"tokens_usage_based", 200, w("x-ratelimit-limit-tokens_usage_based", "5"), "", ok + "[tokens 5 - -]"},
		{"images", 200, w("x-ratelimit-limit-images", "5"), "", ok + "[unknown 5 - -]"},
		{"daylight is not day", 200, w("x-ratelimit-limit-daylight", "5"), "", ok + "[unknown 5 - -]"},

		// The families.
		{"x-rate-limit", 200, w("X-Rate-Limit-Limit", "9", "X-Rate-Limit-Remaining", "8", "X-Rate-Limit-Reset", "7"), "", ok + "[requests 9 8 7000]"},
		{"ratelimit three", 200, w("RateLimit-Limit", "9", "RateLimit-Remaining", "8", "RateLimit-Reset", "7"), "", ok + "[requests 9 8 7000]"},
		{"anthropic priority and fast", 200, w("anthropic-priority-input-tokens-limit", "9", "anthropic-fast-output-tokens-remaining", "3", "anthropic-ratelimit-tokens-remaining", "2"), "",
			ok + "[input_tokens 9 - -, output_tokens - 3 -, tokens - 2 -]"},
		{"anthropic families stay apart", 200, w("anthropic-ratelimit-tokens-limit", "9", "anthropic-fast-tokens-remaining", "3"), "", ok + "[tokens - 3 -, tokens 9 - -]"},
		{"anthropic requests", 200, w("Anthropic-Ratelimit-Requests-Limit", "9", "Anthropic-Ratelimit-Requests-Reset", "2026-08-20T10:00:01.0001Z"), "", ok + "[requests 9 - 1001]"},
		{"unified has no counts", 200, w("anthropic-ratelimit-unified-7d-reset", "1787282291", "anthropic-ratelimit-unified-status", "allowed"), "", ok + "[]"},
		{"tokenlimit", 200, w("X-TokenLimit-Limit", "9", "X-TokenLimit-Remaining", "8", "X-TokenLimit-Reset", "0.5"), "", ok + "[tokens 9 8 500]"},
		{"bysize", 200, w("ratelimitbysize-limit", "9", "ratelimitbysize-remaining", "8", "ratelimitbysize-reset", "7"), "", ok + "[tokens 9 8 7000]"},
		{"x bysize", 200, w("x-ratelimitbysize-limit-minute", "9", "x-ratelimitbysize-remaining-month", "8"), "", ok + "[daily - 8 -, tokens 9 - -]"},
		{"microsoft", 200, w("x-ms-ratelimit-remaining-subscription-reads", "11", "x-ms-ratelimit-remaining-subscription-writes", "12"), "", ok + "[requests - 11 -, requests - 12 -]"},
		{"shopify", 200, w("X-Shopify-Shop-Api-Call-Limit", "39/40"), "", ok + "[requests 40 1 -]"},
		{"shopify beyond", 200, w("X-Shopify-Shop-Api-Call-Limit", "41/40"), "", ok + "[requests 40 0 -]"},
		{"shopify malformed", 200, w("X-Shopify-Shop-Api-Call-Limit", "many/40"), "", ok + "[]"},
		{"not a family", 200, w("x-ratelimit-used", "5", "x-ratelimit-scope", "user", "x-ratelimit-over-limit", "yes", "x-ratelimit-limits", "9", "ratelimit-observed", "6",
			"ratelimit-resettime", "7", "x-ratelimit-limit-", "5", "anthropic-limit", "4", "anthropic-organization-id", "1"), "", ok + "[]"},
		{"equal windows are one", 200, w("x-ratelimit-limit", "5", "x-ratelimit-remaining", "4", "ratelimit-limit", "5", "ratelimit-remaining", "4"), "", ok + "[requests 5 4 -]"},
		{"unequal windows are two", 200, w("x-ratelimit-limit", "5", "x-ratelimit-remaining", "4", "ratelimit-limit", "5", "ratelimit-remaining", "3"), "", ok + "[requests 5 3 -, requests 5 4 -]"},
		{"a reset alone is no window", 200, w("x-ratelimit-reset", "5", "x-ratelimit-reset-tokens", "7"), "", ok + "[]"},

		// Counts.
		{"fraction", 200, w("x-ratelimit-limit", "5.9", "x-ratelimit-remaining", "0.9"), "", ok + "[requests 5 0 -]"},
		{"list", 200, w("x-ratelimit-limit", "10, 10;w=1, 500;w=60"), "", ok + "[requests 10 - -]"},
		{"parameter", 200, w("x-ratelimit-limit", "100;w=60"), "", ok + "[requests 100 - -]"},
		{"largest", 200, w("x-ratelimit-limit", "9223372036854775807"), "", ok + "[requests 9223372036854775807 - -]"},
		{"too large", 200, w("x-ratelimit-limit", "9223372036854775808", "x-ratelimit-remaining", "1"), "", ok + "[requests - 1 -]"},
		{"no numbers", 200, w("x-ratelimit-limit", "-1", "x-ratelimit-remaining", "1e3"), "", ok + "[]"},
		{"repeated", 200, map[string][]string{"x-ratelimit-limit": {"7", "9"}}, "", ok + "[requests 7 - -]"},

		// Resets.
		{"delta below 1e8", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "99999999"), "", ok + "[requests 1 - 99999999000]"},
		{"epoch at 1e8", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "100000000"), "", ok + "[requests 1 - 0]"},
		{"epoch seconds", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "1787220060"), "", ok + "[requests 1 - 60000]"},
		{"epoch milliseconds", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "1787220000001"), "", ok + "[requests 1 - 1]"},
		{"epoch microseconds", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "1787220000000001"), "", ok + "[requests 1 - 1]"},
		{"epoch nanoseconds", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "1787220002000000000"), "", ok + "[requests 1 - 2000]"},
		{"epoch fraction", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "1787220000.0001"), "", ok + "[requests 1 - 1]"},
		{"366 days ahead", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "1818842400"), "", ok + "[requests 1 - 31622400000]"},
		{"more than 366 days ahead", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "1818842401"), "", ok + "[requests 1 - -]"},
		{"too large a number", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "99999999999999999999999"), "", ok + "[requests 1 - -]"},
		{"date more than 366 days ahead", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "Fri, 20 Aug 2028 10:00:00 GMT"), "", ok + "[requests 1 - -]"},
		{"http date", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "Thu, 20 Aug 2026 10:00:30 GMT"), "", ok + "[requests 1 - 30000]"},
		{"instant", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "2026-08-20T10:00:30Z"), "", ok + "[requests 1 - 30000]"},
		{"instant without zone", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "2026-08-20T10:00:30"), "", ok + "[requests 1 - -]"},
		{"instant past", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "2025-08-20T10:00:30Z"), "", ok + "[requests 1 - 0]"},
		{"duration", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "6m0s"), "", ok + "[requests 1 - 360000]"},
		{"negative", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "-1"), "", ok + "[requests 1 - -]"},
		{"reset-after goes first", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "9", "x-ratelimit-reset-after", "4.5"), "", ok + "[requests 1 - 4500]"},
		{"unreadable reset-after", 200, w("x-ratelimit-limit", "1", "x-ratelimit-reset", "9", "x-ratelimit-reset-after", "soon"), "", ok + "[requests 1 - 9000]"},

		// Age.
		{"age zero", 200, w("Age", "0", "x-ratelimit-limit", "1"), "", ok + "[requests 1 - -]"},
		{"age one", 200, w("Age", "1", "x-ratelimit-limit", "1", "RateLimit", `"a";r=1`), "", ok + "[]"},
		{"age unreadable", 200, w("Age", "-3", "x-ratelimit-limit", "1"), "", ok + "[requests 1 - -]"},
		{"cached refusal", 429, w("AGE", "5", "x-ratelimit-remaining", "0", "x-ratelimit-reset", "9"), "", "throttled retryable=true after=- scope=unknown windows=[]"},
	})
}

func TestManyWindowsAreNotBelieved(t *testing.T) {
	h := map[string][]string{}
	name := func(i int) string { return "x-ratelimit-limit-a" + string(rune('a'+i/26)) + string(rune('a'+i%26)) }
	for i := range maxWindows {
		h[name(i)] = []string{string(rune('1' + i%9))}
	}
	if got := len(Parse(Answer{Status: 200, Header: h}).Windows); got != 9 {
		t.Errorf("%d limits give %d windows, want the 9 different ones", maxWindows, got)
	}
	h[name(maxWindows)] = []string{"5"}
	if got := len(Parse(Answer{Status: 200, Header: h}).Windows); got != 0 {
		t.Errorf("%d limits give %d windows, want none", maxWindows+1, got)
	}
}

func TestWindowsAreAppended(t *testing.T) {
	buf := make([]Window, 1, 8)
	buf[0] = Window{Kind: ScopeTokens, Limit: 77}
	s := Parse(Answer{Status: 200, Header: headers("x-ratelimit-limit", "5"), Windows: buf})
	if len(s.Windows) != 2 || s.Windows[0].Limit != 77 || s.Windows[1].Limit != 5 || &s.Windows[0] != &buf[0] {
		t.Errorf("Windows = %+v, want what the buffer held and one more", s.Windows)
	}
	// A window that the buffer holds already is not this answer's.
	s = Parse(Answer{Status: 429, Header: headers("Retry-After", "1"), Windows: []Window{{Kind: ScopeTokens, Remaining: 0, Reset: 5}}})
	if s.Scope != ScopeUnknown {
		t.Errorf("scope %v from a window of the buffer", s.Scope)
	}
}
