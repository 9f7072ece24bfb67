// Package drain sends a queue of requests through a guard: as fast as the upstream allows and no faster, and each of
// them once.
//
// A [Runner] takes jobs from a [Source], sends them, puts each result into a [Store], and only then tells the source that
// the job is done. A job is a line of the OpenAI Batch format:
//
//	{"custom_id": "a-1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "...", "messages": [...]}}
//
// # What is promised
//
//   - A job whose result is durable is never sent again: not after a crash, not when it is delivered twice, not by a second
//     start. It is known by its custom_id and by a hash of method, url and body.
//   - A job is never lost: it ends as a result, as a dead letter with the reason, or with its source.
//   - A job that was in flight when the process died is sent again, because nobody knows what became of it. An upstream that
//     honours an Idempotency-Key can be told that it is the same one: see [HTTP].
//   - A refusal (429, 503, 529) is not a failure of the job: it goes through the guard again, or back to its source when
//     the wait is longer than it may be held.
//   - A failure after which the job may have had its effect (a time-out, a 500) is not repeated unless
//     Config.Idempotent says that it may be; the job is then a dead letter with the reason "ambiguous".
//
// The package needs the standard library only. Sources for brokers are modules of their own under contrib, and package
// draintest holds every source to the same promises.
package drain
