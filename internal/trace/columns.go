package trace

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is a field of a Row, by its name in our own format; latency and ttft are for others, and count from t.
var fields = []string{
	"t", "in", "out", "cached", "key", "tenant", "prio", "deadline",
	"send", "first", "end", "status", "retry_after", "latency", "ttft",
}

// Column is where a field is found.
type Column struct {
	Name string
	// Unit is how long one of its numbers is, for fields that are times; 0 means a second.
	Unit time.Duration
}

// Columns says where fields are found, by field.
type Columns map[string]Column

// numbered reports whether columns are named by their numbers, as #1, for a file without a header.
func (c Columns) numbered() bool {
	for _, col := range c {
		if n, err := strconv.Atoi(strings.TrimPrefix(col.Name, "#")); err != nil || n < 1 || !strings.HasPrefix(col.Name, "#") {
			return false
		}
	}
	return len(c) > 0
}

var units = map[string]time.Duration{"s": time.Second, "ms": time.Millisecond, "us": time.Microsecond, "ns": time.Nanosecond}

// ParseColumns reads a list such as "t=Timestamp:ms,in=prompt_tokens,out=completion_tokens". A unit (s, ms, us or ns) is
// for times. Columns called #1, #2 and so on, all of them, are those of a CSV without a header.
func ParseColumns(list string) (Columns, error) {
	c := Columns{}
	for part := range strings.SplitSeq(list, ",") {
		field, name, ok := strings.Cut(part, "=")
		field, name = strings.TrimSpace(field), strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is no column: write field=column, such as t=Timestamp:ms", part)
		}
		if !slices.Contains(fields, field) {
			return nil, fmt.Errorf("there is no field %q: use one of %s", field, strings.Join(fields, ", "))
		}
		if _, twice := c[field]; twice {
			return nil, fmt.Errorf("field %q is given twice", field)
		}
		col := Column{Name: name}
		if i := strings.LastIndexByte(name, ':'); i > 0 {
			if u, ok := units[name[i+1:]]; ok {
				col = Column{name[:i], u}
			}
		}
		c[field] = col
	}
	if _, ok := c["t"]; !ok {
		return nil, fmt.Errorf("no column is given for t, when a request came: add t=COLUMN, or t=COLUMN:ms when it is in milliseconds")
	}
	return c, nil
}

// The formats that Read knows.
const (
	Auto     = "auto"
	Flyball  = "flyball"
	Azure    = "azure"
	BurstGPT = "burstgpt"
	Mooncake = "mooncake"
	OTel     = "otel"
	CSV      = "csv"
	JSONL    = "jsonl"
)

// Formats returns the formats that Read knows.
func Formats() []string { return []string{Auto, Flyball, Azure, BurstGPT, Mooncake, OTel, CSV, JSONL} }

// known are the columns of the formats that have names.
var known = map[string]Columns{
	Azure: {"t": {Name: "TIMESTAMP"}, "in": {Name: "ContextTokens"}, "out": {Name: "GeneratedTokens"}},
	BurstGPT: {
		"t": {Name: "Timestamp"}, "in": {Name: "Request tokens"}, "out": {Name: "Response tokens"},
		"tenant": {Name: "Model"}, // the trace has no other label of who asked
	},
	Mooncake: {"t": {Name: "timestamp", Unit: time.Millisecond}, "in": {Name: "input_length"}, "out": {Name: "output_length"}},
	OTel:     otelColumns(),
	Flyball: {
		"t": {Name: "t"}, "in": {Name: "in"}, "out": {Name: "out"}, "cached": {Name: "cached"}, "key": {Name: "key"},
		"tenant": {Name: "tenant"}, "prio": {Name: "prio"}, "deadline": {Name: "deadline"},
		"send": {Name: "send"}, "first": {Name: "first"}, "end": {Name: "end"}, "status": {Name: "status"},
		"retry_after": {Name: "retry_after"},
	},
}

