package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/stats"
	"github.com/flyball-go/flyball/internal/suite"
)

// What --set and --vary say of the guard goes before what a scenario says itself, also where there is no file that says it.
func TestGuardIsSetOverScenarios(t *testing.T) {
	dir := workdir(t)
	stdout, stderr, code := in(t, dir, "", "sweep", "-q", "--csv", "--seeds", "1", "--controller", "fixed-1", "--duration", "30s", "--vary", "guard.max_wait=1s,20s", "small.toml")
	rows, err := csv.NewReader(strings.NewReader(stdout)).ReadAll()
	if err != nil || code != exitOK || len(rows) != 3 {
		t.Fatalf("exit code %d, %v, %s\n%s", code, err, stderr, stdout)
	}
	if p99 := slices.Index(rows[0], "p99"); rows[1][p99] == rows[2][p99] {
		t.Errorf("p99 is %s s whatever guard.max_wait is", rows[1][p99])
	}
	if _, stderr, code := in(t, dir, "", "run", "-q", "--html", "", "--seeds", "1", "--controllers", "fixed-3", "--duration", "5s", "--set", "guard.queue=10", "draw-7-3"); code != exitOK {
		t.Errorf("guard.queue cannot be set for a draw: %s", stderr)
	}
}

// Every example of the help, and of docs/simulator.md, works when it is pasted.
func TestExamples(t *testing.T) {
	if raceDetector {
		t.Skip("millions of events: left to the run without the race detector")
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	app := newApp(&env{})
	_, text, _ := strings.Cut(app.Description, "Examples:\n")
	lines = append(lines, strings.Split(text, "\n")...)
	for _, c := range app.Commands {
		switch c.Name {
		case "load", "serve", "record", "replay", "fit", "help":
			continue // they need a server or a trace, and have tests of their own
		}
		_, text, ok := strings.Cut(c.Description, "Examples:\n")
		if !ok {
			t.Errorf("simulate %s has no examples", c.Name)
		}
		lines = append(lines, strings.Split(text, "\n")...)
		for _, sub := range c.Subcommands {
			if _, text, ok := strings.Cut(sub.Description, "Examples:\n"); ok {
				lines = append(lines, strings.Split(text, "\n")...)
			}
		}
	}
	dir := workdirAt(t, here)
	t.Chdir(dir)
	prepare := func(args ...string) string {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append([]string{"simulate"}, args...), strings.NewReader(""), &out, &errs); code != exitOK {
			t.Fatalf("simulate %v: exit code %d, stderr %s", args, code, &errs)
		}
		return out.String()
	}
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// What the examples read.
	write("limits.toml", "[guard.adaptive]\nbackoff = 0.8\n")
	report := prepare("run", "--json", "--seeds", "2", "--html", "", "rpm-bucket")
	write("before.json", report)
	write("after.json", report)
	write("tuned.toml", "[guard.adaptive]\nbackoff = 0.7\n")
	answer, err := os.ReadFile("feedback/openai-429.txt")
	if err != nil {
		t.Fatal(err)
	}
	write("answer.txt", string(answer))
	write("golden.json", prepare("run", "--json", "--seeds", "4", "--html", "", "--controllers", "fixed-4", "small.toml"))
	prepare("run", "--seeds", "1", "--events", "results.jsonl", "--html", "", "--controllers", "ours", "closed-loop")
	if err := os.CopyFS("feedback/testdata", os.DirFS(filepath.Join(here, "../../feedback/testdata"))); err != nil {
		t.Fatal(err)
	}

	n := 0
	for _, line := range lines {
		line = strings.TrimSpace(line)
		command, ok := strings.CutPrefix(line, "simulate")
		if i := strings.Index(line, "| simulate"); i >= 0 {
			continue // reads what a server says
		}
		if !ok {
			continue
		}
		if strings.Contains(line, "://") || line == "simulate bench" {
			continue // needs a server; is tried once, as JSON
		}
		command, to, _ := strings.Cut(command, " > ")
		n++
		var out, errs bytes.Buffer
		words := shellWords(command)
		if len(words) > 0 && (words[0] == "bench" || words[0] == "tune" && strings.Contains(line, "60s") && len(words) == 3 || words[0] == "assert" || words[0] == "draws" || line == "simulate compare gcl-aimd ours") {
			words = append(words, shorter(words)...)
		}
		begin := time.Now()
		code := run(t.Context(), append([]string{"simulate"}, words...), strings.NewReader(""), &out, &errs)
		if code != exitOK && !(words[0] == "assert" && code == exitAssertion) {
			t.Errorf("%s: exit code %d, stderr %s", line, code, &errs)
		}
		t.Logf("%6d ms  %s", time.Since(begin).Milliseconds(), line)
		if to != "" {
			write(to, out.String())
		}
	}
	if n < 25 {
		t.Errorf("only %d examples", n)
	}
}

// shorter are options that make an example of long work short.
func shorter(words []string) []string {
	switch words[0] {
	case "bench":
		return []string{"--time", "20ms"}
	case "draws":
		return []string{"--n", "8"} // one of each kind
	case "compare":
		return []string{"--scenarios", "rpm-bucket,closed-loop"}
	case "tune":
		return []string{"--points", "2", "--search-seeds", "4", "--seeds", "2", "--budget", "1s"}
	}
	return nil
}

// shellWords splits a line as a shell does, with single quotes only.
func shellWords(s string) []string {
	var words []string
	for _, m := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(s, -1) {
		if m[2] != "" {
			words = append(words, m[2])
		} else {
			words = append(words, m[1])
		}
	}
	return words
}

