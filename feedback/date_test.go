package feedback

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseHTTPDate(t *testing.T) {
	ref := instantOf(noon)
	want := time.Date(2026, 8, 20, 10, 0, 45, 0, time.UTC).Unix()
	for _, s := range []string{
		"Thu, 20 Aug 2026 10:00:45 GMT", "Thursday, 20-Aug-26 10:00:45 GMT", "Thu Aug 20 10:00:45 2026",
		"Mon, 20 Aug 2026 10:00:45 GMT", // the weekday is not checked
	} {
		if got, ok := parseHTTPDate(s, ref); !ok || got.sec != want {
			t.Errorf("parseHTTPDate(%q) = %v, %v, want %d", s, got, ok, want)
		}
	}
	if got, ok := parseHTTPDate("Sun Nov  6 08:49:37 1994", ref); !ok || got.sec != 784111777 {
		t.Errorf("parseHTTPDate of a day with a space = %v, %v", got, ok)
	}
	for _, s := range []string{
		"", "yesterday", "Thu, 20 Aug 2026 10:00:45", "Thu, 20 Aug 2026 10:00:45 UTC", "Thu, 20 Aug 2026 10:00:45 PST",
		"Thu, 20 Aug 2026 10:00:45 +0000", "Thu, 31 Feb 2026 10:00:45 GMT", "Thu, 00 Aug 2026 10:00:45 GMT",
		"Thu, 32 Aug 2026 10:00:45 GMT", "Thu, 20 Aug 2026 24:00:45 GMT", "Thu, 20 Aug 2026 10:60:45 GMT",
		"Thu, 20 Aug 2026 10:00:61 GMT", "Thu, 20 Foo 2026 10:00:45 GMT", "Xyz, 20 Aug 2026 10:00:45 GMT",
		"20 Aug 2026 10:00:45 GMT", "Thu, 29 Feb 2026 10:00:00 GMT", "Thu, 31 Apr 2026 10:00:00 GMT",
		"Thursday, 20-Aug-2026 10:00:45 GMT", "Thu, 20-Aug-26 10:00:45 GMT", "Thu Aug 20 10:00:45 2026 GMT",
		"Tue Feb 16 2021 09:02:42 GMT+0100 (Central European Standard Time)", "2026-08-20T10:00:45Z",
		"Thu, 2A Aug 2026 10:00:45 GMT", "Thu, 20 Aug -026 10:00:45 GMT", "Thu, 20 Aug 2026 1:00:45  GMT",
	} {
		if got, ok := parseHTTPDate(s, ref); ok {
			t.Errorf("parseHTTPDate(%q) = %v, want none", s, got)
		}
	}
	if _, ok := parseHTTPDate("Thu, 29 Feb 2024 10:00:00 GMT", ref); !ok {
		t.Error("29 February 2024 is a real date")
	}
	// RFC 9110, 5.6.7: a two-digit year more than 50 years ahead is in the past.
	for yy, year := range map[string]int{"00": 2000, "26": 2026, "76": 2076, "77": 1977, "99": 1999} {
		got, ok := parseHTTPDate("Sunday, 06-Nov-"+yy+" 08:49:37 GMT", ref)
		if y := time.Unix(got.sec, 0).UTC().Year(); !ok || y != year {
			t.Errorf("year %s = %d, %v, want %d", yy, y, ok, year)
		}
	}
}

