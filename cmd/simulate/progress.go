package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
)

// progress is a line that says how far a long command is, with an estimate of the rest. It is only shown on a terminal.
type progress struct {
	w           io.Writer // nil: not shown
	unit        string
	began, last time.Time
	shown       bool
}

// newProgress returns a line on w that counts runs.
func newProgress(w io.Writer) *progress {
	p := &progress{w: w, unit: "runs", began: time.Now()}
	if !terminal(w) {
		p.w = nil
	}
	return p
}

// progress returns a line on stderr that counts units.
func (e *env) progress(c *cli.Context, unit string) *progress {
	p := newProgress(e.stderr)
	p.unit = unit
	if c.Bool("quiet") {
		p.w = nil
	}
	return p
}

// watch, when set, is told of each run that is finished, shown or not, and of a search of each stage; tests wait for it.
var watch func(done, total int)

// show says that done of total are finished.
func (p *progress) show(done, total int) {
	if watch != nil {
		watch(done, total)
	}
	now := time.Now()
	if p.w == nil || now.Sub(p.last) < 100*time.Millisecond || now.Sub(p.began) < 300*time.Millisecond {
		return
	}
	p.last, p.shown = now, true
	rest := time.Duration(float64(now.Sub(p.began)) / float64(max(1, done)) * float64(total-done))
	fmt.Fprintf(p.w, "\r%d of %d %s, about %v left \x1b[K", done, total, p.unit, rest.Round(time.Second))
}

// note shows a text instead, such as the stage that a search is in.
func (p *progress) note(format string, args ...any) {
	now := time.Now()
	if p.w == nil || now.Sub(p.last) < 100*time.Millisecond {
		return
	}
	p.last, p.shown = now, true
	fmt.Fprintf(p.w, "\r"+format+" \x1b[K", args...)
}

// clear removes the line.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
