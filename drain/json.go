package drain

import (
	"bytes"
	"encoding/json"
)

// What is here reads JSON that json.Valid has accepted, without parsing what nobody asks for: bodies are large.

const jsonSpace = " \t\r\n"

// topFields yields the names and values of an object; of anything else it yields nothing.
func topFields(b []byte) func(yield func(string, []byte) bool) {
	return func(yield func(string, []byte) bool) {
		i := skipSpace(b, 0)
		if i >= len(b) || b[i] != '{' {
			return
		}
		for i = skipSpace(b, i+1); i < len(b) && b[i] == '"'; i = skipSpace(b, i+1) {
			end := skipString(b, i)
			var name string
			if readString(b[i:end], &name) != nil {
				return
			}
			i = skipSpace(b, skipSpace(b, end)+1) // behind the colon
			start := i
			i = skipValue(b, i)
			if !yield(name, bytes.TrimRight(b[start:i], jsonSpace)) || i >= len(b) || b[i] != ',' {
				return
			}
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

// skipString returns the index after the string that begins at i.
func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// skipValue returns the index after the value that begins at i, and the space behind it.
func skipValue(b []byte, i int) int {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			i = skipString(b, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return len(b)
}

// compact appends src without the space between its tokens.
func compact(dst, src []byte) []byte {
	for i := 0; i < len(src); {
		switch src[i] {
		case ' ', '\n', '\t', '\r':
			i++
		case '"':
			end := skipString(src, i)
			dst = append(dst, src[i:end]...)
			i = end
		default:
			dst = append(dst, src[i])
			i++
		}
	}
	return dst
}
