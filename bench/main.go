// Command bench measures what a guard costs, beside what else a program could use, and says which of the
// project's targets are reached.
//
//	go run ./bench                 # everything, about a minute
//	go run ./bench -quick          # the same in some ten seconds, with wider spreads
//	go run ./bench -filter 'pair|refuse'
//	go run ./bench -json > run.json
//	go run ./bench -update docs/performance.md
//
// Numbers are to be compared within one run only: every contender runs for a moment in each of many rounds,
// ratios are taken within a round, and the median of them is printed with its quartiles.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Exit codes.
const (
	exitFailed = 1
	exitMisuse = 2
	exitMissed = 3 // -check, and a target was missed
)

func main() {
	defer end()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// A section measures one thing.
type section struct {
	name  string
	share float64 // of the whole time
	run   func(*bench) error
}

var sections = []section{
	{"pair", 0.17, pair},
	{"contended", 0.10, contended},
	{"work", 0.09, contendedWork},
	{"saturated", 0.17, saturatedFew},
	{"saturated4096", 0.13, saturatedMany},
	{"saturated1", 0.08, saturatedOne},
	{"refuse", 0.04, refuse},
	{"tail", 0.07, tail},
	{"cancel", 0.07, cancelWaiting},
	{"memory", 0.03, memory},
	{"http", 0.05, overHTTP},
}

// bench is one run.
type bench struct {
	report report
	budget time.Duration // for the section that runs
	keys   int           // how many guards the memory section makes
	crowd  []int         // how many callers the cancel section has waiting, and in how many rounds
}

// table starts a table of the report.
func (b *bench) table(name, title string, columns ...string) *table {
	t := &table{Name: name, Title: title, Columns: columns}
	b.report.Tables = append(b.report.Tables, t)
	return t
}

// target adds a target to the report.
func (b *bench) target(t target) { b.report.Targets = append(b.report.Targets, t) }

func run(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	var (
		asJSON   = f.Bool("json", false, "print JSON")
		markdown = f.Bool("markdown", false, "print Markdown")
		update   = f.String("update", "", "replace the measured section of this Markdown `file`")
		quick    = f.Bool("quick", false, "take some ten seconds instead of a minute")
		total    = f.Duration("time", 0, "how long to measure (default 42s, or 6s with -quick)")
		filter   = f.String("filter", "", "run the sections whose name matches this `regexp`: "+sectionNames())
		check    = f.Bool("check", false, "exit with status 3 when a target is missed, or could not be measured")
		note     = f.String("note", "", "a `sentence` about the machine, for the output")
	)
	f.Usage = func() {
		fmt.Fprintf(stderr, "usage: go run ./bench [flags]\n\n")
		f.PrintDefaults()
		fmt.Fprintf(stderr, `
examples:
  go run ./bench
  go run ./bench -quick -filter 'pair|refuse'
  go run ./bench -json > run.json
  go run ./bench -update docs/performance.md -note "The machine was idle otherwise."
`)
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return exitMisuse
	}
	want, err := regexp.Compile(*filter)
	switch matches := func(s section) bool { return want.MatchString(s.name) }; {
	case f.NArg() > 0:
		err = fmt.Errorf("there are no arguments, and %q is one", f.Args())
	case err != nil:
		err = fmt.Errorf("-filter: %w", err)
	case !slices.ContainsFunc(sections, matches): // with -check, nothing measured would be nothing missed
		err = fmt.Errorf("-filter: %q matches none of %s", *filter, sectionNames())
	case *total < 0:
		err = fmt.Errorf("-time is %v, must be longer than 0", *total)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return exitMisuse
	}
	if *update != "" {
		// A document that cannot be updated is found out before the minute, not after it.
		if err := updateFile(*update, nil); err != nil {
			fmt.Fprintln(stderr, err)
			return exitFailed
		}
	}
	b := &bench{keys: 100_000, crowd: []int{10_000, 100_000}}
	if *total == 0 {
		*total = 42 * time.Second
		if *quick {
			*total = 6 * time.Second
			b.keys, b.crowd = 20_000, []int{3000, 30_000}
		}
	}
	if *total < 3*time.Second {
		b.keys, b.crowd = 1000, []int{1000, 10_000}
	}
	b.report.Date = time.Now().Format(time.RFC3339)
	b.report.Command = strings.TrimSpace("go run ./bench " + strings.Join(f.Args(), " ") + flagsForReport(f))
	b.report.Note = *note
	b.report.Machine = thisMachine()
	// Two, on any machine, so that runs can be compared: the targets are stated for two.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(min(2, runtime.NumCPU())))
	b.report.Machine.GOMAXPROCS = runtime.GOMAXPROCS(0)

	start := time.Now()
	for _, s := range sections {
		if !want.MatchString(s.name) {
			continue
		}
		fmt.Fprintf(stderr, "%5.1f s  %s\n", time.Since(start).Seconds(), s.name)
		b.budget = time.Duration(s.share * float64(*total))
		runtime.GC()
		if err := s.run(b); err != nil {
			fmt.Fprintf(stderr, "bench: %s: %v\n", s.name, err)
			return exitFailed
		}
	}
	b.report.Seconds = time.Since(start).Seconds()

	var text strings.Builder
	switch {
	case *update != "":
		b.report.writeMarkdown(&text)
		section := text.String()
		if err = updateFile(*update, &section); err == nil {
			text.Reset()
		} else if _, e := io.WriteString(stdout, section); e != nil { // so that the minute is not lost
			err = errors.Join(err, e)
		}
	case *asJSON:
		err = b.report.writeJSON(&text)
	case *markdown:
		b.report.writeMarkdown(&text)
	default:
		b.report.writeText(&text)
	}
	if err == nil {
		_, err = io.WriteString(stdout, text.String())
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	if *check {
		return checked(b.report.Targets, stderr)
	}
	return 0
}

// checked returns the exit code of -check. What was not measured was not reached.
func checked(targets []target, stderr io.Writer) int {
	code := 0
	if len(targets) == 0 {
		fmt.Fprintln(stderr, "bench: -check: no target is about these sections")
		code = exitMissed
	}
	for _, t := range targets {
		if t.Reached != reached {
			code = exitMissed
		}
		if t.Reached == notMeasured {
			fmt.Fprintf(stderr, "bench: -check: %s: not measured\n", t.Name)
		}
	}
	return code
}

// updateFile replaces the measured section of a document, as it is by then: somebody may have written in it during the minute. It is written beside its place
// and moved there, so that an interruption leaves a whole one. With a nil section it only looks whether that can be done.
func updateFile(path string, section *string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	document, err := replaceSection(string(text), *cmp.Or(section, new(string)))
	if err != nil {
		return err
	}
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	if section == nil {
		return errors.Join(f.Close(), os.Remove(f.Name()))
	}
	_, err = f.WriteString(document)
	if st, e := os.Stat(path); err == nil && e == nil {
		err = f.Chmod(st.Mode().Perm())
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func sectionNames() string {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}

// flagsForReport returns the flags that change what is measured, as they would be typed.
func flagsForReport(f *flag.FlagSet) string {
	var b strings.Builder
	f.Visit(func(g *flag.Flag) {
		switch g.Name {
		case "quick":
			b.WriteString(" -quick")
		case "time", "filter":
			fmt.Fprintf(&b, " -%s %s", g.Name, g.Value)
		}
	})
	return b.String()
}

// thisMachine says where the process runs.
func thisMachine() machine {
	m := machine{CPU: "unknown CPU", CPUs: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(text), " ")
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			switch d.Path {
			case "golang.org/x/sync", "golang.org/x/time", "github.com/failsafe-go/failsafe-go",
				"github.com/platinummonkey/go-concurrency-limits":
				m.Modules = append(m.Modules, d.Path+" "+d.Version)
			}
		}
	}
	slices.SortFunc(m.Modules, cmp.Compare[string])
	return m
}
