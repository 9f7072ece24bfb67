package feedback

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseDecimal(t *testing.T) {
	// "A number is digits with an optional fraction: 12, 0.5. A sign, an exponent, hex,
	// underscores, NaN, Infinity and words are not numbers."
	for _, s := range []string{"0", "12", "0.5", "007", "1.2345", "99999999999999999999999999", "0.0000000000000000000000001"} {
		if _, ok := parseDecimal(s); !ok {
			t.Errorf("parseDecimal(%q) is not a number, want one", s)
		}
	}
	for _, s := range []string{
		"", " ", "-5", "+5", "1e9", "1E3", "0x10", "1_000", "NaN", "nan", "Inf", "Infinity", "inf", ".5", "5.", "1.2.3",
		"1,5", "soon", "5 ", " 5", "5s", "١٢", "½", "1.-5", "0x", "--1", "1.e5", "１",
	} {
		if d, ok := parseDecimal(s); ok {
			t.Errorf("parseDecimal(%q) = %+v, want no number", s, d)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for _, c := range []struct {
		in   string
		want time.Duration
	}{
		{"6m0s", 6 * time.Minute}, {"20ms", 20 * time.Millisecond}, {"1h30m0.5s", 90*time.Minute + 500*time.Millisecond},
		{"8.64s", 8640 * time.Millisecond}, {"0s", 0}, {"1d", 24 * time.Hour}, {"2d3h", 51 * time.Hour},
		{"5us", 5 * time.Microsecond}, {"5µs", 5 * time.Microsecond}, {"5μs", 5 * time.Microsecond}, {"7ns", 7},
		{"0.1ns", 1}, {"1.0000000001s", time.Second + 1}, {"539.477544ms", 539477544}, {"5s5s", 10 * time.Second},
		{"0.0000000000000000000000001s", 1},
	} {
		got, ok := parseDuration(c.in)
		if !ok || time.Duration(got) != c.want {
			t.Errorf("parseDuration(%q) = %v, %v, want %v", c.in, time.Duration(got), ok, c.want)
		}
	}
	for _, s := range []string{"", "s", "5", "5x", "-5s", "+5s", "1e3s", "5 s", "5s ", "1h30", "5S", "5sec", "5M", "1..5s", "NaNs", "5s_", "µs"} {
		if got, ok := parseDuration(s); ok {
			t.Errorf("parseDuration(%q) = %v, want none", s, time.Duration(got))
		}
	}
}

func TestDelaysSaturate(t *testing.T) {
	for _, s := range []string{
		"99999999999999999999999999", "9223372036.9", "10000000000", "106752d", "99999999999999999999h",
		strings.Repeat("9", 400), "9223372036854s999999999999999ms", strings.Repeat("1000000000d", 50),
	} {
		got, ok := retryAfter([]string{s}, &clock{})
		if !ok || got != 9223372036854*time.Millisecond {
			t.Errorf("retryAfter(%.40q) = %d ms, %v, want 9223372036854", s, got.Milliseconds(), ok)
		}
	}
	if got := ceilMilli(uint64(maxDelay)); got != maxDelay {
		t.Errorf("ceilMilli(maxDelay) = %d, want %d", got, maxDelay)
	}
	if got := ceilMilli(uint64(maxDelay) - 1); got != maxDelay {
		t.Errorf("ceilMilli(maxDelay-1) = %d, want %d", got, maxDelay)
	}
}

// TestDecimalIsExact compares with exact arithmetic.
func TestDecimalIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[0-9]{1,25}(\.[0-9]{1,25})?`).Draw(t, "s")
		unit := rapid.SampledFrom([]uint64{1, 1e3, 1e6, 1e9, 60e9, 3600e9, 86400e9, 7 * 86400e9}).Draw(t, "unit")
		d, ok := parseDecimal(s)
		if !ok {
			t.Fatalf("parseDecimal(%q) failed", s)
		}
		exact, _ := new(big.Rat).SetString(s)
		exact.Mul(exact, new(big.Rat).SetInt(new(big.Int).SetUint64(unit)))
		want := new(big.Int).Div(new(big.Int).Add(exact.Num(), new(big.Int).Sub(exact.Denom(), big.NewInt(1))), exact.Denom())
		if limit := new(big.Int).SetUint64(^uint64(0)); want.Cmp(limit) > 0 {
			want = limit
		}
		if got := d.times(unit); new(big.Int).SetUint64(got).Cmp(want) != 0 {
			t.Fatalf("%q times %d = %d, want %d", s, unit, got, want)
		}
	})
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"12", "0.5", "-1", "1e9", "NaN", "0x10", "99999999999999999999", "1.", ".1", "1_0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := parseDecimal(s)
		plain := s != "" && strings.Trim(s, "0123456789.") == "" && strings.Count(s, ".") <= 1 && s[0] != '.' && s[len(s)-1] != '.'
		if ok != plain {
			t.Fatalf("parseDecimal(%q) ok = %v, want %v", s, ok, plain)
		}
		if n, fits := d.int(); fits && n < 0 {
			t.Fatalf("parseDecimal(%q).int() = %d", s, n)
		}
		if got := ceilMilli(d.times(1e9)); got < 0 || got > maxDelay || got%time.Millisecond != 0 {
			t.Fatalf("ceilMilli of %q = %d", s, got)
		}
	})
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"6m0s", "20ms", "1h30m0.5s", "5µs", "5μs", "1d", "-1s", "1.5", "5sx"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ns, ok := parseDuration(s)
		if !ok {
			return
		}
		if d := ceilMilli(ns); d < 0 || d > maxDelay {
			t.Fatalf("parseDuration(%q) = %d", s, ns)
		}
		// What Go reads as well, it reads the same, but for rounding up.
		if !strings.ContainsRune(s, 'd') {
			if want, err := time.ParseDuration(s); err != nil && ns < 1<<62 {
				t.Fatalf("parseDuration(%q) = %d, time.ParseDuration says %v", s, ns, err)
			} else if err == nil && (int64(ns) < int64(want) || int64(ns)-int64(want) > int64(len(s))) {
				t.Fatalf("parseDuration(%q) = %d, want %d", s, ns, want)
			}
		}
		if more, ok := parseDuration(s + "1s"); !ok || more < ns {
			t.Fatalf("parseDuration(%q+1s) = %d, %v", s, more, ok)
		}
	})
}
