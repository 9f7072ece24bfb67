package feedback

import (
	"strings"
	"time"
)

// headerDelay returns the delay that the header names and the field that named it. The
// first readable field wins; within one field the longest value does.
func (f *fields) headerDelay(ref *clock) (d time.Duration, source string, ok bool) {
	for _, in := range [...]struct {
		field  *field
		source string
	}{
		{&f.retryAfterMs, "header:retry-after-ms"},
		{&f.msRetryAfterMs, "header:x-ms-retry-after-ms"},
		{&f.amzRetryAfter, "header:x-amz-retry-after"},
		{&f.pushback, "header:grpc-retry-pushback-ms"},
	} {
		if d, ok := millis(in.field.values); ok {
			return d, in.source, true
		}
	}
	if d, ok := retryAfter(f.retryAfter.values, ref); ok {
		return d, "header:retry-after", true
	}
	return 0, "", false
}

// millis reads values in milliseconds and returns the longest readable one.
func millis(values []string) (longest time.Duration, ok bool) {
	for _, v := range values {
		eachListed(v, func(s string) bool {
			d, isNum := parseDecimal(s)
			if isNum {
				longest, ok = max(longest, ceilMilli(d.times(uint64(time.Millisecond)))), true
			}
			return isNum
		})
	}
	return longest, ok
}

// retryAfter reads values of a Retry-After field, in seconds, as durations or as HTTP
// dates, and returns the longest readable one. A date already past is 0.
func retryAfter(values []string, ref *clock) (longest time.Duration, ok bool) {
	for _, v := range values {
		eachListed(v, func(s string) bool {
			d, readable := parseRetryAfter(s, ref)
			if readable {
				longest, ok = max(longest, d), true
			}
			return readable
		})
	}
	return longest, ok
}

func parseRetryAfter(s string, ref *clock) (time.Duration, bool) {
	if d, ok := parseDecimal(s); ok {
		return ceilMilli(d.times(uint64(time.Second))), true
	}
	if ns, ok := parseDuration(s); ok {
		return ceilMilli(ns), true
	}
	if t, ok := parseHTTPDate(s, ref.time()); ok {
		return ceilMilli(t.sub(ref.time())), true
	}
	return 0, false
}

// eachListed calls read for the elements of a field value that commas separate. Dates have
// a comma of their own, so two neighbours are tried together first; read reports
// whether it could read what it was given.
func eachListed(v string, read func(string) bool) {
	for {
		i := strings.IndexByte(v, ',')
		if i < 0 {
			read(trimSpace(v))
			return
		}
		end := len(v)
		if j := strings.IndexByte(v[i+1:], ','); j >= 0 {
			end = i + 1 + j
		}
		if !read(trimSpace(v[:end])) {
			read(trimSpace(v[:i]))
			end = i
		}
		if end == len(v) {
			return
		}
		v = v[end+1:]
	}
}

// bodyDelay returns the delay that a JSON body names: google.rpc.RetryInfo first, then
// the members that state one.
func bodyDelay(root value) (d time.Duration, source string, ok bool) {
	e := root.get("error")
	for _, details := range []value{e.get("details"), root.get("details")} {
		details.elements(func(detail value) bool {
			if isType(detail, "google.rpc.RetryInfo") {
				if s, isText := detail.get("retryDelay").text(); isText {
					if ns, readable := parseDuration(s); readable {
						d, ok = max(d, ceilMilli(ns)), true
					}
				}
			}
			return true
		})
		if ok {
			return d, "body:retryDelay", true
		}
	}
	for _, in := range []value{root, e, root.get("details"), e.get("details"), e.get("metadata")} {
		if s, isScalar := in.get("retry_after_ms").scalar(); isScalar {
			if n, readable := parseDecimal(strings.TrimSpace(s)); readable {
				return ceilMilli(n.times(uint64(time.Millisecond))), "body:retry_after_ms", true
			}
		}
		for _, key := range [...]struct{ name, source string }{
			{"retry_after", "body:retry_after"},
			{"retry_after_seconds", "body:retry_after_seconds"},
			{"retryAfterSeconds", "body:retryAfterSeconds"},
		} {
			s, isScalar := in.get(key.name).scalar()
			if !isScalar {
				continue
			}
			s = strings.TrimSpace(s)
			if n, readable := parseDecimal(s); readable {
				return ceilMilli(n.times(uint64(time.Second))), key.source, true
			}
			if ns, readable := parseDuration(s); readable {
				return ceilMilli(ns), key.source, true
			}
		}
	}
	return 0, "", false
}

