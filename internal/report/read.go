package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxJSON is the largest report that ReadJSON reads, in bytes (256 MiB).
const MaxJSON = 256 << 20

// Bounds of what a report may have, far above what any run makes, so that a foreign file cannot ask for absurd work.
const (
	maxNames  = 10_000
	maxLength = 1_000_000
)

// ReadJSON reads what [WriteJSON] wrote. It is strict: an unknown key, another schema, series of unequal lengths and numbers that
// cannot be are errors that say where. The verdict is not read: it follows from the rest.
func ReadJSON(r io.Reader) (*Report, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxJSON+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxJSON {
		return nil, fmt.Errorf("the report has more than %d bytes", MaxJSON)
	}
	var head struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, place(data, err)
	}
	switch {
	case head.Schema == nil:
		return nil, errors.New(`the file is JSON, but no report: it has no "schema"; make one with simulate run --json`)
	case *head.Schema != schema:
		return nil, fmt.Errorf("the report has schema %d, must be %d: make it anew with simulate run --json; the command that made it is in it", *head.Schema, schema)
	}
	var j jsonReport
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return nil, place(data, err)
	}
	if d.More() {
		return nil, fmt.Errorf("after the report, at byte %d, comes more: one file holds one report", d.InputOffset())
	}
	return j.report()
}

// place adds to an error of package json where it is.
func place(data []byte, err error) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	at := int64(-1)
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &typ):
		at = typ.Offset
	}
	text := strings.TrimPrefix(err.Error(), "json: ")
	if at < 0 || at > int64(len(data)) {
		return errors.New(text)
	}
	line := 1 + bytes.Count(data[:at], []byte("\n"))
	return fmt.Errorf("line %d, byte %d: %s", line, at, text)
}

// UnmarshalJSON reads null as not a number.
func (n *number) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*n = number(math.NaN())
		return nil
	}
	var v float64
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	*n = number(v)
	return nil
}

// or is not a number where a key is missing.
func (n *number) or() number {
	if n == nil {
		return number(math.NaN())
	}
	return *n
}

// span returns a duration that was written in seconds, or otherwise where it was null.
func (n number) span(otherwise time.Duration) time.Duration {
	v := float64(n) * 1e9
	switch {
	case math.IsNaN(v):
		return otherwise
	case v >= math.MaxInt64:
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	}
	return time.Duration(math.Round(v))
}

func floats(ns []number) []float64 {
	if len(ns) == 0 {
		return nil
	}
	out := make([]float64, len(ns))
	for i, n := range ns {
		out[i] = float64(n)
	}
	return out
}

func (j *jsonReport) report() (*Report, error) {
	r := &Report{Title: j.Title, Version: j.Version, Command: j.Command, Config: j.Config, Seed: j.Seed, Seeds: j.Seeds, Interrupted: j.Interrupted}
	if r.Seeds < 1 || r.Seeds > maxNames {
		return nil, fmt.Errorf("seeds is %d, must be 1 to %d", r.Seeds, maxNames)
	}
	if len(j.Scenarios) > maxNames {
		return nil, fmt.Errorf("there are %d scenarios, must be at most %d", len(j.Scenarios), maxNames)
	}
	for i := range j.Scenarios {
		s, err := j.Scenarios[i].scenario()
		if err != nil {
			return nil, fmt.Errorf("scenarios[%d] (%q): %w", i, j.Scenarios[i].Name, err)
		}
		if slices.ContainsFunc(r.Scenarios, func(o Scenario) bool { return o.Name == s.Name }) {
			return nil, fmt.Errorf("scenarios[%d]: %q is there twice", i, s.Name)
		}
		r.Scenarios = append(r.Scenarios, *s)
	}
	return r, nil
}

func (j *jsonScenario) scenario() (*Scenario, error) {
	s := &Scenario{
		Name: j.Name, Intent: j.Intent, Duration: j.Duration.span(0), Interrupted: j.Interrupted,
		Oracle: Oracle{Note: j.Oracle.Note, Goodput: float64(j.Oracle.Goodput), Step: j.Oracle.Step.span(0), Limit: floats(j.Oracle.Limit), Rate: floats(j.Oracle.Rate)},
	}
	if !math.IsNaN(float64(j.Alpha)) {
		s.Alpha = float64(j.Alpha)
	}
	switch {
	case s.Name == "":
		return nil, errors.New("has no name")
	case s.Alpha < 0 || s.Alpha >= 1:
		return nil, fmt.Errorf("alpha is %v, must be between 0 and 1", s.Alpha)
	case s.Duration < 0 || s.Oracle.Step < 0:
		return nil, errors.New("duration_s and oracle.step_s must not be negative")
	case len(s.Oracle.Limit) > maxLength || len(s.Oracle.Rate) > maxLength:
		return nil, fmt.Errorf("the oracle has more than %d steps", maxLength)
	case len(j.Runs) > maxNames:
		return nil, fmt.Errorf("has %d runs, must be at most %d", len(j.Runs), maxNames)
	}
	for i := range j.Runs {
		run, err := j.Runs[i].run()
		if err != nil {
			return nil, fmt.Errorf("runs[%d] (%q): %w", i, j.Runs[i].Controller, err)
		}
		if slices.ContainsFunc(s.Runs, func(o Run) bool { return o.Controller == run.Controller }) {
			return nil, fmt.Errorf("runs[%d]: %q is there twice", i, run.Controller)
		}
		s.Runs = append(s.Runs, *run)
	}
	return s, nil
}

