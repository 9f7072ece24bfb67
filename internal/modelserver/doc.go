// Package modelserver is a model of an upstream (package upstream) as an HTTP server in real time, shaped like the APIs of OpenAI and
// Anthropic: chat completions, completions, embeddings, responses, messages and models, whole or as streams, with the
// refusals, the limit headers and the usage that a client meets there.
//
//	s, err := modelserver.New(modelserver.Config{Upstream: upstream.Config{
//		Dialect:     upstream.OpenAI,
//		Concurrency: upstream.Concurrency{Limit: 8},
//		Server:      upstream.Server{Service: draw.Of(200 * time.Millisecond)},
//	}})
//	...
//	defer s.Close()
//	http.ListenAndServe("127.0.0.1:8080", s)
//
// The upstream decides who is refused, with what words, and when an answer begins and ends; the text of an answer is
// filler of the right length. [Server.Do] is a call without HTTP.
//
// # Lengths
//
// A prompt has a token for each four characters of its text, and four more for each message. The length of an answer is drawn from
// Config.Output, and cut off at the request's max_tokens (or max_completion_tokens, max_output_tokens). A test that wants
// to know sends the header fields X-Sim-Input-Tokens, X-Sim-Cached-Tokens and X-Sim-Output-Tokens.
//
// # Credentials
//
// The key comes in Authorization (Bearer) or X-Api-Key. With Config.Keys only those are accepted, the i-th being
// upstream.Config.Keys[i]; without, any key is, and none, and all share one account.
package modelserver
