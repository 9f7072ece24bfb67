package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/upstream"
)

// signal is what an attempt ends with, as package feedback read it.
type signal struct {
	known   bool
	status  int // 0: there was no answer
	retry   bool
	stage   upstream.Stage
	counter upstream.Counter
	outcome adaptive.Outcome
}

// signals reads replies, those that are equal once. Replies are real: a status, header fields and a body, read by
// the code that reads them in production.
type signals struct {
	epoch   time.Time
	all     []signal // by the reply's ID
	once    signal   // of a reply without one
	windows []feedback.Window
	wrong   error
}

// reset forgets the replies of an earlier run.
func (s *signals) reset() {
	clear(s.all)
	*s = signals{all: s.all[:0], windows: s.windows[:0]}
}

// read returns what a reply means that reaches its caller at now. It is valid until the next call.
func (s *signals) read(rep *upstream.Reply, now int64) *signal {
	if rep.ID < 0 {
		s.once = s.parse(rep, now, s.windows[:0])
		s.windows = s.once.outcome.Windows[:0]
		return &s.once
	}
	for len(s.all) <= rep.ID {
		s.all = append(s.all, signal{})
	}
	sig := &s.all[rep.ID]
	if !sig.known {
		*sig = s.parse(rep, now, nil)
	}
	return sig
}

func (s *signals) parse(rep *upstream.Reply, now int64, windows []feedback.Window) signal {
	if s.epoch.IsZero() {
		s.epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) // upstream.Config's
	}
	f := feedback.Parse(feedback.Answer{Status: rep.Status, Header: rep.Header, Body: rep.Body, Now: s.epoch.Add(time.Duration(now)), Windows: windows})
	if f.Class == feedback.OK && rep.Stage != upstream.StageNone && s.wrong == nil {
		s.wrong = fmt.Errorf("sim: feedback reads a refusal with status %d as OK", rep.Status)
	}
	sig := signal{
		known: true, status: rep.Status, retry: f.Retryable, stage: rep.Stage, counter: rep.Counter,
		outcome: adaptive.Outcome{
			Class: f.Class, Scope: f.Scope,
			HasRetryAfter: f.HasRetryAfter, RetryAfter: f.RetryAfter, UntilReset: f.UntilReset,
			Windows: f.Windows,
		},
	}
	// Limits that are stated in words are hints, too, as for limiter.OutcomeFrom.
	for _, st := range f.Stated {
		if st.Limit >= 0 {
			sig.outcome.Windows = append(slices.Clip(sig.outcome.Windows), feedback.Window{
				Kind: st.Kind, Limit: st.Limit, Remaining: feedback.Unstated, Reset: feedback.Unstated,
			})
		}
	}
	return sig
}

// understood reports a refusal that package feedback took for a success.
func (s *signals) understood() error { return s.wrong }

// What an attempt ends with that has no answer.
var (
	gaveUp   = signal{known: true, outcome: adaptive.Outcome{Class: feedback.Canceled}}
	timedOut = signal{known: true, retry: true, outcome: adaptive.Outcome{Class: feedback.Timeout}}
	overdue  = signal{known: true, retry: true, outcome: adaptive.Outcome{Class: feedback.Timeout, Deadline: true}}
)