// --out has everything, complete and readable.
func TestOut(t *testing.T) {
	stdout, stderr, code := in(t, workdir(t), "", "run", "--controllers", "none,fixed-4,ours", "--seeds", "3", "--out", "results", "--events", "events.jsonl", "small.toml", "held.toml")
	if code != exitOK || !strings.Contains(stderr, "wrote 6 files to results") || !strings.Contains(stderr, "wrote results/report.html") {
		t.Fatalf("exit code %d, stderr %s, stdout %s", code, stderr, stdout)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("results", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	r, err := report.ReadJSON(bytes.NewReader(read("report.json")))
	if err != nil || len(r.Scenarios) != 2 || len(r.Scenarios[0].Runs[0].PerSeed) != 3 || r.Version == "" || len(r.Config) != 12 {
		t.Errorf("report.json: %v, %+v", err, r)
	}
	rows, err := csv.NewReader(bytes.NewReader(read("seeds.csv"))).ReadAll()
	if err != nil || len(rows) != 1+2*3*3 {
		t.Errorf("seeds.csv: %v, %d rows", err, len(rows))
	}
	rows, err = csv.NewReader(bytes.NewReader(read("series.csv"))).ReadAll()
	if err != nil || len(rows) != 1+2*3*600 {
		t.Errorf("series.csv: %v, %d rows", err, len(rows))
	}
	for _, name := range []string{"overview.svg", "small.svg", "held.svg"} {
		if err := xml.Unmarshal(read(name), new(struct{ XMLName xml.Name })); err != nil || bytes.Contains(read(name), []byte("NaN")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, _ := filepath.Glob("results/.*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// The log of decisions explains what the report has.
	stdout, stderr, code = in(t, ".", "", "explain", "--at", "20s", "--scenario", "held", "--seed", "2", "events.jsonl")
	if code != exitOK || !strings.Contains(stdout, "held, ours, seed 2") {
		t.Errorf("explain: exit code %d, stderr %s, stdout %s", code, stderr, stdout)
	}
	again, _, _ := in(t, ".", "", "explain", "--at", "20s", "--seed", "2", "held.toml")
	a, _, _ := strings.Cut(stdout, "  Cause:")
	if b, _, _ := strings.Cut(again, "  Cause:"); a != b {
		t.Errorf("the log says\n%s\nrunning again says\n%s", a, b)
	}
}

// Each scenario has a picture of its own, whatever it is called.
func TestOutOfLikeNames(t *testing.T) {
	dir := workdir(t)
	small, err := os.ReadFile(filepath.Join(dir, "small.toml"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "--controllers", "fixed-4", "--seeds", "1", "--out", "results"}
	for i, name := range []string{"overview", "a b", "a-b", "A-B"} {
		file := fmt.Sprintf("%d.toml", i)
		if err := os.WriteFile(filepath.Join(dir, file), bytes.Replace(small, []byte(`"small"`), []byte(`"`+name+`"`), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	if _, stderr, code := in(t, dir, "", args...); code != exitOK {
		t.Fatal(code, stderr)
	}
	for name, title := range map[string]string{"overview": "", "overview-2": "overview", "a-b": "a b", "a-b-2": "a-b", "A-B-3": "A-B"} {
		picture, err := os.ReadFile(filepath.Join(dir, "results", name+".svg"))
		if err != nil || title != "" && !bytes.Contains(picture, []byte("<title>"+title)) || title == "" && bytes.Contains(picture, []byte("<title>overview")) {
			t.Errorf("%s.svg: %v, %.200s", name, err, picture)
		}
	}
}

// A report that is made again from its JSON is the same page; reports of other seeds join.
func TestReportAgain(t *testing.T) {
	dir := workdir(t)
	args := func(seed, name string) []string {
		return []string{"run", "--controllers", "none,fixed-4", "--seeds", "4", "--seed", seed, "--html", name + ".html", "--json", "small.toml"}
	}
	for _, seed := range []string{"1", "5"} {
		stdout, stderr, code := in(t, dir, "", args(seed, seed)...)
		if code != exitOK {
			t.Fatal(stderr)
		}
		if err := os.WriteFile(seed+".json", []byte(stdout), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, stderr, code := in(t, dir, "", "report", "--html", "again.html", "1.json"); code != exitOK {
		t.Fatal(stderr)
	}
	a, _ := os.ReadFile("1.html")
	b, _ := os.ReadFile("again.html")
	if !bytes.Equal(a, b) {
		t.Error("the page that was made again differs")
	}
	stdout, stderr, code := in(t, dir, "", "report", "--csv", "--html", "", "1.json", "5.json")
	if rows := strings.Count(stdout, "\n"); code != exitOK || rows != 1+2*8 {
		t.Errorf("joined: exit code %d, %d rows, stderr %s", code, rows, stderr)
	}
	// A controller that did something else under the same name stays apart.
	changed, stderr, code := in(t, dir, "", "run", "--controllers", "none,fixed-4", "--seeds", "4", "--html", "", "--json", "--set", "guard.max_wait=1s", "small.toml")
	if code != exitOK {
		t.Fatal(stderr)
	}
	if err := os.WriteFile("changed.json", []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code = in(t, dir, "", "report", "--csv", "--html", "", "1.json", "changed.json")
	if code != exitOK || strings.Count(stdout, "\nsmall,fixed-4,") != 4 || strings.Count(stdout, "\nsmall,fixed-4 (changed),") != 4 {
		t.Errorf("exit code %d, stderr %s, stdout %s", code, stderr, stdout)
	}
	// So do two whose files have one name.
	for _, wait := range []string{"1s", "2s"} {
		text, stderr, code := in(t, dir, "", "run", "--controllers", "fixed-4", "--seeds", "4", "--html", "", "--json", "--set", "guard.max_wait="+wait, "small.toml")
		if err := os.MkdirAll(wait, 0o755); err != nil || code != exitOK {
			t.Fatal(err, stderr)
		}
		if err := os.WriteFile(filepath.Join(wait, "after.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stdout, stderr, code = in(t, dir, "", "report", "--csv", "--html", "", "1.json", "1s/after.json", "2s/after.json")
	for _, name := range []string{"fixed-4", "fixed-4 (1s/after.json)", "fixed-4 (2s/after.json)"} {
		if code != exitOK || strings.Count(stdout, "\nsmall,"+name+",") != 4 {
			t.Errorf("exit code %d, stderr %s, not four lines of %s in\n%s", code, stderr, name, stdout)
		}
	}
	stdout, stderr, code = in(t, dir, "", "compare", "--controller", "fixed-4", "1.json", "1.json")
	if code != exitOK || !strings.Contains(stdout, "equivalent in 1") {
		t.Errorf("compared: exit code %d, %s%s", code, stdout, stderr)
	}
	stdout, _, code = in(t, dir, "", "compare", "--scenarios", "small.toml", "--controller", "none", "1.json", "fixed-4")
	if code != exitOK || !strings.Contains(stdout, "better in 1 (small)") {
		t.Errorf("a report against a controller: exit code %d, %s", code, stdout)
	}
	// What came of a real server has no seeds.
	load := report.Report{Seeds: 1, Scenarios: []report.Scenario{{Name: "server", Runs: []report.Run{{Controller: "ours", Summary: report.Summary{Seeds: 1}}}}}}
	var data bytes.Buffer
	if err := report.WriteJSON(&data, &load); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("load.json", data.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code = in(t, dir, "", "compare", "load.json", "load.json"); code != exitMisuse || !strings.Contains(stderr, "load.json was not run with seeds") {
		t.Errorf("loads compared: exit code %d, %s", code, stderr)
	}
	// Of the four seeds of a report those are taken that are asked for, all if none are.
	for _, c := range []struct {
		args  string
		pairs int
	}{
		{"1.json fixed-4", 4}, {"1.json 1.json", 4}, {"--seeds auto 1.json 1.json", 4}, {"--seeds 3 1.json fixed-4", 3}, {"--seed 3 fixed-4 1.json", 2}, {"--seed 2 --seeds 9 1.json 1.json", 3},
		{"--seed 5 1.json fixed-4", 0}, {"--seed 5 1.json 1.json", 0},
	} {
		args := append([]string{"compare", "-q", "--json", "--scenarios", "small.toml", "--controller", "none"}, strings.Fields(c.args)...)
		stdout, stderr, code := in(t, dir, "", args...)
		var out struct {
			Scenarios []struct{ Figures []struct{ Pairs int } }
		}
		_ = json.Unmarshal([]byte(stdout), &out)
		switch {
		case c.pairs == 0 && (code != exitMisuse || !strings.Contains(stderr, "no seed in common")),
			c.pairs > 0 && (code != exitOK || len(out.Scenarios) != 1 || out.Scenarios[0].Figures[0].Pairs != c.pairs):
			t.Errorf("%s: exit code %d, %s, %s", c.args, code, stderr, stdout)
		}
	}
	for _, c := range []struct{ how, want string }{{"--seed 9", "no seed in common"}, {"--set upstream.concurrency.limit=1", "small: is not the same in both: with seed 1"}} {
		args := append([]string{"run"}, strings.Fields(c.how)...)
		args = append(args, "--json", "--html", "", "--seeds", "2", "--controllers", "fixed-4", "small.toml")
		text, stderr, code := in(t, dir, "", args...)
		if err := os.WriteFile(filepath.Join(dir, "other.json"), []byte(text), 0o644); err != nil || code != exitOK {
			t.Fatal(err, code, stderr)
		}
		if _, stderr, code = in(t, dir, "", "compare", "--controller", "fixed-4", "1.json", "other.json"); code != exitMisuse || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d, %s", c.how, code, stderr)
		}
		suite := `name = "a"` + "\n" + `assert = ["small.toml fixed-4 vs baseline: goodput >= -100%"]` + "\n"
		if err := os.WriteFile(filepath.Join(dir, "suite.toml"), []byte(suite), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, stderr, code = in(t, dir, "", "assert", "--baseline", "other.json", "suite.toml"); c.how != "--seed 9" && (code != exitMisuse || !strings.Contains(stderr, c.want)) {
			t.Errorf("%s: the suite ends with %d, %s", c.how, code, stderr)
		}
	}
}

// A baseline is written, kept by the same runs, and broken by others.
func TestBaseline(t *testing.T) {
	dir := workdir(t)
	suite := func(limit string) {
		text := "name = \"b\"\nseeds = 4\nbaseline = \"golden.json\"\nassert = [\"small.toml ours vs baseline: goodput >= -1%\"]\n"
		if err := os.WriteFile(filepath.Join(dir, "b-suite.toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "limits.toml"), []byte("[guard]\ninitial_limit = 1\nmax_limit = "+limit+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	suite("4")
	if _, stderr, code := in(t, dir, "", "assert", "b-suite.toml"); code != exitMisuse || !strings.Contains(stderr, "--update") {
		t.Fatalf("without a baseline: exit code %d, stderr %s", code, stderr)
	}
	if _, stderr, code := in(t, dir, "", "assert", "--update", "b-suite.toml"); code != exitInconclusive || !strings.Contains(stderr, "wrote golden.json") {
		t.Fatalf("first update: exit code %d, stderr %s", code, stderr)
	}
	if stdout, _, code := in(t, dir, "", "assert", "b-suite.toml"); code != exitOK {
		t.Fatalf("the same runs: exit code %d, %s", code, stdout)
	}
	suite("1")
	t.Setenv("GITHUB_ACTIONS", "true")
	stdout, stderr, code := in(t, dir, "", "assert", "--json", "--junit", "junit.xml", "b-suite.toml")
	if !strings.Contains(stderr, "::error file=b-suite.toml") {
		t.Errorf("there is no annotation: %s", stderr)
	}
	var results struct{ Results []struct{ State string } }
	if err := json.Unmarshal([]byte(stdout), &results); err != nil || code != exitAssertion || len(results.Results) != 1 || results.Results[0].State != "broken" {
		t.Errorf("other runs: exit code %d, %v, %s", code, err, stdout)
	}
	junit, err := os.ReadFile("junit.xml")
	if err != nil || !bytes.Contains(junit, []byte(`failures="1"`)) {
		t.Errorf("junit.xml: %v, %s", err, junit)
	}
	if stdout, _, _ := in(t, dir, "", "assert", "--update", "b-suite.toml"); !strings.Contains(stdout, "small ours: goodput") {
		t.Errorf("the update prints no change: %s", stdout)
	}
	if stdout, stderr, _ := in(t, dir, "", "assert", "--update", "--json", "b-suite.toml"); !json.Valid([]byte(stdout)) || !strings.Contains(stderr, "the baseline is as it was") {
		t.Errorf("an update as JSON prints %s, and on stderr %s", stdout, stderr)
	}
	shorter, err := os.ReadFile("b-suite.toml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("b-suite.toml", append([]byte("duration = \"20s\"\n"), shorter...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := in(t, dir, "", "assert", "b-suite.toml"); code != exitMisuse || !strings.Contains(stderr, "has small for 1m0s, and here it lasts 20s") {
		t.Errorf("with runs of another length: exit code %d, stderr %s", code, stderr)
	}

	// What no bound compares with the baseline may be another one.
	text := "name = \"c\"\nseeds = 2\nbaseline = \"both.json\"\nassert = [\"small.toml none: goodput >= 1%\", \"rpm-bucket none vs baseline: goodput >= -1%\"]\n"
	if err := os.WriteFile("c-suite.toml", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, stderr, _ := in(t, dir, "", "assert", "--update", "c-suite.toml"); !strings.Contains(stderr, "wrote both.json") {
		t.Fatal(stderr)
	}
	small, err := os.ReadFile("small.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{"60s", "50s"}, {"limit = 4", "limit = 1"}} {
		if err := os.WriteFile("small.toml", bytes.Replace(small, []byte(change[0]), []byte(change[1]), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		if stdout, stderr, code := in(t, dir, "", "assert", "c-suite.toml"); code != exitOK {
			t.Errorf("with %s: exit code %d, %s%s", change[1], code, stdout, stderr)
		}
	}
}

// Where it never settles is told, and is not the best; in comparisons, too.
func TestNeverIsTold(t *testing.T) {
	dir := workdir(t)
	stdout, stderr, code := in(t, dir, "", "sweep", "--figure", "settle", "--vary", "guard.max_limit=4,60", "--seeds", "2", "capacity-step")
	if code != exitOK || !regexp.MustCompile(`(?m)^ +4 +never .*\n +60 +[0-9.]+.s .*best$`).MatchString(stdout) {
		t.Errorf("exit code %d, stderr %s, stdout\n%s", code, stderr, stdout)
	}
	stdout, stderr, code = in(t, dir, "", "compare", "--figures", "settle", "--scenarios", "capacity-step", "--seeds", "2", "fixed-4", "ours")
	if code != exitOK || !regexp.MustCompile(`settle never → [0-9.]+ s, −∞ s .−∞, −∞., better`).MatchString(stdout) {
		t.Errorf("exit code %d, stderr %s, stdout\n%s", code, stderr, stdout)
	}
}

// Suites may run the same scenario with configurations of their own; the page of both has both.
func TestAssertPageOfSuites(t *testing.T) {
	dir := workdir(t)
	for name, text := range map[string]string{
		"one.toml":   "name = \"one\"\nassert = [\"small.toml none: goodput >= 1%\"]\n",
		"two.toml":   "name = \"two\"\nconfig = \"quick.toml\"\nassert = [\"small.toml none: goodput >= 1%\"]\n",
		"quick.toml": "[guard.retry]\nmax_attempts = 1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stdout, stderr, code := in(t, dir, "", "assert", "--html", "both.html", "one.toml", "two.toml")
	page, err := os.ReadFile("both.html")
	if code != exitOK || err != nil || !bytes.Contains(page, []byte("none (two.toml)")) {
		t.Errorf("exit code %d, %v, stderr %s, stdout %s", code, err, stderr, stdout)
	}
}

// Seeds are added until every bound is decided.
func TestAssertAuto(t *testing.T) {
	dir := workdir(t)
	text := "name = \"auto\"\nseeds = 64\nauto = true\nassert = [\"small.toml none: rejected_per_ok >= 50%\", \"held.toml fixed-4: goodput >= 90%\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "auto.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := in(t, dir, "", "assert", "auto.toml")
	if code != exitOK || !strings.Contains(stdout, "2 kept") || strings.Contains(stdout, ", 64 seeds") {
		t.Errorf("exit code %d, stderr %s, stdout %s", code, stderr, stdout)
	}

	// A bound that was decided early has the level of that look, and not of the last one that another bound needed.
	text = strings.Replace(text, "seeds = 64", "seeds = 8", 1)
	text = strings.Replace(text, "]", `, "small.toml none: goodput >= 80%"]`, 1)
	if err := os.WriteFile(filepath.Join(dir, "auto.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, _ = in(t, dir, "", "assert", "--json", "auto.toml")
	var out struct {
		Results []struct {
			Seeds int
			Alpha float64
		}
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || len(out.Results) != 3 {
		t.Fatal(err, stderr, stdout)
	}
	levels, looks := stats.Looks(0.05, 2), map[int]bool{}
	for _, r := range out.Results {
		looks[r.Seeds] = true
		if r.Alpha != levels[r.Seeds/4-1] {
			t.Errorf("a bound with %d seeds has alpha %v, want %v", r.Seeds, r.Alpha, levels)
		}
	}
	if len(looks) != 2 {
		t.Errorf("want bounds that were decided at different looks: %s", stdout)
	}
}

// Seeds after the last one would begin again at 0, and a report of them could not be read.
func TestLastSeed(t *testing.T) {
	dir := workdir(t)
	if err := os.WriteFile(filepath.Join(dir, "suite.toml"), []byte("name = \"a\"\nassert = [\"small.toml: goodput >= 1%\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"assert suite.toml", "replay trace.jsonl", "leaderboard --controllers none", "run small.toml", "tune --points 1 small.toml"} {
		_, stderr, code := in(t, dir, "", append(strings.Fields(args), "--seed", "18446744073709551615")...)
		if code != exitMisuse || !strings.Contains(stderr, "--seed is 18446744073709551615, must be at most 9223372036854775808") {
			t.Errorf("%s: exit code %d, %s", args, code, stderr)
		}
	}
}

// A search ends in lines for limits.toml with the evidence, or in the advice to keep what there is; and the lines are read again.
func TestTune(t *testing.T) {
	dir := workdir(t)
	if err := os.WriteFile(filepath.Join(dir, "limits.toml"), []byte("[guard.adaptive]\nbackoff = 0.11\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"tune", "--keys", "guard.adaptive.backoff", "--points", "4", "--importance", "1", "--search-seeds", "4", "--seeds", "8", "--held-out", "held.toml", "--out", "tuned.toml", "small.toml"}
	stdout, stderr, code := in(t, dir, "", args...)
	if code != exitOK || !strings.Contains(stderr, "wrote tuned.toml") {
		t.Fatalf("exit code %d, stderr %s", code, stderr)
	}
	for _, want := range []string{"simulate tune --keys guard.adaptive.backoff", "objective: the mean of score", "searched: ", "how much each key matters", "the front: "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("stdout lacks %q:\n%s", want, stdout)
		}
	}
	recommended := strings.HasPrefix(stdout, "# These lines are better")
	if !recommended && !strings.HasPrefix(stdout, "# Keep your config") {
		t.Errorf("no advice: %s", stdout)
	}
	if _, stderr, code := in(t, dir, "", "run", "--config", "tuned.toml", "--controllers", "ours", "--seeds", "1", "--html", "", "small.toml"); code != exitOK {
		t.Errorf("the lines cannot be read: %s\n%s", stderr, stdout)
	}
	stdout, _, _ = in(t, dir, "", append([]string{"tune", "--json"}, args[1:]...)...)
	var j struct {
		Recommended bool
		Params      []struct {
			Key    string
			Effect *struct{ Size float64 }
		}
		Front []struct{ Efficiency float64 }
	}
	if err := json.Unmarshal([]byte(stdout), &j); err != nil || j.Recommended != recommended || len(j.Params) != 1 || j.Params[0].Effect == nil || len(j.Front) == 0 {
		t.Errorf("%v: %+v", err, j)
	}
	// Without scenarios that were not searched there is no evidence.
	if stdout, _, _ := in(t, dir, "", "tune", "--keys", "backoff", "--points", "4", "--importance", "0", "--search-seeds", "4", "--seeds", "8", "--held-out", "", "small.toml"); strings.HasPrefix(stdout, "# These") {
		t.Errorf("recommended without held-out scenarios: %s", stdout)
	}
	// What is defined nowhere compares nothing, and says so.
	if stdout, _, _ := in(t, dir, "", "tune", "--keys", "backoff", "--points", "2", "--importance", "0", "--search-seeds", "4", "--seeds", "2", "--objective", "ttft_p50", "--held-out", "held.toml", "small.toml"); !strings.HasPrefix(stdout, "# Keep your config: ttft_p50 is not defined in any of these scenarios") {
		t.Errorf("%s", stdout)
	}
	if _, stderr, code := in(t, dir, "", "tune", "--keys", "back_of", "small.toml"); code != exitMisuse || !strings.Contains(stderr, "did you mean backoff?") {
		t.Errorf("a wrong key: exit code %d, %s", code, stderr)
	}
}

func TestNew(t *testing.T) {
	dir := t.TempDir()
	for _, s := range scenario.Builtin() {
		name := s.Name + "-2.toml"
		if _, stderr, code := in(t, dir, "", "scenarios", "new", "--from", s.Name, name); code != exitOK {
			t.Fatal(stderr)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := scenario.Parse(name, text)
		if err != nil || n.Name != s.Name+"-2" || len(n.Expect) > 0 {
			t.Errorf("%s: %v, name %q, expects %v", name, err, n.Name, n.Expect)
		}
	}
}

// docs/simulator.md names every option of every command, but those of leaderboard, which stand in its own page.
func TestDocumentNamesTheOptions(t *testing.T) {
	doc, err := os.ReadFile("../../docs/simulator.md")
	if err != nil {
		t.Fatal(err)
	}
	app := newApp(&env{})
	for _, cmd := range append([]*cli.Command{{Name: "simulate", Flags: app.Flags}}, app.Commands...) {
		for _, f := range cmd.Flags {
			name := "--" + f.Names()[0]
			if len(name) == 3 {
				name = name[1:]
			}
			if cmd.Name != "leaderboard" && name != "--help" && !regexp.MustCompile("`[^`]*"+name+`\b|    .* `+name+`\b`).Match(doc) {
				t.Errorf("docs/simulator.md does not name %s of %s", name, cmd.Name)
			}
		}
	}
}

// The example of docs/simulator.md is what the command prints, its suite can be read, and its table of figures has them all.
func TestDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/simulator.md")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/transcripts/explain.txt")
	if err != nil {
		t.Fatal(err)
	}
	part, _, _ := strings.Cut(string(golden), "-- stderr --")
	if part = "    " + strings.ReplaceAll(strings.TrimSpace(part), "\n", "\n    "); !strings.Contains(string(doc), part) {
		t.Errorf("docs/simulator.md lacks\n%s", part)
	}
	_, rest, ok := strings.Cut(string(doc), "## Bounds for CI: assert\n\n```toml\n")
	text, _, _ := strings.Cut(rest, "```")
	if s, err := suite.Parse("docs/simulator.md", []byte(text)); !ok || err != nil || len(s.Bounds) != 8 {
		t.Errorf("the suite: %v", err)
	}
	for _, name := range report.FigureNames() {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("the figure %s is not defined", name)
		}
	}
}

// The files that were asked for are written when nobody reads stdout any more: a search of minutes is not lost.
func TestFilesWithoutReader(t *testing.T) {
	t.Chdir(workdir(t))
	for _, c := range []struct{ args, file string }{
		{"assert -q --seeds 2 --junit junit.xml --html assert.html suite.toml", "junit.xml"},
		{"assert -q --seeds 2 --html assert.html suite.toml", "assert.html"},
		{"assert -q --seeds 2 --update --baseline was.json suite.toml", "was.json"},
		{"assert -q --seeds 2 --update --baseline was.json --junit updated.xml suite.toml", "updated.xml"}, // and what changed is told
		{"compare -q --seeds 2 --scenarios small.toml --html compare.html none fixed-2", "compare.html"},
		{"tune -q --keys backoff --points 1 --importance 0 --search-seeds 4 --seeds 2 --held-out held.toml --duration 20s --out tuned.toml small.toml", "tuned.toml"},
	} {
		var errs bytes.Buffer
		code := run(t.Context(), append([]string{"simulate"}, strings.Fields(c.args)...), strings.NewReader(""), broken{}, &errs)
		if code != exitInternal || !strings.Contains(errs.String(), "could not be written: no room") {
			t.Errorf("%s: exit code %d, %s", c.args, code, &errs)
		}
		if text, err := os.ReadFile(c.file); err != nil || len(text) == 0 {
			t.Errorf("%s: %v", c.args, err)
		}
	}
}

// Each cause of a law is explained.
func TestCausesAreExplained(t *testing.T) {
	for c := range adaptive.NumCauses {
		if causeText[adaptive.Cause(c).String()] == "" {
			t.Errorf("cause %s has no explanation", adaptive.Cause(c))
		}
	}
	if len(causeText) != adaptive.NumCauses {
		t.Errorf("%d explanations of %d causes", len(causeText), adaptive.NumCauses)
	}
}

// A time that came in no world is not shown as one of 0.
func TestDrawsNever(t *testing.T) {
	never := scenario.DrawResult{Kind: "window", Event: "outage", Controller: "none", RoundTrip: time.Second, Settle: -1, Recover: -1}
	groups := group([]string{"window"}, []scenario.Controller{{Name: "none"}}, []scenario.DrawResult{never})
	var text bytes.Buffer
	if err := writeGroups(&text, groups); err != nil {
		t.Fatal(err)
	}
	line := strings.Fields(strings.Split(text.String(), "\n")[1])
	if got, want := strings.Join(line[9:], " "), "– – 1 – – 1 0"; got != want || groups[0].Settle != (quantiles{0, -1, -1, -1, -1, -1}) {
		t.Errorf("settle and recover are %q, want %q; %+v", got, want, groups[0].Settle)
	}
	text.Reset()
	writeDrawBoard(&text, groups, 1)
	if row := "| 0.0000 | 0.0000 | – | 1 | – | 1 |"; !strings.Contains(text.String(), row) {
		t.Errorf("%s has no %s", &text, row)
	}
}

// A seed of draws may be any, and is written in JSON so that all who read it get that one.
func TestDrawsSeed(t *testing.T) {
	const seed = "18446744073709551615"
	stdout, stderr, code := in(t, t.TempDir(), "", "draws", "--json", "--n", "1", "--controllers", "none", "--seed", seed)
	var out map[string]any
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || code != exitOK || out["seed"] != seed {
		t.Errorf("exit code %d, %v, seed %v, %s", code, err, out["seed"], stderr)
	}
}

// The median of an even number of values, such as two seeds, is neither the better nor the worse of the two in the middle.
func TestMiddle(t *testing.T) {
	never := math.Inf(1)
	for _, c := range []struct {
		xs   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{never, 1}, never}, {[]float64{never, 1, 2, 3}, 2.5}, {[]float64{never, never}, never}} {
		if got := middle(c.xs); got != c.want {
			t.Errorf("middle(%v) = %v, want %v", c.xs, got, c.want)
		}
	}
}

// cutAfter returns what simulate prints that is interrupted after so many runs.
func cutAfter(t *testing.T, after int, args ...string) (out, errs string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch = func(done, _ int) {
		if done == after {
			cancel()
		}
	}
	defer func() { watch = nil }()
	out, errs, code := simulate(ctx, "", args...)
	if code != exitInterrupted {
		t.Errorf("exit code %d, want %d; %s", code, exitInterrupted, errs)
	}
	return out, errs
}

// A leaderboard that is interrupted has what everybody has finished, and says so.
func TestLeaderboardInterrupted(t *testing.T) {
	run := func(after int) (string, string) {
		t.Helper()
		return cutAfter(t, after, "leaderboard", "--controllers", "none,ours", "--seeds", "1", "--draws", "9", "--cpus", "1")
	}
	if out, errs := run(1); out != "" || errs != "simulate: interrupted before the first scenario was finished; nothing was written\n" {
		t.Errorf("%q%q", out, errs)
	}
	// In the second scenario.
	out, errs := run(3)
	if !strings.Contains(out, "**Interrupted: this is of 1 of ") || !strings.Contains(out, "## The tuning set: 1 scenarios") || strings.Contains(out, "## The held-out") || strings.Contains(out, "drawn worlds\n") || !strings.Contains(errs, "what is finished is above") {
		t.Errorf("%s%s", out, errs)
	}
}

// A part of a sweep, or of draws, says that it is one, as a part of a report does.
func TestInterruptedParts(t *testing.T) {
	t.Chdir(workdir(t))
	for _, args := range [][]string{
		{"sweep", "--vary", "guard.adaptive.backoff=0.3..0.9:60", "--seeds", "2", "--cpus", "1"}, {"draws", "--n", "40", "--controllers", "none", "--cpus", "1"},
	} {
		for _, stops := range []bool{false, true} {
			want := map[bool]int{false: exitOK, true: exitInterrupted}[stops]
			run := func(more ...string) string {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				watch = func(done, _ int) {
					if stops && done == 6 {
						cancel()
					}
				}
				defer func() { watch = nil }()
				if args[0] == "sweep" {
					more = append(more, "small.toml")
				}
				out, errs, code := simulate(ctx, "", append(slices.Clone(args), more...)...)
				if code != want {
					t.Errorf("%v, stopped %v: exit code %d, %s", args, stops, code, errs)
				}
				return out
			}
			var got struct{ Interrupted *bool }
			if err := json.Unmarshal([]byte(run("--json")), &got); err != nil || got.Interrupted == nil || *got.Interrupted != stops {
				t.Errorf("%v, stopped %v: %v, interrupted %v", args, stops, err, got.Interrupted)
			}
			if out := run(); strings.Contains(out, "\ninterrupted: ") != stops {
				t.Errorf("%v, stopped %v:\n%s", args, stops, out)
			}
		}
	}
}

// When nothing was finished, the decisions of the last time are left as they are.
func TestInterruptLeavesEvents(t *testing.T) {
	t.Chdir(workdir(t))
	before, err := os.ReadFile("events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, errs, code := simulate(ctx, "", "run", "--html", "", "--controllers", "none", "--events", "events.jsonl", "small.toml")
	if code != exitInterrupted || !strings.Contains(errs, "nothing was written") {
		t.Errorf("exit code %d, want %d; %q", code, exitInterrupted, errs)
	}
	if after, err := os.ReadFile("events.jsonl"); err != nil || !bytes.Equal(before, after) {
		t.Errorf("events.jsonl has %d bytes, %v, want the %d of before", len(after), err, len(before))
	}
	if left, _ := filepath.Glob(".events*"); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// Ctrl-C in the middle of runs with --events and --out: what was finished is there, complete.
func TestInterruptKeepsFiles(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := workdir(t)
	cmd := exec.Command(self, "run", "--controllers", "none,ours", "--seeds", "2", "--out", "results", "--events", "events.jsonl", "small.toml", "held.toml", "endless.toml")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var stdout, stderr syncBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, &stderr, "done 8\n") // what comes then has no end
	cmd.Process.Signal(os.Interrupt)
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	cmd.Wait()
	timer.Stop()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.Contains(stdout.String(), "held") {
		t.Fatalf("exit code %d, stderr %s, stdout %s", code, stderr.String(), stdout.String())
	}
	f, err := os.Open(filepath.Join(dir, "results", "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := report.ReadJSON(f)
	if err != nil || !r.Interrupted || len(r.Scenarios) < 2 || len(r.Scenarios[1].Runs[1].PerSeed) != 2 {
		t.Errorf("report.json: %v, %+v", err, r)
	}
	log, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil || !bytes.HasSuffix(log, []byte("}\n")) || !bytes.Contains(log, []byte(`"scenario":"held"`)) {
		t.Errorf("events.jsonl: %v, ends with %.100q", err, log[max(0, len(log)-100):])
	}
}

// The instants of a file of decisions are read as they were written.
func TestEventsKeepInstants(t *testing.T) {
	for at := time.Duration(0); at < time.Minute; at += 123_456_789 {
		text := fmt.Sprintf(`{"scenario":"a","controller":"ours","seed":1,"at_s":%v,"limit":4,"pace_rps":0,"cause":"start","binding":"limit"}`, at.Seconds())
		if a, err := readEvents(strings.NewReader(text), "f", "", "ours", 1); err != nil || a.decisions[0].At != at {
			t.Fatalf("%v is read as %+v, %v", at, a, err)
		}
	}
}

// Whatever the file of decisions has, it is read or refused with a line.
func FuzzReadEvents(f *testing.F) {
	f.Add(`{"scenario":"a","controller":"ours","seed":1,"at_s":0,"limit":4,"pace_rps":0,"cause":"start","binding":"limit"}` + "\n")
	f.Add("\n\n{}\n")
	f.Add(`{"scenario":"a","controller":"ours","seed":1,"at_s":1e300,"limit":-4}`)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := readEvents(strings.NewReader(text), "f", "", "ours", 1)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := a.explain(&b, time.Second); err != nil {
			t.Fatal(err)
		}
		if err := a.list(&b); err != nil {
			t.Fatal(err)
		}
	})
}

// Every axis has values that can be set, in order and without doubles.
func FuzzParseAxis(f *testing.F) {
	for _, s := range []string{"a.b=1,2,3", "a=0.5..0.9:5", "a=log:1..100:9", "a=1..2:2", "a=log:0..1:3", "a=1..1:3", "a=..", "a=log:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAxis(text)
		if err != nil {
			return
		}
		if len(a.values) == 0 || len(a.values) > maxAxis || a.key == "" {
			t.Fatalf("%q gives %+v", text, a)
		}
	})
}

// A range has as many values as are asked for, with fractions where the key takes them, and begins and ends where it says.
func TestSweepOfRanges(t *testing.T) {
	dir := workdir(t)
	for _, c := range []struct{ axis, want string }{
		{"workload.rate=1..2:5", "1 1.25 1.5 1.75 2"},
		{"upstream.concurrency.limit=1..2:5", "1 2"}, // of calls in flight there are no halves
		{"guard.queue=log:1..100:5", "1 3 10 32 100"},
		{"guard.adaptive.backoff=0.12341..0.12349:5", "0.12341 0.12343 0.12345 0.12347 0.12349"},
		{"guard.adaptive.backoff=0.3..0.9:3", "0.3 0.6 0.9"},
		{"guard.queue=1e4..2e4:3", "10000 15000 20000"},
		{"guard.queue=100001..999999:4", "100001 400000 700000 999999"},
		{"guard.adaptive.backoff=0.500049..0.500054:3", "0.500049 0.5000515 0.500054"}, // four digits would be outside
		{"guard.adaptive.backoff=0.12341..0.12349:4", "0.12341 0.1234367 0.1234633 0.12349"},
		{"replica.0.count=1..3:5 three-replicas", "1 2 3"},
	} {
		axis, world, _ := strings.Cut(c.axis, " ")
		stdout, stderr, code := in(t, dir, "", "sweep", "--seeds", "1", "--duration", "2s", "--csv", "--vary", axis, cmp.Or(world, "small.toml"))
		var got []string
		for line := range strings.Lines(stdout) {
			value, _, _ := strings.Cut(line, ",")
			got = append(got, value)
		}
		if code != exitOK || strings.Join(got[1:], " ") != c.want {
			t.Errorf("%s: exit code %d, %s, %q, want %s", c.axis, code, stderr, got, c.want)
		}
	}
}

// A point with no goodput to speak of is not one that no other beats, and one with more goodput beats one that had no successes somewhere, either.
func TestPareto(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	var points []*sweepPoint
	for _, f := range [][2]float64{{0.5, 0.1}, {0.4, 0.2}, {nan, 0}, {0.6, inf}, {0.7, inf}} {
		points = append(points, &sweepPoint{figures: map[string]float64{"goodput": f[0], "rejected_per_ok": f[1]}})
	}
	pareto(points)
	for i, want := range []bool{true, false, false, false, true} {
		if points[i].pareto != want {
			t.Errorf("point %d: pareto is %v", i, points[i].pareto)
		}
	}
}

// A scenario from stdin is the same for every point of a sweep, over the guard or over the world.
func TestSweepOfStdin(t *testing.T) {
	dir := workdir(t)
	text, err := os.ReadFile(filepath.Join(dir, "small.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, axis := range []string{"guard.adaptive.backoff=0.5,0.7", "upstream.concurrency.limit=2,4"} {
		var want string
		for _, name := range []string{"small.toml", "-"} {
			stdout, stderr, code := in(t, dir, string(text), "sweep", "--seeds", "1", "--csv", "--vary", axis, name)
			if code != exitOK || strings.Count(stdout, "\n") != 3 {
				t.Errorf("%s of %s: exit code %d, stderr %s, stdout\n%s", axis, name, code, stderr, stdout)
			}
			if want == "" {
				want = stdout
			} else if stdout != want {
				t.Errorf("%s of stdin gives\n%s\nof the file\n%s", axis, stdout, want)
			}
		}
	}
}

// A sweep keeps the figures of a point, and neither its series nor its worlds: a grid of a thousand points of all scenarios took 46 GB.
func TestSweepForgets(t *testing.T) {
	if raceDetector {
		t.Skip("memory is not measured with the race detector")
	}
	dir := workdir(t)
	for _, axis := range []string{"guard.adaptive.backoff=0.3..0.9:60", "upstream.concurrency.limit=1..60:60"} {
		heap := map[int]uint64{}
		watch = func(done, _ int) {
			if done == 10 || done == 60 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				heap[done] = m.HeapAlloc
			}
		}
		_, stderr, code := in(t, dir, "", "sweep", "--seeds", "1", "--cpus", "1", "--vary", axis, "small.toml")
		watch = nil
		if code != exitOK || heap[60] == 0 {
			t.Fatalf("exit code %d, stderr %s, heaps %v", code, stderr, heap)
		}
		if most := heap[10] + 50*10_000; heap[60] > most {
			t.Errorf("%s: with 10 points there are %d bytes, with 60 %d, want at most %d", axis, heap[10], heap[60], most)
		}
	}
}

// A file that is replaced keeps its place behind a symbolic link, and who may read it; what an open file is called (/dev/stdout) is no place to move a file to.
func TestFilesStayWhereTheyAre(t *testing.T) {
	t.Chdir(workdir(t))
	if err := os.Mkdir("www", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.html", "events.jsonl", "open.jsonl"} {
		if err := os.WriteFile(filepath.Join("www", name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"r.html", "e.jsonl"} {
		target := map[string]string{"r.html": "www/report.html", "e.jsonl": "www/events.jsonl"}[name]
		if err := os.Symlink(target, name); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
	}
	_, errs, code := simulate(t.Context(), "", "run", "--seeds", "1", "--controllers", "ours", "--html", "r.html", "--events", "e.jsonl", "small.toml")
	if code != exitOK {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	for link, at := range map[string]string{"r.html": "www/report.html", "e.jsonl": "www/events.jsonl"} {
		if st, err := os.Lstat(link); err != nil || st.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%s is no symbolic link any more: %v, %v", link, st.Mode(), err)
		}
		if st, err := os.Stat(at); err != nil || st.Size() < 100 || st.Mode().Perm() != 0o600 {
			t.Errorf("%s has %d bytes and %v, want it replaced, for its owner alone: %v", at, st.Size(), st.Mode(), err)
		}
	}
	// A link may be there before its file.
	if err := os.Remove("www/events.jsonl"); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := simulate(t.Context(), "", "run", "-q", "--seeds", "1", "--controllers", "ours", "--html", "", "--events", "e.jsonl", "small.toml"); code != exitOK {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	if st, err := os.Lstat("www/events.jsonl"); err != nil || !st.Mode().IsRegular() {
		t.Errorf("the file that the link leads to: %v", err)
	}
	open, err := os.OpenFile("www/open.jsonl", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	name := fmt.Sprintf("/dev/fd/%d", open.Fd())
	if _, err := os.Stat(name); err != nil {
		t.Skipf("open files have no names here: %v", err)
	}
	if _, errs, code := simulate(t.Context(), "", "run", "-q", "--seeds", "1", "--controllers", "ours", "--html", "", "--events", name, "small.toml"); code != exitOK {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if text, err := os.ReadFile("www/open.jsonl"); err != nil || !bytes.HasPrefix(text, []byte(`old{"scenario":"small"`)) {
		t.Errorf("the file that is open has %.40q, %v", text, err)
	}
}

// Only the names of open files are written where they are: a file in memory is under /dev, too, and was made longer by each run.
func TestFilesInMemory(t *testing.T) {
	memory, err := os.MkdirTemp("/dev/shm", "simulate")
	if err != nil {
		t.Skipf("no files in memory here: %v", err)
	}
	defer os.RemoveAll(memory)
	t.Chdir(workdir(t))
	page := filepath.Join(memory, "r.html")
	for range 2 {
		if _, errs, code := simulate(t.Context(), "", "run", "-q", "--seeds", "1", "--controllers", "ours", "--html", page, "small.toml"); code != exitOK {
			t.Fatalf("exit code %d, %s", code, errs)
		}
	}
	if text, err := os.ReadFile(page); err != nil || bytes.Count(text, []byte("</html>")) != 1 {
		t.Errorf("the page is there %d times, %v", bytes.Count(text, []byte("</html>")), err)
	}
}

// Events and the table go to one file, and neither is written over the other.
func TestEventsBesideTheTable(t *testing.T) {
	if _, err := os.Stat("/dev/stdout"); err != nil {
		t.Skipf("open files have no names here: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := workdir(t)
	out, err := os.Create(filepath.Join(dir, "both"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(self, "run", "-q", "--seeds", "1", "--controllers", "ours", "--html", "", "--events", "/dev/stdout", "small.toml")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil || !bytes.HasPrefix(text, []byte(`{"scenario":"small"`)) || !bytes.Contains(text, []byte("\nsmall  60 s\n")) {
		t.Errorf("%v, the file begins with\n%.300s", err, text)
	}
}

// Who reads the table goes away before it comes, as in simulate run | head: the files are written all the same.
func TestReaderGoesAway(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := workdir(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd := exec.Command(self, "run", "--controllers", "ours", "--seeds", "1", "--out", "results", "small.toml")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var stderr syncBuffer
	cmd.Stdout, cmd.Stderr = w, &stderr
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != exitInternal || !strings.Contains(stderr.String(), "the table could not be written") {
		t.Errorf("the program ends with %v, stderr %s", cmd.ProcessState, stderr.String())
	}
	for _, name := range []string{"report.html", "report.json", "series.csv"} {
		if _, err := os.Stat(filepath.Join(dir, "results", name)); err != nil {
			t.Error(err)
		}
	}
}

// --scenarios is heeded where both sides are reports, too, so that one scenario that has changed does not keep all others from being compared; what is for
// runs is refused.
func TestCompareChoosesFromReports(t *testing.T) {
	dir := workdir(t)
	t.Chdir(dir)
	small, err := os.ReadFile("small.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []string{"2", "3"} {
		other := strings.Replace(string(small), `"small"`, `"other"`, 1)
		if err := os.WriteFile("other.toml", []byte(regexp.MustCompile(`(?m)^limit = .*`).ReplaceAllString(other, "limit = "+limit)), 0o644); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := in(t, dir, "", "run", "--controllers", "fixed-4", "--seeds", "2", "--html", "", "--json", "small.toml", "other.toml")
		if err := os.WriteFile(limit+".json", []byte(stdout), 0o644); err != nil || code != exitOK {
			t.Fatal(err, code, stderr)
		}
	}
	if err := os.Remove("other.toml"); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile("2.json")
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(whole, []byte(`"name":"other"`))
	partly := append(slices.Clone(whole[:at]), bytes.Replace(whole[at:], []byte(`"fixed-4"`), []byte(`"fixed-5"`), 1)...)
	if err := os.WriteFile("partly.json", partly, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"2.json 3.json", "other: is not the same in both", exitMisuse},
		{"--scenarios small 2.json 3.json", "equivalent in 1", exitOK},
		{"--scenarios other 2.json 2.json", "equivalent in 1", exitOK},
		{"--scenarios capacity-step 2.json 3.json", "no scenario in common", exitMisuse},
		{"--set guard.max_wait=1s 2.json 2.json", "--set is for what is run", exitMisuse},
		{"2.json partly.json", `partly.json has no controller "fixed-4" in other, only fixed-5: not compared`, exitOK},
		{"2.json partly.json", "only one of the two was run in other: not compared", exitOK},
		{"2.json partly.json", "of 1 scenario: ", exitOK},
		{"--controller fixed-5 2.json partly.json", `2.json has no controller "fixed-5" in small, other, only fixed-4: choose one`, exitMisuse},
	} {
		args := append([]string{"compare", "--controller", "fixed-4"}, strings.Fields(c.args)...)
		if stdout, stderr, code := in(t, dir, "", args...); code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%s: exit code %d, %s%s; want %d, %s", c.args, code, stdout, stderr, c.code, c.want)
		}
	}
}

// Ctrl-C during a search: what was found is printed and written, and nothing of it is recommended.
func TestTuneInterrupted(t *testing.T) {
	dir := workdir(t)
	t.Chdir(dir)
	defer func() { watch = nil }()
	for _, test := range []struct {
		at   int // evaluations of a stage: of the race 6 points with 4 seeds, of the proof 2 with 8
		want string
		seen bool
	}{{24, "# Keep your config: it was interrupted before anything was put to the test.", false}, {16, "# Keep your config: it was interrupted before the proof was finished.", true}} {
		ctx, cancel := context.WithCancel(t.Context())
		before := 0
		watch = func(done, _ int) {
			if done-before == test.at {
				cancel()
			}
			before = done
		}
		run := func(more ...string) (string, string) {
			args := []string{"tune", "--keys", "backoff", "--points", "4", "--importance", "0", "--search-seeds", "4", "--seeds", "8", "--held-out", "held.toml", "--set", "guard.adaptive.backoff=0.11"}
			stdout, stderr, code := simulate(ctx, "", append(append(args, more...), "small.toml")...)
			if code != exitInterrupted {
				t.Errorf("exit code %d, want %d; %s", code, exitInterrupted, stderr)
			}
			return stdout, stderr
		}
		out, errs := run("--out", "tuned.toml")
		if !strings.HasPrefix(out, test.want) || strings.Contains(out, "# unseen seeds") != test.seen || !strings.Contains(out, "# the front: ") || strings.Contains(out, "\n[guard") {
			t.Errorf("at %d: %s%s", test.at, out, errs)
		}
		if !strings.Contains(errs, "what was found is above, and nothing is recommended") {
			t.Errorf("at %d: stderr is %q", test.at, errs)
		}
		if file, err := os.ReadFile(filepath.Join(dir, "tuned.toml")); err != nil || string(file) != out {
			t.Errorf("at %d: tuned.toml: %v, %s", test.at, err, file)
		}
		if _, errs = run("--json"); !strings.Contains(errs, "before the first points had met their seeds; nothing was written") { // the context is over
			t.Errorf("stderr is %q", errs)
		}
		cancel()
	}
}

// Ctrl-C during the runs of suites: bounds whose runs were finished are decided, the others are not, and no baseline is made of a part.
func TestAssertInterrupted(t *testing.T) {
	dir := workdir(t)
	t.Chdir(dir)
	for name, text := range map[string]string{
		"one.toml": "name = \"one\"\nseeds = 4\nbaseline = \"golden.json\"\nassert = [\"small.toml none: goodput >= 1%\", \"held.toml none: goodput >= 1%\", \"worst(small.toml,held.toml) none: goodput >= 1%\"]\n",
		"two.toml": "name = \"two\"\nseeds = 4\nassert = [\"small.toml none: goodput >= 1%\"]\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(after int, args ...string) (string, string) {
		t.Helper()
		return cutAfter(t, after, append([]string{"assert", "--cpus", "1"}, args...)...)
	}
	out, errs := run(6, "--junit", "junit.xml", "--html", "page.html", "one.toml", "two.toml")
	if got := strings.Count(out, "interrupted before its runs were finished"); got != 3 || !strings.Contains(out, "\n1 kept, 0 broken, 3 inconclusive\ninterrupted: ") {
		t.Errorf("%d bounds are said to be unfinished, want 3:\n%s%s", got, out, errs)
	}
	for _, name := range []string{"junit.xml", "page.html"} {
		if text, err := os.ReadFile(name); err != nil || !bytes.Contains(text, []byte("small")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Also where the suites that are in it are whole, and others were not begun.
	run(4, "--html", "part.html", "two.toml", "one.toml")
	if text, err := os.ReadFile("part.html"); err != nil || !bytes.Contains(text, []byte("this is a part of the report")) {
		t.Errorf("the page of two suites with one of them finished does not say so (%v)", err)
	}
	var j struct {
		Interrupted bool
		Results     []struct{ State, Words string }
	}
	out, _ = run(6, "--json", "one.toml")
	if err := json.Unmarshal([]byte(out), &j); err != nil || !j.Interrupted || len(j.Results) != 3 || j.Results[0].State != "kept" || j.Results[1].State != "inconclusive" {
		t.Errorf("%v: %s", err, out)
	}
	if _, errs = run(6, "--update", "one.toml"); !strings.Contains(errs, "the baseline was not written") {
		t.Errorf("stderr is %q", errs)
	}
	if _, err := os.Stat("golden.json"); err == nil {
		t.Error("a part was made a baseline")
	}
	if out, errs = run(2, "one.toml"); out != "" || !strings.Contains(errs, "before the runs of a scenario were finished; nothing was written") {
		t.Errorf("%s%s", out, errs)
	}
	// What an earlier look found stays, with its numbers.
	if err := os.WriteFile("auto.toml", []byte("name = \"auto\"\nseeds = 64\nauto = true\nassert = [\"small.toml none: rejected_per_ok >= 50%\", \"held.toml fixed-4: goodput >= 99.99%\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, errs = run(10, "auto.toml"); !regexp.MustCompile(`1 kept, 0 broken, 1 inconclusive`).MatchString(out) || strings.Contains(out, "runs were finished") || !strings.Contains(out, ", 4 seeds") {
		t.Errorf("%s%s", out, errs)
	}
}
