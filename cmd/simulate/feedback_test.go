package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

const (
	fixtureFile = "../../feedback/testdata/responses.jsonl"
	noon        = "2026-08-20T10:00:00Z"
)

// The fixtures of package feedback, read by the command.
func TestFeedbackFixtures(t *testing.T) {
	for _, args := range [][]string{{"feedback", "--check", fixtureFile}, {"feedback", fixtureFile, "--check"}} {
		stdout, stderr, code := in(t, ".", "", args...)
		if code != exitOK || stdout != "" || stderr != "simulate: "+fixtureFile+": 272 answers, all as expected\n" {
			t.Errorf("simulate %v: exit code %d, stdout %s, stderr %s", args, code, stdout, stderr)
		}
	}
	stdout, stderr, code := in(t, ".", "", "feedback", fixtureFile)
	if n := strings.Count(stdout, "\n"); code != exitOK || n != 272 || stderr != "" {
		t.Errorf("exit code %d, %d lines, want 272; stderr %s", code, n, stderr)
	}
	first, _, _ := strings.Cut(stdout, "\n")
	const want = `{"name":"openai-ok-all-headers","class":"ok","retryable":false,"retry_after_ms":null,"scope":"none",` +
		`"windows":[{"kind":"requests","limit":10000,"remaining":9999,"reset_ms":8640},{"kind":"tokens","limit":200000,"remaining":199983,"reset_ms":5}],` +
		`"source":"","stated":[]}`
	if first != want {
		t.Errorf("the first line is\n%s, want\n%s", first, want)
	}
}

// Each transcript in testdata/feedback/transcripts is a command, what it writes to stdout and stderr, and its exit code.
func TestFeedbackTranscripts(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
	}{
		{"openai-429", []string{"openai-429.txt"}},
		{"anthropic-stream", []string{"--now", noon, "anthropic-stream.txt"}},
		{"html-503", []string{"--now", noon, "html-503.txt"}},
		{"http2-concurrency", []string{"http2-concurrency.txt"}},
		{"continue", []string{"--now", noon, "continue.txt"}},
		{"stdin", []string{"--now", noon, "--provider", "dashscope", "-"}},
		{"rule", []string{"--config", "rules.toml", "-"}},
		{"differs", []string{"--check", "differs.jsonl"}},

		{"bad-line", []string{"bad.jsonl"}},
		{"bad-line-check", []string{"--check", "bad.jsonl"}},
		{"bad-check", []string{"--check", "openai-429.txt"}},
		{"bad-file", []string{"missing.txt"}},
		{"bad-directory", []string{"."}},
		{"bad-type", []string{"rules.toml"}},
		{"bad-none", nil},
		{"bad-two", []string{"openai-429.txt", "html-503.txt"}},
		{"bad-flag", []string{"openai-429.txt", "--chek"}},
		{"bad-flags", []string{"--now", "noon", "--config", "missing.toml", "openai-429.txt"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			const stdin = `{"status":429,"body":"{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"the house is full\"}}"}`
			args := append([]string{"feedback"}, c.args...)
			stdout, stderr, code := in(t, filepath.Join(here, "testdata", "feedback"), stdin, args...)
			got := fmt.Sprintf("$ simulate %s\n%s-- stderr --\n%s-- exit code %d --\n", strings.Join(args, " "), stdout, stderr, code)
			golden := filepath.Join("transcripts", c.name+".txt")
			if *update {
				if err := os.MkdirAll("transcripts", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if strings.HasPrefix(c.name, "bad-") && code != exitMisuse {
				t.Errorf("exit code %d, want %d for misuse", code, exitMisuse)
			}
		})
	}
}

// The example of docs/simulator.md is what the command prints.
func TestFeedbackDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/simulator.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"openai-429", "differs"} {
		golden, err := os.ReadFile("testdata/feedback/transcripts/" + name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		part, _, _ := strings.Cut(string(golden), "-- stderr --")
		part = "    " + strings.ReplaceAll(strings.TrimSpace(part), "\n", "\n    ")
		if !strings.Contains(string(doc), part) {
			t.Errorf("docs/simulator.md lacks\n%s", part)
		}
	}
}

