package feedback

import (
	"strings"
	"time"
)

// Limits that sentences state. Refusals often say what the limit is, and that is the
// cheapest way to learn it:
//
//	concurrency limit of 5                      max organization concurrency: 3
//	max RPM: 3                                  current:501200, limit:500000
//	Limit 15000, Used 11972, Requested 4351     (actual/limit): 2/2
//	limit is 100000 tokens per minute           limit:5,time:1 minute
//
// The reader goes through the words once. It remembers the quantity and the period that
// were named last, and takes a number as a limit, as used or as requested by the word
// before it.

// maxStatedText is how much of a text is searched for stated limits, in bytes.
const maxStatedText = 4 << 10

// maxStated bounds the stated limits of one answer.
const maxStated = 8

// quota is a violation of google.rpc.QuotaFailure.
type quota struct {
	words string // the quota id, split into words, in lower case
	value string
}

// stated returns the limits that the answer states: those of the quota ids, else those of
// the text. fallback is the scope that refused, for limits whose quantity is not named.
func (e *evidence) stated(fallback Scope) []Stated {
	var list []Stated
	for _, q := range e.quotas {
		d, ok := parseDecimal(q.value)
		n, fits := d.int()
		if !ok || !fits {
			continue
		}
		c := dimension{}
		for _, w := range splitStated(q.words) {
			c.see(w)
		}
		list = addStated(list, Stated{Kind: c.kindOr(fallback), Limit: n, Used: Unstated, Requested: Unstated, Per: c.per})
	}
	if len(list) > 0 {
		return list
	}
	if e.words == nil {
		e.words = splitStated(e.text[:min(len(e.text), maxStatedText)])
	}
	r := statedReader{words: e.words, fallback: fallback}
	return r.read()
}

func addStated(list []Stated, s Stated) []Stated {
	for i, old := range list {
		if old.Kind == s.Kind && old.Limit == s.Limit && old.Per == s.Per {
			if s.Used != Unstated {
				list[i].Used = s.Used
			}
			return list
		}
	}
	if len(list) == maxStated {
		return list
	}
	return append(list, s)
}

// statedWord is a word, a number, a punctuation mark or, as "?", anything else.
type statedWord struct {
	text   string
	number int64
	isNum  bool
}

// splitStated splits text in lower case. Names such as gpt-4.1 and units such as 5.2s are
// no numbers. A full stop is a word of its own when it ends a sentence.
func splitStated(text string) []statedWord {
	words := make([]statedWord, 0, 64)
	add := func(s string) { words = append(words, statedWord{text: s}) }
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case isDigit(c):
			n, end, ok := statedNumber(text, i)
			if ok {
				words = append(words, statedWord{text: text[i:end], number: n, isNum: true})
			} else {
				add("?")
			}
			i = end
		case isLetter(c) || c == '_' || c >= 0x80:
			end := wordRun(text, i)
			for i < end {
				from, opaque := i, false
				for i < end && text[i] != '-' && text[i] != '_' && text[i] != '.' {
					opaque = opaque || isDigit(text[i])
					i++
				}
				switch {
				case opaque:
					add("?")
				case i > from:
					add(text[from:i])
				}
				i++
			}
			i = end
		case c == '.' && (i+1 == len(text) || text[i+1] == ' '), c == ':', c == '=', c == '(', c == ')', c == '/', c == ',', c == ';':
			add(text[i : i+1])
			i++
		case c == '-' && i+1 < len(text) && isDigit(text[i+1]):
			add("?") // a negative number is none
			_, i, _ = statedNumber(text, i+1)
		default:
			i++
		}
	}
	return words
}

// wordRun returns the end of a run of letters and digits, joined by - _ and dots inside.
func wordRun(text string, i int) int {
	for i < len(text) {
		c := text[i]
		joins := (c == '-' || c == '.') && i+1 < len(text) && (isWord(text[i+1]) || text[i+1] >= 0x80)
		if !isWord(c) && c < 0x80 && !joins {
			break
		}
		i++
	}
	return i
}

