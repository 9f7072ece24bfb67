package report

import (
	"encoding/json"
	"io"
	"math"
	"time"

	"github.com/flyball-go/flyball/internal/stats"
)

// schema is the version of the form that WriteJSON writes.
const schema = 2

// WriteJSON writes the whole report as one JSON object and a newline. Keys, in
// this order; durations are seconds, a value that is not defined is null:
//
//	schema        2; goes up when a key changes its meaning or disappears
//	title, version, command, config (a hash of the guard's settings)
//	seed, seeds   the first seed as a string (it may not fit a double), how many
//	interrupted   true if the command was stopped early
//	verdict       for readers; ReadJSON makes it anew
//	  ours        the controller that the verdict is about
//	  rules       how it is decided, in words
//	  scenarios[] scenario, outcome (won, drew, lost, open, unranked), rival, text,
//	              ranked[] (best score first)
//	    pairs[]   rival, verdict of ours (better, worse, equivalent, inconclusive)
//	      figures[] name, verdict, pairs (seeds compared), undefined (seeds left
//	              out), rival_mean, ours_mean, effect, low, high (95 % interval),
//	              relative (effect is a share of rival_mean), min_effect, p,
//	              p_holm
//	  closing     one sentence
//	scenarios[]
//	  name, intent, duration_s, interrupted
//	  alpha       the level of the verdicts, null for 0.05
//	  oracle      note, goodput_rps, step_s, limit[], rate_rps[]
//	  runs[]
//	    controller, ours, reference
//	    summary   seeds; totals over the seeds: offered, ok, failed, refused,
//	              unfinished, sent, rejected_429; means over the seeds:
//	              efficiency (goodput as a share of the oracle's, 0 to 1),
//	              efficiency_low, efficiency_high (a seed's), goodput_rps,
//	              rejected_429_per_ok, latency_mean_s, latency_p50_s,
//	              latency_p90_s, latency_p99_s (successes, from intended
//	              arrival), settle_s (null if it did not settle), settled,
//	              has_level (false if there is nothing to settle at),
//	              settle_allowed_s (null where it is not known), and of the seeds
//	              settled_in_time (how many were within that), changes (of the
//	              world, over all of them), recovered_in_time (how many of these
//	              were over within 10 s), changes_by, recovered_by (the same where
//	              there was less, more, or something again to be had),
//	              limit_mean, in_flight_mean (requests), limit_swing (ratio),
//	              rejected_429_steady, rejected_429_transient (shares of the
//	              attempts), recover_s, unrecovered (it never came back),
//	              limit_overshoot, herd, tokens_wasted (ratios), ttft_p50_s,
//	              ttft_p99_s, tpot_p50_s, tpot_p99_s (where answers stream),
//	              regret, regret_static, regret_piecewise (ratios),
//	              sent_inside_pause (total), fairness_jain
//	    per_seed[] seed (a string) and summary, as above
//	    series    of the first seed: step_s, limit[], pace_rps[], in_flight[],
//	              waiting[] (requests), goodput_rps[], rejected_429_rps[]
//	    low, high the 10th and 90th percentile over the seeds, like series
//	    decisions[] of the first seed: at_s, limit (null: unlimited), pace_rps
//	              (null: none), cause, binding
//
// The same report gives the same bytes. It returns the first error of w.
func WriteJSON(w io.Writer, r *Report) error {
	e := json.NewEncoder(w)
	return e.Encode(jsonReportOf(r))
}

// number is a float64 that JSON can hold: null if it is not finite.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	if v := float64(n); finite(v) {
		return json.Marshal(v)
	}
	return []byte("null"), nil
}

func seconds(d time.Duration) number { return number(d.Seconds()) }

// knownSeconds is null for a negative, unknown duration.
func knownSeconds(d time.Duration) number {
	if d < 0 {
		return number(math.NaN())
	}
	return seconds(d)
}

// positiveSeconds is null for a duration that is not known, or zero.
func positiveSeconds(d time.Duration) *number {
	if d <= 0 {
		d = -1
	}
	return new(knownSeconds(d))
}

// positive is null for zero, which a Decision has where nothing is limited.
func positive(v float64) number {
	if v == 0 {
		return number(math.NaN())
	}
	return number(v)
}

