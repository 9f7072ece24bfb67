package feedback

import "bytes"

// memberKind is what a Sieve makes of a member of the one object of a 2xx answer in JSON.
type memberKind uint8

const (
	memberOther  memberKind = iota // it does not matter
	memberNoted                    // it matters that it is there
	memberUsage                    // it can tell of nothing but usage
	memberDetail                   // it tells more of an error when there is one
	memberError                    // it may make the answer an error
	memberCode                     // together with a message it may
)

// kindOfMember returns what to make of a member with a name, as keptMember does for a Stream.
func kindOfMember(name []byte) memberKind {
	switch string(name) {
	case "choices", "output", "candidates":
		return memberNoted
	case "usage", "usageMetadata", "usage_metadata", "Usage", "x_groq", "prompt_eval_count", "eval_count":
		return memberUsage
	case "error", "errors", "error_code", "base_resp", "Response", "__type":
		return memberError
	case "code", "message":
		return memberCode
	case "type", "detail", "details", "reason", "title", "retry_after", "retry_after_ms", "retry_after_seconds", "retryAfterSeconds":
		return memberDetail
	}
	return memberOther
}

// onlyUsage reports whether the member of a name can tell of nothing but usage.
func onlyUsage(name []byte) bool { return kindOfMember(name) == memberUsage }

// note notes that a member is there.
func (n *noted) note(name []byte) {
	switch string(name) {
	case "choices":
		n.choices = true
	case "output":
		n.output = true
	case "candidates":
		n.candidates = true
	}
}

// finish reads the rest of the body's object where it is, when it is all there. It begins in p at n: at the value of the member with a
// name, or between two members when name is nil. ok is true when there is nothing in it that a Stream would be
// needed for; the object then ends before end. Otherwise nothing is known that was not before, and end is how far the usual way need not
// look: n, or later between two members when those in between do not matter.
func (s *Sieve) finish(p []byte, n int, name []byte) (end int, ok bool) {
	var (
		seen          = s.noted
		told          bool // a member that matters when there is an error, or tells of usage
		code, message bool
		safe          = n
		counts        usageCounts
		counted       bool
		i             = skipSpace(p, n)
	)
	if name == nil && i < len(p) && p[i] == '}' {
		s.close()
		return i + 1, true
	}
	for {
		if name == nil {
			if i >= len(p) || p[i] != '"' {
				break
			}
			from := i + 1
			for i = from; i < len(p) && p[i] != '"' && p[i] != '\\'; {
				i++
			}
			if i == len(p) || p[i] == '\\' { // a name with an escape may be any
				break
			}
			name = p[from:i]
			if i = skipSpace(p, i+1); i >= len(p) || p[i] != ':' {
				break
			}
			i = skipSpace(p, i+1)
		} else if bytes.IndexByte(name, '\\') >= 0 {
			break
		}
		from, kind := i, kindOfMember(name)
		if kind == memberUsage && s.Usage && i < len(p) && p[i] == '{' && name[0]|0x20 == 'u' {
			// Most of the work, and so in one go.
			if !counted {
				counts, counted = noCounts, true
			}
			told = true
			size := counts.object(p[i:])
			if size > maxMember {
				return n, false
			}
			if i += size; size == 0 || i == len(p) {
				break
			}
		} else if i = skipValue(p, i); i < 0 || i == len(p) {
			break
		} else if kind == memberNoted {
			seen.note(name)
		} else if kind != memberOther && p[from] != 'n' && (kind != memberUsage || s.Usage) {
			v := value(p[from:i:i])
			if len(v) > maxMember || kind == memberError && suspectMember(name, v) {
				return n, false
			}
			told = true
			if kind == memberCode && v.kind() == '"' {
				code, message = code || name[0] == 'c', message || name[0] == 'm'
			}
			if s.Usage && kind != memberDetail {
				if !counted {
					counts, counted = noCounts, true
				}
				counts.member(name, v)
			}
		}
		name = nil
		if i = skipSpace(p, i); i == len(p) {
			break
		}
		if p[i] == ',' {
			i = skipSpace(p, i+1)
			safe = i
			continue
		}
		if p[i] != '}' {
			break
		}
		if code && message && !seen.choices && !seen.output {
			return n, false
		}
		s.noted = seen
		if counted {
			if u := counts.usage(); u.Known {
				s.spent, s.used = Spent{u.Input, u.Output, u.CachedInput}, true
			}
		}
		s.close()
		return i + 1, true
	}
	// It goes on in another piece, or is no JSON.
	if told || safe == n {
		return n, false
	}
	s.noted, s.cursor.wantKey = seen, true
	return safe, false
}

// close says that the body's object has ended.
func (s *Sieve) close() {
	c := &s.cursor
	c.depth, c.inObject, c.wantKey, c.closed, c.npart = 0, false, false, true, 0
}

// suspectMember reports whether a member of a 2xx answer's object may be by itself what makes it an error, as suspectObject does.
func suspectMember(name []byte, v value) bool {
	switch string(name) {
	case "base_resp":
		return nonZero(v.get("status_code"))
	case "Response":
		return !v.get("Error").empty()
	}
	return !v.empty() // error, errors, error_code, __type
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
