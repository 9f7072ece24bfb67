package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sample() *report {
	r := &report{Date: "2026-01-02T03:04:05Z", Command: "go run ./bench", Seconds: 1, Machine: machine{CPU: "CPU", CPUs: 2, Go: "go1"}}
	t := &table{Name: "pair", Title: "a pair", Columns: []string{"ns", "x A"}}
	t.add("A", plain(exact(4)), plain(exact(1)))
	t.add("something long", plain(spread{1234.4, 1200, 1300}), quartiles(spread{2.5, 2, 3}))
	t.miss("absent", "not offered by the library")
	t.note("A note.")
	r.Tables = append(r.Tables, t)
	r.Targets = []target{atMost("pair", 2, "A", exact(2.5)), absent(atMost("other", 1, "", missing), "not offered")}
	return r
}

func TestTextIsAligned(t *testing.T) {
	var b bytes.Buffer
	sample().writeText(&b)
	want := `a pair             ns         x A
A                   4           1
something long  1,234  2.50 (2-3)
absent          not offered by the library
  A note.

target  wanted     measured  reached
pair    <= 2 A         2.50       no
other     <= 1  not offered       no
0 of 2 targets were reached. Missed: pair; other.
`
	if got := b.String(); !strings.Contains(got, want) {
		t.Errorf("text:\n%s\nwant it to contain:\n%s", got, want)
	}
}

func TestJSONHasNoNaN(t *testing.T) {
	var b bytes.Buffer
	if err := sample().writeJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Tables []struct {
			Rows []struct {
				Cells []*spread
			}
		}
		Targets []struct {
			Measured *spread
			Reached  string
		}
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, b.String())
	}
	if c := got.Tables[0].Rows[1].Cells[1]; *c != (spread{2.5, 2, 3}) {
		t.Errorf("cell = %+v", c)
	}
	if got.Targets[0].Reached != missed || got.Targets[1].Measured != nil {
		t.Errorf("targets = %+v, want both missed and the second without a measurement", got.Targets)
	}
}

func TestFigure(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 1: "1", 64: "64", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234.5: "1,234", 1234567: "1,234,567", -1234: "-1,234",
		0.001: "0.00", 23456789: "2.35e+07",
	} {
		if got := figure(x); got != want {
			t.Errorf("figure(%v) = %q, want %q", x, got, want)
		}
	}
}

func TestReplaceSection(t *testing.T) {
	got, err := replaceSection("before\n"+beginMark+"old\n"+endMark+"after\n", "new\n")
	if want := "before\n" + beginMark + "\nnew\n\n" + endMark + "after\n"; err != nil || got != want {
		t.Errorf("replaceSection = %q, %v; want %q", got, err, want)
	}
	for _, bad := range []string{"", beginMark, endMark + beginMark} {
		if _, err := replaceSection(bad, ""); err == nil {
			t.Errorf("replaceSection(%q) found its marks", bad)
		}
	}
}

// The whole command with next to no time: every section runs, and every target is said to be reached or not.
func TestEverySectionRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	var out, words bytes.Buffer
	if code := run([]string{"-time", "500ms", "-json"}, &out, &words); code != 0 {
		t.Fatalf("exit code %d: %s", code, words.String())
	}
	var r struct {
		Tables []struct {
			Name string
			Rows []struct{ Name string }
		}
		Targets []struct{ Name, Reached string }
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Tables) != len(sections) {
		t.Errorf("%d tables, want %d", len(r.Tables), len(sections))
	}
	for i, table := range r.Tables {
		if table.Name != sections[i].name || len(table.Rows) < 3 {
			t.Errorf("table %d is %q with %d rows, want %q", i, table.Name, len(table.Rows), sections[i].name)
		}
	}
	if len(r.Targets) < 19 {
		t.Errorf("%d targets, want all 19", len(r.Targets))
	}
	for _, target := range r.Targets {
		if target.Reached != reached && target.Reached != missed {
			t.Errorf("target %q: %s", target.Name, target.Reached)
		}
	}
}

