package redisbudget_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/contrib/redisbudget"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// ports are given to one server each.
var ports atomic.Int64

func init() { ports.Store(20000 + int64(os.Getpid()%5000)) }

// server is a Redis or Valkey of a test's own.
type server struct {
	t    *testing.T
	bin  string
	port int
	args []string
	cmd  *exec.Cmd
}

// start starts one; the test runs beside another one, because both wait for real time to pass. Without it the test is skipped, or fails if FLYBALL_REQUIRE names redis.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: not starting a server")
	}
	if !strings.Contains(t.Name(), "/") {
		t.Parallel()
	}
	var bin string
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			bin = path
			break
		}
	}
	if bin == "" {
		const reason = "no redis-server or valkey-server in PATH (Debian: apt-get install redis-server)"
		if strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "redis") {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	// Below the ports of clients, so that the bus of a cluster, 10,000 above, is one, too.
	s := &server{t: t, bin: bin, args: args}
	for p := int(ports.Add(1)); s.port == 0; p = int(ports.Add(1)) {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p)); err == nil {
			l.Close()
			s.port = p
		}
	}
	s.up()
	t.Cleanup(s.kill)
	return s
}

func (s *server) up() {
	s.t.Helper()
	s.cmd = exec.Command(s.bin, append([]string{"--bind", "127.0.0.1", "--port", fmt.Sprint(s.port), "--save", "", "--appendonly", "no", "--dir", s.t.TempDir()}, s.args...)...)
	s.cmd.SysProcAttr = withParent
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", s.addr())
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			s.t.Fatal(err)
		}
	}
}

func (s *server) addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// kill kills the server; what it held is gone.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// replica is one process of a fleet, as far as sharing goes.
type replica struct {
	guard  *limiter.Guard
	shared *redisbudget.Shared
	done   atomic.Int64
	tokens atomic.Int64
	errs   atomic.Int64
}

func budget() *limiter.Budget {
	return &limiter.Budget{Limits: []limiter.BudgetLimit{
		{Kind: feedback.ScopeRequests, Limit: 400, Period: time.Second, Burst: 20},
		{Kind: feedback.ScopeTokens, Limit: 60_000, Period: time.Second, Burst: 3_000},
	}}
}

// saved is how long a limit of budget saves up what comes in.
const saved = 50 * time.Millisecond

func newReplica(t *testing.T, client redis.UniversalClient, cfg redisbudget.Config) *replica {
	t.Helper()
	guard, err := limiter.New(limiter.Config{
		Law: adaptive.NewFixed(1000), Budget: budget(), MaxWait: time.Hour, MaxPause: time.Hour, Queue: 100_000, PauseJitter: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Name, cfg.Limits = "test", 2
	shared, err := redisbudget.Join(client, guard, cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{guard: guard, shared: shared}
	t.Cleanup(func() { guard.Close(); shared.Close() })
	return r
}

// work calls through the guard with so many callers until ctx ends.
func (r *replica) work(ctx context.Context, all *sync.WaitGroup, callers int, tokens int64) {
	for range callers {
		all.Go(func() {
			for ctx.Err() == nil {
				p, err := r.guard.Acquire(ctx, limiter.Request{Tokens: tokens})
				if err != nil {
					if ctx.Err() == nil {
						r.errs.Add(1)
					}
					return
				}
				r.done.Add(1)
				r.tokens.Add(tokens)
				p.Release(limiter.Outcome{InputTokens: tokens})
			}
		})
	}
}

func sum(rs []*replica) (done, tokens, errs int64) {
	for _, r := range rs {
		done += r.done.Load()
		tokens += r.tokens.Load()
		errs += r.errs.Load()
	}
	return done, tokens, errs
}

func client(t *testing.T, addr string) redis.UniversalClient {
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1, DialTimeout: 100 * time.Millisecond, ContextTimeoutEnabled: true})
	t.Cleanup(func() { c.Close() })
	return c
}

// until waits until a fleet has agreed.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s within 20 s", what)
		}
	}
}

