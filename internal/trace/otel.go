package trace

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// otlp is a line of OpenTelemetry's OTLP in JSON, as the collector's file exporter writes it.
type otlp struct {
	ResourceSpans []struct {
		ScopeSpans []struct {
			Spans []otelSpan `json:"spans"`
		} `json:"scopeSpans"`
	} `json:"resourceSpans"`
}

type otelSpan struct {
	TraceID    string          `json:"traceId"`
	SpanID     string          `json:"spanId"`
	Start      json.RawMessage `json:"startTimeUnixNano"`
	End        json.RawMessage `json:"endTimeUnixNano"`
	Attributes []struct {
		Key   string                     `json:"key"`
		Value map[string]json.RawMessage `json:"value"`
	} `json:"attributes"`
	Status struct {
		Code json.RawMessage `json:"code"`
	} `json:"status"`
}

// otelNames are the attributes of calls of language models (semantic conventions for generative AI, and their names before 1.27), by
// field; the first that is there counts.
var otelNames = map[string][]string{
	"in":     {"gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"},
	"out":    {"gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"},
	"cached": {"gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"},
	"tenant": {"gen_ai.request.model"}, // the convention has no other label of who asked
	"status": {"http.response.status_code", "http.status_code"},
}

// otelAround are the operations (gen_ai.operation.name) that are no calls of a model, but go around some, whose spans are there as well: with them
// each call, and each token, would be there twice.
var otelAround = map[string]bool{"create_agent": true, "invoke_agent": true, "invoke_workflow": true, "execute_tool": true, "retrieval": true}

// otel reads a line of spans. Spans that are no calls of a language model are left out.
func (t *Trace) otel(m *maker, n int, line []byte) error {
	var spans otlp
	if err := json.Unmarshal(line, &spans); err != nil {
		return &RowError{File: t.Name, Row: n, Text: "is no OTLP in JSON: " + err.Error(), Fix: "write the file with the collector's file exporter, format json"}
	}
	for _, r := range spans.ResourceSpans {
		for _, s := range r.ScopeSpans {
			for i := range s.Spans {
				cells, ok := s.Spans[i].cells()
				if !ok || t.before(&s.Spans[i]) {
					continue
				}
				row, err := m.row(n, func(column string) (string, bool) { v, ok := cells[column]; return v, ok })
				if err == nil {
					err = t.add(m, n, row, nil)
				}
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// before reports whether a span was there before: an exporter or a collector that saw no answer sends a batch again.
func (t *Trace) before(s *otelSpan) bool {
	if s.TraceID == "" || s.SpanID == "" {
		return false
	}
	key := s.TraceID + "/" + s.SpanID + "/" + plainText(s.Start)
	if _, ok := t.spans[key]; ok {
		t.twice++
		return true
	}
	if t.spans == nil {
		t.spans = map[string]struct{}{}
	}
	t.spans[key] = struct{}{}
	return false
}

// cells are the fields of a span; ok is false for one that is no call of a language model.
func (s *otelSpan) cells() (cells map[string]string, ok bool) {
	cells = map[string]string{"t": plainText(s.Start), "end": plainText(s.End)}
	attributes := map[string]string{}
	for _, a := range s.Attributes {
		if strings.HasPrefix(a.Key, "gen_ai.") {
			ok = true
		}
		for _, v := range a.Value { // one of stringValue, intValue, doubleValue, ...
			attributes[a.Key] = plainText(v)
		}
	}
	for field, names := range otelNames {
		for _, name := range names {
			if v := attributes[name]; v != "" {
				cells[field] = v
				break
			}
		}
	}
	if cells["status"] == "" {
		cells["status"] = "200"
		if code := plainText(s.Status.Code); code == "2" || code == "STATUS_CODE_ERROR" || attributes["error.type"] != "" {
			cells["status"] = failure(attributes["error.type"])
		}
	}
	return cells, ok && !otelAround[attributes["gen_ai.operation.name"]]
}

// failure returns the status that error.type stands for: most spans of models have no other. It is the provider's code, a status, or the name of an
// exception, such as RateLimitError of the SDKs of OpenAI and Anthropic; "0" is something else.
func failure(kind string) string {
	if n, err := strconv.Atoi(kind); err == nil && n >= 400 && n <= 599 {
		return kind
	}
	word := strings.ReplaceAll(strings.ToLower(kind), "_", "")
	if strings.Contains(word, "ratelimit") || strings.Contains(word, "toomanyrequests") || strings.Contains(word, "resourceexhausted") ||
		strings.Contains(word, "throttl") { // Bedrock's ThrottlingException
		return "429"
	}
	return "0"
}

// plainText is a JSON string or number as text.
func plainText(raw json.RawMessage) string {
	var s string
	if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// otelColumns are what cells names, with OTLP's unit.
func otelColumns() Columns {
	c := Columns{}
	for _, f := range []string{"t", "end", "in", "out", "cached", "tenant", "status"} {
		col := Column{Name: f}
		if f == "t" || f == "end" {
			col.Unit = units["ns"]
		}
		c[f] = col
	}
	return c
}

// noSpans says that a file has spans, and none of a language model.
func noSpans(name string) error {
	return &RowError{File: name, Row: 1, Text: fmt.Sprintf("has no span with an attribute %s", "gen_ai.…"), Fix: "instrument the client with the semantic conventions for generative AI, or read another format"}
}
