// Package redisbudget has the guards of several processes share the budget of one upstream, through Redis or Valkey.
//
//	shared, err := redisbudget.Join(client, guard, redisbudget.Config{Name: "openai", Limits: 2})
//	...
//	defer shared.Close()
//
// # How it shares
//
// Each guard has the same limiter.Config.Budget, that of the whole upstream, and keeps to a part of it. A few times a second, in the
// background, each tells Redis the part that it keeps to and the part that it could use, and is told the part that it may keep to
// from then on; one script does this atomically, with the server's clock. The parts that are given out are never more than the whole: what one
// is to give up counts as its own until it has said that it did. Who wants little gets it, the others share the rest equally.
//
// A call never waits for Redis: it spends the guard's own part, which is on its own side. When Redis is slow or gone, the guard goes on
// with its last part at once, because that is what it has been doing; Config.Lost says what becomes of it after Config.TTL. As nobody can
// get a larger part either, the sum stays within the budget. It joins again by itself when Redis is back. A Redis that comes back
// empty, or that nobody reached for half a TTL, gives nobody more than he has for one TTL, and 2 s at least, until all have come.
//
// A pause that an upstream asks for reaches the other guards with the next exchange. Guard.Resume ends it in its own process, and does
// not reach the others. The mean of the limits that the others have learned is
// in State, for a process that starts.
//
// A limit is known by what it counts ("tokens"), and among several that count the same by its period: the shortest is the first. So
// processes whose configurations name the limits in another order, while one is rolled out, share them as they should.
//
// All keys of one budget are one key, so a cluster needs no more than the key's slot.
package redisbudget

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/flyball-go/flyball/limiter"
)

// OnLost is what a guard keeps to that has not reached Redis for Config.TTL.
type OnLost uint8

const (
	// KeepShare keeps the last part. It is right when Redis is gone for all, and exceeds the budget by at most that part when only
	// this process cannot reach it. It is the default.
	KeepShare OnLost = iota
	// Closed starts nothing until Redis is back.
	Closed
	// Open takes the whole budget, as if there were no others.
	Open
)

// Config is what a Shared is made from. Name must be set.
type Config struct {
	// Name names the budget: the guards of one name share. The key in Redis is "flyball:{Name}".
	Name string
	// Limits is how many limits the guard's budget has (1 to 8), the same in all processes. Those that a Reload brings beyond it are not shared:
	// each process spends all of them.
	Limits int
	// Every is how often the parts are agreed on anew (20 ms to 1 min). Zero means 200 ms. Smaller follows the demand
	// faster and asks Redis more often: one script a process each time.
	Every time.Duration
	// Timeout is how long Redis may take to answer (1 ms or more). Zero means 100 ms, or Every when that is less. What it answers after more
	// than half of TTL counts as no answer.
	Timeout time.Duration
	// TTL is how long the part of a process that is gone stays its own (at least 3 times Every). Zero means 2 s, or 5 times Every
	// when that is more.
	TTL time.Duration
	// Lost is what becomes of the guard's part when Redis was not reached for TTL.
	Lost OnLost
	// Start is the part (0 to 1) until Redis has answered for the first time: 1 divided by the number of processes, when that is
	// known. Zero means that nothing starts until then.
	Start float64
	// OnState, when set, is called when Redis is lost and when it is back, by a goroutine of its own. It must be quick.
	OnState func(State)
}

// State is what a Shared looks like at one instant.
type State struct {
	// Shares are the parts (0 to 1) that the guard keeps to, one for each limit of its budget.
	Shares []float64
	// Members is how many processes share, this one included, as Redis last said.
	Members int
	// Lost says that the last exchange failed, and Err why. Age is the time since the last one that did not.
	Lost bool
	Err  error
	Age  time.Duration
	// PeerLimit is the mean of the limits on calls in flight that the others have learned; 0 when there are none.
	PeerLimit float64
}