func agreed(rs []*replica) bool {
	for _, r := range rs {
		if s := r.shared.State(); s.Members != len(rs) || s.Lost {
			return false
		}
	}
	return shares(rs, 0) > 0.99
}

func shares(rs []*replica, i int) (total float64) {
	for _, r := range rs {
		total += r.shared.State().Shares[i]
	}
	return total
}

// "Four replicas sharing one budget through Redis use >= 95 % of it and never exceed it by more than 1 %": with equal demand, with
// one that wants nearly all, and with the demand moving on.
func TestFourReplicas(t *testing.T) {
	s := start(t)
	var rs []*replica
	for range 4 {
		rs = append(rs, newReplica(t, client(t, s.addr()), redisbudget.Config{}))
	}
	until(t, "agreement", func() bool { return agreed(rs) })
	const rate, tokenRate = 400.0, 60_000.0
	phase := func(name string, callers [4]int, tokens int64, settle time.Duration) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i, r := range rs {
			r.work(ctx, &all, callers[i], tokens)
		}
		time.Sleep(settle)
		d0, k0, _ := sum(rs)
		start := time.Now()
		worst, held := 0.0, time.Duration(0)
		for looked := start; time.Since(start) < 6*time.Second; {
			time.Sleep(5 * time.Millisecond)
			// When who looks was held up, so was everybody else. What comes in for longer than the budget saves up is nobody's to use.
			now := time.Now()
			held += max(0, now.Sub(looked)-saved)
			looked = now
			d, k, _ := sum(rs)
			took := time.Since(start).Seconds()
			// What may be spent at once is part of the budget: 20 calls, 3000 tokens.
			worst = max(worst, float64(d-d0)/(rate*took+20), float64(k-k0)/(tokenRate*took+3000))
		}
		took := time.Since(start).Seconds()
		d, k, errs := sum(rs)
		cancel()
		all.Wait()
		could := took - held.Seconds()
		used := max(float64(d-d0)/(rate*could), float64(k-k0)/(tokenRate*could))
		t.Logf("%s: %.1f %% of the budget used, at most %.1f %% of what may be spent, held up for %v; shares %.3v", name, 100*used, 100*worst, held, []float64{
			rs[0].shared.State().Shares[0], rs[1].shared.State().Shares[0], rs[2].shared.State().Shares[0], rs[3].shared.State().Shares[0]})
		if used < 0.95 || worst > 1.01 || errs > 0 {
			t.Errorf("%s: %.1f %% used, want 95; at most %.1f %%, want 101; %d errors", name, 100*used, 100*worst, errs)
		}
	}
	phase("requests, all alike", [4]int{50, 50, 50, 50}, 10, time.Second)
	phase("tokens, all alike", [4]int{50, 50, 50, 50}, 500, time.Second)
	phase("one wants all", [4]int{100, 0, 0, 0}, 10, 4*time.Second)
	phase("another wants all", [4]int{0, 0, 100, 1}, 10, 4*time.Second)
}

// "Redis killed for 60 s: no call lost, no excess over 10 %". Here it is 6 s, three times the time to live; -run KilledForAMinute is the
// whole minute.
func TestRedisKilled(t *testing.T) { killed(t, 6*time.Second) }

func TestRedisKilledForAMinute(t *testing.T) {
	if os.Getenv("FLYBALL_LONG") == "" {
		t.Skip("FLYBALL_LONG is not set: a minute without Redis is not waited for")
	}
	killed(t, time.Minute)
}

