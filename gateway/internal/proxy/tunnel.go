package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// tunnel hands on a connection that changed its protocol, in both directions, until one side ends it or ctx ends.
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
	type end struct{ err error }
	ended := make(chan end, 2)
	go func() { _, err := io.Copy(up, buffered); ended <- end{err} }()
	go func() { n, err := io.Copy(conn, up); o.sent += n; ended <- end{err} }()
	left := 2
	select {
	case e := <-ended:
		err = e.err
		left--
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	// Ends the other direction.
	_ = conn.Close()
	_ = up.Close()
	for range left {
		<-ended // it ended because of the closing
	}
	return err
}