// Shared is a guard's part in a budget. Make it with Join. Its methods may be called by any number of goroutines.
type Shared struct {
	cfg    Config
	client redis.UniversalClient
	guard  *limiter.Guard
	id     string
	stop   context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	state   State
	reached time.Time

	// Of the goroutine that exchanges.
	started uint64      // calls when it last looked
	looked  time.Time   //
	names   []string    // of the limits, as State.Shares and rates have them
	rates   []float64   // demand, smoothed
	pause   time.Time   // the end of the last pause that came from others
	lifted  time.Time   // the end of the last one of those that Guard.Resume ended here
	turn    uint64      // exchanges begun
	late    chan answer // of an exchange that was not waited for; nil when there is none
}

//go:embed share.lua
var source string

var script = redis.NewScript(source)

// Join has a guard share its budget from now on. A goroutine, which Close ends, keeps in touch with Redis; Redis need not be there.
func Join(client redis.UniversalClient, guard *limiter.Guard, cfg Config) (*Shared, error) {
	if cfg.Every == 0 {
		cfg.Every = 200 * time.Millisecond
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = min(100*time.Millisecond, cfg.Every)
	}
	if cfg.TTL == 0 {
		cfg.TTL = max(2*time.Second, 5*cfg.Every)
	}
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("redisbudget: Config.%s is %v, must be %s", field, value, allowed))
	}
	if cfg.Name == "" {
		bad("Name", "empty", "set")
	}
	if cfg.Limits < 1 || cfg.Limits > 8 {
		bad("Limits", cfg.Limits, "1 to 8, as the guard's Budget.Limits")
	}
	if cfg.Every < 20*time.Millisecond || cfg.Every > time.Minute {
		bad("Every", cfg.Every, "0 (default) or 20ms to 1m")
	}
	if cfg.Timeout < time.Millisecond {
		bad("Timeout", cfg.Timeout, "0 (default) or at least 1ms")
	}
	if cfg.TTL < 3*cfg.Every {
		bad("TTL", cfg.TTL, "0 (default) or at least 3 times Every")
	}
	if !(cfg.Start >= 0 && cfg.Start <= 1) {
		bad("Start", cfg.Start, "a ratio of 0 to 1")
	}
	if cfg.Lost > Open {
		bad("Lost", uint8(cfg.Lost), "KeepShare, Closed or Open")
	}
	if client == nil || guard == nil {
		errs = append(errs, errors.New("redisbudget: Join needs a client and a guard"))
	} else if n := len(guard.Explain(0).Budgets); cfg.Limits >= 1 && n != cfg.Limits {
		// Those beyond Limits would not be shared: each process would spend all of them.
		bad("Limits", cfg.Limits, fmt.Sprintf("%d, as many as the limits of the budget of guard %s", n, guard.Name()))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s := &Shared{
		cfg: cfg, client: client, guard: guard, id: strconv.FormatUint(rand.Uint64(), 36), ended: make(chan struct{}),
		looked: time.Now(), names: names(guard.Explain(0).Budgets, cfg.Limits), rates: make([]float64, cfg.Limits),
	}
	shares := make([]float64, cfg.Limits)
	for i := range shares {
		shares[i] = cfg.Start
	}
	s.state.Shares = shares
	guard.ShareBudget(shares)
	s.started = starts(guard.Stats())
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go s.run(ctx)
	return s, nil
}

// State returns what it looks like now.
func (s *Shared) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Shares = append([]float64(nil), st.Shares...)
	if !s.reached.IsZero() {
		st.Age = time.Since(s.reached)
	}
	return st
}

// Close gives the part back and ends the exchange. The guard starts nothing afterwards that its budget counts: its part is the others'.
func (s *Shared) Close() error {
	s.stop()
	<-s.ended
	s.guard.ShareBudget(make([]float64, s.cfg.Limits))
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeout)
	defer cancel()
	if s.late != nil { // it would take the part again if it came after what follows
		select {
		case <-s.late:
		case <-ctx.Done():
		}
	}
	// Nothing is lost when Redis does not hear of it: the part is free after TTL.
	if err := s.client.HDel(ctx, s.key(), "m:"+s.id).Err(); err != nil {
		return fmt.Errorf("redisbudget: %w", err)
	}
	return nil
}

func (s *Shared) key() string { return "flyball:{" + s.cfg.Name + "}" }

