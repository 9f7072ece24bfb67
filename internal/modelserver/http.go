package modelserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/flyball-go/flyball/internal/upstream"
)

// api is whose words an error has that is not the upstream's.
type api uint8

const (
	openai api = iota
	anthropic
	gemini
)

// shape is one kind of answer.
type shape struct {
	api       api  // in errors
	generates bool // has an output at all
	needsMax  bool // max_tokens is required
	whole     func(w *writer, b *body, c *Call)
	stream    func(w *writer, b *body, c *Call) streamer // nil: it does not stream
}

var shapes = map[string]*shape{
	"chat/completions": {generates: true, whole: chatWhole, stream: newChatStream},
	"completions":      {generates: true, whole: completionWhole, stream: newCompletionStream},
	"responses":        {generates: true, whole: responseWhole, stream: newResponseStream},
	"embeddings":       {whole: embeddings},
	"messages":         {generates: true, api: anthropic, needsMax: true, whole: messageWhole, stream: newMessageStream},
}

// route returns the shape that a path asks for, and what follows /v1/.
func route(path string) (*shape, string) {
	if _, rest, ok := strings.Cut(path, "/models/"); ok {
		if name, method, ok := strings.Cut(rest, ":"); ok && name != "" {
			return geminiShapes[method], rest
		}
	}
	_, rest, ok := strings.Cut(path, "/v1/")
	if !ok {
		_, rest, ok = strings.Cut(path, "/v1beta/")
	}
	if !ok {
		// Azure: /openai/deployments/NAME/chat/completions
		if _, after, found := strings.Cut(path, "/deployments/"); found {
			_, rest, _ = strings.Cut(after, "/")
		}
	}
	return shapes[rest], rest
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		w.Header().Set("Connection", "close")
		fail(w, openai, http.StatusServiceUnavailable, "server_error", "", "The server is shutting down.")
		return
	}
	s.serving.Add(1)
	s.calls++
	n := s.calls // for the name of the request
	s.mu.Unlock()
	defer s.serving.Done()

	id := "req-" + strconv.FormatUint(n, 10)
	w.Header().Set("X-Request-Id", id)
	sh, rest := route(r.URL.Path)
	switch {
	case sh == nil && (rest == "models" || strings.HasPrefix(rest, "models/")):
		s.models(w, r, rest)
		return
	case sh == nil:
		s.invalid()
		fail(w, openai, http.StatusNotFound, "invalid_request_error", "", "Unknown request URL: "+r.Method+" "+r.URL.Path+". This server has /v1/chat/completions, completions, embeddings, responses, messages and models, and /v1beta/models/NAME:generateContent and :streamGenerateContent.")
		return
	case r.Method != http.MethodPost:
		s.invalid()
		w.Header().Set("Allow", http.MethodPost)
		fail(w, sh.api, http.StatusMethodNotAllowed, "invalid_request_error", "", "Not allowed to "+r.Method+" on "+r.URL.Path+": use POST.")
		return
	}
	if err := s.answer(w, r, sh, n); err != nil {
		var bad *badRequest
		switch {
		case errors.As(err, &bad):
			s.invalid()
			fail(w, sh.api, bad.status, "invalid_request_error", bad.param, bad.text)
		case errors.Is(err, errKey):
			fail(w, sh.api, http.StatusUnauthorized, "authentication_error", "", "Incorrect API key provided.")
		case errors.Is(err, ErrClosed):
			fail(w, sh.api, http.StatusServiceUnavailable, "server_error", "", "The server is shutting down.")
		}
	}
}

func (s *Server) invalid() {
	s.mu.Lock()
	s.total.Invalid++
	s.mu.Unlock()
}

