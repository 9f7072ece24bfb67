package main

import (
	"fmt"
	"io"
	"time"
)

// progress is a line that says how far a long command is, with an estimate of the rest. It is only shown on a terminal.
type progress struct {
	w           io.Writer // nil: not shown
	began, last time.Time
	shown       bool
}

// newProgress returns a line on w.
func newProgress(w io.Writer) *progress {
	if !terminal(w) {
		w = nil
	}
	return &progress{w: w, began: time.Now()}
}

// show says that done of total runs are finished.
func (p *progress) show(done, total int) {
	now := time.Now()
	if p.w == nil || now.Sub(p.last) < 100*time.Millisecond || now.Sub(p.began) < 300*time.Millisecond {
		return
	}
	p.last, p.shown = now, true
	rest := time.Duration(float64(now.Sub(p.began)) / float64(done) * float64(total-done))
	fmt.Fprintf(p.w, "\r%d of %d runs, about %v left \x1b[K", done, total, rest.Round(time.Second))
}

// clear removes the line.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
