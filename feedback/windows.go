package feedback

import (
	"strings"
	"time"
)

// family tells apart the vocabularies of limit fields. Windows of different families are
// never mixed, even when they have the same name.
type family uint8

const (
	familyXRateLimit family = iota
	familyXRateHyphenLimit
	familyRateLimit
	familyAnthropic
	familyAnthropicPriority
	familyAnthropicFast
	familyTokenLimit
	familyBySize
	familyXBySize
	familyMicrosoft
)

// slot collects the fields of one window while the header is read.
type slot struct {
	family                         family
	kind                           Scope
	suffix                         string // what names the window within its family, as spelled
	limit, remaining, reset, after field
}

// inlineSlots is how many windows are read without allocating; most providers send 2 to 4.
const inlineSlots = 8

// maxWindows bounds the windows of one answer. An answer with more is not believed and
// has none: matching names costs the square of their number.
const maxWindows = 128

// role is what a limit field tells.
type role uint8

const (
	roleLimit role = iota
	roleRemaining
	roleReset
	roleAfter
)

// cutRole reads the role at the beginning of s: limit, remaining or reset, followed by
// nothing or by a hyphen and the rest.
func cutRole(s []byte) (r role, rest []byte, ok bool) {
	switch {
	case len(s) >= 5 && string(s[:5]) == "limit":
		r, rest = roleLimit, s[5:]
	case len(s) >= 9 && string(s[:9]) == "remaining":
		r, rest = roleRemaining, s[9:]
	case len(s) >= 5 && string(s[:5]) == "reset":
		r, rest = roleReset, s[5:]
	default:
		return 0, nil, false
	}
	if len(rest) == 0 {
		return r, nil, true
	}
	return r, rest[1:], rest[0] == '-' && len(rest) > 1
}

// cutRoleSuffix reads the role at the end of s, after a hyphen: input-tokens-limit.
func cutRoleSuffix(s []byte) (r role, rest []byte, ok bool) {
	for r, word := range [...]string{"-limit", "-remaining", "-reset"} {
		if n := len(s) - len(word); n > 0 && string(s[n:]) == word {
			return role(r), s[:n], true
		}
	}
	return 0, nil, false
}

func cutPrefix(s []byte, prefix string) ([]byte, bool) {
	if len(s) >= len(prefix) && string(s[:len(prefix)]) == prefix {
		return s[len(prefix):], true
	}
	return s, false
}

// xRateLimit is the prefix of the family that most providers speak.
const xRateLimit = "x-ratelimit-"

// xRateLimit takes a field of that family; rest is its name after the prefix, in lower case.
func (f *fields) xRateLimit(rest []byte, name string, values []string) {
	r, suffix, ok := cutRole(rest)
	switch {
	case !ok:
	case r == roleReset && string(suffix) == "after":
		f.put(familyXRateLimit, nil, "", roleAfter, name, values)
	default:
		f.put(familyXRateLimit, suffix, name[len(name)-len(suffix):], r, name, values)
	}
}

// window takes a field when it belongs to a family of limit fields. lower is the name in
// lower case and not kept.
func (f *fields) window(lower []byte, name string, values []string) {
	// tail is the part of name that a part of lower, at its end, corresponds to.
	tail := func(part []byte) string { return name[len(name)-len(part):] }
	switch lower[0] {
	case 'x':
		if len(lower) < len("x-tokenlimit-") {
			return
		}
		if rest, ok := cutPrefix(lower, xRateLimit); ok {
			f.xRateLimit(rest, name, values)
		} else if rest, ok := cutPrefix(lower, "x-rate-limit-"); ok {
			if r, suffix, ok := cutRole(rest); ok && len(suffix) == 0 {
				f.put(familyXRateHyphenLimit, nil, "", r, name, values)
			}
		} else if rest, ok := cutPrefix(lower, "x-tokenlimit-"); ok {
			if r, suffix, ok := cutRole(rest); ok && len(suffix) == 0 {
				f.put(familyTokenLimit, nil, "", r, name, values)
			}
		} else if rest, ok := cutPrefix(lower, "x-ratelimitbysize-"); ok {
			if r, suffix, ok := cutRole(rest); ok {
				f.put(familyXBySize, suffix, tail(suffix), r, name, values)
			}
		} else if rest, ok := cutPrefix(lower, "x-ms-ratelimit-remaining-"); ok && len(rest) > 0 {
			f.put(familyMicrosoft, rest, tail(rest), roleRemaining, name, values)
		}
	case 'r':
		if rest, ok := cutPrefix(lower, "ratelimit-"); ok {
			if r, suffix, ok := cutRole(rest); ok && len(suffix) == 0 {
				f.put(familyRateLimit, nil, "", r, name, values)
			}
		} else if rest, ok := cutPrefix(lower, "ratelimitbysize-"); ok {
			if r, suffix, ok := cutRole(rest); ok && len(suffix) == 0 {
				f.put(familyBySize, nil, "", r, name, values)
			}
		}
	case 'a':
		rest, ok := cutPrefix(lower, "anthropic-")
		if !ok {
			return
		}
		fam := familyAnthropic
		if rest, ok = cutPrefix(rest, "ratelimit-"); !ok {
			if rest, ok = cutPrefix(rest, "priority-"); ok {
				fam = familyAnthropicPriority
			} else if rest, ok = cutPrefix(rest, "fast-"); ok {
				fam = familyAnthropicFast
			} else {
				return
			}
		}
		if r, suffix, ok := cutRoleSuffix(rest); ok {
			start := len(name) - len(rest)
			f.put(fam, suffix, name[start:start+len(suffix)], r, name, values)
		}
	}
}

