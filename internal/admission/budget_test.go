package admission

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

func newBudget(limits ...BudgetLimit) *Budget {
	b := new(Budget)
	b.Configure(0, BudgetConfig{Limits: limits})
	return b
}

func reserve(t *testing.T, b *Budget, now time.Duration, c Cost) *Reservation {
	t.Helper()
	r, ok := b.Reserve(now, c)
	if !ok {
		at, limit := b.At(now, c)
		t.Fatalf("Reserve(%v, %+v) = false, want it; At = %v by limit %d, %+v", now, c, at, limit, b.State(now, max(limit, 0)))
	}
	return &r
}

func left(t *testing.T, b *Budget, now time.Duration, want ...int64) {
	t.Helper()
	for i, n := range want {
		if got := b.State(now, i).Left; got != n {
			t.Errorf("at %v: %d left of limit %d (%v), want %d", now, got, i, b.State(now, i).Kind, n)
		}
	}
}

// Several limits at once: the reservation takes from all of them, and the wait is the longest.
func TestBudgetAllOrNothing(t *testing.T) {
	b := newBudget(
		BudgetLimit{Kind: feedback.ScopeRequests, Limit: 60},
		BudgetLimit{Kind: feedback.ScopeTokens, Limit: 6000},
		BudgetLimit{Kind: feedback.ScopeInputTokens, Limit: 3000},
		BudgetLimit{Kind: feedback.ScopeOutputTokens, Limit: 1200},
		BudgetLimit{Kind: feedback.ScopeDaily, Limit: 1000, Period: 24 * time.Hour, Fixed: true},
	)
	reserve(t, b, 0, Cost{Input: 2000, Output: 1000})
	left(t, b, 0, 59, 3000, 1000, 200, 999)
	c := Cost{Input: 1500, Output: 300}
	if _, ok := b.Reserve(0, c); ok {
		t.Fatal("Reserve took 500 input tokens more than there are")
	}
	left(t, b, 0, 59, 3000, 1000, 200, 999)
	// 500 input tokens at 50/s come later than 100 output tokens at 20/s.
	if at, limit := b.At(0, c); at != 10*time.Second || limit != 2 {
		t.Errorf("At = %v by limit %d, want 10s by 2", at, limit)
	}
	if _, ok := b.Reserve(10*time.Second-1, c); ok {
		t.Error("Reserve took it before At")
	}
	reserve(t, b, 10*time.Second, c)
	left(t, b, 10*time.Second, 59, 2200, 0, 100, 998)
}

