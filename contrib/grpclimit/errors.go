package grpclimit

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/flyball-go/flyball/limiter"
)

// statusError is an error of this side with the status that gRPC's users expect.
type statusError struct {
	err    error
	status *status.Status
}

// Error returns the text of the error.
func (e *statusError) Error() string { return e.err.Error() }

// Unwrap returns the error without its status.
func (e *statusError) Unwrap() error { return e.err }

// GRPCStatus returns the status, for package status.
func (e *statusError) GRPCStatus() *status.Status { return e.status }

// refused returns a refusal by the guard as a status.
func refused(err error) error {
	st := status.New(codes.ResourceExhausted, err.Error())
	var r *limiter.RejectedError
	if errors.As(err, &r) && !r.RetryAt.IsZero() {
		info := &errdetails.RetryInfo{RetryDelay: durationpb.New(max(0, time.Until(r.RetryAt)))}
		if with, err := st.WithDetails(info); err == nil {
			st = with
		}
	}
	return &statusError{err, st}
}

// ended returns the end of a caller's context as a status.
func ended(ctx context.Context) error {
	return &statusError{context.Cause(ctx), status.FromContextError(ctx.Err())}
}
