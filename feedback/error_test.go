package feedback

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// get makes a request and returns the error of the call or of reading the body.
func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func wantError(t *testing.T, ctx context.Context, err error, class Class, retryable bool, source string) {
	t.Helper()
	if err == nil {
		t.Fatal("the call succeeded")
	}
	s := FromError(ctx, err)
	if s.Class != class || s.Retryable != retryable || s.Source != source || s.HasRetryAfter {
		t.Errorf("FromError(%v) = %v retryable=%v by %q, want %v retryable=%v by %q", err, s.Class, s.Retryable, s.Source, class, retryable, source)
	}
}

// noContext is a nil context, which FromError takes for a background one.
var noContext context.Context

func newClient(t *testing.T) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// hang is a server that answers nothing until the test ends; stream sends half a body first.
func hang(t *testing.T, stream bool) string {
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stream {
			io.WriteString(w, "data: x\n\n")
			w.(http.Flusher).Flush()
		}
		select {
		case <-done:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(done); srv.Close() })
	return srv.URL
}

func TestCallerGaveUp(t *testing.T) {
	for _, stream := range []bool{false, true} {
		url := hang(t, stream)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		wantError(t, ctx, get(ctx, newClient(t), url), Canceled, false, "cancel:caller")

		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		wantError(t, ctx, get(ctx, newClient(t), url), Canceled, false, "deadline:caller")

		why := errors.New("shutting down")
		ctx, cancelCause := context.WithCancelCause(t.Context())
		time.AfterFunc(20*time.Millisecond, func() { cancelCause(why) })
		wantError(t, ctx, get(ctx, newClient(t), url), Canceled, false, "cancel:caller")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantError(t, ctx, errors.New("a library's own words"), Canceled, false, "cancel:caller")
	wantError(t, ctx, fmt.Errorf("read: %w", os.ErrDeadlineExceeded), Canceled, false, "cancel:caller")
	// What the network says all the same is believed.
	wantError(t, ctx, fmt.Errorf("dial: %w", syscall.ECONNREFUSED), Overloaded, true, "conn:refused")
}

func TestAttemptTimedOut(t *testing.T) {
	for _, stream := range []bool{false, true} {
		url := hang(t, stream)
		attempt, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		wantError(t, t.Context(), get(attempt, newClient(t), url), Timeout, true, "timeout:attempt")

		client := newClient(t)
		client.Timeout = 20 * time.Millisecond
		wantError(t, t.Context(), get(t.Context(), client, url), Timeout, true, "timeout:attempt")
	}
	client := newClient(t)
	client.Transport.(*http.Transport).ResponseHeaderTimeout = 20 * time.Millisecond
	wantError(t, t.Context(), get(t.Context(), client, hang(t, false)), Timeout, true, "timeout:attempt")

	attempt, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	wantError(t, t.Context(), get(attempt, newClient(t), hang(t, false)), Canceled, false, "cancel:own")
}

// TestSocketDeadline is in virtual time.
func TestSocketDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		a.SetReadDeadline(time.Now().Add(time.Hour))
		_, err := a.Read(make([]byte, 1))
		wantError(t, context.Background(), err, Timeout, true, "timeout:attempt")

		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		<-ctx.Done()
		wantError(t, ctx, err, Canceled, false, "deadline:caller")
	})
}

func TestConnectionRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	wantError(t, t.Context(), get(t.Context(), newClient(t), "http://"+addr), Overloaded, true, "conn:refused")
}

// TestConnectionReset: a server that hangs up before an answer, with a RST or a FIN, and within one.
func TestConnectionReset(t *testing.T) {
	for _, c := range []struct {
		say    string
		linger int
		source string
	}{
		{"", 0, "conn:reset"}, {"", -1, "conn:eof"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", -1, "conn:eof"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", -1, "conn:eof"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1024))
			io.WriteString(conn, c.say)
			conn.(*net.TCPConn).SetLinger(c.linger)
			conn.Close()
		}()
		wantError(t, t.Context(), get(t.Context(), newClient(t), "http://"+l.Addr().String()), ServerError, true, c.source)
		l.Close()
		<-done
	}
	for _, e := range []error{syscall.EPIPE, syscall.ECONNRESET, syscall.ECONNABORTED} {
		wantError(t, t.Context(), &net.OpError{Op: "write", Err: os.NewSyscallError("write", e)}, ServerError, true, "conn:reset")
	}
	wantError(t, t.Context(), syscall.Errno(10061), Overloaded, true, "conn:refused") // Winsock's number
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	quiet(srv)
	wantError(t, t.Context(), get(t.Context(), newClient(t), srv.URL), ClientError, false, "tls:certificate")

	wrongName := newClient(t)
	wrongName.Transport = srv.Client().Transport.(*http.Transport).Clone()
	wrongName.Transport.(*http.Transport).TLSClientConfig.ServerName = "other.example"
	wantError(t, t.Context(), get(t.Context(), wrongName, srv.URL), ClientError, false, "tls:certificate")

	old := newClient(t)
	old.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}}
	wantError(t, t.Context(), get(t.Context(), old, srv.URL), ClientError, false, "tls:handshake")

	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	wantError(t, t.Context(), get(t.Context(), newClient(t), "https"+plain.URL[len("http"):]), ClientError, false, "tls:not tls")
	_, err := tls.Dial("tcp", plain.Listener.Addr().String(), nil)
	wantError(t, t.Context(), err, ClientError, false, "tls:not tls")
}

