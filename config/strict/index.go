package strict

import (
	"bytes"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// kind is what a node of the index is.
type kind uint8

const (
	table  kind = iota // has kids
	array              // has elems
	scalar             // has a value
	broken             // its text was no TOML and was reported; it counts as written
)

// A node is a key or an array's element with its place in the file.
type node struct {
	kind  kind
	off   int    // where its key starts; for an element, where its value starts
	at    int    // where its value starts
	text  string // the value as written; empty for a table that has a header
	depth int    // how many keys and indices lead to it
	// header says that a [header] of its own, or [[header]], made the node; implied, that only
	// longer keys or headers did, so that one header may still follow.
	header, implied bool
	// closed says that the value is complete: nothing may be added to an array or a table in braces.
	closed bool
	failed bool             // it, or something in it, was not decoded
	kids   map[string]*node // by name
	order  []string         // the names in the order of the file
	elems  []*node
	value  any // bool, int64, float64, string or time.Time
}

// A problem is an error whose place is still an offset.
type problem struct {
	Error
	off int
	key string
}

// A document is the index of a file.
type document struct {
	src      string // the file without a byte order mark
	root     *node
	problems []problem
	// partial says that some of the file could not be attributed, so that a key may be there
	// although it is not in the index.
	partial bool
	starts  []int // where each line starts
}

// position returns the line of an offset and its column in characters, both from 1.
func (d *document) position(off int) (line, column int) {
	off = min(max(off, 0), len(d.src))
	line = d.lineOf(off)
	return line, utf8.RuneCountInString(d.src[d.starts[line-1]:off]) + 1
}

// lineOf returns the line of an offset, from 1.
func (d *document) lineOf(off int) int { return sort.SearchInts(d.starts, off+1) }

// index finds the keys of data, which is valid UTF-8 without control characters, and reads their values. It accepts whatever
// is TOML and a little more; authority rejects the rest.
func index(data []byte) *document {
	src := string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	s := &scanner{src: src, doc: &document{src: src, root: &node{}, starts: []int{0}}}
	for i := range len(src) {
		if src[i] == '\n' {
			s.doc.starts = append(s.doc.starts, i+1)
		}
	}
	s.current = s.doc.root
	for s.statement() {
	}
	return s.doc
}

// scanner walks through a file, one statement after the other.
type scanner struct {
	src     string
	pos     int
	doc     *document
	current *node  // the table that keys now belong to
	prefix  string // its name, for messages
	nesting int    // how many brackets and braces are open
}

// syntaxError ends a statement. The scanner goes on with the next line unless stop is set.
type syntaxError struct {
	off  int
	text string
	hint string
	stop bool
}

func (s *scanner) fail(off int, format string, a ...any) *syntaxError {
	return &syntaxError{off: off, text: fmt.Sprintf(format, a...)}
}

func (s *scanner) report(off int, key, text, hint string) {
	if len(s.doc.problems) > maxErrors {
		return
	}
	s.doc.problems = append(s.doc.problems, problem{Error{Problem: text, Suggestion: hint}, off, key})
}

// statement reads one header or one key with its value. It returns false at the end.
func (s *scanner) statement() bool {
	s.skipLines()
	if s.pos >= len(s.src) {
		return false
	}
	if len(s.doc.problems) > maxErrors {
		s.doc.partial = true
		return false
	}
	start := s.pos
	var err *syntaxError
	if s.src[s.pos] == '[' {
		err = s.header()
		if err != nil {
			s.current, s.prefix, s.doc.partial = &node{}, "", true
		}
	} else {
		err = s.assignment()
	}
	if err == nil {
		return true
	}
	s.report(err.off, "", err.text, err.hint)
	s.nesting = 0
	if err.stop {
		s.doc.partial = true
		return false
	}
	s.pos = start
	s.skipLine()
	return true
}

// header reads [a.b] or [[a.b]].
func (s *scanner) header() *syntaxError {
	start := s.pos
	s.pos++
	double := s.pos < len(s.src) && s.src[s.pos] == '['
	if double {
		s.pos++
	}
	parts, err := s.key(start, "]")
	if err != nil {
		return err
	}
	if !s.accept(']') || double && !s.accept(']') {
		return s.fail(start, "the header %s is not closed with %s", short(s.line(start)), strings.Repeat("]", 1+btoi(double)))
	}
	if err := s.endOfLine("the header"); err != nil {
		return err
	}
	n, name := s.doc.root, ""
	for i, p := range parts {
		last := i == len(parts)-1
		name = join(name, p.name)
		if n.depth >= MaxDepth {
			return s.fail(start, "[%s] is nested too deeply, more than %d levels", name, MaxDepth)
		}
		k := n.kids[p.name]
		switch {
		case k == nil && last && double:
			k = s.add(n, p, array)
			k.header = true
		case k == nil:
			k = s.add(n, p, table)
			k.header, k.implied = last, !last
		case k.closed || k.kind == scalar || k.kind == broken:
			line := s.doc.lineOf(k.off)
			return s.fail(p.off, "%s is a value in line %d and cannot be a table too", name, line)
		case last && double && k.kind != array:
			line := s.doc.lineOf(k.off)
			return s.fail(p.off, "%s is one table in line %d and cannot be an array of tables too", name, line)
		case last && !double && k.kind == array:
			e := s.fail(p.off, "%s is an array of tables", name)
			e.hint = "write [[" + name + "]]"
			return e
		case last && !double && !k.implied:
			line := s.doc.lineOf(k.off)
			s.report(p.off, name, fmt.Sprintf("is given twice, first in line %d", line), "put the keys of both tables under one header")
		case last && !double:
			k.off, k.header, k.implied = p.off, true, false
		}
		if last && double {
			e := &node{off: p.off, depth: k.depth + 1, header: true}
			k.elems = append(k.elems, e)
			name += fmt.Sprintf("[%d]", len(k.elems)-1)
			k = e
		} else if k.kind == array {
			name += fmt.Sprintf("[%d]", len(k.elems)-1)
			k = k.elems[len(k.elems)-1]
		}
		n = k
	}
	s.current, s.prefix = n, name
	return nil
}

// assignment reads key = value and the end of its line.
func (s *scanner) assignment() *syntaxError {
	known := len(s.doc.problems)
	n, name, fresh, err := s.assign(s.current, s.prefix)
	if err == nil {
		err = s.endOfLine("the value of " + name)
	}
	if err == nil && len(s.doc.problems) == known {
		s.evaluate(n, name)
		return nil
	}
	if n != nil && fresh {
		*n = node{kind: broken, off: n.off, depth: n.depth}
	}
	return err
}

// assign reads key = value into the table t, which is called prefix, and leaves the value
// itself unread. fresh is false when n was there before; that is then reported.
func (s *scanner) assign(t *node, prefix string) (n *node, name string, fresh bool, err *syntaxError) {
	start := s.pos
	parts, err := s.key(start, "=")
	if err != nil {
		return nil, "", false, err
	}
	name = prefix
	for i, p := range parts {
		last := i == len(parts)-1
		name = join(name, p.name)
		if t.depth >= MaxDepth {
			return nil, name, false, s.fail(start, "%s is nested too deeply, more than %d levels", name, MaxDepth)
		}
		n = t.kids[p.name]
		switch {
		case n == nil:
			n = s.add(t, p, table)
			n.implied = !last
			fresh = last
		case last:
			line := s.doc.lineOf(n.off)
			s.report(p.off, name, fmt.Sprintf("is given twice, first in line %d", line), "remove one of them")
			n = &node{off: p.off, depth: n.depth}
		case n.kind != table || n.closed:
			line := s.doc.lineOf(n.off)
			return nil, name, false, s.fail(p.off, "%s is a value in line %d and cannot be a table too", name, line)
		}
		t = n
	}
	s.skipSpace()
	if !s.accept('=') {
		return n, name, fresh, s.fail(start, "%s has no value", name)
	}
	s.skipSpace()
	return n, name, fresh, s.value(n, name)
}

// value reads the extent of a value into n, and the places of the keys and elements in it.
func (s *scanner) value(n *node, name string) *syntaxError {
	start := s.pos
	n.at, n.closed = start, true
	rest := s.src[s.pos:]
	var err *syntaxError
	switch {
	case strings.HasPrefix(rest, `"""`), strings.HasPrefix(rest, `'''`):
		n.kind = scalar
		err = s.long(name)
	case strings.HasPrefix(rest, `"`), strings.HasPrefix(rest, `'`):
		n.kind = scalar
		err = s.quoted(name)
	case strings.HasPrefix(rest, "["):
		n.kind = array
		err = s.nested(n, name, ']', "array", func() *syntaxError {
			e := &node{off: s.pos, depth: n.depth + 1}
			n.elems = append(n.elems, e)
			return s.value(e, fmt.Sprintf("%s[%d]", name, len(n.elems)-1))
		})
	case strings.HasPrefix(rest, "{"):
		n.kind = table
		err = s.nested(n, name, '}', "table", func() *syntaxError {
			_, _, _, err := s.assign(n, name)
			return err
		})
	default:
		n.kind = scalar
		stop := "\r\n#"
		if s.nesting > 0 {
			stop = "\r\n#,]}"
		}
		i := strings.IndexAny(rest, stop)
		if i < 0 {
			i = len(rest)
		}
		i = len(strings.TrimRight(rest[:i], " \t"))
		if i == 0 {
			return s.fail(start, "%s has no value", name)
		}
		s.pos += i
	}
	n.text = s.src[start:s.pos]
	return err
}

// nested reads what is in brackets or braces; item reads one item.
func (s *scanner) nested(n *node, name string, end byte, what string, item func() *syntaxError) *syntaxError {
	start := s.pos
	if n.depth >= MaxDepth {
		e := s.fail(start, "%s is nested too deeply, more than %d levels", name, MaxDepth)
		e.stop = true
		return e
	}
	s.pos++
	s.nesting++
	open := func() *syntaxError {
		line := s.doc.lineOf(start)
		at := s.doc.lineOf(s.pos)
		e := s.fail(s.pos, "the %s %s, opened in line %d, needs a comma or %q here", what, name, line, end)
		if s.pos >= len(s.src) {
			e = s.fail(start, "the %s %s is not closed with %q", what, name, end)
		}
		e.stop = at != line
		return e
	}
	for {
		s.skipLines()
		if s.accept(end) {
			break
		}
		if s.pos >= len(s.src) {
			return open()
		}
		at := s.pos
		if err := item(); err != nil {
			err.stop = err.stop || s.doc.lineOf(start) != s.doc.lineOf(at)
			return err
		}
		s.skipLines()
		if !s.accept(',') && (s.pos >= len(s.src) || s.src[s.pos] != end) {
			return open()
		}
	}
	s.nesting--
	return nil
}

// quoted reads "text" or 'text'.
func (s *scanner) quoted(name string) *syntaxError {
	start, q := s.pos, s.src[s.pos]
	for s.pos++; s.pos < len(s.src) && s.src[s.pos] != '\n'; s.pos++ {
		switch s.src[s.pos] {
		case q:
			s.pos++
			return nil
		case '\\':
			if q == '"' && s.pos+1 < len(s.src) && s.src[s.pos+1] != '\n' {
				s.pos++
			}
		}
	}
	return s.fail(start, "%s is a string that is not closed with %c in its line", name, q)
}

// long reads a string with three quotes at each end.
func (s *scanner) long(name string) *syntaxError {
	start, q := s.pos, s.src[s.pos]
	for s.pos += 3; s.pos < len(s.src); s.pos++ {
		switch s.src[s.pos] {
		case '\\':
			if q == '"' {
				s.pos++
			}
		case q:
			n := 1
			for s.pos+n < len(s.src) && s.src[s.pos+n] == q {
				n++
			}
			if n >= 6 {
				e := s.fail(s.pos, "%s has %d quotes in a row, more than a string may end with", name, n)
				e.stop = true
				return e
			}
			if n >= 3 { // up to two of them are text
				s.pos += n
				return nil
			}
			s.pos += n - 1
		}
	}
	s.pos = len(s.src)
	e := s.fail(start, "%s is a string that is not closed with %s", name, strings.Repeat(string(q), 3))
	e.stop = true
	return e
}

// part is one name of a dotted key.
type part struct {
	name string
	off  int
}

// key reads a dotted key, of the statement that begins at start, up to the character in end, which
// is not consumed.
func (s *scanner) key(start int, end string) ([]part, *syntaxError) {
	var parts []part
	for {
		s.skipSpace()
		p := part{off: s.pos}
		if s.pos < len(s.src) && (s.src[s.pos] == '"' || s.src[s.pos] == '\'') {
			if err := s.quoted("the key"); err != nil {
				return nil, err
			}
			v, e := parse(s.src[p.off:s.pos])
			if e != nil {
				return nil, s.fail(p.off, "the key %s cannot be read: %s", short(s.src[p.off:s.pos]), e.text)
			}
			p.name, _ = v.(string)
		} else {
			for s.pos < len(s.src) && bare(s.src[s.pos]) {
				s.pos++
			}
			if s.pos == p.off {
				return nil, s.badKey(start)
			}
			p.name = s.src[p.off:s.pos]
		}
		parts = append(parts, p)
		if len(parts) > MaxDepth {
			return nil, s.fail(start, "the key %s… has more than %d parts", short(s.src[start:s.pos]), MaxDepth)
		}
		s.skipSpace()
		if s.accept('.') {
			continue
		}
		if s.pos < len(s.src) && strings.IndexByte(end, s.src[s.pos]) >= 0 {
			return parts, nil
		}
		return nil, s.badKey(start)
	}
}

// badKey explains text that was to be a key.
func (s *scanner) badKey(start int) *syntaxError {
	line := s.line(start)
	switch i := strings.IndexByte(line, '='); {
	case strings.HasPrefix(line, "["):
		return s.fail(start, "this is not a header: %s", short(line))
	case i < 0 && strings.IndexByte(line, ':') >= 0:
		e := s.fail(start, "this is not TOML: %s", short(line))
		e.hint = "write key = value"
		return e
	case i == 0:
		return s.fail(start, "there is no key before the = in %s", short(line))
	case i > 0:
		e := s.fail(start, "this is not a key: %s", short(line[:i]))
		e.hint = "a key is letters, digits, _ and -; put other names in quotes"
		return e
	}
	e := s.fail(start, "this is neither key = value nor a [header]: %s", short(line))
	if strings.HasPrefix(line, "//") || strings.HasPrefix(line, ";") {
		e.hint = "a comment starts with #"
	}
	return e
}

func (s *scanner) add(t *node, p part, k kind) *node {
	n := &node{kind: k, off: p.off, depth: t.depth + 1}
	if t.kids == nil {
		t.kids = map[string]*node{}
	}
	t.kids[p.name] = n
	t.order = append(t.order, p.name)
	return n
}

func (s *scanner) accept(c byte) bool {
	if s.pos < len(s.src) && s.src[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

func (s *scanner) skipSpace() {
	for s.pos < len(s.src) && (s.src[s.pos] == ' ' || s.src[s.pos] == '\t') {
		s.pos++
	}
}

// skipLine goes to the end of the line.
func (s *scanner) skipLine() {
	if i := strings.IndexByte(s.src[s.pos:], '\n'); i >= 0 {
		s.pos += i
	} else {
		s.pos = len(s.src)
	}
}

// skipLines skips space, empty lines and comments.
func (s *scanner) skipLines() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		case '#':
			s.skipLine()
		default:
			return
		}
	}
}

