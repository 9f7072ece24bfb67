package feedback

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// checkSignal checks what holds for every signal.
func checkSignal(t *testing.T, s Signal) {
	t.Helper()
	if int(s.Class) >= NumClasses || int(s.Scope) >= NumScopes || s.Class == Canceled {
		t.Fatalf("class %d, scope %d", s.Class, s.Scope)
	}
	if s.RetryAfter < 0 || s.RetryAfter > maxDelay || s.RetryAfter%time.Millisecond != 0 || !s.HasRetryAfter && s.RetryAfter != 0 {
		t.Fatalf("delay %d, %v", s.RetryAfter, s.HasRetryAfter)
	}
	if s.Class == OK && (s.HasRetryAfter || s.Retryable || s.Scope != ScopeNone || s.Stated != nil) {
		t.Fatalf("ok with %+v", s)
	}
	if (s.Class == Throttled || s.Class == QuotaExhausted) && s.Scope == ScopeNone {
		t.Fatalf("a refusal without a scope: %+v", s)
	}
	if (s.Class == Overloaded || s.Class == Timeout || s.Class == ServerError) && s.Scope != ScopeNone {
		t.Fatalf("%v with the scope %v", s.Class, s.Scope)
	}
	if s.Class == Throttled && s.Scope == ScopeDaily && !strings.HasPrefix(s.Source, "rule:") {
		t.Fatal("throttled by a daily limit")
	}
	if s.Class != OK && s.Source == "" {
		t.Fatalf("%v without a source", s.Class)
	}
	for _, w := range s.Windows {
		if int(w.Kind) >= NumScopes || w.Limit < Unstated || w.Remaining < Unstated || w.Reset < Unstated || w.Reset > maxDelay || w.Limit == Unstated && w.Remaining == Unstated {
			t.Fatalf("window %+v", w)
		}
	}
	if len(s.Stated) > maxStated {
		t.Fatalf("%d stated limits", len(s.Stated))
	}
	for _, l := range s.Stated {
		if l.Limit < Unstated || l.Used < Unstated || l.Requested < Unstated || l.Per < 0 || l.Kind == ScopeNone || l.Kind == ScopeDaily || int(l.Kind) >= NumScopes {
			t.Fatalf("stated %+v", l)
		}
	}
}

// headerOf reads lines of the form "name: value".
func headerOf(text string) map[string][]string {
	h := map[string][]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if name, v, ok := strings.Cut(line, ":"); ok {
			h[name] = append(h[name], v)
		}
	}
	return h
}

