package modelserver

import (
	"net/http"
	"strings"
)

// geminiShapes are what can be asked of a model, by what follows the colon.
var geminiShapes = map[string]*shape{
	"generateContent":       {generates: true, api: gemini, whole: contentWhole},
	"streamGenerateContent": {generates: true, api: gemini, whole: contentList, stream: newContentStream},
}

// ofGemini reads what Gemini's requests have elsewhere: the model and the stream in the URL, the most tokens in generationConfig.
func (b *body) ofGemini(r *http.Request) {
	_, rest, _ := strings.Cut(r.URL.Path, "/models/")
	name, method, _ := strings.Cut(rest, ":")
	b.Model = name
	b.MaxOutputTokens = b.GenerationConfig.MaxOutputTokens
	b.Stream = method == "streamGenerateContent" && r.URL.Query().Get("alt") == "sse"
}

// geminiStatus is Google's word for a status.
func geminiStatus(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "INVALID_ARGUMENT"
	case http.StatusUnauthorized:
		return "UNAUTHENTICATED"
	case http.StatusForbidden:
		return "PERMISSION_DENIED"
	case http.StatusNotFound:
		return "NOT_FOUND"
	case http.StatusTooManyRequests:
		return "RESOURCE_EXHAUSTED"
	case http.StatusServiceUnavailable:
		return "UNAVAILABLE"
	}
	return "INTERNAL"
}

func geminiModel(name string) object {
	return object{"name": "models/" + name, "displayName": name, "supportedGenerationMethods": []string{"generateContent", "streamGenerateContent"}}
}

// content is a response, or a part of one that streams; finish is empty in the middle.
func content(w *writer, c *Call, text, finish string, output int64) object {
	candidate := object{"content": object{"role": "model", "parts": []object{{"text": text}}}, "index": 0}
	if finish != "" {
		candidate["finishReason"] = finish
	}
	usage := object{"promptTokenCount": c.Input, "candidatesTokenCount": output, "totalTokenCount": c.Input + output}
	if c.Cached > 0 {
		usage["cachedContentTokenCount"] = c.Cached
	}
	return object{"candidates": []object{candidate}, "usageMetadata": usage, "modelVersion": w.model, "responseId": w.name("resp-")}
}

func contentWhole(w *writer, _ *body, c *Call) {
	w.json(content(w, c, filler(c.Output), c.finish("MAX_TOKENS", "STOP"), c.Output))
}

// contentList is a stream without alt=sse: a list, which has everything in its one element.
func contentList(w *writer, _ *body, c *Call) {
	w.json([]object{content(w, c, filler(c.Output), c.finish("MAX_TOKENS", "STOP"), c.Output)})
}

type contentStream struct {
	w *writer
	c *Call
}

func newContentStream(w *writer, _ *body, c *Call) streamer { return &contentStream{w, c} }

func (s *contentStream) begin() {}

func (s *contentStream) more(i int64) { s.w.event("", content(s.w, s.c, word(i), "", i+1)) }

func (s *contentStream) end() {
	s.w.event("", content(s.w, s.c, "", s.c.finish("MAX_TOKENS", "STOP"), s.c.Output))
}
