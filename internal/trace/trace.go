// Package trace reads and writes lists of requests: when each came, how many tokens it took, and, where somebody recorded it, what
// became of it. A replay feeds the demand of a trace to the simulator; a fit makes a model of the upstream from what was
// recorded.
//
// [Read] knows its own format, the published traces of Azure, BurstGPT and Mooncake, and any CSV or JSON lines whose columns
// are named. Whatever cannot be a request is refused, with the row and what to do about it: a trace that is quietly
// mended gives numbers that nobody can trust.
//
// # Format
//
// One JSON object a line. Times are seconds from the start of the trace.
//
//	t            when the request came (required)
//	in, out      tokens of the prompt and of the answer
//	cached       the part of in that was read from a cache
//	key, tenant  labels, never credentials
//	prio         priority, 0 to 7
//	deadline     how long the caller waits, seconds
//	send         when the (last) attempt was sent
//	first, end   when the first byte and the last byte of its answer came
//	status       its HTTP status; 0 or absent: none, or a success that was cut off or has an error in its body
//	retry_after  the delay that it named, seconds
//	hdr          its header fields about limits
package trace

import (
	"fmt"
	"strings"
	"time"
)

// Row is one request.
type Row struct {
	// At is when it came, from the start of the trace.
	At time.Duration
	// In, Out and Cached are tokens; Cached is a part of In. Zero means none, or not known.
	In, Out, Cached int64
	Key, Tenant     string
	// Priority is 0 to 7.
	Priority uint8
	// Deadline is how long its caller waits; 0 means not known.
	Deadline time.Duration

	// Seen says that the following is known.
	Seen bool
	// Sent, First and End are when its attempt was sent and when the first and the last byte of the answer came. First is
	// 0 when not known.
	Sent, First, End time.Duration
	// Status is the answer's HTTP status; 0 means that there was no whole answer.
	Status int
	// RetryAfter is the delay that the answer named; -1 means none.
	RetryAfter time.Duration
	// Header has the answer's fields about limits, in lower case; nil means none.
	Header map[string]string
}

// Latency returns how long the attempt took; it is known when Seen.
func (r *Row) Latency() time.Duration { return r.End - r.Sent }

// shift moves all instants of r.
func (r *Row) shift(by time.Duration) {
	r.At += by
	if r.Seen {
		r.Sent, r.End = r.Sent+by, r.End+by
		if r.First != 0 {
			r.First += by
		}
	}
}

// Trace is a list of requests in the order in which they came.
type Trace struct {
	// Name is that of the file.
	Name string
	// Format is how it was read; see [Formats].
	Format string
	Rows   []Row
	// Notes say what the reader did beside reading, in sentences.
	Notes []string

	window    time.Duration       // how long a part of a trace is; 0 for a whole one
	unordered bool                // rows may come in any order
	spans     map[string]struct{} // of OTel, those that were read
	twice     int                 // how many spans were there before
}

// Span returns the time from the first to the last request.
func (t *Trace) Span() time.Duration {
	if len(t.Rows) == 0 {
		return 0
	}
	return t.Rows[len(t.Rows)-1].At - t.Rows[0].At
}

// The largest values that a request can have.
const (
	// MaxTokens is the most tokens in a prompt or an answer: ten times the largest context that a provider sells.
	MaxTokens = 10_000_000
	// MaxAt is the latest instant.
	MaxAt = 5 * 366 * 24 * time.Hour
	// MaxLatency is the longest time that a request takes.
	MaxLatency = 24 * time.Hour
	// maxRows bounds the memory: some 10 GB.
	maxRows = 50_000_000
	// maxLine is the longest line, in bytes.
	maxLine = 4 << 20
	// maxBatch is the longest line of OTel, which has a batch of spans: 8192 with the collector's defaults, each with its prompt where those are kept.
	maxBatch = 256 << 20
)

// RowError says what is wrong with one row, and what to do about it.
type RowError struct {
	File   string
	Row    int    // line in the file, from 1
	Column string // as the file calls it; may be empty
	Text   string // what is wrong, as a sentence after the column's name
	Fix    string // what to do; may be empty
}

// Error names the file, the row, the column, and the fix.
func (e *RowError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: ", e.File, e.Row)
	if e.Column != "" {
		b.WriteString(e.Column + " ")
	}
	b.WriteString(e.Text)
	if e.Fix != "" {
		b.WriteString(": " + e.Fix)
	}
	return b.String()
}
