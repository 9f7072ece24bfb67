package modelserver

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What a prompt's length is: a token for four bytes of its texts, and four for each message.
func TestPrompt(t *testing.T) {
	for _, c := range []struct {
		body string
		want int64
	}{
		{`{}`, 1},
		{`{"messages":null}`, 1},
		{`{"prompt":"12345678"}`, 2},
		{`{"prompt":"é\n\"\\"}`, 2}, // as long as what is meant: two bytes and three
		{`{"prompt":["1234", "5678"]}`, 2},
		{`{"prompt":[1, 22,333 ]}`, 3},
		{`{"messages":[{"role":"user","content":"1234"},{"content":"5678","name":"not counted"}]}`, 6},
		{`{"messages":[{"role":"user","content":[{"type":"text","text":"1234"},{"type":"image_url","image_url":{"url":"data:,"}}]}], "system" : "5678"}`, 6},
		{`{"messages":[{"ROLE":"user","Content":"1234"},{"role":7},{"role":"","text":{"text":"no"}}]}`, 5},
		{`{"contents":[{"role":"user","parts":[{"text":"1234"},{"text":"5678"}]}],"systemInstruction":{"parts":[{"text":"9012"}]}}`, 7},
	} {
		var b body
		if err := json.Unmarshal([]byte(c.body), &b); err != nil {
			t.Fatal(err)
		}
		if got := b.prompt(); got != c.want {
			t.Errorf("prompt of %s = %d, want %d", c.body, got, c.want)
		}
	}
}

// A request is read once, however deep it is: one of a megabyte may not cost minutes and gigabytes.
func TestDeepPrompt(t *testing.T) {
	const depth = 9_000 // package json allows 10,000
	raw := json.RawMessage(strings.Repeat("[", depth) + `"` + strings.Repeat("a", 1<<20) + `"` + strings.Repeat("]", depth))
	if n := testing.AllocsPerRun(1, func() { text(raw) }); n > 100 {
		t.Errorf("%v allocations", n)
	}
	if chars, _ := text(raw); chars != 1<<20 {
		t.Errorf("%d bytes", chars)
	}
}

// leaver reads what comes first and hangs up.
type leaver struct {
	*httptest.ResponseRecorder
	hangUp context.CancelFunc
}

func (l *leaver) Write(b []byte) (int, error) {
	l.hangUp()
	return l.ResponseRecorder.Write(b)
}

// A stream that nobody reads any more is not made up to its end: a server with hundreds of them did not end for minutes. Nor does it look complete.
func TestStreamOfNobody(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	w := &leaver{httptest.NewRecorder(), hangUp}
	r := httptest.NewRequestWithContext(ctx, "POST", "/v1/chat/completions", strings.NewReader(`{"model":"m","stream":true}`))
	r.Header.Set("X-Sim-Output-Tokens", "50000")
	defer func() {
		if recover(); w.Body.Len() > 1<<18 || strings.Contains(w.Body.String(), "[DONE]") {
			t.Errorf("%d bytes were written, and end with %.100q", w.Body.Len(), w.Body.String()[max(0, w.Body.Len()-100):])
		}
	}()
	s.ServeHTTP(w, r)
}

// A slowBody takes a second for what follows the first megabyte.
type slowBody struct {
	*strings.Reader
	now, most *int
	mu        *sync.Mutex
	reads     bool
}

func (b *slowBody) Read(p []byte) (int, error) {
	if !b.reads && b.Len() <= 1<<20 {
		b.reads = true
		b.mu.Lock()
		*b.now++
		*b.most = max(*b.most, *b.now)
		b.mu.Unlock()
		time.Sleep(time.Second)
		b.mu.Lock()
		*b.now--
		b.mu.Unlock()
	}
	return b.Reader.Read(p)
}

// Large bodies are read a few at a time, and none of them is refused.
func TestLargeBodies(t *testing.T) {
	text := `{"model":"m","max_tokens":1,"prompt":"` + strings.Repeat("a", 2<<20) + `"}`
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Config{})
		var now, most int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 3 * maxLarge {
			wg.Go(func() {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest("POST", "/v1/completions", &slowBody{strings.NewReader(text), &now, &most, &mu, false}))
				if w.Code != 200 || !strings.Contains(w.Body.String(), `"prompt_tokens":524288`) {
					t.Errorf("%d %.200s", w.Code, w.Body)
				}
			})
		}
		wg.Wait()
		if most != maxLarge {
			t.Errorf("%d large bodies were read at a time, want %d", most, maxLarge)
		}
	})
}