func (f *fields) slot(i int) *slot {
	if i < inlineSlots {
		return &f.inline[i]
	}
	return &f.more[i-inlineSlots]
}

// kind returns the quantity that a family's windows count; lower is the suffix in lower case.
func (fam family) kind(lower []byte) Scope {
	switch fam {
	case familyXRateHyphenLimit, familyRateLimit, familyMicrosoft:
		return ScopeRequests
	case familyTokenLimit, familyBySize:
		return ScopeTokens
	case familyXBySize:
		if kindOfWords(lower) == ScopeDaily {
			return ScopeDaily
		}
		return ScopeTokens
	}
	return kindOfWords(lower)
}

// put files the values of a field in the slot of its window. suffix is what names the
// window, as spelled in name, and lower the same in lower case.
func (f *fields) put(fam family, lower []byte, suffix string, r role, name string, values []string) {
	var s *slot
	for i := range f.n {
		if t := f.slot(i); t.family == fam && len(t.suffix) == len(suffix) && (t.suffix == suffix || strings.EqualFold(t.suffix, suffix)) {
			s = t
			break
		}
	}
	if s == nil {
		if f.n == maxWindows {
			f.tooMany = true
			return
		}
		if f.n >= inlineSlots {
			f.more = append(f.more, slot{})
		}
		f.n++
		s = f.slot(f.n - 1)
		s.family, s.kind, s.suffix = fam, fam.kind(lower), suffix
	}
	switch r {
	case roleLimit:
		s.limit.add(name, values)
	case roleRemaining:
		s.remaining.add(name, values)
	case roleReset:
		s.reset.add(name, values)
	case roleAfter:
		s.after.add(name, values)
	}
}

// kindOfWords returns the quantity that the words of a field's suffix name. A longer
// period wins over a quantity, and the narrower quantity over the wider.
func kindOfWords(suffix []byte) Scope {
	if len(suffix) == 0 {
		return ScopeRequests
	}
	best := ScopeUnknown
	rank := 0
	for start := 0; start <= len(suffix); {
		end := start
		for end < len(suffix) && suffix[end] != '-' && suffix[end] != '_' {
			end++
		}
		kind, r := ScopeUnknown, 0
		switch string(suffix[start:end]) {
		case "day", "week", "month", "days", "daily", "weekly", "monthly":
			kind, r = ScopeDaily, 5
		case "input", "prompt":
			kind, r = ScopeInputTokens, 4
		case "output", "generated", "completion":
			kind, r = ScopeOutputTokens, 3
		case "token", "tokens":
			kind, r = ScopeTokens, 2
		case "requests", "request", "req", "second", "minute", "hour":
			kind, r = ScopeRequests, 1
		}
		if r > rank {
			best, rank = kind, r
		}
		start = end + 1
	}
	return best
}