func killed(t *testing.T, gone time.Duration) {
	s := start(t)
	var rs []*replica
	var lost, back atomic.Int32
	for range 4 {
		rs = append(rs, newReplica(t, client(t, s.addr()), redisbudget.Config{OnState: func(s redisbudget.State) {
			if s.Lost {
				lost.Add(1)
			} else {
				back.Add(1)
			}
		}}))
	}
	until(t, "agreement", func() bool { return agreed(rs) })
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, r := range rs {
		r.work(ctx, &all, 50, 10)
	}
	time.Sleep(2 * time.Second)
	d0, _, _ := sum(rs)
	began := time.Now()
	s.kill()
	worst, slowest, held := 0.0, time.Duration(0), time.Duration(0)
	last, lastAt, looked := d0, time.Now(), time.Now()
	watch := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			n, _, _ := sum(rs)
			// When who looks was held up, so was everybody else, and not for want of Redis.
			gap := time.Since(looked)
			held += max(0, gap-saved)
			lastAt, looked = lastAt.Add(max(0, gap-10*time.Millisecond)), time.Now()
			if n > last {
				slowest = max(slowest, time.Since(lastAt))
				last, lastAt = n, time.Now()
			}
			worst = max(worst, float64(n-d0)/(400*time.Since(began).Seconds()+20))
		}
	}
	watch(gone)
	n, _, _ := sum(rs)
	without := float64(n-d0) / (400 * (time.Since(began) - held).Seconds())
	if int(lost.Load()) < 4 {
		t.Errorf("%d of 4 noticed", lost.Load())
	}
	s.up()
	watch(5 * time.Second)
	until(t, "agreement again", func() bool { return agreed(rs) })
	cancel()
	all.Wait()
	_, _, errs := sum(rs)
	t.Logf("%v without Redis: %.1f %% of the budget used, at most %.1f %% of what may be spent, the longest time without a call %v, held up for %v", gone, 100*without, 100*worst, slowest, held)
	if without < 0.9 || worst > 1.1 || errs > 0 || slowest > 200*time.Millisecond || back.Load() < 4 {
		t.Errorf("%d errors, %d are back", errs, back.Load())
	}
}

// A pause that one is told reaches the others, once, and does not grow on its way.
func TestPauseReachesTheOthers(t *testing.T) {
	s := start(t)
	a, b := newReplica(t, client(t, s.addr()), redisbudget.Config{}), newReplica(t, client(t, s.addr()), redisbudget.Config{})
	until(t, "agreement", func() bool { return agreed([]*replica{a, b}) })
	end := time.Now().Add(3 * time.Second)
	a.guard.Pause(end)
	until(t, "pause of the other", func() bool { return b.guard.Stats().Paused > 0 })
	// Both end at the same time, and not later each time that one tells the other. Whoever looks may be held up in between, so the best
	// of some looks counts.
	apart := func() time.Duration {
		best := time.Hour
		for range 20 {
			if left := b.guard.Stats().Paused; left > 0 {
				best = min(best, (time.Until(end) - left).Abs())
			}
			time.Sleep(time.Millisecond)
		}
		return best
	}
	if d := apart(); d > 100*time.Millisecond {
		t.Errorf("the other's pause ends %v before or after it should", d)
	}
	time.Sleep(time.Second) // some exchanges
	if d := apart(); d > 100*time.Millisecond && time.Until(end) > 500*time.Millisecond {
		t.Errorf("a second later the other's pause ends %v before or after it should", d)
	}
	until(t, "end of the pause", func() bool { return a.guard.Stats().Paused == 0 && b.guard.Stats().Paused == 0 })
	if p := a.shared.State().PeerLimit; p != 1000 {
		t.Errorf("the other's limit is %v, want 1000", p)
	}
}

// A pause outlasts what Redis has forgotten of it: who joins then is told as well.
func TestPauseOutlastsRedis(t *testing.T) {
	s := start(t)
	c := client(t, s.addr())
	a := newReplica(t, c, redisbudget.Config{})
	until(t, "agreement", func() bool { return agreed([]*replica{a}) })
	end := time.Now().Add(time.Hour)
	a.guard.Pause(end)
	until(t, "pause in Redis", func() bool { return c.HExists(t.Context(), "flyball:{test}", "gate").Val() })
	time.Sleep(time.Second) // the first one has heard of its own pause
	if err := c.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	b := newReplica(t, c, redisbudget.Config{})
	until(t, "pause of the one that joins", func() bool { return b.guard.Stats().Paused > 0 })
	if d := time.Until(end) - b.guard.Stats().Paused; d.Abs() > time.Second {
		t.Errorf("its pause ends %v before it should", d)
	}
}

