package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flyball-go/flyball/internal/fit"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/trace"
	"github.com/flyball-go/flyball/limiter"
)

// Whatever was recorded, what is fitted to it is a scenario that can be read. Its callers have time for an answer when they have waited for as long as a guard
// lets them: with as much patience, none would get one while more comes than the upstream takes.
func TestFitWritesScenarios(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(40, 120).Draw(t, "n")
		gap := rapid.SampledFrom([]time.Duration{time.Microsecond, time.Millisecond, 100 * time.Millisecond, time.Minute, 10 * time.Hour}).Draw(t, "gap")
		tokens := rapid.SampledFrom([]int64{0, 1, 1000, trace.MaxTokens}).Draw(t, "tokens")
		refusals := rapid.IntRange(0, 100).Draw(t, "refusals")
		tr := &trace.Trace{Name: "odd \x00\n\"name"}
		at := time.Duration(0)
		for range n {
			at += gap * time.Duration(rapid.IntRange(0, 30).Draw(t, "wait"))
			r := trace.Row{At: at, Sent: at, Seen: true, Status: 200, RetryAfter: -1}
			r.In, r.Out = rapid.Int64Range(0, tokens).Draw(t, "in"), rapid.Int64Range(0, tokens).Draw(t, "out")
			r.End = at + time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "took"))
			if rapid.IntRange(1, 100).Draw(t, "dice") <= refusals {
				r.Status, r.Out = 429, 0
				r.RetryAfter = time.Duration(rapid.Int64Range(-1, int64(24*time.Hour)).Draw(t, "after"))
			}
			if rapid.IntRange(1, 10).Draw(t, "header") == 1 {
				r.Header = map[string]string{"x-ratelimit-limit-requests": rapid.SampledFrom([]string{"60", "0", "-5", "1e9", "999999999999", "x"}).Draw(t, "limit")}
			}
			tr.Rows = append(tr.Rows, r)
		}
		r, err := fit.Fit(tr)
		if err != nil {
			return
		}
		if r.Model.Input.Median > 0 && r.Model.Output.Median > 0 && rapid.IntRange(1, 4).Draw(t, "batch") == 1 {
			r.Model.Batch = fit.Batch{Profile: "llama-8b-h100", Slow: rapid.Float64Range(0.25, 4).Draw(t, "slow"), Before: rapid.Float64Range(0, 3600).Draw(t, "around")}
		}
		text := r.TOML(tr.Name)
		if _, err := scenario.Parse("fitted.toml", []byte(text)); err != nil {
			t.Fatalf("%v\n%s\n%+v", err, text, r.Model)
		}
		_, patience, _ := strings.Cut(text, "\npatience = \"")
		patience, _, _ = strings.Cut(patience, "\"")
		if d, err := time.ParseDuration(patience); err != nil || d < 2*(limiter.Config{}).Defaults().MaxWait {
			t.Fatalf("callers wait %v (%v), and a guard lets them for %v", d, err, (limiter.Config{}).Defaults().MaxWait)
		}
	})
}

// What was fitted to tokens that were used is charged for tokens that are used: a run of it has as many successes as the recorded upstream lets pass, also where
// twice the mean answer would never find room in the bucket.
func TestFittedTokens(t *testing.T) {
	for _, burst := range []float64{30_000, 700} {
		r := fit.Result{Model: fit.Model{
			Limit: fit.Limit{Kind: fit.Bucket, Tokens: true, Rate: 3000, Burst: burst}, Latency: fit.Latency{Service: 0.2}, Rate: 20, Duration: 10 * time.Minute,
			Input: fit.Tokens{Median: 300, Max: 300}, Output: fit.Tokens{Median: 300, Max: 300},
		}}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "fitted.toml"), []byte(r.TOML("x")), 0o644); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := in(t, dir, "", "run", "--controllers", "none", "--seeds", "1", "--html", "", "--csv", "fitted.toml")
		lines := strings.Split(stdout, "\n")
		if code != exitOK || len(lines) < 2 {
			t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
		}
		at := slices.Index(strings.Split(lines[0], ","), "goodput_rps")
		got, err := strconv.ParseFloat(strings.Split(lines[1], ",")[at], 64)
		if want := (3000*600.0 + burst) / 600 / 600; err != nil || got > 1.02*want || got < 0.75*want && burst < 1000 || got < 0.98*want && burst > 1000 {
			t.Errorf("%v successes a second (%v) with a burst of %v, want %v", got, err, burst, want)
		}
	}
}
