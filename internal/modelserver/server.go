package modelserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

// Config is what a Server is made from. The zero Config answers everything at once.
type Config struct {
	// Upstream is the model. FirstByte and Progress are set by New; Epoch is the time of New.
	Upstream upstream.Config
	// Keys are the credentials that are accepted, in the order of Upstream.Keys. nil accepts any.
	Keys []string
	// Models are the names that /v1/models lists. nil is "sim-large" and "sim-small". Any name is accepted in a request.
	Models []string
	// Output is how many tokens an answer has when its request does not say. The zero Dist is 100 of them.
	Output draw.Dist
	// ChunkTokens is how many tokens come in one event of a stream. Zero means 4.
	ChunkTokens int
	// Network delays a request on its way in, and its answer on its way out, by half of it each. It is for tests on one machine,
	// which has no network worth the name.
	Network time.Duration
}

// ErrClosed is what calls get after Close.
var ErrClosed = errors.New("modelserver: closed")

// Server is an upstream in real time: an http.Handler, and a function to call. It may be used by any number of goroutines. Make it with
// New; close it when it is no longer used.
type Server struct {
	cfg    Config
	origin time.Time
	keys   map[string]int

	mu      sync.Mutex
	up      *upstream.Upstream
	timer   *time.Timer
	flights map[uint64]*flight
	calls   uint64 // so far; the next call's ID
	closed  bool
	done    chan struct{} // closed by Close
	large   chan struct{} // has a token for each large body that is read
	total   Counts
	byKey   map[string]*Counts
	serving sync.WaitGroup // handlers
}

// flight is a call that waits for what the upstream says. Its fields are guarded by Server.mu.
type flight struct {
	handle  upstream.Handle
	wake    chan struct{} // has a token when there is news
	began   time.Duration
	first   bool // the answer has begun
	firstAt time.Duration
	header  *upstream.Reply // of an answer that has begun; nil when it is not known
	tokens  int64           // of the answer that are there
	reply   *upstream.Reply // the end; nil before
	refused bool
	endedAt time.Duration
}

// New returns a server. The error says what makes cfg no upstream.
func New(cfg Config) (*Server, error) {
	u := &cfg.Upstream
	if cfg.ChunkTokens == 0 {
		cfg.ChunkTokens = 4
	}
	if cfg.Output.Shape == 0 && cfg.Output.Mean == 0 {
		cfg.Output = draw.Dist{Mean: 100}
	}
	if cfg.Models == nil {
		cfg.Models = []string{"sim-large", "sim-small"}
	}
	u.FirstByte, u.Progress = true, int64(cfg.ChunkTokens)
	errs := []error{u.Check()}
	if err := cfg.Output.Check(); err != nil {
		errs = append(errs, fmt.Errorf("modelserver: Output: %w", err))
	}
	if cfg.ChunkTokens < 0 || cfg.Network < 0 {
		errs = append(errs, fmt.Errorf("modelserver: ChunkTokens %d or Network %v is negative", cfg.ChunkTokens, cfg.Network))
	}
	if n := max(1, len(u.Keys)); cfg.Keys != nil && len(cfg.Keys) != n {
		errs = append(errs, fmt.Errorf("modelserver: %d credentials for %d keys of the upstream: give one for each", len(cfg.Keys), n))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, origin: time.Now(), flights: map[uint64]*flight{}, done: make(chan struct{}), large: make(chan struct{}, maxLarge),
		byKey: map[string]*Counts{},
	}
	if cfg.Keys != nil {
		s.keys = make(map[string]int, len(cfg.Keys))
		for i, k := range cfg.Keys {
			if _, twice := s.keys[k]; twice || k == "" {
				return nil, fmt.Errorf("modelserver: credential %d is empty or given twice", i)
			}
			s.keys[k] = i
		}
	}
	if u.Epoch.IsZero() {
		u.Epoch = s.origin
	}
	s.up = upstream.New(*u)
	s.timer = time.AfterFunc(time.Hour, s.tick)
	s.timer.Stop()
	s.mu.Lock()
	s.plan()
	s.mu.Unlock()
	return s, nil
}

// now returns the instant of the upstream.
func (s *Server) now() int64 { return int64(time.Since(s.origin)) }

