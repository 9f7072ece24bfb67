package feedback

import (
	"strconv"
	"strings"
	"time"
)

// evidence is everything that an answer says about a refusal.
type evidence struct {
	document
	status   int // as sent; in a 2xx, the status that the body states, or 0
	inOK     bool
	provider string
	codes    []foundCode
	quotas   []quota
	reason   string // stripe-rate-limited-reason
	windows  []Window

	words []statedWord // of the text, split once

	// retryInfo is the delay of google.rpc.RetryInfo, when it does not stand in the body.
	retryInfo    time.Duration
	hasRetryInfo bool

	// What the user's rules are asked about, beside the rest.
	rules      *Rules
	header     map[string][]string
	sentStatus int
	success    bool // only a rule can make this an error
}

// verdict is a class with its reasons.
type verdict struct {
	class     Class
	scope     Scope
	retryable bool
	source    string
	code      string // the code that decided, in lower case
	zero      bool   // the limit that refused is zero
}

// byStatus returns what a status means when nothing else is known.
func byStatus(status int) verdict {
	v := verdict{source: "status:" + statusText(status), retryable: true}
	switch status {
	case 402:
		v.class, v.retryable = QuotaExhausted, false
	case 408, 504, 522, 524, 598, 599:
		v.class = Timeout
	case 409, 425, 499:
		v.class = ClientError
	case 429:
		v.class = Throttled
	case 498, 503, 529:
		v.class = Overloaded
	case 501, 505:
		v.class, v.retryable = ServerError, false
	default:
		switch {
		case status < 400:
			v = verdict{}
		case status < 500:
			v.class, v.retryable = ClientError, false
		default:
			v.class = ServerError
		}
	}
	return v
}

// vague is the type that OpenAI, and who follows it, gives to whatever is not the caller's fault, also to "That model is currently overloaded with
// other requests". It says less than a status that refuses.
const vague = "server_error"

// refuses reports whether a status says that a request was turned away, so that it was not done.
func refuses(status int) bool {
	c := byStatus(status).class
	return c == Throttled || c == Overloaded
}

func statusText(status int) string { return strconv.Itoa(status) }

// byCode returns what the codes mean: the first specific one, else the first generic one.
func (e *evidence) byCode() (verdict, bool) {
	var generic *Code
	for _, c := range e.codes {
		row, ok := c.lookup()
		if !ok {
			continue
		}
		if row.Generic {
			if generic == nil {
				generic = row
			}
			continue
		}
		v := row.verdict()
		// An empty account at OpenAI, the tokens-per-minute limit at DashScope.
		if c.text == "insufficient_quota" && (e.aliyun || isDashScope(e.provider)) {
			v.class, v.scope, v.retryable = Throttled, ScopeTokens, true
		}
		return v, true
	}
	if generic == nil {
		return verdict{}, false
	}
	return generic.verdict(), true
}

func (c *Code) verdict() verdict {
	v := verdict{class: c.Class, scope: c.Scope, retryable: c.Retryable, source: "code:" + c.Code, code: strings.ToLower(c.Code)}
	if c.Generic {
		v.scope = ScopeNone // left to the wording
	}
	return v
}

// isDashScope reports whether a provider hint names Alibaba's Model Studio.
func isDashScope(provider string) bool {
	p := strings.ToLower(provider)
	_, ok := containsAny(p, []string{"dashscope", "aliyun", "alibaba", "tongyi", "bailian"})
	return ok
}

// statesError reports what a 2xx error means that has neither code nor status.
func (e *evidence) statesError() verdict {
	if p, ok := containsAny(e.text, []string{"rate limit", "too many requests"}); ok {
		return verdict{class: Throttled, retryable: true, source: "text:" + p}
	}
	for _, c := range e.codes {
		switch c.text {
		case "invalid_request_error", "authentication_error", "permission_error", "not_found_error":
			return verdict{class: ClientError, source: "code:" + c.text}
		}
	}
	return verdict{class: ServerError, retryable: true, source: "body:error"}
}

// byRule turns a rule that matched into a verdict.
func (e *evidence) byRule(r *rule) verdict {
	v := verdict{class: r.class, scope: r.scope, retryable: r.retryable, source: "rule:" + r.Name}
	if r.Scope != "" {
		return v
	}
	switch r.class {
	case Throttled:
		told, _ := e.byCode()
		told.class = Throttled
		e.refine(&told)
		v.scope = told.scope
	case QuotaExhausted:
		v.scope = ScopeUnknown
	}
	return v
}

