package adaptive

// At a refusal a quota is used up. What passes from then on it gives, whatever it can save up: so it gives at least that much a second, but for the call
// that it may have had a part of. And while the pace is below what it gives, it refuses nothing: so it gives less than the fastest pace since the refusal before.
const (
	// leastCalls is how many calls must have passed since a refusal to say how much a quota gives at least.
	leastCalls = 4
	// leastSlack is by which share the fastest pace may be below what a quota was seen to give.
	leastSlack = 0.01
	// climbFrom is how many times what a quota is known to give a pace must be to have risen above it.
	climbFrom = 1.02
	// savedUp is how many calls, and twice what it is known to save up, must have passed above what a quota is known to give for it to give more.
	savedUp = 8
)

// LeastState is what a quota of requests gives at least.
type LeastState struct {
	Gives float32 // calls a second; 0: not known
	Most  float32 // the fastest pace since the anchor, a second
	Over  float32 // calls since the pace rose above what the quota is known to give
	Since float32 // in how many s
}

// passed notes that n calls passed in the dt seconds since a refusal, at most at a pace of rate.
func (l *LeastState) passed(n, dt, rate float64) {
	l.Most = max(l.Most, float32(rate))
	if n >= leastCalls && dt > 0 {
		l.Gives = max(l.Gives, float32((n-1)/dt))
	}
}

// climbed notes that n calls started in dt seconds at a pace of rate, where a quota is known to give known.
func (l *LeastState) climbed(n, dt, rate, known float64) {
	if rate <= climbFrom*known {
		l.Over, l.Since = 0, 0
		return
	}
	l.Over, l.Since = l.Over+float32(n), l.Since+float32(dt)
}

// grew returns what a quota gives that is known to give known and may have saved up depth when the pace rose above that: u of the calls since are on their
// way, and one was refused. over is how many more passed than are known of. 0: they do not say that it gives more.
func (l *LeastState) grew(known, depth, u float64) (rate, over float64) {
	if l.Since <= 0 {
		return 0, 0
	}
	n, dt := float64(l.Over)-u-1, float64(l.Since)
	over = max(0, n-known*dt)
	l.Over, l.Since = 0, 0
	if over <= savedUp+2*depth {
		return 0, over
	}
	return (n - 2*depth) / dt, over
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
	for _, f := range [...]*float32{&l.Gives, &l.Most, &l.Since} {
		*f = float32(between(float64(*f), 0, unbounded))
	}
	l.Over = float32(between(float64(l.Over), -unbounded, unbounded)) // calls that were in flight may turn out to be refused
}
