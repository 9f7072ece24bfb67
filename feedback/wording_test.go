package feedback

import (
	"strings"
	"testing"
)

// TestEveryWord tests every row of the table of words, in either letter case, at the ends
// of a text and inside a sentence, and where another word goes on.
func TestEveryWord(t *testing.T) {
	for _, p := range wordingTable {
		core := strings.Trim(p.text, "|")
		for _, text := range []string{core, "the " + core + " is exceeded", strings.ToUpper(core), "(" + core + ")", "已达" + core + "上限"} {
			s := Parse(Answer{Status: 429, Body: []byte(text)})
			want, class := p.scope, Throttled
			if want == ScopeDaily {
				class = QuotaExhausted
			}
			if s.Scope != want || s.Class != class {
				t.Errorf("%q = %s, want %v/%v", text, short(s), class, want)
			}
		}
		if strings.HasPrefix(p.text, "|") && namedScopes("x"+core).has(p.scope) {
			t.Errorf("%q names %v", "x"+core, p.scope)
		}
		if strings.HasSuffix(p.text, "|") && namedScopes(core+"x").has(p.scope) {
			t.Errorf("%q names %v", core+"x", p.scope)
		}
	}
}

// TestOrderOfWords: "concurrency, then daily, then output tokens, input tokens, tokens, requests".
func TestOrderOfWords(t *testing.T) {
	words := []string{"concurrent", "per day", "output tokens", "input tokens", "tpm", "rpm"}
	for i, first := range words {
		for _, second := range words[i+1:] {
			for _, text := range []string{first + " and " + second, second + " and " + first} {
				if s := Parse(Answer{Status: 429, Body: []byte(text)}); s.Scope != wordingOrder[i] {
					t.Errorf("%q = %s, want %v", text, short(s), wordingOrder[i])
				}
			}
		}
	}
}

func TestWordsThatNameNothing(t *testing.T) {
	for _, text := range []string{
		"Too Many Requests", "too many requests, please wait", "billing", "balance", "quota exceeded", "requests", "tokenizer busy",
		"Authentication failed for httpd", "today", "a holiday", "rate limit exceeded", "requestsper", "intraday", "bidaily", "http://x/daylight",
	} {
		if s := Parse(Answer{Status: 429, Body: []byte(text)}); s.Scope != ScopeUnknown || s.Class != Throttled {
			t.Errorf("%q = %s, want throttled/unknown", text, short(s))
		}
	}
}

// TestTooManyRequestsAtAmazon: beside ThrottlingException the phrase has the counterpart "too many tokens".
func TestTooManyRequestsAtAmazon(t *testing.T) {
	for _, c := range []struct{ code, text, want string }{
		{"ThrottlingException", "Too many requests", "throttled/requests retry"},
		{"ThrottlingException", "Too many tokens", "throttled/tokens retry"},
		{"ThrottlingException", "Too many requests, too many tokens", "throttled/tokens retry"},
		{"ThrottlingException", "Denied", "throttled/unknown retry"},
		{"TooManyRequestsException", "Too many requests", "throttled/unknown retry"},
	} {
		s := Parse(Answer{Status: 429, Body: []byte(`{"__type":"x#` + c.code + `","message":"` + c.text + `"}`)})
		if short(s) != c.want {
			t.Errorf("%s with %q = %s, want %s", c.code, c.text, short(s), c.want)
		}
	}
}

// TestMoneyPhrases: they make 4xx and throttled answers quota_exhausted, and nothing else.
func TestMoneyPhrases(t *testing.T) {
	for _, phrase := range money {
		for _, status := range []int{400, 402, 403, 404, 429} {
			s := Parse(Answer{Status: status, Body: []byte(`{"error":{"message":"Sorry: ` + strings.ToUpper(phrase) + `, tokens per minute"}}`)})
			if got := short(s); got != "quota_exhausted/unknown" {
				t.Errorf("%d %q = %s, want quota_exhausted/unknown", status, phrase, got)
			}
		}
		for _, status := range []int{500, 503, 504} {
			if s := Parse(Answer{Status: status, Body: []byte(phrase)}); s.Class == QuotaExhausted {
				t.Errorf("%d %q = %s, want what %d gives", status, phrase, short(s), status)
			}
		}
		if s := Parse(Answer{Status: 500, Body: []byte(`{"error":{"code":"rate_limit_exceeded","message":"` + phrase + `"}}`)}); s.Class != QuotaExhausted {
			t.Errorf("a throttled 500 with %q = %s, want quota_exhausted", phrase, short(s))
		}
	}
}
