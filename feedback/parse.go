package feedback

import (
	"strings"
	"time"
)

// Answer is what is known of an HTTP answer.
type Answer struct {
	// Status is the HTTP status code. For a gRPC answer it is HTTP's, usually 200.
	Status int
	// Header holds the header fields, and the trailers of a gRPC answer; an http.Header can
	// be assigned. Names may be in any letter case. Parse only reads it.
	Header map[string][]string
	// Body is the beginning of the body, already decompressed; 64 KiB of it are looked at.
	// It may be nil. Text that the returned Signal holds is copied.
	Body []byte
	// Now is when the answer arrived. It counts only where the answer has no valid Date.
	Now time.Time
	// Provider hints at who answered, for instance "dashscope". It may be empty.
	Provider string
	// Rules are the user's own; nil means none.
	Rules *Rules
	// Windows is what Signal.Windows is appended to, so that a caller that keeps a buffer
	// does not allocate. nil is fine.
	Windows []Window
}

// Parse returns what an answer means. It is pure: the same answer gives the same Signal,
// whatever the order of its header and the case of its letters. It never panics, and
// its work is bounded by the header and by 64 KiB of the body.
func Parse(a Answer) Signal {
	var f fields
	f.read(a.Header)
	ref := &clock{now: instantOf(a.Now), date: f.date.values}
	windows := f.windows(a.Windows, ref)
	if succeeded(&a, &f) && !a.Rules.aboutSuccess(a.Status) {
		return Signal{Windows: windows}
	}
	s := refused(&a, &f, ref, windows[len(a.Windows):])
	s.Windows = windows
	return s
}

// Succeeded reports whether the status and the header of an answer say that it is a success, so that nothing but
// its body could say otherwise: what Parse would tell of an answer without a body and without its windows. It needs names as http.Header has
// them, allocates nothing, and costs a look-up.
func Succeeded(status int, header map[string][]string, rules *Rules) bool {
	if status >= 400 || rules.aboutSuccess(status) {
		return false
	}
	if status < 200 || status >= 300 {
		return true
	}
	v, ok := header["Grpc-Status"]
	return !ok || !isGRPCError(&field{values: v})
}

// succeeded reports whether the answer is plainly a success. It looks at a 2xx body only as
// far as it must, and allocates nothing.
func succeeded(a *Answer, f *fields) bool {
	if a.Status >= 400 {
		return false
	}
	if a.Status < 200 || a.Status >= 300 {
		return true
	}
	if grpcError(f) {
		return false
	}
	if mediaTypePrefix(f.contentType.first(), "application/grpc") {
		return true // the body is binary frames
	}
	if f.eventStream() {
		for rest := prefix(a.Body); len(rest) > 0; {
			var block []byte
			block, rest = nextEvent(rest)
			var join []byte
			if suspectEvent(parseEvent(block, &join)) {
				return false
			}
		}
		return true
	}
	return !suspect(a.Body)
}

// grpcError reports whether the answer carries a gRPC status other than OK.
func grpcError(f *fields) bool { return isGRPCError(&f.grpcStatus) }

// isGRPCError reports whether a grpc-status field is there and other than OK.
func isGRPCError(status *field) bool {
	d, ok := parseDecimal(status.first())
	return ok && (d.whole != 0 || d.huge)
}

// mediaTypePrefix reports whether a Content-Type begins with want.
func mediaTypePrefix(contentType, want string) bool {
	return len(contentType) >= len(want) && strings.EqualFold(contentType[:len(want)], want)
}

// refused reads an answer that is, or may be, no success.
func refused(a *Answer, f *fields, ref *clock, windows []Window) Signal {
	e := evidence{
		status: a.Status, inOK: a.Status < 400, provider: a.Provider, windows: windows,
		rules: a.Rules, header: a.Header, sentStatus: a.Status,
	}
	e.success = e.inOK && !grpcError(f)
	switch {
	case mediaTypePrefix(f.contentType.first(), "application/grpc"):
		// The body is binary frames.
	case f.eventStream():
		found := false
		for rest := prefix(a.Body); len(rest) > 0 && !found; {
			var block, join []byte
			block, rest = nextEvent(rest)
			ev := parseEvent(block, &join)
			if e.document, found = errorEvent(ev); found && e.inOK {
				e.status, e.success = ev.status, false
			}
		}
		if !found && !e.inOK {
			e.document = readDocument(a.Body)
		}
	default:
		e.document = readDocument(a.Body)
		if e.inOK && e.root != nil && isError(e.root, a.Status) {
			e.success = false
		}
	}
	if e.success && !e.rules.aboutSuccess(a.Status) {
		return Signal{}
	}
	return e.signal(f, ref)
}

