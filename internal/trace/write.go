package trace

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"time"
)

// Append appends r as a line of our format.
func (r *Row) Append(b []byte) []byte {
	sec := func(name string, d time.Duration) {
		b = append(b, ',', '"')
		b = append(b, name...)
		b = append(b, '"', ':')
		b = appendSeconds(b, d)
	}
	num := func(name string, v int64) {
		if v != 0 {
			b = append(b, ',', '"')
			b = append(b, name...)
			b = append(b, '"', ':')
			b = strconv.AppendInt(b, v, 10)
		}
	}
	str := func(name, v string) {
		if v != "" {
			text, _ := json.Marshal(v) // of a string never fails
			b = append(b, ',', '"')
			b = append(b, name...)
			b = append(b, '"', ':')
			b = append(b, text...)
		}
	}
	b = append(b, `{"t":`...)
	b = appendSeconds(b, r.At)
	num("in", r.In)
	num("out", r.Out)
	num("cached", r.Cached)
	str("key", r.Key)
	str("tenant", r.Tenant)
	num("prio", int64(r.Priority))
	if r.Deadline > 0 {
		sec("deadline", r.Deadline)
	}
	if r.Seen {
		if r.Sent != r.At {
			sec("send", r.Sent)
		}
		if r.First != 0 {
			sec("first", r.First)
		}
		sec("end", r.End)
		num("status", int64(r.Status))
		if r.RetryAfter >= 0 {
			sec("retry_after", r.RetryAfter)
		}
		if len(r.Header) > 0 {
			text, _ := json.Marshal(r.Header) // sorted by name
			b = append(b, `,"hdr":`...)
			b = append(b, text...)
		}
	}
	return append(b, '}', '\n')
}

// appendSeconds appends d in seconds, exactly.
func appendSeconds(b []byte, d time.Duration) []byte {
	if d < 0 {
		b = append(b, '-')
		d = -d
	}
	b = strconv.AppendInt(b, int64(d/time.Second), 10)
	if ns := d % time.Second; ns != 0 {
		digits := strconv.AppendInt(nil, int64(time.Second+ns), 10)[1:]
		b = append(b, '.')
		b = append(b, bytes.TrimRight(digits, "0")...)
	}
	return b
}

// Write writes rows in our format.
func Write(w io.Writer, rows []Row) error {
	var b []byte
	for i := range rows {
		b = rows[i].Append(b)
		if len(b) > 1<<16 || i == len(rows)-1 {
			if _, err := w.Write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	return nil
}
