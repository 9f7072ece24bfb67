package modelserver

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
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

// embeddings writes one vector after the other: all of them may be 180 MB.
func embeddings(w *writer, b *body, c *Call) {
	n := 256
	if d := b.Dimensions; d != nil && *d >= 1 && *d <= maxDimensions {
		n = int(*d)
	}
	w.w.Header().Set("Content-Type", "application/json")
	w.buf = append(w.buf, `{"object":"list","data":[`...)
	whole := true
	for i := range b.texts {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.add(object{"object": "embedding", "index": i, "embedding": embedding(w.id, i, n, b.EncodingFormat == "base64")})
		if len(w.buf) > 1<<16 {
			whole = false
			w.flush()
			if w.ctx.Err() != nil {
				panic(http.ErrAbortHandler) // nobody reads what is left
			}
		}
	}
	w.buf = append(w.buf, `],"model":`...)
	w.add(w.model)
	w.buf = append(w.buf, `,"usage":`...)
	w.add(object{"prompt_tokens": c.Input, "total_tokens": c.Input})
	w.buf = append(w.buf, "}\n"...)
	if whole {
		w.w.Header().Set("Content-Length", strconv.Itoa(len(w.buf)))
	}
	_, _ = w.w.Write(w.buf)
}

// maxInputs is how many texts one request for embeddings may have.
const maxInputs = 2048

// inputs returns how many texts there are: one, or those of a list. A list of numbers is one text, as tokens.
func inputs(raw json.RawMessage) int {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 || list[0][0] != '"' && list[0][0] != '[' {
		return 1
	}
	return min(len(list), maxInputs)
}

// embedding returns the i-th vector of a call, of length 1 and n dimensions, as numbers or as packed ones.
func embedding(id uint64, i, n int, packed bool) any {
	vector := make([]float64, n)
	sum := 0.0
	for j := range vector {
		vector[j] = draw.U(id, streamOutput, uint64(i*maxDimensions+j)) - 0.5
		sum += vector[j] * vector[j]
	}
	for j := range vector {
		vector[j] /= math.Sqrt(sum)
	}
	if !packed {
		return vector
	}
	raw := make([]byte, 0, 4*n)
	for _, x := range vector {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(x)))
	}
	return base64.StdEncoding.EncodeToString(raw)
}
