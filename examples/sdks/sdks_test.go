package sdks

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
	goopenai "github.com/sashabaranov/go-openai"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// A client is one SDK as an application uses it.
type client interface {
	// ask returns the text of an answer.
	ask(context.Context) (string, error)
	// open begins an answer that streams.
	open(context.Context) (stream, error)
}

// A stream is an answer that comes in pieces.
type stream interface {
	// next returns the next piece of text, and io.EOF after the last.
	next() (string, error)
	close()
}

// sdks are the SDKs, and what they make of errors.
var sdks = []struct {
	name string
	wire func(tr *httplimit.Transport, url string) client
	// plan reports whether an error is the SDK's own, and of an answer of 429 for want of money.
	plan func(error) bool
	// broken reports whether an error is the SDK's own, and of an event in a stream.
	broken func(error) bool
}{
	{"openai-go", func(tr *httplimit.Transport, url string) client { return openaiGo{OpenAI(tr, url+"/v1", "key")} },
		func(err error) bool {
			var e *openai.Error
			return errors.As(err, &e) && e.StatusCode == 429 && e.Code == "insufficient_quota"
		},
		func(err error) bool {
			var e *ssestream.StreamError
			return errors.As(err, &e)
		}},
	{"anthropic-sdk-go", func(tr *httplimit.Transport, url string) client { return anthropicGo{Anthropic(tr, url, "key")} },
		func(err error) bool {
			var e *anthropic.Error
			return errors.As(err, &e) && e.StatusCode == 429 && e.Type() == "rate_limit_error" && strings.Contains(e.RawJSON(), "enforced_spend_limit_reached")
		},
		func(err error) bool {
			var e *anthropic.Error
			return errors.As(err, &e) && (e.Type() == "overloaded_error" || e.Type() == "rate_limit_error")
		}},
	{"go-openai", func(tr *httplimit.Transport, url string) client { return goOpenAI{GoOpenAI(tr, url+"/v1", "key")} },
		func(err error) bool {
			var e *goopenai.APIError
			return errors.As(err, &e) && e.HTTPStatusCode == 429 && e.Code == "insufficient_quota"
		},
		func(err error) bool {
			var e *goopenai.APIError
			return errors.As(err, &e) && (e.Code == "server_is_overloaded" || e.Code == "rate_limit_exceeded")
		}},
}

// openaiGo is github.com/openai/openai-go/v3.
type openaiGo struct{ openai.Client }

var openaiParams = openai.ChatCompletionNewParams{
	Model:    "m",
	Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Say hello.")},
}

func (c openaiGo) ask(ctx context.Context) (string, error) {
	answer, err := c.Chat.Completions.New(ctx, openaiParams)
	if err != nil {
		return "", err
	}
	return answer.Choices[0].Message.Content, nil
}

func (c openaiGo) open(ctx context.Context) (stream, error) {
	params := openaiParams
	params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	s := c.Chat.Completions.NewStreaming(ctx, params)
	return openaiStream{s}, s.Err()
}

type openaiStream struct {
	*ssestream.Stream[openai.ChatCompletionChunk]
}

func (s openaiStream) next() (string, error) {
	for s.Next() {
		for _, choice := range s.Current().Choices {
			if choice.Delta.Content != "" {
				return choice.Delta.Content, nil
			}
		}
	}
	return "", ended(s.Err())
}

func (s openaiStream) close() { _ = s.Close() }

// anthropicGo is github.com/anthropics/anthropic-sdk-go.
type anthropicGo struct{ anthropic.Client }

var anthropicParams = anthropic.MessageNewParams{
	Model: "m", MaxTokens: 16,
	Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Say hello."))},
}

func (c anthropicGo) ask(ctx context.Context) (string, error) {
	answer, err := c.Messages.New(ctx, anthropicParams)
	if err != nil {
		return "", err
	}
	return answer.Content[0].Text, nil
}

func (c anthropicGo) open(ctx context.Context) (stream, error) {
	s := c.Messages.NewStreaming(ctx, anthropicParams)
	return anthropicStream{s}, s.Err()
}

type anthropicStream struct {
	s interface {
		Next() bool
		Current() anthropic.MessageStreamEventUnion
		Err() error
		Close() error
	}
}

func (s anthropicStream) next() (string, error) {
	for s.s.Next() {
		if delta := s.s.Current().Delta.Text; delta != "" {
			return delta, nil
		}
	}
	return "", ended(s.s.Err())
}

func (s anthropicStream) close() { _ = s.s.Close() }

// goOpenAI is github.com/sashabaranov/go-openai.
type goOpenAI struct{ *goopenai.Client }

var goopenaiRequest = goopenai.ChatCompletionRequest{
	Model:    "m",
	Messages: []goopenai.ChatCompletionMessage{{Role: goopenai.ChatMessageRoleUser, Content: "Say hello."}},
}

