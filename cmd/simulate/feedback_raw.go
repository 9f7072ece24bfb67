package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/flyball-go/flyball/feedback"
)

const (
	// statusLine is how many bytes tell a status line, HTTP/1.1 and a code.
	statusLine = 20
	// maxHead bounds a status line with its header, in bytes.
	maxHead = 1 << 20
	// maxPrefix is how much of a body feedback.Parse looks at, in bytes.
	maxPrefix = 64 << 10
	// maxDecoded bounds what a compressed body may grow to, in bytes.
	maxDecoded = 64 << 20
)

var statusPattern = regexp.MustCompile(`(?i)^HTTP/[0-9](?:\.[0-9])? +([1-9][0-9][0-9])(?:[ \t]+(.*))?$`)

// isStatusLine reports whether an answer begins with start.
func isStatusLine(start []byte) bool {
	return len(start) > 6 && strings.EqualFold(string(start[:5]), "HTTP/") && '0' <= start[5] && start[5] <= '9'
}

// raw reads what curl -i prints and returns what it means. There may be several answers: those of proxies, redirects
// and retries come before the one that counts.
func (r *reading) raw(s *source) (feedback.Signal, error) {
	for {
		line := s.line
		h, err := readHead(s)
		if err != nil {
			return feedback.Signal{}, err
		}
		body := &rawBody{s: s, left: h.length()}
		a := r.defaults
		a.Status, a.Header = h.status, h.header
		signal := r.signal(r.name, a, body, true)
		if err := body.skip(); err != nil {
			return feedback.Signal{}, err
		}
		if body.answerFollows() {
			continue
		}
		// Some answers only say that another one will come.
		tunnel := strings.EqualFold(h.reason, "connection established") && body.size == 0
		if h.status < 200 && h.status != 101 || tunnel {
			return feedback.Signal{}, &badInput{line, "the answer itself is missing: nothing comes after " + strconv.Quote(strings.TrimSpace(strconv.Itoa(h.status)+" "+h.reason)) +
				"; let curl -i run to its end"}
		}
		return signal, nil
	}
}

// head is a status line and the header fields after it.
type head struct {
	status int
	reason string
	header map[string][]string // names in lower case
}

// readHead reads a status line, header fields, and the empty line after them.
func readHead(s *source) (*head, error) {
	size := 0
	next := func() (string, error) {
		line, err := s.readLine(maxHead - size)
		if errors.Is(err, errTooLong) {
			return "", s.badf("the header is larger than 1 MiB: put an empty line between it and the body")
		}
		size += len(line)
		return string(line), err
	}
	first := s.line
	line, err := next()
	if err != nil {
		return nil, err
	}
	m := statusPattern.FindStringSubmatch(line)
	if m == nil {
		return nil, &badInput{first, "the status line is " + strconv.Quote(shorten([]byte(line))) + ", must be like HTTP/1.1 429 Too Many Requests, or HTTP/2 429"}
	}
	h := &head{header: map[string][]string{}, reason: strings.TrimSpace(m[2])}
	h.status, _ = strconv.Atoi(m[1]) // three digits
	last := ""
	var value []byte // of the last field
	for {
		at := s.line
		line, err := next()
		folded := line != "" && (line[0] == ' ' || line[0] == '\t')
		if last != "" && !folded {
			h.header[last] = append(h.header[last], string(bytes.TrimSpace(value)))
		}
		if err == io.EOF || err == nil && line == "" {
			return h, nil
		}
		if err != nil {
			return nil, err
		}
		if folded {
			if last == "" {
				return nil, &badInput{at, "the line begins with a space, but there is no header field that it goes on with: remove the space"}
			}
			value = append(append(value, ' '), strings.TrimSpace(line)...)
			continue
		}
		name, rest, ok := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		if !ok || !isToken(name) {
			return nil, &badInput{at, strconv.Quote(shorten([]byte(line))) + " is no header field: put an empty line between the header and the body"}
		}
		last = strings.ToLower(name)
		value = append(value[:0], strings.TrimSpace(rest)...)
	}
}

// isToken reports whether s can be the name of a field (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// length returns the length of the body as sent, or -1 when the header does not tell.
func (h *head) length() int64 {
	if v := h.header["content-length"]; len(v) == 1 && h.header["transfer-encoding"] == nil {
		if n, err := strconv.ParseInt(v[0], 10, 64); err == nil && n >= 0 {
			return n
		}
	}
	return -1
}

// rawBody is a body. It ends where the next answer begins: at once, as after 100 Continue and redirects, or after
// Content-Length, as with curl --retry. Elsewhere a status line is part of the body.
type rawBody struct {
	s    *source
	left int64 // bytes until the next answer may begin; -1 when it cannot
	size int64
}

func (b *rawBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.answerFollows() {
		return 0, io.EOF
	}
	if b.left == 0 {
		b.left = -1 // a body that curl decompressed is longer than it was sent
	}
	if b.left > 0 {
		p = p[:min(int64(len(p)), b.left)]
	}
	n, err := b.s.Read(p)
	b.size += int64(n)
	if b.left > 0 {
		b.left -= int64(n)
	}
	b.s.line += bytes.Count(p[:n], []byte("\n"))
	return n, err
}

// answerFollows reports whether the next answer begins here.
func (b *rawBody) answerFollows() bool {
	if b.size > 0 && b.left != 0 {
		return false
	}
	start, _ := b.s.Peek(statusLine)
	if i := bytes.IndexAny(start, "\r\n"); i >= 0 {
		start = start[:i]
	}
	return statusPattern.Match(start)
}

