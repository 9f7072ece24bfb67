package config

import (
	"slices"
	"strings"
	"testing"
)

// Whatever is tunable can be written to a file, from one end of its range to the other, and is read back.
func TestTunables(t *testing.T) {
	file, err := Parse("test", []byte("[guard.adaptive]\nbackoff = 0.7\n"))
	if err != nil {
		t.Fatal(err)
	}
	all := Tunables(file.Defaults)
	i := slices.IndexFunc(all, func(p Tunable) bool { return p.Key == "guard.adaptive.backoff" })
	if i < 0 || all[i].Current != 0.7 || all[i].Default == 0.7 {
		t.Fatalf("tunables %+v", all)
	}
	for _, p := range all {
		if !(p.Low <= p.Current && p.Current <= p.High) || p.Log && p.Low <= 0 {
			t.Errorf("%v is %v now", p, p.Current)
		}
		for _, v := range []float64{p.Low, p.High, p.Default} {
			name := strings.TrimPrefix(p.Key, "guard.adaptive.")
			file, err := Parse("test", []byte("[guard.adaptive]\n"+name+" = "+p.Format(v)+"\n"))
			if err != nil {
				t.Errorf("%v at %v: %v", p, v, err)
				continue
			}
			for _, q := range Tunables(file.Defaults) {
				if q.Key == p.Key && q.Current != v && v != 0 {
					t.Errorf("%s = %s is read as %v", p.Key, p.Format(v), q.Current)
				}
			}
		}
	}
}

// A factor that bounds nothing any more is not searched for: of 0 to 1000 nearly every point would be one. What somebody has written is in the range.
func TestTunableRange(t *testing.T) {
	for text, high := range map[string]float64{"": 10, "latency_factor = 2.0": 10, "latency_factor = 70.0": 70} {
		file, err := Parse("test", []byte("[guard.adaptive]\n"+text+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		all := Tunables(file.Defaults)
		i := slices.IndexFunc(all, func(p Tunable) bool { return p.Key == "guard.adaptive.latency_factor" })
		if i < 0 || all[i].Low != 0 || all[i].High != high {
			t.Errorf("%q: %v, want 0 to %v", text, all, high)
		}
	}
}
