package adaptive

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flyball-go/flyball/feedback"
)

// A law that says that it does not want something decides the same with it and without.
func TestLawsWantWhatTheySay(t *testing.T) {
	for name, newLaw := range map[string]func() Law{
		"governor": func() Law { return New(Config{Initial: 8}) },
		"aimd":     func() Law { return NewAIMD(Config{Initial: 8}) },
		"fixed":    func() Law { return NewFixed(8) },
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				with, without := newLaw(), newLaw()
				wants := WantsOf(with)
				now := time.Duration(0)
				for range rapid.IntRange(1, 40).Draw(t, "events") {
					now += time.Duration(rapid.Int64Range(0, int64(5*time.Second)).Draw(t, "pause"))
					n := rapid.IntRange(1, 50).Draw(t, "calls")
					if rapid.IntRange(0, 5).Draw(t, "refused") == 0 {
						c := Call{SentAt: max(0, now-time.Second), Episode: with.Decision().Episode, InFlight: n}
						o := Outcome{Class: feedback.Throttled}
						with.Ended(now, c, o)
						without.Ended(now, c, o)
						continue
					}
					w := Window{Start: max(0, now-time.Second), OK: n, Timed: n, Latency: time.Duration(n) * time.Second, MinLatency: time.Second, MaxInFlight: n, Full: true}
					less := w
					w.FirstBytes, w.FirstByte = n, time.Duration(rapid.Int64Range(1, int64(time.Second)).Draw(t, "first byte"))
					w.Tokens, w.OutputTokens = int64(2*n), int64(n)
					if wants.FirstByte {
						less.FirstBytes, less.FirstByte = w.FirstBytes, w.FirstByte
					}
					if wants.Tokens {
						less.Tokens, less.OutputTokens = w.Tokens, w.OutputTokens
					}
					with.Window(now, w)
					without.Window(now, less)
					hint := feedback.Window{
						Kind:  feedback.Scope(rapid.IntRange(0, feedback.NumScopes-1).Draw(t, "kind")),
						Limit: rapid.Int64Range(-1, 20).Draw(t, "limit"), Remaining: rapid.Int64Range(-1, 20).Draw(t, "remaining"),
					}
					with.Hint(now, hint)
					if wants.Windows || hint.Kind == feedback.ScopeConcurrency {
						without.Hint(now, hint)
					}
					if a, b := with.Decision(), without.Decision(); a != b {
						t.Fatalf("with what it does not want %+v, without %+v", a, b)
					}
				}
			})
		})
	}
}

func TestWhoDoesNotSayGetsAll(t *testing.T) {
	if got := WantsOf(struct{ Law }{NewFixed(1)}); got != (Wants{FirstByte: true, Tokens: true, Windows: true}) {
		t.Errorf("a law that does not say wants %+v, want everything", got)
	}
}