// Settle charges what was used: more, less, cached input at its factor; what was not told stays as reserved.
func TestBudgetSettle(t *testing.T) {
	limits := []BudgetLimit{
		{Kind: feedback.ScopeTokens, Limit: 10_000},
		{Kind: feedback.ScopeInputTokens, Limit: 10_000, CachedFactor: 0.25},
		{Kind: feedback.ScopeInputTokens, Limit: 10_000, CachedFactor: 1, Period: time.Hour},
		{Kind: feedback.ScopeOutputTokens, Limit: 10_000},
		{Kind: feedback.ScopeRequests, Limit: 10},
	}
	for _, c := range []struct {
		name  string
		usage feedback.Usage
		want  []int64
	}{
		{"less", feedback.Usage{Known: true, Input: 500, Output: 100}, []int64{9400, 9500, 9500, 9900, 9}},
		{"more", feedback.Usage{Known: true, Input: 1500, Output: 12_000}, []int64{-3500, 8500, 8500, -2000, 9}},
		{"cached", feedback.Usage{Known: true, Input: 1000, CachedInput: 801, Output: 0}, []int64{9801, 9600, 9000, 10_000, 9}},
		{"more cached than input", feedback.Usage{Known: true, Input: 10, CachedInput: 50, Output: 1}, []int64{9999, 9997, 9990, 9999, 9}},
		{"unknown", feedback.Usage{Input: 3}, []int64{8500, 9000, 9000, 9500, 9}},
		{"total only", feedback.Usage{Known: true, Total: 700}, []int64{9300, 9000, 9000, 9500, 9}},
		{"negative", feedback.Usage{Known: true, Input: -5, Output: -6, CachedInput: -7}, []int64{10_000, 10_000, 10_000, 10_000, 9}},
		{"refused: nothing used, but a request", feedback.Usage{Known: true}, []int64{10_000, 10_000, 10_000, 10_000, 9}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBudget(limits...)
			r := reserve(t, b, 0, Cost{Input: 1000, Output: 500})
			if !b.Settle(0, r, c.usage) {
				t.Fatal("Settle = false")
			}
			left(t, b, 0, c.want...)
			// Exactly once.
			if b.Settle(0, r, c.usage) || b.Refund(0, r) || r.Open() {
				t.Error("a settled reservation was settled or refunded again")
			}
			left(t, b, 0, c.want...)
		})
	}
	b := newBudget(limits...)
	reserve(t, b, 0, Cost{Input: 7000, Output: 500})
	r := reserve(t, b, 0, Cost{Input: 1000, Output: 500})
	if !b.Refund(0, r) || b.Refund(0, r) || b.Settle(0, r, feedback.Usage{}) {
		t.Error("want one refund, and no second")
	}
	left(t, b, 0, 2500, 3000, 3000, 9500, 9)
	var none Reservation
	if b.Refund(0, &none) || b.Settle(0, &none, feedback.Usage{}) || none.Open() {
		t.Error("a zero reservation was settled")
	}
}

// What is given back is what would be there if it had not been taken: a bucket that has been full since has
// forgotten it.
func TestBudgetRefundForgotten(t *testing.T) {
	b := newBudget(BudgetLimit{Kind: feedback.ScopeTokens, Limit: 60})
	x, y := reserve(t, b, 0, Cost{Input: 30}), reserve(t, b, 0, Cost{Input: 30})
	z := reserve(t, b, 30*time.Second, Cost{Input: 30}) // without x and y the bucket would have been full, too
	b.Refund(30*time.Second, x)
	left(t, b, 30*time.Second, 30)
	b.Refund(30*time.Second, y)
	left(t, b, 30*time.Second, 30)
	b.Refund(30*time.Second, z)
	left(t, b, 30*time.Second, 60)

	// A fixed window forgets when it ends.
	b = newBudget(BudgetLimit{Kind: feedback.ScopeTokens, Limit: 60, Fixed: true})
	x = reserve(t, b, 10*time.Second, Cost{Input: 30})
	y = reserve(t, b, 70*time.Second, Cost{Input: 50})
	b.Refund(70*time.Second, x)
	left(t, b, 70*time.Second, 10)
	b.Refund(70*time.Second, y)
	left(t, b, 70*time.Second, 60)
}

// A refund is whole, also when a part of a unit was refilled meanwhile: with one call a minute, a call that never ran would cost a minute.
func TestBudgetRefundIsWhole(t *testing.T) {
	for _, l := range []BudgetLimit{
		{Kind: feedback.ScopeRequests, Limit: 2},
		{Kind: feedback.ScopeRequests, Limit: 60, Burst: 2},
		{Kind: feedback.ScopeRequests, Limit: 2, Fixed: true},
	} {
		b := newBudget(l)
		x, y := reserve(t, b, time.Second, Cost{}), reserve(t, b, time.Second, Cost{})
		b.Refund(1001*time.Millisecond, x)
		b.Refund(1002*time.Millisecond, y)
		left(t, b, 1003*time.Millisecond, 2)
	}
}

