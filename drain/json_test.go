package drain

import (
	"encoding/json"
	"strings"
	"testing"
)

// What the scanner accepts is what encoding/json accepts, and it sees white space where there is some.
func FuzzValid(f *testing.F) {
	for _, s := range []string{
		``, ` `, `{}`, `[]`, `{"a":1}`, ` {"a" : [1, -2.5e+3, "x\"\\\u00e9", null, true, false]} `, `[1,]`, `{"a":1,}`, `{"a"}`, `{,}`, `[`, `"`, `"\`,
		`"\u12`, `"\x"`, "\"\x1f\"", "\"\x7f\xff\"", `01`, `-`, `1.`, `1e`, `.5`, `nul`, `truex`, `{"a":1}{}`, `[[[[1],[2]]],{"b":{}}]`, `"12345678\"90123456"`, `"1234567`,
		strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001), strings.Repeat("[", 40),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ok, spaced := valid(b, nesting)
		if ok != json.Valid(b) {
			t.Fatalf("valid(%q) is %v", b, ok)
		}
		if !ok {
			return
		}
		if c := compact(nil, b); spaced != (len(c) < len(b)) {
			t.Errorf("valid(%q) says that there is white space: %v; without it %q", b, spaced, c)
		}
	})
}

// Every byte that matters is found wherever it is in the eight that are looked at together.
func TestScanString(t *testing.T) {
	for at := range 40 {
		for c := range 256 {
			s := []byte(`"` + strings.Repeat("a", 40) + `"`)
			s[1+at] = byte(c)
			want := len(s)
			switch {
			case c == '"':
				want = at + 2
			case c < ' ', c == '\\': // \a is no escape
				want = -1
			}
			if got := scanString(s, 0); got != want {
				t.Fatalf("scanString(%q) = %d, want %d", s, got, want)
			}
		}
	}
}
