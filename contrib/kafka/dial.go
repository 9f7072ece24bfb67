package kafka

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

type dial = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialing returns options that have a client try again when a broker cannot be reached, once it is running. Without them, the client gives up a
// heartbeat when the coordinator of its group was killed and it happens to ask that broker, twice, who the next one is: it takes all
// its partitions for lost then, with all that is in flight and done and not committed, although the group counts on it for another 40 s.
func dialing(others []kgo.Opt, running *atomic.Bool) ([]kgo.Opt, error) {
	probe, err := kgo.NewClient(others...) // nobody else tells what they come to
	if err != nil {
		return nil, err
	}
	defer probe.Close()
	dial, _ := probe.OptValue(kgo.Dialer).(dial)
	return append(others[:len(others):len(others)],
		kgo.DialTLSConfig(nil), // dial has it
		kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			var op *net.OpError
			if running.Load() && ctx.Err() == nil && errors.As(err, &op) && op.Op == "dial" { // somebody waits for it still
				again := *op
				again.Err = passing{op.Err}
				err = &again
			}
			return conn, err
		})), nil
}

// passing is an error that the client tries again after. It does not unwrap: the client would find what it does not try again after.
type passing struct{ err error }

func (p passing) Error() string   { return p.err.Error() }
func (p passing) Temporary() bool { return true }

func (p passing) Timeout() bool {
	var t net.Error
	return errors.As(p.err, &t) && t.Timeout()
}
