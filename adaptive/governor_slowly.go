package adaptive

// Where calls take long, each latency in slow start is much of what a caller waits for, and a refusal is known long before they end. So as long as nothing was refused,
// each end raises the limit by more there.
const (
	// longGain is by how much each call that ends well raises the limit where calls take longer than longCall, and longSpread how much faster they may start than
	// they end: as much more as that takes.
	longGain, longSpread = 3.0, 1.9
)

// slowGain returns by how much each call that ends well raises the limit in slow start.
func (g *Governor) slowGain() float64 {
	if g.slowly() {
		return longGain
	}
	return slowStartGain
}

// slowSpread returns how much faster calls may start than they end in slow start.
func (g *Governor) slowSpread() float64 {
	if g.slowly() {
		return longSpread
	}
	return spreadFactor
}

// slowly reports whether calls take long and nothing says sooner how they do: neither a refusal nor answers that begin.
func (g *Governor) slowly() bool {
	s := &g.s
	return s.Mean > longCall && s.Refused == 0 && s.Begin.Of == 0
}