// answer makes a call and answers with it. It returns an error only while nothing was written.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, sh *shape, n uint64) error {
	b, err := s.parse(w, r)
	if err != nil {
		return err
	}
	if sh.api == gemini {
		b.ofGemini(r)
	}
	if b.Model == "" {
		return &badRequest{http.StatusBadRequest, "model", "You must provide a model parameter."}
	}
	if sh.needsMax && b.MaxTokens == nil {
		return &badRequest{http.StatusBadRequest, "max_tokens", "max_tokens: Field required"}
	}
	c, err := s.sizes(r, b, n)
	if err != nil {
		return err
	}
	if !sh.generates {
		c.Output, c.MaxOutput = 0, 0
	}
	ctx := r.Context()
	network := s.network()
	if err := sleep(ctx, network/2); err != nil {
		return nil // the caller is gone
	}
	id, f, err := s.submit(&c)
	if err != nil {
		return err
	}
	out := &writer{w: w, ctx: ctx, id: n, model: b.Model, delay: network / 2, created: time.Now()}
	if b.Stream && sh.stream != nil {
		return s.stream(out, id, f, sh, b, &c)
	}
	for {
		n, err := s.news(ctx, id, f)
		if err != nil {
			s.ended(c.Key, nil, false)
			if errors.Is(err, ErrClosed) {
				return err
			}
			return nil
		}
		if n.reply == nil {
			continue
		}
		s.ended(c.Key, n.reply, !n.refused)
		if n.refused {
			s.refuse(out, n.reply, sh)
			return nil
		}
		s.used(c.Key, c.Input, c.Output)
		if sleep(ctx, out.delay) != nil {
			return nil
		}
		out.header(n.reply)
		sh.whole(out, b, &c)
		return nil
	}
}

// streamer writes the events of one stream.
type streamer interface {
	begin()
	more(tokens int64) // tokens from the start of the answer, in order, each once
	end()
}

// stream answers with events as the answer grows.
func (s *Server) stream(out *writer, id uint64, f *flight, sh *shape, b *body, c *Call) error {
	var (
		st   streamer
		told int64
	)
	for {
		n, err := s.news(out.ctx, id, f)
		if err != nil {
			s.ended(c.Key, nil, false)
			if errors.Is(err, ErrClosed) && st == nil {
				return err
			}
			if st != nil {
				panic(http.ErrAbortHandler) // the stream must not look complete
			}
			return nil
		}
		if n.refused {
			s.ended(c.Key, n.reply, false)
			s.refuse(out, n.reply, sh)
			return nil
		}
		if st == nil {
			if sleep(out.ctx, out.delay) != nil {
				s.cancel(id, f)
				s.ended(c.Key, nil, false)
				return nil
			}
			reply := n.header
			if reply == nil {
				reply = n.reply
			}
			out.header(reply)
			out.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			out.w.Header().Set("Cache-Control", "no-cache")
			st = sh.stream(out, b, c)
			st.begin()
		}
		for ; told < n.tokens; told++ {
			st.more(told)
			if len(out.buf) > 1<<16 {
				out.flush()
				if out.ctx.Err() != nil {
					break // nobody reads what is left
				}
			}
		}
		if n.reply != nil {
			s.ended(c.Key, n.reply, true)
			s.used(c.Key, c.Input, c.Output)
			if told < n.tokens {
				panic(http.ErrAbortHandler) // as above: who sends no more may still read
			}
			st.end()
			out.flush()
			return nil
		}
		out.flush()
	}
}

// refuse writes a refusal of the upstream.
func (s *Server) refuse(out *writer, reply *upstream.Reply, sh *shape) {
	if sleep(out.ctx, out.delay) != nil {
		return
	}
	out.header(reply)
	if len(reply.Body) > 0 {
		out.w.WriteHeader(reply.Status)
		_, _ = out.w.Write(reply.Body)
		return
	}
	kind := "server_error"
	if reply.Status == http.StatusTooManyRequests {
		kind = "rate_limit_error"
	}
	fail(out.w, sh.api, reply.Status, kind, "", http.StatusText(reply.Status))
}

// writer writes one answer.
type writer struct {
	w       http.ResponseWriter
	ctx     context.Context
	id      uint64
	model   string
	delay   time.Duration
	created time.Time
	buf     []byte
}

// header sets the header fields of a reply, which may be nil.
func (w *writer) header(r *upstream.Reply) {
	h := w.w.Header()
	if r == nil {
		return
	}
	for name, values := range r.Header {
		h[name] = values
	}
}

