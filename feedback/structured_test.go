package feedback

import (
	"strings"
	"testing"
)

func TestStructuredFields(t *testing.T) {
	const ok = "ok retryable=false after=- scope=none windows="
	cases := []answerCase{}
	for _, c := range []struct{ limit, policy, want string }{
		{`"a";r=5;t=1`, ``, "[requests - 5 1000]"},
		{`"a";r=5`, `"a";q=10`, "[requests 10 5 -]"},
		{`"a";r=5;t=1,"b";r=6`, `"b";q=20;w=60 , "a";q=10`, "[requests 10 5 1000, requests 20 6 -]"},
		{`"a";r=5`, `"a";q=10;w=86399`, "[requests 10 5 -]"},
		{`"a";r=5`, `"a";q=10;w=86400`, "[daily 10 5 -]"},
		{`"a";r=5`, `"a";q=10;w=86400;qu="tokens"`, "[daily 10 5 -]"},
		{`"a";r=5`, `"a";q=10;qu="tokens"`, "[tokens 10 5 -]"},
		{`"a";r=5`, `"a";q=10;qu="requests"`, "[requests 10 5 -]"},
		{`"a";r=5`, `"a";q=10;qu="concurrent-requests"`, "[concurrency 10 5 -]"},
		{`"a";r=5`, `"a";q=10;qu="content-bytes"`, "[unknown 10 5 -]"},
		{`"a";r=5`, `"a";q=10;pk=:aGVsbG8=:;x;y=?0;z=tok;d=@12;f=1.5;n=-3;u=%"a"`, "[requests 10 5 -]"},
		{`"a"; r=5;  t=1`, ``, "[requests - 5 1000]"},
		{`"a b, c;d";r=5`, ``, "[requests - 5 -]"},
		{`"q\"x\\";r=5`, `"q\"x\\";q=6`, "[requests 6 5 -]"},
		{`"a";r=999999999999999`, ``, "[requests - 999999999999999 -]"},
		{`"a";r=1;r=2`, ``, "[requests - 2 -]"}, // RFC 9651: the last one counts
		{``, `"a";q=10;w=60`, "[requests 10 - -]"},
		{`"b";r=1`, `"a";q=10;w=60`, "[requests - 1 -, requests 10 - -]"},
		// A malformed field is ignored whole, and only that field.
		{`"a";r=5;t=1, "b"`, `"a";q=10`, "[requests 10 - -]"},
		{`"a";r=5;t=1, b;r=6`, `"a";q=10`, "[requests 10 - -]"},
		{`"a";r=5`, `"a";q=10, "b";q=x`, "[requests - 5 -]"},
		{`"a";r=5`, `"a";q=x`, "[requests - 5 -]"},
		{`"a";r=5`, `"fixed window";"a";q=10;w=300`, "[requests - 5 -]"},
	} {
		h := map[string][]string{}
		if c.limit != "" {
			h["RateLimit"] = []string{c.limit}
		}
		if c.policy != "" {
			h["RateLimit-Policy"] = []string{c.policy}
		}
		cases = append(cases, answerCase{c.limit + " | " + c.policy, 200, h, "", ok + c.want})
	}
	for _, malformed := range []string{
		`default;r=5;t=30`, `"a";r=abc`, `"a"`, `"a";t=5`, `"a";r=-1`, `"a";r=5.0`, `"a";r="5"`, `"a";r=5;t=-1`, `"a";r=5;t=1.5`, `"a";r=5;t`,
		`"a;r=5`, `"a"r=5`, `"a";R=5`, `"a";r=5,`, `,"a";r=5`, `"a";r=5 "b";r=6`, `"a";r=5;`, `"a";r=5;=3`, `"a";r=`, `"ä";r=5`, `"a\x";r=5`,
		`"a";r=5;p=:not base64:`, `"a";r=5;p=:abc`, `"a";r=5;p=?2`, `"a";r=1234567890123456`, `"a";r=5;x=1.2345`, `"a";r=5;x=1234567890123.1`, `"a";r=5;x=-`,
		`("a" "b");r=5`, `a=5`, `limit=100, remaining=50, reset=5`, `5;r=5`, strings.Repeat(`"a";r=5,`, 32) + `"a";r=5`,
	} {
		cases = append(cases, answerCase{malformed, 200, map[string][]string{"RateLimit": {malformed}}, "", ok + "[]"})
	}
	cases = append(cases,
		answerCase{"a line of several is malformed", 200, map[string][]string{"RateLimit": {`"a";r=5`, `"b"`}}, "", ok + "[]"},
		answerCase{"split over lines", 200, map[string][]string{"RateLimit": {`"a";r=5`, ``, `"b";r=6`}}, "", ok + "[requests - 5 -, requests - 6 -]"},
		answerCase{"zero, then retry after t", 429, headers("RateLimit", `"a";r=0;t=30`), "", "throttled retryable=true after=30000 scope=requests windows=[requests - 0 30000]"},
		answerCase{"an exhausted day", 429, headers("RateLimit", `"a";r=0;t=30`, "RateLimit-Policy", `"a";q=9;w=604800`), "", "quota_exhausted retryable=false after=30000 scope=daily windows=[daily 9 0 30000]"},
	)
	runAnswers(t, cases)
}

func FuzzStructured(f *testing.F) {
	for _, s := range []string{`"a";r=5;t=1`, `"a";q=10;w=60,"b";q=1;qu="tokens"`, `default;r=abc`, `"a";r=5;p=:YQ==:;x=?1;y=1.5`, `"fixed window";"api";q=1`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, isPolicy := range []bool{false, true} {
			list := parsePolicies(nil, []string{s}, isPolicy)
			for _, p := range list {
				if isPolicy && p.q < 0 || !isPolicy && p.r < 0 || p.t < Unstated || p.w < Unstated {
					t.Fatalf("parsePolicies(%q) = %+v", s, p)
				}
			}
			// A well-formed field twice is a well-formed field.
			if 0 < len(list) && len(list) <= maxPolicies/2 {
				if twice := parsePolicies(nil, []string{s + "," + s}, isPolicy); len(twice) != 2*len(list) {
					t.Fatalf("%q has %d members, twice it has %d", s, len(list), len(twice))
				}
			}
		}
		for _, w := range structuredWindows(nil, 0, []string{s}, []string{s}) {
			if w.Reset != Unstated && (w.Reset < 0 || w.Reset > maxDelay) {
				t.Fatalf("%q gives %+v", s, w)
			}
		}
	})
}
