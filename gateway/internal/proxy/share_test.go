package proxy

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"runtime"
	"slices"
	"testing"

	"github.com/flyball-go/flyball/gateway/internal/settings"
)

// A packed answer is looked at as it is unpacked, so that one of some KiB that has 60 MiB in it takes no memory to speak of.
func TestPackedAnswersTakeNoMemory(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(`{"data":[{"embedding":"`))
	for range 60 {
		_, _ = z.Write(bytes.Repeat([]byte("a"), 1<<20))
	}
	_, _ = z.Write([]byte(`"}]}`))
	_ = z.Close()
	j := &job{route: &route{Route: &settings.Route{}, targets: []target{{upstream: &upstream{}}}}}
	j.target = &j.route.targets[0]
	resp := &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	whole := j.keepable(resp, packed.Bytes())
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("to look at %d KiB took %d KiB", packed.Len()>>10, n>>10)
	}
	if cut := j.keepable(resp, packed.Bytes()[:packed.Len()-20]); !whole || cut {
		t.Errorf("the whole answer may be kept: %v, and one that was cut: %v; want true, false", whole, cut)
	}
}

// A reason to end is found however the answer comes in pieces, and not in a text.
func TestEnding(t *testing.T) {
	const said = `{"choices":[{"message":{"content":"{\"finish_reason\":\"error\"}"},"finish_reason":"stop"}],"finish_reason_error":"error"}`
	for answer, want := range map[string]bool{
		said: false,
		said[:len(said)-1] + `,"x":{"finish_reason":` + "\n" + `"ERROR"}}`: true,
		`data: {"choices":[{"finish_reason" : "aborted"}]}`:                true,
		`data: {"choices":[{"finish_reason":null}]}`:                       false,
	} {
		for size := 1; size <= len(answer); size++ {
			var e ending
			for piece := range slices.Chunk([]byte(answer), size) {
				_, _ = e.Write(piece)
			}
			if e.failed != want {
				t.Fatalf("%s in pieces of %d: failed is %v, want %v", answer, size, e.failed, want)
			}
		}
	}
}