func numbers(vs []float64) []number {
	out := make([]number, len(vs)) // an empty list, never null
	for i, v := range vs {
		out[i] = number(v)
	}
	return out
}

type jsonReport struct {
	Schema      int            `json:"schema"`
	Title       string         `json:"title"`
	Version     string         `json:"version"`
	Command     string         `json:"command"`
	Config      string         `json:"config"`
	Seed        uint64         `json:"seed,string"`
	Seeds       int            `json:"seeds"`
	Interrupted bool           `json:"interrupted"`
	Verdict     jsonVerdict    `json:"verdict"`
	Scenarios   []jsonScenario `json:"scenarios"`
}

type jsonVerdict struct {
	Ours      string                `json:"ours"`
	Rules     string                `json:"rules"`
	Scenarios []jsonScenarioVerdict `json:"scenarios"`
	Closing   string                `json:"closing"`
}

type jsonScenarioVerdict struct {
	Scenario string   `json:"scenario"`
	Outcome  Outcome  `json:"outcome"`
	Rival    string   `json:"rival"`
	Text     string   `json:"text"`
	Ranked   []string `json:"ranked"`

	Pairs []jsonPair `json:"pairs"`
}

type jsonPair struct {
	Rival   string        `json:"rival"`
	Verdict stats.Verdict `json:"verdict"`
	Figures []jsonFigure  `json:"figures"`
}

type jsonFigure struct {
	Name      string        `json:"name"`
	Verdict   stats.Verdict `json:"verdict"`
	Pairs     int           `json:"pairs"`
	Undefined int           `json:"undefined"`
	Rival     number        `json:"rival_mean"`
	Ours      number        `json:"ours_mean"`
	Effect    number        `json:"effect"`
	Low       number        `json:"low"`
	High      number        `json:"high"`
	Relative  bool          `json:"relative"`
	MinEffect number        `json:"min_effect"`
	P         number        `json:"p"`
	Adjusted  number        `json:"p_holm"`
}

type jsonScenario struct {
	Name        string     `json:"name"`
	Intent      string     `json:"intent"`
	Duration    number     `json:"duration_s"`
	Interrupted bool       `json:"interrupted"`
	Oracle      jsonOracle `json:"oracle"`
	Alpha       number     `json:"alpha"`
	Runs        []jsonRun  `json:"runs"`
}

type jsonOracle struct {
	Note    string   `json:"note"`
	Goodput number   `json:"goodput_rps"`
	Step    number   `json:"step_s"`
	Limit   []number `json:"limit"`
	Rate    []number `json:"rate_rps"`
}

type jsonRun struct {
	Controller string         `json:"controller"`
	Ours       bool           `json:"ours"`
	Reference  bool           `json:"reference"`
	Summary    jsonSummary    `json:"summary"`
	PerSeed    []jsonSeed     `json:"per_seed"`
	Series     jsonSeries     `json:"series"`
	Low        jsonSeries     `json:"low"`
	High       jsonSeries     `json:"high"`
	Decisions  []jsonDecision `json:"decisions"`
}

type jsonSeed struct {
	Seed    uint64      `json:"seed,string"`
	Summary jsonSummary `json:"summary"`
}