// A server whose clock goes back, as when a replica takes over, makes no pause longer, and nobody gets more than he had.
func TestClockGoesBack(t *testing.T) {
	s := start(t)
	c := client(t, s.addr())
	a, b := newReplica(t, c, redisbudget.Config{}), newReplica(t, c, redisbudget.Config{})
	until(t, "agreement", func() bool { return agreed([]*replica{a, b}) })
	keys, err := c.Keys(t.Context(), "flyball:*").Result()
	if err != nil || len(keys) != 1 {
		t.Fatal(keys, err)
	}
	// What the hash would have in it if the clock had been an hour ahead until now, in a pause that has ended.
	ahead := time.Now().Add(time.Hour).UnixMilli()
	if err := c.HSet(t.Context(), keys[0], "at", ahead, "born", ahead-60_000, "gate", ahead-1, "m:gone", fmt.Sprint(ahead, " 1000 requests 0.9 1 tokens 0.9 1")).Err(); err != nil {
		t.Fatal(err)
	}
	var most float64
	until(t, "agreement", func() bool {
		most = max(most, shares([]*replica{a, b}, 0))
		return a.shared.State().Members == 2 && b.shared.State().Members == 2 && c.HGet(t.Context(), keys[0], "gate").Err() == redis.Nil
	})
	if x, y := a.guard.Stats().Paused, b.guard.Stats().Paused; x > 0 || y > 0 || most > 1.001 {
		t.Errorf("the guards pause for %v and %v, and had %v of the budget together", x, y, most)
	}
}

// Who ends a pause in a process has ended it there: it does not come back with the next exchange.
func TestResumeStays(t *testing.T) {
	s := start(t)
	a, b := newReplica(t, client(t, s.addr()), redisbudget.Config{}), newReplica(t, client(t, s.addr()), redisbudget.Config{})
	until(t, "agreement", func() bool { return agreed([]*replica{a, b}) })
	a.guard.Pause(time.Now().Add(time.Hour))
	until(t, "pause of the other", func() bool { return b.guard.Stats().Paused > 0 })
	time.Sleep(time.Second) // the first one has heard of its own pause, too
	a.guard.Resume()
	b.guard.Resume()
	time.Sleep(time.Second) // some exchanges
	if x, y := a.guard.Stats().Paused, b.guard.Stats().Paused; x != 0 || y != 0 {
		t.Fatalf("a second after Resume the guards pause for %v and %v", x, y)
	}
	a.guard.Pause(time.Now().Add(time.Second))
	time.Sleep(500 * time.Millisecond)
	if p := a.guard.Stats().Paused; p > time.Second {
		t.Errorf("with a pause of a second of its own, the one that was ended is back: %v", p)
	}
	b.guard.Pause(time.Now().Add(2 * time.Hour))
	until(t, "a longer pause", func() bool { return a.guard.Stats().Paused > time.Hour })
}

// within calls something once a command has been answered.
type within struct{ do atomic.Pointer[func()] }

func (*within) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*within) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (w *within) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if do := w.do.Swap(nil); do != nil {
			(*do)()
		}
		return err
	}
}

// It does not come back either with an exchange that is on its way.
func TestResumeDuringAnExchange(t *testing.T) {
	s := start(t)
	c := client(t, s.addr())
	w := &within{}
	c.AddHook(w)
	a := newReplica(t, c, redisbudget.Config{})
	until(t, "agreement", func() bool { return agreed([]*replica{a}) })
	a.guard.Pause(time.Now().Add(time.Hour))
	time.Sleep(time.Second) // it has heard of its own pause
	resumed := make(chan bool)
	resume := func() { a.guard.Resume(); close(resumed) }
	w.do.Store(&resume)
	<-resumed
	time.Sleep(time.Second) // some exchanges
	if p := a.guard.Stats().Paused; p != 0 {
		t.Errorf("a second after Resume the guard pauses for %v", p)
	}
}