func TestBudgetFixed(t *testing.T) {
	const s = time.Second
	b := newBudget(BudgetLimit{Kind: feedback.ScopeRequests, Limit: 2, Fixed: true})
	reserve(t, b, 5*s, Cost{})
	reserve(t, b, 50*s, Cost{})
	if at, limit := b.At(50*s, Cost{}); at != 65*s || limit != 0 {
		t.Errorf("At = %v by %d, want 65s by 0", at, limit)
	}
	if at, _ := b.At(0, Cost{}); at != 65*s {
		t.Errorf("At with time gone backwards = %v, want 65s", at)
	}
	if _, ok := b.Reserve(65*s-1, Cost{}); ok {
		t.Error("Reserve took a third request of a window of 2")
	}
	reserve(t, b, 100*s, Cost{}) // the next window begins with the first call
	reserve(t, b, 159*s, Cost{})
	if at, _ := b.At(159*s, Cost{}); at != 160*s {
		t.Errorf("At = %v, want 160s", at)
	}

	// A debt is repaid by the windows that follow.
	b = newBudget(BudgetLimit{Kind: feedback.ScopeTokens, Limit: 100, Fixed: true})
	reserve(t, b, 0, Cost{Input: 350})
	left(t, b, 0, -250)
	for _, c := range []struct {
		cost int64
		at   time.Duration
	}{{1, 180 * s}, {50, 180 * s}, {51, 240 * s}, {1000, 240 * s}, {0, 0}} {
		if at, _ := b.At(0, Cost{Input: c.cost}); at != c.at {
			t.Errorf("At(%d) = %v, want %v", c.cost, at, c.at)
		}
	}
	left(t, b, 200*s, 50)
	reserve(t, b, 200*s, Cost{Input: 50})
	left(t, b, 239*s, 0)
	left(t, b, 240*s, 100)
}

// "A request larger than the whole budget: a policy, borrow and repay or a typed error; never a hang."
func TestBudgetOversize(t *testing.T) {
	limits := []BudgetLimit{
		{Kind: feedback.ScopeRequests, Limit: 60},
		{Kind: feedback.ScopeOutputTokens, Limit: 600, Burst: 100},
	}
	b := newBudget(limits...)
	c := Cost{Output: 250}
	if e, ok := b.TooLarge(c); ok {
		t.Errorf("TooLarge = %v, want none: it borrows", e)
	}
	reserve(t, b, 0, Cost{Output: 10})
	if at, _ := b.At(0, c); at != time.Second {
		t.Errorf("At = %v, want 1s, when the bucket is full", at)
	}
	reserve(t, b, time.Second, c)
	left(t, b, time.Second, 59, -150)
	if at, _ := b.At(time.Second, Cost{Output: 10}); at != 17*time.Second {
		t.Errorf("At = %v, want 17s: the debt of 150 and 10 more, at 10/s", at)
	}

	b.Configure(0, BudgetConfig{Limits: limits, Oversize: Refuse})
	e, ok := b.TooLarge(c)
	if want := (TooLarge{feedback.ScopeOutputTokens, 250, 100}); !ok || e != want {
		t.Errorf("TooLarge = %+v, %v, want %+v", e, ok, want)
	}
	if _, ok := b.Reserve(time.Hour, c); ok {
		t.Error("Reserve took a call that is too large")
	}
	var as TooLarge
	if err := error(e); !errors.As(err, &as) || err.Error() != "admission: a call of 250 output_tokens exceeds the budget of 100" {
		t.Errorf("error = %q", err)
	}
	if got := Oversize(NumOversizes).String(); got != "unknown" {
		t.Errorf("a policy that there is not is called %q", got)
	}
	if e, ok := b.TooLarge(Cost{Output: 100}); ok {
		t.Errorf("TooLarge = %v of a call that just fits", e)
	}
}

