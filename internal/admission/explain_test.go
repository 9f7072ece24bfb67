package admission

import (
	"testing"
	"time"
)

// What is known of several keys is no more than what is known of each.
func TestProspectsJoin(t *testing.T) {
	fast := Prospects{Quickest: time.Second, Latency: 3 * time.Second, Highest: 4}
	slow := Prospects{Quickest: 2 * time.Second, Latency: 5 * time.Second, Highest: 10}
	unknown := Prospects{Highest: 1}
	for _, c := range []struct {
		of   []Prospects
		want Prospects
	}{
		{nil, Prospects{}},
		{[]Prospects{slow}, slow},
		{[]Prospects{slow, fast}, Prospects{Quickest: time.Second, Latency: 5 * time.Second, Highest: 14}},
		{[]Prospects{unknown, fast}, Prospects{Latency: 3 * time.Second, Highest: 5}},
		{[]Prospects{fast, unknown, slow}, Prospects{Latency: 5 * time.Second, Highest: 15}},
		{[]Prospects{{}, fast}, Prospects{Latency: 3 * time.Second, Highest: 4}},
	} {
		var got Prospects
		for _, p := range c.of {
			got = got.Join(p)
		}
		if got.joined = false; got != c.want {
			t.Errorf("%+v together: %+v, want %+v", c.of, got, c.want)
		}
	}
}