// statedNumber reads a count at text[i]: digits, perhaps in groups of three that commas
// separate, perhaps in thousands with a k. ok is false when letters belong to it, when it
// has a fraction or does not fit; end is then where it ends all the same.
func statedNumber(text string, i int) (n int64, end int, ok bool) {
	start := i
	for i < len(text) && isDigit(text[i]) {
		i++
	}
	digits := text[start:i]
	if len(digits) <= 3 {
		for i+3 < len(text) && text[i] == ',' && isDigit(text[i+1]) && isDigit(text[i+2]) && isDigit(text[i+3]) &&
			(i+4 == len(text) || !isDigit(text[i+4])) {
			digits += text[i+1 : i+4]
			i += 4
		}
	}
	d, _ := parseDecimal(digits)
	if i+1 < len(text) && text[i] == '.' && isDigit(text[i+1]) {
		frac, rest, _ := cutDecimal(text[i-1:])
		i = len(text) - len(rest)
		if frac.frac != 0 || frac.sticky {
			return 0, wordRun(text, i), false
		}
	}
	end = wordRun(text, i)
	switch text[i:end] {
	case "":
	case "k":
		d.whole, d.huge = d.whole*1000, d.huge || d.whole > 1<<50
	default:
		return 0, end, false
	}
	n, ok = d.int()
	return n, end, ok
}

// dimension is the quantity and the period that were named last.
type dimension struct {
	kind Scope
	per  time.Duration
	prev string
}

// see takes one word.
func (d *dimension) see(w statedWord) {
	kind, per := ScopeNone, time.Duration(0)
	switch w.text {
	case "concurrency", "concurrent", "concurrently", "simultaneous", "simultaneously", "inflight":
		kind = ScopeConcurrency
	case "flight":
		if d.prev == "in" {
			kind = ScopeConcurrency
		}
	case "token", "tokens", "tpm", "tpd":
		switch d.prev {
		case "input", "prompt":
			kind = ScopeInputTokens
		case "output", "generated", "completion":
			kind = ScopeOutputTokens
		default:
			kind = ScopeTokens
		}
		switch w.text {
		case "tpm":
			per = time.Minute
		case "tpd":
			per = 24 * time.Hour
		}
	case "rate", "limit", "limits", "times", "count":
		if d.prev == "request" { // alone the word is about this request
			kind = ScopeRequests
		}
	case "requests", "calls", "queries", "connections", "rpm", "rps", "qps", "rpd":
		switch d.prev {
		case "concurrent", "simultaneous", "flight", "inflight":
			kind = ScopeConcurrency
		default:
			kind = ScopeRequests
		}
		switch w.text {
		case "rpm":
			per = time.Minute
		case "rps", "qps":
			per = time.Second
		case "rpd":
			per = 24 * time.Hour
		}
	case "daily":
		d.per = 24 * time.Hour
	default:
		switch d.prev {
		case "per", "/", "a", "each", "every":
			if p := period(w.text); p != 0 {
				d.per = p
			}
		}
	}
	if kind != ScopeNone {
		if kind != d.kind {
			d.per = 0
		}
		d.kind = kind
		if per != 0 {
			d.per = per
		}
	}
	d.prev = w.text
}

func (d dimension) kindOr(fallback Scope) Scope {
	switch {
	case d.kind != ScopeNone:
		return d.kind
	case fallback == ScopeNone || fallback == ScopeDaily:
		return ScopeUnknown
	}
	return fallback
}

// period returns the length of a window that a word names, or 0.
func period(w string) time.Duration {
	switch w {
	case "second", "sec", "s":
		return time.Second
	case "minute", "min", "m":
		return time.Minute
	case "hour", "h", "hr":
		return time.Hour
	case "day", "d":
		return 24 * time.Hour
	case "week":
		return 7 * 24 * time.Hour
	case "month":
		return 30 * 24 * time.Hour
	}
	return 0
}

// statedReader goes through the words of a text.
type statedReader struct {
	words    []statedWord
	fallback Scope

	context   dimension
	list      []Stated
	current   int // index in list of the limit of this sentence, or -1
	used      int64
	requested int64
}

func (r *statedReader) read() []Stated {
	r.current, r.used, r.requested = -1, Unstated, Unstated
	for i, w := range r.words {
		if w.isNum {
			r.number(i)
		} else if w.text == "." {
			r.context = dimension{}
			r.current, r.used, r.requested = -1, Unstated, Unstated
		}
		r.context.see(w)
	}
	return r.list
}

