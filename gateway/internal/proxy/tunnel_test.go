package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// half is one end of a pipe of which each direction ends by itself.
type half struct {
	net.Conn
	in  *io.PipeReader
	out *io.PipeWriter
}

func pipe() (a, b *half) {
	toB, fromA := io.Pipe()
	toA, fromB := io.Pipe()
	x, y := net.Pipe() // for what is not used but for deadlines
	return &half{x, toA, fromA}, &half{y, toB, fromB}
}

func (h *half) Read(p []byte) (int, error)  { return h.in.Read(p) }
func (h *half) Write(p []byte) (int, error) { return h.out.Write(p) }
func (h *half) CloseWrite() error           { return h.out.Close() }
func (h *half) Close() error {
	_ = h.in.Close()
	_ = h.out.Close()
	return h.Conn.Close()
}

// hijacked is a writer of answers whose connection changes its protocol.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// A caller that has said all is answered for as long as the upstream says something; one that goes on when the upstream has ended is not heard.
func TestTunnelAfterOneEnd(t *testing.T) {
	for _, c := range []struct {
		name  string
		lasts time.Duration
		talk  func(caller, up *half)
	}{
		{"the upstream goes on", 30 * time.Second, func(caller, up *half) {
			_ = caller.CloseWrite()
			for range 10 {
				time.Sleep(3 * time.Second)
				_, _ = up.Write([]byte("x"))
			}
			_ = up.CloseWrite()
		}},
		{"the upstream is silent", linger, func(caller, _ *half) { _ = caller.CloseWrite() }},
		{"the caller goes on", linger, func(caller, up *half) {
			go func() { _, _ = io.Copy(io.Discard, up) }()
			_ = up.CloseWrite()
			for err := error(nil); err == nil; time.Sleep(time.Second) {
				_, err = caller.Write([]byte("x"))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, caller := pipe()
				up, theirs := pipe()
				o := &out{rc: http.NewResponseController(hijacked{conn: conn})}
				began := time.Now()
				var talks sync.WaitGroup
				talks.Go(func() { _, _ = io.Copy(io.Discard, caller) })
				talks.Go(func() { c.talk(caller, theirs) })
				err := o.tunnel(context.Background(), &http.Response{StatusCode: 101, ProtoMajor: 1, ProtoMinor: 1, Body: up})
				if lasted := time.Since(began); err != nil || lasted != c.lasts {
					t.Errorf("it lasts %v and ends with %v, want %v", lasted, err, c.lasts)
				}
				_, _ = caller.Close(), theirs.Close()
				talks.Wait()
			})
		})
	}
}