// endOfLine reads the end of a line, which may have a comment.
func (s *scanner) endOfLine(after string) *syntaxError {
	s.skipSpace()
	if s.pos >= len(s.src) || s.src[s.pos] == '#' || s.src[s.pos] == '\n' || s.src[s.pos] == '\r' {
		s.skipLine()
		return nil
	}
	e := s.fail(s.pos, "there is more after %s: %s", after, short(s.line(s.pos)))
	e.hint = "start a new line"
	return e
}

// line returns what is left of the line that off is in.
func (s *scanner) line(off int) string {
	l, _, _ := strings.Cut(s.src[off:], "\n")
	return strings.TrimRight(l, "\r \t")
}

// evaluate gives n, and all that is in it, its values.
func (s *scanner) evaluate(n *node, name string) {
	v, err := parse(n.text)
	if err == nil && attach(n, v) {
		return
	}
	text, hint, at := "has a value that cannot be read", "", n.off
	if err != nil {
		text, hint = unquoted(n, name, err)
		if n.kind != scalar || strings.HasPrefix(n.text, `"""`) {
			at = n.at + err.off
		}
	}
	s.report(at, name, text, hint)
	*n = node{kind: broken, off: n.off, depth: n.depth}
}

var (
	aDuration = regexp.MustCompile(`^[+-]?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h|d))+$`)
	aWord     = regexp.MustCompile(`^[A-Za-z][\w./:@+-]*$`)
)

