package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns both ends of a connection.
func pair(t *testing.T) (ours net.Conn, theirs *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err = newTransport(1).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return ours, c.(*net.TCPConn)
}

func control(t *testing.T, c syscall.Conn, f func(fd int) error) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}

// A connection to an address that is gone is given up before the calls over it have waited for all their time.
func TestConnectionThatNobodyAnswers(t *testing.T) {
	c, theirs := pair(t)
	// The other end drops all that comes, and says nothing.
	control(t, theirs, func(fd int) error {
		drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
	})
	a := watch(c.(*answered).Conn, 50*time.Millisecond)
	if _, err := a.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = a.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("the read ended with %v, want %v", err, syscall.ETIMEDOUT)
	}
}

// An upstream that is busy with other calls and takes nothing of a body answers all the same.
func TestConnectionThatTakesNothing(t *testing.T) {
	c, _ := pair(t)
	a := watch(c.(*answered).Conn, 10*time.Millisecond)
	if _, err := a.Write(make([]byte, 300<<10)); err != nil {
		t.Fatal(err)
	}
	_ = a.SetReadDeadline(time.Now().Add(500 * time.Millisecond)) // the kernel has asked for room by then
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the read ended with %v, want %v", err, os.ErrDeadlineExceeded)
	}
	control(t, c.(*answered).Conn.(*net.TCPConn), func(fd int) error {
		ms, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		if ms != 0 {
			t.Errorf("the kernel ends a connection that takes nothing after %d ms", ms)
		}
		return err
	})
}

func TestUnheard(t *testing.T) {
	for _, c := range []struct {
		name string
		info unix.TCPInfo
		want bool
	}{
		{"on its way", unix.TCPInfo{Unacked: 1, Last_ack_recv: 3_600_000}, false},
		{"sent again", unix.TCPInfo{Unacked: 1, Retransmits: 5, Last_ack_recv: 15_000}, true},
		{"lost now and then", unix.TCPInfo{Unacked: 1, Retransmits: 1, Last_ack_recv: 14_999}, false},
		{"no room, and says so", unix.TCPInfo{Notsent_bytes: 1, Last_ack_recv: 110_000}, false},
		{"asked for room", unix.TCPInfo{Notsent_bytes: 1, Probes: 1, Last_ack_recv: 110_000}, true},
	} {
		if got := unheard(&c.info, 15*time.Second); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// What another end that is gone no longer takes of a request is let go, as it may have answered, but not the beginning of the next one: that is sent on
// another connection.
func TestConnectionThatTakesNoMore(t *testing.T) {
	c, theirs := pair(t)
	if _, err := c.Write([]byte("a request")); err != nil {
		t.Fatal(err)
	}
	_, err := theirs.Write([]byte("an answer"))
	if cerr := theirs.Close(); err != nil || cerr != nil { // with something unread, which is a reset
		t.Fatal(err, cerr)
	}
	if got, err := io.ReadAll(c); string(got) != "an answer" || !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%q, %v", got, err)
	}
	if n, err := c.Write([]byte("the rest")); n != 8 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	new(turn).connected(c)
	if n, err := c.Write([]byte("the next")); n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%d, %v; want %v", n, err, syscall.EPIPE)
	}
}
