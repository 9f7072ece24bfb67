package drain

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
)

// What is here reads JSON once, and does not parse what nobody asks for: bodies are large, and most of what a job costs besides its
// call is to look at them.

const jsonSpace = " \t\r\n"

// nesting is how deep values may be nested, as in encoding/json, and wrapping how many objects are around a body in a line of results.
const (
	nesting  = 10_000
	wrapping = 2
)

// valid reports whether b is one JSON value, as json.Valid does, that is nested so deep at most, and whether there is white space between
// its tokens.
func valid(b []byte, most int) (ok, spaced bool) {
	i := skipSpace(b, 0)
	end, spaced := scanValue(b, i, most)
	if end < 0 || skipSpace(b, end) != len(b) {
		return false, false
	}
	return true, spaced || i > 0 || end < len(b)
}

// scanValue checks the JSON value that begins at i and returns the index after it, or -1 when it is none, or one that is nested deeper than
// most; spaced says that there is white space between its tokens.
func scanValue(b []byte, i, most int) (end int, spaced bool) {
	var few [32]byte
	open := few[:0] // the brackets around what is at i
	space := func() {
		if i < len(b) && b[i] <= ' ' {
			at := i
			i = skipSpace(b, i)
			spaced = spaced || i > at
		}
	}
	key := func() bool { // and its colon
		if i >= len(b) || b[i] != '"' {
			return false
		}
		if i = scanString(b, i); i < 0 {
			return false
		}
		space()
		if i >= len(b) || b[i] != ':' {
			return false
		}
		i++
		space()
		return true
	}
	for {
		if i >= len(b) {
			return -1, false
		}
		switch c := b[i]; {
		case c == '"':
			i = scanString(b, i)
		case c == '{', c == '[':
			if len(open) == most {
				return -1, false
			}
			open = append(open, c)
			i++
			space()
			if i < len(b) && b[i] == c+2 { // the bracket that closes it
				break
			}
			if c == '{' && !key() {
				return -1, false
			}
			continue
		case c == '-' || '0' <= c && c <= '9':
			i = scanNumber(b, i)
		case c == 't':
			i = scanWord(b, i, "true")
		case c == 'f':
			i = scanWord(b, i, "false")
		case c == 'n':
			i = scanWord(b, i, "null")
		default:
			return -1, false
		}
		if i < 0 {
			return -1, false
		}
		for more := false; !more; {
			if len(open) == 0 {
				return i, spaced
			}
			space()
			if i >= len(b) {
				return -1, false
			}
			c := open[len(open)-1]
			switch b[i] {
			case c + 2:
				open = open[:len(open)-1]
				i++
			case ',':
				i++
				space()
				if c == '{' && !key() {
					return -1, false
				}
				more = true
			default:
				return -1, false
			}
		}
	}
}

// scanWord returns the index after a word that is expected at i, or -1.
func scanWord(b []byte, i int, word string) int {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

// scanNumber returns the index after the number that begins at i, or -1.
func scanNumber(b []byte, i int) int {
	digits := func() bool {
		at := i
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		return i > at
	}
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if !digits() {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		if i++; !digits() {
			return -1
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return -1
		}
	}
	return i
}

// special returns a word whose lowest bit that is set is in the first byte of w that is a quote, a backslash or a control
// character; 0 when there is none. Eight bytes at a time, as in "Bit Twiddling Hacks" (determine if a word has a byte less than n).
func special(w uint64) uint64 {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, back := w^ones*'"', w^ones*'\\'
	return ((w-ones*' ')&^w | (quote-ones)&^quote | (back-ones)&^back) & high
}

// scanString returns the index after the string that begins at i, or -1 when it does not end or has in it what may not be.
func scanString(b []byte, i int) int {
	for i++; ; {
		for len(b)-i >= 8 {
			if s := special(binary.LittleEndian.Uint64(b[i:])); s != 0 {
				i += bits.TrailingZeros64(s) / 8
				break
			}
			i += 8
		}
		for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
			i++
		}
		switch {
		case i >= len(b) || b[i] < ' ':
			return -1
		case b[i] == '"':
			return i + 1
		}
		if i+1 >= len(b) { // a backslash
			return -1
		}
		switch b[i+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i += 2
		case 'u':
			if len(b)-i < 6 || !hexDigits(b[i+2:i+6]) {
				return -1
			}
			i += 6
		default:
			return -1
		}
	}
}

func hexDigits(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return true
}

// field is a name of an object with its value. A name with an escape in it is as it is written.
type field struct {
	name, value []byte
	spaced      bool // there is white space between the tokens of the value
}

// scanFields checks the JSON object that begins at i, gives each field to f, and returns the index after it; -1 when it is none.
func scanFields(b []byte, i int, f func(field)) (end int) {
	if i >= len(b) || b[i] != '{' {
		return -1
	}
	if i = skipSpace(b, i+1); i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return -1
		}
		var n field
		end := scanString(b, i)
		if end < 0 {
			return -1
		}
		n.name = b[i+1 : end-1]
		if bytes.IndexByte(n.name, '\\') >= 0 {
			var s string
			if json.Unmarshal(b[i:end], &s) == nil {
				n.name = []byte(s)
			}
		}
		if i = skipSpace(b, end); i >= len(b) || b[i] != ':' {
			return -1
		}
		i = skipSpace(b, i+1)
		if end, n.spaced = scanValue(b, i, nesting-1); end < 0 {
			return -1
		}
		n.value = b[i:end]
		f(n)
		if i = skipSpace(b, end); i >= len(b) {
			return -1
		}
		switch b[i] {
		case '}':
			return i + 1
		case ',':
			i = skipSpace(b, i+1)
		default:
			return -1
		}
	}
}

// readString reads a JSON string.
func readString(b []byte, s *string) error {
	if len(b) >= 2 && b[0] == '"' {
		plain := true
		for _, c := range b[1 : len(b)-1] {
			if c == '\\' || c >= 0x80 {
				plain = false
				break
			}
		}
		if plain {
			*s = string(b[1 : len(b)-1])
			return nil
		}
	}
	return json.Unmarshal(b, s)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// compact appends src, which is JSON, without the space between its tokens.
func compact(dst, src []byte) []byte {
	for i := 0; i < len(src); {
		at := i
		for i < len(src) && src[i] > ' ' {
			if src[i] == '"' {
				i = scanString(src, i)
			} else {
				i++
			}
		}
		dst = append(dst, src[at:i]...)
		i = skipSpace(src, i)
	}
	return dst
}
