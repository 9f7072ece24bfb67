package load

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

// modelled returns how many of the calls the model accepts, and which. The Key of a call is when it was sent.
func modelled(cfg upstream.Config, calls []upstream.Call) (accepted int, ok []bool) {
	u := upstream.New(cfg)
	ok = make([]bool, len(calls))
	tell := func(e *upstream.Event) {
		if e.Kind == upstream.Done {
			accepted++
			ok[e.ID] = true
		}
	}
	for i, c := range calls {
		at := int64(c.Key)
		c.ID = uint64(i)
		u.Advance(at, tell)
		u.Submit(at, c)
	}
	u.Advance(math.MaxInt64-1, tell)
	return accepted, ok
}

// observed returns what a real server did with the attempts of a run, and the same calls for the model.
func observed(t *testing.T, r *Result) (accepted int, calls []upstream.Call, ok []bool) {
	t.Helper()
	for _, a := range r.Attempts {
		switch a.Status {
		case 200:
			accepted++
		case 429:
		default:
			t.Fatalf("the server answered an attempt with %d: %v", a.Status, r.Statuses)
		}
		calls = append(calls, upstream.Call{ID: uint64(a.Request), Key: uint64(a.Sent)})
		ok = append(ok, a.Status == 200)
	}
	return accepted, calls, ok
}

// batchError returns the standard error of the share of false in ok, from the means of 20 batches: who is refused depends on who was
// before, so single calls are no independent draws.
func batchError(ok []bool) float64 {
	const batches = 20
	var means [batches]float64
	total := 0.0
	for b := range batches {
		part := ok[len(ok)*b/batches : len(ok)*(b+1)/batches]
		for _, o := range part {
			if !o {
				means[b] += 1 / float64(len(part))
			}
		}
		total += means[b] / batches
	}
	v := 0.0
	for _, m := range means {
		v += (m - total) * (m - total) / (batches - 1)
	}
	return math.Sqrt(v / batches)
}

// agree compares a server with what is expected of it: accepted within 1 %, the share of 429s within 2 standard errors.
func agree(t *testing.T, what string, accepted, want int, ok []bool, wantShare float64) error {
	t.Helper()
	n := len(ok)
	share, se := 1-float64(accepted)/float64(n), batchError(ok)
	t.Logf("%s: %d calls; accepted %d, model %d (%+.2f %%); share of 429s %.4f ± %.4f, expected %.4f (%.1f standard errors)",
		what, n, accepted, want, 100*(float64(accepted)/float64(want)-1), share, se, wantShare, math.Abs(share-wantShare)/se)
	if d := math.Abs(float64(accepted)/float64(want) - 1); d > 0.01 {
		return fmt.Errorf("%s: nginx accepted %d, the model %d: %.2f %% apart, want at most 1 %%", what, accepted, want, 100*d)
	}
	if math.Abs(share-wantShare) > 2*se {
		return fmt.Errorf("%s: the share of 429s is %.4f ± %.4f, expected %.4f: more than 2 standard errors apart", what, share, se, wantShare)
	}
	return nil
}

// twice makes a comparison a second time when it fails, with other draws: two standard errors are exceeded once in twenty
// times by chance alone, and a machine that is shared may stand still in between.
func twice(t *testing.T, compare func(seed uint64) error) {
	t.Helper()
	err := compare(1)
	if err != nil {
		t.Logf("%v; once more", err)
		err = compare(2)
	}
	if err != nil {
		t.Error(err)
	}
}

// nginx's limit_req is the model's refilling bucket: with the same calls at the same instants both accept as many.
func TestNginxLimitReq(t *testing.T) {
	t.Parallel() // with the guard's, as both wait nearly all of their time; the cap's has the machine to itself, as its times are compared
	url, _ := nginx(t, "limit_req_zone $server_name zone=z:1m rate=20r/s;", "location / { limit_req zone=z burst=5 nodelay; limit_req_status 429; }")
	for _, rate := range []float64{15, 30} {
		twice(t, func(seed uint64) error {
			time.Sleep(time.Second) // the bucket is full again
			r := run(t, Config{URL: url + "/ok.txt", Rate: rate, Duration: *long / 4, Drain: 5 * time.Second, Seed: seed})
			accepted, calls, ok := observed(t, r)
			// nginx lets one call pass and five more: six at once.
			want, same := modelled(upstream.Config{Quotas: []upstream.Quota{{Counter: upstream.Requests, Limit: 20 * 60, Burst: 6}}}, calls)
			alike := 0
			for i := range ok {
				if ok[i] == same[i] {
					alike++
				}
			}
			t.Logf("call by call %.1f %% agree", 100*float64(alike)/float64(len(ok)))
			return agree(t, fmt.Sprintf("limit_req 20 a second, %.0f a second asked", rate), accepted, want, ok, 1-float64(want)/float64(len(calls)))
		})
	}
}