func (j *jsonRun) run() (*Run, error) {
	r := &Run{Controller: j.Controller, Ours: j.Ours, Reference: j.Reference}
	if r.Controller == "" {
		return nil, errors.New("has no controller")
	}
	var err error
	if r.Summary, err = j.Summary.summary(); err != nil {
		return nil, fmt.Errorf("summary: %w", err)
	}
	for i, p := range j.PerSeed {
		s := SeedSummary{Seed: p.Seed}
		if s.Summary, err = p.Summary.summary(); err != nil {
			return nil, fmt.Errorf("per_seed[%d]: %w", i, err)
		}
		if i > 0 && s.Seed <= r.PerSeed[i-1].Seed {
			return nil, fmt.Errorf("per_seed[%d]: seed %d does not come after %d", i, s.Seed, r.PerSeed[i-1].Seed)
		}
		r.PerSeed = append(r.PerSeed, s)
	}
	for _, part := range []struct {
		name string
		from *jsonSeries
		to   *Series
	}{{"series", &j.Series, &r.Series}, {"low", &j.Low, &r.Low}, {"high", &j.High, &r.High}} {
		if *part.to, err = part.from.series(); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if len(j.Decisions) > maxLength {
		return nil, fmt.Errorf("has %d decisions, must be at most %d", len(j.Decisions), maxLength)
	}
	for i, d := range j.Decisions {
		limit := float64(d.Limit)
		if math.IsNaN(limit) {
			limit = 0
		}
		if limit < 0 || limit > 1e9 || limit != math.Trunc(limit) {
			return nil, fmt.Errorf("decisions[%d]: limit is %v, must be a whole number of at most 1e9", i, limit)
		}
		pace := float64(d.Pace)
		if math.IsNaN(pace) {
			pace = 0
		}
		r.Decisions = append(r.Decisions, Decision{At: d.At.span(0), Limit: int(limit), Pace: pace, Cause: d.Cause, Binding: d.Binding})
	}
	return r, nil
}

func (j *jsonSeries) series() (Series, error) {
	s := Series{
		Step: j.Step.span(0), Limit: floats(j.Limit), Pace: floats(j.Pace), InFlight: floats(j.InFlight), Waiting: floats(j.Waiting),
		Goodput: floats(j.Goodput), Rejected: floats(j.Rejected),
	}
	n := longest(s)
	switch {
	case n > maxLength:
		return s, fmt.Errorf("has %d steps, must be at most %d", n, maxLength)
	case s.Step < 0 || n > 0 && s.Step == 0:
		return s, fmt.Errorf("step_s is %v, must be more than 0", float64(j.Step))
	case n > 0 && s.Step > math.MaxInt64/time.Duration(n):
		return s, fmt.Errorf("%d steps of %v are longer than time can be", n, s.Step)
	}
	for name, values := range map[string][]float64{"limit": s.Limit, "pace_rps": s.Pace, "in_flight": s.InFlight, "waiting": s.Waiting, "goodput_rps": s.Goodput, "rejected_429_rps": s.Rejected} {
		if len(values) != 0 && len(values) != n {
			return s, fmt.Errorf("%s has %d values where others have %d", name, len(values), n)
		}
	}
	return s, nil
}

func (j *jsonSummary) summary() (Summary, error) {
	s := Summary{
		Seeds: j.Seeds, Offered: j.Offered, OK: j.OK, Failed: j.Failed, Refused: j.Refused, Unfinished: j.Unfinished, Sent: j.Sent, Rejected429: j.Rejected429,
		Goodput: float64(j.Efficiency), GoodputLow: float64(j.EfficiencyLow), GoodputHigh: float64(j.EfficiencyHigh), GoodputRate: float64(j.GoodputRate),
		RejectedPerOK: float64(j.RejectedPerOK),
		Mean:          j.Mean.span(-1), P50: j.P50.span(-1), P90: j.P90.span(-1), P99: j.P99.span(-1),
		Settle: j.Settle.span(0), Settled: j.Settled, NoLevel: !j.HasLevel,
		MeanLimit: float64(j.MeanLimit), MeanInFlight: float64(j.MeanInFlight), Swing: float64(j.Swing), Fairness: float64(j.Fairness),
		RejectedSteady: float64(j.RejectedSteady), RejectedTransient: float64(j.Transient), Recover: float64(j.Recover),
		Overshoot: float64(j.Overshoot), Herd: float64(j.Herd), Wasted: float64(j.Wasted), Inside: j.Inside,
		FirstByte50: j.FirstByte50.or().span(-1), FirstByte99: j.FirstByte99.or().span(-1), PerToken50: j.PerToken50.or().span(-1), PerToken99: j.PerToken99.or().span(-1),
		SettleAllowed: j.SettleAllowed.or().span(0), SettledInTime: j.SettledInTime, Changes: j.Changes, RecoveredInTime: j.RecoveredInTime,
		ChangesBy: j.ChangesBy, RecoveredBy: j.RecoveredBy,
		Regret: float64(j.Regret.or()), RegretStatic: float64(j.RegretStatic.or()), RegretPiecewise: float64(j.RegretPiecewise.or()),
	}
	if slices.Min(s.ChangesBy[:]) < 0 || slices.Min(s.RecoveredBy[:]) < 0 {
		return s, fmt.Errorf("changes_by is %v and recovered_by %v, must not be negative", s.ChangesBy, s.RecoveredBy)
	}
	if j.Unrecovered {
		s.Recover = math.Inf(1)
	}
	if math.IsNaN(s.Fairness) {
		s.Fairness = 0
	}
	if math.IsNaN(s.RejectedPerOK) { // null stands for both
		s.RejectedPerOK = RejectedPerOK(s.Rejected429, s.OK)
	}
	for name, n := range map[string]int64{"offered": s.Offered, "ok": s.OK, "failed": s.Failed, "refused": s.Refused, "unfinished": s.Unfinished, "sent": s.Sent, "rejected_429": s.Rejected429, "sent_inside_pause": s.Inside,
		"settled_in_time": int64(s.SettledInTime), "changes": int64(s.Changes), "recovered_in_time": int64(s.RecoveredInTime)} {
		if n < 0 {
			return s, fmt.Errorf("%s is %d, must not be negative", name, n)
		}
	}
	if s.Seeds < 1 || s.Seeds > maxNames {
		return s, fmt.Errorf("seeds is %d, must be 1 to %d", s.Seeds, maxNames)
	}
	return s, nil
}

// Join makes one report of several: their scenarios, the controllers of each, and the seeds of each controller together. A seed that
// two reports have of the same controller in the same scenario must be the same in both. Where a scenario was run with different durations, or a
// name stands for different things, the error says so. Series and decisions are those of the lowest seed; bands over seeds
// cannot be joined and are those of the report with the most seeds.
func Join(reports ...*Report) (*Report, error) {
	if len(reports) == 0 {
		return nil, errors.New("there is no report to join")
	}
	out := *reports[0]
	out.Scenarios = nil
	var commands, versions, configs []string
	once := func(list []string, s string) []string {
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); line != "" && !slices.Contains(list, line) {
				list = append(list, line)
			}
		}
		return list
	}
	for _, r := range reports {
		commands, versions, configs = once(commands, r.Command), once(versions, r.Version), once(configs, r.Config)
		out.Interrupted = out.Interrupted || r.Interrupted
		for i := range r.Scenarios {
			if err := joinScenario(&out, &r.Scenarios[i]); err != nil {
				return nil, fmt.Errorf("scenario %s: %w", r.Scenarios[i].Name, err)
			}
		}
	}
	out.Command, out.Version, out.Config = strings.Join(commands, "\n"), strings.Join(versions, ", "), strings.Join(configs, ", ")
	out.Seed, out.Seeds = math.MaxUint64, 1
	for _, s := range out.Scenarios {
		for _, run := range s.Runs {
			out.Seeds = max(out.Seeds, len(run.PerSeed))
			if len(run.PerSeed) > 0 {
				out.Seed = min(out.Seed, run.PerSeed[0].Seed)
			}
		}
	}
	if out.Seed == math.MaxUint64 {
		out.Seed, out.Seeds = reports[0].Seed, reports[0].Seeds
	}
	return &out, nil
}

