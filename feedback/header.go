package feedback

import "strings"

// field is a header field: its values, and the spelling of its name, which settles the
// order of the values when one answer spells a name in two ways.
type field struct {
	name   string
	values []string
}

func (f *field) set() bool { return f.values != nil }

// first returns the first value without white space around it.
func (f *field) first() string {
	if len(f.values) == 0 {
		return ""
	}
	return trimSpace(f.values[0])
}

// add takes the values of a field. Values of other spellings of the same name are joined
// in the order of the spellings, because the order of a map is not one.
func (f *field) add(name string, values []string) {
	switch {
	case len(values) == 0:
	case f.values == nil:
		f.name, f.values = name, values
	case name < f.name:
		f.values = append(append(make([]string, 0, len(values)+len(f.values)), values...), f.values...)
		f.name = name
	default:
		f.values = append(append(make([]string, 0, len(values)+len(f.values)), f.values...), values...)
	}
}

// fields are the header fields of one answer that this package reads.
type fields struct {
	retryAfterMs, msRetryAfterMs, amzRetryAfter, pushback, retryAfter field

	date, age, contentType             field
	grpcStatus, grpcMessage            field
	amznErrorType, shouldRetry         field
	stripeShouldRetry, stripeReason    field
	ratelimit, ratelimitPolicy         field
	shopifyCallLimit                   field
	tooMany                            bool
	bedrockInputTokens, bedrockOutputs field

	// The windows' slots: the first are in place, so that the usual answer does not allocate.
	inline [inlineSlots]slot
	n      int
	more   []slot
}

// read collects the known fields in one pass. It finds names in any letter case.
func (f *fields) read(h map[string][]string) {
	var buf [96]byte
	for name, values := range h {
		if len(name) < 3 || len(name) > len(buf) || !mayKnow(name) {
			continue
		}
		// The canonical spelling of the prefix that most answers use need not be lowered.
		if rest, ok := strings.CutPrefix(name, "X-Ratelimit-"); ok {
			f.xRateLimit(lowered(&buf, rest), name, values)
			continue
		}
		f.one(lowered(&buf, name), name, values)
	}
}

// lowered writes s in lower case to buf, which is large enough.
func lowered(buf *[96]byte, s string) []byte {
	lower := buf[:len(s)]
	for i := range lower {
		lower[i] = lowerCase[s[i]]
	}
	return lower
}

// mayKnow sorts out most of the names that answers carry by a look at two letters and the
// length, because a name in lower case costs more than that.
func mayKnow(name string) bool {
	switch name[0] | 0x20 {
	case 'x':
		if len(name) < len("x-should-retry") {
			return false
		}
		switch name[2] | 0x20 {
		case 'r', 't', 'm', 'a', 's':
			return true
		}
		return false
	case 'r':
		return len(name) >= len("ratelimit")
	case 'a':
		return len(name) == len("age") || len(name) > len("anthropic-") && name[1]|0x20 == 'n'
	case 'd':
		return len(name) == len("date")
	case 'c':
		return len(name) == len("content-type")
	case 'g':
		return name[1]|0x20 == 'r'
	case 's':
		return len(name) == len("stripe-should-retry") || len(name) == len("stripe-rate-limited-reason")
	}
	return false
}

// lowerCase maps every byte to itself and ASCII's capitals to small letters.
var lowerCase = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			t[i] |= 0x20
		}
	}
	return t
}()

// one takes one field; lower is its name in lower case and is not kept.
func (f *fields) one(lower []byte, name string, values []string) {
	var to *field
	switch string(lower) {
	case "retry-after-ms":
		to = &f.retryAfterMs
	case "x-ms-retry-after-ms":
		to = &f.msRetryAfterMs
	case "x-amz-retry-after":
		to = &f.amzRetryAfter
	case "grpc-retry-pushback-ms":
		to = &f.pushback
	case "retry-after":
		to = &f.retryAfter
	case "date":
		to = &f.date
	case "age":
		to = &f.age
	case "content-type":
		to = &f.contentType
	case "grpc-status":
		to = &f.grpcStatus
	case "grpc-message":
		to = &f.grpcMessage
	case "x-amzn-errortype":
		to = &f.amznErrorType
	case "x-should-retry":
		to = &f.shouldRetry
	case "stripe-should-retry":
		to = &f.stripeShouldRetry
	case "stripe-rate-limited-reason":
		to = &f.stripeReason
	case "ratelimit":
		to = &f.ratelimit
	case "ratelimit-policy":
		to = &f.ratelimitPolicy
	case "x-shopify-shop-api-call-limit":
		to = &f.shopifyCallLimit
	case "x-amzn-bedrock-input-token-count":
		to = &f.bedrockInputTokens
	case "x-amzn-bedrock-output-token-count":
		to = &f.bedrockOutputs
	default:
		f.window(lower, name, values)
		return
	}
	to.add(name, values)
}

// clock is what absolute times are read against: the answer's own Date, because the same
// server made both, or the local clock. The Date is only read when it is needed.
type clock struct {
	now  instant
	date []string
	at   instant
	read bool
}

func (c *clock) time() instant {
	if !c.read {
		c.read, c.at = true, c.now
		for _, v := range c.date {
			if t, ok := parseHTTPDate(trimSpace(v), c.now); ok {
				c.at = t
				break
			}
		}
	}
	return c.at
}

// cached reports whether the answer comes from a cache, by its Age.
func (f *fields) cached() bool {
	for _, v := range f.age.values {
		if d, ok := parseDecimal(trimSpace(v)); ok && (d.whole > 0 || d.frac > 0 || d.sticky || d.huge) {
			return true
		}
	}
	return false
}

// eventStream reports whether the body is server-sent events.
func (f *fields) eventStream() bool { return mediaType(f.contentType.first(), "text/event-stream") }

// mediaType reports whether a Content-Type is want, whatever its parameters.
func mediaType(contentType, want string) bool {
	if len(contentType) < len(want) || !strings.EqualFold(contentType[:len(want)], want) {
		return false
	}
	rest := contentType[len(want):]
	return rest == "" || rest[0] == ';' || rest[0] == ' ' || rest[0] == '\t' || rest[0] == ','
}
