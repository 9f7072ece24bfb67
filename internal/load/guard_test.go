package load

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/flyball-go/flyball/limiter"
)

// The guard, with its defaults, meets a real nginx that it knows nothing about, for 20 s from a cold start: it serves a fair part of what nginx lets
// pass (the wait for a Retry-After of a second costs more than a busy machine does), and nearly all
// that it sends is let pass, with a Retry-After and without.
func TestGuardMeetsNginx(t *testing.T) {
	t.Parallel()
	const say = ` error_page 429 @busy; location @busy { internal; add_header Retry-After 1 always; return 429 "busy"; }`
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(100 * time.Millisecond)
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(backend.Close)
	req := "limit_req_zone $server_name zone=z:1m rate=20r/s;"
	conn := "limit_conn_zone $server_name zone=z:1m; upstream b { server " + backend.Listener.Addr().String() + "; keepalive 64; }"
	reqAt := "location / { limit_req zone=z burst=5 nodelay; limit_req_status 429; }"
	connAt := `location / { limit_conn z 8; limit_conn_status 429; proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; }`
	var all sync.WaitGroup
	for _, c := range []struct {
		name         string
		http, server string
		rate         float64 // asked
		capacity     float64 // a second
		share        float64 // of capacity that must be served
		rejected     float64 // 429s per success, at most
	}{
		{"limit_req 20", req, reqAt, 40, 20, 0.5, 0.25},
		{"limit_req 20, Retry-After", req, reqAt + say, 40, 20, 0.2, 0.25},
		{"limit_conn 8", conn, connAt, 120, 80, 0.4, 0.15},
		{"limit_conn 8, Retry-After", conn, connAt + say, 120, 80, 0.4, 0.15},
	} {
		url, _ := nginx(t, c.http, c.server)
		all.Go(func() { // all at once: they wait more than they work
			guard, err := limiter.New(limiter.Config{MaxWait: 5 * time.Second})
			if err != nil {
				t.Error(err)
				return
			}
			defer guard.Close()
			d := *long
			r, err := Run(t.Context(), Config{URL: url + "/ok.txt", Rate: c.rate, Duration: d, Drain: 10 * time.Second, Guard: guard, Seed: 1})
			if err != nil {
				t.Error(err)
				return
			}
			got, per := float64(r.InTime)/d.Seconds(), float64(r.Rejected)/float64(max(1, r.OK))
			t.Logf("%s: asked %.0f a second, could have %.0f: served %.1f a second (%.0f %%), %.3f 429s per success, %d refused by the guard, %d failed; limit %d, pace %.1f, %s",
				c.name, c.rate, c.capacity, got, 100*got/c.capacity, per, r.Refused, r.Failed, guard.Stats().Limit, guard.Stats().Pace, guard.Stats().Binding)
			if got < c.share*c.capacity {
				t.Errorf("%s: served %.1f a second, want at least %.0f %% of %.0f", c.name, got, 100*c.share, c.capacity)
			}
			if per > c.rejected {
				t.Errorf("%s: %.3f 429s per success, want at most %.2f", c.name, per, c.rejected)
			}
			if most := c.capacity*(d.Seconds()+0.5) + 8; float64(r.InTime) > most {
				t.Errorf("%s: %d served: nginx cannot have let more than %.0f pass", c.name, r.InTime, most)
			}
		})
	}
	all.Wait()
}
