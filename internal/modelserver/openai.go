package modelserver

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"github.com/flyball-go/flyball/internal/draw"
)

// words are what answers are made of: one token each, four characters with the space on average.
var words = []string{"sum", "air", "all", "two", "run", "old", "sea", "now", "low", "sun", "way", "red", "day", "top", "ice", "map"}

// word returns the i-th token of an answer.
func word(i int64) string {
	if i%12 == 11 {
		return words[i%16] + ".\n"
	}
	return words[(i*7)%16] + " "
}

// filler returns an answer of n tokens.
func filler(n int64) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(word(i))
	}
	return b.String()
}

func (w *writer) name(prefix string) string { return prefix + strconv.FormatUint(w.id, 10) }

// finish returns why an answer ended.
func (c *Call) finish(cut, complete string) string {
	if c.MaxOutput > 0 && c.Output >= c.MaxOutput {
		return cut
	}
	return complete
}

func chatUsage(c *Call) object {
	return object{
		"prompt_tokens": c.Input, "completion_tokens": c.Output, "total_tokens": c.Input + c.Output,
		"prompt_tokens_details": object{"cached_tokens": c.Cached},
	}
}

func chatWhole(w *writer, _ *body, c *Call) {
	w.json(object{
		"id": w.name("chatcmpl-"), "object": "chat.completion", "created": w.created.Unix(), "model": w.model,
		"choices": []object{{
			"index": 0, "message": object{"role": "assistant", "content": filler(c.Output), "refusal": nil},
			"logprobs": nil, "finish_reason": c.finish("length", "stop"),
		}},
		"usage": chatUsage(c),
	})
}

func completionWhole(w *writer, _ *body, c *Call) {
	w.json(object{
		"id": w.name("cmpl-"), "object": "text_completion", "created": w.created.Unix(), "model": w.model,
		"choices": []object{{"index": 0, "text": filler(c.Output), "logprobs": nil, "finish_reason": c.finish("length", "stop")}},
		"usage":   chatUsage(c),
	})
}

// openaiStream streams chat completions and completions, which differ in their choices.
type openaiStream struct {
	w      *writer
	c      *Call
	usage  bool
	id     string
	object string
	first  object
	delta  func(text string) object
	last   func(finish string) object
}

func newChatStream(w *writer, b *body, c *Call) streamer {
	choice := func(delta object, finish any) object {
		return object{"index": 0, "delta": delta, "logprobs": nil, "finish_reason": finish}
	}
	return &openaiStream{
		w: w, c: c, usage: b.StreamOptions.IncludeUsage, id: w.name("chatcmpl-"), object: "chat.completion.chunk",
		first: choice(object{"role": "assistant", "content": "", "refusal": nil}, nil),
		delta: func(text string) object { return choice(object{"content": text}, nil) },
		last:  func(finish string) object { return choice(object{}, finish) },
	}
}

func newCompletionStream(w *writer, b *body, c *Call) streamer {
	choice := func(text string, finish any) object {
		return object{"index": 0, "text": text, "logprobs": nil, "finish_reason": finish}
	}
	return &openaiStream{
		w: w, c: c, usage: b.StreamOptions.IncludeUsage, id: w.name("cmpl-"), object: "text_completion",
		delta: func(text string) object { return choice(text, nil) },
		last:  func(finish string) object { return choice("", finish) },
	}
}

func (s *openaiStream) chunk(choices []object, usage any) {
	v := object{"id": s.id, "object": s.object, "created": s.w.created.Unix(), "model": s.w.model, "choices": choices}
	if s.usage {
		v["usage"] = usage
	}
	s.w.event("", v)
}

func (s *openaiStream) begin() {
	if s.first != nil {
		s.chunk([]object{s.first}, nil)
	}
}

func (s *openaiStream) more(i int64) { s.chunk([]object{s.delta(word(i))}, nil) }

func (s *openaiStream) end() {
	s.chunk([]object{s.last(s.c.finish("length", "stop"))}, nil)
	if s.usage {
		s.chunk([]object{}, chatUsage(s.c))
	}
	s.w.event("", "[DONE]")
}

// maxDimensions is how long an embedding is at most.
const maxDimensions = 4096

func embeddings(w *writer, b *body, c *Call) {
	n := 256
	if d := b.Dimensions; d != nil && *d >= 1 && *d <= maxDimensions {
		n = int(*d)
	}
	vector := make([]float64, n)
	sum := 0.0
	for i := range vector {
		vector[i] = draw.U(w.id, streamOutput, uint64(i)) - 0.5
		sum += vector[i] * vector[i]
	}
	for i := range vector {
		vector[i] /= math.Sqrt(sum)
	}
	var value any = vector
	if b.EncodingFormat == "base64" {
		raw := make([]byte, 0, 4*n)
		for _, x := range vector {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(x)))
		}
		value = base64.StdEncoding.EncodeToString(raw)
	}
	w.json(object{
		"object": "list", "model": w.model,
		"data":  []object{{"object": "embedding", "index": 0, "embedding": value}},
		"usage": object{"prompt_tokens": c.Input, "total_tokens": c.Input},
	})
}
