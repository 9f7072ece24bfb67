package drain

import (
	"sync"
	"testing"
)

// Progress may be called while a run begins: what it reads once that has begun is there.
func TestProgressWhileARunBegins(t *testing.T) {
	for range 20000 {
		var r Runner
		var wg sync.WaitGroup
		wg.Go(func() { r.begin(&r) })
		for r.began.Load() == nil {
		}
		if r.marks.Load() == nil {
			t.Fatal("a run has begun, and from where its rate counts is not known")
		}
		wg.Wait()
	}
}
