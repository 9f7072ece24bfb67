package limiter

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/flyball-go/flyball/adaptive"
)

// LogDecisions returns a function for Guard.OnDecision that logs decisions with their cause and numbers, at
// level Info, at most perSecond (>= 1) of them a second on average and in bursts; how many were left out
// is said with the next one. Growth, of which there is most (slow start, probes, recovery), leaves almost half of them to what people look for:
// cuts, pauses and other changes. A pace that alone has changed, as it does with each header that states one, is logged when it is twice or half
// what was logged before. A nil logger means slog.Default().
func LogDecisions(logger *slog.Logger, guard string, perSecond int) func(Decision) {
	if logger == nil {
		logger = slog.Default()
	}
	perSecond = max(1, perSecond)
	var (
		mu      sync.Mutex
		left    = float64(perSecond)
		last    time.Duration
		skipped int
		told    Decision
	)
	return func(d Decision) {
		mu.Lock()
		if d.Limit == told.Limit && d.Cause == told.Cause && d.Binding == told.Binding && d.Episode == told.Episode && d.NotBefore == told.NotBefore &&
			!moved(d.Pace, told.Pace) && !moved(d.TokenPace, told.TokenPace) {
			mu.Unlock()
			return
		}
		left = min(float64(perSecond), left+max(0, d.At-last).Seconds()*float64(perSecond))
		last = max(last, d.At)
		least := 1.0
		switch d.Cause {
		case adaptive.CauseSlowStart, adaptive.CauseProbe, adaptive.CauseRecovery:
			least += float64((perSecond - 1) / 2)
		}
		if left < least {
			skipped++
			mu.Unlock()
			return
		}
		left--
		n := skipped
		skipped, told = 0, d
		mu.Unlock()
		attrs := make([]slog.Attr, 0, 8)
		attrs = append(attrs,
			slog.String("guard", guard), slog.String("cause", d.Cause.String()), slog.Int("limit", d.Limit))
		if d.Pace > 0 {
			attrs = append(attrs, slog.Float64("pace", d.Pace))
		}
		if d.TokenPace > 0 {
			attrs = append(attrs, slog.Float64("token_pace", d.TokenPace))
		}
		attrs = append(attrs, slog.String("binding", d.Binding.String()), slog.Uint64("episode", uint64(d.Episode)))
		if n > 0 {
			attrs = append(attrs, slog.Int("skipped", n))
		}
		logger.LogAttrs(context.Background(), slog.LevelInfo, "limit changed", attrs...)
	}
}

// moved reports whether a pace is another one for who reads a log.
func moved(a, b float64) bool { return a != b && (a >= 2*b || b >= 2*a) }
