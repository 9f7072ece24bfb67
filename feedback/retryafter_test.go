package feedback

import (
	"testing"
	"time"
)

// TestDelaySources takes the sources away one by one: the first readable one wins.
func TestDelaySources(t *testing.T) {
	type source struct{ field, value, want, source string }
	sources := []source{
		{"Retry-After-Ms", "101", "101ms", "header:retry-after-ms"},
		{"X-Ms-Retry-After-Ms", "102", "102ms", "header:x-ms-retry-after-ms"},
		{"X-Amz-Retry-After", "103", "103ms", "header:x-amz-retry-after"},
		{"Grpc-Retry-Pushback-Ms", "104", "104ms", "header:grpc-retry-pushback-ms"},
		{"Retry-After", "105", "1m45s", "header:retry-after"},
	}
	const detail = `"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"106s"}]`
	bodies := []struct{ body, want, source string }{
		{`{"error":{"message":"try again in 109s",` + detail + `,"retry_after":107}}`, "1m46s", "body:retryDelay"},
		{`{"error":{"message":"try again in 109s","retry_after":107}}`, "1m47s", "body:retry_after"},
		{`{"error":{"message":"try again in 109s"}}`, "1m49s", "text:retry"},
		{`{}`, "1m50s", "window:reset"},
	}
	for skip := range len(sources) + len(bodies) {
		h := headers("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "110")
		for i := range sources {
			switch {
			case i >= skip:
				h[sources[i].field] = []string{sources[i].value}
			case i%2 == 0:
				h[sources[i].field] = []string{"soon"} // an unreadable source is skipped
			}
		}
		body := bodies[max(0, skip-len(sources))]
		got := Parse(Answer{Status: 429, Header: h, Body: []byte(body.body), Now: noon})
		want, from := body.want, body.source
		if skip < len(sources) {
			want, from = sources[skip].want, sources[skip].source
		}
		if !got.HasRetryAfter || got.RetryAfter.String() != want || got.Source[len(got.Source)-len(from):] != from {
			t.Errorf("without the first %d sources: %v %v from %q, want %s from %s", skip, got.HasRetryAfter, got.RetryAfter, got.Source, want, from)
		}
	}
}

func TestDelayIsReportedForEveryClassButOK(t *testing.T) {
	h := headers("Retry-After", "7")
	for _, status := range []int{400, 401, 402, 403, 404, 408, 409, 413, 429, 498, 499, 500, 501, 503, 504, 529} {
		if s := Parse(Answer{Status: status, Header: h, Now: noon}); !s.HasRetryAfter || s.RetryAfter != 7*time.Second {
			t.Errorf("status %d: delay %v, %v, want 7s", status, s.RetryAfter, s.HasRetryAfter)
		}
	}
	for _, status := range []int{100, 200, 202, 204, 301, 304} {
		if s := Parse(Answer{Status: status, Header: h, Now: noon}); s.HasRetryAfter || s.Class != OK || s.Retryable {
			t.Errorf("status %d: %+v, want ok without a delay", status, s)
		}
	}
}

func TestWindowDelayIsForRefusalsOnly(t *testing.T) {
	h := headers("X-RateLimit-Remaining-Requests", "0", "X-RateLimit-Reset-Requests", "9",
		"X-RateLimit-Remaining-Tokens", "0", "X-RateLimit-Reset-Tokens", "30",
		"X-RateLimit-Remaining-Images", "1", "X-RateLimit-Reset-Images", "99")
	for status, want := range map[int]string{429: "30s", 402: "30s", 503: "", 500: "", 404: "", 504: ""} {
		got := ""
		if s := Parse(Answer{Status: status, Header: h, Now: noon}); s.HasRetryAfter {
			got = s.RetryAfter.String()
		}
		if got != want {
			t.Errorf("status %d: delay %q, want %q", status, got, want)
		}
	}
}

func TestRetryAfterValues(t *testing.T) {
	date := "Thu, 20 Aug 2026 10:00:00 GMT"
	for _, c := range []struct {
		values []string
		want   string // "" for none
	}{
		{[]string{"5"}, "5s"}, {[]string{" 5 "}, "5s"}, {[]string{"\t5"}, "5s"}, {[]string{"5, 10"}, "10s"}, {[]string{"10,5"}, "10s"},
		{[]string{"5", "30", "7"}, "30s"}, {[]string{"soon", "30"}, "30s"}, {[]string{"soon, 30, -4"}, "30s"},
		{[]string{"Thu, 20 Aug 2026 10:00:45 GMT"}, "45s"},
		{[]string{"Thu, 20 Aug 2026 10:00:45 GMT, 50"}, "50s"},
		{[]string{"50, Thu, 20 Aug 2026 10:01:45 GMT"}, "1m45s"},
		{[]string{"Thu, 20 Aug 2026 10:00:45 GMT, Thu, 20 Aug 2026 10:03:45 GMT"}, "3m45s"},
		{[]string{"Thursday, 20-Aug-26 10:01:00 GMT"}, "1m0s"},
		{[]string{"1m30s"}, "1m30s"}, {[]string{"0"}, "0s"}, {[]string{"0.0001"}, "1ms"},
		{[]string{""}, ""}, {[]string{}, ""}, {[]string{","}, ""}, {[]string{", ,"}, ""}, {[]string{"-1"}, ""}, {[]string{"1e3"}, ""},
		{[]string{"2026-08-20T10:00:45Z"}, ""}, {[]string{`"5"`}, ""}, {[]string{"5;q=1"}, ""}, {[]string{"five"}, ""},
	} {
		h := map[string][]string{"Retry-After": c.values, "Date": {date}}
		got := ""
		if s := Parse(Answer{Status: 429, Header: h, Now: noon.Add(time.Hour)}); s.HasRetryAfter {
			got = s.RetryAfter.String()
		}
		if got != c.want {
			t.Errorf("Retry-After %q = %q, want %q", c.values, got, c.want)
		}
	}
	// The fields in milliseconds are numbers only.
	for _, v := range []string{"5s", date, "-1", "1e3", "NaN"} {
		if s := Parse(Answer{Status: 429, Header: headers("Retry-After-Ms", v), Now: noon}); s.HasRetryAfter {
			t.Errorf("Retry-After-Ms %q = %v, want none", v, s.RetryAfter)
		}
	}
}

func TestBodyDelay(t *testing.T) {
	for body, want := range map[string]string{
		`{"retry_after_ms":1500}`: "1.5s", `{"retry_after":2}`: "2s", `{"retry_after":"2.5"}`: "2.5s", `{"retry_after_seconds":3}`: "3s",
		`{"retryAfterSeconds":4}`: "4s", `{"error":{"retry_after":5}}`: "5s", `{"details":{"retryAfterSeconds":6}}`: "6s",
		`{"error":{"details":{"retry_after":9}}}`: "9s", `{"error":{"metadata":{"retry_after_seconds":7}}}`: "7s", `{"retry_after":0}`: "0s",
		`{"retry_after":0.0004}`: "1ms", `{"retry_after":-1}`: "", `{"retry_after":1e3}`: "", `{"retry_after":null}`: "", `{"retry_after":true}`: "",
		`{"retry_after":[5]}`: "", `{"retry_after":"soon"}`: "", `{"retry_after":"30s"}`: "30s", `{"metadata":{"retry_after":5}}`: "",
		`{"retry_after_ms":"x","retry_after":8}`: "8s", `{"retry_after":99999999999999999999}`: "2562047h47m16.854s",
		`{"error":{"details":[{"@type":"google.rpc.RetryInfo","retryDelay":"0.1s"}]}}`:                          "100ms",
		`{"code":8,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"12s"}]}`:        "12s",
		`{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"-5s"}]}}`:       "",
		`{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo"}]}}`:                          "",
		`{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.Help","retryDelay":"5s"}]}}`:             "",
		`{"error":{"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5m"}]}}`:      "1m30s",
		`{"error":{"details":[{"@type":"x.evil/notgoogle.rpc.RetryInfo","retryDelay":"5s"}]}}`:                  "",
		`{"error":{"message":"retry after 3s","details":[{"@type":"google.rpc.RetryInfo","retryDelay":"0s"}]}}`: "0s",
	} {
		got := ""
		if s := Parse(Answer{Status: 429, Body: []byte(body), Now: noon}); s.HasRetryAfter {
			got = s.RetryAfter.String()
		}
		if got != want {
			t.Errorf("delay of %s = %q, want %q", body, got, want)
		}
	}
}

func TestSentenceDelay(t *testing.T) {
	for text, want := range map[string]string{
		"Please try again in 20s.": "20s", "Please try again in 300ms. Visit": "300ms", "try again in 17m19.6s.": "17m19.6s", "retry in 56.185908122s.": "56.186s",
		"Please retry after 37 seconds.": "37s", "please try again after 1 seconds": "1s", "try again after 0 seconds": "0s", "Retry after: 21 seconds": "21s",
		"try again in 2 minutes": "2m0s", "try again in 1 hour": "1h0m0s", "try again in 1 minute 30 seconds": "1m30s", "try again in 2 minutes and 5 seconds": "2m5s",
		"TRY AGAIN IN 5 SECONDS": "5s", "Try\n again\tin  5 s": "5s", "try again in 5 sec": "5s", "try again in 900.2ms": "901ms", "retry in 3 days": "72h0m0s", "try again in 5 milliseconds": "5ms",
		"Please try after 2026-08-20T10:01:00.500Z": "1m0.5s", "try again at 2026-08-20T12:02:00+02:00.": "2m0s", "retry after 2026-08-20T09:00:00Z": "0s",
		"retry in a while, then try again in 4s": "4s", "try again in 20s，谢谢": "20s", "(try again in 20s)": "20s", "请在 try again in 6 s": "6s",
		"try again in 1.2": "", "try again in 5": "", "try again soon": "", "try again in -5s": "", "try again in five seconds": "", "country in 5s": "", "entry after 5 seconds": "",
		"retrying in 5s": "", "try again in 1e3s": "", "try in 5s": "5s", "try again at 5s": "", "reset after 5s": "", "try again in 5x": "", "try again in 5 parsecs": "", "retry": "", "try again in": "",
		"try again at 2026-08-20 22:15:00": "", "try again in 99999999999999999999 days": "2562047h47m16.854s", "try again in 5 secondsly": "",
	} {
		got := ""
		if s := Parse(Answer{Status: 503, Body: []byte(text), Now: noon}); s.HasRetryAfter {
			got = s.RetryAfter.String()
		}
		if got != want {
			t.Errorf("delay of %q = %q, want %q", text, got, want)
		}
	}
}

func TestDateIsTheReferenceClock(t *testing.T) {
	for _, date := range []string{"Thu, 20 Aug 2026 10:00:00 GMT", "Thursday, 20-Aug-26 10:00:00 GMT", "Thu Aug 20 10:00:00 2026"} {
		h := headers("Date", date, "Retry-After", "Thu, 20 Aug 2026 10:00:45 GMT")
		for _, skew := range []time.Duration{0, -time.Hour, time.Hour, 1000 * time.Hour} {
			if s := Parse(Answer{Status: 429, Header: h, Now: noon.Add(skew)}); s.RetryAfter != 45*time.Second || !s.HasRetryAfter {
				t.Errorf("Date %q, local clock off by %v: %v, want 45s", date, skew, s.RetryAfter)
			}
		}
	}
	h := headers("Date", "Thu, 31 Feb 2026 10:00:00 GMT", "Retry-After", "Thu, 20 Aug 2026 10:00:45 GMT")
	if s := Parse(Answer{Status: 429, Header: h, Now: noon.Add(-750 * time.Millisecond)}); s.RetryAfter != 45750*time.Millisecond {
		t.Errorf("a bad Date: %v, want 45.75s by the local clock", s.RetryAfter)
	}
}
