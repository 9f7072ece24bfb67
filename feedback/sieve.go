package feedback

import "time"

// Sieve is a first look at the body of a 2xx answer in JSON, for callers to whom it matters what reading costs. Most
// answers have no member by which they could tell of an error, and those pass a Sieve without that anything is
// allocated. When there is one, a [Stream] goes on where the Sieve stopped, and finds what it would have found from
// the beginning.
//
//	n, found := sieve.Scan(piece)
//	if found {
//		stream = sieve.Stream(config, now)
//		stream.Scan(piece[n:], now)
//	}
//
// The zero Sieve is at the beginning of a body and looks for errors. It is not safe for concurrent use.
type Sieve struct {
	cursor jsonCursor
	// Usage says that a Stream is needed for what the answer tells of its usage, too. It must be set before the
	// first piece.
	Usage bool
	noted noted

	used  bool // what follows was told
	spent Spent
}

// noted is the members of an object that are noted and not read, as far as they were seen.
type noted struct{ choices, output, candidates bool }

// Spent is the tokens of an answer, counted as in [Usage].
type Spent struct{ Input, Output, CachedInput int64 }

// Spent returns what the body told of its usage, when no Stream was needed for that: its last members came in one
// piece, and it has ended.
func (s *Sieve) Spent() (t Spent, ok bool) { return s.spent, s.used }

// Scan reads the next piece of the body. It reports that a Stream is needed, for what follows the first n bytes
// of p; Scan must not be called again then. It keeps no reference to p.
func (s *Sieve) Scan(p []byte) (n int, found bool) {
	c := &s.cursor
	if c.base == 0 && c.depth == 0 && len(p) > 0 && p[0] == '{' { // the usual beginning
		c.base, c.depth, c.inObject, c.wantKey = 1, 1, true, true
		n, _ = s.finish(p, 1, nil)
	}
	for n < len(p) {
		m, e, name := c.next(p[n:])
		n += m
		switch e {
		case jsonOpen:
			s.noted = noted{}
			if c.base == 2 {
				return n, true // each element is an event
			}
			n, _ = s.finish(p, n, nil)
		case jsonMember:
			switch keep, note := keptMember(name, c.base); {
			case note:
				s.noted.note(name)
			case keep && (s.Usage || !onlyUsage(name)):
				// A member that is null says nothing, and its value needs no reading.
				if i := skipSpace(p, n); i < len(p) && p[i] == 'n' {
					continue
				}
				if end, ok := s.finish(p, n, name); ok {
					n = end
					continue
				}
				c.save(name)
				return n, true
			}
		}
	}
	return n, false
}

// Over reports whether nothing more can be found, because the body has ended or is no JSON.
func (s *Sieve) Over() bool { return s.cursor.closed || s.cursor.base < 0 }

// Complete reports whether the end of the body was seen.
func (s *Sieve) Complete() bool { return s.cursor.closed }

// Stream returns the Stream that goes on where s stopped, at the instant now. It reads c.Header only when it finds an error. Its
// times and counts of bytes are of what it read itself.
func (s *Sieve) Stream(c StreamConfig, now time.Time) *Stream {
	t := newStream(c, now)
	t.json.jsonCursor = s.cursor
	if s.cursor.inObject {
		t.json.buf = append(t.json.buf, '{')
		for _, m := range [...]struct {
			seen bool
			name string
		}{{s.noted.choices, `"choices":true`}, {s.noted.output, `"output":true`}, {s.noted.candidates, `"candidates":true`}} {
			if m.seen {
				if len(t.json.buf) > 1 {
					t.json.buf = append(t.json.buf, ',')
				}
				t.json.buf = append(t.json.buf, m.name...)
			}
		}
		if name := t.json.saved(); name != nil { // it stopped at a member
			t.json.member(name)
		}
	}
	return t
}
