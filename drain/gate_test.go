package drain_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/drain/draintest"
	"github.com/flyball-go/flyball/limiter"
)

// keyed is an upstream with keys, and what became of the calls with each.
type keyed struct {
	mu   sync.Mutex
	sent map[string]int
}

func (k *keyed) answers(t *testing.T, f func(key string, n int) (status int, body string)) *drain.HTTP {
	t.Helper()
	k.sent = map[string]int{}
	up, err := drain.NewHTTP(drain.HTTP{BaseURL: "http://upstream.invalid", Base: roundTripper(func(r *http.Request) (*http.Response, error) {
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		k.mu.Lock()
		k.sent[key]++
		n := k.sent[key]
		k.mu.Unlock()
		status, body := f(key, n)
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
		return w.Result(), nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	return up
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// drainKeys drains so many jobs with the keys a, b and c.
func drainKeys(t *testing.T, up drain.Upstream, n int, set ...func(*drain.Config)) (*draintest.Results, drain.Progress, error) {
	t.Helper()
	var keys []limiter.Secret
	for _, s := range []string{"a", "b", "c"} {
		keys = append(keys, limiter.NewSecret("key-"+s))
	}
	pool, err := limiter.NewPool(limiter.PoolConfig{
		Guard:  limiter.Config{Name: "up", MaxWait: time.Hour},
		NewLaw: func() adaptive.Law { return adaptive.NewFixed(2) }, Keys: keys,
	})
	if err != nil {
		t.Fatal(err)
	}
	src, store := &draintest.Memory{}, &draintest.Results{}
	for _, d := range jobs(n) {
		src.Publish(d)
	}
	src.Finish()
	cfg := drain.Config{Source: src, Store: store, Upstream: up, Pool: pool}
	for _, f := range set {
		f(&cfg)
	}
	r, err := drain.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Run(context.Background())
	return store, r.Progress(), err
}

const (
	good   = `{"choices":[]}`
	noKey  = `{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}`
	noCash = `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`
)

// With several keys each job goes with one of them, those that do not work are out, and the jobs that met them are sent with another.
func TestPool(t *testing.T) {
	var k keyed
	up := k.answers(t, func(key string, _ int) (int, string) {
		switch key {
		case "key-a":
			return 401, noKey
		case "key-b":
			return 429, noCash
		}
		return 200, good
	})
	_, p, err := drainKeys(t, up, 30)
	if err != nil || p.Done != 30 || p.Dead != 0 {
		t.Fatalf("Run: %v, %d done and %d dead, want 30 and none", err, p.Done, p.Dead)
	}
	if k.sent["key-c"] != 30 || k.sent["key-a"] > 2 || k.sent["key-b"] > 2 || k.sent["key-a"] == 0 || k.sent["key-b"] == 0 {
		t.Errorf("sent with each key: %v, want 30 with c, and not more with a and b than were in flight when they went out", k.sent)
	}
}

// A key that is refused inside a 200 makes no dead letters.
func TestPoolRefusedInsideAnAnswer(t *testing.T) {
	var k keyed
	up := k.answers(t, func(key string, _ int) (int, string) {
		if key == "key-a" {
			return 200, `{"base_resp":{"status_code":1004,"status_msg":"login fail"}}`
		}
		return 200, good
	})
	if _, p, err := drainKeys(t, up, 30); err != nil || p.Done != 30 || p.Dead != 0 {
		t.Fatalf("Run: %v, %d done and %d dead, want 30 and none; sent %v", err, p.Done, p.Dead, k.sent)
	}
}

// A 403 that another key may do is tried with another one.
func TestPoolForbidden(t *testing.T) {
	var k keyed
	up := k.answers(t, func(key string, _ int) (int, string) {
		if key == "key-b" {
			return 403, `{"error":{"message":"no"}}`
		}
		return 200, good
	})
	if _, p, err := drainKeys(t, up, 30); err != nil || p.Done != 30 || p.Dead != 0 {
		t.Fatalf("Run: %v, %d done and %d dead, want 30 and none; sent %v", err, p.Done, p.Dead, k.sent)
	}
}

// A key that is good for nothing, which it says with a 403, is out after some jobs, and not met by each of them.
func TestPoolForbiddenIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keyed
		up := k.answers(t, func(key string, _ int) (int, string) {
			time.Sleep(10 * time.Millisecond)
			if key == "key-b" {
				return 403, `{"error":{"message":"no"}}`
			}
			time.Sleep(time.Second)
			return 200, good
		})
		if _, p, err := drainKeys(t, up, 300); err != nil || p.Done != 300 || p.Dead != 0 {
			t.Fatalf("Run: %v, %d done and %d dead, want 300 and none; sent %v", err, p.Done, p.Dead, k.sent)
		}
		if k.sent["key-b"] > 60 {
			t.Errorf("sent with each key: %v, want few with b", k.sent)
		}
	})
}

// Another key that was only throttled is tried again, and not the one that is forbidden the job.
func TestPoolForbiddenAndThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keyed
		up := k.answers(t, func(key string, n int) (int, string) {
			time.Sleep(10 * time.Millisecond)
			switch {
			case key == "key-b":
				return 403, `{"error":{"message":"no"}}`
			case n%2 == 1:
				return 429, `{"error":{"message":"slow down","code":"rate_limit_exceeded"}}`
			}
			return 200, good
		})
		if _, p, err := drainKeys(t, up, 30); err != nil || p.Done != 30 || p.Dead != 0 {
			t.Fatalf("Run: %v, %d done and %d dead, want 30 and none; sent %v", err, p.Done, p.Dead, k.sent)
		}
	})
}