func joinScenario(out *Report, s *Scenario) error {
	i := slices.IndexFunc(out.Scenarios, func(o Scenario) bool { return o.Name == s.Name })
	if i < 0 {
		c := *s
		c.Runs = slices.Clone(s.Runs)
		out.Scenarios = append(out.Scenarios, c)
		return nil
	}
	to := &out.Scenarios[i]
	if err := SameWorld(to, s); err != nil {
		return err
	}
	to.Interrupted = to.Interrupted || s.Interrupted
	to.Alpha = min(to.alpha(), s.alpha())
	if to.Alpha == Alpha {
		to.Alpha = 0
	}
	for _, run := range s.Runs {
		k := slices.IndexFunc(to.Runs, func(o Run) bool { return o.Controller == run.Controller })
		if k < 0 {
			to.Runs = append(to.Runs, run)
			continue
		}
		joined, err := joinRun(&to.Runs[k], &run)
		if err != nil {
			return fmt.Errorf("controller %s: %w", run.Controller, err)
		}
		to.Runs[k] = *joined
	}
	return nil
}

// SameWorld reports, as an error, that two scenarios of one name are not the same: one lasts longer, or with the same seed another goodput could be had
// in it. It does not know of what leaves the best as it is.
func SameWorld(a, b *Scenario) error {
	if a.Duration != b.Duration {
		return fmt.Errorf("is %v in one report and %v in another: they cannot be compared", a.Duration, b.Duration)
	}
	had, has := a.best(), b.best()
	for _, seed := range slices.Sorted(maps.Keys(has)) {
		if x, ok := had[seed]; ok && math.Abs(x-has[seed]) > 0.01*max(x, has[seed]) {
			return fmt.Errorf("is not the same in both: with seed %d, %s successes a second were to be had in one and %s in the other; they cannot be compared", seed, formatRate(x), formatRate(has[seed]))
		}
	}
	return nil
}