func (c goOpenAI) ask(ctx context.Context) (string, error) {
	answer, err := c.CreateChatCompletion(ctx, goopenaiRequest)
	if err != nil {
		return "", err
	}
	return answer.Choices[0].Message.Content, nil
}

func (c goOpenAI) open(ctx context.Context) (stream, error) {
	request := goopenaiRequest
	request.StreamOptions = &goopenai.StreamOptions{IncludeUsage: true}
	s, err := c.CreateChatCompletionStream(ctx, request)
	return goopenaiStream{s}, err
}

type goopenaiStream struct{ *goopenai.ChatCompletionStream }

func (s goopenaiStream) next() (string, error) {
	for {
		chunk, err := s.Recv()
		if err != nil {
			return "", err
		}
		for _, choice := range chunk.Choices {
			if choice.Delta.Content != "" {
				return choice.Delta.Content, nil
			}
		}
	}
}

func (s goopenaiStream) close() {
	if s.ChatCompletionStream != nil {
		_ = s.Close()
	}
}

func ended(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// A mode is one way of asking; every test below runs in both where it can.
type mode struct {
	name string
	ask  func(context.Context, client) (string, error)
}

var modes = []mode{
	{"whole", func(ctx context.Context, c client) (string, error) { return c.ask(ctx) }},
	{"stream", func(ctx context.Context, c client) (string, error) {
		s, err := c.open(ctx)
		if err != nil {
			return "", err
		}
		defer s.close()
		return readAll(s)
	}},
}

// readAll returns the text of the rest of a stream.
func readAll(s stream) (string, error) {
	var text strings.Builder
	for {
		piece, err := s.next()
		if err == io.EOF {
			return text.String(), nil
		}
		if err != nil {
			return text.String(), err
		}
		text.WriteString(piece)
	}
}

// counter is a law that allows a fixed number in flight and adds up the tokens that it is told of.
type counter struct {
	adaptive.Law
	mu     sync.Mutex // guards tokens, which the test reads
	tokens int64
}

func (c *counter) Decision() adaptive.Decision {
	d := c.Law.Decision()
	d.AskAgain = 0 // tell of each call when it ends
	return d
}

func (c *counter) Window(now time.Duration, w adaptive.Window) adaptive.Decision {
	c.add(w.Tokens)
	c.Law.Window(now, w)
	return c.Decision()
}

func (c *counter) Ended(now time.Duration, call adaptive.Call, o adaptive.Outcome) adaptive.Decision {
	c.add(o.Tokens())
	c.Law.Ended(now, call, o)
	return c.Decision()
}

func (c *counter) Hint(now time.Duration, w feedback.Window) adaptive.Decision {
	c.Law.Hint(now, w)
	return c.Decision()
}

func (c *counter) add(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens += n
}

func (c *counter) sum() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens
}

// guarded returns a transport with a guard that is made from cfg.
func guarded(t *testing.T, cfg limiter.Config) *httplimit.Transport {
	t.Helper()
	guard, err := limiter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(guard.Close)
	return Transport(guard)
}

// want compares what a guard and a server counted with what they should have.
func want(t *testing.T, tr *httplimit.Transport, s *server, requests int, outcomes map[feedback.Class]uint64) {
	t.Helper()
	if got := s.requests(); got != requests {
		t.Errorf("%d requests arrived, want %d", got, requests)
	}
	stats := tr.Guard().Stats()
	if stats.InFlight != 0 {
		t.Errorf("%d in flight, want 0", stats.InFlight)
	}
	for class, got := range stats.Counts.Outcomes {
		if want := outcomes[feedback.Class(class)]; got != want {
			t.Errorf("%d calls counted as %v, want %d", got, feedback.Class(class), want)
		}
	}
}

// each runs a test for each SDK in each mode, all at once: most of them wait.
func each(t *testing.T, modes []mode, f func(t *testing.T, sdk int, m mode)) {
	var wg sync.WaitGroup
	for i, sdk := range sdks {
		for _, m := range modes {
			wg.Go(func() {
				t.Run(sdk.name+"/"+m.name, func(t *testing.T) { f(t, i, m) })
			})
		}
	}
	wg.Wait()
}

// testContext ends a test that hangs with an error that says where.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestServed(t *testing.T) {
	each(t, modes, func(t *testing.T, sdk int, m mode) {
		s := serve(t, &server{})
		law := &counter{Law: adaptive.NewFixed(4)}
		tr := guarded(t, limiter.Config{Law: law})
		text, err := m.ask(testContext(t), sdks[sdk].wire(tr, s.url))
		if text != "Hello." || err != nil {
			t.Errorf("text %q, error %v", text, err)
		}
		want(t, tr, s, 1, map[feedback.Class]uint64{feedback.OK: 1})
		if n := law.sum(); n != 11 {
			t.Errorf("%d tokens counted, want 11", n)
		}
	})
}

