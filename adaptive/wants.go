package adaptive

// Wants is which facts of calls that ended well a law makes use of, besides how many there were and how
// long they took. What nobody wants need not be found out, which is most of what an HTTP call through a guard costs.
type Wants struct {
	// FirstByte is the time to the first byte (Window.FirstByte).
	FirstByte bool
	// Began is when the answers of streams begin; see [Listener].
	Began bool
	// Tokens is what calls used (Window.Tokens, Window.OutputTokens).
	Tokens bool
	// Windows are limits of requests and tokens that a header describes (Hint). Limits on calls in flight are
	// always told.
	Windows bool
}

// A Modest law says what it wants. A law that does not gets everything.
type Modest interface {
	Wants() Wants
}

// WantsOf returns what a law wants.
func WantsOf(l Law) Wants {
	if m, ok := l.(Modest); ok {
		return m.Wants()
	}
	_, listens := l.(Listener)
	return Wants{FirstByte: true, Began: listens, Tokens: true, Windows: true}
}

// Wants implements [Modest]: the law goes by refusals, by what is told of limits, and by the tokens that were used: for
// the pace of tokens, and for throughput. Of streams it is told when they begin, which costs nothing.
func (g *Governor) Wants() Wants { return Wants{Began: true, Tokens: true, Windows: true} }

// Wants implements [Modest]: the law goes by refusals, and by limits on calls in flight.
func (l *AIMD) Wants() Wants { return Wants{} }

// Wants implements [Modest].
func (f *Fixed) Wants() Wants { return Wants{} }