// A job that one key is forbidden waits for another one, however long that has no place: the first one says nothing about it.
func TestPoolForbiddenAndFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keyed
		up := k.answers(t, func(key string, _ int) (int, string) {
			if key == "key-b" {
				return 403, `{"error":{"message":"no"}}`
			}
			time.Sleep(time.Minute)
			return 200, good
		})
		if _, p, err := drainKeys(t, up, 12); err != nil || p.Done != 12 || p.Dead != 0 {
			t.Fatalf("Run: %v, %d done and %d dead, want 12 and none; sent %v", err, p.Done, p.Dead, k.sent)
		}
	})
}

// When all keys are out the run stops, and says why.
func TestPoolWithoutAKey(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   error
	}{{401, noKey, drain.ErrUnauthorized}, {403, noKey, drain.ErrUnauthorized}, {429, noCash, drain.ErrQuota}} {
		var k keyed
		up := k.answers(t, func(string, int) (int, string) { return c.status, c.body })
		_, p, err := drainKeys(t, up, 20)
		if !errors.Is(err, c.want) || p.Done+p.Dead != 0 {
			t.Errorf("status %d: %v, %d done and %d dead, want %v and none", c.status, err, p.Done, p.Dead, c.want)
		}
	}
}

// A run that waits for money with several keys tells why, as it does with one.
func TestPoolTellsOfTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k keyed
		paid := time.Now().Add(5 * time.Minute)
		up := k.answers(t, func(string, int) (int, string) {
			if time.Now().Before(paid) {
				return 429, noCash
			}
			return 200, good
		})
		told := 0
		_, p, err := drainKeys(t, up, 20, func(cfg *drain.Config) {
			cfg.QuotaPause = time.Minute
			cfg.OnProgress = func(p drain.Progress) {
				if strings.Contains(p.Trouble, "You exceeded your current quota") {
					told++
				}
			}
		})
		if err != nil || p.Done != 20 || p.Trouble != "" || told < 290 {
			t.Errorf("%v, told %d times of 300, and at the end %+v", err, told, p)
		}
	})
}

// A job whose url cannot be sent is a dead letter, and does not end the run of the others.
func TestURLThatCannotBeSent(t *testing.T) {
	for _, url := range []string{`/v1/%zz`, `/v1/\u0000`, `/v1/\u007f`, `/%`} {
		var k keyed
		up := k.answers(t, func(string, int) (int, string) { return 200, good })
		guard, err := limiter.New(limiter.Config{})
		if err != nil {
			t.Fatal(err)
		}
		src, store := &draintest.Memory{}, &draintest.Results{}
		src.Publish(&drain.Delivery{Body: []byte(`{"custom_id":"bad","url":"` + url + `","body":{}}`), Where: "it"})
		for _, d := range jobs(5) {
			src.Publish(d)
		}
		src.Finish()
		r, err := drain.New(drain.Config{Source: src, Store: store, Upstream: up, Guard: guard})
		if err != nil {
			t.Fatal(err)
		}
		err = r.Run(context.Background())
		if p := r.Progress(); err != nil || p.Done != 5 || p.Dead != 1 {
			t.Errorf("with %s: %v, %d done and %d dead, want 5 and 1", url, err, p.Done, p.Dead)
		}
	}
}

// A runner has a guard or a pool, and with a pool an upstream that takes keys.
func TestPoolConfig(t *testing.T) {
	pool, err := limiter.NewPool(limiter.PoolConfig{Keys: []limiter.Secret{limiter.NewSecret("k")}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := drain.Config{Source: &draintest.Memory{}, Store: &draintest.Results{}, Upstream: &upstream{}, Pool: pool}
	if _, err := drain.New(cfg); err == nil || !strings.Contains(err.Error(), "KeyUpstream") {
		t.Errorf("an upstream without keys beside a pool: %v", err)
	}
	cfg.Upstream = &drain.HTTP{}
	cfg.Guard, err = limiter.New(limiter.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain.New(cfg); err == nil || !strings.Contains(err.Error(), "Config.Pool is set, must be nil beside Guard") {
		t.Errorf("a guard beside a pool: %v", err)
	}
}