// FuzzParse checks the invariants of Parse on any answer.
func FuzzParse(f *testing.F) {
	for _, fx := range fixtures(f) {
		var h strings.Builder
		a := fx.answer(f)
		for name, values := range a.Header {
			for _, v := range values {
				fmt.Fprintf(&h, "%s:%s\n", name, v)
			}
		}
		f.Add(a.Status, h.String(), a.Body, a.Provider)
	}
	rules, err := CompileRules([]Rule{
		{Name: "a", Status: 200, Text: "zzz", Class: "throttled"}, {Name: "b", Code: "c", Class: "quota_exhausted", Scope: "daily", Delay: time.Hour},
		{Name: "d", Header: "X-D", Class: "overloaded"}, {Name: "e", Text: "re:e+z", Class: "ok"},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, header string, body []byte, provider string) {
		h := headerOf(header)
		a := Answer{Status: status, Header: h, Body: body, Now: noon, Provider: provider}
		s := Parse(a)
		checkSignal(t, s)
		for range 3 { // the order of the map changes from one reading to the next
			if again := Parse(a); !reflect.DeepEqual(again, s) {
				t.Fatalf("not deterministic:\n%+v\n%+v", s, again)
			}
		}
		buf := make([]Window, 0, 4)
		a.Windows = buf
		if again := Parse(a); len(s.Windows) > 0 && !reflect.DeepEqual(again, s) {
			t.Fatalf("with a buffer:\n%+v\n%+v", s, again)
		}
		a.Windows = nil

		// The case of names does not matter, unless two names become one.
		upper := map[string][]string{}
		for name, values := range h {
			upper[strings.ToUpper(name)] = values
		}
		if len(upper) == len(h) && isASCII(header) {
			a.Header = upper
			if got := Parse(a); !reflect.DeepEqual(got, s) {
				t.Fatalf("in capitals:\n%+v\n%+v", s, got)
			}
			a.Header = h
		}
		// An unrelated field changes nothing.
		if _, taken := h["X-Unrelated-Ratelimit"]; !taken {
			h["X-Unrelated-Ratelimit"] = []string{"0"}
			if got := Parse(a); !reflect.DeepEqual(got, s) {
				t.Fatalf("with an unrelated field:\n%+v\n%+v", s, got)
			}
			delete(h, "X-Unrelated-Ratelimit")
		}
		// With a Date, the local clock does not matter.
		dated := map[string][]string{"Date": {"Thu, 20 Aug 2026 10:00:00 GMT"}}
		for name, values := range h {
			if !strings.EqualFold(name, "date") {
				dated[name] = values
			}
		}
		a.Header = dated
		first := Parse(a)
		for _, now := range []time.Time{{}, noon.Add(12345 * time.Hour), time.Unix(1<<40, 0)} {
			a.Now = now
			if got := Parse(a); !reflect.DeepEqual(got, first) {
				t.Fatalf("at %v:\n%+v\n%+v", now, first, got)
			}
		}
		a.Header, a.Now = h, noon
		// Rules keep the invariants.
		a.Rules = rules
		ruled := Parse(a)
		checkSignal(t, ruled)
		if !strings.HasPrefix(ruled.Source, "rule:") && !reflect.DeepEqual(ruled, s) {
			t.Fatalf("rules that do not match:\n%+v\n%+v", s, ruled)
		}
	})
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// FuzzBody reads any bytes as the body of a refusal and of a success.
func FuzzBody(f *testing.F) {
	for _, fx := range fixtures(f) {
		f.Add(fx.answer(f).Body)
	}
	f.Add([]byte(strings.Repeat("[", 5000)))
	f.Add([]byte(strings.Repeat(`{"error":`, 500)))
	f.Fuzz(func(t *testing.T, body []byte) {
		d := readDocument(body)
		if d.root != nil && !d.root.isObject() {
			t.Fatalf("root %q", d.root)
		}
		if len(d.text) > 2*maxBody+16 {
			t.Fatalf("a text of %d bytes out of %d", len(d.text), len(body))
		}
		// The cheap look at a success misses nothing.
		if d.root != nil && isError(d.root, 200) && !suspect(body) {
			t.Fatalf("suspect(%q) = false", body)
		}
		for _, status := range []int{200, 400, 403, 429, 503} {
			checkSignal(t, Parse(Answer{Status: status, Body: body, Now: noon}))
		}
	})
}

// TestHostileBodies bounds what a body can make Parse allocate.
func TestHostileBodies(t *testing.T) {
	bodies := map[string]string{
		"nesting":    strings.Repeat(`{"error":`, 20000),
		"array":      `{"errors":[` + strings.Repeat(`{},`, 20000) + `{}]}`,
		"numbers":    `{"error":{"message":"` + strings.Repeat("limit: 5 ", 7000) + `"}}`,
		"try":        `{"error":{"message":"` + strings.Repeat("try again in ", 5000) + `"}}`,
		"violations": `{"error":{"details":[{"@type":"google.rpc.QuotaFailure","violations":[` + strings.Repeat(`{"quotaId":"PerDay","quotaValue":"9"},`, 1000) + `{}]}]}}`,
		"tags":       strings.Repeat("<script>", 8000), "open tags": strings.Repeat("<a", 30000), "quotes": `{"a":"` + strings.Repeat(`\"`, 30000) + `"}`,
		"long": strings.Repeat("x", 10<<20),
	}
	for name, body := range bodies {
		a := Answer{Status: 429, Body: []byte(body), Now: noon}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		Parse(a)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 2<<20 {
			t.Errorf("%s: Parse of %d bytes allocates %d", name, len(body), got)
		}
		t.Logf("%s: Parse of %d bytes takes %v", name, len(body), took)
		if took > 5*time.Second { // what is quadratic takes longer
			t.Errorf("%s: Parse of %d bytes takes %v", name, len(body), took)
		}
	}
}
