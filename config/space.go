package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/flyball-go/flyball/adaptive"
)

// A Tunable is a number of [guard.adaptive] that a program may search for.
type Tunable struct {
	// Key is its full key, guard.adaptive.backoff.
	Key string
	// Low and High are the ends of its range, both allowed; of a duration, in seconds.
	Low, High float64
	// Integer and Duration say what kind of number it is.
	Integer, Duration bool
	// Log says that a factor counts the same everywhere in its range.
	Log bool
	// Current is its value in the settings, Default that of an empty file.
	Current, Default float64
}

// Tunables returns the numbers of [guard.adaptive] in the order of the file, with their values in s. Their ranges are those that the file allows, or
// narrower ones where a tag `tune:"lo..hi"` says that the rest makes no sense to try.
func Tunables(s Settings) []Tunable {
	var out []Tunable
	now, otherwise := reflect.ValueOf(s.Adaptive.Defaults()), reflect.ValueOf(adaptive.Config{}.Defaults())
	table := reflect.TypeFor[adaptiveTable]()
	for i := range table.NumField() {
		f := table.Field(i)
		name := f.Tag.Get("toml")
		field, known := now.Type().FieldByName(f.Name)
		if name == "" || !known {
			continue
		}
		typ := f.Type
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		t := Tunable{Key: "guard.adaptive." + name, Duration: typ == reflect.TypeFor[time.Duration]()}
		value := func(v reflect.Value) float64 {
			switch v := v.FieldByIndex(field.Index); {
			case v.CanInt():
				if t.Duration {
					return time.Duration(v.Int()).Seconds()
				}
				return float64(v.Int())
			case v.CanUint():
				return float64(v.Uint())
			case v.CanFloat():
				return v.Float()
			}
			return 0
		}
		switch {
		case t.Duration, typ.Kind() == reflect.Float64, typ.Kind() == reflect.Float32:
		case typ.Kind() >= reflect.Int && typ.Kind() <= reflect.Uint64:
			t.Integer = true
		default:
			continue // a word or a switch is no dimension
		}
		text := f.Tag.Get("tune")
		if text == "" {
			text = f.Tag.Get("range")
		}
		if text == "-" {
			continue
		}
		var ok bool
		if t.Low, t.High, ok = span(text, t.Duration); !ok {
			continue // a range without ends cannot be searched
		}
		t.Current, t.Default = value(now), value(otherwise)
		t.Low, t.High = min(t.Low, t.Current), max(t.High, t.Current) // of a narrower range, too
		t.Log = t.Low > 0 && t.High/t.Low >= 100
		out = append(out, t)
	}
	return out
}

// span reads the tag "lo..hi".
func span(tag string, duration bool) (low, high float64, ok bool) {
	lo, hi, found := strings.Cut(tag, "..")
	if !found {
		return 0, 0, false
	}
	number := func(s string) (float64, bool) {
		s = strings.TrimLeft(s, "<>")
		if duration {
			d, err := time.ParseDuration(s)
			return d.Seconds(), err == nil
		}
		v, err := strconv.ParseFloat(s, 64)
		return v, err == nil
	}
	low, okLow := number(lo)
	high, okHigh := number(hi)
	return low, high, okLow && okHigh && low < high
}

// Format writes a value of the number as limits.toml has it.
func (t Tunable) Format(v float64) string {
	switch {
	case t.Duration:
		return strconv.Quote(time.Duration(v * float64(time.Second)).Round(time.Microsecond).String())
	case t.Integer:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	s := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

// String names the number with its range.
func (t Tunable) String() string {
	return fmt.Sprintf("%s (%s to %s)", t.Key, t.Format(t.Low), t.Format(t.High))
}
