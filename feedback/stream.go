package feedback

import (
	"bytes"
	"strings"
	"time"
)

// StreamConfig says what a Stream reads. The zero value is a body of unknown type: it is
// read as JSON when it looks like it.
type StreamConfig struct {
	// Status is the HTTP status. Errors are looked for within 2xx answers only; zero means
	// 200. Other bodies are for Parse, and here give no more than times and usage.
	Status int
	// Header holds the header fields; an http.Header can be assigned. It is read once, by
	// NewStream. Its Content-Type tells how the body is read; a body with a
	// Content-Encoding is not read, but passes and is timed.
	Header map[string][]string
	// Provider hints at who answers, as in Answer.
	Provider string
	// Rules are the user's own, as in Answer; nil means none.
	Rules *Rules
	// Start is when the request was sent. The zero time means when the Stream was made.
	Start time.Time
	// MaxEvent is the largest event that is read, in bytes. Zero means 1 MiB. Larger events
	// pass unread. A smaller bound saves memory and may miss the usage in a large event.
	MaxEvent int
}

// defaultMaxEvent is far above the largest event seen in recorded traffic, the final
// response.completed of OpenAI's Responses API, which repeats the whole answer.
const defaultMaxEvent = 1 << 20

// Report is what is known of a body so far.
type Report struct {
	// Refused says that there is an error in the body of a 2xx answer; Signal then tells
	// which one. It is the first one; a later one changes nothing.
	Refused bool
	// Signal is the error's; else it is that of a success. It has the windows of the header.
	Signal Signal
	// Usage is what the body says was used, by the last event that told.
	Usage Usage

	// Start is when the request was sent, FirstByte when the first byte of the body came,
	// FirstToken and LastToken when the first and the last event with generated content were
	// complete, and End when the body ended. A zero time means not yet, or never.
	// FirstToken and LastToken stay zero for a body that is one JSON object.
	Start, FirstByte, FirstToken, LastToken, End time.Time
	// Bytes is the length of the body, in bytes.
	Bytes int64
	// Events counts events, keep-alive comments not included; ContentEvents those with
	// generated content; Skipped those that were larger than MaxEvent.
	Events, ContentEvents, Skipped int64
	// Complete says that the last event of a stream, or the end of a JSON body, was seen. A
	// body that ended without it was cut.
	Complete bool
}

// TimeToFirstByte returns how long after Start the first byte came.
func (r Report) TimeToFirstByte() (d time.Duration, ok bool) { return since(r.Start, r.FirstByte) }

// TimeToFirstToken returns how long after Start the first event with generated content came.
// Events that only open the answer, such as message_start, and keep-alives do not count.
func (r Report) TimeToFirstToken() (d time.Duration, ok bool) { return since(r.Start, r.FirstToken) }

func since(start, t time.Time) (time.Duration, bool) {
	if t.IsZero() {
		return 0, false
	}
	return max(t.Sub(start), 0), true
}

// TokensPerSecond returns the speed of generation, in output tokens per second, between
// the first and the last event with content:
//
//	Output * (ContentEvents-1) / ContentEvents / (LastToken-FirstToken)
//
// because the tokens of the first event were generated before it came. ok is false when the
// usage is not known, or there were fewer than two such events, or no time between them.
func (r Report) TokensPerSecond() (perSecond float64, ok bool) {
	span := r.LastToken.Sub(r.FirstToken)
	if !r.Usage.Known || r.Usage.Output == 0 || r.ContentEvents < 2 || span <= 0 {
		return 0, false
	}
	n := float64(r.ContentEvents)
	return float64(r.Usage.Output) * (n - 1) / n / span.Seconds(), true
}

// Stream reads a body in pieces, as they come, and tells what is in it: errors within a
// 2xx answer, usage, and when tokens came. It is told the time and changes no byte. It
// holds at most one incomplete event. How the body is cut into pieces changes nothing but
// the times.
//
// A Stream is not safe for concurrent use; a [Watcher] is.
type Stream struct {
	config StreamConfig
	mode   streamMode
	head   *head // nil until it is needed
	report Report
	counts usageCounts

	// Events: buf holds the beginning of the event at hand, when it did not come whole.
	buf       []byte
	join      []byte
	lineEmpty bool // nothing was seen since the last line end
	lastCR    bool // the last byte was a CR: a LF that follows belongs to it
	skipping  bool // the event at hand is too large

	json jsonScanner
	now  time.Time // of the piece at hand
	room [256]byte // where the scanner's copies begin
}