func TestCommandLine(t *testing.T) {
	document := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(document, []byte("before\n"+beginMark+endMark+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		out  string // what stdout, or else stderr, contains
	}{
		{"-help", 0, "examples:"},
		{"-filter (", exitMisuse, "-filter: error parsing regexp"},
		{"-nonsense", exitMisuse, "not defined"},
		{"everything", exitMisuse, "everything"},
		{"-check -filter refused", exitMisuse, "\"refused\" matches none of pair,"},
		{"-time -5s -filter refuse", exitMisuse, "-time is -5s"},
		{"-time 100ms -filter refuse -markdown", 0, "| refusal | <= 1.50 A |"},
		{"-update no/such/file", exitFailed, "no such file"},
		{"-time 100ms -filter refuse -update " + document, 0, ""},
	} {
		var out, words bytes.Buffer
		if code := run(strings.Fields(tt.args), &out, &words); code != tt.code || !strings.Contains(out.String()+words.String(), tt.out) {
			t.Errorf("bench %s: exit code %d, want %d and %q in:\n%s%s", tt.args, code, tt.code, tt.out, out.String(), words.String())
		}
	}
	if code := run([]string{"-time", "100ms", "-filter", "refuse"}, brokenWriter{}, io.Discard); code != exitFailed {
		t.Errorf("on a full disk: exit code %d, want %d", code, exitFailed)
	}
	if text, _ := os.ReadFile(document); !strings.Contains(string(text), "| refusal |") || !strings.HasSuffix(string(text), "after\n") {
		t.Errorf("the document is\n%s", text)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// What somebody writes in the document while the minute lasts stays.
func TestUpdateKeepsWhatWasWritten(t *testing.T) {
	document := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(document, []byte("before\n"+beginMark+endMark+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	begun := writerFunc(func(line []byte) {
		if bytes.Contains(line, []byte("refuse")) {
			if err := os.WriteFile(document, []byte("written meanwhile\n"+beginMark+endMark+"after\n"), 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	if code := run([]string{"-time", "100ms", "-filter", "refuse", "-update", document}, io.Discard, begun); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	text, _ := os.ReadFile(document)
	if !strings.HasPrefix(string(text), "written meanwhile\n") || !strings.Contains(string(text), "| refusal |") {
		t.Errorf("the document is\n%s", text)
	}
	st, err := os.Stat(document)
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(document), ".doc*"))
	if err != nil || st.Mode().Perm() != 0o600 || len(left) > 0 {
		t.Errorf("%v, mode %v, beside it %v", err, st.Mode(), left)
	}
}

// A document that cannot be updated is found out before the minute; one that can no longer be after it costs no measurement.
func TestUpdateThatFails(t *testing.T) {
	dir := t.TempDir()
	marked := []byte(beginMark + endMark)
	full := filepath.Join(dir, strings.Repeat("x", 250)+".md") // nothing can be written beside it: its name would be too long
	document := filepath.Join(dir, "doc.md")
	for _, path := range []string{full, document} {
		if err := os.WriteFile(path, marked, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var stdout bytes.Buffer
	begun := false
	spoil := writerFunc(func(line []byte) {
		if bytes.Contains(line, []byte("refuse")) {
			begun = true
			os.WriteFile(document, []byte("without marks\n"), 0o644)
		}
	})
	if code := run([]string{"-time", "100ms", "-filter", "refuse", "-update", full}, &stdout, spoil); code != exitFailed || begun || stdout.Len() > 0 {
		t.Errorf("exit code %d, begun %v: %s", code, begun, &stdout)
	}
	if code := run([]string{"-time", "100ms", "-filter", "refuse", "-update", document}, &stdout, spoil); code != exitFailed || !strings.Contains(stdout.String(), "| refusal |") {
		t.Errorf("exit code %d: %s", code, &stdout)
	}
	if text, _ := os.ReadFile(document); string(text) != "without marks\n" {
		t.Errorf("the document is %s", text)
	}
}

// -check passes only what was reached: not what was not measured, nor nothing.
func TestCheck(t *testing.T) {
	good, bad, unknown := atMost("a", 1, "", spread{Median: 1}), atMost("b", 1, "", spread{Median: 2}), atMost("c", 1, "", missing)
	for _, test := range []struct {
		targets []target
		code    int
		says    string
	}{
		{[]target{good}, 0, ""}, {[]target{good, bad}, exitMissed, ""}, {[]target{good, unknown}, exitMissed, "c: not measured"}, {nil, exitMissed, "no target"},
	} {
		var words bytes.Buffer
		if code := checked(test.targets, &words); code != test.code || !strings.Contains(words.String(), test.says) {
			t.Errorf("%+v: exit code %d, want %d; %q", test.targets, code, test.code, words.String())
		}
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }
