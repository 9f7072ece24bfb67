// Package grpclimit guards a gRPC client.
//
// [Unary] and [Stream] return client interceptors. Each attempt waits for its permit, is sent, and holds the
// permit until it has ended: a unary call until its answer is there, a stream until the stream has ended,
// so a stream counts as in flight while it streams. What the answer says of limits goes to the guard,
// and a unary call that the upstream refused is sent again as the guard's Retry says.
//
//	guard, err := limiter.New(limiter.Config{Name: "inventory"})
//	...
//	cfg := grpclimit.Config{}
//	conn, err := grpc.NewClient(target,
//		grpc.WithChainUnaryInterceptor(tracing, grpclimit.Unary(guard, cfg)),
//		grpc.WithChainStreamInterceptor(tracing, grpclimit.Stream(guard, cfg)),
//		grpc.WithDisableRetry())
//
// Put the interceptors last in their chains, so that nothing between them and the connection sends a call a
// second time under one permit.
//
// # Who calls
//
// Config.Request says the tenant, priority and class of a call, Config.Cost the tokens that it is expected to use, and
// Config.Usage those that it used, from a message that was received.
//
// # What is read
//
//	status code                 RESOURCE_EXHAUSTED throttled, UNAVAILABLE overloaded, and so on
//	status message              which limit refused, and a delay that a sentence names
//	grpc-status-details-bin     the delay of google.rpc.RetryInfo, the reason of ErrorInfo, the quota ids of
//	                            QuotaFailure
//	grpc-retry-pushback-ms      the delay that the server asks for (gRFC A6); a value that is
//	                            negative or unreadable, or more than one, asks not to retry
//
// A named delay is kept for everybody behind the guard. The call itself is sent again no sooner,
// and up to a twentieth later, so that clients that were told the same do not come back in step.
//
// Some statuses are made by gRPC libraries and mean something else than their code: a message that is larger than
// the receiver takes is RESOURCE_EXHAUSTED but no limit on load; a connection that broke under a call is
// UNAVAILABLE, but the call may have had its effect, so it counts as a server error and is
// repeated only when it is idempotent.
//
// The end of the caller's context says nothing about the upstream, but for one case: the deadline of a unary call counts as a time-out of
// the upstream when the attempt was sent at least 1 s ago and for more than half of the time between the call and the
// deadline, as in package httplimit. flyball's own law makes nothing of it when a sound call would not have been done by then, either. With another
// law, and where answers take very different times, deadlines that are shorter than an answer usually takes lower the limit for all who share the
// guard. A caller who gives up early by choice cancels the context, by context.WithCancel and a timer, which says nothing.
//
// # What is sent again
//
// A unary call that was throttled, or refused for overload; after time-outs and server errors only when
// Config.Idempotent says so. A stream only as long as it could not be opened: once the caller
// has it, its error is the caller's.
//
// Turn off gRPC's own retries with grpc.WithDisableRetry, and those of other interceptors: they
// would multiply with the guard's, and pass no admission. gRPC's transparent retries stay on; they repeat only
// what no server has looked at.
//
// # Errors
//
// Every error is a status. A refusal by the guard has the code RESOURCE_EXHAUSTED, with a RetryInfo when the guard
// knows when to come back, and is limiter.ErrRejected and a *limiter.RejectedError, too. When the
// caller's context ends while it waits, the error has the code CANCELLED or DEADLINE_EXCEEDED and is
// the context's cause.
package grpclimit
