package feedback

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestNamesInAnyCase finds every known name in small letters, in capitals, and as a mixture.
func TestNamesInAnyCase(t *testing.T) {
	for name, value := range map[string]string{
		"retry-after-ms": "5", "x-ms-retry-after-ms": "5", "x-amz-retry-after": "5", "grpc-retry-pushback-ms": "5", "retry-after": "5",
		"x-amzn-errortype": "ThrottlingException", "x-should-retry": "false", "stripe-should-retry": "false", "stripe-rate-limited-reason": "global-rate",
		"ratelimit": `"a";r=1`, "ratelimit-policy": `"a";q=1`, "x-shopify-shop-api-call-limit": "1/2", "grpc-status": "8",
		"x-ratelimit-limit-tokens": "5", "x-rate-limit-remaining": "5", "ratelimit-remaining": "5", "anthropic-ratelimit-tokens-limit": "5", "anthropic-priority-input-tokens-remaining": "4",
		"anthropic-fast-output-tokens-remaining": "4", "x-tokenlimit-remaining": "4", "ratelimitbysize-remaining": "6", "x-ratelimitbysize-remaining-month": "6", "x-ms-ratelimit-remaining-subscription-reads": "3",
	} {
		base := Answer{Status: 429, Header: map[string][]string{}, Now: noon}
		without := Parse(base)
		base.Header[name] = []string{value}
		want := Parse(base)
		if reflect.DeepEqual(want, without) {
			t.Errorf("%s: %s changes nothing", name, value)
		}
		mixed := []byte(name)
		for i := range mixed {
			if i%2 == 0 {
				mixed[i] = strings.ToUpper(name)[i]
			}
		}
		for _, spelled := range []string{strings.ToUpper(name), string(mixed)} {
			got := Parse(Answer{Status: 429, Header: map[string][]string{spelled: {value}}, Now: noon})
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, want %+v", spelled, got, want)
			}
		}
	}
	// Date, Age and Content-Type, which change nothing alone.
	for _, h := range []map[string][]string{
		{"DATE": {"Thu, 20 Aug 2026 10:00:00 GMT"}, "retry-AFTER": {"Thu, 20 Aug 2026 10:00:07 GMT"}},
		{"dAte": {"Thu, 20 Aug 2026 10:00:00 GMT"}, "RETRY-after": {"Thu, 20 Aug 2026 10:00:07 GMT"}},
	} {
		if got := short(Parse(Answer{Status: 429, Header: h})); got != "throttled/unknown retry 7s" {
			t.Errorf("%v = %s", h, got)
		}
	}
	body := []byte("event: error\ndata: {}\n\n")
	for _, name := range []string{"content-type", "CONTENT-TYPE", "Content-Type"} {
		if got := short(Parse(Answer{Status: 200, Header: headers(name, "TEXT/EVENT-STREAM"), Body: body})); got != "server_error/none retry" {
			t.Errorf("%s = %s", name, got)
		}
	}
}

// TestTwoSpellingsOfOneName: the values are those of one repeated field.
func TestTwoSpellingsOfOneName(t *testing.T) {
	for range 20 { // the order of a map changes
		h := map[string][]string{
			"retry-after": {"5"}, "Retry-After": {"9"}, "RETRY-AFTER": {"7", "3"},
			"x-ratelimit-limit": {"1"}, "X-RateLimit-Limit": {"2"}, "X-RATELIMIT-LIMIT": {"3"},
		}
		if got := describe(Parse(Answer{Status: 429, Header: h})); got != "throttled retryable=true after=9000 scope=unknown windows=[requests 3 - -]" {
			t.Fatal(got)
		}
	}
}

func TestMediaType(t *testing.T) {
	for in, want := range map[string]bool{
		"text/event-stream": true, "text/event-stream;charset=utf-8": true, "Text/Event-Stream ; x": true, "text/event-streams": false, "text/event": false, "": false, "application/json": false,
	} {
		if got := mediaType(in, "text/event-stream"); got != want {
			t.Errorf("mediaType(%q) = %v, want %v", in, got, want)
		}
	}
}

// TestParseIsOrderless is a property: the answer's fields are a set.
func TestParseIsOrderless(t *testing.T) {
	all := fixtures(t)
	rapid.Check(t, func(t *rapid.T) {
		// The header of one fixture with the body of another.
		h := rapid.SampledFrom(all).Draw(t, "header")
		b := rapid.SampledFrom(all).Draw(t, "body")
		a := b.answer(nil)
		a.Header = h.answer(nil).Header
		a.Status = rapid.SampledFrom([]int{200, 400, 402, 403, 408, 409, 413, 429, 500, 501, 503, 529}).Draw(t, "status")
		first := Parse(a)
		spelled := map[string][]string{}
		for name, values := range a.Header {
			if rapid.Bool().Draw(t, "upper") {
				name = strings.ToUpper(name)
			}
			spelled[name] = values
		}
		a.Header = spelled
		if second := Parse(a); !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v\n%+v", first, second)
		}
	})
}