func (s *Shared) run(ctx context.Context) {
	defer close(s.ended)
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		s.exchange(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// names returns what the first n limits of a budget are called; "-" is one that is not there.
func names(budgets []limiter.BudgetState, n int) []string {
	out := make([]string, n)
	for i := range out {
		if i >= len(budgets) {
			out[i] = "-"
			continue
		}
		b, nth := &budgets[i], 1
		for j := range budgets {
			if o := &budgets[j]; o.Kind == b.Kind && (o.Period < b.Period || o.Period == b.Period && j < i) {
				nth++
			}
		}
		if out[i] = b.Kind; nth > 1 {
			out[i] += strconv.Itoa(nth)
		}
	}
	return out
}

// inOrder returns values in the order of the names in to; they are in that of those in from. What is not there is other.
func inOrder(values []float64, from, to []string, other float64) []float64 {
	out := make([]float64, len(to))
	for i, name := range to {
		if j := slices.Index(from, name); j >= 0 {
			out[i] = values[j]
		} else {
			out[i] = other
		}
	}
	return out
}

// starts is how many calls a guard has let start, as far as can be told from outside.
func starts(st limiter.Stats) uint64 {
	n := uint64(max(0, st.InFlight))
	for _, k := range st.Counts.Outcomes {
		n += k
	}
	return n
}

// wants returns the part of each limit that the guard could use: what it used lately, and a second's worth of those who wait for it.
func (s *Shared) wants(st limiter.Stats, e limiter.Explanation) []float64 {
	now := time.Now()
	dt := max(time.Millisecond, now.Sub(s.looked)).Seconds()
	n := starts(st)
	rate := float64(n-min(n, s.started)) / dt
	s.started, s.looked = n, now
	// Requests a second, and how many times as many it would be without the wait.
	demand := rate + float64(st.Waiting)
	grow := 1.25 // room to find out that there is more to do
	if rate > 0 {
		grow = max(grow, demand/rate)
	}
	out := make([]float64, s.cfg.Limits)
	for i := range out {
		used := 0.0
		if i < len(e.Budgets) && e.Budgets[i].Limit > 0 {
			b := e.Budgets[i]
			share := s.state.Shares[i]
			switch {
			case b.Kind == "requests" || b.Kind == "daily":
				// Limit is of the part; the whole is so many a second.
				if whole := float64(b.Limit) / b.Period.Seconds() / max(share, 1e-9); whole > 0 {
					used = demand * 1.25 / whole
				}
			case b.Left < b.Limit/2 || st.Waiting > 0:
				used = share * grow // it spends about all that it has
			default:
				used = share / 2
			}
		} else if demand > 0 {
			used = 1
		}
		// It follows a rise at once, and a fall over some rounds, so that a lull gives nothing away that is needed again.
		s.rates[i] = max(min(used, 1), s.rates[i]*0.8)
		out[i] = s.rates[i]
	}
	return out
}

// exchange tells Redis of this member and obeys the answer.
func (s *Shared) exchange(ctx context.Context) {
	s.put(s.state.Shares, func(*State) {}) // the guard may have been reloaded
	st := s.guard.Stats()
	wants := s.wants(st, s.guard.Explain(0))
	now := time.Now()
	pause := time.Duration(0)
	// A pause that came from the others is theirs to tell: told again it would grow by the time that each exchange takes. What the guard's own
	// law holds back for says nothing of the others, whose laws know what they have seen.
	if st.Asked > 0 && now.Add(st.Asked).After(s.pause.Add(100*time.Millisecond)) {
		pause = st.Asked
	}
	if st.Asked == 0 && s.pause.After(now) {
		s.lifted = s.pause
	}
	s.turn++
	args := []any{s.id, s.cfg.TTL.Milliseconds(), pause.Milliseconds(), st.Limit, s.turn}
	for i, share := range s.state.Shares { // written by this goroutine only
		args = append(args, s.names[i], share, wants[i])
	}
	reply, err := s.ask(ctx, args)
	var n []float64
	if err == nil {
		n, err = numbers(reply, 3+s.cfg.Limits)
	}
	if ctx.Err() != nil {
		return
	}
	if took := time.Since(now); err == nil && took > s.cfg.TTL/2 {
		err = fmt.Errorf("redisbudget: Redis answered after %v, and the part may be others' again; half of Config.TTL is %v", took.Round(time.Millisecond), s.cfg.TTL/2)
	}
	if err != nil {
		s.lost(err)
		s.relearn(ctx)
		return
	}
	if end := now.Add(st.Asked); st.Asked > 0 && end.After(s.lifted) && s.guard.Stats().Asked == 0 {
		s.lifted = end // it was ended meanwhile
	}
	if left := time.Duration(n[0]) * time.Millisecond; left > 0 {
		if until := now.Add(left); until.After(s.pause) {
			s.pause = until
		}
		if until := now.Add(left); until.After(s.lifted.Add(100 * time.Millisecond)) {
			s.guard.Pause(until)
		}
	} else {
		s.pause = time.Time{} // one that is still on is told again: Redis has come back empty, say
	}
	s.put(n[3:], func(state *State) {
		state.Members, state.PeerLimit = int(n[1]), n[2]
		state.Lost, state.Err = false, nil
		s.reached = now
	})
}

// answer is what the client returned.
type answer struct {
	reply []string
	err   error
}

// ask runs the script, and waits for Config.Timeout at most. A client without ContextTimeoutEnabled takes longer when Redis does not answer;
// exchanges fail until it has returned.
func (s *Shared) ask(ctx context.Context, args []any) ([]string, error) {
	call, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if s.late != nil {
		select {
		case <-s.late:
			s.late = nil
		case <-call.Done():
			return nil, call.Err()
		}
	}
	came := make(chan answer, 1)
	go func() { // ends when the client returns
		reply, err := script.Run(call, s.client, []string{s.key()}, args...).StringSlice()
		came <- answer{reply, err}
		close(came)
	}()
	select {
	case a := <-came:
		return a.reply, a.err
	case <-call.Done():
		s.late = came
		return nil, call.Err()
	}
}

// numbers reads a reply.
func numbers(reply []string, want int) ([]float64, error) {
	if len(reply) != want {
		return nil, fmt.Errorf("redisbudget: Redis answered with %d values, want %d", len(reply), want)
	}
	out := make([]float64, len(reply))
	for i, r := range reply {
		v, err := strconv.ParseFloat(r, 64)
		if err != nil || !(v >= 0) {
			return nil, fmt.Errorf("redisbudget: Redis answered with %q, want a number", r)
		}
		out[i] = v
	}
	return out, nil
}

// lost goes on without Redis.
func (s *Shared) lost(err error) {
	shares := s.state.Shares
	if !s.reached.IsZero() && time.Since(s.reached) > s.cfg.TTL {
		switch s.cfg.Lost {
		case Closed:
			shares = make([]float64, s.cfg.Limits)
		case Open:
			shares = make([]float64, s.cfg.Limits)
			for i := range shares {
				shares[i] = 1
			}
		}
	}
	s.put(shares, func(state *State) { state.Lost, state.Err = true, err })
}

// relearn has a client of a cluster ask again which node has the key. By itself it asks once a minute, as it does not come to know, within
// Config.Timeout, that a node is gone: processes would find the one that has taken over up to a minute apart, and one that is early would get the
// parts to which the others keep.
func (s *Shared) relearn(ctx context.Context) {
	if c, ok := s.client.(interface{ ReloadState(context.Context) }); ok {
		c.ReloadState(ctx) // returns at once
	}
}

// put keeps the guard to its shares from now on. They are in the order of names, which follows that of the guard's limits; a limit that is
// new begins as in Join.
func (s *Shared) put(shares []float64, change func(*State)) {
	if now := names(s.guard.Explain(0).Budgets, s.cfg.Limits); !slices.Equal(now, s.names) {
		shares = inOrder(shares, s.names, now, s.cfg.Start)
		s.rates = inOrder(s.rates, s.names, now, 0)
		s.names = now
	}
	s.guard.ShareBudget(shares) // also when they are as before: a reload may have brought limits that are not shared yet
	s.mu.Lock()
	was := s.state.Lost
	change(&s.state)
	s.state.Shares = shares
	now := s.state
	s.mu.Unlock()
	if was != now.Lost && s.cfg.OnState != nil {
		now.Shares = append([]float64(nil), now.Shares...)
		s.cfg.OnState(now)
	}
}
