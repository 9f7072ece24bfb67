package adaptive

import "math"

// A long answer is no queue, and a call of another kind none either. What calls take is compared with what such calls take: those of each
// class, and of those that tell tokens a time for each call and one for each token of its answer.

const (
	// sizeCalls is how many calls tell how their time grows with their tokens, and sizeMemory of about how many that is known.
	sizeCalls, sizeMemory = 8, 128
	// classCalls is how many calls of a class tell how long they take beside others, and classMemory of how many that is known at most.
	classCalls, classMemory = 4, 64
	// mostClass bounds by how much classes differ, as a logarithm.
	mostClass = 20
	// mostOff bounds by how much longer than others a call takes that the line regards, as a logarithm, and mostWeight how many mean calls one counts as.
	mostOff, mostWeight = 3.0, 3.0
	// lineMemory is of about how many calls it is known how their time grows with calls in flight, lineCalls how many it takes to know by how
	// much they differ, and flightCalls how many to know how steep that is.
	lineMemory, lineCalls, flightCalls = 256, 128, 24
	// lineMoved is what its memory is divided by when the limit was lowered.
	lineMoved = 4
	// sizeNoise is the most that calls of one size may differ by, as a logarithm, for their time to say how much gets done.
	sizeNoise = 0.35
	// flatHold and flatCut are how steep the time of calls is over calls in flight, as logarithms, where the limit rises no more, and, by a standard
	// error at least, where it is lowered: 1 is where more in flight get no more done.
	flatHold, flatCut = 0.7, 0.9
	// flatStep is the share that it is lowered to, and flatLeast the share of the mean level of the line below which it is not lowered to see how steep that is:
	// what a step tells should be seen before the next.
	flatStep, flatLeast = 0.97, 0.95
	// worse is the share of what the same level did before, below which fewer are tried, and worseStep how many.
	worse, worseStep = 0.75, 0.8
	// sizeStep is the largest step of probing, as a share of the limit, where the time of calls says how much gets done.
	sizeStep = 1.0 / 16
	// blockMost bounds the sums of a block.
	blockMost = 1e14
)

// What the rate of a block counts.
const (
	byCalls   = iota // calls, or tokens
	bySize           // calls, each as much as it is long by its class
	byLatency        // calls in flight, by how long they take for their size: Little's law
)

// SizeState is what is known of how long calls take by what they are, and of how that grows with calls in flight. Times are logarithms
// of s, and for calls that tell tokens of s a token.
type SizeState struct {
	// Of calls that tell tokens: how many (at most about 128), and sums of 1/time, tokens/time and their products.
	N, U, V, UU, UV, VV float32
	// Of each class: by how much longer a call takes than a mean one, where each counts as much as it takes.
	Class [numClasses]float32
	Line  FlightState
	// Of each class: its share of the time that calls took, in units of 1/math.MaxUint16.
	Share [numClasses]uint16
	// Of each class: how many calls tell that, at most 64.
	Of [numClasses]uint8
	// First is the class that was first, plus 1; 0: none was.
	First uint8
	// Mixed says that there was another: until then, and without tokens, all calls are of one size.
	Mixed bool
}

// FlightState is a line through how long calls take over how many were in flight meanwhile, both as logarithms: how many calls, the
// means, the sums of squares and products about them, all of which forget, and the variance of what the line does not explain; 0: not known.
type FlightState struct {
	N, X, Y, XX, XY, YY, Rest float32
}

// add adds k calls that took y with x in flight.
func (l *FlightState) add(k, x, y float64) {
	keep, w := float32(lineMemory/(lineMemory+k)), float32(k)
	l.N, l.XX, l.XY, l.YY = l.N*keep, l.XX*keep, l.XY*keep, l.YY*keep
	f := w * l.N / (l.N + w)
	dx, dy := float32(x)-l.X, float32(y)-l.Y
	l.XX, l.XY, l.YY = l.XX+f*dx*dx, l.XY+f*dx*dy, l.YY+f*dy*dy
	l.N += w
	l.X, l.Y = l.X+dx*w/l.N, l.Y+dy*w/l.N
	if l.N >= lineCalls {
		slope := float32(0)
		if l.XX > 1e-4*l.N {
			slope = l.XY / l.XX
		}
		l.Rest = max(1e-4, (l.YY-slope*l.XY)/(l.N-2))
	}
}

// fit returns how steep the line is, and the standard error of that.
func (l *FlightState) fit() (slope, sigma float64) {
	if l.N < flightCalls || l.Rest == 0 || l.XX <= 1e-4*l.N {
		return 0, math.Inf(1)
	}
	return float64(l.XY / l.XX), math.Sqrt(float64(l.Rest / l.XX))
}

// moved forgets most of the line, since the limit is another now, and how steep it is may be, too.
func (l *FlightState) moved() {
	l.N, l.XX, l.XY, l.YY = l.N/lineMoved, l.XX/lineMoved, l.XY/lineMoved, l.YY/lineMoved
}

