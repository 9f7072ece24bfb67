package feedback

import (
	"bytes"
	"encoding/json"
	"math/bits"
)

// value is the text of one JSON value, as it was sent and without white space around
// it. A nil value is one that is not there. Reading a value neither builds a tree nor
// allocates, except for strings with escapes.
type value []byte

// parseJSON returns the JSON value that b holds, after a byte order mark and white space;
// ok is false when b holds anything else.
func parseJSON(b []byte) (v value, ok bool) {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	b = bytes.Trim(b, " \t\r\n")
	if len(b) == 0 || !json.Valid(b) {
		return nil, false
	}
	return value(b), true
}

// kind returns the first byte of the value, '0' for all numbers and 0 when it is not there.
func (v value) kind() byte {
	if len(v) == 0 {
		return 0
	}
	if c := v[0]; c != '-' && !isDigit(c) {
		return c
	}
	return '0'
}

func (v value) isObject() bool { return v.kind() == '{' }
func (v value) isArray() bool  { return v.kind() == '[' }

// get returns the member of an object; nil when there is none or v is no object. Of
// several members with one name it returns the last.
func (v value) get(name string) value {
	var found value
	r := members(v)
	for {
		key, val, ok := r.next()
		if !ok {
			return found
		}
		if keyIs(key, name) {
			found = val
		}
	}
}

// at follows a path of members.
func (v value) at(path ...string) value {
	for _, name := range path {
		v = v.get(name)
	}
	return v
}

// elements calls f for every element of an array until it returns false.
func (v value) elements(f func(value) bool) {
	if !v.isArray() {
		return
	}
	i := skipSpace(v, 1)
	for i < len(v) && v[i] != ']' {
		end := skipValue(v, i)
		if end < 0 || !f(v[i:end:end]) {
			return
		}
		i = skipSpace(v, end)
		if i < len(v) && v[i] == ',' {
			i = skipSpace(v, i+1)
		}
	}
}

// text returns what a JSON string says.
func (v value) text() (string, bool) {
	if v.kind() != '"' || len(v) < 2 {
		return "", false
	}
	if inner := v[1 : len(v)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	var s string
	err := json.Unmarshal(v, &s)
	return s, err == nil
}

// scalar returns what a string says or a number is written as.
func (v value) scalar() (string, bool) {
	if v.kind() == '0' {
		return string(v), true
	}
	return v.text()
}

// empty reports whether the value is not there, null, false, zero, "", {} or [].
func (v value) empty() bool {
	switch v.kind() {
	case 0, 'n', 'f':
		return true
	case '0':
		return zeroNumber(v)
	case '"':
		return len(v) <= 2
	case '{', '[':
		return len(bytes.Trim(v[1:], " \t\r\n")) <= 1
	}
	return false
}

// isString reports whether v is the JSON string s, which needs no escapes.
func (v value) isString(s string) bool {
	return v.kind() == '"' && len(v) >= 2 && keyIs(v[1:len(v)-1], s)
}

// zeroNumber reports whether a JSON number is zero, without computing it.
func zeroNumber(v value) bool {
	for _, c := range v {
		switch {
		case '1' <= c && c <= '9':
			return false
		case c|0x20 == 'e':
			return true // 0e5 is still zero
		}
	}
	return true
}

// memberReader reads the members of an object one after the other. It does not check
// that the object is well-formed, but it never reads beyond it.
type memberReader struct {
	v   value
	i   int
	end int // after the object, when its end was read
}

func members(v value) memberReader {
	if !v.isObject() {
		return memberReader{}
	}
	return memberReader{v: v, i: 1}
}

// next returns the next member; key is without its quotes and with its escapes.
func (r *memberReader) next() (key []byte, val value, ok bool) {
	v, i := r.v, skipSpace(r.v, r.i)
	if i < len(v) && v[i] == ',' {
		i = skipSpace(v, i+1)
	}
	if i >= len(v) || v[i] != '"' {
		if i < len(v) && v[i] == '}' {
			r.end = i + 1
		}
		r.i = len(v)
		return nil, nil, false
	}
	end := skipString(v, i)
	if end < 0 {
		r.i = len(v)
		return nil, nil, false
	}
	key = v[i+1 : end-1]
	i = skipSpace(v, end)
	if i >= len(v) || v[i] != ':' {
		r.i = len(v)
		return nil, nil, false
	}
	i = skipSpace(v, i+1)
	if end = skipValue(v, i); end < 0 {
		r.i = len(v)
		return nil, nil, false
	}
	r.i = end
	return key, v[i:end:end], true
}

// keyIs reports whether a member's key, still escaped, is name.
func keyIs(key []byte, name string) bool {
	if string(key) == name {
		return true
	}
	if len(key) <= len(name) || bytes.IndexByte(key, '\\') < 0 {
		return false
	}
	quoted := make(value, 0, len(key)+2)
	quoted = append(append(append(quoted, '"'), key...), '"')
	s, ok := quoted.text()
	return ok && s == name
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipString returns the index after the string that begins at b[i], or -1.
func skipString(b []byte, i int) int {
	i++
	if n := indexQuote(b[i:]); n < 0 {
		return -1
	} else if n == 0 || b[i+n-1] != '\\' { // the usual string has no escape before its end
		return i + n + 1
	}
	for ; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		// The quote ends the string unless an odd number of backslashes precedes it.
		from := i
		i += n
		k := i
		for k > from && b[k-1] == '\\' {
			k--
		}
		if (i-k)%2 == 0 {
			return i + 1
		}
	}
	return -1
}

// indexQuote is bytes.IndexByte for a quote, and quicker when it is near: most strings of an answer are short.
func indexQuote(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	at := 0
	for at < 24 && at+8 <= len(b) {
		e := b[at : at+8 : at+8] // in one load
		x := uint64(e[0]) | uint64(e[1])<<8 | uint64(e[2])<<16 | uint64(e[3])<<24 |
			uint64(e[4])<<32 | uint64(e[5])<<40 | uint64(e[6])<<48 | uint64(e[7])<<56
		x ^= '"' * ones
		if zero := (x - ones) &^ x & tops; zero != 0 { // the lowest one is exact
			return at + bits.TrailingZeros64(zero)/8
		}
		at += 8
	}
	if n := bytes.IndexByte(b[at:], '"'); n >= 0 {
		return at + n
	}
	return -1
}

// skipValue returns the index after the value that begins at b[i], or -1. It counts
// brackets and does not check what is between them.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for {
			n := 0
			for _, c := range b[i:] {
				if structural[c] {
					break
				}
				n++
			}
			if i += n; i == len(b) {
				return -1
			}
			switch b[i] {
			case '"':
				if i = skipString(b, i); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	start := i
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// structural marks the bytes that matter between brackets.
var structural = [256]bool{'"': true, '{': true, '}': true, '[': true, ']': true}