// tick lets happen what is due.
func (s *Server) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.up.Advance(s.now(), s.tell)
		s.total.MaxBusy = max(s.total.MaxBusy, s.up.Busy())
		s.plan()
	}
}

// plan sets the timer to the next thing that happens by itself. The caller holds mu.
func (s *Server) plan() {
	at, ok := s.up.Next()
	if !ok || s.closed {
		s.timer.Stop()
		return
	}
	s.timer.Reset(time.Duration(at) - time.Since(s.origin))
}

// tell hands an event to its call. The caller holds mu.
func (s *Server) tell(e *upstream.Event) {
	f := s.flights[e.ID]
	if f == nil {
		return
	}
	switch e.Kind {
	case upstream.FirstByte:
		f.first, f.firstAt, f.header = true, time.Duration(e.At), e.Reply
	case upstream.Progress:
		f.tokens = e.Tokens
	case upstream.Done:
		f.reply, f.tokens, f.endedAt = e.Reply, e.Tokens, time.Duration(e.At)
		if !f.first {
			f.first, f.firstAt = true, time.Duration(e.At)
		}
		delete(s.flights, e.ID)
	case upstream.Refused:
		f.reply, f.refused, f.endedAt = e.Reply, true, time.Duration(e.At)
		delete(s.flights, e.ID)
	default:
		return // it is swallowed: there will be no news
	}
	select {
	case f.wake <- struct{}{}:
	default: // it has news already
	}
}

// Call is what is asked of the upstream.
type Call struct {
	// Key is the credential; empty is none.
	Key string
	// Input, Cached and Output are the tokens of the prompt, of the part of it that a cache has, and of the answer.
	Input, Cached, Output int64
	// MaxOutput is how long the caller lets the answer be, in tokens; zero is as long as it will be.
	MaxOutput int64
}

// submit starts a call. The error is ErrClosed or errKey.
func (s *Server) submit(c *Call) (id uint64, f *flight, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, nil, ErrClosed
	}
	account := 0
	if s.keys != nil {
		i, ok := s.keys[c.Key]
		if !ok {
			s.total.Unknown++
			return 0, nil, errKey
		}
		account = i
	}
	now := s.now()
	s.up.Advance(now, s.tell)
	id = s.calls
	s.calls++
	f = &flight{wake: make(chan struct{}, 1), began: time.Duration(now)}
	s.flights[id] = f
	f.handle = s.up.Submit(now, upstream.Call{
		ID: id, Key: id, Account: account,
		Input: c.Input, Output: c.Output, Cached: c.Cached, MaxOutput: c.MaxOutput,
	})
	s.started(c.Key)
	s.up.Advance(now, s.tell) // what is due at once
	s.total.MaxBusy = max(s.total.MaxBusy, s.up.Busy())
	s.plan()
	return id, f, nil
}

var errKey = errors.New("modelserver: unknown credential")

// cancel ends a call whose caller hung up.
func (s *Server) cancel(id uint64, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights[id] != f {
		return // it has ended meanwhile
	}
	delete(s.flights, id)
	if !s.closed {
		now := s.now()
		s.up.Advance(now, s.tell)
		s.up.Cancel(now, f.handle)
		s.plan()
	}
}

