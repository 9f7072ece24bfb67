package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// full is a report with everything that a report can have.
func full() *Report {
	r := synthetic(3, 6, 60)
	r.Config = "0123abcd"
	for i := range r.Scenarios {
		for k := range r.Scenarios[i].Runs {
			run := &r.Scenarios[i].Runs[k]
			for seed := range uint64(4) {
				s := run.Summary
				s.Seeds, s.OK = 1, s.OK/4+int64(seed)
				s.Goodput += 0.001 * float64(seed)
				run.PerSeed = append(run.PerSeed, SeedSummary{seed + 1, s})
			}
			run.Summary = MergeSeeds(run.PerSeed)
			run.Low, run.High = run.Series, run.Series
		}
	}
	return r
}

func written(t testing.TB, r *Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteJSON(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What is read is what was written: it gives the same JSON and the same page.
func TestReadJSON(t *testing.T) {
	for name, r := range map[string]*Report{"full": full(), "five": five(), "undefined": undefined(), "nothing": {}} {
		if name == "five" {
			dead := &r.Scenarios[2].Runs[0].Summary
			dead.OK, dead.Rejected429 = 0, 7 // that the fixture's success cost endless 429s cannot be counted
		}
		json := written(t, r)
		back, err := ReadJSON(bytes.NewReader(json))
		if name == "undefined" { // it has runs that no program makes, such as series without a step
			if err == nil {
				t.Errorf("%s: read without an error", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again := written(t, back); !bytes.Equal(again, json) {
			t.Errorf("%s: reads as\n%.2000s\nwritten was\n%.2000s", name, again, json)
		}
		if name == "full" && !bytes.Equal(html(t, back), html(t, r)) {
			t.Errorf("%s: another page", name)
		}
	}
}

func TestReadJSONRefuses(t *testing.T) {
	good := string(written(t, full()))
	for _, test := range []struct{ name, from, to, want string }{
		{"cut off", good[len(good)/2:], "", "unexpected end of JSON input"},
		{"no JSON", good, "hello", "line 1, byte 1"},
		{"no report", good, `{"a": 1}`, `has no "schema"`},
		{"another schema", `"schema":2`, `"schema":1`, "schema 1, must be 2"},
		{"unknown key", `"title"`, `"titel"`, `unknown field "titel"`},
		{"wrong type", `"interrupted":false`, `"interrupted":3`, "line 1, byte"},
		{"two reports", good, good + good, "after top-level value"},
		{"no name", `"name":"rpm-bucket"`, `"name":""`, "scenarios[1] (\"\"): has no name"},
		{"twice", `"name":"rpm-bucket"`, `"name":"concurrency-cap"`, `"concurrency-cap" is there twice`},
		{"negative count", `"failed":`, `"failed":-1`, "failed is -1"},
		{"seeds in disorder", `"seed":"2"`, `"seed":"1"`, "seed 1 does not come after 1"},
		{"no step", `"series":{"step_s":1`, `"series":{"step_s":0`, "step_s is 0"},
		{"unequal series", `"pace_rps":[]`, `"pace_rps":[1]`, "pace_rps has 1 values where others have 60"},
		{"fractional limit", `{"at_s":0.611,"limit":`, `{"at_s":0.611,"limit":0.5`, "must be a whole number"},
		{"no seeds", `"seeds":4`, `"seeds":0`, "seeds is 0"},
	} {
		bad := strings.Replace(good, test.from, test.to, 1)
		if bad == good {
			t.Errorf("%s: nothing was replaced", test.name)
		}
		if _, err := ReadJSON(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := ReadJSON(io.MultiReader(strings.NewReader("{"), iotestErr{})); err == nil {
		t.Error("a reader that fails is passed over")
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestJoin(t *testing.T) {
	all := full()
	part := func(keep func(s SeedSummary) bool) *Report {
		r := full()
		for i := range r.Scenarios {
			for k := range r.Scenarios[i].Runs {
				run := &r.Scenarios[i].Runs[k]
				var seeds []SeedSummary
				for _, s := range run.PerSeed {
					if keep(s) {
						seeds = append(seeds, s)
					}
				}
				run.PerSeed, run.Summary = seeds, MergeSeeds(seeds)
			}
		}
		return r
	}
	a := part(func(s SeedSummary) bool { return s.Seed <= 3 })
	b := part(func(s SeedSummary) bool { return s.Seed >= 3 })
	for name, parts := range map[string][]*Report{"halves that share a seed": {a, b}, "the other way round": {b, a}, "itself": {all, all}} {
		got, err := Join(parts...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(written(t, got), written(t, all)) {
			t.Errorf("%s: not the whole", name)
		}
	}
	one, two := full(), full()
	one.Scenarios, two.Scenarios = one.Scenarios[:1], two.Scenarios[1:]
	one.Command, two.Command = "first", "second"
	got, err := Join(one, two)
	if err != nil || len(got.Scenarios) != 3 || got.Command != "first\nsecond" {
		t.Errorf("scenarios apart: %v, %d scenarios, command %q", err, len(got.Scenarios), got.Command)
	}

	other := full()
	other.Scenarios[0].Runs[0].PerSeed[1].OK++
	slower := full() // as many calls, and other latencies
	slower.Scenarios[0].Runs[0].PerSeed[1].P99 += time.Second
	longer := full()
	longer.Scenarios[0].Duration *= 2
	for _, c := range []struct {
		r    *Report
		want string
	}{{other, "seed 2 differs"}, {slower, "seed 2 differs"}, {longer, "cannot be compared"}} {
		if _, err := Join(all, c.r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if _, err := Join(); err == nil {
		t.Error("nothing is joined without an error")
	}
}

// A scenario that was changed between two runs keeps its name, and figures of the two say nothing of the controllers.
func TestSameWorld(t *testing.T) {
	world := func(note string, best float64) *Report {
		s := SeedSummary{Seed: 3, Summary: Summary{Goodput: 0.5, GoodputRate: 0.5 * best}}
		return &Report{Seeds: 1, Scenarios: []Scenario{{Name: "a", Oracle: Oracle{Note: note}, Runs: []Run{{Controller: fmt.Sprint(best), PerSeed: []SeedSummary{s}}}}}}
	}
	for _, c := range []struct {
		note string
		best float64
		same bool
	}{{NoteBound, 20.1, true}, {NoteBound, 21, false}, {NoteEstimate + " …", 21, false}, {NoteBound + NoteTokens, 21, true}, {"the demand", 21, true}} {
		_, err := Join(world(c.note, 20), world(c.note, c.best))
		if (err == nil) != c.same || err != nil && !strings.Contains(err.Error(), "scenario a: is not the same in both: with seed 3, 20") {
			t.Errorf("%s, 20 and %v a second: %v", c.note, c.best, err)
		}
	}
}

// Whatever is read can be shown.
func FuzzReadJSON(f *testing.F) {
	small := synthetic(1, 2, 5)
	f.Add(written(f, small))
	f.Add(written(f, five()))
	f.Add([]byte(`{"schema":2,"seeds":1,"scenarios":[{"name":"a","runs":[{"controller":"x","summary":{"seeds":1}}]}]}`))
	f.Add([]byte(`{"schema":2,"seed":"18446744073709551615","seeds":1,"scenarios":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadJSON(bytes.NewReader(data))
		if err != nil {
			return
		}
		if err := WriteText(io.Discard, r, TextOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := WriteHTML(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		json := written(t, r)
		back, err := ReadJSON(bytes.NewReader(json))
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if again := written(t, back); !bytes.Equal(again, json) {
			t.Fatalf("reads differently:\n%.2000s\n%.2000s", json, again)
		}
	})
}
