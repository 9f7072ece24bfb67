package feedback

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// sift reads a body in pieces with a Sieve, and with the Stream that goes on.
func sift(body string, usage bool, cuts []int) (r Report, streamed bool) {
	sieve := Sieve{Usage: usage}
	config := StreamConfig{Header: headers("Content-Type", jsonType)}
	var stream *Stream
	start := 0
	for _, cut := range append(cuts[:len(cuts):len(cuts)], len(body)) {
		piece := []byte(body[start:cut])
		start = cut
		n := 0
		if stream == nil {
			found := false
			if n, found = sieve.Scan(piece); found {
				stream = sieve.Stream(config, noon)
			}
		}
		if stream != nil {
			stream.Scan(piece[n:], noon)
		}
		for i := range piece {
			piece[i] = 'X' // nothing of it may be kept
		}
	}
	if stream == nil {
		spent, told := sieve.Spent()
		return Report{Complete: sieve.Complete(), Usage: Usage{
			Known: told, Input: spent.Input, Output: spent.Output, CachedInput: spent.CachedInput,
		}}, false
	}
	stream.Finish(noon)
	return stream.Report(), true
}

// agree fails unless the Sieve told of body what a Stream tells.
func agree(t interface {
	Helper()
	Fatalf(string, ...any)
}, body string, cuts []int) {
	t.Helper()
	want := scanAll(jsonType, body, cuts)
	for _, usage := range []bool{true, false} {
		got, streamed := sift(body, usage, cuts)
		if !json.Valid([]byte(body)) {
			continue // what a Stream copies of it is no JSON either, and says nothing; a Sieve may have passed that over
		}
		if got.Refused != want.Refused || fmt.Sprint(got.Signal) != fmt.Sprint(want.Signal) || got.Complete != want.Complete {
			t.Fatalf("%q cut at %v: the Sieve has %+v, the Stream %+v", body, cuts, got, want)
		}
		if !streamed {
			want.Usage = Usage{
				Known: want.Usage.Known, Input: want.Usage.Input, Output: want.Usage.Output, CachedInput: want.Usage.CachedInput,
			}
		}
		if usage && (got.Usage != want.Usage || streamed && got.Events != want.Events) {
			t.Fatalf("%q cut at %v: the Sieve has usage %+v, the Stream %+v", body, cuts, got, want)
		}
	}
}

func TestSieveAgreesWithStream(t *testing.T) {
	all := []string{
		`{"code":"x","choices":[1],"message":"m"}`, `{"choices":[],"code":"Throttling","message":"m"}`,
		`{"output":{},"code":"Throttling","message":"m"}`, `{"code":"Throttling","message":"requests"}`,
		`{"error":null,"usage":{"prompt_tokens":1}}`, `{"error": null , "error":{"code":"slow_down"}}`,
		`[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]`, `[]`, `{}`, `[1,{"error":{"code":429}}]`,
		`{"a":{"error":{"code":"slow_down"}}}`, `{"err\u006fr":{"code":"slow_down"}}`, `{"a":"\\","error":{"code":"slow_down"}}`,
		`{"error" : nil}`, `{"error":n`, "\xef\xbb\xbf{\"error\":{\"code\":\"slow_down\"}}", `x{"error":{}}`, `{"":1,"usage":{"total_tokens":3}}`,
	}
	for _, b := range bodies {
		if b.contentType == jsonType {
			all = append(all, b.body)
		}
	}
	for _, f := range fixtures(t) {
		if a := f.answer(t); a.Status == 200 && !strings.HasPrefix(f.Name, "grpc") {
			all = append(all, string(a.Body))
		}
	}
	for _, body := range all {
		agree(t, body, nil)
		for cut := range body {
			agree(t, body, []int{cut})
		}
	}
}

func FuzzSieve(f *testing.F) {
	for _, b := range bodies {
		f.Add(b.body, uint16(len(b.body)/2), uint16(3))
	}
	f.Add(`{"code":"x","choices":[1],"message":"m"}`, uint16(7), uint16(7))
	f.Fuzz(func(t *testing.T, body string, a, b uint16) {
		agree(t, body, []int{min(int(a), len(body)), min(int(a)+int(b), len(body))})
	})
}

// What most answers cost.
func TestSieveDoesNotAllocate(t *testing.T) {
	p := []byte(`{"id":"chatcmpl-1","object":"chat.completion","created":1787220000,"model":"m","choices":[{"index":0,"message":` +
		`{"role":"assistant","content":"a \"word\" and another"},"finish_reason":"stop"}],"error":null,"usage":{"prompt_tokens":9}}`)
	if n := testing.AllocsPerRun(100, func() {
		var s Sieve
		if n, found := s.Scan(p[:90]); n != 90 || found {
			t.Fatal("found something")
		}
		if _, found := s.Scan(p[90:]); found || !s.Complete() {
			t.Fatal("found something, or not the end")
		}
	}); n != 0 {
		t.Errorf("%v objects allocated, want none", n)
	}
}

// Succeeded says what Parse says of an answer without a body.
func TestSucceededAgreesWithParse(t *testing.T) {
	about, err := CompileRules([]Rule{{Name: "r", Status: 203, Header: "X-Limited", Class: "throttled"}})
	if err != nil {
		t.Fatal(err)
	}
	for status := 100; status < 600; status++ {
		for _, h := range []map[string][]string{
			nil, headers("Grpc-Status", "0"), headers("Grpc-Status", "14"), headers("Grpc-Status", " 8 "), headers("Grpc-Status", "x"),
			headers("Grpc-Status", "99999999999999999999"), headers("Grpc-Status", ""), {"Grpc-Status": nil},
		} {
			for _, rules := range []*Rules{nil, about} {
				want := Parse(Answer{Status: status, Header: h, Now: noon, Rules: rules}).Class == OK
				if rules != nil && status == 203 {
					want = false // a rule has to be asked
				}
				if got := Succeeded(status, h, rules); got != want {
					t.Errorf("Succeeded(%d, %v) = %v, want %v", status, h, got, want)
				}
			}
		}
	}
}

func BenchmarkSieve(b *testing.B) {
	const end = `,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,` +
		`"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}`
	begin := `{"id":"chatcmpl-1","object":"chat.completion","created":1787220000,"model":"m","choices":[{"index":0,"message":` +
		`{"role":"assistant","refusal":null,"annotations":[],"content":"`
	for name, body := range map[string]string{
		"tiny":  `{"id":"cmpl-1","choices":[{"text":"forty-two"}],"created":17400}`,
		"short": begin + `Hello! How can I assist you today?"}` + end,
		"long":  begin + strings.Repeat("some words of an answer, ", 80) + `"}` + end,
	} {
		for _, usage := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/usage=%v", name, usage), func(b *testing.B) {
				p := []byte(body)
				b.ReportAllocs()
				b.SetBytes(int64(len(p)))
				for b.Loop() {
					s := Sieve{Usage: usage}
					if _, found := s.Scan(p); found || !s.Complete() {
						b.Fatal("found something, or not the end")
					}
				}
			})
		}
	}
}