// erlangB returns the share of calls that a lossy server with c places refuses at a load of a.
func erlangB(c int, a float64) float64 {
	b := 1.0
	for k := 1; k <= c; k++ {
		b = a * b / (float64(k) + a*b)
	}
	return b
}

// held returns how long nginx held the calls that it accepted, by the number of their request, and the mean, as it logged.
func held(t *testing.T, log string) (times map[int]time.Duration, mean time.Duration) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	times = map[int]time.Duration{}
	for line := range strings.Lines(string(text)) {
		var status, n int
		var seconds float64
		if _, err := fmt.Sscan(line, &status, &seconds, &n); err != nil {
			t.Fatalf("nginx logged %q: %v", line, err)
		}
		if status == 200 {
			times[n] = time.Duration(seconds * 1e9)
			mean += times[n]
		}
	}
	return times, mean / time.Duration(len(times))
}

// nginx's limit_conn is the model's cap on calls in flight, and both are the lossy system of Erlang, whatever the distribution of service.
func TestNginxLimitConn(t *testing.T) {
	for _, c := range []struct {
		name string
		dist draw.Dist
		d    time.Duration
	}{
		{"exponential", draw.Dist{Shape: draw.Exponential, Mean: 100e6}, *long},
		{"constant", draw.Of(100 * time.Millisecond), *long / 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			twice(t, func(seed uint64) error {
				// The n-th request asks for its own time, so that both do the same work whomever they refuse.
				work := func(n int) time.Duration { return time.Duration(c.dist.Int(seed, 0, uint64(n))) }
				backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					d, err := time.ParseDuration(r.URL.Query().Get("work"))
					if err != nil {
						t.Error(err)
					}
					time.Sleep(d)
					_, _ = io.WriteString(w, "ok")
				}))
				defer backend.Close()
				url, log := nginx(t, "limit_conn_zone $server_name zone=z:1m; upstream b { server "+backend.Listener.Addr().String()+"; keepalive 64; }",
					`location / { limit_conn z 8; limit_conn_status 429; proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; }`)
				r := run(t, Config{URL: url, Rate: 100, Duration: c.d, Drain: 5 * time.Second, Seed: seed, Prepare: func(n int, req *http.Request) {
					req.URL.RawQuery = fmt.Sprintf("work=%v&n=%d", work(n), n)
				}})
				accepted, calls, ok := observed(t, r)
				// nginx holds each call a little longer than it asks for, for its own work and the backend's timer, and sometimes for a
				// processor that others use. What it refused would have been held as much longer as the others were on average.
				times, mean := held(t, log)
				var asked time.Duration
				for n := range times {
					asked += work(n) / time.Duration(len(times))
				}
				for i := range calls {
					n := int(calls[i].ID)
					if d, ok := times[n]; ok {
						calls[i].Output = int64(d)
					} else {
						calls[i].Output = int64(work(n) + max(0, mean-asked))
					}
				}
				want, _ := modelled(upstream.Config{
					Concurrency: upstream.Concurrency{Limit: 8}, Server: upstream.Server{OutputToken: time.Nanosecond},
				}, calls)
				span := time.Duration(calls[len(calls)-1].Key - calls[0].Key).Seconds()
				a := float64(len(calls)-1) / span * mean.Seconds()
				t.Logf("mean time %v (asked for %v), load %.2f", mean, asked, a)
				return agree(t, "limit_conn 8, "+c.name, accepted, want, ok, erlangB(8, a))
			})
		})
	}
}
