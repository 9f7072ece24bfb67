package upstream

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Dialect is how a provider words its answers.
type Dialect uint8

const (
	// Generic answers with a status, a Retry-After and the body that the stage is given, and tells of no windows.
	Generic Dialect = iota
	// OpenAI tells of its windows in x-ratelimit fields, in every answer, and names the limit that refused.
	OpenAI
	// Azure is Azure OpenAI: what remains of its windows, and a code that is the status.
	Azure
	// Anthropic tells of its windows in anthropic-ratelimit fields, with dates, and answers 529 when it is overloaded.
	Anthropic
	// Gemini says what refused, and when to come back, in the body.
	Gemini

	numDialects = int(Gemini) + 1
)

var dialectNames = [numDialects]string{"generic", "openai", "azure", "anthropic", "gemini"}

// DialectNames returns the names of all dialects in order.
func DialectNames() []string { return dialectNames[:] }

// String returns the dialect as scenarios write it.
func (d Dialect) String() string { return dialectNames[min(int(d), numDialects-1)] }

// ParseDialect returns the dialect that is written as name.
func ParseDialect(name string) (Dialect, bool) { return parse[Dialect](dialectNames[:], name) }

// dialect is what one Dialect does.
type dialect struct {
	tells   bool // of its windows, in every answer
	windows func(u *Upstream, r *Reply, now int64, a *account)
	body    func(u *Upstream, r *Reply, a *account, k replyKey) string
}

var dialects = [numDialects]dialect{
	Generic:   {},
	OpenAI:    {tells: true, windows: openaiWindows, body: openaiBody},
	Azure:     {tells: true, windows: azureWindows, body: azureBody},
	Anthropic: {tells: true, windows: anthropicWindows, body: anthropicBody},
	Gemini:    {body: geminiBody},
}

// stageStatus is what a stage answers with when nothing else is said.
var stageStatus = [NumStages]int{
	StageFault: 503, StageNoise: 429, StageKey: 401, StageConnections: 503, StageQuota: 429, StageSlope: 429, StageConcurrency: 429, StageServer: 503,
}

// word writes a refusal.
func (u *Upstream) word(r *Reply, now int64, acc *account, k replyKey, a *Answer) {
	r.Status = a.Status
	if r.Status == 0 {
		r.Status = stageStatus[k.stage]
		if u.cfg.Dialect == Anthropic && r.Status == 503 {
			r.Status = 529
		}
	}
	r.Body = nil
	if a.Body != "" {
		r.Body = []byte(a.Body)
	} else if u.dialect.body != nil {
		r.Body = u.body(r, acc, k)
	}
	if len(r.Body) > 0 {
		r.Header["Content-Type"] = jsonType
	}
	if u.dialect.windows != nil {
		u.dialect.windows(u, r, now, acc)
	}
	if u.cfg.Dialect == Gemini {
		return // the delay is in the body
	}
	u.setRetryAfter(r, now, k.delay, a.RetryAfter.Form)
	if u.cfg.Dialect == OpenAI && a.RetryAfter.Form == FormMillis && k.delay >= 0 {
		r.field("Retry-After", strconv.AppendInt(r.room(), ceilTo(k.delay, int64(time.Second)), 10))
	}
}

// openaiReset writes a duration as OpenAI's fields do: "6m0s", "8.64s", "5ms".
func openaiReset(ns int64) string { return string(appendReset(nil, ns)) }

// appendReset appends what time.Duration.String makes of whole ms, without its allocation.
func appendReset(b []byte, ns int64) []byte {
	ms := ceilTo(ns, int64(time.Millisecond))
	switch {
	case ms == 0:
		return append(b, "0s"...)
	case ms < 1000:
		return append(strconv.AppendInt(b, ms, 10), "ms"...)
	}
	h, m, rest := ms/3_600_000, ms/60_000%60, ms%60_000
	if h > 0 {
		b = append(strconv.AppendInt(b, h, 10), 'h')
	}
	if h > 0 || m > 0 {
		b = append(strconv.AppendInt(b, m, 10), 'm')
	}
	b = strconv.AppendInt(b, rest/1000, 10)
	if f := rest % 1000; f > 0 {
		b = append(b, '.', byte('0'+f/100))
		if f %= 100; f > 0 {
			b = append(b, byte('0'+f/10))
			if f %= 10; f > 0 {
				b = append(b, byte('0'+f))
			}
		}
	}
	return append(b, 's')
}

