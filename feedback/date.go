package feedback

import (
	"strings"
	"time"
)

// instant is a point in time in seconds and nanoseconds since 1970, in UTC.
// nsec may be as large as 1e9, when a fraction was rounded up.
type instant struct{ sec, nsec int64 }

// maxSeconds is how many seconds fit an int64 of nanoseconds.
const maxSeconds = (1<<63-1)/1_000_000_000 - 1

func instantOf(t time.Time) instant { return instant{t.Unix(), int64(t.Nanosecond())} }

// sub returns how long after u the instant t is, in nanoseconds: 0 when it is not, and
// saturating at the largest uint64.
func (t instant) sub(u instant) uint64 {
	if t.sec < u.sec {
		return 0
	}
	sec := uint64(t.sec) - uint64(u.sec)
	if sec > maxSeconds {
		return ^uint64(0)
	}
	ns := int64(sec*1e9) + t.nsec - u.nsec
	return uint64(max(ns, 0))
}

// parseHTTPDate reads one of the three forms of RFC 9110, section 5.6.7, in GMT. The
// calendar date must exist; whether the weekday fits it is not checked. ref settles the
// century of the two-digit form: within 50 years.
func parseHTTPDate(s string, ref instant) (instant, bool) {
	// Sun, 06 Nov 1994 08:49:37 GMT
	if len(s) == 29 && s[3] == ',' {
		if oneOf(shortDays, s[:3]) < 0 || s[4] != ' ' || s[7] != ' ' || s[11] != ' ' || s[16] != ' ' || s[25:] != " GMT" {
			return instant{}, false
		}
		return civil(digits(s[12:16]), oneOf(months, s[8:11])+1, digits(s[5:7]), s[17:25])
	}
	// Sunday, 06-Nov-94 08:49:37 GMT
	if day, rest, ok := strings.Cut(s, ", "); ok {
		if oneOf(longDays, day) < 0 || len(rest) != 22 || rest[2] != '-' || rest[6] != '-' || rest[9] != ' ' || rest[18:] != " GMT" {
			return instant{}, false
		}
		yy := digits(rest[7:9])
		if yy < 0 {
			return instant{}, false
		}
		refYear := time.Unix(ref.sec, 0).UTC().Year()
		year := refYear - refYear%100 + yy
		if year > refYear+50 {
			year -= 100
		} else if year <= refYear-50 {
			year += 100
		}
		return civil(year, oneOf(months, rest[3:6])+1, digits(rest[0:2]), rest[10:18])
	}
	// Sun Nov  6 08:49:37 1994
	if len(s) == 24 && s[3] == ' ' && s[7] == ' ' && s[10] == ' ' && s[19] == ' ' && oneOf(shortDays, s[:3]) >= 0 {
		day := s[8:10]
		if day[0] == ' ' {
			day = day[1:]
		}
		return civil(digits(s[20:]), oneOf(months, s[4:7])+1, digits(day), s[11:19])
	}
	return instant{}, false
}

// cutRFC3339 reads an instant with a zone at the beginning of s and returns what
// follows it. Letters may be in either case, and a space may stand for the T.
func cutRFC3339(s string) (t instant, rest string, ok bool) {
	// 2026-08-20T10:00:00Z
	if len(s) < 20 || s[4] != '-' || s[7] != '-' || s[10]|0x20 != 't' && s[10] != ' ' {
		return instant{}, s, false
	}
	t, ok = civil(digits(s[0:4]), digits(s[5:7]), digits(s[8:10]), s[11:19])
	if !ok {
		return instant{}, s, false
	}
	rest = s[19:]
	if rest != "" && rest[0] == '.' {
		var frac decimal
		frac, rest, _ = cutDecimal(s[18:]) // the last digit of the seconds and the fraction
		t.nsec = int64(frac.fracTimes(1e9))
	}
	if rest == "" {
		return instant{}, s, false
	}
	if rest[0]|0x20 == 'z' {
		return t, rest[1:], true
	}
	if len(rest) < 6 || rest[0] != '+' && rest[0] != '-' || rest[3] != ':' {
		return instant{}, s, false
	}
	h, m := digits(rest[1:3]), digits(rest[4:6])
	if h < 0 || h > 23 || m < 0 || m > 59 {
		return instant{}, s, false
	}
	off := int64(h*3600 + m*60)
	if rest[0] == '-' {
		off = -off
	}
	t.sec -= off
	return t, rest[6:], true
}

// parseRFC3339 reads an instant with a zone and nothing else.
func parseRFC3339(s string) (instant, bool) {
	t, rest, ok := cutRFC3339(s)
	return t, ok && rest == ""
}

// civil returns the instant of a date and a clock of the form 15:04:05 in UTC. Leap
// seconds are refused: the reader cannot know whether there was one.
func civil(year, month, day int, clock string) (instant, bool) {
	if year < 0 || month < 1 || month > 12 || day < 1 || clock[2] != ':' || clock[5] != ':' {
		return instant{}, false
	}
	h, m, s := digits(clock[0:2]), digits(clock[3:5]), digits(clock[6:8])
	if h < 0 || h > 23 || m < 0 || m > 59 || s < 0 || s > 59 {
		return instant{}, false
	}
	t := time.Date(year, time.Month(month), day, h, m, s, 0, time.UTC)
	if t.Day() != day { // 31 February became March
		return instant{}, false
	}
	return instant{sec: t.Unix()}, true
}

// digits returns the number that s spells with digits only, or -1. s is short.
func digits(s string) int {
	n := 0
	for i := range len(s) {
		if !isDigit(s[i]) {
			return -1
		}
		n = n*10 + int(s[i]-'0')
	}
	if s == "" {
		return -1
	}
	return n
}

var (
	months    = []string{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}
	shortDays = []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}
	longDays  = []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
)

// oneOf returns the index of s in list, or a number far below -1, so that adding one
// does not make it valid.
func oneOf(list []string, s string) int {
	for i, l := range list {
		if l == s {
			return i
		}
	}
	return -100
}
