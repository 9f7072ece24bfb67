package scenario

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/trace"
	"github.com/flyball-go/flyball/scenarios"
)

// What a trace does not tell of tokens is the scenario's, whatever the shape of its distributions is: a lognormal one, a table, a mixture.
func TestTracedTokens(t *testing.T) {
	demand := &trace.Demand{Duration: time.Minute}
	for i := range 200 {
		demand.Rows = append(demand.Rows, trace.Row{At: time.Duration(i) * 100 * time.Millisecond})
	}
	demand.Rows[0].In, demand.Rows[0].Out, demand.Rows[0].Cached = 77, 7, 5
	for _, name := range []string{"anthropic-input", "chat-70b", "code-bursts"} {
		text, _ := scenarios.Read(name)
		s, err := Parse(name, text)
		if err != nil {
			t.Fatal(err)
		}
		qs := s.Traced("t", demand).World.Workload.Requests
		if q := qs[0]; q.Input != 77 || q.Output != 7 || q.Cached != 5 {
			t.Errorf("%s: of what the trace tells became %+v", name, q)
		}
		var in, out, cached float64
		for _, q := range qs[1:] {
			in, out, cached = in+float64(q.Input), out+float64(q.Output), cached+float64(q.Cached)
		}
		w := &s.World.Workload
		n := float64(len(qs) - 1)
		near := func(got, want float64) bool { return got > want/2 && got < 2*want }
		if !near(in/n, w.Input.Average()) || !near(out/n, w.Output.Average()) || cached < in*w.Cached-n || cached > in*w.Cached {
			t.Errorf("%s: requests have %.0f and %.0f tokens on average, the scenario's %.0f and %.0f; %.2f of them are cached, want %.2f",
				name, in/n, out/n, w.Input.Average(), w.Output.Average(), cached/in, w.Cached)
		}
	}
}