// isType reports whether the @type of a google.protobuf.Any names the message.
func isType(detail value, message string) bool {
	s, _ := detail.get("@type").text()
	return s == message || strings.HasSuffix(s, "/"+message)
}

// sentenceDelay finds the delay in a sentence of lower-case text: "try again in 20s",
// "retry after 37 seconds", "try after 2025-09-09t17:03:57.071z".
func sentenceDelay(text string, ref *clock) (time.Duration, bool) {
	for rest := text; ; {
		i := strings.Index(rest, "try")
		if i < 0 {
			return 0, false
		}
		before := rest[:i]
		rest = rest[i+len("try"):]
		before = strings.TrimSuffix(before, "re")
		if before != "" && isWord(before[len(before)-1]) {
			continue // country, retrying and so on
		}
		s, _ := strings.CutPrefix(rest, " again")
		word := ""
		for _, w := range [...]string{" in", " after", " at"} {
			if strings.HasPrefix(s, w) {
				word, s = w, s[len(w):]
				break
			}
		}
		if word == "" || s == "" {
			continue
		}
		s = strings.TrimPrefix(s, ":")
		if s == "" || s[0] != ' ' {
			continue
		}
		s = s[1:]
		if t, _, ok := cutRFC3339(s); ok {
			return ceilMilli(t.sub(ref.time())), true
		}
		if word != " at" {
			if ns, ok := spokenDuration(s); ok {
				return ceilMilli(ns), true
			}
		}
	}
}

// spokenDuration reads the duration that s begins with, in units or in words: "1h30m",
// "20 seconds", "1 minute 30 seconds", "2 minutes and 5 seconds".
func spokenDuration(s string) (ns uint64, ok bool) {
	for {
		part, rest, found := cutDuration(s)
		if found && rest != "" && isWord(rest[0]) {
			found = false
		}
		if !found {
			d, after, isNum := cutDecimal(s)
			if !isNum {
				return ns, ok
			}
			after = strings.TrimPrefix(after, " ")
			n := 0
			for n < len(after) && isLetter(after[n]) {
				n++
			}
			unit := unitWord(after[:n])
			if unit == 0 || n < len(after) && isWord(after[n]) {
				return ns, ok
			}
			part, rest = d.times(unit), after[n:]
		}
		ns, ok = addSat(ns, part), true
		if s, found = strings.CutPrefix(rest, " and "); !found {
			if s, found = strings.CutPrefix(rest, " "); !found {
				return ns, true
			}
		}
	}
}

// unitWord returns the length in nanoseconds of a unit of time that is written as a
// word or as its usual abbreviation, or 0.
func unitWord(w string) uint64 {
	switch w {
	case "nanosecond", "nanoseconds":
		return 1
	case "microsecond", "microseconds":
		return 1e3
	case "millisecond", "milliseconds", "msec", "msecs", "millis":
		return 1e6
	case "second", "seconds", "sec", "secs":
		return 1e9
	case "minute", "minutes", "min", "mins":
		return 60e9
	case "hour", "hours", "hr", "hrs":
		return 3600e9
	case "day", "days":
		return 86400e9
	case "week", "weeks":
		return 7 * 86400e9
	}
	ns, _ := unitNanos(w)
	return ns
}