// required are the columns that a file of a format must have, by field.
func required(format string) []string {
	switch format {
	case Azure, BurstGPT, Mooncake:
		return []string{"t", "in", "out"}
	}
	return []string{"t"}
}

// row makes Rows from the cells of a file, one after the other.
type maker struct {
	file     string
	columns  Columns
	relative bool // t counts from the start of the trace already
	started  bool
	first    time.Duration // t of the first row, as the file counts
}

// cells looks up a cell: ok is false when it is absent or empty.
type cells func(column string) (text string, ok bool)

// row returns the request of a row, or a *RowError.
func (m *maker) row(n int, cell cells) (r Row, err error) {
	bad := func(field, format string, a ...any) error {
		return &RowError{File: m.file, Row: n, Column: m.columns[field].Name, Text: fmt.Sprintf(format, a...)}
	}
	get := func(field string) (string, bool) {
		c, ok := m.columns[field]
		if !ok {
			return "", false
		}
		s, ok := cell(c.Name)
		s = strings.TrimSpace(s)
		return s, ok && s != ""
	}
	s, ok := get("t")
	if !ok {
		e := bad("t", "is missing").(*RowError)
		e.Fix = "every request needs the time at which it came; remove the row, or name another column with t="
		return r, e
	}
	at, why := instant(s, m.columns["t"].Unit)
	if why != "" {
		return r, bad("t", "is %q, %s", s, why)
	}
	if !m.started {
		m.started = true
		if !m.relative {
			m.first = at
		}
	}
	r.At = at - m.first
	if r.At > MaxAt || r.At < -MaxAt || m.relative && r.At < 0 {
		return r, bad("t", "is %q, which is %v from the start: must be 0 to %v; is its unit right?", s, r.At, MaxAt)
	}
	for _, f := range []struct {
		name string
		to   *int64
	}{{"in", &r.In}, {"out", &r.Out}, {"cached", &r.Cached}} {
		s, ok := get(f.name)
		if !ok {
			continue
		}
		v, why := count(s)
		if why != "" {
			return r, bad(f.name, "is %q, %s", s, why)
		}
		*f.to = v
	}
	if r.Cached > r.In {
		return r, bad("cached", "is %d, more than the %d tokens of the prompt that it is a part of", r.Cached, r.In)
	}
	r.Key, _ = get("key")
	r.Tenant, _ = get("tenant")
	if len(r.Key) > 256 || len(r.Tenant) > 256 {
		return r, bad("key", "or tenant is longer than 256 bytes: use a short label")
	}
	if s, ok := get("prio"); ok {
		v, err := strconv.ParseUint(s, 10, 8)
		if err != nil || v > 7 {
			return r, bad("prio", "is %q, must be an integer from 0 to 7", s)
		}
		r.Priority = uint8(v)
	}
	length := func(field string) (d time.Duration, ok bool, err error) {
		s, ok := get(field)
		if !ok {
			return 0, false, nil
		}
		d, why := span(s, m.columns[field].Unit)
		if why != "" {
			return 0, false, bad(field, "is %q, %s", s, why)
		}
		return d, true, nil
	}
	if r.Deadline, _, err = length("deadline"); err != nil {
		return r, err
	}
	return r, m.seen(&r, get, length, bad)
}

