package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dial connects to an upstream.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return watch(c, lookEvery), nil
}

// answered is a connection that ends when nobody acknowledges for a minute what was sent. The kernel tries for a quarter of an hour: calls
// over connections to an address that is gone would wait until their time is over, and keep their places, while new connections would
// find another one. TCP_USER_TIMEOUT would end a connection, too, whose other end is there and takes nothing of a body for so long, as it is
// busy with other calls (tcp_probe_timer in Linux).
type answered struct {
	net.Conn
	raw   syscall.RawConn
	every time.Duration
	timer *time.Timer
	armed atomic.Bool // the timer runs, or has ended and is not yet looked after
	gone  atomic.Bool // nobody answers
	begun atomic.Bool // something was sent of the request that has the connection

	mu     sync.Mutex
	silent int // how many times in a row nobody had answered
}

// watch returns c, looked at as often as every says.
func watch(c net.Conn, every time.Duration) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	a := &answered{Conn: c, raw: raw, every: every}
	a.timer = time.AfterFunc(every, a.look)
	a.timer.Stop()
	return a
}

// Write writes, and has the connection looked at until it was acknowledged. What the other end does not take once it has the beginning of a request
// is let go: it may have answered before it closed the connection, which net/http would not look at, and a read finds out that it has not.
func (a *answered) Write(p []byte) (int, error) {
	a.arm()
	n, err := a.Conn.Write(p)
	if n > 0 && !a.begun.Load() {
		a.begun.Store(true)
	}
	if err != nil && a.begun.Load() && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		return len(p), nil
	}
	return n, a.why("write", err)
}

// begins says that another request has the connection.
func (a *answered) begins() { a.begun.Store(false) }

// Read reads.
func (a *answered) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	return n, a.why("read", err)
}

// CloseWrite ends what is sent.
func (a *answered) CloseWrite() error {
	if t, ok := a.Conn.(*net.TCPConn); ok {
		return t.CloseWrite()
	}
	return http.ErrNotSupported
}

// Close closes the connection.
func (a *answered) Close() error {
	a.timer.Stop()
	return a.Conn.Close()
}

func (a *answered) arm() {
	if !a.armed.Load() && !a.armed.Swap(true) {
		a.timer.Reset(a.every)
	}
}

// look looks whether somebody answers, and again until nothing is under way.
func (a *answered) look() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.armed.Store(false) // what is written from now on has it armed again
	var info *unix.TCPInfo
	var err error
	if cerr := a.raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); cerr != nil || err != nil {
		return // it is closed
	}
	switch {
	case info.Unacked == 0 && info.Notsent_bytes == 0:
		a.silent = 0
		return
	case unheard(info, a.every):
		a.silent++
	default:
		a.silent = 0
	}
	if a.silent >= silentLooks {
		a.gone.Store(true)
		_ = a.Conn.Close()
		return
	}
	a.arm()
}

// unheard reports whether something was sent again, or room for it was asked for, and nobody has said a word for so long. Another end that has no
// room says so each time, and the kernel asks after up to 2 minutes.
func unheard(info *unix.TCPInfo, since time.Duration) bool {
	return (info.Retransmits > 0 || info.Probes > 0) && time.Duration(info.Last_ack_recv)*time.Millisecond >= since
}

// why returns err, or that nobody answers as the kernel would say so.
func (a *answered) why(op string, err error) error {
	if err == nil || !a.gone.Load() {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: a.LocalAddr(), Addr: a.RemoteAddr(), Err: os.NewSyscallError(op, syscall.ETIMEDOUT)}
}