// "10 million tiny spends at a rate equal the exact sum within 1 unit".
func TestBudgetNoDrift(t *testing.T) {
	const limit, n = 999_983, 10_000_000
	b := newBudget(BudgetLimit{Kind: feedback.ScopeTokens, Limit: limit})
	reserve(t, b, 0, Cost{Input: limit}) // empty it
	now, granted := time.Duration(0), int64(0)
	for range n {
		now += 7 * time.Microsecond // far less than a token takes
		if b.State(now, 0).Left >= 1 {
			r := reserve(t, b, now, Cost{Input: 1})
			b.Settle(now, r, feedback.Usage{})
			granted++
		} else {
			b.windows[0].advance(now) // as if somebody had looked
		}
	}
	exact := float64(limit) * float64(now) / float64(time.Minute)
	if math.Abs(float64(granted)-exact) > 1 {
		t.Errorf("%d tokens in %v, want %.1f within 1", granted, now, exact)
	}
}

// Nothing overflows, whatever the numbers.
func TestBudgetSaturates(t *testing.T) {
	b := newBudget(
		BudgetLimit{Kind: feedback.ScopeTokens, Limit: math.MaxInt64, Period: 1},
		BudgetLimit{Kind: feedback.ScopeInputTokens, Limit: 1, Period: math.MaxInt64},
		BudgetLimit{Kind: feedback.ScopeOutputTokens, Limit: 1, Period: math.MaxInt64, Fixed: true},
	)
	huge := Cost{Input: math.MaxInt64, Output: math.MaxInt64}
	reserve(t, b, 1, huge)
	for _, now := range []time.Duration{1, 2, math.MaxInt64, 0} {
		at, _ := b.At(now, huge)
		if at != math.MaxInt64 {
			t.Errorf("At(%v) = %v, want the largest Duration", now, at)
		}
	}
	if at, limit := b.At(5, Cost{Input: -1, Output: -1}); at != 5 || limit != -1 {
		t.Errorf("At of a negative cost = %v by %d, want now", at, limit)
	}
	for range 10_000 { // overruns pile up and saturate; of the second and the third a period brings one back, and no more is owed
		r := Reservation{open: true, seq: 1}
		b.inFlight++
		b.Settle(5, &r, feedback.Usage{Known: true, Input: math.MaxInt64, Output: math.MaxInt64, Total: math.MaxInt64})
	}
	left(t, b, 5, -maxUnits, -1, -1)
	b.Sync(6, feedback.Window{Kind: feedback.ScopeTokens, Limit: math.MaxInt64, Remaining: math.MaxInt64, Reset: math.MaxInt64}, &Reservation{seq: 1})
	b.Sync(6, feedback.Window{Kind: feedback.ScopeOutputTokens, Limit: 1, Remaining: 1, Reset: math.MaxInt64}, &Reservation{seq: 1})
}

// A change of limits keeps what was spent.
func TestBudgetConfigure(t *testing.T) {
	minute := BudgetLimit{Kind: feedback.ScopeTokens, Limit: 600}
	day := BudgetLimit{Kind: feedback.ScopeTokens, Limit: 10_000, Period: 24 * time.Hour, Fixed: true}
	b := newBudget(minute, day)
	r := reserve(t, b, 0, Cost{Input: 500})
	left(t, b, 0, 100, 9500)
	minute.Limit = 1200
	b.Configure(0, BudgetConfig{Limits: []BudgetLimit{day, minute, {Kind: feedback.ScopeRequests, Limit: 5}}})
	left(t, b, 0, 9500, 700, 5)
	minute.Limit = 60
	b.Configure(0, BudgetConfig{Limits: []BudgetLimit{minute}})
	left(t, b, 0, 0)
	b.Refund(0, r)
	left(t, b, 0, 60)
	b.Configure(0, BudgetConfig{})
	if b.Limited() {
		t.Error("a budget without limits is limited")
	}
	reserve(t, b, 0, Cost{Input: 1 << 40})
	var zero Budget
	reserve(t, &zero, 0, Cost{Input: 1 << 40})
}

