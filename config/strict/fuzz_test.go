package strict

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"pgregory.net/rapid"
)

// seeds are texts with everything that the index has to see through.
var seeds = []string{
	"", "\n", "# c", "a = 1", "a.b.'c d'.\"e\\n\" = [1, [2, {x = 1}], 'y'] # c\r\n",
	"[a]\nb = \"\"\"\n[x]\\\"\"\"\"\"\n[[a.c]]\nd = '''\n''\n'''\n[[a.c]]\nd = 1\n[a.c.e]\nf = 1\n",
	"a = { b = 1, c.d = [\n 1,\n # ]\n], }\n[x]\n[x.y]\n[x.z]\n",
	"t = 1979-05-27 07:32:00\nu = 07:32:00 # c\nv = inf\nw = -nan\nx = 0xdead_beef\ny = 1e-3",
	"[guard]\nqueue = 1\nmax_wait = '60s'\n[guard]\nqueue = 2\n",
	"a = \"\"\"\"\"\"\nb = ''''''\nc = \"\"\"a\"\"\"\"\"\n", "a = [[[[]]]]\n[b]\na = {}\n", "[[a]]\n[[a.b]]\n[[a]]\n[a.b]",
	"title = 'x\nguard = [1 2]\n= 1\n[x", "\xef\xbb\xbfa = 1", "\"\" = 1\n[\"\"]", "a = 1\na.b = 2\n[a]\n[[a]]",
	"a = [ { b = 1 }, { b = 2 } ]\n[[a]]\nb = 3", "a.b = 1\n[a]\nc = 2", "[a.b]\n[a]\nb.c = 1", "a={b=1}\na.c=1",
}

// FuzzDecode says that Decode survives every file, and that the index agrees with the
// TOML parser: about what a file holds, about where its keys are, and about whether it is TOML.
func FuzzDecode(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	for _, pattern := range []string{"../testdata/*.toml", "../../limits.toml"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkDecode(t, data)
		if foreign(data) == nil {
			checkIndex(t, data)
		}
	})
}

func checkDecode(t *testing.T, data []byte) {
	t.Helper()
	var dst outer
	err := Decode("x.toml", data, &dst)
	if err == nil {
		return
	}
	var all Errors
	if !errors.As(err, &all) || len(all) == 0 {
		t.Fatalf("Decode(%q) returns %#v, want Errors", data, err)
	}
	lines := strings.Count(string(data), "\n") + 1
	before := 0
	for _, e := range all {
		if e.Line < before || e.Line > lines || strings.Contains(e.Error(), "\n") {
			t.Fatalf("Decode(%q) returns the error %q after line %d, in a file of %d lines", data, e, before, lines)
		}
		before = e.Line
	}
}

func checkIndex(t *testing.T, data []byte) {
	t.Helper()
	doc := index(data)
	want, err := unmarshal(doc.src)
	if len(doc.problems) > 0 {
		// The parser lets a table in braces be added to; TOML does not, and neither does the index.
		text := doc.problems[0].Problem
		if err == nil && !strings.Contains(text, "more than 32") && !strings.Contains(text, "cannot be a table too") {
			t.Fatalf("the index finds %q in %q, which is TOML", doc.problems[0].Problem, data)
		}
		return
	}
	if err != nil {
		return // the authority, which Decode asks, rejects what the index lets through
	}
	if got := plain(doc.root); !same(got, want) {
		t.Fatalf("the index of %q holds\n%#v, want\n%#v", data, got, want)
	}
	checkPlaces(t, doc, doc.root)
}

// checkPlaces fails unless each key is where the index says.
func checkPlaces(t *testing.T, doc *document, n *node) {
	t.Helper()
	for name, k := range n.kids {
		text := doc.src[k.off:]
		if text != "" && bare(text[0]) {
			i := 0
			for i < len(text) && bare(text[i]) {
				i++
			}
			text = text[:i]
		} else {
			s := &scanner{src: text, doc: doc}
			if err := s.quoted(""); err != nil {
				t.Fatalf("%q has no key at %d, want %q", doc.src, k.off, name)
			}
			v, _ := parse(text[:s.pos])
			text, _ = v.(string)
		}
		if text != name {
			t.Fatalf("%q has the key %q at %d, want %q", doc.src, text, k.off, name)
		}
		checkPlaces(t, doc, k)
	}
	for _, e := range n.elems {
		checkPlaces(t, doc, e)
	}
}

// plain returns n in the form that the TOML parser gives.
func plain(n *node) any {
	switch n.kind {
	case table:
		m := map[string]any{}
		for name, k := range n.kids {
			m[name] = plain(k)
		}
		return m
	case array:
		a := []any{}
		for _, e := range n.elems {
			a = append(a, plain(e))
		}
		return a
	}
	return n.value
}

// same is reflect.DeepEqual for parsed TOML, with NaN equal to itself and arrays of tables as arrays.
func same(a, b any) bool {
	if t, ok := b.([]map[string]any); ok {
		all := make([]any, len(t))
		for i, m := range t {
			all[i] = m
		}
		b = all
	}
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for k, v := range x {
			w, ok := y[k]
			if !ok || !same(v, w) {
				return false
			}
		}
		return true
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !same(x[i], y[i]) {
				return false
			}
		}
		return true
	case float64:
		y, ok := b.(float64)
		return ok && (x == y || math.IsNaN(x) && math.IsNaN(y))
	case time.Time:
		y, ok := b.(time.Time)
		return ok && x.Equal(y)
	}
	return reflect.DeepEqual(a, b)
}

