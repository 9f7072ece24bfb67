package drain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Hash is the content of a job: the first half of the SHA-256 of method, url and body, the body without the white space
// between its tokens.
type Hash [16]byte

// String returns the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads what String wrote; ok is false when s is something else.
func ParseHash(s string) (h Hash, ok bool) {
	if len(s) != 2*len(h) {
		return h, false
	}
	_, err := hex.Decode(h[:], []byte(s))
	return h, err == nil
}

// Job is a request to be sent.
type Job struct {
	// ID is the custom_id.
	ID string
	// Method is the HTTP method, POST when the line names none.
	Method string
	// URL is the path, with its query; the host is the upstream's.
	URL string
	// Body is the request's body, JSON. It may be a part of the line that the job was read from.
	Body []byte
	// Model and MaxTokens are read from the body: "model", and the first of "max_completion_tokens",
	// "max_output_tokens" and "max_tokens" that is a positive number. Empty and 0 when the body has none.
	Model     string
	MaxTokens int64
	// Tenant and Priority (0 to 7) are what the guard is to know of the job: "tenant" and "priority" beside "custom_id". Both
	// may be left out.
	Tenant   string
	Priority uint8
	// Hash is the content.
	Hash Hash
}

// maxID is the longest id, in bytes.
const maxID = 1024

// ParseJob reads a line of the batch format. The error is a *Fault.
func ParseJob(line []byte) (*Job, error) {
	bad := func(format string, args ...any) (*Job, error) {
		return nil, &Fault{ReasonInvalid, fmt.Sprintf(format, args...)}
	}
	j := &Job{}
	var body field
	var wrong error
	line = bytes.Trim(line, jsonSpace)
	end := scanFields(line, 0, func(f field) {
		var err error
		switch string(f.name) {
		case "custom_id":
			err = readString(f.value, &j.ID)
		case "method":
			err = readString(f.value, &j.Method)
		case "url":
			err = readString(f.value, &j.URL)
		case "tenant":
			err = readString(f.value, &j.Tenant)
		case "priority":
			err = json.Unmarshal(f.value, &j.Priority)
		case "body":
			body = f
		}
		if err != nil && wrong == nil {
			wrong = fmt.Errorf("%s is %.100s: %w", f.name, f.value, err)
		}
	})
	switch {
	case !utf8.Valid(line):
		// Strings that differ in such bytes alone would be read as one: jobs with ids in another encoding would be one job.
		return nil, &Fault{ReasonBadJSON, "it is not UTF-8, as JSON is; save the file as UTF-8"}
	case end != len(line):
		var v any
		if err := json.Unmarshal(line, &v); err != nil {
			return nil, &Fault{ReasonBadJSON, err.Error()}
		}
		return bad("it is no JSON object")
	case wrong != nil:
		return bad("%v", wrong)
	}
	if j.Method == "" {
		j.Method = http.MethodPost
	}
	switch {
	case len(j.ID) > maxID:
		return bad("custom_id has %d bytes, may have %d", len(j.ID), maxID)
	case j.Method != http.MethodPost && j.Method != http.MethodGet && j.Method != http.MethodPut &&
		j.Method != http.MethodPatch && j.Method != http.MethodDelete:
		return bad("method is %q, must be POST, GET, PUT, PATCH or DELETE", j.Method)
	case j.URL == "":
		return bad(`url is missing; give the path, such as "/v1/chat/completions"`)
	case j.URL[0] != '/' || strings.HasPrefix(j.URL, "//") || strings.ContainsAny(j.URL, "\\\r\n\t #"):
		// With a host of its own it would take the key of the upstream there.
		return bad(`url is %q, must be a path without a host, such as "/v1/chat/completions"`, j.URL)
	case unsendable(j.URL):
		return bad("url is %q, must be a path as in an HTTP request, with %% before two hexadecimal digits only", j.URL)
	case j.Priority > 7:
		return bad("priority is %d, must be 0 to 7", j.Priority)
	}
	if len(body.value) > 0 && string(body.value) != "null" {
		if j.Body = body.value; body.spaced {
			j.Body = compact(make([]byte, 0, len(body.value)), body.value)
		}
	}
	if j.Body == nil && j.Method == http.MethodPost {
		return bad("body is missing")
	}
	j.Hash = hash(j.Method, j.URL, j.Body)
	j.Model, j.MaxTokens = peekBody(j.Body)
	return j, nil
}

// faultyID returns the id of a job that could not be read: its custom_id, when that much can be read of it, and else that of its message.
func faultyID(d *Delivery) string {
	var id string
	line := bytes.Trim(d.Body, jsonSpace)
	scanFields(line, 0, func(f field) {
		var s string
		if string(f.name) == "custom_id" && utf8.Valid(f.value) && readString(f.value, &s) == nil && len(s) <= maxID {
			id = s
		}
	})
	if id == "" {
		return d.ID
	}
	return id
}

// unsendable reports whether no request can be made for a path: that would look like an upstream that cannot be reached, which ends a run.
func unsendable(path string) bool {
	_, err := url.ParseRequestURI(path)
	return err != nil
}

func hash(method, url string, body []byte) (h Hash) {
	p := hashing.Get().(*[]byte)
	b := append((*p)[:0], method...)
	b = append(b, '\n')
	b = append(b, url...)
	b = append(b, '\n')
	b = append(b, body...)
	sum := sha256.Sum256(b)
	copy(h[:], sum[:])
	if cap(b) <= 64<<10 {
		*p = b
	}
	hashing.Put(p)
	return h
}

// hashing are buffers for what is hashed.
var hashing = sync.Pool{New: func() any { return new([]byte) }}

// peekBody reads the few fields of a request's body that matter here. What is not as expected is as if it were not there: it
// is for the upstream to complain.
func peekBody(body []byte) (model string, most int64) {
	scanFields(body, 0, func(f field) {
		switch string(f.name) {
		case "model":
			if readString(f.value, &model) != nil {
				model = ""
			}
		case "max_completion_tokens", "max_output_tokens", "max_tokens":
			if n, err := strconv.ParseInt(string(f.value), 10, 64); err == nil && n > 0 && n < 1<<40 && most == 0 {
				most = n
			}
		}
	})
	return model, most
}
