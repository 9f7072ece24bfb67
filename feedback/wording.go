package feedback

import "strings"

// scopes is a set of scopes.
type scopes uint16

func (s scopes) has(sc Scope) bool { return s&(1<<sc) != 0 }

// wordingOrder is the order in which the words of a sentence decide: a sentence about
// concurrent requests a day is about concurrency.
var wordingOrder = [...]Scope{
	ScopeConcurrency, ScopeDaily, ScopeOutputTokens, ScopeInputTokens, ScopeTokens, ScopeRequests,
}

// first returns the scope that decides, or ScopeNone when no word names one.
func (s scopes) first() Scope {
	for _, sc := range wordingOrder {
		if s.has(sc) {
			return sc
		}
	}
	return ScopeNone
}

// phrase is one row of the table of words. A bar at an end demands that no letter, digit or
// underscore of ASCII continues the word there.
type phrase struct {
	scope Scope
	text  string
}

// wordingTable is the one list of words that name a limit, in lower case.
var wordingTable = []phrase{
	{ScopeConcurrency, "concurren"}, {ScopeConcurrency, "in-flight"}, {ScopeConcurrency, "in flight"},
	{ScopeConcurrency, "simultaneous"}, {ScopeConcurrency, "并发"},

	{ScopeDaily, "|per day|"}, {ScopeDaily, "|per-day|"}, {ScopeDaily, "perday"}, {ScopeDaily, "/day|"},
	{ScopeDaily, "|daily|"}, {ScopeDaily, "|rpd|"}, {ScopeDaily, "|tpd|"},
	{ScopeDaily, "|per week|"}, {ScopeDaily, "|weekly|"}, {ScopeDaily, "|per month|"}, {ScopeDaily, "|monthly|"},
	{ScopeDaily, "今日"}, {ScopeDaily, "每日"}, {ScopeDaily, "每天"},

	{ScopeOutputTokens, "|output token|"}, {ScopeOutputTokens, "|output tokens|"}, {ScopeOutputTokens, "output_token"},
	{ScopeOutputTokens, "|generated tokens|"}, {ScopeOutputTokens, "|output tpm|"},

	{ScopeInputTokens, "|input token|"}, {ScopeInputTokens, "|input tokens|"}, {ScopeInputTokens, "input_token"},
	{ScopeInputTokens, "|prompt token|"}, {ScopeInputTokens, "|prompt tokens|"}, {ScopeInputTokens, "|input tpm|"},

	{ScopeTokens, "|token|"}, {ScopeTokens, "|tokens|"}, {ScopeTokens, "|tpm|"},

	{ScopeRequests, "|requests per|"}, {ScopeRequests, "|request rate"}, {ScopeRequests, "|requests rate"},
	{ScopeRequests, "|request limit"}, {ScopeRequests, "|per minute request|"}, {ScopeRequests, "|api calls"},
	{ScopeRequests, "|rpm|"}, {ScopeRequests, "|qps|"}, {ScopeRequests, "|rps|"}, {ScopeRequests, "频率"},
}

// money are the phrases that prove an empty account. The words billing, balance and quota
// alone prove nothing: Gemini's per-minute refusal mentions billing, DeepSeek's
// concurrency refusal the balance.
var money = []string{
	"credit balance is too low", "reached your specified api usage limits", "prepayment credits are depleted",
	"out of call volume quota", "insufficient balance", "account balance is insufficient", "free usage quota",
	"exceeded your monthly included credits",
}

// namedScopes returns the limits that a text in lower case names.
func namedScopes(text string) scopes {
	var s scopes
	for _, p := range wordingTable {
		if !s.has(p.scope) && containsPhrase(text, p.text) {
			s |= 1 << p.scope
		}
	}
	return s
}

// containsPhrase reports whether text holds a phrase of the table's form.
func containsPhrase(text, phrase string) bool {
	core, left := strings.CutPrefix(phrase, "|")
	core, right := strings.CutSuffix(core, "|")
	for i := 0; ; {
		n := strings.Index(text[i:], core)
		if n < 0 {
			return false
		}
		i += n
		end := i + len(core)
		if !(left && i > 0 && isWord(text[i-1])) && !(right && end < len(text) && isWord(text[end])) {
			return true
		}
		i++
	}
}

// containsAny returns the first of the phrases that text holds.
func containsAny(text string, phrases []string) (string, bool) {
	for _, p := range phrases {
		if strings.Contains(text, p) {
			return p, true
		}
	}
	return "", false
}

// splitWords separates the words of an identifier in CamelCase, in lower case:
// GenerateRequestsPerDay-FreeTier becomes "generate requests per day-free tier".
func splitWords(id string) string {
	var b strings.Builder
	for i := range len(id) {
		c := id[i]
		if 'A' <= c && c <= 'Z' {
			if i > 0 && isLetter(id[i-1]) && id[i-1] >= 'a' {
				b.WriteByte(' ')
			}
			c |= 0x20
		}
		b.WriteByte(c)
	}
	return b.String()
}