// The guard sends again, once and not before the second is over; the SDK notices nothing.
func TestRefusedForASecond(t *testing.T) {
	each(t, modes, func(t *testing.T, sdk int, m mode) {
		s := serve(t, &server{script: []step{forASecond}})
		tr := guarded(t, limiter.Config{})
		text, err := m.ask(testContext(t), sdks[sdk].wire(tr, s.url))
		if text != "Hello." || err != nil {
			t.Errorf("text %q, error %v", text, err)
		}
		want(t, tr, s, 2, map[feedback.Class]uint64{feedback.Throttled: 1, feedback.OK: 1})
		if len(s.arrived) == 2 && s.arrived[1].Sub(s.refused[0]) < time.Second {
			t.Errorf("sent again %v after the refusal, which asked for 1s", s.arrived[1].Sub(s.refused[0]))
		}
		if !s.sameBody() {
			t.Errorf("the two requests differ: %q", s.bodies)
		}
	})
}

// Without money nothing is sent again, by nobody, and the error is the SDK's own.
func TestRefusedForGood(t *testing.T) {
	each(t, modes, func(t *testing.T, sdk int, m mode) {
		s := serve(t, &server{script: []step{forGood}})
		tr := guarded(t, limiter.Config{})
		_, err := m.ask(testContext(t), sdks[sdk].wire(tr, s.url))
		if !sdks[sdk].plan(err) {
			t.Errorf("error %T %v, want the SDK's own", err, err)
		}
		want(t, tr, s, 1, map[feedback.Class]uint64{feedback.QuotaExhausted: 1})
	})
}

// An SDK whose retries were left on is told not to use them.
func TestRetriesLeftOn(t *testing.T) {
	for i, ask := range []func(context.Context, *httplimit.Transport, string) error{
		func(ctx context.Context, tr *httplimit.Transport, url string) error {
			c := OpenAI(tr, url+"/v1", "key")
			_, err := c.Chat.Completions.New(ctx, openaiParams, option.WithMaxRetries(2))
			return err
		},
		func(ctx context.Context, tr *httplimit.Transport, url string) error {
			c := Anthropic(tr, url, "key")
			_, err := c.Messages.New(ctx, anthropicParams, anthropicoption.WithMaxRetries(2))
			return err
		},
	} {
		t.Run(sdks[i].name, func(t *testing.T) {
			s := serve(t, &server{script: []step{forGood}})
			tr := guarded(t, limiter.Config{})
			if err := ask(testContext(t), tr, s.url); !sdks[i].plan(err) {
				t.Errorf("error %T %v, want the SDK's own", err, err)
			}
			want(t, tr, s, 1, map[feedback.Class]uint64{feedback.QuotaExhausted: 1})
		})
	}
}

// What the guard refuses is not sent, and says so through the SDK.
func TestRefusedByTheGuard(t *testing.T) {
	each(t, modes, func(t *testing.T, sdk int, m mode) {
		s := serve(t, &server{})
		tr := guarded(t, limiter.Config{})
		until := time.Now().Add(time.Hour)
		tr.Guard().Pause(until)
		_, err := m.ask(testContext(t), sdks[sdk].wire(tr, s.url))
		var rejected *limiter.RejectedError
		if !errors.As(err, &rejected) || rejected.Reason != limiter.ReasonPaused || rejected.RetryAt.Before(until.Add(-time.Second)) {
			t.Errorf("error %v, want a refusal until %v", err, until)
		}
		want(t, tr, s, 0, nil)
	})
}

// An error in a stream that began well is the SDK's error, and the guard's outcome.
func TestBrokenOff(t *testing.T) {
	for _, tt := range []struct {
		name  string
		class feedback.Class
		pick  func(dialect) string
	}{
		{"overloaded", feedback.Overloaded, func(d dialect) string { return d.overload }},
		{"throttled", feedback.Throttled, func(d dialect) string { return d.throttled }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, modes[1:], func(t *testing.T, sdk int, m mode) {
				s := serve(t, &server{script: []step{breakOff(tt.pick)}})
				tr := guarded(t, limiter.Config{})
				text, err := m.ask(testContext(t), sdks[sdk].wire(tr, s.url))
				if text != "Hel" || !sdks[sdk].broken(err) {
					t.Errorf("text %q, error %T %v; want Hel and the SDK's own error", text, err, err)
				}
				want(t, tr, s, 1, map[feedback.Class]uint64{tt.class: 1})
			})
		})
	}
}