// skip reads the rest of the body. An error of the file is the source's to tell.
func (b *rawBody) skip() error {
	_, err := io.Copy(io.Discard, b)
	return err
}

// signal reads an answer as a guard does: feedback.Parse looks at the beginning, and when that is a success, a
// feedback.Stream at the rest as it passes. In what curl prints, trailers come after the body.
func (r *reading) signal(name string, a feedback.Answer, body io.Reader, trailers bool) feedback.Signal {
	body, encoded := r.decode(name, a.Header, body)
	if r.prefix == nil {
		r.prefix = make([]byte, maxPrefix)
	}
	n, err := io.ReadFull(body, r.prefix)
	prefix := r.prefix[:n]
	if trailers && err != nil {
		prefix = cutTrailers(a.Header, prefix)
	}
	a.Body = prefix
	s := feedback.Parse(a)
	if s.Class != feedback.OK || a.Status < 200 || a.Status > 299 || len(prefix) == 0 {
		return s
	}
	header := a.Header
	if encoded {
		header = maps.Clone(header)
		maps.DeleteFunc(header, func(name string, _ []string) bool { return strings.EqualFold(name, "content-encoding") })
	}
	stream := feedback.NewStream(feedback.StreamConfig{Status: a.Status, Header: header, Provider: a.Provider, Rules: a.Rules}, a.Now)
	stream.Scan(prefix, a.Now)
	if err == nil {
		piece := make([]byte, 32<<10)
		for err == nil {
			n, err = body.Read(piece)
			stream.Scan(piece[:n], a.Now)
		}
	}
	stream.Finish(a.Now)
	if report := stream.Report(); report.Refused {
		return report.Signal
	}
	return s
}

// decode returns the body without its Content-Encoding, and whether it had one. Often curl has taken it off already
// and left the field.
func (r *reading) decode(name string, header map[string][]string, body io.Reader) (_ io.Reader, encoded bool) {
	var codings []string
	for k, values := range header {
		if strings.EqualFold(k, "content-encoding") {
			for c := range strings.SplitSeq(strings.Join(values, ","), ",") {
				if c = strings.ToLower(strings.TrimSpace(c)); c != "" && c != "identity" {
					codings = append(codings, c)
				}
			}
		}
	}
	if len(codings) == 0 {
		return body, false
	}
	start := make([]byte, 512)
	n, _ := io.ReadFull(body, start)
	start = start[:n]
	body = io.MultiReader(bytes.NewReader(start), body)
	coding := strings.Join(codings, ", ")
	switch {
	case (coding == "gzip" || coding == "x-gzip") && bytes.HasPrefix(start, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(body)
		if err != nil {
			r.note(name, "the body is no gzip, though content-encoding says so, and is not read: %v", err)
			return strings.NewReader(""), true
		}
		z.Multistream(false)
		return &gunzip{r: r, name: name, z: z, left: maxDecoded}, true
	case isText(start):
		return body, true
	}
	r.note(name, "the body is encoded with %s and is not read: save it with curl -i --compressed", printable(coding))
	return strings.NewReader(""), true
}

// isText reports whether b is the beginning of a text.
func isText(b []byte) bool {
	for i := len(b) - 1; i >= 0 && i > len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				b = b[:i] // the last character is cut
			}
			break
		}
	}
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0
}

// gunzip reads a gzip body as far as it goes, and says so when that is not to its end.
type gunzip struct {
	r    *reading
	name string
	z    *gzip.Reader
	left int // bytes
	done bool
}

func (g *gunzip) Read(p []byte) (int, error) {
	if g.done {
		return 0, io.EOF
	}
	n, err := g.z.Read(p[:min(len(p), g.left)])
	g.left -= n
	switch {
	case err == io.EOF:
		g.done = true
	case err != nil:
		g.r.note(g.name, "the gzip body breaks off and is read until there: %v", err)
		g.done, err = true, io.EOF
	case g.left == 0:
		g.r.note(g.name, "64 MiB of the body are read, not the rest")
		g.done, err = true, io.EOF
	}
	return n, err
}

// cutTrailers moves the trailers that curl prints right after a body, in the same line, into the header. It takes only
// those that the header announces, and gRPC's.
func cutTrailers(header map[string][]string, body []byte) []byte {
	var names []string
	for v := range strings.SplitSeq(strings.Join(header["trailer"], ","), ",") {
		if v = strings.ToLower(strings.TrimSpace(v)); isToken(v) {
			names = append(names, v)
		}
	}
	if t := header["content-type"]; len(t) > 0 && strings.HasPrefix(strings.ToLower(t[0]), "application/grpc") {
		names = append(names, "grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-retry-pushback-ms")
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) > 100 {
		return body // nobody announces that many
	}
	for len(names) > 0 {
		rest := bytes.TrimRight(body, "\r\n")
		from := bytes.LastIndexByte(rest, '\n') + 1
		line := bytes.Clone(rest[from:])
		for i, c := range line {
			if 'A' <= c && c <= 'Z' {
				line[i] = c | 0x20
			}
		}
		// The names may contain each other: the one that begins first has the line.
		at, name := -1, ""
		for _, n := range names {
			if i := bytes.LastIndex(line, []byte(n+":")); i >= 0 && (at < 0 || i < at) {
				at, name = i, n
			}
		}
		if at < 0 {
			return body
		}
		header[name] = append(header[name], strings.TrimSpace(string(rest[from+at+len(name)+1:])))
		body = rest[:from+at]
		if at > 0 {
			return body // the body ends in this line
		}
	}
	return body
}
