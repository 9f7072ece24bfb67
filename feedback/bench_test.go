package feedback

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// okAnswer is the answer that limiters see most: a 200 with the six limit fields of the
// OpenAI family and the usual rest of a header.
func okAnswer() Answer {
	h := http.Header{}
	for k, v := range map[string]string{
		"Content-Type": "application/json", "Date": "Thu, 20 Aug 2026 10:00:00 GMT", "Server": "cloudflare",
		"X-Request-Id": "req_1", "Cf-Ray": "8a-FRA", "Openai-Processing-Ms": "311", "Content-Encoding": "gzip",
		"Strict-Transport-Security":      "max-age=31536000",
		"X-Ratelimit-Limit-Requests":     "10000",
		"X-Ratelimit-Limit-Tokens":       "200000",
		"X-Ratelimit-Remaining-Requests": "9999",
		"X-Ratelimit-Remaining-Tokens":   "199983",
		"X-Ratelimit-Reset-Requests":     "8.64s",
		"X-Ratelimit-Reset-Tokens":       "5ms",
	} {
		h.Set(k, v)
	}
	return Answer{
		Status: 200, Header: h, Now: time.Date(2026, 8, 20, 10, 0, 0, 0, time.UTC),
		Body: []byte(`{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":[{"index":0,"message":` +
			`{"role":"assistant","content":"` + strings.Repeat("All is well. ", 20) + `"},"finish_reason":"stop"}],` +
			`"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}`),
		Windows: make([]Window, 0, 8),
	}
}

func BenchmarkParseOK(b *testing.B) {
	for _, c := range []struct {
		name string
		cut  int
	}{{"header", 0}, {"body=500B", 1 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			a := okAnswer()
			a.Body = a.Body[:min(c.cut, len(a.Body))]
			b.ReportAllocs()
			for b.Loop() {
				if s := Parse(a); s.Class != OK || len(s.Windows) != 2 {
					b.Fatal(s)
				}
			}
		})
	}
}

func BenchmarkParseRefused(b *testing.B) {
	for _, f := range fixtures(b) {
		switch f.Name {
		case "openai-429-tokens-per-minute", "gemini-429-requests-per-day", "body-empty-429":
			b.Run(f.Name, func(b *testing.B) {
				a := f.answer(b)
				b.ReportAllocs()
				for b.Loop() {
					if s := Parse(a); s.Class == OK {
						b.Fatal(s)
					}
				}
			})
		}
	}
}

func TestParseOKDoesNotAllocate(t *testing.T) {
	a := okAnswer()
	if n := testing.AllocsPerRun(100, func() { Parse(a) }); n != 0 {
		t.Errorf("Parse of a 200 with six limit fields allocates %v times, want 0", n)
	}
	a.Header["Content-Type"] = []string{"text/event-stream"}
	a.Body = []byte("data: {\"choices\":[]}\n\ndata: {\"choices\":[]}\n\n")
	if n := testing.AllocsPerRun(100, func() { Parse(a) }); n != 0 {
		t.Errorf("Parse of a 200 stream allocates %v times, want 0", n)
	}
}
