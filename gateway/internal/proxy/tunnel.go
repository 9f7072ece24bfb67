package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// tunnel hands on a connection that changed its protocol, in both directions, until one side ends it.
func (o *out) tunnel(r *http.Request, resp *http.Response) error {
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
	ended := make(chan error, 2)
	go func() { _, err := io.Copy(up, buffered); ended <- err }()
	go func() { n, err := io.Copy(conn, up); o.sent += n; ended <- err }()
	left := 2
	select {
	case err = <-ended:
		left--
	case <-r.Context().Done():
		err = r.Context().Err()
	}
	// Ends the other direction.
	_ = conn.Close()
	_ = up.Close()
	for range left {
		<-ended // it ended because of the closing
	}
	return err
}
