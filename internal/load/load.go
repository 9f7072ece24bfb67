// Package load sends real requests to a real server, through a real guard or without one, and measures what the
// simulator measures: the result has the form of its runs.
//
// # Latencies
//
// A latency counts from when a request was meant to start, not from when it was sent (Latencies), because a sender that is held back
// by a slow server would otherwise leave out the very requests that wait longest (coordinated omission). What it
// would have looked like is kept beside it (FromSend). In a closed loop without a plan there is no such instant:
// a latency then counts from when the client asked.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/peers"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// Config is what is sent, and how.
type Config struct {
	// URL, Method, Header and Body are those of each request. An empty Method is GET, or POST with a Body.
	URL    string
	Method string
	Header http.Header
	Body   []byte
	// Prepare, when set, may change the n-th request (from 0, in the order in which they were due) before it is sent. It is called
	// by many goroutines.
	Prepare func(n int, req *http.Request)

	// Rate is how many requests start a second. Without Clients they come at random, whatever the server does (an open
	// loop); with Clients they are planned evenly over the clients, and one that is late starts at once.
	Rate float64
	// Constant makes an open loop come at equal intervals.
	Constant bool
	// Clients is how many clients ask, wait for the answer, think, and ask again.
	Clients int
	// Think is how long they think, without a Rate.
	Think time.Duration
	// Duration is for how long requests start; Drain is how much longer answers are waited for, at most.
	Duration, Drain time.Duration
	// Timeout is how long a caller waits for its answer; zero is Duration + Drain.
	Timeout time.Duration
	// Step is the length of a step of the series. Zero means a 300th of Duration, at least 100 ms.
	Step time.Duration
	// Seed makes the instants of an open loop.
	Seed uint64
	// MaxOpen is how many requests of an open loop are under way at most; the next ones start late, and their latency
	// counts from when they should have. Zero means 10,000.
	MaxOpen int

	// Base sends; nil is a transport with as many connections as it takes.
	Base http.RoundTripper
	// Guard is what requests pass; nil is nothing. Transport says how it reads answers.
	Guard     *limiter.Guard
	Transport httplimit.Config
	// Caller is what the callers do about refusals themselves; nil is nothing.
	Caller *peers.Caller
}

// Result is what happened.
type Result struct {
	// Offered is how many requests were meant to start; OK, Failed, Refused and Unfinished add up to it. OK is an answer below
	// 400 that was read to its end and has no error in its body. Refused was turned away by the guard. Unfinished had no answer when the drain ended,
	// or had not even been started, as all clients were waiting.
	Offered, OK, Failed, Refused, Unfinished int64
	// InTime is how many of OK ended within Duration.
	InTime int64
	// Sent is how many attempts were sent, Rejected how many were answered with 429, and Statuses counts all answers; 0 is
	// an attempt without one.
	Sent, Rejected int64
	Statuses       map[int]int64
	// Broken is how many of Failed were answered with a success that has an error in its body, as streams of language models can have.
	Broken int64
	// Latencies are those of the successes, from when they were meant to start; FromSend from when their caller's
	// goroutine really began.
	Latencies, FromSend []time.Duration
	// Late is by how much the latest request started late.
	Late time.Duration
	// Series is the run over time, and Decisions what the guard decided.
	Series    Series
	Decisions []limiter.Decision
	// MeanLimit is 0 without a guard. MeanInFlight counts attempts at the server.
	MeanLimit, MeanInFlight float64
	// Attempts are all attempts in the order in which they were sent.
	Attempts []Attempt
	// Began is when the run began.
	Began time.Time
}

// Series are samples at the end of each step.
type Series struct {
	Step                           time.Duration
	Limit, Pace, InFlight, Waiting []float64
	// OK and Rejected are how many successes and 429s there were in the step.
	OK, Rejected []float64
}

// Attempt is one request on the wire.
type Attempt struct {
	// Request is the number of the request that it belongs to.
	Request int
	// Sent, and Took until the header of the answer (or the error) came, and Ended until its body ended.
	Sent, Took, Ended time.Duration
	// Status is 0 without an answer.
	Status int
}

