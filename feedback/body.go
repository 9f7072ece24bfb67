package feedback

import (
	"bytes"
	"strings"
)

// maxBody is how much of a body is looked at, in bytes.
const maxBody = 64 << 10

// document is what a body or an event says.
type document struct {
	// root is the JSON object that codes are read from; nil when there is none.
	root value
	// text is the sentences of it, in lower case and with single spaces.
	text string
	// aliyun says that the body links to help.aliyun.com, as DashScope's answers do.
	aliyun bool
}

// readDocument reads a body as JSON and, failing that, as text without HTML tags.
func readDocument(body []byte) document {
	body = prefix(body)
	d := document{aliyun: bytes.Contains(body, []byte("help.aliyun.com"))}
	v, ok := parseJSON(body)
	if !ok {
		d.text = normalize(stripTags(string(body)))
		return d
	}
	d.root = rootObject(v)
	var p prose
	if d.root != nil {
		p.object(d.root)
		if p.b.Len() == 0 {
			p.sentences(d.root)
		}
	} else {
		p.all(v)
	}
	d.text = normalize(p.b.String())
	return d
}

func prefix(body []byte) []byte { return body[:min(len(body), maxBody)] }

// rootObject returns the object that codes are read from: the value itself, or the first
// element of an array that has an error which is not empty.
func rootObject(v value) value {
	if v.isObject() {
		return v
	}
	var root value
	v.elements(func(e value) bool {
		if !e.get("error").empty() {
			root = e
			return false
		}
		return true
	})
	return root
}

// prose collects the sentences of a body. It knows the members that hold sentences, so
// that names of policies, echoed prompts and links are not read as facts.
type prose struct {
	b strings.Builder
}

func (p *prose) add(s string) {
	if p.b.Len() > 0 {
		p.b.WriteByte('\n')
	}
	p.b.WriteString(s)
}

// object collects from the members of an error or of its envelope.
func (p *prose) object(v value) {
	r := members(v)
	for {
		key, val, ok := r.next()
		if !ok {
			return
		}
		switch strings.ToLower(string(key)) {
		case "message", "msg", "error_msg", "error_message", "errormessage", "errmsg", "status_msg",
			"error_description", "title", "text", "description", "faultstring", "raw":
			p.all(val)
		case "error", "errors", "detail", "details", "response", "base_resp", "metadata":
			switch val.kind() {
			case '"':
				p.all(val)
			case '{':
				p.object(val)
			case '[':
				// The elements of a google.rpc details list are typed; they hold no sentences.
				if string(key) == "details" {
					continue
				}
				val.elements(func(e value) bool {
					if e.isObject() {
						p.object(e)
					} else {
						p.all(e)
					}
					return true
				})
			}
		}
	}
}

// all collects every string in v.
func (p *prose) all(v value) {
	switch v.kind() {
	case '"':
		if s, ok := v.text(); ok {
			p.add(s)
		}
	case '{', '[':
		p.strings(v, func(s string) { p.add(s) })
	}
}

// sentences collects the strings in v that have a space: the last resort for a body of an
// unknown shape.
func (p *prose) sentences(v value) {
	p.strings(v, func(s string) {
		if strings.Contains(s, " ") {
			p.add(s)
		}
	})
}

// strings calls f for the string values anywhere in v. It does not recurse, so that deep
// nesting costs nothing.
func (p *prose) strings(v value, f func(string)) {
	for i := 0; i < len(v); i++ {
		if v[i] != '"' {
			continue
		}
		end := skipString(v, i)
		if end < 0 {
			return
		}
		if next := skipSpace(v, end); next >= len(v) || v[next] != ':' {
			if s, ok := v[i:end].text(); ok {
				f(s)
			}
		}
		i = end - 1
	}
}