func TestBudgetSync(t *testing.T) {
	const s = time.Second
	win := func(limit, remaining int64, reset time.Duration) feedback.Window {
		return feedback.Window{Kind: feedback.ScopeRequests, Limit: limit, Remaining: remaining, Reset: reset}
	}
	rpm := BudgetLimit{Kind: feedback.ScopeRequests, Limit: 60}
	// Each begins with 10 requests at 0, the fifth of which is answered with told, at now.
	for _, c := range []struct {
		name  string
		limit BudgetLimit
		now   time.Duration
		told  feedback.Window
		want  int64
	}{
		{"agrees", rpm, 0, win(60, 55, s), 50},
		{"others use the key, too", rpm, 0, win(60, 30, s), 25},
		{"those that came after are not counted yet", rpm, 0, win(60, 3, s), 0},
		{"nothing left", rpm, 0, win(60, 0, 60*s), 0},
		{"old: much has come back since", rpm, 30 * s, win(60, 55, s), 60},
		{"old, and even so too much", rpm, 30 * s, win(60, 10, s), 35},
		{"more left than we believe, but calls are in flight", rpm, 0, win(60, 60, 0), 50},
		{"negative says nothing", rpm, 0, win(60, -1, s), 50},
		{"nothing told", rpm, 0, win(-1, -1, s), 50},
		{"zero limit (Azure)", rpm, 0, win(0, 0, -1), 50},
		{"remaining alone", rpm, 0, win(-1, 20, -1), 15},
		{"remaining beyond the limit", rpm, 0, win(60, 1<<60, -1), 50},
		{"smaller limit", rpm, 0, win(40, 40, -1), 30},
		{"larger limit: the configured one is the user's", rpm, 0, win(600, 595, -1), 50},
		{"a window of another period", rpm, 0, win(50, 49, 24*3600*s/50), 44},
		{"another kind", rpm, 0, feedback.Window{Kind: feedback.ScopeTokens, Limit: 1, Remaining: 0}, 50},
		{"as told", BudgetLimit{Kind: feedback.ScopeRequests}, 0, win(60, 35, -1), 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBudget(c.limit)
			var fifth *Reservation
			for i := range 10 {
				r := reserve(t, b, 0, Cost{})
				if i == 4 {
					fifth = r
				}
			}
			b.Sync(c.now, c.told, fifth)
			left(t, b, c.now, c.want)
		})
	}

	// Up: more is left than we believe, and nothing in flight explains it. A newer answer is not
	// contradicted by an older.
	b := newBudget(rpm)
	var rs []*Reservation
	for range 40 {
		rs = append(rs, reserve(t, b, 0, Cost{}))
	}
	for _, r := range rs[:39] {
		b.Settle(0, r, feedback.Usage{})
	}
	b.Sync(0, win(60, 50, -1), rs[39])
	left(t, b, 0, 49)
	b.Sync(0, win(60, 60, -1), rs[38])
	left(t, b, 0, 49)

	// Rounded token counts are taken for what they are.
	b = newBudget(BudgetLimit{Kind: feedback.ScopeInputTokens, Limit: 100_000})
	r := reserve(t, b, 0, Cost{Input: 1400})
	tok := feedback.Window{Kind: feedback.ScopeInputTokens, Limit: 100_000, Remaining: 99_000}
	b.Sync(0, tok, r)
	left(t, b, 0, 98_600)
	tok.Remaining = 98_000
	b.Sync(0, tok, r)
	left(t, b, 0, 98_000)

	// A fixed window ends when the upstream says; an answer from before it began says nothing.
	b = newBudget(BudgetLimit{Kind: feedback.ScopeRequests, Limit: 10, Fixed: true})
	old := reserve(t, b, 0, Cost{})
	r = reserve(t, b, 50*s, Cost{})
	b.Sync(50*s, win(10, 2, 20*s), r)
	left(t, b, 50*s, 2)
	left(t, b, 70*s-1, 2)
	left(t, b, 70*s, 10)
	r = reserve(t, b, 75*s, Cost{})
	b.Sync(76*s, win(10, 0, -1), old)
	left(t, b, 76*s, 9)
	b.Sync(76*s, win(10, 0, 3600*s), r) // not this window's end
	left(t, b, 76*s, 0)
	left(t, b, 135*s, 10)
}