// windows appends the windows that the fields describe to buf, in a fixed order and
// each once.
func (f *fields) windows(buf []Window, ref *clock) []Window {
	if f.tooMany || f.cached() {
		return buf
	}
	own := len(buf)
	for i := range f.n {
		s := f.slot(i)
		w := Window{Kind: s.kind, Limit: count(&s.limit), Remaining: count(&s.remaining), Reset: Unstated}
		if w.Limit == Unstated && w.Remaining == Unstated {
			continue
		}
		if w.Reset = reset(&s.after, ref); w.Reset == Unstated {
			w.Reset = reset(&s.reset, ref)
		}
		buf = addWindow(buf, own, w)
	}
	if f.shopifyCallLimit.set() {
		if used, limit, ok := strings.Cut(f.shopifyCallLimit.first(), "/"); ok {
			u, uok := parseCount(used)
			l, lok := parseCount(limit)
			if uok && lok {
				buf = addWindow(buf, own, Window{Kind: ScopeRequests, Limit: l, Remaining: max(l-u, 0), Reset: Unstated})
			}
		}
	}
	if f.ratelimit.set() || f.ratelimitPolicy.set() {
		buf = structuredWindows(buf, own, f.ratelimit.values, f.ratelimitPolicy.values)
	}
	return buf
}

// addWindow inserts w among buf[own:], in order, unless it is there already. The order
// makes the result independent of the order of the header's map.
func addWindow(buf []Window, own int, w Window) []Window {
	i := len(buf)
	for i > own && less(w, buf[i-1]) {
		i--
	}
	if i > own && buf[i-1] == w {
		return buf
	}
	buf = append(buf, Window{})
	copy(buf[i+1:], buf[i:])
	buf[i] = w
	return buf
}

func less(a, b Window) bool {
	switch {
	case a.Kind != b.Kind:
		return a.Kind < b.Kind
	case a.Limit != b.Limit:
		return a.Limit < b.Limit
	case a.Remaining != b.Remaining:
		return a.Remaining < b.Remaining
	}
	return a.Reset < b.Reset
}

// count returns the first number of a field, or Unstated.
func count(f *field) int64 {
	if !f.set() {
		return Unstated
	}
	n, ok := parseCount(f.values[0])
	if !ok {
		return Unstated
	}
	return n
}

// parseCount reads a count: a number up to a comma or semicolon, its fraction dropped.
func parseCount(s string) (int64, bool) {
	d, rest, ok := cutDecimal(trimSpace(s))
	if !ok {
		return 0, false
	}
	if rest = trimSpace(rest); rest != "" && rest[0] != ',' && rest[0] != ';' {
		return 0, false
	}
	return d.int()
}

// reset returns the delay that a reset field names, the longest of several, or Unstated.
func reset(f *field, ref *clock) time.Duration {
	longest := time.Duration(Unstated)
	for _, v := range f.values {
		eachListed(v, func(elem string) bool {
			d, ok := parseReset(elem, ref)
			if ok {
				longest = max(longest, d)
			}
			return ok
		})
	}
	return longest
}

// maxAhead is how far ahead an absolute reset is believed.
const maxAhead = uint64(366 * 24 * time.Hour)

// parseReset reads a reset: a number (whose magnitude tells a delay from seconds,
// milliseconds, microseconds and nanoseconds since 1970), a duration, an RFC 3339
// instant with a zone, or an HTTP date.
func parseReset(s string, ref *clock) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	if d, ok := parseDecimal(s); ok {
		if !d.huge && d.whole < 1e8 {
			return ceilMilli(d.times(1e9)), true
		}
		t, ok := d.epoch()
		return absolute(t, ok, ref)
	}
	if ns, ok := parseDuration(s); ok {
		return ceilMilli(ns), true
	}
	if t, ok := parseRFC3339(s); ok {
		return absolute(t, ok, ref)
	}
	t, ok := parseHTTPDate(s, ref.time())
	return absolute(t, ok, ref)
}

// epoch reads a number of 1e8 or more as a time since 1970, in a unit that its magnitude
// tells. No real value falls in the wrong bin before the year 5138.
func (d decimal) epoch() (instant, bool) {
	perSecond := uint64(0)
	switch {
	case d.huge:
		return instant{}, false
	case d.whole < 1e11:
		perSecond = 1
	case d.whole < 1e14:
		perSecond = 1e3
	case d.whole < 1e17:
		perSecond = 1e6
	default: // below 1e20: larger ones are huge, or beyond 1.8e19 and so in the year 2554
		perSecond = 1e9
	}
	unit := uint64(1e9) / perSecond
	return instant{
		sec:  int64(d.whole / perSecond),
		nsec: int64(d.whole%perSecond*unit + d.fracTimes(unit)),
	}, true
}

func absolute(t instant, ok bool, ref *clock) (time.Duration, bool) {
	if !ok {
		return 0, false
	}
	ns := t.sub(ref.time())
	if ns > maxAhead {
		return 0, false
	}
	return ceilMilli(ns), true
}
