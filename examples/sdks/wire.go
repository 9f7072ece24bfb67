// Package sdks wires the SDKs of OpenAI and Anthropic to a guard.
//
// Each function below is as much as an application needs; README.md shows them and says what else to
// set. The tests of the package run the SDKs against a server that refuses, overloads and breaks off.
package sdks

import (
	"net/http"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	goopenai "github.com/sashabaranov/go-openai"

	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// Transport returns what the clients below send with. It keeps as many connections as may be in use at a
// time, where http.DefaultTransport keeps 2 for each host, and asks after those of HTTP/2 that are silent.
func Transport(guard *limiter.Guard) *httplimit.Transport {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 64
	base.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second}
	return httplimit.New(base, guard, httplimit.Config{})
}

// OpenAI returns a client of github.com/openai/openai-go/v3.
func OpenAI(transport http.RoundTripper, baseURL, key string) openai.Client {
	return openai.NewClient(
		option.WithBaseURL(baseURL),
		option.WithAPIKey(key),
		option.WithHTTPClient(&http.Client{Transport: transport}),
		option.WithMaxRetries(0), // the guard sends again
	)
}

// Anthropic returns a client of github.com/anthropics/anthropic-sdk-go.
func Anthropic(transport http.RoundTripper, baseURL, key string) anthropic.Client {
	return anthropic.NewClient(
		anthropicoption.WithBaseURL(baseURL),
		anthropicoption.WithAPIKey(key),
		anthropicoption.WithHTTPClient(&http.Client{Transport: transport}),
		anthropicoption.WithMaxRetries(0), // the guard sends again
	)
}

// GoOpenAI returns a client of github.com/sashabaranov/go-openai, which has no retries to turn off.
func GoOpenAI(transport http.RoundTripper, baseURL, key string) *goopenai.Client {
	config := goopenai.DefaultConfig(key)
	config.BaseURL = baseURL
	config.HTTPClient = &http.Client{Transport: transport}
	return goopenai.NewClientWithConfig(config)
}
