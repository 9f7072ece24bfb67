package feedback

import "bytes"

// finish reads the rest of the body's object where it is, when it is all there. It begins in p at n: at the value of the member with a
// name, or between two members when name is nil. ok is true when there is nothing in it that a Stream would be
// needed for; the object then ends before end. Otherwise nothing is known that was not before, and end is how far the usual way need not
// look: n, or later between two members when those in between do not matter.
func (s *Sieve) finish(p []byte, n int, name []byte) (end int, ok bool) {
	var (
		counts        = noCounts
		told          bool // a member that matters when there is an error, or tells of usage
		code, message bool
		seen          = s.noted
		safe          = n
	)
	i := skipSpace(p, n)
	for {
		if name == nil {
			if i < len(p) && p[i] == '}' { // after the last member, or of an object without any
				break
			}
			if i >= len(p) || p[i] != '"' {
				return s.cut(seen, told, safe, n)
			}
			q := bytes.IndexByte(p[i+1:], '"')
			if q < 0 {
				return s.cut(seen, told, safe, n)
			}
			name = p[i+1 : i+1+q]
			if i = skipSpace(p, i+q+2); i >= len(p) || p[i] != ':' {
				return s.cut(seen, told, safe, n)
			}
			i = skipSpace(p, i+1)
		}
		if bytes.IndexByte(name, '\\') >= 0 {
			return s.cut(seen, told, safe, n) // it may be any name
		}
		start := i
		if i = skipValue(p, i); i < 0 || i == len(p) {
			return s.cut(seen, told, safe, n)
		}
		v := value(p[start:i:i])
		switch keep, note := keptMember(name, 1); {
		case note:
			switch string(name) {
			case "choices":
				seen.choices = true
			case "output":
				seen.output = true
			case "candidates":
				seen.candidates = true
			}
		case keep && v.kind() != 'n' && (s.Usage || !onlyUsage(name)):
			if suspectMember(name, v) || len(v) > maxMember {
				return n, false
			}
			told = true
			code = code || string(name) == "code" && v.kind() == '"'
			message = message || string(name) == "message" && v.kind() == '"'
			if s.Usage {
				counts.member(name, v)
			}
		}
		name = nil
		if i = skipSpace(p, i); i < len(p) && p[i] == ',' {
			i = skipSpace(p, i+1)
			safe = i
			continue
		}
		if i >= len(p) || p[i] != '}' {
			return s.cut(seen, told, safe, n)
		}
		break
	}
	if code && message && !seen.choices && !seen.output {
		return n, false
	}
	s.noted = seen
	if u := counts.usage(); u.Known {
		s.spent, s.used = Spent{u.Input, u.Output, u.CachedInput}, true
	}
	s.cursor.depth, s.cursor.inObject, s.cursor.wantKey, s.cursor.closed, s.cursor.npart = 0, false, false, true, 0
	return i + 1, true
}

// cut is finish for an object that goes on in another piece, or is no JSON.
func (s *Sieve) cut(seen noted, told bool, safe, n int) (end int, ok bool) {
	if told || safe == n {
		return n, false
	}
	s.noted, s.cursor.wantKey = seen, true
	return safe, false
}

// suspectMember reports whether a member of a 2xx answer's object may be by itself what makes it an error, as suspectObject does.
func suspectMember(name []byte, v value) bool {
	switch string(name) {
	case "error", "errors", "error_code", "__type":
		return !v.empty()
	case "base_resp":
		return nonZero(v.get("status_code"))
	case "Response":
		return !v.get("Error").empty()
	}
	return false
}

// member takes the usage that a member of the one object of a body tells, as observe does.
func (c *usageCounts) member(name []byte, v value) {
	switch string(name) {
	case "usage", "usageMetadata", "usage_metadata", "Usage":
		c.object(v)
	case "message", "x_groq":
		c.object(v.get("usage"))
	case "Response":
		c.object(v.get("Usage"))
	case "prompt_eval_count":
		c.prompt = tokens(v, c.prompt)
	case "eval_count":
		c.output = tokens(v, c.output)
	}
}
