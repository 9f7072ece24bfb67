package drain

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/flyball-go/flyball/feedback"
)

// Result is the answer to a job.
type Result struct {
	// ID is the job's custom_id, Hash its content.
	ID   string
	Hash Hash
	// Status is the HTTP status, RequestID the upstream's name for the request; empty when it gave none.
	Status    int
	RequestID string
	// Body is the answer's body as it came.
	Body []byte
	// Usage is what the answer says it used.
	Usage feedback.Usage
	// Attempts is how many times the job was sent in this run (>= 1).
	Attempts int
}

const resultPrefix = "batch_req_"

// AppendJSON appends the result as a line of the batch format's output, without the end of the line. A body that is JSON is
// in it as JSON, another one that is text as a string, and one that is no text, such as audio, in "body_base64". The line's "id" holds the hash.
func (r *Result) AppendJSON(b []byte) []byte {
	b = r.appendIDs(b)
	b = append(b, `,"response":`...)
	if utf8.Valid(r.Body) || json.Valid(r.Body) {
		b = appendResponse(b, r.Status, r.RequestID, r.Body)
	} else {
		b = appendHead(b, r.Status, r.RequestID)
		b = append(b, `,"body_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, r.Body)
		b = append(b, `"}`...)
	}
	return append(b, `,"error":null}`...)
}

// AppendTooLarge appends a line without an answer, whose error has the code answer_too_large: what goes to a queue of replies, named by where, in the
// place of a result that is larger than it takes.
func (r *Result) AppendTooLarge(b []byte, where string) []byte {
	b = r.appendIDs(b)
	b = append(b, `,"response":null,"error":{"code":"`+ReasonAnswer+`","message":`...)
	b = appendString(b, fmt.Sprintf("the answer has %d bytes, too many for %s; it is in the results only", len(r.Body), where))
	return append(b, `}}`...)
}

// appendIDs appends the beginning of a line.
func (r *Result) appendIDs(b []byte) []byte {
	b = append(b, `{"id":"`+resultPrefix...)
	b = appendHex(b, r.Hash)
	b = append(b, `","custom_id":`...)
	return appendString(b, r.ID)
}

func appendHex(b []byte, h Hash) []byte {
	const digits = "0123456789abcdef"
	for _, c := range h {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}

// appendHead appends what a response has before its body.
func appendHead(b []byte, status int, requestID string) []byte {
	b = append(b, `{"status_code":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, `,"request_id":`...)
	return appendString(b, requestID)
}

func appendResponse(b []byte, status int, requestID string, body []byte) []byte {
	b = appendHead(b, status, requestID)
	b = append(b, `,"body":`...)
	b = appendBody(b, body)
	return append(b, '}')
}

// appendBody appends a body as JSON on one line. One that is nested so deep that nothing could read the line again is a string in it. JSON that
// has in its strings what is no text has U+FFFD there instead: a file with such a line could not be read as text at all.
func appendBody(b, body []byte) []byte {
	if !utf8.Valid(body) {
		body = bytes.ToValidUTF8(body, []byte("\ufffd"))
	}
	switch ok, spaced := valid(body, nesting-wrapping); {
	case !ok:
		return appendString(b, string(body))
	case spaced:
		return compact(b, body)
	}
	return append(b, body...)
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			q, err := json.Marshal(s)
			if err != nil {
				return append(b, `""`...) // a string always has a form
			}
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// resultLine is what is read back of a line that AppendJSON wrote.
type resultLine struct {
	ID       string `json:"id"`
	CustomID string `json:"custom_id"`
	Response struct {
		Status    int             `json:"status_code"`
		RequestID string          `json:"request_id"`
		Body      json.RawMessage `json:"body"`
		Bytes     []byte          `json:"body_base64"`
	} `json:"response"`
}

// appendDead appends a dead letter as a line in the format of the batch API's error file, with the job as it came in "input", or in "input_base64" when it is not even text.
func appendDead(b []byte, d *Delivery, l *DeadLetter, sum Hash) []byte {
	b = append(b, `{"id":"`+resultPrefix...)
	b = appendHex(b, sum)
	b = append(b, `","custom_id":`...)
	b = appendString(b, l.ID)
	b = append(b, `,"response":`...)
	if l.Status > 0 {
		b = appendResponse(b, l.Status, l.RequestID, l.Answer)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"error":{"code":`...)
	b = appendString(b, string(l.Reason))
	b = append(b, `,"message":`...)
	b = appendString(b, l.Detail)
	b = append(b, `},"attempts":`...)
	b = strconv.AppendInt(b, int64(l.Attempts), 10)
	b = append(b, `,"at":"`...)
	b = l.At.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","where":`...)
	b = appendString(b, d.Where)
	if utf8.Valid(d.Body) {
		b = append(b, `,"input":`...)
		b = appendBody(b, d.Body)
	} else {
		b = append(b, `,"input_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, d.Body)
		b = append(b, '"')
	}
	return append(b, '}')
}