// meaningOf runs the command on one answer and returns what it prints, in short, and stderr.
func meaningOf(t *testing.T, input string, args ...string) (got, stderr string) {
	t.Helper()
	stdout, stderr, code := in(t, ".", input, append([]string{"feedback", "--now", noon, "-"}, args...)...)
	if code != exitOK {
		t.Fatalf("exit code %d, stderr %s", code, stderr)
	}
	var m meaning
	if err := json.Unmarshal([]byte(stdout), &m); err != nil {
		t.Fatalf("stdout %s: %v", stdout, err)
	}
	return m.Class + " " + m.Scope + " " + m.Source, stderr
}

func compress(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, s); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What curl -i prints, and what it makes of a body.
func TestFeedbackRaw(t *testing.T) {
	const quota = `{"error":{"code":"insufficient_quota"}}`
	zipped := compress(t, quota)
	const (
		streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
		streamEnd  = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"
	)
	events := strings.Repeat("data: {\"choices\":[{\"delta\":{\"content\":\"a word\"}}]}\n\n", 5000)
	for _, c := range []struct {
		name, input, want, stderr string
	}{
		{"only a header", "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\n", "throttled unknown status:429 header:retry-after", ""},
		{"only a status line", "HTTP/1.0 503", "overloaded none status:503", ""},
		{"HTTP/3, no reason", "http/3 429\nRETRY-AFTER: 3\n\n", "throttled unknown status:429 header:retry-after", ""},
		{"mark and empty lines", "\xef\xbb\xbf\r\n \nHTTP/2 429 \n\n", "throttled unknown status:429", ""},
		{"folded lines", "HTTP/1.1 429 No\r\nRetry-After:\r\n\t3\r\nX-Other: a\r\n \r\n b\r\n\r\n" + quota, "quota_exhausted unknown code:insufficient_quota header:retry-after", ""},
		{"space before the colon", "HTTP/1.1 429 No\r\nRetry-After : 3\r\n\r\n", "throttled unknown status:429 header:retry-after", ""},
		{"a repeated field", "HTTP/1.1 429 No\r\nRetry-After: soon\r\nretry-after: 3\r\n\r\n", "throttled unknown status:429 header:retry-after", ""},
		{"binary body", "HTTP/1.1 502 Bad\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n\x00\xff\nHTTP/1.1 429 No\r\n\r\n", "server_error none status:502", ""},

		{"redirects", "HTTP/1.1 302 Found\r\nContent-Length: 25\r\n\r\nHTTP/2 302 \r\n\r\nHTTP/2 429 \r\n\r\n" + quota, "quota_exhausted unknown code:insufficient_quota", ""},
		{"early hints", "HTTP/2 103 \r\nLink: </a>\r\n\r\nHTTP/2 429 \r\n\r\n", "throttled unknown status:429", ""},
		{"retries", "HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nbusy\nHTTP/1.1 429 No\r\nContent-Length: 39\r\n\r\n" + quota, "quota_exhausted unknown code:insufficient_quota", ""},
		{"a status line in a body", "HTTP/1.1 400 Bad\r\n\r\nupstream said:\nHTTP/1.1 429 No\n\n", "client_error none status:400", ""},
		{"a length that is not the body's", "HTTP/1.1 429 No\r\nContent-Length: 7\r\n\r\n" + quota, "quota_exhausted unknown code:insufficient_quota", ""},
		{"switching protocols", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello", "ok none ", ""},

		{"gzip", "HTTP/1.1 429 No\r\nContent-Encoding: GZIP\r\n\r\n" + zipped, "quota_exhausted unknown code:insufficient_quota", ""},
		{"gzip in a success", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + zipped, "quota_exhausted unknown code:insufficient_quota", ""},
		{"gzip and a retry", "HTTP/1.1 503 Busy\r\nContent-Encoding: gzip\r\nContent-Length: " + fmt.Sprint(len(zipped)) + "\r\n\r\n" + zipped + "HTTP/1.1 429 No\r\n\r\n", "throttled unknown status:429", ""},
		{"gzip that curl took off", "HTTP/1.1 429 No\r\nContent-Encoding: gzip\r\n\r\n" + quota, "quota_exhausted unknown code:insufficient_quota", ""},
		{"gzip cut short", "HTTP/1.1 429 No\r\nContent-Encoding: gzip\r\n\r\n" + zipped[:30], "throttled unknown status:429", "the gzip body breaks off and is read until there: unexpected EOF"},
		{"gzip that is none", "HTTP/1.1 429 No\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\xff", "throttled unknown status:429", "the body is no gzip"},
		{"brotli", "HTTP/1.1 429 No\r\nContent-Encoding: br\r\n\r\n\x8b\x00\x80", "throttled unknown status:429", "encoded with br and is not read: save it with curl -i --compressed"},

		{"trailers", "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\r\n\x00\x00\x00\x00\x01\xffgrpc-status: 8\r\ngrpc-message: slow down\r\n\r\n", "throttled unknown code:8", ""},
		{"announced trailers", "HTTP/1.1 429 No\r\nTrailer: X-Sum, Retry-After\r\n\r\n" + quota + "X-Sum: 1\r\nRetry-After: 3\r\n", "quota_exhausted unknown code:insufficient_quota header:retry-after", ""},
		{"no trailers", "HTTP/1.1 429 No\r\n\r\n" + quota + "\nRetry-After: 3\r\n", "throttled unknown status:429", ""},

		{"a long stream", streamHead + "\r\n" + events, "ok none ", ""},
		{"an error late in a long stream", streamHead + "\r\n" + events + streamEnd, "overloaded none code:overloaded_error", ""},
		{"an error late in a long stream, gzip", streamHead + "Content-Encoding: gzip\r\n\r\n" + compress(t, events+streamEnd), "overloaded none code:overloaded_error", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, stderr := meaningOf(t, c.input)
			if got != c.want {
				t.Errorf("simulate feedback of %.200q\n got %s\nwant %s", c.input, got, c.want)
			}
			if c.stderr == "" && stderr != "" || !strings.Contains(stderr, c.stderr) {
				t.Errorf("stderr is %q, want %q", stderr, c.stderr)
			}
		})
	}
}