// 32 goroutines against a server that bears 8 in flight: all calls succeed.
func TestManyAtOnce(t *testing.T) {
	each(t, modes, func(t *testing.T, sdk int, m mode) {
		const goroutines, calls = 32, 3
		s := serve(t, &server{most: 8, takes: 40 * time.Millisecond})
		// So few calls do not earn the retries that finding out costs: the default budget is meant for more.
		tr := guarded(t, limiter.Config{Retry: limiter.Retry{Budget: 1, MaxAttempts: 20}})
		c := sdks[sdk].wire(tr, s.url)
		ctx := testContext(t)
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				for range calls {
					if text, err := m.ask(ctx, c); text != "Hello." || err != nil {
						t.Errorf("text %q, error %v", text, err)
					}
				}
			})
		}
		wg.Wait()
		if s.highest > 8 {
			t.Errorf("%d were served at a time, want at most 8", s.highest)
		}
		want(t, tr, s, goroutines*calls+s.turnedAway, map[feedback.Class]uint64{
			feedback.OK: goroutines * calls, feedback.Throttled: uint64(s.turnedAway),
		})
		t.Logf("%d turned away; the guard's limit is %d", s.turnedAway, tr.Guard().Stats().Limit)
	})
}

// A caller that gives up a stream gives its permit back, whatever it does or leaves undone after.
func TestAbandoned(t *testing.T) {
	for _, tt := range []struct {
		name string
		then func(stream)
	}{
		{"and read on", func(s stream) { _, _ = readAll(s) }},
		{"and closed", func(s stream) { s.close() }},
		{"and forgotten", func(stream) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			each(t, modes[1:], func(t *testing.T, sdk int, _ mode) {
				rest := make(chan struct{})
				s := serve(t, &server{script: []step{hold(rest)}})
				t.Cleanup(func() { close(rest) })
				tr := guarded(t, limiter.Config{})
				ctx, cancel := context.WithCancel(testContext(t))
				defer cancel()
				answer, err := sdks[sdk].wire(tr, s.url).open(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if text, err := answer.next(); text != "Hel" || err != nil {
					t.Fatalf("text %q, error %v", text, err)
				}
				if n := tr.Guard().Stats().InFlight; n != 1 {
					t.Errorf("%d in flight while the stream is open, want 1", n)
				}
				cancel()
				tt.then(answer)
				for until := time.Now().Add(2 * time.Second); tr.Guard().Stats().InFlight != 0 && time.Now().Before(until); {
					time.Sleep(time.Millisecond)
				}
				want(t, tr, s, 1, map[feedback.Class]uint64{feedback.Canceled: 1})
				answer.close()
			})
		})
	}
}

// A stream is in flight while it streams: with a limit of 1 the next call starts when it has ended.
func TestStreamHoldsItsPermit(t *testing.T) {
	each(t, modes, func(t *testing.T, sdk int, m mode) {
		rest := make(chan struct{})
		s := serve(t, &server{script: []step{hold(rest)}})
		tr := guarded(t, limiter.Config{Law: adaptive.NewFixed(1)})
		c := sdks[sdk].wire(tr, s.url)
		ctx := testContext(t)
		answer, err := c.open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		text, err := answer.next()
		if err != nil {
			t.Fatal(err)
		}

		next := make(chan error, 1)
		go func() {
			_, err := m.ask(ctx, c)
			next <- err
		}()
		for tr.Guard().Stats().Waiting == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if n := s.requests(); n != 1 {
			t.Errorf("%d requests arrived while a stream was open, want 1", n)
		}
		close(rest)
		more, err := readAll(answer)
		if text+more != "Hello." || err != nil {
			t.Errorf("text %q, error %v", text+more, err)
		}
		answer.close()
		if err := <-next; err != nil {
			t.Errorf("the next call: %v", err)
		}
		want(t, tr, s, 2, map[feedback.Class]uint64{feedback.OK: 2})
	})
}

// A permit that is held too long is told with the line of the program that asked the SDK, and not with one of the SDK.
func TestLeakTellsWhoAsked(t *testing.T) {
	each(t, modes[1:], func(t *testing.T, sdk int, _ mode) {
		rest := make(chan struct{})
		s := serve(t, &server{script: []step{hold(rest)}})
		t.Cleanup(func() { close(rest) })
		tr := guarded(t, limiter.Config{MaxHold: time.Second})
		leaks := make(chan limiter.Leak, 1)
		tr.Guard().OnLeak(func(l limiter.Leak) { leaks <- l })
		answer, err := sdks[sdk].wire(tr, s.url).open(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := (<-leaks).String(); !strings.Contains(got, "/sdks.") || !strings.Contains(got, "/sdks_test.go:") {
			t.Errorf("%s: want a line of this file", got)
		}
		answer.close()
	})
}
