package modelserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
)

// maxBody is the longest request body, in bytes; largeBody is from where on one is large, of which maxLarge are read at a time: each takes
// several times its length until its tokens are counted. largeTime is how long one may take to come.
const (
	maxBody   = 32 << 20
	largeBody = 1 << 20
	maxLarge  = 4
	largeTime = 30 * time.Second
)

// maxTokens is the most tokens of a prompt or an answer.
const maxTokens = 10_000_000

// body is what is read of a request: the fields of all shapes that matter here.
type body struct {
	Model               string          `json:"model"`
	Messages            json.RawMessage `json:"messages"`
	System              json.RawMessage `json:"system"`
	Prompt              json.RawMessage `json:"prompt"`
	Input               json.RawMessage `json:"input"`
	Instructions        json.RawMessage `json:"instructions"`
	MaxTokens           *float64        `json:"max_tokens"`
	MaxCompletionTokens *float64        `json:"max_completion_tokens"`
	MaxOutputTokens     *float64        `json:"max_output_tokens"`
	Stream              bool            `json:"stream"`
	StreamOptions       struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Contents          json.RawMessage `json:"contents"` // Gemini's
	SystemInstruction json.RawMessage `json:"systemInstruction"`
	GenerationConfig  struct {
		MaxOutputTokens *float64 `json:"maxOutputTokens"`
	} `json:"generationConfig"`
	EncodingFormat string   `json:"encoding_format"`
	Dimensions     *float64 `json:"dimensions"`

	tokens int64 // of the prompt
	texts  int   // of which embeddings are wanted
}

// badRequest is a request that is none, with the parameter that is wrong.
type badRequest struct {
	status      int
	param, text string
}

func (e *badRequest) Error() string { return e.text }

// parse reads a request, and keeps of its texts how long they are.
func (s *Server) parse(w http.ResponseWriter, r *http.Request) (*body, error) {
	from := http.MaxBytesReader(w, r.Body, maxBody)
	data, err := io.ReadAll(io.LimitReader(from, largeBody))
	if err == nil && len(data) == largeBody {
		select {
		case s.large <- struct{}{}:
			defer func() { <-s.large }()
		case <-r.Context().Done():
			return nil, &badRequest{http.StatusBadRequest, "", "The request body could not be read: " + context.Cause(r.Context()).Error()}
		case <-s.done:
			return nil, ErrClosed
		}
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(largeTime)) // who stalls does not keep others out
		var rest []byte
		rest, err = io.ReadAll(from)
		data = append(data, rest...)
		_ = rc.SetReadDeadline(time.Time{})
	}
	if err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return nil, &badRequest{http.StatusRequestEntityTooLarge, "", fmt.Sprintf("The request body is longer than %d bytes.", maxBody)}
		}
		return nil, &badRequest{http.StatusBadRequest, "", "The request body could not be read: " + err.Error()}
	}
	var b body
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, &badRequest{http.StatusBadRequest, "", "We could not parse the JSON body of your request: " + err.Error()}
	}
	b.tokens, b.texts = b.prompt(), inputs(b.Input)
	b.Messages, b.System, b.Prompt, b.Input, b.Instructions, b.Contents, b.SystemInstruction = nil, nil, nil, nil, nil, nil, nil // a call may take minutes
	return &b, nil
}

// limit returns the most tokens that the answer may have; 0 when the request does not say.
func (b *body) limit() (int64, error) {
	for _, f := range []struct {
		name string
		v    *float64
	}{{"max_completion_tokens", b.MaxCompletionTokens}, {"max_tokens", b.MaxTokens}, {"max_output_tokens", b.MaxOutputTokens}} {
		if f.v == nil {
			continue
		}
		if v := *f.v; !(v >= 1) || v > maxTokens || v != math.Trunc(v) {
			return 0, &badRequest{http.StatusBadRequest, f.name, fmt.Sprintf("%s must be an integer from 1 to %d.", f.name, maxTokens)}
		}
		return int64(*f.v), nil
	}
	return 0, nil
}

