package sdks

import (
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/modelserver"
	"github.com/flyball-go/flyball/internal/upstream"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// simulated is the simulator's upstream as a server, and a guarded transport to it.
func simulated(t *testing.T, dialect upstream.Dialect) (string, *modelserver.Server, *httplimit.Transport) {
	t.Helper()
	exact := upstream.Answer{RetryAfter: upstream.RetryAfter{Mode: upstream.RetryExact, Form: upstream.FormMillis}}
	s, err := modelserver.New(modelserver.Config{
		Upstream: upstream.Config{
			Dialect: dialect,
			Quotas:  []upstream.Quota{{Counter: upstream.Requests, Limit: 1200, Burst: 4, Answer: exact}},
			Server:  upstream.Server{Service: draw.Of(5 * time.Millisecond), OutputToken: 200 * time.Microsecond},
		},
		Keys: []string{"key"}, Output: draw.Dist{Mean: 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	guard, err := limiter.New(limiter.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); web.Close(); guard.Close() })
	return web.URL, s, httplimit.New(nil, guard, httplimit.Config{})
}

// The SDKs understand what the simulator's server says: whole answers, streams, refusals with their delay, usage.
func TestSDKsUnderstandTheModelServer(t *testing.T) {
	for i, dialect := range []upstream.Dialect{upstream.OpenAI, upstream.Anthropic, upstream.OpenAI} {
		sdk, words := sdks[i], 20
		if dialect == upstream.Anthropic {
			words = 16 // its request asks for no more
		}
		t.Run(sdk.name, func(t *testing.T) {
			url, server, tr := simulated(t, dialect)
			c := sdk.wire(tr, url)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for range 8 { // more than the bucket holds
				text, err := c.ask(ctx)
				if err != nil || len(strings.Fields(text)) != words {
					t.Fatalf("%q, %v, want %d words", text, err, words)
				}
			}
			s, err := c.open(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			text, pieces := "", 0
			for {
				piece, err := s.next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if piece != "" {
					pieces++
				}
				text += piece
			}
			if len(strings.Fields(text)) != words || pieces != words {
				t.Errorf("%q in %d pieces, want %d words in as many", text, pieces, words)
			}
			total, _ := server.Stats()
			if total.Accepted != 9 || total.OutputTokens != int64(9*words) || total.Invalid+total.Unknown != 0 {
				t.Errorf("the server counted %+v", total)
			}
		})
	}
}

// The shapes that the examples above do not use.
func TestSDKsUnderstandTheOtherShapes(t *testing.T) {
	url, _, tr := simulated(t, upstream.OpenAI)
	c := OpenAI(tr, url+"/v1", "key")
	ctx := t.Context()
	e, err := c.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: "m", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("Hello")}})
	if err != nil || len(e.Data) != 1 || len(e.Data[0].Embedding) != 256 || e.Usage.PromptTokens != 2 {
		t.Errorf("embeddings: %+v, %v", e, err)
	}
	r, err := c.Responses.New(ctx, responses.ResponseNewParams{Model: "m", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Hello")}})
	if err != nil || len(strings.Fields(r.OutputText())) != 20 || r.Usage.OutputTokens != 20 || r.Status != "completed" {
		t.Errorf("responses: %+v, %v", r, err)
	}
	stream := c.Responses.NewStreaming(ctx, responses.ResponseNewParams{Model: "m", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Hello")}})
	text, all, last := "", "", ""
	for stream.Next() {
		switch ev := stream.Current(); ev.Type {
		case "response.output_text.delta":
			text += ev.Delta
		case "response.output_text.done":
			all = ev.Text
		default:
			last = ev.Type
		}
	}
	if err := stream.Err(); err != nil || last != "response.completed" || text != all || len(strings.Fields(text)) != 20 {
		t.Errorf("responses, streamed: %q, at the end %q, last %q, %v", text, all, last, err)
	}
	models, err := c.Models.List(ctx)
	if err != nil || len(models.Data) != 2 {
		t.Errorf("models: %+v, %v", models, err)
	}

	url, _, tr = simulated(t, upstream.Anthropic)
	a := Anthropic(tr, url, "key")
	m, err := a.Messages.New(ctx, anthropic.MessageNewParams{
		Model: "m", MaxTokens: 5, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Hello"))},
	})
	if err != nil || m.StopReason != anthropic.StopReasonMaxTokens || m.Usage.OutputTokens != 5 || m.Usage.InputTokens != 6 {
		t.Errorf("messages: %+v, %v", m, err)
	}
	list, err := a.Models.List(ctx, anthropic.ModelListParams{})
	if err != nil || len(list.Data) != 2 || list.Data[0].ID != "sim-large" {
		t.Errorf("models: %+v, %v", list, err)
	}
}
