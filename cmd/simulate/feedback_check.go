package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/feedback"
)

var (
	windowKeys = []string{"kind", "limit", "remaining", "reset_ms"}
	statedKeys = []string{"kind", "limit", "used", "requested", "per_ms"}
)

// meaningFields are the fields of a meaning that can be expected, in the order in which they are printed. get
// returns the value, or the elements of a list in no order, as text.
var meaningFields = []struct {
	name string
	list bool
	get  func(*meaning) []string
}{
	{"class", false, func(m *meaning) []string { return []string{m.Class} }},
	{"retryable", false, func(m *meaning) []string { return []string{strconv.FormatBool(m.Retryable)} }},
	{"retry_after_ms", false, func(m *meaning) []string { return texts([]count{m.RetryAfter}) }},
	{"scope", false, func(m *meaning) []string { return []string{m.Scope} }},
	{"windows", true, func(m *meaning) []string { return texts(m.Windows) }},
	{"source", false, func(m *meaning) []string { return []string{strconv.Quote(m.Source)} }},
	{"stated", true, func(m *meaning) []string { return texts(m.Stated) }},
}

// texts returns values as JSON, sorted.
func texts[T any](values []T) []string {
	list := make([]string, 0, len(values))
	for _, v := range values {
		b, err := marshal(v)
		if err != nil {
			b = fmt.Append(nil, v)
		}
		list = append(list, string(b))
	}
	slices.Sort(list)
	return list
}

// expectation is what a line expects.
type expectation struct {
	meaning
	has map[string]bool // the fields that it names; others are not compared
}

// compare prints how a signal differs from what its line expects, a line for each field.
func (r *reading) compare(a *lineAnswer, s feedback.Signal, at int) error {
	got := newMeaning(a.name, s)
	where := fmt.Sprintf("%s:%d", r.file, at)
	if a.name != where {
		where += ": " + printable(a.name)
	}
	var b strings.Builder
	for _, f := range meaningFields {
		if !a.expect.has[f.name] {
			continue
		}
		g, w := without(f.get(got), f.get(&a.expect.meaning)), without(f.get(&a.expect.meaning), f.get(got))
		if len(g)+len(w) == 0 {
			continue
		}
		have, want := strings.Join(g, ", "), strings.Join(w, ", ")
		if f.list {
			have, want = "["+have+"]", "["+want+"]"
		}
		fmt.Fprintf(&b, "%s: %s: got %s, want %s\n", where, f.name, have, want)
	}
	r.answers++
	if b.Len() == 0 {
		return nil
	}
	r.differing++
	return r.print([]byte(b.String()))
}

// without returns the elements of the sorted list a that are not in the sorted list b, each as often as it is there more often.
func without(a, b []string) []string {
	var rest []string
	for _, v := range a {
		for len(b) > 0 && b[0] < v {
			b = b[1:]
		}
		if len(b) > 0 && b[0] == v {
			b = b[1:]
		} else {
			rest = append(rest, v)
		}
	}
	return rest
}

// parseExpect reads what a line expects.
func parseExpect(raw json.RawMessage) (*expectation, error) {
	var keys []string
	for _, f := range meaningFields {
		keys = append(keys, f.name)
	}
	if raw == nil {
		return nil, errors.New(`has no expect for --check: write it, as in "expect": {"class": "throttled"}, or leave --check out`)
	}
	e := &expectation{has: map[string]bool{}}
	// A null delay is expected, and not left out.
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) == nil && string(all["retry_after_ms"]) == "null" {
		e.RetryAfter, e.has["retry_after_ms"] = feedback.Unstated, true
	}
	m, err := object("expect", raw, keys)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		value := m[key]
		if value == nil {
			continue
		}
		e.has[key] = true
		switch key {
		case "class":
			e.Class, err = choice("expect.class", value, classes())
		case "scope":
			e.Scope, err = choice("expect.scope", value, scopes())
		case "retryable":
			if json.Unmarshal(value, &e.Retryable) != nil {
				err = wrong("expect.retryable", value, "true or false")
			}
		case "retry_after_ms":
			e.RetryAfter, err = number("expect.retry_after_ms", value)
		case "source":
			if json.Unmarshal(value, &e.Source) != nil {
				err = wrong("expect.source", value, "a string")
			}
		case "windows":
			err = elements("expect.windows", value, windowKeys, func(kind string, n []count) {
				e.Windows = append(e.Windows, window{kind, n[0], n[1], n[2]})
			})
		case "stated":
			err = elements("expect.stated", value, statedKeys, func(kind string, n []count) {
				e.Stated = append(e.Stated, stated{kind, n[0], n[1], n[2], n[3]})
			})
		}
		if err != nil {
			return nil, err
		}
	}
	if len(e.has) == 0 {
		return nil, errors.New("expect names nothing: give it one of " + strings.Join(keys, ", ") + ", or leave --check out")
	}
	return e, nil
}

// elements calls add for each object of an array with its kind and its numbers in the order of the keys.
func elements(path string, raw []byte, keys []string, add func(kind string, numbers []count)) error {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return wrong(path, raw, "an array of objects")
	}
	for i, raw := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		m, err := object(at, raw, keys)
		if err != nil {
			return err
		}
		if m["kind"] == nil {
			return fmt.Errorf("%s has no kind, must have one of %s", at, strings.Join(scopes(), ", "))
		}
		kind, err := choice(at+".kind", m["kind"], scopes())
		if err != nil {
			return err
		}
		var numbers []count
		for _, key := range keys[1:] {
			n, err := number(at+"."+key, m[key])
			if err != nil {
				return err
			}
			numbers = append(numbers, n)
		}
		add(kind, numbers)
	}
	return nil
}

// number reads a number; nil is one that is null or not there.
func number(path string, raw json.RawMessage) (count, error) {
	if raw == nil {
		return feedback.Unstated, nil
	}
	var n int64
	if json.Unmarshal(raw, &n) != nil || n < 0 {
		return 0, wrong(path, raw, "an integer from 0 to "+strconv.FormatInt(math.MaxInt64, 10)+", or null when nobody states it")
	}
	return count(n), nil
}

// choice reads a string that is one of these.
func choice(path string, raw json.RawMessage, names []string) (string, error) {
	var s string
	if json.Unmarshal(raw, &s) == nil && slices.Contains(names, s) {
		return s, nil
	}
	want := "one of " + strings.Join(names, ", ")
	if near, ok := strict.Nearest(s, names); ok {
		want += "; did you mean " + near + "?"
	}
	return "", wrong(path, raw, want)
}

// classes returns the classes of answers.
func classes() []string {
	var list []string
	for c := range feedback.Class(feedback.NumClasses) {
		if c != feedback.Canceled { // no answer's class
			list = append(list, c.String())
		}
	}
	return list
}

func scopes() []string {
	var list []string
	for s := range feedback.Scope(feedback.NumScopes) {
		list = append(list, s.String())
	}
	return list
}
