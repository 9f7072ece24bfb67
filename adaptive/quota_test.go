package adaptive

import "testing"

func TestQuotaString(t *testing.T) {
	for _, c := range []struct {
		q    Quota
		want string
	}{
		{Quota{}, ""},
		{Quota{Allows: 300, Seconds: 60, Slides: true}, "300 in any 60 s"},
		{Quota{Allows: 400000, Seconds: 60, Tokens: true, Slides: true}, "400000 tokens in any 60 s"},
		{Quota{Allows: 1, Seconds: 10}, "1 in each 10 s"},
	} {
		if got := c.q.String(); got != c.want {
			t.Errorf("%#v.String() = %q, want %q", c.q, got, c.want)
		}
	}
}
