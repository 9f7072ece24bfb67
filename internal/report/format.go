package report

import (
	"math"
	"strconv"
	"time"
)

// dash stands for a value that is not defined.
const dash = "–"

// formatShare writes a ratio as a percentage: "97 %", and "0.4 %" below one
// percent, so that little is told apart from nothing.
func formatShare(v float64) string {
	if !finite(v) {
		return dash
	}
	p := v * 100
	if p != 0 && math.Abs(p) < 0.95 {
		return strconv.FormatFloat(p, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(math.Round(p), 'f', 0, 64) + " %"
}

// formatPerOK writes 429s per success: "0", "<0.01", "0.44", "12.3", "250", "∞".
func formatPerOK(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "∞"
	case !finite(v):
		return dash
	case v == 0:
		return "0"
	case v < 0.005:
		return "<0.01"
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// formatDuration writes three figures and the unit in which they are easiest to
// read: "0 ms", "0.85 ms", "12.3 ms", "340 ms", "2.50 s", "41.8 s", "240 s".
func formatDuration(d time.Duration) string {
	if d < 0 {
		return dash
	}
	v, unit := float64(d)/float64(time.Millisecond), " ms"
	if v >= 999.5 {
		v, unit = v/1000, " s"
	}
	switch {
	case v == 0:
		return "0 ms"
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64) + unit
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64) + unit
	}
	return strconv.FormatFloat(v, 'f', 0, 64) + unit
}

// formatSettle writes the time to settle in seconds: "8 s", "0.5 s", "never"; a
// dash where there is nothing to settle at.
func formatSettle(s Summary) string {
	switch {
	case s.NoLevel:
		return dash
	case !s.Settled:
		return "never"
	case s.Settle < 9950*time.Millisecond:
		return strconv.FormatFloat(s.Settle.Seconds(), 'f', 1, 64) + " s"
	}
	return strconv.FormatFloat(s.Settle.Seconds(), 'f', 0, 64) + " s"
}

// formatSpan writes the length of a scenario: "90 s", "10 min", "1 h 30 min".
func formatSpan(d time.Duration) string {
	if d < 2*time.Minute || d%time.Minute != 0 {
		return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
	}
	h, m := int64(d/time.Hour), int64(d%time.Hour/time.Minute)
	switch {
	case h == 0:
		return strconv.FormatInt(m, 10) + " min"
	case m == 0:
		return strconv.FormatInt(h, 10) + " h"
	}
	return strconv.FormatInt(h, 10) + " h " + strconv.FormatInt(m, 10) + " min"
}

// formatCount writes n with thin groups of three: "1 204 551". The space does not
// break.
func formatCount(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "−", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return sign + s
}

// formatRate writes a number per second or a mean number of requests with three
// figures.
func formatRate(v float64) string {
	switch {
	case !finite(v):
		return dash
	case v == 0:
		return "0"
	case math.Abs(v) < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case math.Abs(v) < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return formatCount(int64(math.Round(min(max(v, -1e15), 1e15))))
}

// formatFine writes the size of a number with three figures: "0", "0.012", "3.4", "97.2", "340".
func formatFine(v float64) string {
	v = math.Abs(v)
	switch {
	case math.IsInf(v, 0):
		return "∞"
	case v == 0:
		return "0"
	case v < 0.00095:
		return "<0.001"
	case v < 0.0995:
		return strconv.FormatFloat(v, 'f', 3, 64)
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v < 1e6:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
