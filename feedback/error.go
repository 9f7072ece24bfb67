package feedback

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// FromError returns what it means that a call ended with an error instead of an answer. ctx
// is the caller's context, the one that the whole call runs under, and not that of a single
// attempt; nil is like context.Background. It tells the caller's own impatience from the
// upstream's slowness:
//
//	the caller cancelled, or its deadline passed   canceled       its context is done, and
//	                                                              the error says no more
//	something else of ours cancelled               canceled       context.Canceled, net.ErrClosed
//	a deadline of one attempt, of a socket or of   timeout        retryable: the upstream had
//	http.Client passed                                            its time
//	nobody listens (connection refused)            overloaded     retryable: nothing was sent,
//	                                                              and no process has capacity
//	the upstream refused the stream (HTTP/2)       overloaded     retryable: nothing was done
//	the upstream asked for calm (HTTP/2)           throttled      retryable, scope unknown
//	reset, broken pipe, end in the middle          server_error   retryable: somebody gave up
//	another reset of the stream (HTTP/2)           server_error   retryable: as above
//	no route, network down                         server_error   retryable
//	this machine has no file, port or memory       server_error   retryable: nothing was sent,
//	left for a connection                                         and others are given back
//	the name does not exist                        client_error   not retryable
//	the name could not be resolved now             server_error   retryable
//	a certificate, a version, not TLS at all       client_error   not retryable
//	anything else                                  server_error   not retryable
//
// A caller's deadline alone does not say whether the upstream had its time. Whoever knows when the request was sent
// can tell more: see [Overdue].
//
// That the same request may succeed does not say that a replay is safe: after a timeout or a
// reset the upstream may have done the work. A nil error is a success.
func FromError(ctx context.Context, err error) Signal {
	if err == nil {
		return Signal{}
	}
	if ctx != nil && ctx.Err() != nil && (impatience(err) || errors.Is(err, context.Cause(ctx)) || plain(err)) {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Signal{Class: Canceled, Source: "deadline:caller"}
		}
		return Signal{Class: Canceled, Source: "cancel:caller"}
	}
	return fromError(err)
}

// patience is how long an upstream must have had a call before a caller's deadline can be its fault.
const patience = time.Second

// Overdue reports whether a caller's deadline, which ended a call before an answer had begun, is a time-out of the upstream: it had the
// attempt for at least 1 s and for more than half of the time from when the caller came to the deadline. If not, the caller had
// little patience, or spent it waiting for his turn.
func Overdue(had, whole time.Duration) bool { return had >= patience && had > whole/2 }

// impatience reports whether err only says that somebody did not want to wait any longer.
func impatience(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || timedOut(err)
}

// plain reports whether nothing in err is known to come from the network.
func plain(err error) bool { return fromError(err).Source == "error:unknown" }

func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout() // os.ErrDeadlineExceeded has it, too
}

