package grpclimit

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/flyball-go/flyball/feedback"
)

// What is known of an attempt that was not sent, that was sent, and that was answered.
var (
	unsent    = &wire{}
	unheard   = &wire{peer: peer.Peer{Addr: &net.TCPAddr{}}}
	answering = &wire{peer: unheard.peer, header: metadata.Pairs("content-type", "application/grpc")}
	answered  = &wire{peer: unheard.peer, trailer: metadata.Pairs("content-type", "application/grpc")}
)

func TestReading(t *testing.T) {
	for _, tt := range []struct {
		name      string
		code      codes.Code
		text      string
		wire      *wire
		details   []protoadapt.MessageV1
		class     feedback.Class
		retryable bool
		scope     feedback.Scope
	}{
		{name: "a refusal", code: codes.ResourceExhausted, wire: answered,
			class: feedback.Throttled, retryable: true, scope: feedback.ScopeUnknown},
		{name: "a refusal that names its limit", code: codes.ResourceExhausted, text: "too many concurrent streams", wire: answered,
			class: feedback.Throttled, retryable: true, scope: feedback.ScopeConcurrency},
		{name: "of which nothing is known", code: codes.ResourceExhausted, wire: nil,
			class: feedback.Throttled, retryable: true, scope: feedback.ScopeUnknown},
		{name: "a quota without an id", code: codes.ResourceExhausted, wire: answered,
			details: []protoadapt.MessageV1{&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{
				{Subject: "project:5", Description: "Daily Limit for read operations exceeded"}}}},
			class: feedback.QuotaExhausted, scope: feedback.ScopeDaily},
		{name: "a RetryInfo without a delay", code: codes.ResourceExhausted, wire: answered,
			details: []protoadapt.MessageV1{&errdetails.RetryInfo{}},
			class:   feedback.Throttled, retryable: true, scope: feedback.ScopeUnknown},

		// Messages that are too large, in the words of several libraries.
		{name: "C core", code: codes.ResourceExhausted, text: "Received message larger than max (5308389 vs. 4194304)", wire: answered,
			class: feedback.ClientError},
		{name: "grpc-java", code: codes.ResourceExhausted, text: "gRPC message exceeds maximum size 4194304: 5118829", wire: answered,
			class: feedback.ClientError},
		{name: "grpc-dotnet", code: codes.ResourceExhausted, wire: answered,
			text:  "Received message exceeds the maximum configured message size.",
			class: feedback.ClientError},
		{name: "C core, metadata", code: codes.ResourceExhausted, wire: unheard,
			text:  "received metadata size exceeds hard limit (18013 vs. 16384)",
			class: feedback.ClientError},

		// Connections.
		{name: "nobody listens", code: codes.Unavailable, wire: unsent,
			text:  `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`,
			class: feedback.Overloaded, retryable: true},
		{name: "no such name", code: codes.Unavailable, wire: unsent,
			text:  "name resolver error: dns: A record lookup error: lookup nowhere.test: no such host",
			class: feedback.ClientError},
		{name: "no such name, says a proxy", code: codes.Unavailable, wire: answered,
			text:  "lookup nowhere.test: no such host",
			class: feedback.Overloaded, retryable: true},
		{name: "a certificate", code: codes.Unavailable, wire: unsent,
			text:  "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority",
			class: feedback.ClientError},
		{name: "a handshake that was cut", code: codes.Unavailable, wire: unsent,
			text:  "transport: authentication handshake failed: EOF",
			class: feedback.Overloaded, retryable: true},
		{name: "lost", code: codes.Unavailable, text: "error reading from server: EOF", wire: unheard,
			class: feedback.ServerError, retryable: true},
		{name: "lost after the header", code: codes.Unavailable, text: "error reading from server: EOF", wire: answering,
			class: feedback.ServerError, retryable: true},
		{name: "not processed", code: codes.Unavailable, wire: unheard,
			text:  "stream terminated by RST_STREAM with error code: REFUSED_STREAM",
			class: feedback.Overloaded, retryable: true},
		{name: "not processed before it shuts down", code: codes.Unavailable, wire: unheard,
			text:  "the stream is rejected because server is draining the connection",
			class: feedback.Overloaded, retryable: true},
		{name: "overloaded, after the header", code: codes.Unavailable, text: "shedding load", wire: answering,
			class: feedback.Overloaded, retryable: true},
		{name: "closed by us", code: codes.Canceled, text: "grpc: the client connection is closing", wire: answering,
			class: feedback.Canceled},

		// Answers of proxies, also hostile ones.
		{name: "HTTP 429", code: codes.Unavailable, text: httpStatus + "429 (Too Many Requests)", wire: unheard,
			class: feedback.Throttled, retryable: true, scope: feedback.ScopeUnknown},
		{name: "HTTP 429, says a server", code: codes.Unavailable, text: httpStatus + "429 (Too Many Requests)", wire: answered,
			class: feedback.Overloaded, retryable: true},
		{name: "HTTP cut short", code: codes.Internal, text: httpStatus + "4", wire: unheard,
			class: feedback.ServerError, retryable: true},
		{name: "HTTP 200", code: codes.Unknown, text: httpStatus + "200 (OK)", wire: unheard,
			class: feedback.ServerError, retryable: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := status.New(tt.code, tt.text)
			if len(tt.details) > 0 {
				with, err := st.WithDetails(tt.details...)
				if err != nil {
					t.Fatal(err)
				}
				st = with
			}
			in := newInterceptor("Unary", newGuard(t, 1, nil), Config{})
			s := in.read(t.Context(), st.Err(), tt.wire)
			if s.Class != tt.class || s.Retryable != tt.retryable || s.Scope != tt.scope || s.HasRetryAfter {
				t.Errorf("read %v, retryable %v, scope %v, delay %v (%s); want %v, %v, %v and no delay",
					s.Class, s.Retryable, s.Scope, s.RetryAfter, s.Source, tt.class, tt.retryable, tt.scope)
			}
		})
	}
}

// A server that keeps the caller's deadline may answer before the caller's own timer has fired.
func TestDeadlineThatTheServerSawFirst(t *testing.T) {
	in := newInterceptor("Unary", newGuard(t, 1, nil), Config{})
	err := status.Error(codes.DeadlineExceeded, "context deadline exceeded")
	if s := in.read(late{t.Context()}, err, answered); s.Class != feedback.Canceled {
		t.Errorf("read %v after the caller's deadline, want canceled", s.Class)
	}
	if s := in.read(t.Context(), err, answered); s.Class != feedback.Timeout {
		t.Errorf("read %v before it, want timeout", s.Class)
	}
}

// late is a context whose deadline has passed and whose timer has not fired.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }
