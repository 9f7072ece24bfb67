package feedback

import (
	"strings"
	"time"
)

// The RateLimit and RateLimit-Policy fields (draft-ietf-httpapi-ratelimit-headers) are
// lists of structured fields (RFC 9651): strings with parameters,
//
//	RateLimit: "burst";r=50;t=30
//	RateLimit-Policy: "burst";q=100;w=60, "daily";q=1000;w=86400;qu="tokens"
//
// A field that is malformed anywhere is ignored whole.

// maxPolicies bounds the members of one field; a field with more is ignored.
const maxPolicies = 32

// policy is one member of either field; a number that was not told is Unstated.
type policy struct {
	name string
	unit string
	// r and t are RateLimit's remaining units and seconds; q and w are RateLimit-Policy's
	// quota and window in seconds.
	r, t, q, w int64
}

// structuredWindows appends the windows that the two fields describe, matched by the
// policy's name.
func structuredWindows(buf []Window, own int, limits, policies []string) []Window {
	var limitBuf, policyBuf [8]policy
	ps := parsePolicies(policyBuf[:0], policies, true)
	ls := parsePolicies(limitBuf[:0], limits, false)
	for _, l := range ls {
		w := Window{Kind: ScopeRequests, Limit: Unstated, Remaining: l.r, Reset: Unstated}
		if l.t != Unstated {
			w.Reset = ceilMilli(decimal{whole: uint64(l.t)}.times(uint64(time.Second)))
		}
		for _, p := range ps {
			if p.name == l.name {
				w.Kind, w.Limit = p.kind(), p.q
				break
			}
		}
		buf = addWindow(buf, own, w)
	}
	for _, p := range ps {
		known := false
		for _, l := range ls {
			known = known || l.name == p.name
		}
		if !known {
			buf = addWindow(buf, own, Window{Kind: p.kind(), Limit: p.q, Remaining: Unstated, Reset: Unstated})
		}
	}
	return buf
}

// kind returns the quantity that a policy counts.
func (p policy) kind() Scope {
	switch {
	case p.unit == "concurrent-requests":
		return ScopeConcurrency
	case p.w >= int64(24*time.Hour/time.Second):
		return ScopeDaily
	case p.unit == "tokens":
		return ScopeTokens
	case p.unit == "" || p.unit == "requests":
		return ScopeRequests
	}
	return ScopeUnknown
}

// parsePolicies appends the members of a field to buf; it returns none when any of its
// lines is malformed or lacks the parameter that its members must have.
func parsePolicies(buf []policy, lines []string, isPolicy bool) []policy {
	for _, line := range lines {
		s := strings.Trim(line, " ")
		for s != "" {
			var p policy
			var ok bool
			if p, s, ok = cutPolicy(s); !ok {
				return nil
			}
			if isPolicy && p.q == Unstated || !isPolicy && p.r == Unstated || len(buf) == maxPolicies {
				return nil
			}
			buf = append(buf, p)
			s = strings.TrimLeft(s, " \t")
			if s == "" {
				break
			}
			if s[0] != ',' {
				return nil
			}
			if s = strings.TrimLeft(s[1:], " \t"); s == "" {
				return nil // a trailing comma
			}
		}
	}
	return buf
}

// cutPolicy reads one list member: a string and its parameters.
func cutPolicy(s string) (p policy, rest string, ok bool) {
	p = policy{r: Unstated, t: Unstated, q: Unstated, w: Unstated}
	if p.name, s, ok = cutString(s); !ok {
		return p, s, false
	}
	for s != "" && s[0] == ';' {
		s = strings.TrimLeft(s[1:], " ")
		n := 0
		for n < len(s) && isKeyByte(s[n], n == 0) {
			n++
		}
		if n == 0 {
			return p, s, false
		}
		key := s[:n]
		s = s[n:]
		var item bareItem
		item.kind = '?' // a parameter without a value is true
		if s != "" && s[0] == '=' {
			if item, s, ok = cutBareItem(s[1:]); !ok {
				return p, s, false
			}
		}
		switch key {
		case "r":
			p.r, ok = item.natural()
		case "t":
			p.t, ok = item.natural()
		case "q":
			p.q, ok = item.natural()
		case "w":
			p.w, ok = item.natural()
		case "qu":
			p.unit, ok = item.text, item.kind == '"'
		}
		if !ok {
			return p, s, false
		}
	}
	return p, s, true
}

