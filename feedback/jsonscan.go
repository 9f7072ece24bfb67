package feedback

import "bytes"

// jsonScanner reads a JSON body of any length in pieces and keeps only what matters: for each object whose
// members matter (see jsonCursor) it has copy, which holds a few known members of it only.
type jsonScanner struct {
	jsonCursor
	keep bool // the value at hand is copied

	buf   []byte // the copy of the object at hand; empty when there is none
	start int    // where the member at hand begins in buf
}

// maxMember bounds the copy of one object's members; what is larger is left out.
const maxMember = 64 << 10

// keptMember tells what to do with a member of an object that matters: copy it, note
// that it is there, or neither.
func keptMember(key []byte, base int8) (keep, note bool) {
	switch string(key) {
	case "usage", "usageMetadata", "usage_metadata", "Usage", "x_groq", "error", "errors", "error_code", "base_resp",
		"Response", "__type", "code", "message", "type", "prompt_eval_count", "eval_count", "detail", "details", "reason",
		"title", "retry_after", "retry_after_ms", "retry_after_seconds", "retryAfterSeconds":
		return true, false
	case "candidates":
		return base == 2, base != 2
	case "choices", "output":
		return false, true
	}
	// A name with escapes may be one of these; a name that was cut is not.
	return len(key) < maxKey && bytes.IndexByte(key, '\\') >= 0, false
}

// scan reads p until an object has ended, and returns how much of p it read and that object's copy; nil when p has
// ended before. The copy is good until the next call.
func (s *jsonScanner) scan(p []byte) (n int, object []byte) {
	for n < len(p) {
		if s.keep {
			m, ended := s.take(p[n:])
			n += m
			if ended {
				return n, s.object()
			}
			continue
		}
		m, e, name := s.next(p[n:])
		n += m
		switch e {
		case jsonOpen:
			s.buf = append(s.buf[:0], '{')
		case jsonMember:
			s.member(name)
		case jsonClose:
			return n, s.object()
		}
	}
	return n, nil
}

// object returns the copy of the object that ended.
func (s *jsonScanner) object() []byte {
	s.keep = false
	object := append(s.buf, '}')
	s.buf = object[:0]
	return object
}

// member begins the value of the member with a name.
func (s *jsonScanner) member(name []byte) {
	keep, note := keptMember(name, s.base)
	if !keep && !note || len(s.buf) == 0 {
		return
	}
	s.start = len(s.buf)
	if len(s.buf) > 1 {
		s.buf = append(s.buf, ',')
	}
	s.buf = append(append(append(s.buf, '"'), name...), '"', ':')
	if note {
		s.buf = append(s.buf, "true"...)
		return
	}
	s.keep = true
}

// take copies the value at hand, without white space between its parts, and returns how much of p it read; ended reports that
// the object has ended with it.
func (s *jsonScanner) take(p []byte) (n int, ended bool) {
	for n < len(p) && s.keep {
		if s.inString {
			m, over := s.endOfString(p[n:])
			s.copy(p[n : n+m]...)
			s.inString = !over
			n += m
			continue
		}
		c := p[n]
		n++
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '"':
			s.inString = true
		case '{', '[':
			s.open(c)
			if s.base < 0 {
				return len(p), false
			}
		case '}', ']':
			if s.close() {
				return n, true
			}
		case ',':
			if s.depth == int32(s.base) {
				s.keep, s.wantKey = false, true
				continue
			}
		}
		s.copy(c)
	}
	return n, false
}

// copy adds to the value at hand, or leaves it out when that becomes too large.
func (s *jsonScanner) copy(p ...byte) {
	if !s.keep {
		return
	}
	if len(s.buf)+len(p) > maxMember {
		s.buf = s.buf[:s.start]
		s.keep = false
		return
	}
	s.buf = append(s.buf, p...)
}
