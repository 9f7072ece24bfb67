package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// linger is how long the other side of a connection that changed its protocol may take to end, once one has; an upstream, to say more.
const linger = 5 * time.Second

// tunnel hands on a connection that changed its protocol, in both directions, until both sides have ended it, one of them has failed, or ctx ends.
// What a side sent before it ended reaches the other one.
func (o *out) tunnel(ctx context.Context, resp *http.Response) error {
	o.take()
	o.status = resp.StatusCode
	up, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		return errors.New("proxy: the upstream's connection cannot be written to")
	}
	conn, buffered, err := o.rc.Hijack()
	if err != nil {
		return fmt.Errorf("proxy: the protocol cannot be changed here: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Time{})
	head := *resp
	head.Body = nil
	if err := head.Write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	// The server's own reader takes the end of what the caller sends for the end of the call, and ends ctx.
	caller := io.MultiReader(io.LimitReader(buffered, int64(buffered.Reader.Buffered())), conn)
	type end struct {
		err    error
		caller bool
	}
	ended := make(chan end, 2)
	go func() {
		_, err := io.Copy(up, caller)
		if err == nil {
			err = closeWrite(up)
		} else {
			// To close a connection with something unread cuts what is on its way to the caller.
			_, _ = io.Copy(io.Discard, caller)
		}
		ended <- end{err, true}
	}()
	said := &counted{Reader: up}
	go func() {
		n, err := io.Copy(conn, said)
		o.sent += n
		if err == nil {
			err = closeWrite(conn)
		}
		ended <- end{err, false}
	}()
	left, first := 2, end{}
	select {
	case first = <-ended:
		err = first.err
		left--
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err == nil {
		late := time.NewTimer(linger)
		defer late.Stop()
		for before, wait := said.n.Load(), true; wait; {
			wait = false
			select {
			case <-ended: // what went wrong first is why
				left--
			case <-late.C:
				// A caller that has said all may still be answered. One that goes on after the upstream's end talks to nobody.
				if now := said.n.Load(); first.caller && now != before {
					before, wait = now, true
					late.Reset(linger)
				}
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
	}
	// Ends what has not ended.
	_ = conn.Close()
	_ = up.Close()
	for range left {
		<-ended // because of the closing
	}
	return err
}

// counted is a reader that counts what it has read.
type counted struct {
	io.Reader
	n atomic.Int64
}

// Read reads.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// closeWrite ends what is sent over a connection, and not what is received.
func closeWrite(c any) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return fmt.Errorf("proxy: closing one direction: %w", http.ErrNotSupported)
}
