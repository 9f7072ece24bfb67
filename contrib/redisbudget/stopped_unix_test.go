//go:build unix

package redisbudget_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/flyball-go/flyball/contrib/redisbudget"
)

// A client that does not heed that a context ends, which is go-redis' default, does not keep a guard from starting nothing.
func TestClientThatWaits(t *testing.T) {
	s := start(t)
	c := redis.NewClient(&redis.Options{Addr: s.addr(), ReadTimeout: 20 * time.Second})
	defer c.Close()
	a := newReplica(t, c, redisbudget.Config{Lost: redisbudget.Closed, TTL: 600 * time.Millisecond})
	until(t, "agreement", func() bool { return agreed([]*replica{a}) })
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	until(t, "end of its part", func() bool { return a.shared.State().Shares[0] == 0 })
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it kept to its part for %v, want 0.6 s and a little", d)
	}
}