// holding is a law that holds everything back for a while, because of what it alone has seen.
type holding struct {
	*adaptive.Fixed
	until time.Duration
}

func (h *holding) Decision() adaptive.Decision {
	d := h.Fixed.Decision()
	d.NotBefore = h.until
	return d
}

// What the law of one holds back for is no pause of the others, and does not hide one that the upstream asks for meanwhile.
func TestHoldStaysAtHome(t *testing.T) {
	s := start(t)
	a, b := newReplica(t, client(t, s.addr()), redisbudget.Config{}), newReplica(t, client(t, s.addr()), redisbudget.Config{})
	until(t, "agreement", func() bool { return agreed([]*replica{a, b}) })
	cfg := limiter.Config{Budget: budget(), MaxWait: time.Hour, MaxPause: time.Hour, PauseJitter: -1}
	cfg.Law = &holding{adaptive.NewFixed(1000), 2 * time.Hour}
	if err := a.guard.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if st := a.guard.Stats(); st.Paused == 0 || st.Asked != 0 {
		t.Fatalf("the law holds, and Stats says %v, of which somebody asked for %v", st.Paused, st.Asked)
	}
	time.Sleep(time.Second) // some exchanges
	if p := b.guard.Stats().Paused; p != 0 {
		t.Errorf("the other pauses for %v because a law holds here", p)
	}
	a.guard.Pause(time.Now().Add(time.Hour))
	until(t, "pause of the other", func() bool { return b.guard.Stats().Paused > 0 })
	if p := b.guard.Stats().Paused; p > time.Hour+time.Second || p < time.Hour-time.Minute {
		t.Errorf("the other pauses for %v, want an hour", p)
	}
}

// What becomes of a share when Redis is gone is the user's choice.
func TestLost(t *testing.T) {
	for lost, want := range map[redisbudget.OnLost]float64{redisbudget.KeepShare: 0.5, redisbudget.Closed: 0, redisbudget.Open: 1} {
		t.Run(fmt.Sprint(lost), func(t *testing.T) {
			s := start(t)
			cfg := redisbudget.Config{Lost: lost, TTL: 700 * time.Millisecond}
			a, b := newReplica(t, client(t, s.addr()), cfg), newReplica(t, client(t, s.addr()), cfg)
			until(t, "agreement", func() bool { return agreed([]*replica{a, b}) })
			s.kill()
			until(t, "what was chosen", func() bool {
				x := a.shared.State()
				return x.Lost && x.Shares[0] > want-0.02 && x.Shares[0] < want+0.02
			})
		})
	}
	t.Run("never there", func(t *testing.T) {
		r := newReplica(t, client(t, "127.0.0.1:1"), redisbudget.Config{Start: 0.25})
		until(t, "word", func() bool { return r.shared.State().Lost })
		if s := r.shared.State(); s.Shares[1] != 0.25 || s.Err == nil {
			t.Errorf("%+v", s)
		}
	})
}

// A process that dies leaves its share to the others after the time to live.
func TestMemberDies(t *testing.T) {
	s := start(t)
	a := newReplica(t, client(t, s.addr()), redisbudget.Config{})
	dead := client(t, s.addr())
	b := newReplica(t, dead, redisbudget.Config{})
	until(t, "agreement", func() bool { return agreed([]*replica{a, b}) })
	dead.Close()
	began := time.Now()
	until(t, "all of it", func() bool { return a.shared.State().Shares[0] > 0.99 })
	if d := time.Since(began); d < 1500*time.Millisecond {
		t.Errorf("its share was taken after %v, before the time to live of 2 s", d)
	}
}

// line is a client's way to Redis: it can be cut, and keeps the last command that passed.
type line struct {
	cut  atomic.Bool
	last atomic.Pointer[[]any]
}

