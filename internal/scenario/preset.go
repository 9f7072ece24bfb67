package scenario

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/sim"
)

// preset is a workload that was fitted to public traces. Only fitted parameters are here, with their sources:
//
//   - chat and code: the Azure LLM inference traces of 2023 (Azure/AzurePublicDataset, CC-BY 4.0; Patel et al., Splitwise,
//     ISCA 2024), conversation and code. Arrivals are Poisson with a rate that jumps between two states, fitted to the counts
//     of each second: an index of dispersion of 1.2 / 3.3 / 10.7 / 16.8 at 1 / 10 / 60 / 300 s for chat (the trace has 1.4 / 3.9 / 16.4 / 62)
//     and 7.8 / 45 / 77 / 80 for code (13 / 72 / 167 / 152).
//   - agent-long: Mooncake's conversation trace (kvcache-ai/Mooncake, FAST'25, Apache-2.0).
//   - reasoning and tenants: ServeGen's DeepSeek-R1 and m-large populations (alibaba/ServeGen, NSDI'26, Apache-2.0).
//   - batch: a backlog with the lengths of code.
//
// Lengths are tables of quantiles, or a mixture of lognormals where that fits. Between the quantiles that were measured (50, 90 and 99 %) and
// at the ends a table follows the lognormal, or the mixture of two, that fits the whole trace.
type preset struct {
	kind          sim.Kind
	rate          float64
	cv            float64
	states        []sim.State
	input, output draw.Dist
	cached        float64
	tenants       []float64
}

// lognormal returns the lognormal with a mean and a deviation of the logarithm.
func lognormal(mu, sigma float64) draw.Dist {
	return draw.Dist{Shape: draw.Lognormal, Mean: math.Exp(mu + sigma*sigma/2), Sigma: sigma}
}

// mixed returns a mixture of two lognormals.
func mixed(w float64, a, b draw.Dist, most float64) draw.Dist {
	return draw.Dist{Shape: draw.Mixture, Parts: []draw.Part{{Weight: w, Dist: a}, {Weight: 1 - w, Dist: b}}, Min: 1, Max: most}
}

// table returns a distribution with quantiles: pairs of a share and a value.
func table(points ...float64) draw.Dist {
	d := draw.Dist{Shape: draw.Table, Min: 1}
	for i := 0; i+1 < len(points); i += 2 {
		d.Quantiles = append(d.Quantiles, draw.Quantile{P: points[i], Value: points[i+1]})
	}
	return d
}

var (
	azureCodeInput  = mixed(.305, lognormal(5.52, 1.31), lognormal(7.65, .72), 8000)
	azureCodeOutput = table(0, 1, .05, 4, .25, 8, .5, 13, .75, 27, .9, 55, .99, 251, 1, 1900)
)

var presets = map[string]preset{
	"chat": {
		kind: sim.Modulated, states: []sim.State{{Rate: 4.62, Mean: 122 * time.Second}, {Rate: 7.01, Mean: 76 * time.Second}},
		input:  table(0, 5, .05, 150, .25, 480, .5, 1020, .75, 1900, .9, 2734, .99, 4142, 1, 14000),
		output: table(0, 1, .05, 41, .25, 76, .5, 129, .7, 330, .75, 395, .9, 424, .99, 601, 1, 1000),
	},
	"code": {
		kind: sim.Modulated, states: []sim.State{{Rate: 9.88, Mean: 7600 * time.Millisecond}, {Rate: .01, Mean: 21800 * time.Millisecond}},
		input: azureCodeInput, output: azureCodeOutput,
	},
	"agent-long": {
		kind: sim.Poisson, rate: 3.4, cached: .366,
		input:  table(0, 50, .05, 870, .25, 2770, .5, 6909, .75, 14500, .9, 27367, .99, 85400, 1, 126000),
		output: table(0, 1, .05, 10, .25, 150, .5, 350, .75, 470, .9, 597, .99, 1119, 1, 2000),
	},
	"reasoning": {
		kind: sim.Renewal, rate: 16, cv: 1.02,
		input:  table(0, 3, .05, 9, .25, 57, .5, 180, .75, 900, .9, 3473, .99, 26836, 1, 60000),
		output: table(0, 10, .05, 180, .25, 530, .5, 1014, .75, 2450, .9, 5423, .99, 15063, 1, 32000),
	},
	"tenants": {
		kind: sim.Renewal, rate: 196, cv: 1.19,
		input:  table(0, 4, .05, 73, .25, 230, .5, 595, .75, 1330, .9, 2377, .99, 5623, 1, 20000),
		output: table(0, 1, .05, 2, .25, 17, .5, 61, .75, 200, .9, 470, .99, 917, 1, 4000),
		// The largest client has a third of the requests, the first tenth of the clients three quarters.
		tenants: []float64{33, 15, 9, 6, 4.5, 3.5, 2.8, 2.2, 1.8, 1.5, 1.3, 1.1, 1, .9, .8, .7, .65, .6, .55, .5},
	},
	"batch": {kind: sim.Backlog, input: azureCodeInput, output: azureCodeOutput},
}

// workload returns the workload of a preset; that of none is Poisson without a rate.
func (p preset) workload() sim.Workload {
	w := sim.Workload{Kind: p.kind, Rate: p.rate, States: p.states, Input: p.input, Output: p.output, Cached: p.cached}
	if p.cv > 0 {
		w.Gap = draw.Dist{Shape: draw.Gamma, Mean: 1, Sigma: p.cv}
	}
	for i, weight := range p.tenants {
		w.Tenants = append(w.Tenants, sim.Tenant{Name: "tenant-" + string(rune('a'+i)), Weight: weight})
	}
	return w
}
