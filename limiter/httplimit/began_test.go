package httplimit_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// Streams that never end are opened one after the other, because the guard learns that each was accepted when its first event comes.
// Answers that tell nothing before they end stay at the first limit.
func TestEndlessStreamsOpen(t *testing.T) {
	for _, test := range []struct {
		name, contentType, event string
		opens                    bool
	}{
		{"chat", "text/event-stream", "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n", true},
		{"one that only opens", "text/event-stream", ": waiting\n\ndata: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n", false},
		{"plain", "text/plain", "word", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				_, _ = io.WriteString(w, test.event)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}))
			defer server.Close()
			defer cancel()
			guard, err := limiter.New(limiter.Config{Queue: 100, MaxWait: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Transport: httplimit.New(nil, guard, httplimit.Config{})}
			const streams = 30
			began := make(chan struct{}, streams)
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			for range streams {
				wg.Go(func() {
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := client.Do(req)
					if err != nil {
						return // canceled, and it waited
					}
					defer func() { _ = resp.Body.Close() }()
					if _, err := resp.Body.Read(make([]byte, 512)); err == nil {
						began <- struct{}{}
					}
					_, _ = io.Copy(io.Discard, resp.Body)
				})
			}
			wait := time.After(500 * time.Millisecond)
			if test.opens {
				wait = time.After(30 * time.Second)
			}
			n := 0
			for n < streams {
				select {
				case <-began:
					n++
					continue
				case <-wait:
				}
				break
			}
			if test.opens && n < streams || !test.opens && n > 4 {
				t.Errorf("%d of %d streams have begun, none has ended; %+v", n, streams, guard.Stats())
			}
		})
	}
}

// Who listens to the guard's decisions may ask for its figures, which ends calls that were forgotten, also the one whose beginning made the
// decision.
func TestBeganOfCallThatHasEnded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	for _, how := range []string{"canceled", "closed"} {
		t.Run(how, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			guard, err := limiter.New(limiter.Config{Adaptive: adaptive.Config{Initial: 1}, Queue: 10, MaxWait: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Transport: httplimit.New(nil, guard, httplimit.Config{})}
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			decided := 0
			guard.OnDecision(func(limiter.Decision) {
				if decided++; decided > 1 {
					return
				}
				if how == "canceled" {
					cancel()
				} else {
					_ = resp.Body.Close()
				}
				_ = guard.Stats()
			})
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Fatal("a call that ended while the guard was told of its beginning never gives its place back")
			}
			if s := guard.Stats(); decided == 0 || s.InFlight != 0 {
				t.Errorf("%d decisions, %+v; want one at least, and nothing in flight", decided, s)
			}
		})
	}
}
