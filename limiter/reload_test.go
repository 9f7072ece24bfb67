package limiter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
)

// A guard of a group that has met no limit keeps to another law from the reload on that brings it.
func TestReloadOfAGroupsGuard(t *testing.T) {
	for _, used := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			idle := func() *Guard {
				group, err := NewGroup(GroupConfig{})
				if err != nil {
					t.Fatal(err)
				}
				g := group.Guard("a")
				for range 3 {
					if !used {
						break
					}
					p, err := g.Acquire(context.Background(), Request{})
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					p.Release(Outcome{})
				}
				return g
			}
			g := idle()
			if err := g.Reload(Config{Law: adaptive.NewFixed(2)}); err != nil {
				t.Fatal(err)
			}
			if got := g.Stats().Limit; got != 2 {
				t.Errorf("used %t: the limit is %d, want that of the new law, 2", used, got)
			}
		})
	}
}