func (*line) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*line) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *line) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if l.cut.Load() {
			return errors.New("cut")
		}
		args := cmd.Args()
		l.last.Store(&args)
		return next(ctx, cmd)
	}
}

// behind returns a replica behind a line.
func behind(t *testing.T, s *server, cfg redisbudget.Config) (*replica, *line) {
	c, l := client(t, s.addr()), &line{}
	c.AddHook(l)
	return newReplica(t, c, cfg), l
}

// notMore asks for a while that the parts of a budget are not more than all of it.
func notMore(t *testing.T, rs []*replica, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if total := shares(rs, 0); total > 1.001 {
			t.Fatalf("the parts are %v together, want 1 at most", total)
		}
	}
}

// When nobody has reached Redis for a while, the first one that does finds it without the others, who keep to their parts.
func TestBackOneByOne(t *testing.T) { backOneByOne(t, time.Second, 500*time.Millisecond) }

// go-redis looks for a server that was gone for long only once a second, which may be later than after a TTL.
func TestBackASecondApart(t *testing.T) {
	backOneByOne(t, 600*time.Millisecond, 1200*time.Millisecond)
}

func backOneByOne(t *testing.T, ttl, apart time.Duration) {
	s := start(t)
	cfg := redisbudget.Config{TTL: ttl}
	a, la := behind(t, s, cfg)
	b, lb := behind(t, s, cfg)
	both := []*replica{a, b}
	until(t, "agreement", func() bool { return agreed(both) })
	la.cut.Store(true)
	lb.cut.Store(true)
	notMore(t, both, 2*time.Second)
	la.cut.Store(false)
	until(t, "the first one back", func() bool { return !a.shared.State().Lost })
	notMore(t, both, apart)
	lb.cut.Store(false)
	notMore(t, both, 2*time.Second)
	until(t, "agreement", func() bool { return agreed(both) })
}

// An exchange that was held up on its way, and comes after later ones, says that its process has less than it has.
func TestLateExchange(t *testing.T) {
	s := start(t)
	cfg := redisbudget.Config{TTL: 10 * time.Second}
	a, la := behind(t, s, cfg)
	b, _ := behind(t, s, cfg)
	until(t, "agreement", func() bool { return agreed([]*replica{a, b}) })
	late := *la.last.Load()
	b.shared.Close()
	until(t, "all of it", func() bool { return a.shared.State().Shares[0] > 0.99 })
	la.cut.Store(true)
	other, _ := behind(t, s, cfg)
	until(t, "another one", func() bool { return other.shared.State().Members == 2 })
	if err := client(t, s.addr()).Do(t.Context(), late...).Err(); err != nil {
		t.Fatal(err)
	}
	notMore(t, []*replica{a, other}, time.Second)
}

// slow holds exchanges back until they are given up and a little longer.
type slow struct {
	held atomic.Pointer[chan struct{}] // closed when it is
	over chan struct{}                 // closed when it has been run
}

func (*slow) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*slow) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (s *slow) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if held := s.held.Load(); held != nil && cmd.Name() == "evalsha" {
			s.held.Store(nil)
			close(*held)
			<-ctx.Done()
			time.Sleep(50 * time.Millisecond) // time for whoever does not wait for it
			defer close(s.over)
			return next(context.WithoutCancel(ctx), cmd)
		}
		return next(ctx, cmd)
	}
}

// delayed hands on the next answer later.
type delayed struct{ by atomic.Int64 }

func (*delayed) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*delayed) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (d *delayed) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		time.Sleep(time.Duration(d.by.Swap(0)))
		return err
	}
}

