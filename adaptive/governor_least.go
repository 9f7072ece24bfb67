package adaptive

// At a refusal a quota is used up. What passes from then on it gives, whatever it can save up: so it gives at least that much a second, but for the call
// that it may have had a part of. And while the pace is below what it gives, it refuses nothing: so it gives less than the fastest pace since the refusal before.
const (
	// leastCalls is how many calls must have passed since a refusal to say how much a quota gives at least.
	leastCalls = 4
	// leastSlack is by which share the fastest pace may be below what a quota was seen to give.
	leastSlack = 0.01
)

// LeastState is what a quota of requests gives at least.
type LeastState struct {
	Gives float32 // calls a second; 0: not known
	Most  float32 // the fastest pace since the anchor, a second
}

// passed notes that n calls passed in the dt seconds since a refusal, at most at a pace of rate.
func (l *LeastState) passed(n, dt, rate float64) {
	l.Most = max(l.Most, float32(rate))
	if n >= leastCalls && dt > 0 {
		l.Gives = max(l.Gives, float32((n-1)/dt))
	}
}

// refused notes a refusal at a pace of rate.
func (l *LeastState) refused(rate float64) {
	l.Most = max(l.Most, float32(rate))
	if l.Most < l.Gives*(1-leastSlack) {
		l.Gives = 0 // it gives less now, or others use it, too
	}
}

// sound moves what is remembered into range.
func (l *LeastState) sound() {
	l.Gives, l.Most = float32(between(float64(l.Gives), 0, unbounded)), float32(between(float64(l.Most), 0, unbounded))
}