// Check returns what is wrong with a configuration, or nil.
func (c *Config) Check() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		plain, _, _ := strings.Cut(c.URL, "?") // what follows may be a secret
		return fmt.Errorf("load: %q is no URL to send to: write one such as http://127.0.0.1:8080/", plain)
	case c.Duration <= 0 || c.Drain < 0 || c.Timeout < 0 || c.Think < 0 || c.MaxOpen < 0:
		return fmt.Errorf("load: Duration %v, Drain %v, Timeout %v, Think %v, MaxOpen %d: out of range", c.Duration, c.Drain, c.Timeout, c.Think, c.MaxOpen)
	case c.Rate == 0 && c.Clients == 0:
		return errors.New("load: neither a rate nor a number of clients is set")
	case !(c.Rate >= 0 && c.Rate <= 1e6) || c.Clients < 0 || c.Clients > 100_000:
		return fmt.Errorf("load: the rate is %v, must be up to 1000000 a second; the number of clients is %d, must be up to 100000", c.Rate, c.Clients)
	}
	return nil
}

// runner is the state of one run.
type runner struct {
	cfg    Config
	client *http.Client
	wire   *wire
	began  time.Time

	mu sync.Mutex
	r  Result
}

// Run sends until Duration is over and answers have come, or ctx ends; then it returns what happened. The error says
// what is wrong with cfg.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Method == "" {
		cfg.Method = http.MethodGet
		if cfg.Body != nil {
			cfg.Method = http.MethodPost
		}
	}
	if cfg.MaxOpen == 0 {
		cfg.MaxOpen = 10_000
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = cfg.Duration + cfg.Drain
	}
	if cfg.Step == 0 {
		cfg.Step = max(100*time.Millisecond, cfg.Duration/300)
	}
	base := cfg.Base
	if base == nil {
		t := transport(cfg.MaxOpen)
		base = t
		defer t.CloseIdleConnections()
	}
	l := &runner{cfg: cfg, began: time.Now()}
	l.r.Began = l.began
	l.wire = &wire{base: base, began: l.began}
	var through http.RoundTripper = l.wire
	if cfg.Guard != nil {
		cfg.Guard.OnDecision(func(d limiter.Decision) {
			d.At = time.Since(l.began) // not since the guard was made
			l.mu.Lock()
			defer l.mu.Unlock()
			l.r.Decisions = append(l.r.Decisions, d)
		})
		through = httplimit.New(l.wire, cfg.Guard, cfg.Transport)
	}
	l.client = &http.Client{Transport: through, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

	// The run ends when its drain does.
	run, stop := context.WithTimeout(ctx, cfg.Duration+cfg.Drain)
	defer stop()
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		l.sample(run)
	}()
	var requests sync.WaitGroup
	if cfg.Clients > 0 {
		l.closed(run, &requests)
	} else {
		l.arrive(run, &requests)
	}
	requests.Wait()
	if time.Since(l.began) < cfg.Duration { // the clients are done early only when ctx ended
		stop()
	}
	<-sampled
	return l.result(), nil
}

// transport returns what requests are sent with, as many at a time as open.
func transport(open int) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = open, open
	t.Proxy = nil // what is measured is the server, and not a proxy on the way
	// Else a connection that leads nowhere takes all requests, and each that times out counts against the server.
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second}
	return t
}

// arrive starts the requests of an open loop.
func (l *runner) arrive(ctx context.Context, requests *sync.WaitGroup) {
	random := rand.New(rand.NewPCG(l.cfg.Seed, 0x10ad))
	places := make(chan struct{}, l.cfg.MaxOpen)
	gap := func() time.Duration {
		g := 1 / l.cfg.Rate
		if !l.cfg.Constant {
			g *= random.ExpFloat64()
		}
		return seconds(g)
	}
	for k, due := 0, gap(); due < l.cfg.Duration; k, due = k+1, due+gap() {
		l.sleepUntil(ctx, due)
		if ctx.Err() != nil {
			if l.missed(due) {
				continue
			}
			return
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			l.missed(due)
			continue
		}
		requests.Go(func() {
			l.request(ctx, due, k)
			<-places
		})
	}
}

// seconds returns s as a duration, or the longest one that can be added to another: what is beyond it would be in the past, and due at once.
func seconds(s float64) time.Duration { return time.Duration(min(s*float64(time.Second), 1<<62)) }

