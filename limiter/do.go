package limiter

import (
	"context"
	"errors"

	"github.com/flyball-go/flyball/feedback"
)

// Do acquires a permit, calls f, and releases the permit with what became of it, also when f panics.
// When f fails in a way that may pass, it is called again, after a delay and with a new permit, as
// Config.Retry says. Do returns f's last error, or the reason why f was not called at all.
//
// The outcome is read from the error: nil is a success, an error made by [Fail] carries its own,
// a refusal by another guard says nothing, and every other error is read by feedback.FromError. See DoOutcome for calls that know what they used.
func (g *Guard) Do(ctx context.Context, r Request, f func(context.Context) error) error {
	return g.DoOutcome(ctx, r, func(ctx context.Context, _ *Outcome) error { return f(ctx) })
}

// DoOutcome is Do for a function that knows more of how a call ended than whether it failed: the tokens that it used, limits that a
// header told. It writes that into the Outcome that it is given, which is empty at first. An error says what it says to Do, but for what the
// function wrote: a class other than feedback.OK, tokens, windows.
func (g *Guard) DoOutcome(ctx context.Context, r Request, f func(context.Context, *Outcome) error) error {
	var last error
	for attempt := 1; ; attempt++ {
		p, err := g.Acquire(ctx, r)
		if err != nil {
			if last != nil {
				return last
			}
			return err
		}
		o, err := call(ctx, &p, f)
		if err == nil || ctx.Err() != nil || !Retryable(&o, r.Idempotent) {
			return err
		}
		delay, ok := g.MayRetry(ctx, attempt, &o)
		if !ok || g.Sleep(ctx, delay) != nil {
			return err
		}
		last = err
		r.Retry = true
	}
}

// call calls f and releases p with what became of it.
func call(ctx context.Context, p *Permit, f func(context.Context, *Outcome) error) (o Outcome, err error) {
	ended := false
	defer func() {
		if !ended {
			o = Outcome{Class: feedback.Canceled} // a panic says nothing about the upstream
		}
		p.Release(o)
	}()
	err = f(ctx, &o)
	ended = true
	o = merged(ctx, o, err)
	return o, err
}

// merged returns what a call ended with that wrote told and returned err.
func merged(ctx context.Context, told Outcome, err error) Outcome {
	if err == nil || told.Class != feedback.OK {
		return told
	}
	o := OutcomeOf(ctx, err)
	if o.Tokens() == 0 {
		o.InputTokens, o.OutputTokens, o.CachedTokens = told.InputTokens, told.OutputTokens, told.CachedTokens
	}
	if len(o.Windows) == 0 {
		o.Windows = told.Windows
	}
	return o
}

// A failure is an error with the outcome that it means for a guard.
type failure struct {
	err     error
	outcome Outcome
}

// Fail returns an error that tells Do how the call ended: o for the guard, err for everybody else.
// It returns nil when err is nil.
func Fail(o Outcome, err error) error {
	if err == nil {
		return nil
	}
	return &failure{err, o}
}

// Error returns the text of the error that Fail was given.
func (f *failure) Error() string { return f.err.Error() }

// Unwrap returns the error that Fail was given.
func (f *failure) Unwrap() error { return f.err }

// OutcomeOf returns what err, returned by a call that was made with ctx, means for a guard; see Do.
func OutcomeOf(ctx context.Context, err error) Outcome {
	if err == nil {
		return Outcome{}
	}
	var f *failure
	if errors.As(err, &f) {
		return f.outcome
	}
	if errors.Is(err, ErrRejected) {
		return Outcome{Class: feedback.Canceled} // another guard refused, which says nothing about the upstream
	}
	return OutcomeFrom(feedback.FromError(ctx, err))
}

// OutcomeFrom returns the outcome that an answer's signal means. Limits that the answer states in words count as
// hints, as those of its header fields do. A delay beside a limit of zero counts as none: it would keep back whoever asks for something else,
// and no wait helps.
func OutcomeFrom(s feedback.Signal) Outcome {
	o := Outcome{
		Class: s.Class, Scope: s.Scope,
		HasRetryAfter: s.HasRetryAfter, RetryAfter: s.RetryAfter, UntilReset: s.UntilReset,
		Windows: s.Windows,
	}
	if s.Zero {
		o.HasRetryAfter, o.RetryAfter, o.UntilReset = false, 0, false
	}
	for _, st := range s.Stated {
		if st.Limit >= 0 {
			o.Windows = append(o.Windows[:len(o.Windows):len(o.Windows)], feedback.Window{
				Kind: st.Kind, Limit: st.Limit, Remaining: feedback.Unstated, Reset: feedback.Unstated,
			})
		}
	}
	return o
}
