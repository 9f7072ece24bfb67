package httplimit_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// models is an upstream of two models, each with a limit of its own on calls in flight, or with one for both.
type models struct {
	places   [2]int
	shared   bool // places[0] for both
	mu       sync.Mutex
	inFlight [2]int
}

// modelTakes is how long a call of each model takes.
var modelTakes = [2]time.Duration{2 * time.Second, 800 * time.Millisecond}

func (m *models) RoundTrip(req *http.Request) (*http.Response, error) {
	of := strings.Count(req.URL.Path, "large")
	m.mu.Lock()
	taken := m.inFlight[of] == m.places[of]
	if m.shared {
		taken = m.inFlight[0]+m.inFlight[1] == m.places[0]
	}
	if !taken {
		m.inFlight[of]++
	}
	m.mu.Unlock()
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: req}
	text := `{"choices":[]}`
	if taken {
		time.Sleep(20 * time.Millisecond)
		resp.StatusCode, text = http.StatusTooManyRequests, `{"error":{"code":"rate_limit_exceeded"}}`
	} else {
		time.Sleep(modelTakes[of])
		m.mu.Lock()
		m.inFlight[of]--
		m.mu.Unlock()
	}
	resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	return resp, nil
}

// What docs/limiter.md says of models: where each has a limit of its own, with one guard for both the one that takes fewest sets it, and where they share one, a guard each is as good.
func TestGuardForEachModel(t *testing.T) {
	const last = 5 * time.Minute
	served := func(upstream *models, each bool, seed uint64) (seconds [2]float64) {
		synctest.Test(t, func(t *testing.T) {
			var guards [2]*limiter.Guard
			for i := range guards {
				g, err := limiter.New(limiter.Config{Seed: seed + 1})
				if err != nil {
					t.Fatal(err)
				}
				guards[i] = g
			}
			var n [2]int
			var mu sync.Mutex
			var all sync.WaitGroup
			end := time.Now().Add(last)
			for i, model := range []string{"small", "large"} {
				g := guards[0]
				if each {
					g = guards[i]
				}
				client := http.Client{Transport: httplimit.New(upstream, g, httplimit.Config{})}
				for range 60 {
					all.Go(func() {
						for time.Now().Before(end) {
							resp, err := client.Post("http://api.example/"+model, "application/json", strings.NewReader("{}"))
							if err != nil {
								time.Sleep(time.Second)
								continue
							}
							resp.Body.Close()
							if resp.StatusCode == http.StatusOK {
								mu.Lock()
								n[i]++
								mu.Unlock()
							}
						}
					})
				}
			}
			all.Wait()
			for i := range n {
				seconds[i] = float64(n[i]) * modelTakes[i].Seconds() / last.Seconds()
			}
		})
		return seconds
	}
	sum := func(of [2]float64) float64 { return of[0] + of[1] }
	own, shared := &models{places: [2]int{5, 50}}, &models{places: [2]int{20}, shared: true}
	for seed := range uint64(2) {
		one, each := served(own, false, seed), served(own, true, seed)
		t.Logf("5 and 50 places: one guard has %.1f in use, a guard each %.1f", one, each)
		if each[0] < 4.5 || each[1] < 45 || sum(one) > 11 {
			t.Errorf("5 and 50 places: a guard each has %.1f in use, want 90 %%; one guard %.1f, a fifth at most", each, one)
		}
		one, each = served(shared, false, seed), served(shared, true, seed)
		t.Logf("20 places for both: one guard has %.1f in use, a guard each %.1f", one, each)
		if sum(each) < 18 {
			t.Errorf("20 places for both: a guard each has %.1f in use, want 90 %% together", each)
		}
	}
}