// closed lets clients ask.
func (l *runner) closed(ctx context.Context, requests *sync.WaitGroup) {
	n := l.cfg.Clients
	for i := range n {
		requests.Go(func() {
			for k := 0; ; k++ {
				var due time.Duration
				switch {
				case l.cfg.Rate > 0:
					due = seconds(float64(i+k*n) / l.cfg.Rate)
				case k == 0: // not all at once
					due = time.Duration(i) * min(l.cfg.Think, time.Second) / time.Duration(n)
				default:
					due = time.Since(l.began) + l.cfg.Think
				}
				if due >= l.cfg.Duration {
					return
				}
				l.sleepUntil(ctx, due)
				if ctx.Err() != nil {
					if l.cfg.Rate > 0 && l.missed(due) {
						continue
					}
					return
				}
				if !l.request(ctx, due, -1) && l.cfg.Rate == 0 {
					l.sleepUntil(ctx, time.Since(l.began)+time.Second) // as in the simulator
				}
			}
		})
	}
}

// missed counts a request that was due before the run ended, and that nobody was free to start; it reports false for one that was not due.
func (l *runner) missed(due time.Duration) bool {
	if due > time.Since(l.began) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r.Offered++
	l.r.Unfinished++
	return true
}

func (l *runner) sleepUntil(ctx context.Context, at time.Duration) {
	d := at - time.Since(l.began)
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// number is the key of a request's number in its context.
type number struct{}

// request makes one request that was due at an instant, and reports whether it went well. k is its number; -1 is the next one.
func (l *runner) request(ctx context.Context, due time.Duration, k int) bool {
	start := time.Since(l.began)
	l.mu.Lock()
	n := int(l.r.Offered)
	if k >= 0 {
		n = k
	}
	l.r.Offered++
	l.r.Late = max(l.r.Late, start-due)
	l.mu.Unlock()
	own, cancel := context.WithTimeout(context.WithValue(ctx, number{}, n), max(0, due+l.cfg.Timeout-start))
	defer cancel()
	var err error
	for attempt := 1; ; attempt++ {
		var rest time.Duration
		if rest, err = l.attempt(own, n); err == nil || l.cfg.Caller == nil {
			break
		}
		if rest = l.rest(attempt, rest); rest < 0 || limiter.Sleep(own, rest) != nil {
			break
		}
	}
	end := time.Since(l.began)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.r.OK++
		if end <= l.cfg.Duration {
			l.r.InTime++
		}
		l.r.Latencies = append(l.r.Latencies, end-due)
		l.r.FromSend = append(l.r.FromSend, end-start)
		add(&l.r.Series.OK, int(end/l.cfg.Step))
	case errors.Is(err, limiter.ErrRejected):
		l.r.Refused++
	case ctx.Err() != nil:
		l.r.Unfinished++
	default:
		l.r.Failed++
		if errors.Is(err, errBody) {
			l.r.Broken++
		}
	}
	return err == nil
}

// attempt sends a request once and reads its answer. after is the delay that a refusal names; -1 when it names none, and
// -2 when sending again does not help.
func (l *runner) attempt(ctx context.Context, n int) (after time.Duration, err error) {
	var body io.Reader
	if l.cfg.Body != nil {
		body = bytes.NewReader(l.cfg.Body)
	}
	req, err := http.NewRequestWithContext(ctx, l.cfg.Method, l.cfg.URL, body)
	if err != nil {
		return -2, err
	}
	for name, values := range l.cfg.Header {
		req.Header[name] = values
	}
	if host := l.cfg.Header.Get("Host"); host != "" {
		req.Host = host // net/http does not send the field
	}
	if l.cfg.Prepare != nil {
		l.cfg.Prepare(n, req)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return -2, err
	}
	watch := feedback.NewWatcher(resp.Body, feedback.WatchConfig{StreamConfig: feedback.StreamConfig{
		Status: resp.StatusCode, Header: resp.Header, Provider: l.cfg.Transport.Provider, Rules: l.cfg.Transport.Rules}})
	prefix, err := io.ReadAll(io.LimitReader(watch, 1<<16))
	if err == nil {
		_, err = io.Copy(io.Discard, watch)
	}
	if e := watch.Close(); err == nil {
		err = e
	}
	switch {
	case err == nil && watch.Report().Refused:
		return -2, errBody
	case err != nil || resp.StatusCode < 400:
		return -2, err
	}
	s := feedback.Parse(feedback.Answer{Status: resp.StatusCode, Header: resp.Header, Body: prefix, Now: time.Now()})
	switch {
	case !s.Retryable:
		after = -2
	case s.HasRetryAfter:
		after = s.RetryAfter
	default:
		after = -1
	}
	return after, errStatus
}

