package httplimit_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// The repository's limits.toml guards calls to a real server that bears eight at a time: 32 goroutines
// call it at once, and every call succeeds.
func TestLimitsFileGuardsAServer(t *testing.T) {
	file, err := config.Load("../../limits.toml")
	if err != nil {
		t.Fatal(err)
	}
	guard, err := limiter.New(file.Guard("test"))
	if err != nil {
		t.Fatal(err)
	}
	const most = 8
	var inFlight, peak, served atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := inFlight.Add(1)
		defer inFlight.Add(-1)
		if n > most {
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"error":{"message":"concurrency limit of 8 reached","code":"rate_limit_exceeded"}}`)
			return
		}
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		time.Sleep(5 * time.Millisecond) // the work of a real server
		served.Add(1)
	}))
	defer srv.Close()
	base := &http.Transport{MaxIdleConnsPerHost: 32}
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: httplimit.New(base, guard, httplimit.Config{Rules: file.FeedbackRules()})}

	const calls = 400
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for next.Add(1) <= calls {
				resp, err := client.Post(srv.URL, "text/plain", nil)
				if err != nil {
					t.Errorf("Post: %v", err)
					return
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("status %d", resp.StatusCode)
				}
			}
		})
	}
	wg.Wait()
	s := guard.Stats()
	t.Logf("limit %d, %d served, %d refused and sent again", s.Limit, served.Load(), s.Counts.Outcomes[feedback.Throttled])
	if served.Load() != calls {
		t.Errorf("%d calls served, want %d", served.Load(), calls)
	}
	if s.Limit > 2*most {
		t.Errorf("the limit is %d at a server that bears %d", s.Limit, most)
	}
	if s.InFlight != 0 || s.Waiting != 0 {
		t.Errorf("%d in flight, %d waiting at the end", s.InFlight, s.Waiting)
	}
}