// text adds up the text in a value of JSON, which is valid: a string, or those in an array of strings, messages or parts.
func text(raw json.RawMessage) (chars, messages int64) {
	s := scanner{raw: raw}
	return s.value()
}

// A scanner walks through valid JSON once, however deep it is.
type scanner struct {
	raw []byte
	at  int
}

// next returns the first byte of what comes next; 0 at the end.
func (s *scanner) next() byte {
	for s.at < len(s.raw) && strings.IndexByte(" \t\r\n,:", s.raw[s.at]) >= 0 {
		s.at++
	}
	if s.at == len(s.raw) {
		return 0
	}
	return s.raw[s.at]
}

// value reads a value and returns what text does.
func (s *scanner) value() (chars, messages int64) {
	switch s.next() {
	case 0:
		return 0, 0
	case '"':
		return int64(len(s.str())), 0
	case '[':
		for s.at++; s.next() != ']'; {
			c, m := s.value()
			chars, messages = chars+c, messages+m
		}
		s.at++
	case '{':
		role := false
		for s.at++; s.next() != '}'; {
			name := strings.ToLower(s.str())
			isText := s.next() == '"'
			c, m := s.value()
			switch {
			case name == "role":
				role = isText && c > 0
			case name == "content", name == "parts", name == "text" && isText: // parts are Gemini's
				chars, messages = chars+c, messages+m
			}
		}
		s.at++
		if role {
			messages++
		}
	default: // a number: a token of a prompt that is an array of them
		for s.at < len(s.raw) && strings.IndexByte(" \t\r\n,]}", s.raw[s.at]) < 0 {
			s.at++
		}
		return 4, 0
	}
	return chars, messages
}

// str reads a string.
func (s *scanner) str() string {
	from := s.at
	for s.at++; s.raw[s.at] != '"'; s.at++ {
		if s.raw[s.at] == '\\' {
			s.at++
		}
	}
	s.at++
	var out string
	_ = json.Unmarshal(s.raw[from:s.at], &out) // it is valid
	return out
}

// prompt returns the tokens of the request's prompt.
func (b *body) prompt() int64 {
	var chars, messages int64
	for _, raw := range []json.RawMessage{b.Messages, b.System, b.Prompt, b.Input, b.Instructions, b.Contents, b.SystemInstruction} {
		c, m := text(raw)
		chars, messages = chars+c, messages+m
	}
	return max(1, (chars+3)/4+4*messages)
}

// sizes returns the lengths of a call: from the header where it says, else from the request and the configuration. n makes the draw.
func (s *Server) sizes(r *http.Request, b *body, n uint64) (c Call, err error) {
	if c.MaxOutput, err = b.limit(); err != nil {
		return c, err
	}
	c.Input = b.tokens
	c.Output = max(1, s.cfg.Output.Int(s.cfg.Upstream.Seed, streamOutput, n))
	for _, f := range []struct {
		name string
		to   *int64
	}{{"X-Sim-Input-Tokens", &c.Input}, {"X-Sim-Cached-Tokens", &c.Cached}, {"X-Sim-Output-Tokens", &c.Output}} {
		text := r.Header.Get(f.name)
		if text == "" {
			continue
		}
		v, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil || v < 0 || v > maxTokens {
			return c, &badRequest{http.StatusBadRequest, f.name, fmt.Sprintf("%s is %q, must be an integer from 0 to %d.", f.name, text, maxTokens)}
		}
		*f.to = v
	}
	c.Cached = min(c.Cached, c.Input)
	if c.MaxOutput > 0 {
		c.Output = min(c.Output, c.MaxOutput)
	}
	c.Key = credential(r)
	return c, nil
}

// streamOutput are the draws of lengths of answers.
const streamOutput draw.Stream = 200

// credential returns the key that a request was sent with; empty when there is none.
func credential(r *http.Request) string {
	if k := r.Header.Get("X-Api-Key"); k != "" {
		return k
	}
	if k := r.Header.Get("Api-Key"); k != "" { // Azure
		return k
	}
	if k := r.Header.Get("X-Goog-Api-Key"); k != "" { // Gemini
		return k
	}
	scheme, k, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(k)
	}
	return r.URL.Query().Get("key") // Gemini
}