// seen reads what became of a request.
func (m *maker) seen(r *Row, get func(string) (string, bool), length func(string) (time.Duration, bool, error), bad func(string, string, ...any) error) error {
	r.RetryAfter, r.Sent = -1, r.At
	moment := func(field string) (time.Duration, bool, error) {
		s, ok := get(field)
		if !ok {
			return 0, false, nil
		}
		at, why := instant(s, m.columns[field].Unit)
		if why != "" {
			return 0, false, bad(field, "is %q, %s", s, why)
		}
		at -= m.first
		if at < r.At || at > r.At+MaxLatency {
			return 0, false, bad(field, "is %q, which is %v after the request came: must be 0 to %v; is its unit right?", s, at-r.At, MaxLatency)
		}
		return at, true, nil
	}
	ended := false
	if at, ok, err := moment("send"); err != nil {
		return err
	} else if ok {
		r.Sent = at
	}
	at, ok, err := moment("end")
	if err != nil {
		return err
	}
	if ok {
		r.End, ended = at, true
	} else if d, ok, err := length("latency"); err != nil {
		return err
	} else if ok {
		r.End, ended = r.At+d, true
	}
	if at, ok, err = moment("first"); err != nil {
		return err
	} else if ok {
		r.First = at
	} else if d, ok, err := length("ttft"); err != nil {
		return err
	} else if ok {
		r.First = r.At + d
	}
	if s, ok := get("status"); ok {
		v, err := strconv.Atoi(s)
		if err != nil || v != 0 && (v < 100 || v > 999) { // 999 and its like are sent, although RFC 9110 has none above 599
			return bad("status", "is %q, must be an HTTP status from 100 to 999, or 0 for none", s)
		}
		r.Status = v
	}
	if d, ok, err := length("retry_after"); err != nil {
		return err
	} else if ok {
		r.RetryAfter = d
	}
	if !ended {
		r.Sent, r.First = 0, 0
		return nil
	}
	r.Seen = true
	if r.End < r.Sent || r.First != 0 && (r.First < r.Sent || r.First > r.End) {
		return bad("end", "does not come after the start and the first byte (sent at %v, first byte %v, end %v)", r.Sent, r.First, r.End)
	}
	return nil
}

// count reads a number of tokens.
func count(s string) (v int64, why string) {
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil || math.IsNaN(f) || math.IsInf(f, 0):
		return 0, "which is no number of tokens: correct the cell or remove the row"
	case f < 0:
		return 0, "a negative number of tokens: correct the cell or remove the row"
	case f != math.Trunc(f):
		return 0, "must be a whole number of tokens: is it the right column?"
	case f > MaxTokens:
		return 0, fmt.Sprintf("more than the %d tokens that a request can have: is it the right column, and not a total?", MaxTokens)
	}
	return int64(f), ""
}

// span reads a length of time.
func span(s string, unit time.Duration) (d time.Duration, why string) {
	if unit == 0 {
		unit = time.Second
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, "which is no number: correct the cell or remove the row"
	}
	if f < 0 || f*float64(unit) > float64(31*24*time.Hour) {
		return 0, "must be 0 to 31 days: is its unit right?"
	}
	return round(f, unit), ""
}

// layouts are how instants are written.
var layouts = []string{
	time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999 -0700",
	"2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999",
}

// epoch is an origin near which instants of our time are durations.
var epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// instant reads an instant: a number of units, or a date and a time (UTC where it names no zone).
func instant(s string, unit time.Duration) (at time.Duration, why string) {
	if unit == 0 {
		unit = time.Second
	}
	// Whole nanoseconds since 1970 have more digits than a float64.
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= -4e18/int64(unit) && n <= 4e18/int64(unit) {
		return time.Duration(n) * unit, ""
	}
	f, err := strconv.ParseFloat(s, 64)
	if err == nil {
		switch {
		case math.IsNaN(f) || math.IsInf(f, 0):
			return 0, "which is no time: correct the cell or remove the row"
		case math.Abs(f)*float64(unit) > 4e18: // so that a difference of two is a duration, too
			return 0, "which is too large for a time: is its unit right?"
		}
		return round(f, unit), ""
	}
	for _, l := range layouts {
		if t, err := time.Parse(l, s); err == nil {
			if y := t.Year(); y < 1900 || y > 2200 {
				return 0, "which is not in our time"
			}
			return t.Sub(epoch), ""
		}
	}
	return 0, "which is neither a number nor a date with a time, such as 2023-11-16 18:17:03.97"
}

// round returns f units, as whole nanoseconds without the noise of binary fractions.
func round(f float64, unit time.Duration) time.Duration {
	whole, frac := math.Modf(f)
	return time.Duration(whole)*unit + time.Duration(math.Round(frac*float64(unit)))
}
