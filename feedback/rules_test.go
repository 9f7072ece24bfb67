package feedback

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func compile(t testing.TB, list ...Rule) *Rules {
	t.Helper()
	rs, err := CompileRules(list)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestRulesMatch(t *testing.T) {
	answer := Answer{
		Status: 503, Provider: "acme", Now: noon, Header: headers("X-Reason", "Over Capacity (tier 2)"),
		Body: []byte(`{"error":{"code":"E42","type":"api_error","message":"The  House is full"}}`),
	}
	for _, c := range []struct {
		rule Rule
		want string
	}{
		{Rule{Status: 503}, "throttled/unknown retry"}, {Rule{Status: 502}, "server_error/none retry"},
		{Rule{Header: "x-reason"}, "throttled/unknown retry"}, {Rule{Header: "X-Reason", HeaderValue: "over capacity"}, "throttled/unknown retry"}, {Rule{Header: "x-reason", HeaderValue: "tier 3"}, "server_error/none retry"}, {Rule{Header: "x-reasons"}, "server_error/none retry"},
		{Rule{Code: "e42"}, "throttled/unknown retry"}, {Rule{Code: "API_ERROR"}, "throttled/unknown retry"}, {Rule{Code: "E4"}, "server_error/none retry"}, {Rule{Code: "E42", Status: 500}, "server_error/none retry"},
		{Rule{Text: "house IS full"}, "throttled/unknown retry"}, {Rule{Text: "house\tis"}, "throttled/unknown retry"}, {Rule{Text: "E42"}, "server_error/none retry"}, {Rule{Text: "re:HOUSE .* full$"}, "throttled/unknown retry"}, {Rule{Text: "re:^house"}, "server_error/none retry"},
		{Rule{Provider: "ACME", Status: 503}, "throttled/unknown retry"}, {Rule{Provider: "acme-2", Status: 503}, "server_error/none retry"},
		{Rule{Provider: "acme", Status: 503, Header: "x-reason", HeaderValue: "tier", Code: "e42", Text: "full"}, "throttled/unknown retry"},
	} {
		c.rule.Name, c.rule.Class = "r", "throttled"
		a := answer
		a.Rules = compile(t, c.rule)
		s := Parse(a)
		if got := short(s); got != c.want {
			t.Errorf("%+v: %s, want %s", c.rule, got, c.want)
		}
		if ruled := strings.HasPrefix(s.Source, "rule:r"); ruled != (c.want == "throttled/unknown retry") {
			t.Errorf("%+v: source %q", c.rule, s.Source)
		}
	}
}

func TestRulesDecide(t *testing.T) {
	tokens := []byte(`{"error":{"code":"insufficient_quota","message":"tokens per day, limit: 0, credit balance is too low. Request too large"}}`)
	for _, c := range []struct {
		rule   Rule
		header map[string][]string
		want   string
	}{
		// The class stands, whatever the wording says; the scope is the answer's.
		{Rule{Class: "throttled"}, nil, "throttled/daily retry"}, {Rule{Class: "throttled", Scope: "requests"}, nil, "throttled/requests retry"},
		{Rule{Class: "throttled", Scope: "unknown"}, nil, "throttled/unknown retry"}, {Rule{Class: "quota_exhausted"}, nil, "quota_exhausted/unknown"}, {Rule{Class: "quota_exhausted", Scope: "daily"}, nil, "quota_exhausted/daily"},
		{Rule{Class: "overloaded"}, nil, "overloaded/none retry"}, {Rule{Class: "timeout"}, nil, "timeout/none retry"}, {Rule{Class: "server_error"}, nil, "server_error/none retry"}, {Rule{Class: "client_error"}, nil, "client_error/none"},
		{Rule{Class: "ok"}, headers("Retry-After", "5"), "ok/none"},
		// The delay is for answers that name none.
		{Rule{Class: "overloaded", Delay: 90 * time.Second}, nil, "overloaded/none retry 1m30s"}, {Rule{Class: "overloaded", Delay: 90 * time.Second}, headers("Retry-After", "5"), "overloaded/none retry 5s"},
		{Rule{Class: "overloaded", Delay: 1}, nil, "overloaded/none retry 1ms"},
		// Retryable goes before the server's own word.
		{Rule{Class: "overloaded", Retryable: "false"}, headers("X-Should-Retry", "true"), "overloaded/none"}, {Rule{Class: "client_error", Retryable: "true"}, headers("X-Should-Retry", "false"), "client_error/none retry"},
		{Rule{Class: "overloaded"}, headers("X-Should-Retry", "false"), "overloaded/none"},
	} {
		c.rule.Name, c.rule.Status = "r", 400
		s := Parse(Answer{Status: 400, Header: c.header, Body: tokens, Now: noon, Rules: compile(t, c.rule)})
		if got := short(s); got != c.want {
			t.Errorf("%+v: %s, want %s", c.rule, got, c.want)
		}
	}
	// A code that only repeats the status is none.
	for status, want := range map[int]Class{429: Throttled, 400: Overloaded} {
		rs := compile(t, Rule{Name: "r", Code: "429", Class: "overloaded"})
		if s := Parse(Answer{Status: status, Body: []byte(`{"error":{"code":"429"}}`), Rules: rs}); s.Class != want {
			t.Errorf("a rule for the code 429, at %d: %s, want %v", status, short(s), want)
		}
	}
	// The first rule decides.
	rs := compile(t, Rule{Name: "no", Status: 401, Class: "timeout"}, Rule{Name: "first", Status: 400, Class: "overloaded"}, Rule{Name: "second", Status: 400, Class: "timeout"})
	if s := Parse(Answer{Status: 400, Rules: rs}); s.Source != "rule:first" {
		t.Errorf("%q decides, want the first rule", s.Source)
	}
}

func TestRulesAndSuccesses(t *testing.T) {
	any := compile(t, Rule{Name: "any", Text: "slow down", Class: "throttled"})
	ok := compile(t, Rule{Name: "ok", Status: 200, Text: "slow down", Class: "throttled", Scope: "requests"}, Rule{Name: "h", Status: 204, Header: "x-pressure", Class: "overloaded"})
	body := []byte(`{"message":"Slow down"}`)
	if s := Parse(Answer{Status: 200, Body: body, Rules: any}); s.Class != OK {
		t.Errorf("a rule without a status makes a success %s", short(s))
	}
	if s := Parse(Answer{Status: 200, Body: []byte(`{"error":{"message":"slow down"}}`), Rules: any}); short(s) != "throttled/unknown retry" {
		t.Errorf("an error in a success: %s", short(s))
	}
	if s := Parse(Answer{Status: 200, Body: body, Header: headers("x-ratelimit-limit", "5"), Rules: ok}); short(s) != "throttled/requests retry" || len(s.Windows) != 1 {
		t.Errorf("a rule for 200: %s", short(s))
	}
	for _, a := range []Answer{{Status: 201, Body: body}, {Status: 200, Body: []byte(`{"message":"fine"}`)}, {Status: 204}, {Status: 304, Body: body}, {Status: 200, Body: []byte("event: x\n\n"), Header: headers("Content-Type", "text/event-stream")}} {
		a.Rules = ok
		if s := Parse(a); !reflect.DeepEqual(s, Signal{}) {
			t.Errorf("%d %s: %+v, want ok", a.Status, a.Body, s)
		}
	}
	if s := Parse(Answer{Status: 204, Header: headers("X-Pressure", "high"), Rules: ok}); short(s) != "overloaded/none retry" {
		t.Errorf("a rule for 204: %s", short(s))
	}
	// In a stream, too.
	st := NewStream(StreamConfig{Header: headers("Content-Type", "text/event-stream"), Rules: any}, noon)
	st.Scan([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"slow down\"}}]}\n\n"), noon)
	if st.Report().Refused {
		t.Error("content is taken for an error")
	}
	st.Scan([]byte("event: error\ndata: {\"message\":\"slow down\"}\n\n"), noon)
	if r := st.Report(); !r.Refused || r.Signal.Source != "rule:any" {
		t.Errorf("an event: %+v", r.Signal)
	}
}

// TestRulesCostNothingOnSuccess: refusal rules leave the hot path alone.
func TestRulesCostNothingOnSuccess(t *testing.T) {
	a := okAnswer()
	a.Rules = compile(t, Rule{Name: "any", Text: "slow down", Class: "throttled"})
	if n := testing.AllocsPerRun(100, func() { Parse(a) }); n != 0 {
		t.Errorf("a success with rules allocates %v times, want 0", n)
	}
}

func TestCompileRulesErrors(t *testing.T) {
	good := Rule{Name: "r", Status: 400, Class: "throttled"}
	with := func(change func(*Rule)) Rule { r := good; change(&r); return r }
	for _, c := range []struct {
		rule Rule
		want string
	}{
		{with(func(r *Rule) { r.Name = "" }), `feedback: rule 1 (""): name = "", want 1 to 64 lower-case letters, digits, dots, hyphens and underscores`},
		{with(func(r *Rule) { r.Name = "My rule" }), `name = "My rule"`}, {with(func(r *Rule) { r.Name = strings.Repeat("x", 65) }), `name = "xxx`},
		{with(func(r *Rule) { r.Status = 42 }), `feedback: rule 1 ("r"): status = "42", want 0 for any refusal, or 200 to 599`}, {with(func(r *Rule) { r.Status = 600 }), `status = "600"`}, {with(func(r *Rule) { r.Status = -1 }), `status = "-1"`}, {with(func(r *Rule) { r.Status = 100 }), `status = "100"`},
		{with(func(r *Rule) { r.Status = 0 }), `at least one of status, header, code and text`}, {with(func(r *Rule) { r.Status = 0; r.Provider = "p" }), `at least one of status, header, code and text`}, {with(func(r *Rule) { r.Status = 200 }), `want a header, code or text as well, because it is a success`},
		{with(func(r *Rule) { r.Header = "a b" }), `header = "a b", want the name of a header field`}, {with(func(r *Rule) { r.HeaderValue = "v" }), `header_value = "v", want nothing, or a header as well`},
		{with(func(r *Rule) { r.Text = "re:(" }), "text = \"re:(\", want a regular expression after re: (error parsing regexp: missing closing ): `(?i:()`)"}, {with(func(r *Rule) { r.Text = "re:.*" }), `does not match everything`}, {with(func(r *Rule) { r.Text = "re:" }), `does not match everything`}, {with(func(r *Rule) { r.Text = " \n" }), `want a text that is not blank`},
		{with(func(r *Rule) { r.Class = "" }), `class = "", want one of ok, throttled, quota_exhausted, overloaded, timeout, client_error, server_error`}, {with(func(r *Rule) { r.Class = "thottled" }), `class = "thottled"`}, {with(func(r *Rule) { r.Class = "canceled" }), `class = "canceled"`}, {with(func(r *Rule) { r.Class = "Throttled" }), `class = "Throttled"`},
		{with(func(r *Rule) { r.Scope = "token" }), `scope = "token", want one of none, unknown, requests, tokens, input_tokens, output_tokens, concurrency, daily`}, {with(func(r *Rule) { r.Scope = "none" }), `want a limit or nothing`}, {with(func(r *Rule) { r.Scope = "daily" }), `or class quota_exhausted`},
		{with(func(r *Rule) { r.Class = "overloaded"; r.Scope = "tokens" }), `want none or nothing, because class overloaded is about no limit`},
		{with(func(r *Rule) { r.Delay = -time.Second }), `delay = "-1s", want a duration of 0 or more`}, {with(func(r *Rule) { r.Class = "ok"; r.Delay = 1 }), `want 0, because class ok has no delay`},
		{with(func(r *Rule) { r.Retryable = "yes" }), `retryable = "yes", want "true", "false" or nothing`}, {with(func(r *Rule) { r.Class = "ok"; r.Retryable = "true" }), `class ok is not retried`},
	} {
		rs, err := CompileRules([]Rule{c.rule})
		if rs != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("CompileRules(%+v) = %v, want an error with %q", c.rule, err, c.want)
		}
		var re *RuleError
		if !errors.As(err, &re) || re.Index != 0 || re.Field == "" {
			t.Errorf("CompileRules(%+v) = %#v, want a *RuleError", c.rule, err)
		}
	}
	// All errors come together.
	_, err := CompileRules([]Rule{good, good, {Name: "x", Class: "y", Scope: "z", Delay: -1}})
	if err == nil || strings.Count(err.Error(), "feedback: rule") != 5 || !strings.Contains(err.Error(), `rule 2 ("r"): name = "r", want a name of its own; rule 1 has it`) {
		t.Errorf("CompileRules = %v, want five errors", err)
	}
	if rs, err := CompileRules(nil); rs == nil || err != nil {
		t.Errorf("CompileRules(nil) = %v, %v", rs, err)
	}
	for _, r := range []Rule{
		{Name: "a.b-c_1", Status: 599, Class: "overloaded", Scope: "none", Delay: time.Hour}, {Name: "s", Status: 200, Text: "re:x+", Class: "ok"}, {Name: "c", Code: "x", Class: "quota_exhausted", Scope: "daily", Retryable: "true"},
	} {
		if _, err := CompileRules([]Rule{r}); err != nil {
			t.Errorf("CompileRules(%+v) = %v", r, err)
		}
	}
}

func FuzzRules(f *testing.F) {
	f.Add("r", "p", 429, "x-a", "v", "c", "text", "throttled", "tokens", int64(5), "true", "x-a: v\n", []byte(`{"error":{"code":"c","message":"text"}}`))
	f.Add("r", "", 200, "", "", "", "re:a+", "ok", "", int64(0), "", "", []byte("aaa"))
	f.Fuzz(func(t *testing.T, name, provider string, status int, header, headerValue, code, text, class, scope string, delay int64, retryable, sent string, body []byte) {
		r := Rule{name, provider, status, header, headerValue, code, text, class, scope, time.Duration(delay), retryable}
		rs, err := CompileRules([]Rule{r})
		if (rs == nil) == (err == nil) {
			t.Fatalf("CompileRules(%+v) = %v, %v", r, rs, err)
		}
		if err != nil {
			return
		}
		for _, answered := range []int{status, 200, 429} {
			s := Parse(Answer{Status: answered, Header: headerOf(sent), Body: body, Provider: provider, Now: noon, Rules: rs})
			checkSignal(t, s)
			if strings.HasPrefix(s.Source, "rule:") && s.Class.String() != class {
				t.Fatalf("rule %+v gives %+v", r, s)
			}
		}
	})
}