func quiet(srv *httptest.Server) { srv.Config.ErrorLog = log.New(io.Discard, "", 0) }

func TestDNS(t *testing.T) {
	for _, c := range []struct {
		dns       net.DNSError
		class     Class
		retryable bool
		source    string
	}{
		{net.DNSError{Err: "no such host", Name: "nowhere.invalid", IsNotFound: true}, ClientError, false, "dns:not_found"},
		{net.DNSError{Err: "server misbehaving", Name: "x", IsTemporary: true}, ServerError, true, "dns:temporary"},
		{net.DNSError{Err: "i/o timeout", Name: "x", IsTimeout: true, IsTemporary: true}, ServerError, true, "dns:temporary"},
	} {
		wantError(t, t.Context(), &net.OpError{Op: "dial", Net: "tcp", Err: &c.dns}, c.class, c.retryable, c.source)
	}
	// A resolver that does not answer, and one that says there is no such name.
	dialer := &net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no resolver")
	}}}
	client := newClient(t)
	client.Transport.(*http.Transport).DialContext = dialer.DialContext
	wantError(t, t.Context(), get(t.Context(), client, "http://name.invalid"), ServerError, true, "dns:temporary")
}

func TestOtherErrors(t *testing.T) {
	if s := FromError(t.Context(), nil); s.Class != OK || s.Source != "" {
		t.Errorf("FromError(nil) = %+v", s)
	}
	for text, want := range map[string]string{
		"stream error: stream ID 3; REFUSED_STREAM; received from peer":                                     "overloaded/none retry",
		"stream error: stream ID 3; ENHANCE_YOUR_CALM; received from peer":                                  "throttled/unknown retry",
		"http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug=\"\"": "server_error/none retry",
		"stream error: stream ID 3; INTERNAL_ERROR; received from peer":                                     "server_error/none retry",
		"stream error: stream ID 3; PROTOCOL_ERROR; malformed response":                                     "server_error/none",
		"http2: client connection lost":                                                                     "server_error/none retry",
		"http: server closed idle connection":                                                               "server_error/none retry",
		"unsupported protocol scheme \"gopher\"":                                                            "server_error/none",
	} {
		if got := short(FromError(noContext, errors.New(text))); got != want {
			t.Errorf("FromError(%q) = %s, want %s", text, got, want)
		}
	}
	wantError(t, noContext, syscall.ENETUNREACH, ServerError, true, "conn:unreachable")
	for _, full := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.Errno(10055)} {
		wantError(t, noContext, &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", full)}, ServerError, true, "conn:no resources")
	}
	wantError(t, noContext, fmt.Errorf("x: %w", net.ErrClosed), Canceled, false, "conn:closed by us")
	wantError(t, noContext, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, Timeout, true, "timeout:dial")
	wantError(t, noContext, io.EOF, ServerError, true, "conn:eof")
}

// A caller's deadline tells of the upstream when that had at least 1 s, and more than half of the time.
func TestOverdue(t *testing.T) {
	for _, c := range []struct {
		sent, deadline, now time.Duration // after asked
		want                bool
	}{
		{0, 3 * time.Second, 3 * time.Second, true},
		{1400 * time.Millisecond, 3 * time.Second, 3 * time.Second, true},
		{1500 * time.Millisecond, 3 * time.Second, 3 * time.Second, false}, // half
		{0, 999 * time.Millisecond, 999 * time.Millisecond, false},
		{0, time.Second, time.Second, true},
		{59 * time.Second, time.Minute, time.Minute, false},
		{10 * time.Second, time.Minute, 41 * time.Second, true}, // http.Client has ended it a moment before, say
		{2 * time.Second, time.Second, 2 * time.Second, false},
	} {
		if got := Overdue(c.now-c.sent, c.deadline); got != c.want {
			t.Errorf("sent after %v, ended after %v of %v: %t", c.sent, c.now, c.deadline, got)
		}
	}
}
