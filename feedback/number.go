package feedback

import (
	"math/bits"
	"strings"
	"time"
)

// maxDelay is the longest delay that is ever reported: the largest time.Duration
// that is a whole number of milliseconds. Longer ones saturate here.
const maxDelay = 9223372036854 * time.Millisecond

// decimal is a number as upstreams may write it: digits with an optional fraction.
// It is exact where it matters: sums and products round up, never down.
type decimal struct {
	// whole is the integer part; it is meaningless when huge is set.
	whole uint64
	// frac is the fraction in units of 1e-18, truncated.
	frac uint64
	// sticky says that the fraction has non-zero digits below 1e-18.
	sticky bool
	// huge says that the integer part does not fit 64 bits.
	huge bool
}

// parseDecimal reads digits with an optional fraction and nothing else. Signs,
// exponents, hexadecimal, underscores and words are not numbers.
func parseDecimal(s string) (decimal, bool) {
	d, rest, ok := cutDecimal(s)
	return d, ok && rest == ""
}

// cutDecimal reads a number at the beginning of s and returns what follows it.
// A dot that no digit follows is not part of the number.
func cutDecimal(s string) (d decimal, rest string, ok bool) {
	i := 0
	for ; i < len(s) && i < 19 && isDigit(s[i]); i++ { // 19 digits always fit
		d.whole = d.whole*10 + uint64(s[i]-'0')
	}
	for ; i < len(s) && isDigit(s[i]); i++ {
		hi, lo := bits.Mul64(d.whole, 10)
		lo, carry := bits.Add64(lo, uint64(s[i]-'0'), 0)
		if hi != 0 || carry != 0 {
			d.huge = true
		}
		d.whole = lo
	}
	if i == 0 {
		return decimal{}, s, false
	}
	if i+1 < len(s) && s[i] == '.' && isDigit(s[i+1]) {
		scale := uint64(1e17)
		for i++; i < len(s) && isDigit(s[i]); i++ {
			d.frac += uint64(s[i]-'0') * scale
			if scale == 0 && s[i] != '0' {
				d.sticky = true
			}
			scale /= 10
		}
	}
	return d, s[i:], true
}

// times returns d*unit rounded up, and saturates at the largest uint64.
func (d decimal) times(unit uint64) uint64 {
	hi, lo := bits.Mul64(d.whole, unit)
	if d.huge || hi != 0 {
		return ^uint64(0)
	}
	return addSat(lo, d.fracTimes(unit))
}

// fracTimes returns the fraction of d times unit, rounded up. unit is below 1e18.
func (d decimal) fracTimes(unit uint64) uint64 {
	hi, lo := bits.Mul64(d.frac, unit)
	q, r := bits.Div64(hi, lo, 1e18) // frac < 1e18 and so hi < unit < 1e18: no overflow
	if r != 0 || d.sticky {
		q++
	}
	return q
}

// int returns the integer part, when it fits an int64.
func (d decimal) int() (int64, bool) {
	return int64(d.whole), !d.huge && d.whole <= 1<<63-1
}

func addSat(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return ^uint64(0)
	}
	return s
}

// ceilMilli turns nanoseconds into a delay: whole milliseconds, rounded up so that
// nothing is ever retried early, and at most maxDelay.
func ceilMilli(ns uint64) time.Duration {
	ms := ns / 1e6
	if ns%1e6 != 0 {
		ms++
	}
	if ms > uint64(maxDelay/time.Millisecond) {
		return maxDelay
	}
	return time.Duration(ms) * time.Millisecond
}

// unitNanos returns the length of a unit of the duration grammar, d h m s ms us µs ns.
func unitNanos(u string) (uint64, bool) {
	switch u {
	case "s":
		return 1e9, true
	case "ms":
		return 1e6, true
	case "m":
		return 60e9, true
	case "h":
		return 3600e9, true
	case "d":
		return 86400e9, true
	case "us", "µs", "μs": // U+00B5 and U+03BC
		return 1e3, true
	case "ns":
		return 1, true
	}
	return 0, false
}

// parseDuration reads one or more numbers with a unit, as in 1h30m0.5s, and returns
// their sum in nanoseconds. Each part is rounded up to a whole nanosecond.
func parseDuration(s string) (ns uint64, ok bool) {
	ns, rest, ok := cutDuration(s)
	return ns, ok && rest == ""
}

// cutDuration reads a duration at the beginning of s and returns what follows it.
func cutDuration(s string) (ns uint64, rest string, ok bool) {
	rest = s
	for {
		d, after, isNum := cutDecimal(rest)
		if !isNum {
			return ns, rest, ok
		}
		n := 0
		for n < len(after) && isLetter(after[n]) {
			n++
		}
		if strings.HasPrefix(after, "µs") || strings.HasPrefix(after, "μs") {
			n = len("µs")
		}
		unit, isUnit := unitNanos(after[:n])
		if !isUnit || n < len(after) && after[n] == '_' {
			return ns, rest, ok
		}
		ns = addSat(ns, d.times(unit))
		rest, ok = after[n:], true
	}
}

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// isWord reports whether c is part of an ASCII word. Bytes of other scripts are not,
// so that "RPM" is found in a sentence without spaces.
func isWord(c byte) bool { return isLetter(c) || isDigit(c) || c == '_' }

// trimSpace removes the white space of RFC 9110 around s, and line ends.
func trimSpace(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
