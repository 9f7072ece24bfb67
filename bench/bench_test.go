package main

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"
)

// The same calls as ordinary benchmarks, for benchstat and for profiles:
//
//	go test -run=- -bench=Pair/flyball -count=10 ./bench | benchstat -

func contenders() []contender {
	cs, _, _, _ := pairContenders()
	return cs
}

func BenchmarkPair(b *testing.B) {
	for _, c := range contenders() {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			c.pairs(b.N)
		})
	}
}

func BenchmarkContended(b *testing.B) {
	for _, c := range contenders() {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var wg sync.WaitGroup
			for range runtime.GOMAXPROCS(0) {
				wg.Go(func() { c.pairs(b.N) })
			}
			wg.Wait()
		})
	}
}

func BenchmarkSaturated(b *testing.B) {
	for _, size := range []struct{ limit, goroutines int }{{64, 256}, {64, 4096}, {1, 256}} {
		for _, c := range waiting(size.limit)[:5] {
			b.Run(fmt.Sprintf("limit=%d/goroutines=%d/%s", size.limit, size.goroutines, c.name), func(b *testing.B) {
				b.ReportAllocs()
				var wg sync.WaitGroup
				for i := range size.goroutines {
					wg.Go(func() {
						for n := i; n < b.N; n += size.goroutines {
							_ = c.hold(live, runtime.Gosched)
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

func BenchmarkRefuse(b *testing.B) {
	for _, c := range []contender{ours(1), selectChannel(1), xSync(1), failsafeAdaptive(1), failsafeBulkhead(1)} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			if err := c.hold(context.Background(), func() { c.refuse(b.N) }); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	base := &canned{header("Content-Type", "application/json", "X-Request-Id", "req_0123456789"), `{"id":"cmpl-1","choices":[{"text":"forty-two"}],"created":17400}`}
	for _, t := range []struct {
		name string
		t    http.RoundTripper
	}{
		{"canned", base}, {"flyball", ourTransport(base, 1)}, {"failsafe-go", failsafeTransport(base)},
	} {
		b.Run(t.name, func(b *testing.B) {
			b.ReportAllocs()
			roundTrips(t.t)(b.N)
		})
	}
}