// decide turns the evidence into a verdict.
func (e *evidence) decide() verdict {
	v, hasCode := e.byCode()
	switch {
	case hasCode && v.code == vague && refuses(e.status):
		v = byStatus(e.status)
	case hasCode:
	case e.inOK && e.status == 0:
		v = e.statesError()
	default:
		v = byStatus(e.status)
	}
	is4xx := 400 <= e.status && e.status < 500

	if (is4xx || v.class == Throttled) && v.class != QuotaExhausted {
		if p, ok := containsAny(e.text, money); ok {
			return verdict{class: QuotaExhausted, scope: ScopeUnknown, source: "text:" + p}
		}
	}
	if e.status == 403 && !hasCode {
		if strings.Contains(e.text, "rate limit") {
			v = verdict{class: Throttled, retryable: true, source: "status:403 text:rate limit"}
		} else if len(exhausted(e.windows)) > 0 {
			v = verdict{class: Throttled, retryable: true, source: "status:403 window:exhausted"}
		}
	}
	if v.class == Overloaded && resetUnderWay(e.text) {
		return verdict{class: ServerError, retryable: true, source: v.source + " text:" + envoyReset}
	}
	if v.class == Throttled {
		e.refine(&v)
	}
	if v.class == QuotaExhausted && v.scope == ScopeNone {
		v.scope = ScopeUnknown
	}
	return v
}

// envoyReset is what Envoy, and so Istio, says in the place of an answer that did not begin, with a 503 or UNAVAILABLE whatever the reason is that
// it names then; see resetReasonToString in its sources.
const envoyReset = "disconnect/reset before headers"

// resetUnderWay reports whether a proxy says that the connection broke when the request was on it: nobody knows what became of that. One that was
// not made, or had no room for the request, is no such thing.
func resetUnderWay(text string) bool {
	_, reason, found := strings.Cut(text, envoyReset)
	if !found {
		return false
	}
	_, reason, _ = strings.Cut(reason, "reset reason: ")
	for _, r := range [...]string{"connection termination", "remote reset", "local reset", "protocol error"} {
		if strings.HasPrefix(reason, r) {
			return true
		}
	}
	return false
}

// refine finds the scope of a throttled answer, and the three things that make it one of
// another class: a limit of zero, a request larger than the window, a window of a day.
func (e *evidence) refine(v *verdict) {
	switch strings.ToLower(e.reason) {
	case "global-rate", "endpoint-rate":
		v.scope = ScopeRequests
		v.source += " header:stripe-rate-limited-reason"
	case "global-concurrency", "endpoint-concurrency":
		v.scope = ScopeConcurrency
		v.source += " header:stripe-rate-limited-reason"
	}
	inText := namedScopes(e.text)
	var inQuota scopes
	for _, q := range e.quotas {
		inQuota |= namedScopes(q.words)
	}
	named := inQuota | inText
	daily := named.has(ScopeDaily) && !named.has(ScopeConcurrency) && v.scope != ScopeConcurrency
	if v.scope == ScopeNone {
		switch {
		case inQuota != 0:
			v.scope = inQuota.first()
			v.source += " body:quotaId"
		case inText != 0:
			v.scope = inText.first()
			v.source += " text:" + v.scope.String()
		case v.code == "throttlingexception" && strings.Contains(e.text, "too many requests"):
			v.scope = ScopeRequests // the counterpart of "too many tokens"
		default:
			v.scope = onlyKind(exhausted(e.windows))
		}
	}
	switch {
	case e.statesZero():
		v.class, v.retryable, v.zero = QuotaExhausted, false, true
		v.source += " text:limit 0"
	case strings.Contains(e.text, "request too large"):
		v.class, v.retryable = ClientError, false
		v.source += " text:request too large"
	case daily || v.scope == ScopeDaily:
		v.class, v.retryable = QuotaExhausted, false
	}
	if daily && v.scope != ScopeDaily {
		v.scope = ScopeDaily
		v.source += " text:daily"
	}
}

// statesZero reports whether a limit that the answer states is zero.
func (e *evidence) statesZero() bool {
	for _, s := range e.stated(ScopeUnknown) {
		if s.Limit == 0 {
			return true
		}
	}
	return false
}

// exhausted returns the windows of which nothing is left.
func exhausted(windows []Window) []Window {
	var none []Window
	for _, w := range windows {
		if w.Remaining == 0 {
			none = append(none, w)
		}
	}
	return none
}

// onlyKind returns the kind that all the windows have, or ScopeUnknown.
func onlyKind(windows []Window) Scope {
	if len(windows) == 0 {
		return ScopeUnknown
	}
	for _, w := range windows {
		if w.Kind != windows[0].Kind {
			return ScopeUnknown
		}
	}
	return windows[0].Kind
}

// longestReset returns the longest reset of the exhausted windows.
func longestReset(windows []Window) (d time.Duration, ok bool) {
	for _, w := range exhausted(windows) {
		if w.Reset != Unstated {
			d, ok = max(d, w.Reset), true
		}
	}
	return d, ok
}
