package kafka

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// That nobody waits for a connection any more is not told as one that failed.
func TestDialCanceled(t *testing.T) {
	var running atomic.Bool
	running.Store(true)
	opts, err := dialing([]kgo.Opt{}, &running)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.OptValue(kgo.Dialer).(dial)(ctx, "tcp", "127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("it is told as %v", err)
	}
}