// An answer that was on its way for longer than a process is remembered gives it a part that others have by then.
func TestLateAnswer(t *testing.T) {
	s := start(t)
	cfg := redisbudget.Config{TTL: 600 * time.Millisecond, Timeout: 10 * time.Second}
	c, d := client(t, s.addr()), &delayed{}
	c.AddHook(d)
	b, other := newReplica(t, client(t, s.addr()), cfg), newReplica(t, client(t, s.addr()), cfg)
	lost := make(chan redisbudget.State, 1)
	cfg.OnState = func(st redisbudget.State) {
		select {
		case lost <- st:
		default:
		}
	}
	a := newReplica(t, c, cfg)
	until(t, "agreement", func() bool { return agreed([]*replica{a, b, other}) })
	other.shared.Close()
	d.by.Store(int64(2 * time.Second))
	until(t, "all of it", func() bool { return b.shared.State().Shares[0] > 0.99 })
	select {
	case st := <-lost:
		if !st.Lost || st.Shares[0] > 0.34 || !strings.Contains(st.Err.Error(), "half of Config.TTL") {
			t.Errorf("others have all, and who had a third has %v: %v", st.Shares[0], st.Err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("others had all, and the late answer counted")
	}
	until(t, "agreement", func() bool { return agreed([]*replica{a, b}) })
}

// The part is given back also when an exchange is on its way just then.
func TestCloseDuringAnExchange(t *testing.T) {
	s := start(t)
	c, h := client(t, s.addr()), &slow{over: make(chan struct{})}
	c.AddHook(h)
	a := newReplica(t, c, redisbudget.Config{Timeout: 10 * time.Second})
	until(t, "agreement", func() bool { return agreed([]*replica{a}) })
	held := make(chan struct{})
	h.held.Store(&held)
	<-held
	if err := a.shared.Close(); err != nil {
		t.Fatal(err)
	}
	<-h.over
	fields, err := c.HKeys(t.Context(), "flyball:{test}").Result()
	if err != nil || len(fields) == 0 {
		t.Fatal(fields, err)
	}
	for _, f := range fields {
		if strings.HasPrefix(f, "m:") {
			t.Errorf("who has gone still has a part: %v", fields)
		}
	}
}

// While a configuration with one limit more is rolled out, old and new processes share what they have in common.
func TestRollingLimits(t *testing.T) {
	s := start(t)
	c := client(t, s.addr())
	join := func(n int) *redisbudget.Shared {
		b := budget()
		b.Limits = b.Limits[:n]
		guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(10), Budget: b})
		if err != nil {
			t.Fatal(err)
		}
		shared, err := redisbudget.Join(c, guard, redisbudget.Config{Name: "test", Limits: n})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { guard.Close(); shared.Close() })
		return shared
	}
	older, newer := join(1), join(2)
	until(t, "a part for both", func() bool {
		a, b := older.State(), newer.State()
		return a.Members == 2 && b.Members == 2 && a.Shares[0] > 0.4 && b.Shares[0] > 0.4 && b.Shares[1] > 0.9
	})
	if total := older.State().Shares[0] + newer.State().Shares[0]; total > 1.000001 {
		t.Errorf("the parts of the first limit are %v together, want 1 at most", total)
	}
}