func number(x float64) string { return strconv.FormatInt(int64(math.Floor(x)), 10) }

func whole(b []byte, x float64) []byte { return strconv.AppendInt(b, int64(math.Floor(x)), 10) }

// named returns the first quota of an account that counts one of some things.
func (a *account) named(of ...Counter) *counter {
	for _, want := range of {
		for i := range a.counters {
			if c := &a.counters[i]; c.q.Counter == want && !c.q.Daily {
				return c
			}
		}
	}
	return nil
}

func openaiWindows(_ *Upstream, r *Reply, now int64, a *account) {
	for _, w := range [...]struct {
		limit, remaining, reset string
		c                       *counter
	}{
		{"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests", a.named(Requests)},
		{"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens", a.named(Tokens, InputTokens, OutputTokens)},
	} {
		if w.c == nil {
			continue
		}
		r.field(w.limit, whole(r.room(), w.c.perMinute()))
		r.field(w.remaining, whole(r.room(), w.c.remaining(now)))
		r.field(w.reset, appendReset(r.room(), w.c.reset(now)))
	}
}

func azureWindows(_ *Upstream, r *Reply, now int64, a *account) {
	if c := a.named(Requests); c != nil {
		r.field("X-Ratelimit-Remaining-Requests", whole(r.room(), c.remaining(now)))
	}
	if c := a.named(Tokens, InputTokens, OutputTokens); c != nil {
		r.field("X-Ratelimit-Remaining-Tokens", whole(r.room(), c.remaining(now)))
	}
}

func anthropicWindows(u *Upstream, r *Reply, now int64, a *account) {
	for _, w := range [...]struct {
		limit, remaining, reset string
		c                       *counter
	}{
		{"Anthropic-Ratelimit-Requests-Limit", "Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset", a.named(Requests)},
		{"Anthropic-Ratelimit-Tokens-Limit", "Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Tokens-Reset", a.named(Tokens)},
		{"Anthropic-Ratelimit-Input-Tokens-Limit", "Anthropic-Ratelimit-Input-Tokens-Remaining", "Anthropic-Ratelimit-Input-Tokens-Reset", a.named(InputTokens)},
		{"Anthropic-Ratelimit-Output-Tokens-Limit", "Anthropic-Ratelimit-Output-Tokens-Remaining", "Anthropic-Ratelimit-Output-Tokens-Reset", a.named(OutputTokens)},
	} {
		if w.c == nil {
			continue
		}
		r.field(w.limit, whole(r.room(), w.c.perMinute()))
		r.field(w.remaining, whole(r.room(), w.c.remaining(now)))
		at := u.date(now + w.c.reset(now) + int64(time.Second) - 1) // whole seconds, and not before it is true
		r.field(w.reset, at.UTC().AppendFormat(r.room(), time.RFC3339))
	}
}

// perMinute returns what a quota allows a minute, or a day when it is daily.
func (c *counter) perMinute() float64 {
	period := float64(time.Minute)
	if c.q.Daily {
		period = float64(24 * time.Hour)
	}
	return math.Round(period / c.perUnit)
}

// openaiLimit names a quota as OpenAI's messages do.
func openaiLimit(q *Quota) (words, code string) {
	per, short := "min", "M"
	if q.Daily {
		per, short = "day", "D"
	}
	if q.Counter == Requests {
		return "requests per " + per + " (RP" + short + ")", "requests"
	}
	return "tokens per " + per + " (TP" + short + ")", "tokens"
}