type jsonSummary struct {
	Seeds          int    `json:"seeds"`
	Offered        int64  `json:"offered"`
	OK             int64  `json:"ok"`
	Failed         int64  `json:"failed"`
	Refused        int64  `json:"refused"`
	Unfinished     int64  `json:"unfinished"`
	Sent           int64  `json:"sent"`
	Rejected429    int64  `json:"rejected_429"`
	Efficiency     number `json:"efficiency"`
	EfficiencyLow  number `json:"efficiency_low"`
	EfficiencyHigh number `json:"efficiency_high"`
	GoodputRate    number `json:"goodput_rps"`
	RejectedPerOK  number `json:"rejected_429_per_ok"`
	Mean           number `json:"latency_mean_s"`
	P50            number `json:"latency_p50_s"`
	P90            number `json:"latency_p90_s"`
	P99            number `json:"latency_p99_s"`
	Settle         number `json:"settle_s"`
	Settled        bool   `json:"settled"`
	HasLevel       bool   `json:"has_level"`
	MeanLimit      number `json:"limit_mean"`
	MeanInFlight   number `json:"in_flight_mean"`
	Swing          number `json:"limit_swing"`
	RejectedSteady number `json:"rejected_429_steady"`
	Transient      number `json:"rejected_429_transient"`
	Recover        number `json:"recover_s"`
	Unrecovered    bool   `json:"unrecovered"`
	Overshoot      number `json:"limit_overshoot"`
	Herd           number `json:"herd"`
	Wasted         number `json:"tokens_wasted"`
	Inside         int64  `json:"sent_inside_pause"`

	// Older reports have none of these.
	FirstByte50     *number `json:"ttft_p50_s"`
	FirstByte99     *number `json:"ttft_p99_s"`
	PerToken50      *number `json:"tpot_p50_s"`
	PerToken99      *number `json:"tpot_p99_s"`
	SettleAllowed   *number `json:"settle_allowed_s"`
	SettledInTime   int     `json:"settled_in_time"`
	Changes         int     `json:"changes"`
	RecoveredInTime int     `json:"recovered_in_time"`
	// By what happened: it became less, more, or was nothing before.
	ChangesBy       [NumChanges]int `json:"changes_by"`
	RecoveredBy     [NumChanges]int `json:"recovered_by"`
	Regret          *number         `json:"regret"`
	RegretStatic    *number         `json:"regret_static"`
	RegretPiecewise *number         `json:"regret_piecewise"`

	Fairness number `json:"fairness_jain"`
}

type jsonSeries struct {
	Step     number   `json:"step_s"`
	Limit    []number `json:"limit"`
	Pace     []number `json:"pace_rps"`
	InFlight []number `json:"in_flight"`
	Waiting  []number `json:"waiting"`
	Goodput  []number `json:"goodput_rps"`
	Rejected []number `json:"rejected_429_rps"`
}

type jsonDecision struct {
	At      number `json:"at_s"`
	Limit   number `json:"limit"`
	Pace    number `json:"pace_rps"`
	Cause   string `json:"cause"`
	Binding string `json:"binding"`
}

func jsonReportOf(r *Report) jsonReport {
	v := Judge(r)
	out := jsonReport{
		Schema: schema, Title: title(r), Version: r.Version, Command: r.Command, Config: r.Config, Seed: r.Seed, Seeds: max(1, r.Seeds),
		Interrupted: r.Interrupted, Verdict: jsonVerdict{Ours: v.Ours, Rules: Rules, Scenarios: []jsonScenarioVerdict{}, Closing: v.Closing},
		Scenarios: []jsonScenario{},
	}
	for _, s := range v.Scenarios {
		out.Verdict.Scenarios = append(out.Verdict.Scenarios, jsonScenarioVerdict{
			Scenario: s.Scenario, Outcome: s.Outcome, Rival: s.Rival, Text: s.Text, Ranked: append([]string{}, s.Ranked...),
			Pairs: jsonPairsOf(s.Pairs),
		})
	}
	for i := range r.Scenarios {
		out.Scenarios = append(out.Scenarios, jsonScenarioOf(&r.Scenarios[i]))
	}
	return out
}

func jsonScenarioOf(s *Scenario) jsonScenario {
	out := jsonScenario{
		Name: s.Name, Intent: s.Intent, Duration: seconds(s.Duration), Interrupted: s.Interrupted,
		Oracle: jsonOracle{
			Note: s.Oracle.Note, Goodput: number(s.Oracle.Goodput), Step: seconds(oracleStep(s)),
			Limit: numbers(s.Oracle.Limit), Rate: numbers(s.Oracle.Rate),
		},
		Alpha: positive(s.Alpha), Runs: []jsonRun{},
	}
	for i := range s.Runs {
		out.Runs = append(out.Runs, jsonRunOf(&s.Runs[i]))
	}
	return out
}