// Of several limits of one kind, the window goes to the one it fits, and to none when that is not clear.
func TestBudgetSyncMatch(t *testing.T) {
	day := 24 * time.Hour
	b := newBudget(
		BudgetLimit{Kind: feedback.ScopeRequests, Limit: 30},
		BudgetLimit{Kind: feedback.ScopeRequests, Limit: 14_400, Period: day},
	)
	r := reserve(t, b, 0, Cost{})
	b.Sync(0, feedback.Window{Kind: feedback.ScopeRequests, Limit: 14_400, Remaining: 7, Reset: feedback.Unstated}, r)
	left(t, b, 0, 29, 7)
	b.Sync(0, feedback.Window{Kind: feedback.ScopeRequests, Limit: 1000, Remaining: 3, Reset: feedback.Unstated}, r)
	left(t, b, 0, 29, 7)
	b.Sync(0, feedback.Window{Kind: feedback.ScopeRequests, Limit: 1000, Remaining: 4, Reset: 996 * day / 1000}, r)
	left(t, b, 0, 29, 3) // of the 4 one may be for the call in flight
}

// The period of a limit that is only told is learned from a token bucket's reset, and not from a fixed
// window's.
func TestBudgetLearnsPeriod(t *testing.T) {
	day := 24 * time.Hour
	sync := func(b *Budget, limit, used int64, reset time.Duration) {
		r := Reservation{seq: 1}
		b.Sync(0, feedback.Window{Kind: feedback.ScopeRequests, Limit: limit, Remaining: limit - used, Reset: reset}, &r)
	}
	b := newBudget(BudgetLimit{Kind: feedback.ScopeRequests})
	for used := range int64(3) {
		sync(b, 14_400, used+1, time.Duration(used+1)*6*time.Second)
	}
	if s := b.State(0, 0); s.Period != day || s.Limit != 14_400 {
		t.Errorf("Groq's daily bucket: %+v, want 14400 per 24h", s)
	}
	for _, limit := range []int64{10, 100, 1000, 30_000} {
		b = newBudget(BudgetLimit{Kind: feedback.ScopeRequests})
		for used := int64(1); used <= limit; used++ { // evenly used up in a minute
			sync(b, limit, used, time.Minute-time.Minute*time.Duration(used)/time.Duration(limit))
			if s := b.State(0, 0); s.Period != time.Minute {
				t.Fatalf("a fixed minute of %d, %d used: period %v", limit, used, s.Period)
			}
		}
		for used := int64(1); used <= limit; used++ { // used up in ten seconds
			sync(b, limit, used, time.Minute-10*time.Second*time.Duration(used)/time.Duration(limit))
			if s := b.State(0, 0); s.Period != time.Minute {
				t.Fatalf("a fixed minute of %d, %d used early: period %v", limit, used, s.Period)
			}
		}
	}
}

func TestBudgetAllocs(t *testing.T) {
	b := newBudget(
		BudgetLimit{Kind: feedback.ScopeRequests, Limit: 1 << 40},
		BudgetLimit{Kind: feedback.ScopeTokens, Limit: 1 << 50, Fixed: true},
	)
	now := time.Duration(0)
	w := feedback.Window{Kind: feedback.ScopeRequests, Limit: 1 << 40, Remaining: 1 << 39}
	if n := testing.AllocsPerRun(100, func() {
		now++
		b.At(now, Cost{Input: 10})
		r, _ := b.Reserve(now, Cost{Input: 10})
		b.Sync(now, w, &r)
		b.Settle(now, &r, feedback.Usage{Known: true, Input: 5})
	}); n != 0 {
		t.Errorf("a call allocates %v times, want 0", n)
	}
}

