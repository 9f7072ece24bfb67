package limiter

import "github.com/flyball-go/flyball/adaptive"

// Needs is what a guard makes use of in the outcomes of calls that ended well. Whoever reads answers need not find out the rest.
type Needs struct {
	// FirstByte is Outcome.FirstByte.
	FirstByte bool
	// Began is Permit.Began, of streams.
	Began bool
	// Tokens is Outcome.InputTokens, OutputTokens and CachedTokens.
	Tokens bool
	// Windows is Outcome.Windows, but for limits on calls in flight, which are always needed.
	Windows bool
}

// Needs returns what the guard makes use of: what its law wants (adaptive.Modest), and with a Budget the tokens
// and windows. It may change with a Reload.
func (g *Guard) Needs() Needs { return g.set.Load().needs }

// needs returns the Needs of a guard made from c.
func (c *Config) needs() (n Needs) {
	law := c.Law
	if law == nil {
		law = adaptive.New(c.Adaptive)
	}
	n = Needs(adaptive.WantsOf(law))
	if c.Budget != nil {
		n.Tokens, n.Windows = true, true
	}
	return n
}
