package httplimit

import (
	"errors"
	"net"
)

// unsent reports whether an error says that the request did not reach the upstream: no connection was
// made, so it can be sent again whatever its method.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