// news waits until there is more than was known; the copy is what is known then.
func (s *Server) news(ctx context.Context, id uint64, f *flight) (flight, error) {
	select {
	case <-f.wake:
	case <-ctx.Done():
		s.cancel(id, f)
		return flight{}, context.Cause(ctx)
	case <-s.done:
		return flight{}, ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return *f, nil
}

// Result is how a call ended.
type Result struct {
	// Status, Header and Body are the answer's; a success has no Body here.
	Status int
	Header map[string][]string
	Body   []byte
	// First is the time from the call to the first byte of its answer, and Took to the last one.
	First, Took time.Duration
}

// Do makes a call without HTTP and waits for its answer. The error is the context's cause, or ErrClosed.
func (s *Server) Do(ctx context.Context, c Call) (Result, error) {
	network := s.network()
	half := network / 2
	if err := sleep(ctx, half); err != nil {
		return Result{}, err
	}
	id, f, err := s.submit(&c)
	if errors.Is(err, errKey) {
		return Result{Status: http.StatusUnauthorized}, nil
	}
	if err != nil {
		return Result{}, err
	}
	var n flight
	for {
		if n, err = s.news(ctx, id, f); err != nil {
			s.ended(c.Key, nil, false)
			return Result{}, err
		}
		if n.reply != nil {
			break
		}
	}
	s.ended(c.Key, n.reply, !n.refused)
	if err := sleep(ctx, half); err != nil {
		return Result{}, err
	}
	r := Result{Status: n.reply.Status, Header: n.reply.Header, Body: n.reply.Body, Took: n.endedAt - n.began + network}
	r.First = r.Took
	if n.first {
		r.First = n.firstAt - n.began + network
	}
	return r, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// network returns the round trip as it is now.
func (s *Server) network() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.Network
}

// Set changes a parameter of the upstream, from now on. What it means is said at upstream.ParamKind.
func (s *Server) Set(p upstream.Param, value float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if p.Kind == upstream.ParamRTT && !math.IsNaN(value) {
		s.cfg.Network = time.Duration(min(max(0, value), 3600) * 1e9)
		return
	}
	now := s.now()
	s.up.Advance(now, s.tell)
	s.up.Set(now, p, value)
	s.up.Advance(now, s.tell)
	s.plan()
}

// Close ends all calls and waits until their handlers have returned; requests that come later are answered
// with 503. Closing twice is fine.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.timer.Stop()
		close(s.done)
	}
	s.mu.Unlock()
	s.serving.Wait()
	return nil
}

// Counts are what was asked of a server, or with one credential, since its start or the last Reset.
type Counts struct {
	// Calls is how many came. Accepted were served, Refused were not, Canceled hung up or were cut off by Close; the rest is
	// in flight.
	Calls, Accepted, Refused, Canceled int64
	// Status counts the refusals by HTTP status.
	Status map[int]int64
	// Invalid is how many requests were none, and Unknown how many came with an unknown credential. They are no calls.
	Invalid, Unknown int64
	// InFlight is how many calls are inside, refused ones until their answer is out; MaxInFlight is the most there were.
	InFlight, MaxInFlight int
	// MaxBusy is the most that were being served at a time, of the whole server.
	MaxBusy int
	// InputTokens and OutputTokens are what accepted calls used.
	InputTokens, OutputTokens int64
}

// Stats returns the counts of the whole server, and those with each credential ("" is none).
func (s *Server) Stats() (total Counts, byKey map[string]Counts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	byKey = make(map[string]Counts, len(s.byKey))
	for k, c := range s.byKey {
		byKey[k] = c.clone()
	}
	return s.total.clone(), byKey
}

// ResetStats sets all counts to what is in flight now.
func (s *Server) ResetStats() {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := func(c *Counts) { *c = Counts{Calls: int64(c.InFlight), InFlight: c.InFlight, MaxInFlight: c.InFlight} }
	fresh(&s.total)
	for _, c := range s.byKey {
		fresh(c)
	}
}

func (c *Counts) clone() Counts {
	d := *c
	d.Status = maps.Clone(c.Status)
	return d
}

func (c *Counts) start() {
	c.Calls++
	c.InFlight++
	c.MaxInFlight = max(c.MaxInFlight, c.InFlight)
}

func (c *Counts) end(r *upstream.Reply, accepted bool) {
	c.InFlight--
	switch {
	case accepted:
		c.Accepted++
	case r == nil:
		c.Canceled++
	default:
		c.Refused++
		if c.Status == nil {
			c.Status = map[int]int64{}
		}
		c.Status[r.Status]++
	}
}

// maxKeys bounds how many credentials are counted apart, as anybody may send any.
const maxKeys = 10_000

// started counts a call. The caller holds mu.
func (s *Server) started(key string) {
	s.total.start()
	c := s.byKey[key]
	if c == nil {
		if len(s.byKey) >= maxKeys {
			return
		}
		c = &Counts{}
		s.byKey[key] = c
	}
	c.start()
}

// ended counts the end of a call: with a reply, or without one when its caller hung up.
func (s *Server) ended(key string, r *upstream.Reply, accepted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total.end(r, accepted)
	if c := s.byKey[key]; c != nil {
		c.end(r, accepted)
	}
}

// used counts the tokens of a call that was served.
func (s *Server) used(key string, in, out int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range []*Counts{&s.total, s.byKey[key]} {
		if c != nil {
			c.InputTokens += in
			c.OutputTokens += out
		}
	}
}
