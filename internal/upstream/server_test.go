package upstream

import (
	"math"
	"testing"
	"time"
)

// Far behind a knee a call takes longer than any number can say: for ever, and not into the past.
func TestStretch(t *testing.T) {
	const most = 1 << 60
	for _, test := range []struct {
		ns   int64
		by   float64
		want int64
	}{
		{0, math.Inf(1), 0},
		{0, math.MaxFloat64, 0},
		{1, math.Inf(1), most},
		{int64(time.Second), math.Inf(1), most},
		{int64(time.Second), 1e300, most},
		{int64(time.Second), 1.5, int64(1500 * time.Millisecond)},
	} {
		if got := stretch(test.ns, test.by); got != test.want {
			t.Errorf("%d ns, %g times: %d, want %d", test.ns, test.by, got, test.want)
		}
	}
}
