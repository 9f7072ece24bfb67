// Package trace makes spans of calls in the form of OpenTelemetry: it reads and writes W3C trace context, and sends spans by OTLP over HTTP
// in JSON. It does no more than the gateway needs, which OpenTelemetry's own SDK would bring some forty modules for.
package trace

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Context is where a span is in a trace. The zero Context is none.
type Context struct {
	Trace   [16]byte
	Span    [8]byte
	Parent  [8]byte // zero for a trace that begins here
	Sampled bool
}

// Valid reports whether there is a span.
func (c Context) Valid() bool { return c.Trace != [16]byte{} }

// Header returns the value of traceparent for what is called by this span.
func (c Context) Header() string {
	flags := "00"
	if c.Sampled {
		flags = "01"
	}
	return "00-" + hex.EncodeToString(c.Trace[:]) + "-" + hex.EncodeToString(c.Span[:]) + "-" + flags
}

// Parse reads a traceparent (W3C Trace Context, 3.2). The Span is the caller's.
func Parse(s string) (c Context, ok bool) {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || len(s) > 55 && (s[:2] == "00" || s[55] != '-') {
		return Context{}, false
	}
	var version, flags [1]byte
	for _, part := range []struct {
		to []byte
		at string
	}{{version[:], s[:2]}, {c.Trace[:], s[3:35]}, {c.Span[:], s[36:52]}, {flags[:], s[53:55]}} {
		for i := range len(part.at) {
			if ch := part.at[i]; ch >= 'A' && ch <= 'F' {
				return Context{}, false
			}
		}
		if _, err := hex.Decode(part.to, []byte(part.at)); err != nil {
			return Context{}, false
		}
	}
	c.Sampled = flags[0]&1 == 1
	return c, version[0] != 0xff && c.Valid() && c.Span != [8]byte{}
}

// Config is what a Tracer is made from.
type Config struct {
	// Endpoint is the URL that spans are sent to.
	Endpoint string
	// Sample is the share of the traces that begin here and are sent (0 to 1).
	Sample float64
	// OnError is told when spans could not be sent, at most once a minute. nil tells nobody.
	OnError func(error)
}

// Tracer makes spans and sends those that are sampled. Its methods may be called by any number of goroutines; those of a nil
// Tracer do nothing.
type Tracer struct {
	cfg    Config
	queue  chan span
	client *http.Client
	lost   atomic.Uint64
	told   time.Time // of the goroutine of Run
}

const (
	waiting = 4096 // spans that wait to be sent; more are lost
	batch   = 512
	every   = time.Second
	timeout = 5 * time.Second
)

// New returns a tracer. Nothing is sent before Run.
func New(cfg Config) *Tracer {
	return &Tracer{cfg: cfg, queue: make(chan span, waiting), client: &http.Client{Timeout: timeout}}
}

// Start returns the span of a call that comes with the given header.
func (t *Tracer) Start(h http.Header) Context {
	if t == nil {
		return Context{}
	}
	c, ok := Parse(h.Get("Traceparent"))
	if ok {
		c.Parent = c.Span
	} else {
		c = Context{Sampled: t.cfg.Sample >= 1 || mrand.Float64() < t.cfg.Sample}
		_, _ = rand.Read(c.Trace[:]) // it does not fail
	}
	_, _ = rand.Read(c.Span[:])
	return c
}

// Attr is an attribute of a span: a string, an int64, a float64 or a bool.
type Attr struct {
	Key   string
	Value any
}

type span struct {
	Context
	name       string
	start, end time.Time
	failed     string
	attrs      []Attr
}

// End sends a span. failed is what went wrong, empty for nothing.
func (t *Tracer) End(c Context, name string, start, end time.Time, failed string, attrs ...Attr) {
	if t == nil || !c.Sampled {
		return
	}
	select {
	case t.queue <- span{c, name, start, end, failed, attrs}:
	default:
		t.lost.Add(1)
	}
}

// Lost returns how many spans were not sent.
func (t *Tracer) Lost() uint64 {
	if t == nil {
		return 0
	}
	return t.lost.Load()
}

// Run sends spans until ctx ends, and then those that are left.
func (t *Tracer) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	defer t.client.CloseIdleConnections()
	var spans []span
	for {
		full := false
		select {
		case s := <-t.queue:
			spans = append(spans, s)
			full = len(spans) >= batch
		case <-tick.C:
			full = len(spans) > 0
		case <-ctx.Done():
			for {
				select {
				case s := <-t.queue:
					spans = append(spans, s)
					continue
				default:
				}
				break
			}
			if len(spans) > 0 {
				t.send(spans)
			}
			return
		}
		if full {
			t.send(spans)
			spans = spans[:0]
		}
	}
}

// send posts spans, or loses them.
func (t *Tracer) send(spans []span) {
	body, err := json.Marshal(request(spans))
	if err == nil {
		err = t.post(body)
	}
	if err == nil {
		return
	}
	t.lost.Add(uint64(len(spans)))
	if now := time.Now(); t.cfg.OnError != nil && now.Sub(t.told) > time.Minute {
		t.told = now
		t.cfg.OnError(err)
	}
}

func (t *Tracer) post(body []byte) error {
	resp, err := t.client.Post(t.cfg.Endpoint, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode >= 300 {
		return fmt.Errorf("trace: %s answers with %s", t.cfg.Endpoint, resp.Status)
	}
	return nil
}

type object = map[string]any

// request returns an ExportTraceServiceRequest (opentelemetry-proto, JSON mapping: identifiers in hexadecimal, 64-bit numbers as strings).
func request(spans []span) object {
	list := make([]object, len(spans))
	for i := range spans {
		s := &spans[i]
		o := object{
			"traceId": hex.EncodeToString(s.Trace[:]), "spanId": hex.EncodeToString(s.Span[:]), "name": s.name, "kind": 2, // of a server
			"startTimeUnixNano": strconv.FormatInt(s.start.UnixNano(), 10), "endTimeUnixNano": strconv.FormatInt(s.end.UnixNano(), 10),
			"attributes": attributes(s.attrs),
		}
		if s.Parent != [8]byte{} {
			o["parentSpanId"] = hex.EncodeToString(s.Parent[:])
		}
		if s.failed != "" {
			o["status"] = object{"code": 2, "message": s.failed}
		}
		list[i] = o
	}
	return object{"resourceSpans": []object{{
		"resource":   object{"attributes": attributes([]Attr{{"service.name", "flyball-gateway"}})},
		"scopeSpans": []object{{"scope": object{"name": "github.com/flyball-go/flyball/gateway"}, "spans": list}},
	}}}
}

func attributes(attrs []Attr) []object {
	list := make([]object, 0, len(attrs))
	for _, a := range attrs {
		var v object
		switch x := a.Value.(type) {
		case int64:
			v = object{"intValue": strconv.FormatInt(x, 10)}
		case float64:
			v = object{"doubleValue": x}
		case bool:
			v = object{"boolValue": x}
		default:
			v = object{"stringValue": fmt.Sprint(x)}
		}
		list = append(list, object{"key": a.Key, "value": v})
	}
	return list
}
