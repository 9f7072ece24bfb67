package server

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// Streams that last take a bounded amount of memory each, and not more with time. go run ./gateway/internal/bench -streams 5000 is the
// same for ten minutes.
func TestMemoryOfStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes seconds")
	}
	checkGoroutines(t)
	const streams = 300
	next := make(chan bool)
	event := []byte("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n")
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		for {
			_, _ = w.Write(event)
			_ = rc.Flush()
			select {
			case <-r.Context().Done():
				return
			case <-next:
			}
		}
	})
	g := start(t, table(s, "law='fixed'\ninitial_limit=1000"))
	ctx, cancel := context.WithCancel(context.Background())
	before := inUse()
	c := client(t)
	c.Timeout = 0
	var all sync.WaitGroup
	var events atomic.Int64
	for range streams {
		all.Go(func() {
			resp, err := tryPost(ctx, c, g.url+"/up/chat/completions", chatStream)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			buf := make([]byte, 4<<10)
			for {
				n, err := resp.Body.Read(buf)
				events.Add(int64(n / len(event)))
				if err != nil {
					return
				}
			}
		})
	}
	eventually(t, "all streams are open", func() bool { n, _ := g.inFlight("up"); return n == streams && events.Load() >= streams })
	first := inUse()
	// Callers, gateway and upstream share this process.
	if per := (first - before) / streams; per > 400<<10 {
		t.Errorf("a stream takes %d KiB of callers, gateway and upstream together", per>>10)
	}
	for range 100 * streams {
		next <- true
	}
	eventually(t, "all events came", func() bool { return events.Load() >= 100*streams })
	if later := inUse(); later > first+first/4 {
		t.Errorf("%d KiB at first, %d KiB after 100 events each", first>>10, later>>10)
	}
	cancel()
	all.Wait()
	g.idle()
}

// inUse returns the memory in use after a collection, in bytes.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
