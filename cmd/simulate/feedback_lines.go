package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/feedback"
)

// maxLine bounds a line of JSON, in bytes.
const maxLine = 16 << 20

// lineKeys are what a line may say; feedback/testdata/README.md has what it means.
var lineKeys = []string{"name", "provider", "source", "status", "headers", "body", "body_base64", "now", "note", "expect"}

// A lineAnswer is an answer that is written as a line of JSON.
type lineAnswer struct {
	feedback.Answer
	name   string
	expect *expectation // nil unless it is asked for
}

// lines reads answers, one a line, and stops at the first line that is bad.
func (r *reading) lines(s *source) error {
	for {
		if err := r.ctx.Err(); err != nil {
			return nil
		}
		at := s.line
		line, err := s.readLine(maxLine)
		switch {
		case errors.Is(err, errTooLong):
			return s.badf("the line is longer than 16 MiB: cut its body short, 64 KiB of an error are read")
		case err == io.EOF:
			return nil
		case s.err != nil:
			return s.err // the line is not whole
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		a, err := r.parseLine(line, at)
		if err != nil {
			return &badInput{at, err.Error()}
		}
		signal := r.signal(a.name, a.Answer, bytes.NewReader(a.Body), false)
		if !r.check {
			if err := r.write(a.name, signal); err != nil {
				return err
			}
			continue
		}
		if err := r.compare(a, signal, at); err != nil {
			return err
		}
	}
}

// parseLine reads an answer. What is not said is taken from the command line.
func (r *reading) parseLine(line []byte, at int) (*lineAnswer, error) {
	a := &lineAnswer{Answer: r.defaults}
	m, err := object("", line, nil)
	if err != nil {
		return nil, err
	}
	if m["status"] == nil {
		return nil, errors.New(`has no status: write it, as in "status": 429; when the line is a body alone, save the whole answer with curl -i`)
	}
	if json.Unmarshal(m["status"], &a.Status) != nil || a.Status < 100 || a.Status > 999 {
		return nil, wrong("status", m["status"], "an integer from 100 to 999")
	}
	if err := known("", m, lineKeys); err != nil {
		return nil, err
	}
	body, encoded := "", ""
	for _, f := range []struct {
		key string
		to  *string
	}{{"name", &a.name}, {"provider", &a.Provider}, {"body", &body}, {"body_base64", &encoded}} {
		if m[f.key] != nil && json.Unmarshal(m[f.key], f.to) != nil {
			want := "a string"
			if f.key == "body" {
				want += ": quote what it is, as jq '.body |= tojson' does"
			}
			return nil, wrong(f.key, m[f.key], want)
		}
	}
	if a.name == "" {
		a.name = r.file + ":" + strconv.Itoa(at)
	}
	if a.Provider == "" {
		a.Provider = r.defaults.Provider
	}
	a.Body = []byte(body)
	if encoded != "" {
		if a.Body, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return nil, wrong("body_base64", m["body_base64"], "bytes in base64, as base64 -w0 prints them")
		}
	}
	if now := m["now"]; now != nil {
		var text string
		err := json.Unmarshal(now, &text)
		if err == nil {
			a.Now, err = time.Parse(time.RFC3339, text)
		}
		if err != nil {
			return nil, wrong("now", now, "an instant such as 2026-08-20T10:00:00Z")
		}
	}
	if a.Header, err = parseHeaders(m["headers"]); err != nil {
		return nil, err
	}
	if r.check {
		a.expect, err = parseExpect(m["expect"])
	}
	return a, err
}

// parseHeaders reads header fields. A name may come more than once.
func parseHeaders(raw json.RawMessage) (map[string][]string, error) {
	const fix = `a string, or strings in an array when the field is repeated`
	header := map[string][]string{}
	if raw == nil {
		return header, nil
	}
	if raw[0] != '{' {
		return nil, wrong("headers", raw, "an object with a string, or an array of strings, for each name")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		var one *string
		var several []*string
		if json.Unmarshal(value, &one) == nil {
			several = append(several, one)
		} else if json.Unmarshal(value, &several) != nil {
			return nil, wrong("headers."+printable(name), value, fix)
		}
		for _, v := range several {
			if v == nil {
				return nil, wrong("headers."+printable(name), value, fix)
			}
			header[name] = append(header[name], *v)
		}
	}
	return header, nil
}

// object returns the members of a JSON object that has only these keys, or any when keys is nil; a null is like a
// key that is not there. path is where in the line the object is.
func object(path string, raw []byte, keys []string) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		var se *json.SyntaxError
		if errors.As(err, &se) {
			return nil, fmt.Errorf("is no JSON: %v at byte %d; each line must be one whole object, as jq -c prints it, and an answer of curl -i begins with its status line", se, se.Offset)
		}
		if path == "" {
			path = "the line"
		}
		return nil, wrong(path, raw, "an object, as jq -c prints it")
	}
	err := known(path, m, keys)
	for k, v := range m {
		if string(v) == "null" {
			delete(m, k)
		}
	}
	return m, err
}

// known returns an error when there are other members than these; it is nil when keys is.
func known(path string, m map[string]json.RawMessage, keys []string) error {
	if keys == nil {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if slices.Contains(keys, k) {
			continue
		}
		name := printable(shorten([]byte(k)))
		if path != "" {
			name = path + "." + name
		}
		text := name + " is unknown, must be one of " + strings.Join(keys, ", ")
		if near, ok := strict.Nearest(k, keys); ok {
			text += "; did you mean " + near + "?"
		}
		return errors.New(text)
	}
	return nil
}

// wrong says that a value is not what it must be.
func wrong(path string, raw []byte, want string) error {
	return fmt.Errorf("%s is %s, must be %s", path, printable(shorten(raw)), want)
}

// printable returns s for a line of text: quoted when it would break it.
func printable(s string) string {
	if s == "" || strings.IndexFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }) >= 0 {
		return strconv.Quote(s)
	}
	return s
}
