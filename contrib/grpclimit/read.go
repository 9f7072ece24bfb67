package grpclimit

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// read returns what it means that an attempt ended with err. A nil w says that nothing is known of the
// attempt but err.
func (in *interceptor) read(ctx context.Context, err error, w *wire) feedback.Signal {
	if err == nil {
		return feedback.Signal{}
	}
	if refusedByGuard(ctx, err) {
		return feedback.Signal{Class: feedback.Canceled, Source: guardBelow}
	}
	st, ok := status.FromError(err)
	if !ok {
		return feedback.FromError(ctx, err)
	}
	if s, ok := ofCaller(ctx, st.Code()); ok {
		return s
	}
	g := feedback.GRPCStatus{
		Code: uint32(st.Code()), Message: st.Message(),
		Now: time.Now(), Provider: in.cfg.Provider, Rules: in.cfg.Rules,
	}
	if s, ok := in.ofLibrary(&g, w); ok {
		return s
	}
	details(&g, st)
	if w != nil {
		g.Pushback = w.trailer.Get("grpc-retry-pushback-ms")
	}
	s := feedback.FromGRPC(g)
	if forbids(g.Pushback) {
		s.Retryable = false
	}
	return s
}

// refusedByGuard reports whether err is the refusal of a guard, and not the end of a context that another call's refusal has ended, as errgroup does.
func refusedByGuard(ctx context.Context, err error) bool {
	return errors.Is(err, limiter.ErrRejected) && !errors.Is(err, context.Cause(ctx))
}

// guardBelow is the source of what a guard below refused, so that nothing was sent.
const guardBelow = "guard:below"

// callersDeadline is the source of what a caller's deadline ended.
const callersDeadline = "deadline:caller"

// ofCaller returns what a status means with which a call ended because the caller's context did.
func ofCaller(ctx context.Context, code codes.Code) (s feedback.Signal, ok bool) {
	switch code {
	case codes.Canceled:
		if ctx.Err() != nil {
			return feedback.Signal{Class: feedback.Canceled, Source: "cancel:caller"}, true
		}
	case codes.DeadlineExceeded:
		// The server knows the deadline, too, and may be a little ahead of our timer.
		deadline, has := ctx.Deadline()
		if ctx.Err() != nil || has && time.Until(deadline) <= 0 {
			return feedback.Signal{Class: feedback.Canceled, Source: callersDeadline}, true
		}
	}
	return s, false
}

// details adds to g what the details of a status say.
func details(g *feedback.GRPCStatus, st *status.Status) {
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.RetryInfo:
			if d.GetRetryDelay() != nil {
				g.RetryDelay, g.HasRetryDelay = d.GetRetryDelay().AsDuration(), true
			}
		case *errdetails.ErrorInfo:
			g.Reasons = append(g.Reasons, d.GetReason())
		case *errdetails.QuotaFailure:
			for _, v := range d.GetViolations() {
				id := v.GetQuotaId()
				if id == "" {
					id = v.GetSubject() + " " + v.GetDescription()
				}
				g.QuotaIDs = append(g.QuotaIDs, id)
			}
		}
	}
}

// forbids reports whether a pushback asks not to retry at all: it is no decimal number of 32 bits, or negative
// (gRFC A6, "Pushback"), or there is more than one, as grpc-go reads it.
func forbids(pushback []string) bool {
	if len(pushback) != 1 {
		return len(pushback) > 1
	}
	ms, err := strconv.ParseInt(pushback[0], 10, 32)
	return err != nil || ms < 0
}

// tooLarge are the texts of RESOURCE_EXHAUSTED for a message that is larger than its receiver takes, or than its
// sender may send, by library.
var tooLarge = [...]string{
	"larger than max",                             // grpc-go, C core
	"message exceeds maximum size",                // grpc-java
	"exceeds the maximum configured message size", // grpc-dotnet
	"metadata size exceeds",                       // C core
}

// Other texts of statuses that grpc-go makes by itself.
const (
	httpStatus = "unexpected HTTP status code received from server: " // of a proxy that does not speak gRPC
	connClosed = "the client connection is closing"                   // after ClientConn.Close
	readFailed = "error reading from server: "
	connFailed = "closing transport due to: "
	draining   = "the stream is rejected because server is draining" // after GOAWAY: not processed
	unstarted  = "REFUSED_STREAM"                                    // RFC 9113, 8.7: not processed
)

// ofLibrary returns what a status means that did not come from the upstream's application, and whose
// code misleads.
func (in *interceptor) ofLibrary(g *feedback.GRPCStatus, w *wire) (s feedback.Signal, ok bool) {
	text := g.Message
	switch codes.Code(g.Code) {
	case codes.Canceled:
		if strings.Contains(text, connClosed) {
			return feedback.Signal{Class: feedback.Canceled, Source: "conn:closed by us"}, true
		}
	case codes.ResourceExhausted:
		for _, part := range tooLarge {
			if strings.Contains(text, part) {
				return feedback.Signal{Class: feedback.ClientError, Source: "text:" + part}, true
			}
		}
	}
	if w == nil {
		return s, false
	}
	if rest, found := strings.CutPrefix(text, httpStatus); found && !w.answered() && len(rest) >= 3 {
		if code, err := strconv.Atoi(rest[:3]); err == nil && code >= 400 {
			return feedback.Parse(feedback.Answer{
				Status: code, Body: []byte(rest), Now: g.Now, Provider: g.Provider, Rules: g.Rules,
			}), true
		}
	}
	if codes.Code(g.Code) != codes.Unavailable {
		return s, false
	}
	switch {
	case !w.sent() && (strings.Contains(text, "tls: ") || strings.Contains(text, "x509: ")):
		return feedback.Signal{Class: feedback.ClientError, Source: "tls:handshake"}, true
	case !w.sent() && strings.Contains(text, "no such host"):
		return feedback.Signal{Class: feedback.ClientError, Source: "dns:not_found"}, true
	case w.sent() && lost(text, w):
		return feedback.Signal{Class: feedback.ServerError, Retryable: true, Source: "conn:lost"}, true
	}
	return s, false
}

// lost reports whether the connection broke under an attempt, so that nobody knows what became of it.
func lost(text string, w *wire) bool {
	if strings.Contains(text, unstarted) || strings.HasPrefix(text, draining) {
		return false
	}
	return !w.answered() || strings.HasPrefix(text, readFailed) || strings.HasPrefix(text, connFailed)
}