func BenchmarkBudget(b *testing.B) {
	run := func(name string, limits ...BudgetLimit) {
		b.Run(name, func(b *testing.B) {
			bu := newBudget(limits...)
			now := time.Duration(0)
			u := feedback.Usage{Known: true, Input: 900, Output: 300}
			b.ReportAllocs()
			for b.Loop() {
				now += 100
				r, _ := bu.Reserve(now, Cost{Input: 1000, Output: 500})
				bu.Settle(now, &r, u)
			}
		})
	}
	rpm := BudgetLimit{Kind: feedback.ScopeRequests, Limit: 1e9}
	tpm := BudgetLimit{Kind: feedback.ScopeTokens, Limit: 1e13}
	run("requests", rpm)
	run("requests+tokens", rpm, tpm)
	run("four", rpm, tpm, BudgetLimit{Kind: feedback.ScopeInputTokens, Limit: 1e13}, BudgetLimit{Kind: feedback.ScopeRequests, Limit: 1e13, Period: 24 * time.Hour, Fixed: true})
}

// A stated limit without a period is one of a minute, also to the configuration after it.
func TestBudgetConfigureKeepsADefaultPeriod(t *testing.T) {
	unsaid := BudgetLimit{Kind: feedback.ScopeRequests, Limit: 60}
	said := unsaid
	said.Period = time.Minute
	for _, c := range [][2]BudgetLimit{{unsaid, said}, {said, unsaid}} {
		for _, share := range []float64{1, 0.5} {
			b := newBudget(c[0])
			if share < 1 {
				b.Share(0, 0, share)
			}
			for range 20 {
				if _, ok := b.Reserve(0, Cost{}); !ok {
					t.Fatal("a call of a full budget was refused")
				}
			}
			want := b.State(0, 0)
			b.Configure(0, BudgetConfig{Limits: c[1:]})
			if got := b.State(0, 0); got != want {
				t.Errorf("period %v, then %v: %+v, want %+v as before", c[0].Period, c[1].Period, got, want)
			}
		}
	}
	told := newBudget(BudgetLimit{Kind: feedback.ScopeRequests})
	told.Configure(0, BudgetConfig{Limits: []BudgetLimit{said}})
	if got := told.State(0, 0); got.Left != 60 {
		t.Errorf("%+v, want a full limit after one that the upstream had not told", got)
	}
}

// A limit that is made smaller and larger again is no way to spend it twice.
func TestBudgetConfigureSmallerAndLarger(t *testing.T) {
	for _, fixed := range []bool{false, true} {
		whole := BudgetLimit{Kind: feedback.ScopeRequests, Limit: 600, Fixed: fixed}
		part := whole
		part.Limit = 60
		for _, spent := range []int64{20, 400, 600} {
			b := newBudget(whole)
			for range spent {
				reserve(t, b, 0, Cost{})
			}
			for range 3 {
				b.Configure(0, BudgetConfig{Limits: []BudgetLimit{part}})
				left(t, b, 0, max(0, 60-spent))
				b.Configure(0, BudgetConfig{Limits: []BudgetLimit{part}})
				left(t, b, 0, max(0, 60-spent))
				b.Configure(0, BudgetConfig{Limits: []BudgetLimit{whole}})
				left(t, b, 0, 600-spent)
			}
			b.Configure(0, BudgetConfig{Limits: []BudgetLimit{part}})
			b.Configure(time.Minute, BudgetConfig{Limits: []BudgetLimit{whole}})
			left(t, b, time.Minute, 600)
		}
	}
}

