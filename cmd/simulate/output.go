package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/report"
)

// outputFlags choose what a command that makes a report writes.
func outputFlags(html string) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "json", Usage: "print JSON instead of the table; simulate report and compare read it"},
		&cli.BoolFlag{Name: "csv", Usage: "print CSV instead of the table: one line for each scenario, controller and seed"},
		&cli.BoolFlag{Name: "svg", Usage: "print a picture instead of the table"},
		&cli.StringFlag{Name: "html", Usage: "`FILE` for the page with charts; empty for none", Value: html},
		&cli.StringFlag{Name: "out", Usage: "`DIR` for everything: report.html, report.json, seeds.csv, series.csv, overview.svg and a picture of each scenario"},
	}
}

// say writes words to stderr, unless --quiet.
func (e *env) say(c *cli.Context, format string, args ...any) {
	if !c.Bool("quiet") {
		fmt.Fprintf(e.stderr, "simulate: "+format+"\n", args...)
	}
}

// oneOf reports that more than one of the flags is set.
func oneOf(c *cli.Context, names ...string) error {
	var set []string
	for _, n := range names {
		if c.Bool(n) {
			set = append(set, "--"+n)
		}
	}
	if len(set) > 1 {
		return fmt.Errorf("%s are given: stdout has room for one; --out DIR writes all", strings.Join(set, " and "))
	}
	return nil
}

// publish prints a report and writes its files. What can be written is written, whatever becomes of the rest.
func (e *env) publish(c *cli.Context, r *report.Report) error {
	var errs []error
	// The table comes first: it is there whatever becomes of the files.
	if err := e.printReport(c, r); err != nil {
		errs = append(errs, fmt.Errorf("the table could not be written: %w", err))
	}
	html, dir := c.String("html"), c.String("out")
	if len(r.Scenarios) == 0 {
		return internalAll(errs)
	}
	if dir != "" {
		if !c.IsSet("html") {
			html = filepath.Join(dir, "report.html")
		}
		n, err := writeAll(dir, r)
		if err != nil {
			errs = append(errs, fmt.Errorf("not everything could be written to %s: %w; what is there is complete; name another directory with --out", dir, err))
		}
		if n > 0 {
			e.say(c, "wrote %d files to %s", n, dir)
		}
	}
	if html != "" {
		if err := writeReport(html, r); err != nil {
			errs = append(errs, fmt.Errorf("the report could not be written: %w; the table is complete; name another file with --html", err))
		} else {
			e.say(c, "wrote %s", html)
		}
	}
	return internalAll(errs)
}

func internalAll(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return internal(errors.Join(errs...))
}

// printReport writes the report to stdout in the form that was asked for, in one piece.
func (e *env) printReport(c *cli.Context, r *report.Report) error {
	return e.write(func(w io.Writer) error {
		switch {
		case c.Bool("json"):
			return report.WriteJSON(w, r)
		case c.Bool("csv"):
			return report.WriteCSV(w, r)
		case c.Bool("svg"):
			return report.WriteSVG(w, r)
		}
		return report.WriteText(w, r, report.TextOptions{Color: color(e.stdout)})
	})
}

// writeReport writes the page of a report.
func writeReport(path string, r *report.Report) error {
	return writeFile(path, func(w io.Writer) error { return report.WriteHTML(w, r) })
}

// write writes to stdout in one piece.
func (e *env) write(write func(io.Writer) error) error { return inOnePiece(e.stdout, write) }

// aside writes words to stdout in one piece, and with --json, which has stdout for itself, to stderr.
func (e *env) aside(c *cli.Context, write func(io.Writer) error) error {
	if c.Bool("json") {
		return inOnePiece(e.stderr, write)
	}
	return e.write(write)
}

