package httplimit_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

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
