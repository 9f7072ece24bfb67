package load

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
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

// noteArrivals are directives of a location by which nginx writes a line to its log when a call has come, before limits are asked.
const noteArrivals = "rewrite_log on; rewrite ^(.*)$ $1 break;"

var (
	arrivalLine = regexp.MustCompile(`rewritten data: "[^"]*", args: "[^"]*n=(\d+)"`)
	endLine     = regexp.MustCompile(`^end (\d+) (\d+)\.(\d{3}) (\d+)\.(\d{3}) (\d+)\n`)
)

// visit is a call as nginx saw it.
type visit struct {
	n         int // the argument of that name
	came, end time.Duration
	status    int // 0 when it has not ended
}

// journal returns n calls that nginx logged, in the order in which they came. It waits for their ends, which nginx logs after it has
// sent the answer.
func journal(t *testing.T, log string, n int) (visits []visit) {
	t.Helper()
	for range 500 {
		visits = readJournal(t, log)
		if len(visits) == n && !slices.ContainsFunc(visits, func(v visit) bool { return v.status == 0 }) {
			return visits
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("nginx logged %d calls, not all of them to their end; %d were sent", len(visits), n)
	return nil
}

// readJournal returns the calls that nginx has logged. nginx is one thread and writes each line at once, so the order of the lines is that
// in which it took places and gave them back. Its clock has steps of 1 ms; what is in one of them is a nanosecond apart, in that order.
func readJournal(t *testing.T, log string) (visits []visit) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	number := func(s ...string) int {
		i, err := strconv.Atoi(strings.Join(s, ""))
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	type line struct {
		n, status int // a status of 0 is an arrival
		ms        int
	}
	var lines []line
	came := map[int]int{} // the line of the arrival of n
	for l := range strings.Lines(string(text)) {
		if m := arrivalLine.FindStringSubmatch(l); m != nil {
			n := number(m[1])
			came[n] = len(lines)
			lines = append(lines, line{n: n})
		} else if m := endLine.FindStringSubmatch(l); m != nil {
			n, ms := number(m[6]), number(m[4], m[5])
			at, ok := came[n]
			if !ok {
				t.Fatalf("nginx logged the end of a call that had not come: %q", l)
			}
			lines[at].ms = ms - number(m[2], m[3])
			lines = append(lines, line{n: n, status: number(m[1]), ms: ms})
		}
	}
	index := map[int]int{}
	var at time.Duration
	for _, l := range lines {
		at = max(at+1, time.Duration(l.ms)*time.Millisecond)
		if l.status == 0 {
			index[l.n] = len(visits)
			visits = append(visits, visit{n: l.n, came: at})
		} else {
			v := &visits[index[l.n]]
			v.end, v.status = at, l.status
		}
	}
	return visits
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
					"location / { "+noteArrivals+` limit_conn z 8; limit_conn_status 429; proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; }`)
				r := run(t, Config{URL: url, Rate: 100, Duration: c.d, Drain: 5 * time.Second, Seed: seed, Prepare: func(n int, req *http.Request) {
					req.URL.RawQuery = fmt.Sprintf("work=%v&n=%d", work(n), n)
				}})
				// The model is given the calls as nginx saw them: it decides at an instant that no client knows, and a call that comes a
				// moment before another one ends, rather than after it, changes who is refused for many calls to come.
				visits := journal(t, log, len(r.Attempts))
				statuses := map[int]int{}
				for _, a := range r.Attempts {
					statuses[a.Request] = a.Status
				}
				accepted, alike := 0, 0
				var held, asked time.Duration
				calls, ok := make([]upstream.Call, len(visits)), make([]bool, len(visits))
				for i, v := range visits {
					if v.status != statuses[v.n] || v.status != http.StatusOK && v.status != http.StatusTooManyRequests {
						t.Fatalf("nginx ended call %d with %d, the client saw %d: %v", v.n, v.status, statuses[v.n], r.Statuses)
					}
					d := work(v.n)
					if ok[i] = v.status == http.StatusOK; ok[i] {
						accepted++
						held, asked = held+v.end-v.came, asked+d
						d = v.end - v.came // longer than it asks for: nginx's own work, the backend's timer, a processor that others use
					}
					calls[i] = upstream.Call{Key: uint64(v.came - visits[0].came), Output: int64(d)}
				}
				want, same := modelled(upstream.Config{
					Concurrency: upstream.Concurrency{Limit: 8}, Server: upstream.Server{OutputToken: time.Nanosecond},
				}, calls)
				for i := range ok {
					if ok[i] == same[i] {
						alike++
					}
				}
				mean, span := held/time.Duration(accepted), (visits[len(visits)-1].came - visits[0].came).Seconds()
				a := float64(len(visits)-1) / span * mean.Seconds()
				t.Logf("mean time %v (asked for %v), load %.2f, latest start %v late", mean, asked/time.Duration(accepted), a, r.Late)
				if alike != len(ok) { // nothing is left to chance
					t.Errorf("limit_conn 8, %s: nginx and the model agree about %d of %d calls", c.name, alike, len(ok))
				}
				return agree(t, "limit_conn 8, "+c.name, accepted, want, ok, erlangB(8, a))
			})
		})
	}
}