// signal reads the header and the document and gives the result. In a 2xx answer
// e.status is what the event states, or the 2xx.
func (e *evidence) signal(f *fields, ref *clock) Signal {
	if e.inOK {
		if e.status < 400 || e.status > 599 {
			e.status = statusIn(e.root)
		}
	}
	if grpcError(f) {
		e.codes = append(e.codes, foundCode{place: PlaceGRPC, text: strings.TrimLeft(f.grpcStatus.first(), "0")})
		if m := f.grpcMessage.first(); m != "" {
			e.text = normalize(percentDecoded(m)) + " " + e.text
		}
	}
	e.collectCodes(f.amznErrorType.first())
	e.reason = f.stripeReason.first()

	var v verdict
	rule := e.rules.match(e, e.sentStatus, e.header, e.success)
	switch {
	case rule != nil:
		v = e.byRule(rule)
	case !e.success:
		v = e.decide()
	}
	if v.class == OK {
		return Signal{Source: v.source}
	}
	s := Signal{Class: v.class, Retryable: v.retryable, Scope: v.scope, Zero: v.zero, Source: v.source}
	delaySource := ""
	s.RetryAfter, delaySource, s.HasRetryAfter = f.headerDelay(ref)
	if !s.HasRetryAfter && e.hasRetryInfo {
		s.RetryAfter, delaySource, s.HasRetryAfter = e.retryInfo, "body:retryDelay", true
	}
	if !s.HasRetryAfter {
		s.RetryAfter, delaySource, s.HasRetryAfter = bodyDelay(e.root)
	}
	if !s.HasRetryAfter {
		s.RetryAfter, s.HasRetryAfter = sentenceDelay(e.text, ref)
		delaySource = "text:retry"
	}
	if !s.HasRetryAfter && (s.Class == Throttled || s.Class == QuotaExhausted) {
		s.RetryAfter, s.HasRetryAfter = longestReset(e.windows)
		s.UntilReset = s.HasRetryAfter
		delaySource = "window:reset"
	}
	if !s.HasRetryAfter && rule != nil && rule.Delay > 0 {
		s.RetryAfter, s.HasRetryAfter = ceilMilli(uint64(rule.Delay)), true
		delaySource = "delay:rule"
	}
	if s.HasRetryAfter {
		s.Source += " " + delaySource
	}
	if s.Scope != ScopeNone {
		s.Stated = e.stated(s.Scope)
	}
	if rule == nil || rule.Retryable == "" {
		e.serversWord(f, ref, &s)
	}
	return s
}

// serversWord lets the fields that speak about retrying set Retryable.
func (e *evidence) serversWord(f *fields, ref *clock, s *Signal) {
	if e.status == 413 {
		if _, ok := retryAfter(f.retryAfter.values, ref); ok {
			s.Retryable = true
		}
	}
	yes, no := false, false
	for _, in := range [...]*field{&f.shouldRetry, &f.stripeShouldRetry} {
		for _, v := range in.values {
			switch v = trimSpace(v); {
			case strings.EqualFold(v, "true"):
				yes = true
			case strings.EqualFold(v, "false"):
				no = true
			}
		}
	}
	for _, v := range f.pushback.values {
		for elem := range strings.SplitSeq(v, ",") {
			_, ok := parseDecimal(trimSpace(elem))
			no = no || !ok
		}
	}
	switch {
	case no:
		s.Retryable = false
	case yes:
		s.Retryable = true
	}
}

// statusIn returns the status that an error in a 2xx body states in error.code, or 0.
func statusIn(root value) int {
	s, ok := root.at("error", "code").scalar()
	if !ok || len(s) != 3 {
		return 0
	}
	if n := digits(s); n >= 400 && n <= 599 {
		return n
	}
	return 0
}

// collectCodes reads the codes of the header and of the document, in the order in which
// they count.
func (e *evidence) collectCodes(amzn string) {
	add := func(place Place, s string, number bool) {
		if s == "" || s == statusText(e.status) {
			return
		}
		e.codes = append(e.codes, foundCode{place: place, text: strings.ToLower(s), number: number})
	}
	code := func(place Place, v value) {
		if s, ok := v.scalar(); ok {
			add(place, strings.TrimSpace(s), v.kind() == '0')
		}
	}
	aws := func(s string) {
		if i := strings.LastIndexByte(s, '#'); i >= 0 {
			s = s[i+1:]
		}
		s, _, _ = strings.Cut(s, ":")
		add(PlaceAny, strings.TrimSpace(s), false)
	}
	aws(amzn)
	root := e.root
	if root == nil {
		return
	}
	if s, ok := root.get("__type").text(); ok {
		aws(s)
	}
	err := root.get("error")
	code(PlaceAny, err.at("details", "error_code"))
	for _, details := range []value{err.get("details"), root.get("details")} {
		details.elements(func(d value) bool {
			switch {
			case isType(d, "google.rpc.ErrorInfo"):
				code(PlaceAny, d.get("reason"))
			case isType(d, "google.rpc.QuotaFailure"):
				d.get("violations").elements(func(v value) bool {
					id, ok := v.get("quotaId").text()
					if ok && len(e.quotas) < maxStated {
						n, _ := v.get("quotaValue").scalar()
						e.quotas = append(e.quotas, quota{words: splitWords(id), value: n})
					}
					return true
				})
			}
			return true
		})
	}
	code(PlaceAny, err.at("metadata", "limit_source"))
	code(PlaceErrorCode, err.get("code"))
	code(PlaceErrorType, err.get("type"))
	code(PlaceAny, err.get("status"))
	code(PlaceAny, root.at("Response", "Error", "Code"))
	code(PlaceBaseResp, root.at("base_resp", "status_code"))
	code(PlaceErrorNumber, root.get("error_code"))
	root.get("errors").elements(func(v value) bool {
		code(PlaceAny, v.at("extensions", "code"))
		code(PlaceAny, v.get("type"))
		return true
	})
	code(PlaceAny, root.at("detail", "status"))
	code(PlaceTopCode, root.get("code"))
	if s, ok := root.get("type").text(); ok {
		if i := strings.LastIndexAny(s, "#/:"); i >= 0 {
			add(PlaceProblem, s[i+1:], false)
		} else {
			add(PlaceProblem, s, false)
		}
	}
	code(PlaceAny, root.get("reason"))
}

// percentDecoded decodes a grpc-message as its protocol demands: what is no escape stays.
func percentDecoded(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2]); hi < 16 && lo < 16 {
				b = append(b, hi<<4|lo)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// hexDigit returns the value of a hexadecimal digit, or 16.
func hexDigit(c byte) byte {
	switch {
	case isDigit(c):
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}
