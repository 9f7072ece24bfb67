package feedback

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"
	"time"
)

// fixture is one line of testdata/responses.jsonl; testdata/README.md has the rules.
type fixture struct {
	Name     string                     `json:"name"`
	Provider string                     `json:"provider"`
	Status   int                        `json:"status"`
	Headers  map[string]json.RawMessage `json:"headers"`
	Body     string                     `json:"body"`
	Base64   string                     `json:"body_base64"`
	Now      time.Time                  `json:"now"`
	Expect   struct {
		Class      string `json:"class"`
		Retryable  bool   `json:"retryable"`
		RetryAfter *int64 `json:"retry_after_ms"`
		Scope      string `json:"scope"`
		Windows    []struct {
			Kind      string `json:"kind"`
			Limit     *int64 `json:"limit"`
			Remaining *int64 `json:"remaining"`
			Reset     *int64 `json:"reset_ms"`
		} `json:"windows"`
	} `json:"expect"`
}

func fixtures(t testing.TB) []fixture {
	file, err := os.Open("testdata/responses.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var list []fixture
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var f fixture
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			t.Fatal(err)
		}
		list = append(list, f)
	}
	return list
}

func (f fixture) answer(t testing.TB) Answer {
	h := map[string][]string{}
	for name, raw := range f.Headers {
		var one string
		if err := json.Unmarshal(raw, &one); err == nil {
			h[name] = []string{one}
			continue
		}
		var several []string
		if err := json.Unmarshal(raw, &several); err != nil {
			t.Fatal(err)
		}
		h[name] = several
	}
	body := []byte(f.Body)
	if f.Base64 != "" {
		var err error
		if body, err = base64.StdEncoding.DecodeString(f.Base64); err != nil {
			t.Fatal(err)
		}
	}
	return Answer{Status: f.Status, Header: h, Body: body, Now: f.Now, Provider: f.Provider}
}

func (f fixture) want() string {
	var windows []string
	num := func(n *int64) string {
		if n == nil {
			return "-"
		}
		return fmt.Sprint(*n)
	}
	for _, w := range f.Expect.Windows {
		windows = append(windows, w.Kind+" "+num(w.Limit)+" "+num(w.Remaining)+" "+num(w.Reset))
	}
	sort.Strings(windows)
	return fmt.Sprintf("%s retryable=%v after=%s scope=%s windows=[%s]", f.Expect.Class, f.Expect.Retryable,
		num(f.Expect.RetryAfter), f.Expect.Scope, strings.Join(windows, ", "))
}

// describe writes a signal as fixture.want does.
func describe(s Signal) string {
	var windows []string
	num := func(n int64) string {
		if n == Unstated {
			return "-"
		}
		return fmt.Sprint(n)
	}
	for _, w := range s.Windows {
		reset := "-"
		if w.Reset != Unstated {
			reset = fmt.Sprint(w.Reset.Milliseconds())
		}
		windows = append(windows, w.Kind.String()+" "+num(w.Limit)+" "+num(w.Remaining)+" "+reset)
	}
	sort.Strings(windows)
	after := "-"
	if s.HasRetryAfter {
		after = fmt.Sprint(s.RetryAfter.Milliseconds())
	}
	return fmt.Sprintf("%s retryable=%v after=%s scope=%s windows=[%s]", s.Class, s.Retryable, after, s.Scope, strings.Join(windows, ", "))
}

func TestFixtures(t *testing.T) {
	list := fixtures(t)
	if len(list) != 272 {
		t.Errorf("testdata/responses.jsonl has %d cases, want 272", len(list))
	}
	for _, f := range list {
		t.Run(f.Name, func(t *testing.T) {
			got := Parse(f.answer(t))
			if describe(got) != f.want() {
				t.Errorf("Parse(%s)\n got %s (%s)\nwant %s", f.Name, describe(got), got.Source, f.want())
			}
		})
	}
}