// best returns the successes a second that were to be had with each seed, as far as its runs tell, each of which has a share of them.
func (s *Scenario) best() map[uint64]float64 {
	if note := s.Oracle.Note; !strings.HasPrefix(note, NoteBound) && !strings.HasPrefix(note, NoteEstimate) || strings.HasSuffix(note, NoteTokens) {
		return nil // a real server, whose best nobody knows, or a share of tokens
	}
	out := map[uint64]float64{}
	for i := range s.Runs {
		for _, p := range s.Runs[i].PerSeed {
			if p.Goodput > 0 && p.GoodputRate > 0 {
				out[p.Seed] = p.GoodputRate / p.Goodput
			}
		}
	}
	return out
}

func joinRun(a, b *Run) (*Run, error) {
	if len(a.PerSeed) == 0 || len(b.PerSeed) == 0 {
		return nil, errors.New("is in two reports, and one has no seeds: they cannot be told apart")
	}
	if b.PerSeed[0].Seed < a.PerSeed[0].Seed {
		a, b = b, a
	}
	out := *a
	out.PerSeed = slices.Clone(a.PerSeed)
	for _, s := range b.PerSeed {
		i, found := slices.BinarySearchFunc(out.PerSeed, s.Seed, func(o SeedSummary, seed uint64) int {
			switch {
			case o.Seed < seed:
				return -1
			case o.Seed > seed:
				return 1
			}
			return 0
		})
		if !found {
			out.PerSeed = slices.Insert(out.PerSeed, i, s)
			continue
		}
		if differ(&out.PerSeed[i].Summary, &s.Summary) {
			return nil, &DiffersError{a.Controller, s.Seed}
		}
	}
	if len(b.PerSeed) > len(a.PerSeed) {
		out.Low, out.High = b.Low, b.High
	}
	out.Summary = MergeSeeds(out.PerSeed)
	return &out, nil
}

// differ reports whether two summaries of a seed cannot be of the same run: a count differs, or a figure that both know.
func differ(a, b *Summary) bool {
	return a.Offered != b.Offered || a.OK != b.OK || a.Sent != b.Sent || a.Rejected429 != b.Rejected429 ||
		slices.ContainsFunc(figures, func(f Figure) bool {
			x, y := f.Of(a), f.Of(b)
			return x != y && !math.IsNaN(x) && !math.IsNaN(y)
		})
}

// A DiffersError says that two reports have the same seed of a controller, and not the same figures.
type DiffersError struct {
	Controller string
	Seed       uint64
}

// Error says so.
func (e *DiffersError) Error() string {
	return "seed " + strconv.FormatUint(e.Seed, 10) + " differs between the reports: they are of different versions or settings"
}

// MergeSeeds is Merge of the summaries of seeds.
func MergeSeeds(seeds []SeedSummary) Summary {
	all := make([]Summary, len(seeds))
	for i, s := range seeds {
		all[i] = s.Summary
	}
	return Merge(all)
}