func fromError(err error) Signal {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		switch {
		case errors.Is(err, context.Canceled):
			return Signal{Class: Canceled, Source: "cancel:own"}
		case dns.IsNotFound:
			return Signal{Class: ClientError, Source: "dns:not_found"}
		}
		return Signal{Class: ServerError, Retryable: true, Source: "dns:temporary"}
	}
	if source, ok := tlsError(err); ok {
		return Signal{Class: ClientError, Source: source}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Signal{Class: Canceled, Source: "cancel:own"}
	case isErrno(err, syscall.ECONNREFUSED, wsaeConnRefused):
		return Signal{Class: Overloaded, Retryable: true, Source: "conn:refused"}
	case isErrno(err, syscall.ECONNRESET, wsaeConnReset), isErrno(err, syscall.EPIPE, 0),
		isErrno(err, syscall.ECONNABORTED, wsaeConnAborted):
		return Signal{Class: ServerError, Retryable: true, Source: "conn:reset"}
	case errors.Is(err, context.DeadlineExceeded), timedOut(err):
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return Signal{Class: Timeout, Retryable: true, Source: "timeout:dial"}
		}
		return Signal{Class: Timeout, Retryable: true, Source: "timeout:attempt"}
	case isErrno(err, syscall.EHOSTUNREACH, wsaeHostUnreach), isErrno(err, syscall.ENETUNREACH, wsaeNetUnreach),
		isErrno(err, syscall.ENETDOWN, 0):
		return Signal{Class: ServerError, Retryable: true, Source: "conn:unreachable"}
	case isErrno(err, syscall.EMFILE, wsaeManyFiles), isErrno(err, syscall.ENFILE, 0), isErrno(err, syscall.EADDRNOTAVAIL, wsaeAddrNotAvail),
		isErrno(err, syscall.ENOBUFS, wsaeNoBufs), isErrno(err, syscall.ENOMEM, 0):
		return Signal{Class: ServerError, Retryable: true, Source: "conn:no resources"}
	case errors.Is(err, net.ErrClosed):
		return Signal{Class: Canceled, Source: "conn:closed by us"}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return Signal{Class: ServerError, Retryable: true, Source: "conn:eof"}
	}
	return fromText(err.Error())
}

// fromText reads the errors of net/http that have no exported type.
func fromText(text string) Signal {
	for _, known := range [...]struct {
		text   string
		signal Signal
	}{
		// RFC 9113, section 7.
		{"REFUSED_STREAM", Signal{Class: Overloaded, Retryable: true, Source: "http2:refused_stream"}},
		{"ENHANCE_YOUR_CALM", Signal{Class: Throttled, Retryable: true, Scope: ScopeUnknown, Source: "http2:enhance_your_calm"}},
		{"; received from peer", Signal{Class: ServerError, Retryable: true, Source: "http2:reset"}},
		{"http2: client connection lost", Signal{Class: ServerError, Retryable: true, Source: "conn:reset"}},
		{"GOAWAY", Signal{Class: ServerError, Retryable: true, Source: "http2:goaway"}},
		{"server closed idle connection", Signal{Class: ServerError, Retryable: true, Source: "conn:reset"}},
		{"server closed the connection", Signal{Class: ServerError, Retryable: true, Source: "conn:reset"}},
		{"server gave HTTP response to HTTPS client", Signal{Class: ClientError, Source: "tls:not tls"}},
	} {
		if strings.Contains(text, known.text) {
			return known.signal
		}
	}
	return Signal{Class: ServerError, Source: "error:unknown"}
}

// tlsError reports whether err is one of a handshake that another attempt will not cure.
func tlsError(err error) (source string, ok bool) {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
		roots        x509.SystemRootsError
		record       tls.RecordHeaderError
		alert        tls.AlertError
		ech          *tls.ECHRejectionError
	)
	switch {
	case errors.As(err, &verification), errors.As(err, &authority), errors.As(err, &hostname),
		errors.As(err, &invalid), errors.As(err, &roots):
		return "tls:certificate", true
	case errors.As(err, &record):
		return "tls:not tls", true
	case errors.As(err, &alert), errors.As(err, &ech):
		return "tls:handshake", true
	}
	// An alert from the other side comes as a net.OpError of its own making.
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return "tls:handshake", true
	}
	return "", false
}

// Winsock's numbers of the errors whose POSIX numbers package syscall has on Windows, too,
// but which sockets there do not return. No other system uses numbers that large.
const (
	wsaeManyFiles    = 10024
	wsaeAddrNotAvail = 10049
	wsaeNetUnreach   = 10051
	wsaeConnAborted  = 10053
	wsaeConnReset    = 10054
	wsaeNoBufs       = 10055
	wsaeConnRefused  = 10061
	wsaeHostUnreach  = 10065
)

func isErrno(err error, posix syscall.Errno, winsock uintptr) bool {
	var n syscall.Errno
	return errors.As(err, &n) && (n == posix || winsock != 0 && uintptr(n) == winsock)
}
