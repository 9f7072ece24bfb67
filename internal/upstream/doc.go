// Package upstream is a model of something that is called: quotas, caps, a server that queues, slows down or batches as
// language models do, faults, and the answers that providers give.
//
// An [Upstream] is a state machine. It is told the time and has no clock, lock or goroutine, so it can be driven by an
// event loop in virtual time (package internal/sim) or by an HTTP server in real time. All instants are ns since an origin
// that the driver chooses.
//
//	u := upstream.New(cfg)
//	h := u.Submit(now, upstream.Call{ID: 7, Key: 7, Input: 1000, Output: 200})
//	for at, ok := u.Next(); ok; at, ok = u.Next() {
//		wait until at, or until there is something else to tell u
//		u.Advance(at, func(e *upstream.Event) { ... })
//	}
//
// # Driving it
//
// Submit takes a call that has reached the upstream; Cancel says that its caller hung up; Set changes a parameter. Advance lets
// everything happen that happens until an instant, and tells of it in the order of time. What a driver does must be in the order of
// time, too: before Submit, Cancel or Set at an instant, Advance to it. The function that is given to Advance may call
// Submit, Cancel and Set at the event's instant. Events never happen inside of Submit, Cancel or Set, but may be due at the very
// instant of the call.
//
// # Stages
//
// A call passes, in this order, the faults (outages, random refusals), the connections, the quotas of its key, the caps on calls in flight, and
// is then served or queued by the server. Each stage may refuse it; see [Config]. The network is not part of an upstream: its driver delays
// calls and answers, or a real network does.
//
// # Draws
//
// Every random number is a hash of the seed, the name of its stream, and [Call.Key] (which should be made of the number of the request and
// of the attempt), so that it does not depend on what other calls do. The exceptions are [Server.Service], the part of a call's time that
// belongs to the server and not to the request, and [Concurrency].Lag: they are drawn for the k-th start. Runs with one seed then have the
// same work done by the k-th start, whoever's it is, and a bound for all controllers can be computed (sim.Bound).
//
// # Speed
//
// Steady operation allocates nothing. A call costs two heap operations in the simple server, and a batch of language-model requests is
// advanced over many iterations in one step.
package upstream