// head is what a header says.
type head struct {
	fields fields
	clock  clock
}

func readHead(header map[string][]string, now time.Time) *head {
	h := &head{}
	h.fields.read(header)
	h.clock = clock{now: instantOf(now), date: h.fields.date.values}
	return h
}

// streamMode is how a body is read.
type streamMode uint8

const (
	modeJSON   streamMode = iota // one object, or an array of events
	modeEvents                   // server-sent events
	modeLines                    // one JSON object a line
	modeBinary                   // not at all
)

// NewStream returns a Stream for a body that begins at now.
func NewStream(c StreamConfig, now time.Time) *Stream {
	s := newStream(c, now)
	s.head = readHead(c.Header, now)
	f := &s.head.fields
	s.report.Signal.Windows = f.windows(nil, &s.head.clock)
	contentType := f.contentType.first()
	switch {
	case compressed(c.Header):
		s.mode = modeBinary
	case f.eventStream():
		s.mode = modeEvents
	case mediaType(contentType, "application/x-ndjson"), mediaType(contentType, "application/jsonl"),
		mediaType(contentType, "application/stream+json"):
		s.mode = modeLines
	case mediaTypePrefix(contentType, "application/grpc"), mediaTypePrefix(contentType, "application/octet-stream"),
		mediaTypePrefix(contentType, "application/vnd.amazon.eventstream"), mediaTypePrefix(contentType, "audio/"),
		mediaTypePrefix(contentType, "image/"), mediaTypePrefix(contentType, "video/"):
		s.mode = modeBinary
	}
	s.counts.input = tokens(value(f.bedrockInputTokens.first()), s.counts.input)
	s.counts.output = tokens(value(f.bedrockOutputs.first()), s.counts.output)
	return s
}

// newStream returns a Stream that reads JSON and has not looked at the header.
func newStream(c StreamConfig, now time.Time) *Stream {
	if c.Status == 0 {
		c.Status = 200
	}
	if c.MaxEvent <= 0 {
		c.MaxEvent = defaultMaxEvent
	}
	if c.Start.IsZero() {
		c.Start = now
	}
	s := &Stream{config: c, counts: noCounts, lineEmpty: true}
	s.report.Start = c.Start
	s.json.buf = s.room[:0]
	return s
}

// compressed reports whether the body is still encoded, so that it cannot be read.
func compressed(header map[string][]string) bool {
	for name, values := range header {
		if !strings.EqualFold(name, "content-encoding") {
			continue
		}
		for _, v := range values {
			if v = trimSpace(v); v != "" && !strings.EqualFold(v, "identity") {
				return true
			}
		}
	}
	return false
}

// Scan takes the next piece of the body, which came at now. It keeps no reference to p.
func (s *Stream) Scan(p []byte, now time.Time) {
	if len(p) == 0 {
		return
	}
	if s.report.FirstByte.IsZero() {
		s.report.FirstByte = now
	}
	s.report.Bytes += int64(len(p))
	s.now = now
	switch s.mode {
	case modeEvents:
		s.scanEvents(p)
	case modeLines:
		s.scanLines(p)
	case modeJSON:
		for len(p) > 0 && s.json.base >= 0 {
			n, object := s.json.scan(p)
			if object != nil {
				s.object(object)
			}
			p = p[n:]
		}
	}
}

// Finish says that the body ended at now, whole or not. What comes later is not counted.
// Finishing twice is allowed; the first time counts.
func (s *Stream) Finish(now time.Time) {
	if !s.report.End.IsZero() {
		return
	}
	s.now = now
	if len(s.buf) > 0 && !s.skipping {
		s.block(s.buf) // the last event lacks its empty line
	}
	s.buf, s.join = nil, nil
	s.mode = modeBinary
	s.report.End = now
	s.report.Complete = s.report.Complete || s.json.closed
	s.json = jsonScanner{jsonCursor: jsonCursor{base: -1}}
}

// beganAfter is how many events of a stream of which nobody knows what content is say that its answer has begun: more than any API
// sends to open an answer.
const beganAfter = 8

// Began reports whether the answer has begun and is not complete: there was generated content, or there were so many events that they cannot
// all have only opened it, and no error. It may be called at any time, and costs nothing.
func (s *Stream) Began() bool {
	r := &s.report
	return (r.ContentEvents > 0 || r.Events >= beganAfter) && !r.Refused && !r.Complete
}

// Report returns what is known so far. It may be called at any time.
func (s *Stream) Report() Report {
	r := s.report
	r.Usage = s.counts.usage()
	r.Complete = r.Complete || s.json.closed
	return r
}

