package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Request is what makes two requests the same.
type Request struct {
	// Scope is where it goes and for whom: the route, the upstreams, the tenant.
	Scope []string
	// Method, URL and Body are the request's; the Body is JSON.
	Method, URL string
	Body        []byte
	Header      http.Header
}

// idle are the header fields that say nothing of what is asked for. All others are a part of the key: a field that is not known may
// change the answer.
var idle = map[string]bool{
	"Cache-Control": true, "Connection": true, "Content-Length": true, "Date": true, "Expect": true,
	"Idempotency-Key": true, "Keep-Alive": true, "Pragma": true, "Priority": true, "Referer": true, "Te": true, "Traceparent": true,
	"Tracestate": true, "Baggage": true, "Transfer-Encoding": true, "Upgrade": true, "User-Agent": true, "Via": true, "X-Request-Id": true,
	"X-Forwarded-For": true, "X-Real-Ip": true, "X-Client-Request-Id": true, "Dnt": true,
	"Sec-Fetch-Mode": true, "Sec-Fetch-Site": true, "Sec-Fetch-Dest": true,
	// Of traces and of ways: load balancers, tracers and SDKs put another value into each request, or the caller's address.
	"X-Amzn-Trace-Id": true, "X-Cloud-Trace-Context": true, "B3": true, "Sentry-Trace": true, "Uber-Trace-Id": true, "X-Correlation-Id": true,
	"Request-Id": true, "Correlation-Context": true, "X-Ms-Client-Request-Id": true, "Cf-Ray": true, "Cf-Connecting-Ip": true, "True-Client-Ip": true,
	"X-Request-Start": true, "X-Original-Forwarded-For": true, "X-Envoy-External-Address": true,
}

func isIdle(field string) bool {
	for _, prefix := range [...]string{"X-Stainless-", "X-Flyball-", "X-B3-", "X-Datadog-"} {
		if strings.HasPrefix(field, prefix) {
			return true
		}
	}
	return idle[field]
}

// whose is a pair of Forwarded that says who asked, or through whom.
var whose = regexp.MustCompile(`^(?i:for|by)=(?:[\w.-]+|"[\w.:\[\]-]+")$`)

// asked returns what Forwarded says (RFC 7239) but for who asked, which would make each caller's request behind a proxy another one.
func asked(values []string) (elements []string) {
	for _, v := range values {
		for e := range strings.SplitSeq(v, ",") {
			pairs := strings.Split(e, ";")
			elements = append(elements, strings.Join(slices.DeleteFunc(pairs, func(p string) bool { return whose.MatchString(strings.TrimSpace(p)) }), ";"))
		}
	}
	return elements
}

// Varies reports whether an answer says that it depends on what is not a part of the key.
func Varies(h http.Header) bool {
	for _, f := range h["Vary"] {
		for name := range strings.SplitSeq(f, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name == "*" || isIdle(name) || name == "Forwarded" { // of which the key has a part
				return true
			}
		}
	}
	return false
}

// KeyOf returns the key of a request. The error says that the body cannot be told from others, so that the request must not be cached.
func KeyOf(r *Request) (k Key, err error) {
	h := sha256.New()
	list(h, r.Scope)
	put(h, r.Method, r.URL)
	fields := make([]string, 0, len(r.Header))
	for f := range r.Header {
		if !isIdle(f) {
			fields = append(fields, f)
		}
	}
	slices.Sort(fields)
	number(h, len(fields))
	for _, f := range fields {
		put(h, f)
		if f == "Forwarded" {
			list(h, asked(r.Header[f]))
		} else {
			list(h, r.Header[f])
		}
	}
	if err := canonical(h, r.Body); err != nil {
		return Key{}, err
	}
	h.Sum(k[:0])
	return k, nil
}

// put writes strings, so that none runs into the next.
func put(h hash.Hash, ss ...string) {
	for _, s := range ss {
		number(h, len(s))
		_, _ = io.WriteString(h, s)
	}
}

// list writes a list of strings, so that none runs into what follows it, whatever is in them.
func list(h hash.Hash, ss []string) {
	number(h, len(ss))
	put(h, ss...)
}

func number(h hash.Hash, n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	_, _ = h.Write(b[:])
}

var errText = errors.New("cache: a string is not well-formed Unicode, and an upstream may tell it from others that are not")

var errTwice = errors.New("cache: an object has a key twice")

// canonical writes JSON so that space and the order of keys do not count, and as it reads it: no more is kept of it than the keys of the
// objects it is in. Numbers are written as they are: 1 and 1.0 are two, because an upstream may tell them apart.
func canonical(w io.Writer, body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := value(w, d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF { // before what follows, which reads nothing but JSON
		return errors.New("cache: there is more than one value in the body")
	}
	if !utf8.Valid(body) || loneSurrogate(body) {
		return errText
	}
	return nil
}

// loneSurrogate reports whether there is a \uD800 to \uDFFF in b, which is JSON, that is no half of a pair. The decoder takes all of
// them for U+FFFD.
func loneSurrogate(b []byte) bool {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return false
		}
		if b = b[i:]; b[1] != 'u' {
			b = b[2:]
			continue
		}
		first := unit(b)
		if b = b[6:]; !utf16.IsSurrogate(first) {
			continue
		}
		if len(b) < 6 || b[0] != '\\' || b[1] != 'u' || utf16.DecodeRune(first, unit(b)) == utf8.RuneError {
			return true
		}
		b = b[6:]
	}
}

// unit reads the escape at the beginning of b, such as \u00e4.
func unit(b []byte) rune {
	n, _ := strconv.ParseUint(string(b[2:6]), 16, 16) // the decoder has read it
	return rune(n)
}

// member is a key of an object with the hash of its value.
type member struct {
	key   string
	value [sha256.Size]byte
}

const deepest = 200

// value reads the next value and writes it so that none is the beginning of another one.
func value(w io.Writer, d *json.Decoder, depth int) error {
	if depth > deepest {
		return errors.New("cache: the body is nested too deeply")
	}
	t, err := d.Token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('['):
		_, _ = io.WriteString(w, "[")
		for d.More() {
			if err := value(w, d, depth+1); err != nil {
				return err
			}
		}
		_, _ = io.WriteString(w, "]")
		_, err := d.Token()
		return err
	case json.Delim('{'):
		return object(w, d, depth)
	}
	switch v := t.(type) {
	case string:
		_, _ = fmt.Fprintf(w, "%q,", v)
	case json.Number:
		_, _ = fmt.Fprintf(w, "#%s,", v)
	case json.Delim:
		return fmt.Errorf("cache: %v is out of place", v)
	default: // true, false, null
		_, _ = fmt.Fprintf(w, "%v,", v)
	}
	return nil
}

// object is value after the brace of an object.
func object(w io.Writer, d *json.Decoder, depth int) error {
	var all []member
	h := sha256.New()
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return err
		}
		m := member{key: k.(string)}
		h.Reset()
		if err := value(h, d, depth+1); err != nil {
			return err
		}
		h.Sum(m.value[:0])
		all = append(all, m)
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b member) int { return strings.Compare(a.key, b.key) })
	_, _ = fmt.Fprintf(w, "{%d:", len(all))
	for i := range all {
		if i > 0 && all[i].key == all[i-1].key {
			return errTwice
		}
		_, _ = fmt.Fprintf(w, "%q:%s", all[i].key, all[i].value[:])
	}
	return nil
}