// at returns what a call took lately with x in flight.
func (l *FlightState) at(x float64) float64 {
	slope := 0.0
	if l.XX > 1e-3*l.N {
		slope = between(float64(l.XY/l.XX), 0, 1)
	}
	return float64(l.Y) + slope*(x-float64(l.X))
}

// sound reports whether z is a state that learning may lead to.
func (z *SizeState) sound() bool {
	const most = 1e30
	ok := z.First <= numClasses && (z.First > 0 || !z.Mixed)
	for _, f := range [...]float32{z.N, z.U, z.V, z.UU, z.UV, z.VV, z.Line.N, z.Line.XX, z.Line.YY, z.Line.Rest} {
		ok = ok && f >= 0 && f <= most
	}
	for _, f := range [...]float32{z.Line.X, z.Line.Y, z.Line.XY} {
		ok = ok && f >= -most && f <= most
	}
	for _, f := range z.Class {
		ok = ok && f >= -mostClass && f <= mostClass
	}
	return ok
}

// told reports whether sizes are in tokens.
func (z *SizeState) told() bool { return z.N >= sizeCalls }

// tell adds k calls that took m seconds and had tokens on average.
func (z *SizeState) tell(k, m, tokens float64) {
	before := z.told()
	keep, w := float32(sizeMemory/(sizeMemory+k)), float32(k)
	u, v := float32(1/max(m, 1e-6)), float32(tokens/max(m, 1e-6))
	z.N = z.N*keep + w
	z.U, z.V = z.U*keep+w*u, z.V*keep+w*v
	z.UU, z.UV, z.VV = z.UU*keep+w*u*u, z.UV*keep+w*u*v, z.VV*keep+w*v*v
	if z.told() && !before {
		// Until now they were in calls.
		*z = SizeState{N: z.N, U: z.U, V: z.V, UU: z.UU, UV: z.UV, VV: z.VV}
	}
}

// start returns how many tokens a call takes as long for as for what it does before the first: the least relative squares of
// time = a + b*tokens.
func (z *SizeState) start() float64 {
	u, v, uu, uv, vv := float64(z.U), float64(z.V), float64(z.UU), float64(z.UV), float64(z.VV)
	if d := uu*vv - uv*uv; !(d > 1e-6*uu*vv) {
		return 0
	}
	a, b := u*vv-v*uv, v*uu-u*uv
	mean := v / max(u, 1e-9) // tokens, of a short call
	if b <= 0 {
		return 100 * mean // tokens say nothing
	}
	return between(a/b, 0, 100*mean)
}

// plain returns the size of a call apart from its class; 0 when it is not known.
func (z *SizeState) plain(tokens float64) float64 {
	switch {
	case !z.told():
		return 1
	case tokens > 0:
		return tokens + z.start()
	}
	return 0
}

// learn adds k calls of a class of a size (see plain) that took m seconds with n in flight, while calls take mean seconds on average, and returns the size of one
// with regard to its class; 0 when that is not known yet.
func (z *SizeState) learn(class uint8, k, m, size, n, mean float64) float64 {
	if !(m > 0 && size > 0 && n >= 1) {
		return 0
	}
	c := class % numClasses
	if z.First == 0 {
		z.First = c + 1
	}
	z.Of[c] = uint8(min(float64(z.Of[c])+k, classMemory))
	if !z.Mixed && z.First != c+1 {
		z.Mixed, z.Share[z.First-1] = true, math.MaxUint16
	}
	if !z.Mixed && !z.told() {
		return size
	}
	x, y := math.Log(n), math.Log(m/size)
	if !z.Mixed {
		z.Line.add(k, x, y)
		return size
	}
	if z.Line.N > 0 {
		z.classed(c, k, m/max(mean, 1e-9), y-z.Line.at(x))
	}
	if z.First != c+1 && z.Of[c] < classCalls {
		return 0
	}
	y -= float64(z.Class[c])
	size *= math.Exp(float64(z.Class[c]))
	if z.Line.N > 0 {
		// Throughput is sizes, together, by times, together. Where short calls wait as long as long ones, they take many times as long, and little more gets done
		// if they do not.
		mid := float64(z.Line.Y)
		y = mid + math.Expm1(min(y-mid, mostOff))
		k *= between(size*math.Exp(mid)/max(mean, 1e-9), 1/mostWeight, mostWeight)
	}
	z.Line.add(k, x, y)
	return size
}