// json writes an answer as a whole.
func (w *writer) json(v any) {
	w.w.Header().Set("Content-Type", "application/json")
	data, err := json.Marshal(v)
	if err != nil { // of maps, strings and numbers: cannot be
		http.Error(w.w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	w.w.WriteHeader(http.StatusOK)
	_, _ = w.w.Write(append(data, '\n'))
}

// event adds a server-sent event; flush sends what was added. name is empty for events without one.
func (w *writer) event(name string, v any) {
	if name != "" {
		w.buf = append(w.buf, "event: "...)
		w.buf = append(w.buf, name...)
		w.buf = append(w.buf, '\n')
	}
	w.buf = append(w.buf, "data: "...)
	if s, ok := v.(string); ok {
		w.buf = append(w.buf, s...)
	} else {
		w.add(v)
	}
	w.buf = append(w.buf, '\n', '\n')
}

// add adds a value as JSON.
func (w *writer) add(v any) {
	if data, err := json.Marshal(v); err == nil {
		w.buf = append(w.buf, data...)
	}
}

func (w *writer) flush() {
	_, _ = w.w.Write(w.buf)
	w.buf = w.buf[:0]
	_ = http.NewResponseController(w.w).Flush()
}

// object is a JSON object.
type object map[string]any

// fail writes an error that is not the upstream's.
func fail(w http.ResponseWriter, whose api, status int, kind, param, message string) {
	w.Header().Set("Content-Type", "application/json")
	var v object
	switch whose {
	case anthropic:
		v = object{"type": "error", "error": object{"type": kind, "message": message}}
	case gemini:
		v = object{"error": object{"code": status, "message": message, "status": geminiStatus(status)}}
	default:
		e := object{"message": message, "type": kind, "param": nil, "code": nil}
		if param != "" {
			e["param"] = param
		}
		if status == http.StatusUnauthorized {
			e["code"] = "invalid_api_key"
		}
		v = object{"error": e}
	}
	w.WriteHeader(status)
	data, _ := json.Marshal(v)
	_, _ = w.Write(append(data, '\n'))
}

// models lists the models, as Anthropic does for those who name a version of its API, and as Gemini does for those who send a key as
// its clients do, which call /v1 as well as /v1beta.
func (s *Server) models(w http.ResponseWriter, r *http.Request, rest string) {
	whose := openai
	switch {
	case strings.Contains(r.URL.Path, "/v1beta/"), r.Header.Get("X-Goog-Api-Key") != "", r.URL.Query().Has("key"):
		whose = gemini
	case r.Header.Get("Anthropic-Version") != "":
		whose = anthropic
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.invalid()
		w.Header().Set("Allow", http.MethodGet)
		fail(w, whose, http.StatusMethodNotAllowed, "invalid_request_error", "", "Not allowed to "+r.Method+" on "+r.URL.Path+": use GET.")
		return
	}
	if s.keys != nil {
		if _, ok := s.keys[credential(r)]; !ok {
			fail(w, whose, http.StatusUnauthorized, "authentication_error", "", "Incorrect API key provided.")
			return
		}
	}
	model := func(name string) object {
		switch whose {
		case gemini:
			return geminiModel(name)
		case anthropic:
			return object{"type": "model", "id": name, "display_name": name, "created_at": s.origin.UTC().Format(time.RFC3339)}
		}
		return object{"id": name, "object": "model", "created": s.origin.Unix(), "owned_by": "simulation"}
	}
	out := &writer{w: w}
	if name, one := strings.CutPrefix(rest, "models/"); one {
		for _, m := range s.cfg.Models {
			if m == name {
				out.json(model(m))
				return
			}
		}
		fail(w, whose, http.StatusNotFound, "not_found_error", "model", "The model '"+name+"' does not exist.")
		return
	}
	var all []object
	for _, m := range s.cfg.Models {
		all = append(all, model(m))
	}
	if whose == gemini {
		out.json(object{"models": all})
		return
	}
	if whose == anthropic {
		out.json(object{"data": all, "has_more": false, "first_id": s.cfg.Models[0], "last_id": s.cfg.Models[len(s.cfg.Models)-1]})
		return
	}
	out.json(object{"object": "list", "data": all})
}
