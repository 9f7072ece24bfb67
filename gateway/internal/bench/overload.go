package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/modelserver"
	"github.com/flyball-go/flyball/internal/upstream"
)

// overload sends three times as much as an upstream allows for a while, to a gateway that knows nothing of it, and waits for all
// answers. Each call has 60 s.
func overload() error {
	const (
		allowed = 40.0 // a second
		offered = 3 * allowed
		length  = 20 * time.Second
		service = 250 * time.Millisecond
		budget  = 60 * time.Second
	)
	for _, c := range []struct {
		name string
		up   upstream.Config
	}{
		{"40 requests a second", upstream.Config{Dialect: upstream.OpenAI, Refusal: draw.Of(20 * time.Millisecond), Server: upstream.Server{Service: draw.Of(service), KnowsHangups: true},
			Quotas: []upstream.Quota{{Counter: upstream.Requests, Limit: allowed * 60, Burst: allowed / 2}}}},
		{"10 in flight", upstream.Config{Dialect: upstream.OpenAI, Refusal: draw.Of(20 * time.Millisecond), Server: upstream.Server{Service: draw.Of(service), KnowsHangups: true},
			Concurrency: upstream.Concurrency{Limit: int(allowed * service.Seconds())}}},
	} {
		model, err := modelserver.New(modelserver.Config{Upstream: c.up, Output: draw.Of(20)})
		if err != nil {
			return err
		}
		base, stopModel, err := serve(model)
		if err != nil {
			return err
		}
		url, stop, err := gateway(base, 0, "adaptive", true)
		if err != nil {
			return err
		}
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10_000}}
		var all sync.WaitGroup
		var mu sync.Mutex
		var took []time.Duration
		failures := map[string]int{}
		began := time.Now()
		n := int(offered * length.Seconds())
		var last time.Time
		for i := range n {
			time.Sleep(time.Until(began.Add(time.Duration(float64(i) / offered * float64(time.Second)))))
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), budget)
				defer cancel()
				start := time.Now()
				req, _ := http.NewRequestWithContext(ctx, "POST", url+"/up/chat/completions", bytes.NewReader([]byte(chat)))
				req.Header.Set("Content-Type", "application/json")
				resp, err := client.Do(req)
				what := ""
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if resp.StatusCode != 200 {
						what = resp.Status
					}
				}
				if err != nil {
					what = err.Error()
					if len(what) > 80 {
						what = what[len(what)-80:]
					}
				}
				mu.Lock()
				defer mu.Unlock()
				if what != "" {
					failures[what]++
					return
				}
				took = append(took, time.Since(start))
				last = time.Now()
			})
		}
		all.Wait()
		counts, _ := model.Stats()
		stop()
		stopModel()
		_ = model.Close()
		span := last.Sub(began)
		possible := allowed*(span-service).Seconds() + float64(allowed/2)
		if c.up.Concurrency.Limit > 0 {
			possible = allowed * span.Seconds()
		}
		slices.Sort(took)
		fmt.Printf("%s: %d calls in %v, offered at %.0f a second; all were answered after %v\n", c.name, n, length, offered, span.Round(10*time.Millisecond))
		fmt.Printf("  failed %d %v\n  goodput %.1f %% of what was allowed in that time\n", n-len(took), failures, 100*float64(len(took))/min(possible, float64(n)*2))
		fmt.Printf("  refused by the upstream: %d of %d calls it got, %.2f %%\n", counts.Refused, counts.Calls, 100*float64(counts.Refused)/float64(max(1, counts.Calls)))
		if len(took) > 0 {
			fmt.Printf("  the slowest took %v, half of them less than %v\n", took[len(took)-1].Round(10*time.Millisecond), took[len(took)/2].Round(10*time.Millisecond))
		}
	}
	return nil
}