// stripTags replaces HTML tags by spaces, and drops scripts and styles whole.
func stripTags(s string) string {
	if !strings.Contains(s, "<") {
		return s
	}
	var b strings.Builder
	opaque := [...]string{"script", "style"}
	for {
		i := strings.IndexByte(s, '<')
		if i < 0 || i+1 >= len(s) {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		if c := s[1]; !isLetter(c) && c != '/' && c != '!' && c != '?' {
			b.WriteByte('<')
			s = s[1:]
			continue
		}
		end := strings.IndexByte(s, '>')
		if end < 0 {
			b.WriteString(s)
			return b.String()
		}
		tag := s[1:end]
		s = s[end+1:]
		b.WriteByte(' ')
		for k, name := range opaque {
			if name == "" || len(tag) < len(name) || !strings.EqualFold(tag[:len(name)], name) {
				continue
			}
			if i := indexFold(s, "</"+name); i >= 0 {
				s = s[i:]
			} else {
				opaque[k] = "" // there is no end further on, either
			}
		}
	}
}

// indexFold returns the index of sub, in lower case, in s whatever the case of its letters.
func indexFold(s, sub string) int {
	for i := 0; i+len(sub) <= len(s); i++ {
		n := strings.IndexByte(s[i:], sub[0])
		if n < 0 || i+n+len(sub) > len(s) {
			return -1
		}
		if i += n; strings.EqualFold(s[i:i+len(sub)], sub) {
			return i
		}
	}
	return -1
}

// normalize returns s in lower case, with runs of white space as single spaces. Bytes that
// are not UTF-8 stay what they are.
func normalize(s string) string {
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c == ' ' || c == '\n' || c == '\r' || c == '\t':
			if len(b) > 0 && b[len(b)-1] != ' ' {
				b = append(b, ' ')
			}
		case 'A' <= c && c <= 'Z':
			b = append(b, c|0x20)
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// isError reports whether the object, in the body of a 2xx answer, is an error.
func isError(root value, status int) bool {
	if !root.get("error").empty() || !root.at("Response", "Error").empty() {
		return true
	}
	if e := root.get("errors"); e.isArray() && !e.empty() {
		return true
	}
	if nonZero(root.get("error_code")) || nonZero(root.at("base_resp", "status_code")) {
		return true
	}
	if t := root.get("__type"); t.kind() == '"' && !t.empty() {
		return true
	}
	code, message := root.get("code"), root.get("message")
	if code.kind() != '"' || message.kind() != '"' || root.get("output") != nil || root.get("choices") != nil {
		return false
	}
	s, _ := code.text()
	// A word of success is no code, and a code that only repeats the status is none either.
	switch strings.ToLower(s) {
	case "", "0", "ok", "success":
		return false
	}
	return s != statusText(status)
}

// nonZero reports whether a code is there and is neither zero nor empty.
func nonZero(v value) bool {
	if v.empty() {
		return false
	}
	s, ok := v.text()
	return !ok || s != "0"
}

// suspect reports whether a 2xx body may be an error. It looks at the names of the
// top-level members only, allocates nothing and misses no error that isError sees.
func suspect(body []byte) bool {
	body = bytes.TrimPrefix(prefix(body), []byte("\xef\xbb\xbf"))
	i := skipSpace(body, 0)
	if i >= len(body) {
		return false
	}
	switch body[i] {
	case '{':
		return suspectObject(value(body[i:]))
	case '[':
		found := false
		value(body[i:]).elements(func(e value) bool {
			found = suspectObject(e)
			return !found
		})
		return found
	}
	return false
}

func suspectObject(v value) bool {
	r := members(v)
	for {
		key, val, ok := r.next()
		if !ok {
			return false
		}
		switch string(key) {
		case "error", "errors", "error_code", "__type":
			if !val.empty() {
				return true
			}
		case "base_resp":
			if nonZero(val.get("status_code")) {
				return true
			}
		case "Response":
			if !val.get("Error").empty() {
				return true
			}
		case "code":
			if val.kind() == '"' {
				return true
			}
		default:
			if bytes.IndexByte(key, '\\') >= 0 {
				return true
			}
		}
	}
}