func openaiBody(u *Upstream, r *Reply, a *account, k replyKey) string {
	message, typ, code := "The server had an error while processing your request.", "server_error", "null"
	switch k.stage {
	case StageQuota:
		c := &a.counters[k.index]
		words, t := openaiLimit(c.q)
		typ, code = t, `"rate_limit_exceeded"`
		if k.too {
			message = fmt.Sprintf("Request too large for the model in organization org-sim on %s: Limit %s, Requested %d. The input or output tokens must be reduced in order to run successfully.", words, number(c.most()), k.cost)
			break
		}
		message = fmt.Sprintf("Rate limit reached for the model in organization org-sim on %s: Limit %s.", words, number(c.perMinute()))
		if k.delay >= 0 {
			message += " Please try again in " + openaiReset(k.delay) + "."
		}
	case StageSlope:
		message, typ, code = "Slow down. A sudden increase in your request rate is affecting service reliability.", "rate_limit_error", `"slow_down"`
	case StageConcurrency, StageNoise:
		message, typ, code = "Too many requests.", "rate_limit_error", "null"
	case StageKey:
		message, typ, code = "Incorrect API key provided.", "invalid_request_error", `"invalid_api_key"`
	default:
		if r.Status == 503 {
			message, typ, code = "Our servers are currently overloaded. Please try again later.", "service_unavailable_error", `"server_is_overloaded"`
		}
	}
	return fmt.Sprintf(`{"error":{"message":%q,"type":%q,"param":null,"code":%s}}`, message, typ, code)
}

func azureBody(u *Upstream, r *Reply, a *account, k replyKey) string {
	message := "The service is temporarily unable to process your request. Please try again later."
	switch k.stage {
	case StageQuota:
		kind := "call"
		if a.counters[k.index].q.Counter != Requests {
			kind = "token"
		}
		message = "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded " + kind + " rate limit of your current OpenAI S0 pricing tier."
		if k.delay >= 0 {
			message += fmt.Sprintf(" Please retry after %d seconds.", ceilTo(k.delay, int64(time.Second)))
		}
	case StageKey:
		message = "Access denied due to invalid subscription key or wrong API endpoint."
	case StageSlope, StageConcurrency, StageNoise:
		message = "Too many requests."
	}
	return fmt.Sprintf(`{"error":{"code":"%d","message":%q}}`, r.Status, message)
}

func anthropicBody(u *Upstream, r *Reply, a *account, k replyKey) string {
	message, typ := "Overloaded", "overloaded_error"
	switch k.stage {
	case StageQuota:
		c := &a.counters[k.index]
		unit := map[Counter]string{Requests: "requests", InputTokens: "input tokens", OutputTokens: "output tokens", Tokens: "tokens"}[c.q.Counter]
		per := "minute"
		if c.q.Daily {
			per = "day"
		}
		typ, message = "rate_limit_error", fmt.Sprintf("This request would exceed your organization's rate limit of %s %s per %s.", number(c.perMinute()), unit, per)
	case StageSlope:
		typ, message = "rate_limit_error", "This request would exceed your organization's acceleration limit. Please scale up your usage gradually."
	case StageConcurrency:
		typ, message = "rate_limit_error", "Number of concurrent connections has exceeded your rate limit."
	case StageNoise:
		typ, message = "rate_limit_error", "Error"
	case StageKey:
		typ, message = "authentication_error", "invalid x-api-key"
	default:
		if r.Status != 529 && r.Status != 503 {
			typ, message = "api_error", "Internal server error"
		}
	}
	return fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%q}}`, typ, message)
}

func geminiBody(u *Upstream, r *Reply, a *account, k replyKey) string {
	status, message, details := "UNAVAILABLE", "The model is overloaded. Please try again later.", ""
	switch k.stage {
	case StageKey:
		status, message = "UNAUTHENTICATED", "API key not valid."
	case StageQuota:
		c := &a.counters[k.index]
		status, message = "RESOURCE_EXHAUSTED", "You exceeded your current quota."
		metric, id := "generate_content_requests", "GenerateRequestsPer"
		if c.q.Counter != Requests {
			metric, id = "generate_content_input_token_count", "GenerateContentInputTokensPerModelPer"
		}
		per := "Minute"
		if c.q.Daily {
			per = "Day"
		}
		details = fmt.Sprintf(`{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"generativelanguage.googleapis.com/%s","quotaId":"%s%sPerProjectPerModel","quotaValue":"%s"}]}`,
			metric, id, per, number(c.perMinute()))
	case StageSlope, StageConcurrency, StageNoise:
		status, message = "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."
	}
	if k.delay >= 0 {
		if details != "" {
			details += ","
		}
		details += fmt.Sprintf(`{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"%ss"}`, strconv.FormatFloat(float64(k.delay)/1e9, 'f', -1, 64))
	}
	if details != "" {
		details = `,"details":[` + details + `]`
	}
	return fmt.Sprintf(`{"error":{"code":%d,"message":%q,"status":%q%s}}`, r.Status, message, status, details)
}