// bareItem is a structured-field value. kind is '"' for a string, '0' for an integer,
// '.' for a decimal, 'a' for a token, ':' for bytes, '?' for a boolean, '@' for a date and
// '%' for a display string.
type bareItem struct {
	kind   byte
	number int64
	text   string
}

func (b bareItem) natural() (int64, bool) { return b.number, b.kind == '0' && b.number >= 0 }

func isKeyByte(c byte, first bool) bool {
	if 'a' <= c && c <= 'z' || c == '*' {
		return true
	}
	return !first && (isDigit(c) || c == '_' || c == '-' || c == '.')
}

// cutBareItem reads a bare item, RFC 9651 section 4.2.3.1.
func cutBareItem(s string) (item bareItem, rest string, ok bool) {
	if s == "" {
		return item, s, false
	}
	switch c := s[0]; {
	case c == '"':
		item.kind = '"'
		item.text, rest, ok = cutString(s)
		return item, rest, ok
	case c == '-' || isDigit(c):
		return cutSFNumber(s)
	case isLetter(c) || c == '*':
		n := 1
		for n < len(s) && isTokenByte(s[n]) {
			n++
		}
		return bareItem{kind: 'a', text: s[:n]}, s[n:], true
	case c == ':':
		end := strings.IndexByte(s[1:], ':')
		if end < 0 || !isBase64(s[1:1+end]) {
			return item, s, false
		}
		return bareItem{kind: ':'}, s[end+2:], true
	case c == '?':
		if len(s) < 2 || s[1] != '0' && s[1] != '1' {
			return item, s, false
		}
		return bareItem{kind: '?'}, s[2:], true
	case c == '@':
		item, rest, ok = cutSFNumber(s[1:])
		if item.kind != '0' {
			return item, rest, false
		}
		item.kind = '@'
		return item, rest, ok
	case c == '%':
		item.text, rest, ok = cutString(s[1:])
		item.kind = '%'
		return item, rest, ok
	}
	return item, s, false
}

// cutSFNumber reads an integer of at most 15 digits or a decimal of at most 12 and 3.
func cutSFNumber(s string) (item bareItem, rest string, ok bool) {
	i := 0
	if s != "" && s[0] == '-' {
		i++
	}
	start := i
	var n int64
	for ; i < len(s) && isDigit(s[i]); i++ {
		if i-start == 15 {
			return item, s, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	if i == start {
		return item, s, false
	}
	if i < len(s) && s[i] == '.' {
		whole, frac := i-start, i+1
		for i++; i < len(s) && isDigit(s[i]); i++ {
		}
		if whole > 12 || i == frac || i-frac > 3 {
			return item, s, false
		}
		return bareItem{kind: '.'}, s[i:], true
	}
	if s[0] == '-' {
		n = -n
	}
	return bareItem{kind: '0', number: n}, s[i:], true
}

// cutString reads a quoted string of printable ASCII, in which a backslash may only
// precede a quote or a backslash. Escapes stay in the text: names are only compared.
func cutString(s string) (text, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", s, false
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[1:i], s[i+1:], true
		case c == '\\':
			if i++; i >= len(s) || s[i] != '"' && s[i] != '\\' {
				return "", s, false
			}
		case c < 0x20 || c > 0x7e:
			return "", s, false
		}
	}
	return "", s, false
}

func isTokenByte(c byte) bool {
	return isLetter(c) || isDigit(c) || strings.IndexByte("!#$%&'*+-.^_`|~:/", c) >= 0
}

func isBase64(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && !isDigit(c) && c != '+' && c != '/' && c != '=' {
			return false
		}
	}
	return true
}