func inOnePiece(w io.Writer, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// writeAll writes every form of a report into a directory and returns how many files it wrote.
func writeAll(dir string, r *report.Report) (int, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	type file struct {
		name  string
		write func(io.Writer) error
	}
	files := []file{
		{"report.json", func(w io.Writer) error { return report.WriteJSON(w, r) }},
		{"seeds.csv", func(w io.Writer) error { return report.WriteCSV(w, r) }},
		{"series.csv", func(w io.Writer) error { return report.WriteSeriesCSV(w, r) }},
		{"overview.svg", func(w io.Writer) error { return report.WriteSVG(w, r) }},
	}
	taken := map[string]bool{"overview": true}
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		name := fileName(s.Name)
		for n := 2; taken[strings.ToLower(name)]; n++ { // some file systems take a and A for the same
			name = fmt.Sprintf("%s-%d", fileName(s.Name), n)
		}
		taken[strings.ToLower(name)] = true
		files = append(files, file{name + ".svg", func(w io.Writer) error { return report.WriteTimelineSVG(w, r, s) }})
	}
	n := 0
	var errs []error
	for _, f := range files {
		if err := writeFile(filepath.Join(dir, f.name), f.write); err != nil {
			errs = append(errs, err)
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

// fileName is name without what has a meaning in paths.
func fileName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
	if strings.Trim(name, ".") == "" {
		return "scenario"
	}
	return strings.TrimLeft(name, ".")
}

// A placed is a file that is written beside its place and then moved there, so that a full disk or an interruption leaves the
// one of the last run as it is.
type placed struct {
	*os.File
	path string      // where it goes; empty for one that is written where it is
	mode fs.FileMode // of it
	ours bool        // it is stdout or stderr, which stays open
}

// newPlaced begins a file. What is no regular file, such as a device, and what is named by an open file (/dev/stdout) is written where it is; a symbolic
// link stays one, and the file that it leads to is replaced.
func newPlaced(path string) (*placed, error) {
	b := &placed{path: path, mode: 0o644}
	var err error
	if st, e := os.Stat(path); e == nil {
		abs, _ := filepath.Abs(path)
		named := openName.MatchString(abs)
		if named || !st.Mode().IsRegular() { // a directory says so itself
			b.path = ""
			for _, f := range []*os.File{os.Stdout, os.Stderr} {
				// Opened anew, a file that both lead to would have two ends, and what is printed would be written over what is in it.
				if own, e := f.Stat(); e == nil && named && os.SameFile(own, st) {
					b.File, b.ours = f, true
					return b, nil
				}
			}
			b.File, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			return b, err
		}
		b.mode = st.Mode().Perm()
		if at, err := filepath.EvalSymlinks(path); err == nil {
			b.path = at
		}
	} else if to, bad := os.Readlink(path); bad == nil && errors.Is(e, fs.ErrNotExist) { // of a link that leads to no file yet
		if !filepath.IsAbs(to) {
			to = filepath.Dir(path) + string(filepath.Separator) + to
		}
		return newPlaced(to)
	}
	b.File, err = os.CreateTemp(filepath.Dir(b.path), "."+filepath.Base(b.path)+".*")
	return b, err
}

// openName is what names an open file.
var openName = regexp.MustCompile(`^/(dev/(stdin|stdout|stderr|fd/.*)|proc/.*)$`)

// Close closes the file, unless it is stdout or stderr.
func (b *placed) Close() error {
	if b.ours {
		return nil
	}
	return b.File.Close()
}

// discard leaves what was there as it is.
func (b *placed) discard() {
	_ = b.Close()
	if b.path != "" {
		_ = os.Remove(b.Name())
	}
}

// finish closes the file and moves it to its place, or discards it after the error err, which it then returns.
func (b *placed) finish(err error) error {
	if b.path == "" {
		return cmp.Or(err, b.Close())
	}
	if e := b.Chmod(b.mode); err == nil && !errors.Is(e, errors.ErrUnsupported) {
		err = e
	}
	if e := b.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(b.Name(), b.path)
	}
	if err != nil {
		_ = os.Remove(b.Name())
	}
	return err
}

// writeFile writes a file beside its place and then moves it there.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := newPlaced(path)
	if err != nil {
		return err
	}
	return f.finish(write(f))
}

// version names the program as far as the build knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	words := []string{"flyball"}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		words = append(words, v)
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			revision = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+changes"
		}
	}
	if revision != "" && !strings.Contains(strings.Join(words, " "), revision) {
		words = append(words, revision+modified)
	}
	return strings.Join(append(words, info.GoVersion), " ")
}