// TestIndexAgreesOnTOML runs the index over files made of TOML's own pieces, which random bytes
// seldom are.
func TestIndexAgreesOnTOML(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		"a", "b", "'c'", "\"d\"", ".", ".", "=", " = ", "[", "]", "[[", "]]", "{", "}", ",", ", ", "\n", "\n", "\r\n", " ", "\t", "#x", "1", "-1.5",
		"true", "inf", "1979-05-27 07:32:00", "\"\"\"", "'''", "'", "\"", "\\", "\\\"", "x", "\na = ", "\n[a]\n", "\n[[b]]\n", "\nb.c = ", "{ a = 1 }", "[1, 2]", "\n[b.c]\n", "a.b = 1\n",
	})
	rapid.Check(t, func(rt *rapid.T) {
		data := []byte(strings.Join(rapid.SliceOfN(piece, 0, 30).Draw(rt, "pieces"), ""))
		checkDecode(t, data)
		if foreign(data) == nil {
			checkIndex(t, data)
		}
	})
}

// TestDecodeIsBounded decodes the largest files that are the worst for a parser.
func TestDecodeIsBounded(t *testing.T) {
	fill := func(s string) string { return strings.Repeat(s, MaxSize/len(s)) }
	for name, src := range map[string]string{
		"brackets":       "a = " + fill("[")[4:],
		"braces":         "a = " + fill("{a=")[4:],
		"dots":           fill("a."),
		"dotted header":  "[" + fill("a.")[1:],
		"same key":       fill("a=1\n"),
		"same element":   "a = {" + fill("a=1,")[6:],
		"headers":        fill("[a]\n"),
		"tables":         fill("[[a]]\n"),
		"quotes":         fill("\"\"\"\n"),
		"long string":    "a = \"\"\"" + fill("\\\" ")[10:] + "\"",
		"array":          "a = [" + fill("1,")[6:] + "]",
		"array of lines": "a = [\n" + fill("1,\n")[6:] + "]",
		"junk":           fill("!"),
		"junk lines":     fill("!\n"),
		"comments":       fill("#"),
		"one word":       "a = " + fill("x")[4:],
		"valid, deep":    fill("[a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p]\n[[q.r]]\n")[:64],
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			checkDecode(t, []byte(src))
			if d := time.Since(start); d > time.Minute { // what is not linear takes hours
				t.Errorf("Decode takes %v", d)
			}
		})
	}
}

// TestDepthIsBoundedBeforeTheParser is the reason for the index's limits: the parser would follow any depth.
func TestDepthIsBoundedBeforeTheParser(t *testing.T) {
	var m map[string]any
	deep := "a = " + strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)
	if _, err := toml.Decode(deep, &m); err != nil {
		t.Errorf("the parser rejects %q itself: %v", deep, err)
	}
	var dst outer
	if err := Decode("x.toml", []byte(deep), &dst); err == nil || !strings.Contains(err.Error(), "nested too deeply") {
		t.Errorf("Decode(%q) = %v, want an error for the depth", deep, err)
	}
}

// TestMisspeltKeys changes one letter of a key and wants the key back.
func TestMisspeltKeys(t *testing.T) {
	s := (&decoder{types: map[reflect.Type]*structType{}}).structOf(reflect.TypeFor[limits]())
	const letters = "abcdefghijklmnopqrstuvwxyz_"
	rapid.Check(t, func(rt *rapid.T) {
		key := s.fields[rapid.IntRange(0, len(s.fields)-1).Draw(rt, "key")].name
		i := rapid.IntRange(0, len(key)-1).Draw(rt, "at")
		c := string(letters[rapid.IntRange(0, len(letters)-1).Draw(rt, "letter")])
		var bad string
		switch rapid.IntRange(0, 3).Draw(rt, "edit") {
		case 0:
			bad = key[:i] + key[i+1:]
		case 1:
			bad = key[:i] + c + key[i:]
		case 2:
			bad = key[:i] + c + key[i+1:]
		default:
			if i == 0 {
				i = 1
			}
			bad = key[:i-1] + key[i:i+1] + key[i-1:i] + key[i+1:]
		}
		near := 0 // other keys that are as near
		for _, f := range s.fields {
			if f.name == bad {
				return
			}
			if f.name != key && edits(fold(bad), fold(f.name)) <= 1 {
				near++
			}
		}
		var dst outer
		err := Decode("x.toml", []byte("[guard]\n"+bad+" = 1"), &dst)
		if want := "did you mean " + key + "?"; near == 0 && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Fatalf("%q gives %v, want %q", bad, err, want)
		}
	})
}

func TestAuthority(t *testing.T) {
	p := authority("a = 1\nb = !")
	if p == nil || p.off != 10 || p.Problem != "this is not TOML: expected value but found '!' instead" {
		t.Errorf("authority: %+v", p)
	}
	if p := authority("a = 1"); p != nil {
		t.Errorf("authority rejects TOML: %+v", p)
	}
}

func TestEdits(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "abd", 1}, {"abc", "xabc", 1}, {"kitten", "sitting", 3}, {strings.Repeat("a", 65), "a", 65}} {
		if got := edits(tt.a, tt.b); got != tt.want {
			t.Errorf("edits(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
