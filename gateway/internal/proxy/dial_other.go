//go:build !linux

package proxy

import (
	"context"
	"net"
)

// dial connects to an upstream, and leaves it to the system when a connection is given up on which nobody acknowledges what was sent.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	return dialer.DialContext(ctx, network, address)
}