func jsonPairsOf(pairs []PairVerdict) []jsonPair {
	out := []jsonPair{}
	for _, p := range pairs {
		j := jsonPair{Rival: p.Rival, Verdict: p.Verdict, Figures: []jsonFigure{}}
		for _, c := range p.Figures {
			j.Figures = append(j.Figures, jsonFigure{
				Name: c.Name, Verdict: c.Verdict, Pairs: c.Seeds, Undefined: c.Undefined, Rival: number(c.Baseline), Ours: number(c.Candidate),
				Effect: number(c.Effect), Low: number(c.Interval.Low), High: number(c.Interval.High), Relative: c.Relative,
				MinEffect: number(c.MinEffect), P: number(c.P), Adjusted: number(c.Adjusted),
			})
		}
		out = append(out, j)
	}
	return out
}

func jsonRunOf(r *Run) jsonRun {
	out := jsonRun{
		Controller: r.Controller, Ours: r.Ours, Reference: r.Reference, Summary: jsonSummaryOf(r.Summary), PerSeed: []jsonSeed{},
		Series: jsonSeriesOf(r.Series), Low: jsonSeriesOf(r.Low), High: jsonSeriesOf(r.High), Decisions: []jsonDecision{},
	}
	for _, s := range r.PerSeed {
		out.PerSeed = append(out.PerSeed, jsonSeed{s.Seed, jsonSummaryOf(s.Summary)})
	}
	for _, d := range r.Decisions {
		out.Decisions = append(out.Decisions, jsonDecision{
			At: seconds(d.At), Limit: positive(float64(d.Limit)), Pace: positive(d.Pace), Cause: d.Cause, Binding: d.Binding,
		})
	}
	return out
}

func jsonSeriesOf(s Series) jsonSeries {
	return jsonSeries{
		Step: seconds(s.Step), Limit: numbers(s.Limit), Pace: numbers(s.Pace),
		InFlight: numbers(s.InFlight), Waiting: numbers(s.Waiting),
		Goodput: numbers(s.Goodput), Rejected: numbers(s.Rejected),
	}
}

func jsonSummaryOf(s Summary) jsonSummary {
	settle := number(math.NaN())
	if s.Settled && !s.NoLevel {
		settle = seconds(s.Settle)
	}
	return jsonSummary{
		Seeds: max(1, s.Seeds), Offered: s.Offered, OK: s.OK, Failed: s.Failed, Refused: s.Refused, Unfinished: s.Unfinished,
		Sent: s.Sent, Rejected429: s.Rejected429,
		Efficiency: number(s.Goodput), EfficiencyLow: number(s.GoodputLow), EfficiencyHigh: number(s.GoodputHigh),
		GoodputRate: number(s.GoodputRate), RejectedPerOK: number(s.RejectedPerOK),
		Mean: knownSeconds(s.Mean), P50: knownSeconds(s.P50), P90: knownSeconds(s.P90), P99: knownSeconds(s.P99),
		Settle: settle, Settled: s.Settled && !s.NoLevel, HasLevel: !s.NoLevel,
		MeanLimit: number(s.MeanLimit), MeanInFlight: number(s.MeanInFlight), Swing: number(s.Swing), Fairness: positive(s.Fairness),
		RejectedSteady: number(s.RejectedSteady), Transient: number(s.RejectedTransient), Recover: number(s.Recover), Unrecovered: math.IsInf(s.Recover, 1),
		Overshoot: number(s.Overshoot), Herd: number(s.Herd), Wasted: number(s.Wasted), Inside: s.Inside,
		FirstByte50: positiveSeconds(s.FirstByte50), FirstByte99: positiveSeconds(s.FirstByte99),
		PerToken50: positiveSeconds(s.PerToken50), PerToken99: positiveSeconds(s.PerToken99),
		SettleAllowed: positiveSeconds(s.SettleAllowed), SettledInTime: s.SettledInTime, Changes: s.Changes, RecoveredInTime: s.RecoveredInTime,
		ChangesBy: s.ChangesBy, RecoveredBy: s.RecoveredBy,
		Regret: new(number(s.Regret)), RegretStatic: new(number(s.RegretStatic)), RegretPiecewise: new(number(s.RegretPiecewise)),
	}
}

// title is the heading of the report.
func title(r *Report) string {
	if r.Title == "" {
		return "flyball simulation"
	}
	return r.Title
}

// oracleStep is the step of the oracle's series.
func oracleStep(s *Scenario) time.Duration {
	if s.Oracle.Step <= 0 && len(s.Runs) > 0 {
		return s.Runs[0].Series.Step
	}
	return s.Oracle.Step
}