// classed learns from k calls of a class c that took times as long as a mean call, and off, as a logarithm, longer than the line says of a mean one. What calls take
// on the whole stays as it is: or it would seem to change while more in flight makes calls of one class longer by more than those of another.
func (z *SizeState) classed(c uint8, k, times, off float64) {
	share := float64(z.Share[c]) / math.MaxUint16
	move := between(off, -mostClass, mostClass) - float64(z.Class[c])
	if z.Of[c] == classMemory {
		move = math.Expm1(min(move, 1)) // as the line has it
	}
	move *= min(1, k/float64(z.Of[c]))
	gain := min(1, k*times/classMemory)
	for i := range z.Class {
		to := 0.0
		switch {
		case i == int(c):
			to, z.Class[i] = math.MaxUint16, float32(between(float64(z.Class[i])+move*(1-share), -mostClass, mostClass))
		case z.Of[i] == 0:
			continue
		default:
			z.Class[i] = float32(between(float64(z.Class[i])-move*share, -mostClass, mostClass))
		}
		z.Share[i] = uint16(float64(z.Share[i]) + (to-float64(z.Share[i]))*gain + 0.5)
	}
}

// several reports whether calls of more than one class are known.
func (z *SizeState) several() bool {
	n := 0
	for _, of := range z.Of {
		if of >= classCalls {
			n++
		}
	}
	return n > 1
}

// counts returns what the rate of a block is to count.
func (z *SizeState) counts() uint8 {
	told, several := z.told(), z.several()
	switch {
	case (told || several) && z.Line.Rest > 0 && z.Line.Rest < sizeNoise*sizeNoise:
		return byLatency
	case several && !told:
		return bySize
	}
	return byCalls
}

// learnSize adds the timed calls of a window to what is known of sizes, and to the block.
func (g *Governor) learnSize(w *Window) {
	s := &g.s
	g.took = 0
	n := max(1, float64(w.MaxInFlight+w.InFlight)/2) // on average, while they were in flight
	took, sizes := 0.0, 0.0
	add := func(class uint8, k, m, tokens float64) {
		k, m, tokens = min(k, MaxLimit), between(m, 0, 1e6), min(tokens, 1e9)
		if tokens > 0 {
			s.Size.tell(k, m, tokens)
		}
		if size := s.Size.learn(class, k, m, s.Size.plain(tokens), n, s.Mean); size > 0 {
			took, sizes = took+k*m, sizes+k*size
		}
	}
	if w.Classes == nil {
		add(0, float64(w.Timed), w.MeanLatency().Seconds(), float64(max(0, w.OutputTokens))/float64(max(1, w.OK)))
	} else {
		for c := range w.Classes {
			if of := &w.Classes[c]; of.Timed > 0 && of.Latency > 0 {
				k := float64(of.Timed)
				add(uint8(c), k, of.Latency.Seconds()/k, float64(max(0, of.OutputTokens))/k)
			}
		}
	}
	s.BlockTook, s.BlockSize = min(s.BlockTook+float32(took), blockMost), min(s.BlockSize+float32(sizes), blockMost)
	s.BlockLevel = min(s.BlockLevel+float32(took*n), blockMost)
	switch {
	case w.Classes == nil || s.Size.told():
		g.took = w.MeanLatency().Seconds()
	case sizes > 0:
		g.took = took / sizes
		if s.Size.Mixed && s.Size.First > 0 {
			g.took *= math.Exp(float64(s.Size.Class[s.Size.First-1]))
		}
	}
}

// sized gives a block its rate and latency by the sizes of its calls, if these are known.
func (g *Governor) sized(b *block, dt float64) {
	s := &g.s
	if counts := s.Size.counts(); counts != s.Counts {
		// What is known of levels is in other units.
		s.Counts = counts
		s.Cells, s.CutLevel = [numCells]CellState{}, 0
	}
	if s.Counts == byCalls || !(s.BlockSize > 0 && s.BlockTook > 0) {
		return
	}
	size, took := float64(s.BlockSize), float64(s.BlockTook)
	b.latency = took / size
	b.rate = size / dt
	if s.Counts == byLatency {
		// Calls that ended in the block may have begun long before. What came to nothing took its time, too.
		b.level = float64(s.BlockLevel) / took
		b.latency = (took + float64(s.BlockLost)) / size
		b.rate = b.level / b.latency
	}
}

// flat reports whether the time of calls grows so much with calls in flight that more of them would hardly get more done. Once that is not sure any more, because
// nothing moved for long, it is seen again with fewer.
func (g *Governor) flat() bool {
	s := &g.s
	if s.Counts != byLatency {
		return false
	}
	slope, sigma := s.Size.Line.fit()
	if slope <= flatHold {
		return false
	}
	if slope-sigma <= flatHold && s.Used && s.Limit > max(float64(g.cfg.Min)+1, flatLeast*math.Exp(float64(s.Size.Line.X))) {
		s.Limit = max(float64(g.cfg.Min), s.Limit-max(0.5, sizeStep*s.Limit))
		s.Cause, s.Flight = CauseLatency, s.Limit
	}
	return true
}

// fewer returns the limit that a block asks for where the time of calls says how much gets done, and 0 when it asks for none. before is what its level did before; 0 when that is not
// known.
func (g *Governor) fewer(b *block, before float64) float64 {
	slope, sigma := g.s.Size.Line.fit()
	switch {
	case b.rate < worse*before:
		return worseStep * b.level
	case slope-sigma > flatCut:
		return flatStep * b.level
	}
	return 0
}