// number takes the number at words[i] for what the words before it say it is.
func (r *statedReader) number(i int) {
	n := r.words[i].number
	// "(actual/limit): 2/2"
	if r.matches(i-6, "(", "actual", "/", "limit", ")", ":") && i+2 < len(r.words) && r.words[i+1].text == "/" && r.words[i+2].isNum {
		r.used = n
		r.limit(i+2, r.words[i+2].number)
		return
	}
	j := i - 1
	for j >= 0 {
		switch r.words[j].text {
		case ":", "=", "is", "of", "to", "equals", "at":
			j--
			continue
		}
		break
	}
	if j < 0 || r.words[j].isNum {
		return
	}
	switch r.words[j].text {
	case "limit", "max", "maximum":
		r.limit(i, n)
	case "used", "current", "usage", "times":
		r.use(n)
	case "requested":
		if r.current >= 0 {
			r.list[r.current].Requested = n
		} else {
			r.requested = n
		}
	case "concurrency", "rpm", "tpm", "rpd", "tpd", "qps", "rps":
		switch {
		case r.near(j, "max", "maximum"):
			r.limit(i, n)
		case r.near(j, "current"):
			r.use(n)
		}
	case "exceeded", "exceeds":
		if d := r.ahead(i); d.per != 0 {
			r.limit(i, n)
		}
	}
}

// limit notes that the number at words[i] is a limit.
func (r *statedReader) limit(i int, n int64) {
	d, ahead := r.context, r.ahead(i)
	if ahead.kind != ScopeNone {
		d = ahead
	} else if ahead.per != 0 {
		d.per = ahead.per
	}
	s := Stated{Kind: d.kindOr(r.fallback), Limit: n, Used: r.used, Requested: r.requested, Per: d.per}
	if s.Kind == ScopeConcurrency {
		s.Per = 0
	}
	if r.fallback == ScopeDaily && s.Per == 0 && s.Kind != ScopeConcurrency {
		s.Per = 24 * time.Hour
	}
	before := len(r.list)
	r.list = addStated(r.list, s)
	if len(r.list) > before {
		r.current = before
	}
	r.used, r.requested = Unstated, Unstated
}

func (r *statedReader) use(n int64) {
	if r.current >= 0 && r.list[r.current].Used == Unstated {
		r.list[r.current].Used = n
	} else {
		r.used = n
	}
}

// ahead returns the quantity and period that follow the number at words[i]: "5 concurrent
// requests", "40,000 input tokens per minute", "5,time:1 minute", "5 per 1 minute".
func (r *statedReader) ahead(i int) (d dimension) {
	for k := i + 1; k < len(r.words) && k < i+7; k++ {
		w := r.words[k]
		if w.text == "." || w.text == "(" {
			break
		}
		if w.text == "," {
			if r.matches(k+1, "time", ":") && k+4 < len(r.words) && r.words[k+3].isNum {
				d.per = times(r.words[k+3].number, period(strings.TrimSuffix(r.words[k+4].text, "s")))
			}
			break
		}
		if w.isNum {
			if d.prev != "per" || k+1 >= len(r.words) {
				break
			}
			d.per = times(w.number, period(strings.TrimSuffix(r.words[k+1].text, "s")))
			break
		}
		d.see(w)
	}
	return d
}

// times returns n*d, or 0 when it is out of a year's bounds.
func times(n int64, d time.Duration) time.Duration {
	const year = 366 * 24 * time.Hour
	if n < 1 || d == 0 || n > int64(year/d) {
		return 0
	}
	return time.Duration(n) * d
}

// matches reports whether the words at i are want.
func (r *statedReader) matches(i int, want ...string) bool {
	if i < 0 || i+len(want) > len(r.words) {
		return false
	}
	for k, w := range want {
		if r.words[i+k].text != w {
			return false
		}
	}
	return true
}

// near reports whether one of the words stands within three words before words[j].
func (r *statedReader) near(j int, want ...string) bool {
	for k := j - 1; k >= 0 && k >= j-3; k-- {
		for _, w := range want {
			if r.words[k].text == w {
				return true
			}
		}
	}
	return false
}