// scanEvents cuts server-sent events out of the pieces. An event that lies within one
// piece is read where it is; the parts of others are collected.
func (s *Stream) scanEvents(p []byte) {
	start := 0 // of the event at hand, in p
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '\n' && s.lastCR:
			s.lastCR = false // the second half of CR LF; before an event it is an empty line
		case c == '\n' || c == '\r':
			s.lastCR = c == '\r'
			if s.lineEmpty {
				s.endEvent(p[start:i])
				start = i + 1
			}
			s.lineEmpty = true
		default:
			s.lineEmpty, s.lastCR = false, false
			// Most bytes are the inside of a line.
			if n := lineEnd(p[i:]); n < 0 {
				i = len(p) - 1
			} else {
				i += n - 1
			}
		}
	}
	s.hold(p[start:])
}

// scanLines cuts lines out of the pieces; each one is an event.
func (s *Stream) scanLines(p []byte) {
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			s.hold(p)
			return
		}
		s.endEvent(p[:i])
		p = p[i+1:]
	}
}

// hold keeps the beginning of an event whose rest is still to come.
func (s *Stream) hold(part []byte) {
	if s.skipping || len(part) == 0 {
		return
	}
	if len(s.buf)+len(part) > s.config.MaxEvent {
		s.skip()
		return
	}
	s.buf = append(s.buf, part...)
}

func (s *Stream) skip() {
	s.skipping = true
	s.buf = s.buf[:0]
	s.report.Skipped++
}

// endEvent takes the last part of an event.
func (s *Stream) endEvent(part []byte) {
	switch {
	case s.skipping:
		s.skipping = false
	case len(s.buf)+len(part) > s.config.MaxEvent:
		s.skip()
		s.skipping = false
	case len(s.buf) == 0:
		s.block(part)
	default:
		s.buf = append(s.buf, part...)
		s.block(s.buf)
	}
	s.buf = s.buf[:0]
}

// block takes a whole event.
func (s *Stream) block(b []byte) {
	if s.mode == modeLines {
		s.event(event{data: b})
		return
	}
	s.event(parseEvent(b, &s.join))
}

// event reads an event: an error first, then usage and content.
func (s *Stream) event(e event) {
	data := bytes.TrimSpace(e.data)
	if len(data) == 0 && len(e.name) == 0 {
		return // comments only
	}
	s.report.Events++
	if string(data) == "[DONE]" {
		s.report.Complete = true
		return
	}
	suspected := s.observe(value(data)) || string(e.name) == "error" || len(data) > 0 && data[0] == '['
	if suspected && s.lookForErrors() {
		if d, found := errorEvent(e); found {
			s.refuse(evidence{document: d, status: e.status})
		}
	}
}

// object takes an object that the JSON scanner found.
func (s *Stream) object(b []byte) {
	if s.json.base == 2 {
		s.report.Events++
	}
	if s.lookForErrors() && suspect(b) {
		d := readDocument(b)
		if d.root != nil && (s.json.base == 2 && !d.root.get("error").empty() || s.json.base == 1 && isError(d.root, s.config.Status)) {
			s.refuse(evidence{document: d})
		}
	}
	s.observe(value(b))
}

func (s *Stream) lookForErrors() bool {
	return !s.report.Refused && 200 <= s.config.Status && s.config.Status < 300
}

// refuse notes an error within a 2xx answer.
func (s *Stream) refuse(e evidence) {
	e.inOK, e.provider, e.rules = true, s.config.Provider, s.config.Rules
	e.header, e.sentStatus = s.config.Header, s.config.Status
	if s.head == nil {
		s.head = readHead(s.config.Header, s.now)
		s.report.Signal.Windows = s.head.fields.windows(nil, &s.head.clock)
	}
	e.windows = s.report.Signal.Windows
	windows := s.report.Signal.Windows
	s.report.Signal = e.signal(&s.head.fields, &s.head.clock)
	s.report.Signal.Windows = windows
	s.report.Refused = s.report.Signal.Class != OK
}

// observe takes usage, content and the end from an event's object, and reports whether it may be an error.
func (s *Stream) observe(v value) (suspect bool) {
	content, last, suspect := s.counts.observe(v)
	if last {
		s.report.Complete = true
	}
	if content && !(s.mode == modeJSON && s.json.base == 1) {
		s.report.ContentEvents++
		if s.report.FirstToken.IsZero() {
			s.report.FirstToken = s.now
		}
		s.report.LastToken = s.now
	}
	return suspect
}