// An answer that tells of absurdly many tokens holds a budget back for a day at most, or for a period that is longer.
func TestBudgetAbsurdUsage(t *testing.T) {
	for _, l := range []BudgetLimit{
		{Limit: 100_000},
		{Limit: 100_000, Burst: 10},
		{Limit: 100_000, Fixed: true},
		{Limit: 3, Period: 2 * maxGate},
		{Limit: 1 << 50, Period: time.Millisecond},
	} {
		for share := range 2 {
			l.Kind = feedback.ScopeTokens
			b := newBudget(l)
			if share == 1 {
				b.Share(0, 0, 0.5)
			}
			now := time.Duration(0)
			for _, used := range []int64{1<<32 - 1, math.MaxInt64, 1} {
				r := reserveAny(b, now, Cost{Input: 1})
				another := reserveAny(b, now, Cost{Input: 1})
				b.Settle(now, &r, feedback.Usage{Known: true, Input: 1, Output: used})
				b.Settle(now, &another, feedback.Usage{Known: true, Input: 1, Output: used})
				most := max(maxGate, l.Period) + 3*l.orMinute()
				at, _ := b.At(now, Cost{Input: 1})
				if at > now+most {
					t.Errorf("%+v: after %d tokens nothing starts for %v, want at most %v", l, used, at-now, most)
				}
				now = at
			}
		}
	}
}

// Nor does a call that says that it costs absurdly many, whatever becomes of it.
func TestBudgetAbsurdCost(t *testing.T) {
	for _, l := range []BudgetLimit{
		{Kind: feedback.ScopeTokens, Limit: 100_000},
		{Kind: feedback.ScopeTokens, Limit: 100_000, Burst: 10},
		{Kind: feedback.ScopeInputTokens, Limit: 100_000},
		{Kind: feedback.ScopeOutputTokens, Limit: 100_000, Fixed: true},
		{Kind: feedback.ScopeTokens, Limit: 3, Period: 2 * maxGate},
	} {
		for _, u := range []feedback.Usage{{}, {Known: true, Input: 7, Output: 7}, {Known: true, Input: math.MaxInt64, Output: math.MaxInt64}} {
			b := newBudget(BudgetLimit{Kind: feedback.ScopeRequests, Limit: 60}, l)
			r := reserve(t, b, 0, Cost{Input: math.MaxInt64, Output: 1 << 45})
			most := max(maxGate, l.Period) + 3*l.orMinute()
			for _, when := range []string{"while it runs", "afterwards"} {
				if at, _ := b.At(0, Cost{Input: 1, Output: 1}); at > most {
					t.Errorf("%+v, used %+v: %s nothing starts for %v, want at most %v", l, u, when, at, most)
				}
				b.Settle(0, r, u)
			}
		}
		b := newBudget(l)
		most := b.windows[0].mostOwed()
		b.Refund(0, reserve(t, b, 0, Cost{Input: math.MaxInt64, Output: math.MaxInt64}))
		left(t, b, 0, b.windows[0].depth)
		reserve(t, b, 0, Cost{Input: most, Output: 0})
		if want := b.windows[0].depth - most; l.Kind != feedback.ScopeOutputTokens {
			left(t, b, 0, want)
		}
	}
}

// A limit that is stated is of a minute, though the upstream told one of another period before.
func TestBudgetStatedAfterItWasTold(t *testing.T) {
	b := newBudget(BudgetLimit{Kind: feedback.ScopeRequests})
	for used := int64(1); used <= 4; used++ {
		r := reserveAny(b, 0, Cost{})
		b.Sync(0, feedback.Window{Kind: feedback.ScopeRequests, Limit: 100, Remaining: 100 - used, Reset: time.Duration(used) * 36 * time.Second}, &r)
		b.Settle(0, &r, feedback.Usage{})
	}
	if s := b.State(0, 0); s.Limit != 100 || s.Period != time.Hour {
		t.Fatalf("100 an hour were told: %+v", s)
	}
	for _, want := range []BudgetLimit{{Kind: feedback.ScopeRequests}, {Kind: feedback.ScopeRequests, Limit: 50}} {
		b.Configure(0, BudgetConfig{Limits: []BudgetLimit{want}})
		s := b.State(0, 0)
		if want.Limit == 0 && s.Period != time.Hour || want.Limit > 0 && (s.Limit != 50 || s.Period != time.Minute) {
			t.Errorf("%+v = %+v", want, s)
		}
	}
}