// What a line may leave out, and what goes before the command line.
func TestFeedbackLine(t *testing.T) {
	const quota = `"body":"{\"error\":{\"code\":\"insufficient_quota\"}}"`
	zipped := base64.StdEncoding.EncodeToString([]byte(compress(t, `{"error":{"code":"slow_down"}}`)))
	for _, c := range []struct{ name, input, want string }{
		{"a status alone", `{"status":429}`, "throttled unknown status:429"},
		{"nulls", `{"name":null,"provider":null,"status":429,"headers":null,"body":null,"body_base64":null,"now":null,"note":null,"expect":null}`, "throttled unknown status:429"},
		{"without provider", `{"status":429,` + quota + `}`, "throttled tokens code:insufficient_quota"},
		{"an empty provider", `{"provider":"","status":429,` + quota + `}`, "throttled tokens code:insufficient_quota"},
		{"its own provider", `{"provider":"openai","status":429,` + quota + `}`, "quota_exhausted unknown code:insufficient_quota"},
		{"a name twice in headers", `{"status":429,"headers":{"retry-after":"soon","retry-after":"3","Retry-After":[]}}`, "throttled unknown status:429 header:retry-after"},
		{"bytes go before text", `{"status":429,"body":"{}","body_base64":"` + base64.StdEncoding.EncodeToString([]byte(`{"error":{"code":"slow_down"}}`)) + `"}`, "throttled requests code:slow_down"},
		{"gzip", `{"status":429,"headers":{"Content-Encoding":"gzip"},"body_base64":"` + zipped + `"}`, "throttled requests code:slow_down"},
		{"white space", "\xef\xbb\xbf \r\n\n\t{\"status\":429}\r\n\n", "throttled unknown status:429"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, _ := meaningOf(t, c.input, "--provider", "dashscope"); got != c.want {
				t.Errorf("simulate feedback of %s\n got %s\nwant %s", c.input, got, c.want)
			}
		})
	}
	// An absolute reset is counted from the line's own time, or from --now.
	stdout, _, _ := in(t, ".", `{"name":"","status":200,"headers":{"x-ratelimit-remaining":"1","x-ratelimit-reset":"2026-08-20T10:00:07Z"}}
{"status":200,"now":"2026-08-20T10:00:05Z","headers":{"x-ratelimit-remaining":"1","x-ratelimit-reset":"2026-08-20T10:00:07Z"}}`, "feedback", "-", "--now", noon)
	for _, want := range []string{`{"name":"stdin:1",`, `"reset_ms":7000`, `{"name":"stdin:2",`, `"reset_ms":2000`} {
		if !strings.Contains(stdout, want) {
			t.Errorf("stdout lacks %s:\n%s", want, stdout)
		}
	}
}

