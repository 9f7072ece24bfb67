package scenario

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/trace"
)

// A request of a trace without tokens, such as one that was refused, has the scenario's, however they are written.
func TestTracedTokens(t *testing.T) {
	for _, tokens := range []string{
		`{ mean = 100.0 }`, `{ dist = "lognormal", median = 100.0, sigma = 0.5 }`, `{ dist = "table", quantiles = [[0.0, 100.0], [1.0, 200.0]] }`,
	} {
		s, err := Parse("x.toml", []byte(`name = "x"
intent = "Tokens."
duration = "1m"
[workload]
kind = "poisson"
rate = 1.0
input = `+tokens+`
output = `+tokens+`
[upstream.server]
service = { mean = "1s" }
`))
		if err != nil {
			t.Fatal(err)
		}
		got := s.Traced("y", &trace.Demand{Rows: []trace.Row{{}, {In: 7, Out: 8}}, Duration: time.Minute}).World.Workload.Requests
		if got[0].Input < 10 || got[0].Output < 10 || got[1].Input != 7 || got[1].Output != 8 {
			t.Errorf("%s: %+v", tokens, got)
		}
	}
}
