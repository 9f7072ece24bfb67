package feedback

import "bytes"

// jsonScanner reads a JSON body of any length in pieces and keeps only what matters. The
// body is one object, or an array whose elements are the events of a stream, as
// Gemini sends them. For each such object it calls emit with a copy that holds a few known
// members only. It is not a validator: on text that is not JSON it emits nothing of use.
type jsonScanner struct {
	// base is the depth of the members that matter: 1, or 2 within an array; 0 before the
	// first bracket, and -1 when the body is neither.
	base  int
	depth int

	inString, escaped bool
	wantKey           bool // at base, the next string is a member's name
	inKey             bool
	inObject          bool // within an object whose members matter
	keep              bool // the value at hand is copied

	key    []byte // the name at hand, cut at maxKey
	buf    []byte // the copy of the object at hand
	start  int    // where the member at hand begins in buf
	emit   func(object []byte)
	closed bool // the body's own bracket is closed
}

const (
	// maxKey is longer than every known name.
	maxKey = 32
	// maxMember bounds the copy of one object's members; what is larger is left out.
	maxMember = 64 << 10
)

// keptMember tells what to do with a member of an object that matters: copy it, note
// that it is there, or neither.
func keptMember(key []byte, base int) (keep, note bool) {
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

func (s *jsonScanner) scan(p []byte) {
	for _, c := range p {
		if s.inString {
			switch {
			case s.escaped:
				s.escaped = false
			case c == '\\':
				s.escaped = true
			case c == '"':
				s.inString = false
				if s.inKey {
					s.inKey = false
					continue
				}
			}
			if s.inKey {
				if len(s.key) < maxKey {
					s.key = append(s.key, c)
				}
				continue
			}
			s.copy(c)
			continue
		}
		switch c {
		case ' ', '\t', '\r', '\n':
		case '"':
			s.inString = true
			if s.inObject && s.wantKey && s.depth == s.base {
				s.wantKey, s.inKey = false, true
				s.key = s.key[:0]
				continue
			}
			s.copy(c)
		case '{', '[':
			s.open(c)
		case '}', ']':
			s.close(c)
		case ':':
			if s.inObject && s.depth == s.base && !s.keep {
				s.member()
				continue
			}
			s.copy(c)
		case ',':
			if s.inObject && s.depth == s.base {
				s.keep, s.wantKey = false, true
				continue
			}
			s.copy(c)
		default:
			if s.base == 0 && c != 0xef && c != 0xbb && c != 0xbf { // a byte order mark may precede
				s.base = -1
			}
			s.copy(c)
		}
	}
}

// open takes a bracket that opens.
func (s *jsonScanner) open(c byte) {
	s.depth++
	if s.base == 0 {
		s.base = 1
		if c == '[' {
			s.base = 2
			return
		}
	}
	if s.depth == s.base && c == '{' && !s.closed {
		s.inObject, s.wantKey, s.keep = true, true, false
		s.buf = append(s.buf[:0], '{')
		return
	}
	s.copy(c)
}

// close takes a bracket that closes.
func (s *jsonScanner) close(c byte) {
	if s.inObject && s.depth == s.base {
		s.inObject, s.keep = false, false
		s.emit(append(s.buf, '}'))
		s.buf = s.buf[:0]
	} else {
		s.copy(c)
	}
	if s.depth > 0 {
		s.depth--
	}
	s.closed = s.closed || s.base > 0 && s.depth == 0
}

// member begins the value of the member whose name was read.
func (s *jsonScanner) member() {
	keep, note := keptMember(s.key, s.base)
	if !keep && !note || len(s.buf) == 0 {
		return
	}
	s.start = len(s.buf)
	if len(s.buf) > 1 {
		s.buf = append(s.buf, ',')
	}
	s.buf = append(append(append(s.buf, '"'), s.key...), '"', ':')
	if note {
		s.buf = append(s.buf, "true"...)
		return
	}
	s.keep = true
}

func (s *jsonScanner) copy(c byte) {
	if !s.keep {
		return
	}
	if len(s.buf) == maxMember {
		s.buf = s.buf[:s.start]
		s.keep = false
		return
	}
	s.buf = append(s.buf, c)
}