// Bad input is misuse, and the message says where and what to do.
func TestFeedbackBadInput(t *testing.T) {
	const good = `{"status":429,"expect":{"class":"throttled"}}` + "\n"
	expect := func(s string) string { return good + `{"status":429,"expect":` + s + `}` }
	for _, c := range []struct{ name, input, want string }{
		{"nothing", "", "stdin:1: there is no answer: save one with curl -i"},
		{"white space", "\n \r\n", "stdin:3: there is no answer"},
		{"UTF-16", "\xff\xfeH\x00T\x00", "stdin:1: is UTF-16, must be UTF-8"},
		{"a page", "<html>", `stdin:1: begins with "<html>", must be an answer as curl -i prints it`},
		{"an array", `[{"status":429}]`, "as jq -c prints them"},

		{"no status code", "HTTP/1.1 OK\r\n\r\n", `stdin:1: the status line is "HTTP/1.1 OK", must be like HTTP/1.1 429`},
		{"no empty line", "HTTP/1.1 429 No\nA: b\n{\"error\":\n1}", `stdin:3: "{\"error\":" is no header field: put an empty line`},
		{"a folded status line", "HTTP/1.1 429 No\n A: b\n", "stdin:2: the line begins with a space"},
		{"only a promise", "HTTP/1.1 302 Found\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", `stdin:3: the answer itself is missing: nothing comes after "100 Continue"`},
		{"only a tunnel", "HTTP/1.1 200 Connection Established\r\n\r\n", "the answer itself is missing"},
		{"an endless header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("a: b\r\n", 400_000), "the header is larger than 1 MiB"},
		{"an endless line", "HTTP/1.1 200 OK\r\na: " + strings.Repeat("b", 2<<20), "stdin:2: the header is larger than 1 MiB"},

		{"no JSON", good + "\n{\"status\":429,}", "stdin:3: is no JSON: invalid character '}'"},
		{"a pretty object", good + "{\n\"status\":429\n}", "stdin:2: is no JSON: unexpected end of JSON input at byte 1; each line must be one whole object, as jq -c prints it"},
		{"two objects", good + "{}{}", "stdin:2: is no JSON"},
		{"no object", good + "[]", "stdin:2: the line is [], must be an object"},
		{"null", good + "null", "stdin:2: the line is null, must be an object"},
		{"deep nesting", good + `{"a":` + strings.Repeat("[", 1<<20), "exceeded max depth"},
		{"no status", good + `{"headers":{}}`, `stdin:2: has no status: write it, as in "status": 429`},
		{"a body alone", `{"error":{"message":"slow down"}}`, "stdin:1: has no status: write it, as in \"status\": 429; when the line is a body alone, save the whole answer with curl -i"},
		{"status in quotes", good + `{"status":"429"}`, `stdin:2: status is "429", must be an integer from 100 to 999`},
		{"status out of range", good + `{"status":4290}`, `stdin:2: status is 4290, must be an integer from 100 to 999`},
		{"unknown key", good + `{"status":429,"header":{}}`, "stdin:2: header is unknown, must be one of name, provider, source, status, headers, body, body_base64, now, note, expect; did you mean headers?"},
		{"wrong case", good + `{"status":429,"Body":""}`, "stdin:2: Body is unknown"},
		{"headers", good + `{"status":429,"headers":[]}`, "stdin:2: headers is [], must be an object"},
		{"header", good + `{"status":429,"headers":{"retry-after":3}}`, "stdin:2: headers.retry-after is 3, must be a string"},
		{"header null", good + `{"status":429,"headers":{"retry-after":["3",null]}}`, `stdin:2: headers.retry-after is ["3",null], must be a string`},
		{"body", good + `{"status":429,"body":{"error":1}}`, `stdin:2: body is {"error":1}, must be a string: quote what it is`},
		{"base64", good + `{"status":429,"body_base64":"?"}`, `stdin:2: body_base64 is "?", must be bytes in base64`},
		{"now", good + `{"status":429,"now":"2026-08-20"}`, `stdin:2: now is "2026-08-20", must be an instant such as`},
		{"name", good + `{"status":429,"name":3}`, "stdin:2: name is 3, must be a string"},
		{"a long line", good + `{"status":429,"body":"` + strings.Repeat("b", maxLine) + `"}`, "stdin:2: the line is longer than 16 MiB: cut its body short"},

		{"no expect", good + `{"status":429}`, "stdin:2: has no expect for --check: write it"},
		{"an empty expect", expect(`{}`), "stdin:2: expect names nothing: give it one of class, "},
		{"expect", expect(`"ok"`), `stdin:2: expect is "ok", must be an object`},
		{"expect's key", expect(`{"retry_after":3}`), "stdin:2: expect.retry_after is unknown, must be one of class, retryable, retry_after_ms, scope, windows, source, stated; did you mean retry_after_ms?"},
		{"class", expect(`{"class":"throtled"}`), `stdin:2: expect.class is "throtled", must be one of ok, throttled, quota_exhausted, overloaded, timeout, client_error, server_error; did you mean throttled?`},
		{"scope", expect(`{"scope":null,"class":3}`), `stdin:2: expect.class is 3, must be one of`},
		{"retryable", expect(`{"retryable":1}`), `stdin:2: expect.retryable is 1, must be true or false`},
		{"delay", expect(`{"retry_after_ms":-1}`), `stdin:2: expect.retry_after_ms is -1, must be an integer from 0`},
		{"source", expect(`{"source":1}`), `stdin:2: expect.source is 1, must be a string`},
		{"windows", expect(`{"windows":{}}`), `stdin:2: expect.windows is {}, must be an array of objects`},
		{"window", expect(`{"windows":[{"kind":"tokens"},3]}`), `stdin:2: expect.windows[1] is 3, must be an object`},
		{"window without kind", expect(`{"windows":[{"limit":3}]}`), `stdin:2: expect.windows[0] has no kind, must have one of none, unknown, requests`},
		{"window's key", expect(`{"windows":[{"kind":"tokens","reset":3}]}`), `stdin:2: expect.windows[0].reset is unknown, must be one of kind, limit, remaining, reset_ms; did you mean reset_ms?`},
		{"window's limit", expect(`{"windows":[{"kind":"tokens","limit":"3"}]}`), `stdin:2: expect.windows[0].limit is "3", must be an integer`},
		{"stated", expect(`{"stated":[{"kind":"token"}]}`), `stdin:2: expect.stated[0].kind is "token", must be one of none, unknown, requests, tokens, input_tokens, output_tokens, concurrency, daily; did you mean tokens?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"feedback", "-"}
			if strings.Contains(c.input, "expect") && !strings.Contains(c.want, "stdin:1") {
				args = append(args, "--check")
			}
			stdout, stderr, code := in(t, ".", c.input, args...)
			if code != exitMisuse || !strings.HasPrefix(stderr, "simulate: stdin") || !strings.Contains(stderr, c.want) {
				t.Errorf("simulate %v: exit code %d, want %d, stderr\n%s, want\n%s", args, code, exitMisuse, stderr, c.want)
			}
			if stdout != "" {
				t.Errorf("stdout is %s", stdout)
			}
			if n := len(stderr); n > 500 {
				t.Errorf("a message of %d bytes", n)
			}
		})
	}
}

// A line may be as long as 16 MiB.
func TestFeedbackLongLine(t *testing.T) {
	line := `{"status":429,"body":"` + strings.Repeat("b", maxLine-len(`{"status":429,"body":""}`)) + `"}`
	stdout, stderr, code := in(t, ".", line+"\r\n"+line, "feedback", "-")
	if code != exitOK || strings.Count(stdout, "\n") != 2 {
		t.Errorf("exit code %d, stdout %.200s, stderr %s", code, stdout, stderr)
	}
}

// Reading that fails in the middle loses nothing of what was whole.
func TestFeedbackReadFails(t *testing.T) {
	for _, c := range []struct {
		input string
		lines int
	}{
		{"{\"status\":429}\n{\"status\":503}\n{\"sta", 2},
		{"{\"status\":429}\n{\"status\":503}", 1}, // who knows what it would have been
		{"HTTP/1.1 429 No\r\n\r\nslow", 0},
		{"HTTP/1.1 429 No\r\nA:", 0},
		{"", 0},
	} {
		for name, in := range map[string]io.Reader{
			"":                io.MultiReader(strings.NewReader(c.input), iotest.ErrReader(errors.New("no line"))),
			" byte by byte":   iotest.OneByteReader(io.MultiReader(strings.NewReader(c.input), iotest.ErrReader(errors.New("no line")))),
			" with last byte": iotest.DataErrReader(io.MultiReader(strings.NewReader(c.input), iotest.ErrReader(errors.New("no line")))),
		} {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), []string{"simulate", "feedback", "-"}, in, &stdout, &stderr)
			if n := strings.Count(stdout.String(), "\n"); code != exitMisuse || n != c.lines || stderr.String() != "simulate: stdin cannot be read: no line; check the path, or write - for stdin\n" {
				t.Errorf("%q%s: exit code %d, %d lines, want %d; stderr %s", c.input, name, code, n, c.lines, stderr.String())
			}
		}
	}
}

// Each line is answered when it comes, and Ctrl-C ends a wait for more.
func TestFeedbackInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	pipe, end := io.Pipe()
	defer end.Close()
	go io.WriteString(end, "{\"status\":429}\n")
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"simulate", "feedback", "-"}, pipe, writerFunc(func(p []byte) (int, error) {
		cancel()
		return stdout.Write(p)
	}), &stderr)
	if code != exitInterrupted || !strings.Contains(stdout.String(), `"throttled"`) || stderr.String() != "simulate: interrupted after 1 answers; what they mean is above\n" {
		t.Errorf("exit code %d, stdout %s, stderr %s", code, stdout.String(), stderr.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A stdout that cannot be written is not passed over.
func TestFeedbackCannotBeWritten(t *testing.T) {
	for _, input := range []string{`{"status":429,"expect":{"class":"ok"}}`, "HTTP/1.1 429 No\n\n"} {
		for _, args := range [][]string{{"-"}, {"--check", "-"}} {
			if strings.HasPrefix(input, "HTTP") && len(args) > 1 {
				continue
			}
			var errs bytes.Buffer
			code := run(t.Context(), append([]string{"simulate", "feedback"}, args...), strings.NewReader(input), broken{}, &errs)
			if code != exitInternal || !strings.Contains(errs.String(), "the result could not be written: no room") {
				t.Errorf("%v: exit code %d, stderr %q", args, code, errs.String())
			}
		}
	}
}

// readBytes reads data as the command does, and returns what it writes and the exit code.
func readBytes(data []byte, check bool, wrap func(io.Reader) io.Reader) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	e := &env{stdout: &out, stderr: &errs}
	r := &reading{env: e, ctx: context.Background(), file: "f", name: "f", check: check}
	r.defaults.Now = time.Date(2026, 8, 20, 10, 0, 0, 0, time.UTC)
	code = e.exit(r.read(wrap(bytes.NewReader(data))))
	return out.String(), errs.String(), code
}

// fuzzReading checks what holds for every file.
func fuzzReading(t *testing.T, data []byte) {
	whole := func(r io.Reader) io.Reader { return r }
	for _, check := range []bool{false, true} {
		stdout, stderr, code := readBytes(data, check, whole)
		if code != exitOK && code != exitMisuse || code == exitMisuse && stderr == "" {
			t.Errorf("exit code %d, stderr %s", code, stderr)
		}
		if again, errs, c := readBytes(data, check, iotest.HalfReader); again != stdout || errs != stderr || c != code {
			t.Errorf("in pieces: exit code %d, stdout\n%s\nstderr\n%s; whole: %d,\n%s\n%s", c, again, errs, code, stdout, stderr)
		}
		if check {
			continue
		}
		for line := range strings.Lines(stdout) {
			d := json.NewDecoder(strings.NewReader(line))
			d.DisallowUnknownFields()
			var m meaning
			if err := d.Decode(&m); err != nil || m.Windows == nil || m.Stated == nil || m.RetryAfter < 0 {
				t.Errorf("printed %s: %v", line, err)
			}
			if c, ok := feedback.ParseClass(m.Class); !ok || c == feedback.Canceled {
				t.Errorf("class %s", m.Class)
			}
		}
	}
}

func FuzzFeedbackRaw(f *testing.F) {
	files, err := filepath.Glob("testdata/feedback/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nbusy\nHTTP/1.1 200 OK\r\nTrailer: Retry-After\r\n\r\n{}Retry-After: 3\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n\r\n\x00\x00\x00\x00\x01\xffgrpc-status: 8\r\n"))
	f.Add([]byte("HTTP/2 429\ncontent-encoding: gzip\n\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xaa\xae\x05\x04\x00\x00\xff\xff\x43\xbf\xa6\xa3\x02\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzReading(t, append([]byte("HTTP/"), bytes.TrimPrefix(data, []byte("HTTP/"))...))
	})
}

func FuzzFeedbackLines(f *testing.F) {
	data, err := os.ReadFile(fixtureFile)
	if err != nil {
		f.Fatal(err)
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		if i%9 == 0 {
			f.Add(line)
		}
	}
	f.Add([]byte(`{"status":429,"expect":{"retry_after_ms":null,"windows":[{"kind":"tokens"}],"stated":[{"kind":"requests","per_ms":1}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzReading(t, append([]byte("{"), bytes.TrimPrefix(data, []byte("{"))...))
	})
}