// rest returns how long a caller rests after its n-th attempt, which named a delay (or -1, -2); -1 when it gives up.
func (l *runner) rest(n int, after time.Duration) time.Duration {
	p := l.cfg.Caller
	if after == -2 || n >= p.Attempts {
		return -1
	}
	if after >= 0 && p.ReadsRetryAfter {
		if p.Longest > 0 && after > p.Longest {
			return -1
		}
		return after
	}
	most := p.Max
	if n < 30 {
		most = min(p.Max, p.Base<<(n-1))
	}
	return time.Duration((1 - p.Jitter*rand.Float64()) * float64(most))
}

var (
	errStatus = errors.New("load: status")
	errBody   = errors.New("load: an error in the body of a success")
)

// add counts one into an element that may not be there yet.
func add(xs *[]float64, i int) {
	for len(*xs) <= i {
		*xs = append(*xs, 0)
	}
	(*xs)[i]++
}

// sample looks at the guard and the wire at the end of each step.
func (l *runner) sample(ctx context.Context) {
	t := time.NewTicker(l.cfg.Step)
	defer t.Stop()
	steps := int(l.cfg.Duration / l.cfg.Step)
	for range steps {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		limit, pace, waiting := 0.0, 0.0, 0.0
		if g := l.cfg.Guard; g != nil {
			s := g.Stats()
			limit, pace, waiting = float64(s.Limit), s.Pace, float64(s.Waiting)
		}
		in := float64(l.wire.inFlight.Load())
		l.mu.Lock()
		s := &l.r.Series
		s.Limit, s.Pace = append(s.Limit, limit), append(s.Pace, pace)
		s.InFlight, s.Waiting = append(s.InFlight, in), append(s.Waiting, waiting)
		l.mu.Unlock()
	}
}

// result closes the books.
func (l *runner) result() *Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	r := &l.r
	r.Attempts = slices.Clone(l.wire.attempts)
	r.Sent = int64(len(r.Attempts))
	r.Statuses = map[int]int64{}
	s := &r.Series
	s.Step = l.cfg.Step
	for _, a := range r.Attempts {
		r.Statuses[a.Status]++
		if a.Status == http.StatusTooManyRequests {
			r.Rejected++
			add(&s.Rejected, int((a.Sent+a.Took)/s.Step))
		}
		r.MeanInFlight += min(a.Ended, l.cfg.Duration-min(a.Sent, l.cfg.Duration)).Seconds() / l.cfg.Duration.Seconds()
	}
	n := len(s.Limit)
	for _, xs := range []*[]float64{&s.OK, &s.Rejected} {
		*xs = slices.Concat(*xs, make([]float64, max(0, n-len(*xs))))[:n]
	}
	for _, x := range s.Limit {
		r.MeanLimit += x / float64(max(1, n))
	}
	return r
}

// wire notes what is really sent.
type wire struct {
	base     http.RoundTripper
	began    time.Time
	inFlight atomic.Int64
	mu       sync.Mutex
	attempts []Attempt
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock() // so that they are in the order of Sent
	i := len(w.attempts)
	sent := time.Since(w.began)
	n, _ := req.Context().Value(number{}).(int)
	w.attempts = append(w.attempts, Attempt{Request: n, Sent: sent})
	w.mu.Unlock()
	w.inFlight.Add(1)
	resp, err := w.base.RoundTrip(req)
	took := time.Since(w.began) - sent
	w.mu.Lock()
	a := &w.attempts[i]
	a.Took, a.Ended = took, took
	if err == nil {
		a.Status = resp.StatusCode
	}
	w.mu.Unlock()
	if err != nil {
		w.inFlight.Add(-1)
		return nil, err
	}
	resp.Body = &tail{ReadCloser: resp.Body, end: func() {
		w.inFlight.Add(-1)
		ended := time.Since(w.began) - sent
		w.mu.Lock()
		w.attempts[i].Ended = ended
		w.mu.Unlock()
	}}
	return resp, nil
}

// tail tells of a body's end, once.
type tail struct {
	io.ReadCloser
	once sync.Once
	end  func()
}

func (t *tail) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err != nil {
		t.once.Do(t.end)
	}
	return n, err
}

func (t *tail) Close() error {
	err := t.ReadCloser.Close()
	t.once.Do(t.end)
	return err
}
