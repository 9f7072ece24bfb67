package trace

import (
	"fmt"
	"time"
)

// extent is when a trace begins and how long it lasts. A part of one has the bounds that it was cut at; else the last request is followed by a mean gap.
func (t *Trace) extent() (start, period time.Duration) {
	if t.window > 0 {
		return 0, t.window
	}
	return t.Rows[0].At, t.Span() + max(t.Span()/time.Duration(len(t.Rows)), time.Millisecond)
}

// Window returns the requests that came in [from, to), with from as their start. A to of 0 means the end. It lasts as long whether or not requests came at
// its ends.
func (t *Trace) Window(from, to time.Duration) (*Trace, error) {
	if to == 0 {
		to = MaxAt + 1
	}
	if from < 0 || to <= from {
		return nil, fmt.Errorf("trace: the window from %v to %v is empty: give from < to", from, to)
	}
	w := *t
	if len(t.Rows) > 0 {
		start, period := t.extent()
		w.window = min(to, start+period) - from
	}
	w.Rows = nil
	for _, r := range t.Rows {
		if r.At >= from && r.At < to {
			r.shift(-from)
			w.Rows = append(w.Rows, r)
		}
	}
	if len(w.Rows) == 0 {
		return nil, fmt.Errorf("trace: %s has no request between %v and %v; it lasts %v", t.Name, from, to, t.Span())
	}
	return &w, nil
}

// Demand is a trace as a workload: what comes when, and how large it is.
type Demand struct {
	Rows []Row
	// Duration is how long requests come.
	Duration time.Duration
}

// DemandOptions are how a trace is made a workload. The zero DemandOptions leave it as it is.
type DemandOptions struct {
	// TimeScale is how many times slower it goes (> 0): 2 makes a minute two minutes. Zero means 1.
	TimeScale float64
	// RateScale is how many requests come for each one of the trace (> 0). Zero means 1. Those that are added come within the
	// time to the next one of the trace, and are as large as theirs.
	RateScale float64
	// Duration is how long requests come; a trace that is shorter begins again, one that is longer is cut. Zero means as
	// long as the trace, in whole seconds.
	Duration time.Duration
}

// Demand makes a trace a workload.
func (t *Trace) Demand(opt DemandOptions) (*Demand, error) {
	if opt.TimeScale == 0 {
		opt.TimeScale = 1
	}
	if opt.RateScale == 0 {
		opt.RateScale = 1
	}
	if !(opt.TimeScale >= 1e-3 && opt.TimeScale <= 1e3) || !(opt.RateScale >= 1e-6 && opt.RateScale <= 1e3) || opt.Duration < 0 {
		return nil, fmt.Errorf("trace: time scale %v (0.001 to 1000), rate scale %v (0.000001 to 1000) or duration %v (>= 0) is out of range", opt.TimeScale, opt.RateScale, opt.Duration)
	}
	if len(t.Rows) == 0 {
		return nil, fmt.Errorf("trace: %s has no request", t.Name)
	}
	start, period := t.extent()
	d := &Demand{Duration: opt.Duration}
	if d.Duration == 0 {
		d.Duration = scale(period, opt.TimeScale)
		if whole := time.Second; d.Duration > 10*whole { // a round number to read
			d.Duration = (d.Duration + whole - 1) / whole * whole
		}
	}
	owed := 0.0 // requests that the rate scale still owes, in (-1, 0.5]
	for round := 0; ; round++ {
		for i, r := range t.Rows {
			next := start + period
			if i+1 < len(t.Rows) {
				next = t.Rows[i+1].At
			}
			owed += opt.RateScale
			n := int(owed + 0.5)
			owed -= float64(n)
			for k := range n {
				c := r
				at := r.At - start + (next-r.At)/time.Duration(n)*time.Duration(k)
				c.At = scale(at, opt.TimeScale) + time.Duration(round)*scale(period, opt.TimeScale)
				c.Deadline = r.Deadline
				c.Seen, c.Header = false, nil
				if c.At >= d.Duration {
					return d.ready()
				}
				if len(d.Rows) >= maxRows {
					return nil, fmt.Errorf("trace: %d requests are too many: shorten the duration or lower the rate scale", len(d.Rows))
				}
				d.Rows = append(d.Rows, c)
			}
		}
		if opt.Duration == 0 || scale(period, opt.TimeScale)*time.Duration(round+1) >= d.Duration {
			return d.ready()
		}
	}
}

func (d *Demand) ready() (*Demand, error) {
	if len(d.Rows) == 0 {
		return nil, fmt.Errorf("trace: nothing is left to replay: raise the duration or the rate scale")
	}
	return d, nil
}

func scale(d time.Duration, by float64) time.Duration {
	if by == 1 {
		return d
	}
	return time.Duration(min(float64(d)*by, 1<<62)) // beyond it would be before the start
}