// unquoted says what is wrong with the text of a value that did not parse.
func unquoted(n *node, name string, err *syntaxError) (text, hint string) {
	last := last(name)
	switch t := n.text; {
	case n.kind != scalar || t[0] == '"' || t[0] == '\'':
		return "has a value that cannot be read: " + err.text, ""
	case strings.EqualFold(t, "true"), strings.EqualFold(t, "yes"), strings.EqualFold(t, "on"):
		return "is " + t + ", which is not TOML", "write " + last + " = true"
	case strings.EqualFold(t, "false"), strings.EqualFold(t, "no"), strings.EqualFold(t, "off"):
		return "is " + t + ", which is not TOML", "write " + last + " = false"
	case aDuration.MatchString(t), aWord.MatchString(t):
		return "is " + short(t) + " without quotes", "write " + last + " = " + strconv.Quote(t)
	default:
		return "is " + short(t) + ", which is not TOML: " + err.text, ""
	}
}

// attach moves the parsed value v into n; it reports whether the two have the same shape.
func attach(n *node, v any) bool {
	switch v := v.(type) {
	case map[string]any:
		if n.kind != table || len(v) != len(n.kids) {
			return false
		}
		for name, x := range v {
			if k := n.kids[name]; k == nil || !attach(k, x) {
				return false
			}
		}
		return true
	case []any:
		if n.kind != array || len(v) != len(n.elems) {
			return false
		}
		for i, x := range v {
			if !attach(n.elems[i], x) {
				return false
			}
		}
		return true
	}
	n.value = v
	return n.kind == scalar
}