func TestParseRFC3339(t *testing.T) {
	base := time.Date(2026, 8, 20, 10, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"2026-08-20T10:00:00Z": 0, "2026-08-20t10:00:00z": 0, "2026-08-20T18:00:20.500+08:00": 20500 * time.Millisecond,
		"2026-08-20T10:00:00.000000000001Z": 1, "2026-08-20T04:30:00-05:30": 0, "2026-08-20 10:00:05+00:00": 5 * time.Second,
		"2026-08-20T10:00:00.9999999999Z": time.Second, "2026-08-20T10:00:00-00:00": 0,
	} {
		got, ok := parseRFC3339(s)
		if d := time.Duration(got.sub(instantOf(base))); !ok || d != want {
			t.Errorf("parseRFC3339(%q) is %v after, %v, want %v", s, d, ok, want)
		}
	}
	for _, s := range []string{
		"", "2026-08-20", "2026-08-20T10:00:00", "2026-08-20 22:15:00", "2026-08-20T10:00Z", "2026-8-20T10:00:00Z", "2026-02-30T10:00:00Z",
		"2026-13-20T10:00:00Z", "2026-08-20T24:00:00Z", "2026-08-20T10:00:00+25:00", "2026-08-20T10:00:00+0000",
		"2026-08-20T10:00:00,5Z", "2026-08-20T10:00:00.Z", "2026-08-20T10:00:00Zx", "-026-08-20T10:00:00Z", "2026-08-20T10:00:00+08:60",
		"2026-08-20T10:00:60Z",
	} {
		if got, ok := parseRFC3339(s); ok {
			t.Errorf("parseRFC3339(%q) = %v, want none", s, got)
		}
	}
}

// TestDatesAgreeWithStandardLibrary writes instants in every form and reads them back.
func TestDatesAgreeWithStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sec := rapid.Int64Range(0, 3_000_000_000).Draw(t, "sec")
		at := time.Unix(sec, 0).UTC()
		for _, layout := range []string{http.TimeFormat, time.ANSIC} {
			if got, ok := parseHTTPDate(at.Format(layout), instantOf(noon)); !ok || got.sec != sec {
				t.Fatalf("parseHTTPDate(%q) = %v, %v, want %d", at.Format(layout), got, ok, sec)
			}
		}
		nsec := rapid.Int64Range(0, 999_999_999).Draw(t, "nsec")
		zone := time.FixedZone("", 60*rapid.IntRange(-23*60, 23*60).Draw(t, "zone"))
		s := time.Unix(sec, nsec).In(zone).Format(time.RFC3339Nano)
		if got, ok := parseRFC3339(s); !ok || got != (instant{sec, nsec}) {
			t.Fatalf("parseRFC3339(%q) = %v, %v, want %d.%d", s, got, ok, sec, nsec)
		}
	})
}

func FuzzDate(f *testing.F) {
	for _, s := range []string{
		"Thu, 20 Aug 2026 10:00:45 GMT", "Thursday, 20-Aug-26 10:00:45 GMT", "Thu Aug 20 10:00:45 2026",
		"2026-08-20T18:00:20.500+08:00", "2026-08-20 10:00:00Z", "Sun Nov  6 08:49:37 1994",
	} {
		f.Add(s, int64(1787220000))
	}
	f.Fuzz(func(t *testing.T, s string, now int64) {
		ref := instant{sec: now}
		for _, read := range []func() (instant, bool){
			func() (instant, bool) { return parseHTTPDate(s, ref) },
			func() (instant, bool) { return parseRFC3339(s) },
		} {
			at, ok := read()
			if !ok {
				continue
			}
			if at.nsec < 0 || at.nsec > 1e9 {
				t.Fatalf("%q has %d nanoseconds", s, at.nsec)
			}
			if y := time.Unix(at.sec, 0).UTC().Year(); y < -1 || y > 10000 {
				t.Fatalf("%q is in the year %d", s, y)
			}
			if at.sub(ref) != 0 && ref.sub(at) != 0 {
				t.Fatalf("%q is both before and after %d", s, now)
			}
		}
		// What this package reads, the standard library reads alike. It knows the two-digit
		// year by another rule.
		if at, ok := parseHTTPDate(s, instantOf(noon)); ok && !strings.Contains(s, "-") {
			if want, err := http.ParseTime(s); err != nil || want.Unix() != at.sec {
				t.Fatalf("parseHTTPDate(%q) = %d, http.ParseTime says %v, %v", s, at.sec, want, err)
			}
		}
	})
}