// Limits are known by what they count, not by their place: processes that have them in another order, or others before them, share what
// they have in common, also after a Reload in which the order changes.
func TestOrderOfLimits(t *testing.T) {
	s := start(t)
	c := client(t, s.addr())
	config := func(places ...int) limiter.Config {
		b, all := budget(), budget().Limits
		b.Limits = nil
		for _, i := range places {
			b.Limits = append(b.Limits, all[i])
		}
		return limiter.Config{Budget: b}
	}
	join := func(places ...int) (*limiter.Guard, *redisbudget.Shared) {
		guard, err := limiter.New(config(places...))
		if err != nil {
			t.Fatal(err)
		}
		shared, err := redisbudget.Join(c, guard, redisbudget.Config{Name: "test", Limits: len(places)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { guard.Close(); shared.Close() })
		return guard, shared
	}
	part := func(g *limiter.Guard, kind string) float64 {
		for _, b := range g.Explain(0).Budgets {
			if b.Kind == kind {
				return b.Share
			}
		}
		return 0
	}
	older, _ := join(1)
	newer, shared := join(0, 1)
	agreed := func() bool {
		return part(older, "tokens") > 0.4 && part(newer, "tokens") > 0.4 && part(newer, "requests") > 0.9
	}
	until(t, "a part for both", agreed)
	// Whoever looks may be held up between the two guards, so that only what is so for several exchanges counts.
	within := func(d time.Duration) {
		t.Helper()
		for end, over := time.Now().Add(d), 0; time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if total := part(older, "tokens") + part(newer, "tokens"); total <= 1.000001 {
				over = 0
			} else if over++; over > 3 {
				t.Fatalf("the parts of the tokens are %v and %v, want 1 together at most", part(older, "tokens"), part(newer, "tokens"))
			}
		}
	}
	within(500 * time.Millisecond)
	if err := newer.Reload(config(1, 0)); err != nil {
		t.Fatal(err)
	}
	within(time.Second)
	until(t, "a part for both after a Reload", agreed)
	if st := shared.State(); st.Shares[0] > 0.6 || st.Shares[1] < 0.9 {
		t.Errorf("the parts of tokens and requests are %v, want a half and all", st.Shares)
	}
}

// In a cluster the script's only key is in one slot.
func TestCluster(t *testing.T) {
	s := start(t, "--cluster-enabled", "yes")
	one := client(t, s.addr())
	if err := one.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
		t.Skipf("this server makes no cluster of one: %v", err)
	}
	until(t, "cluster", func() bool {
		info, err := one.Do(t.Context(), "CLUSTER", "INFO").Text()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.addr()}})
	defer c.Close()
	a, b := newReplica(t, c, redisbudget.Config{}), newReplica(t, c, redisbudget.Config{})
	until(t, "agreement", func() bool { return agreed([]*replica{a, b}) })
}

// A client of a cluster asks which node has the key once a minute, or when a node says so; one that is gone says nothing.
func TestClusterFailsOver(t *testing.T) {
	t.Parallel()
	t.Run("two servers", failsOver)
}

func failsOver(t *testing.T) {
	master, next := start(t), start(t)
	var now atomic.Pointer[server]
	now.Store(master)
	var rs []*replica
	for range 2 {
		c := redis.NewClusterClient(&redis.ClusterOptions{
			ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
				return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: now.Load().addr()}}}}, nil
			},
			MaxRetries: -1, DialTimeout: 100 * time.Millisecond, ContextTimeoutEnabled: true,
		})
		t.Cleanup(func() { c.Close() })
		rs = append(rs, newReplica(t, c, redisbudget.Config{}))
	}
	until(t, "agreement", func() bool { return agreed(rs) })
	master.kill()
	until(t, "loss", func() bool { return rs[0].shared.State().Lost && rs[1].shared.State().Lost })
	now.Store(next)
	until(t, "agreement with who has taken over", func() bool { return agreed(rs) })
}

// A guard whose budget has other limits than are shared would spend them alone.
func TestConfigAndTheGuardsBudget(t *testing.T) {
	for n, b := range map[int]*limiter.Budget{0: nil, 2: budget()} {
		guard, err := limiter.New(limiter.Config{Name: "up", Budget: b})
		if err != nil {
			t.Fatal(err)
		}
		c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
		defer c.Close()
		shared, err := redisbudget.Join(c, guard, redisbudget.Config{Name: "test", Limits: 1})
		if err == nil {
			shared.Close()
		}
		if want := fmt.Sprintf("Config.Limits is 1, must be %d, ", n); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a budget of %d limits, of which one is shared: %v", n, err)
		}
	}
}

func TestConfig(t *testing.T) {
	_, err := redisbudget.Join(nil, nil, redisbudget.Config{Every: time.Hour, TTL: 1, Start: 2, Timeout: -1, Lost: 9})
	for _, want := range []string{"Name", "Limits", "Every", "TTL", "Start", "Timeout", "Lost", "client"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}