// parse reads one value. An error's offset counts from the start of text.
func parse(text string) (v any, err *syntaxError) {
	const name = "v = "
	m, e := unmarshal(name + text)
	if e != nil {
		e.off = min(max(0, e.off-len(name)), len(text))
		return nil, e
	}
	return m["v"], nil
}

// authority reports why src is not TOML, in the eyes of the parser that others use, or nil.
func authority(src string) *problem {
	if _, err := unmarshal(src); err != nil {
		return &problem{Error{Problem: "this is not TOML: " + err.text}, err.off, ""}
	}
	return nil
}

// unmarshal is toml.Unmarshal with an offset in its error and without its panics.
func unmarshal(src string) (m map[string]any, err *syntaxError) {
	defer func() {
		if r := recover(); r != nil {
			err = &syntaxError{text: "it cannot be read"}
		}
	}()
	if _, e := toml.Decode(src, &m); e != nil {
		pe, ok := e.(toml.ParseError)
		if !ok {
			return nil, &syntaxError{text: e.Error()}
		}
		return nil, &syntaxError{off: pe.Position.Start, text: pe.Message}
	}
	return m, nil
}

// short returns text in one line of at most 60 characters.
func short(text string) string {
	const most = 60
	text = strings.TrimSpace(text)
	n := 0
	for i := range text {
		if n++; n > most {
			text = text[:i] + "…"
			break
		}
	}
	return oneLine(text)
}

// oneLine returns text with its line ends and other control characters as spaces.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u0085' || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
}

// bare reports whether c may stand in a key without quotes.
func bare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// join returns the full name of a key in a table, with quotes where TOML wants them.
func join(prefix, name string) string {
	quote := name == ""
	for i := range len(name) {
		quote = quote || !bare(name[i])
	}
	if quote {
		name = strconv.Quote(short(name))
	}
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
