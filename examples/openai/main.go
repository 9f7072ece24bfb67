// Command openai sends many chat completions at once to an OpenAI-shaped server, through a guard.
//
//	go run ./examples/openai                                   # against a built-in server
//	OPENAI_API_KEY=... go run ./examples/openai --base-url https://api.openai.com/v1 --model gpt-4o-mini --calls 20
//
// Without --base-url it starts a server in this process that allows 10 requests in flight and 60 a second, and
// answers 429 beyond. 64 goroutines call it at once; the guard finds out what it bears, and every call succeeds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "openai:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("openai", flag.ContinueOnError)
	path := flags.String("config", "", "limits.toml to take the guard's settings from; empty means the defaults")
	baseURL := flags.String("base-url", "", "the server to call; empty starts one in this process")
	model := flags.String("model", "demo", "the model to ask")
	calls := flags.Int("calls", 300, "how many calls to make")
	concurrency := flags.Int("concurrency", 64, "how many goroutines make them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *calls < 1 || *concurrency < 1 || flags.NArg() > 0 {
		return fmt.Errorf("--calls is %d, --concurrency %d, must be at least 1; arguments are %q, must be none", *calls, *concurrency, flags.Args())
	}
	file := config.Default()
	if *path != "" {
		var err error
		if file, err = config.Load(*path); err != nil {
			return err
		}
	}
	var demo *server
	if *baseURL == "" {
		demo = newServer(10, 60, 100*time.Millisecond)
		srv := httptest.NewServer(demo)
		defer srv.Close()
		*baseURL = srv.URL + "/v1"
	}

	guard, err := limiter.New(file.Guard("openai"))
	if err != nil {
		return err
	}
	defer guard.Close()
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = *concurrency
	base.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second} // else a connection that leads nowhere takes all calls
	defer base.CloseIdleConnections()
	client := openai.NewClient(
		option.WithBaseURL(*baseURL),
		option.WithAPIKey(os.Getenv("OPENAI_API_KEY")),
		option.WithMaxRetries(0), // the guard retries; two layers would multiply
		option.WithHTTPClient(&http.Client{Transport: httplimit.New(base, guard, httplimit.Config{
			Provider: "openai", Rules: file.FeedbackRules(),
		})}),
	)

	var wg sync.WaitGroup
	var next, ok atomic.Int64
	var failed failures
	start := time.Now()
	for range *concurrency {
		wg.Go(func() {
			for ctx.Err() == nil && next.Add(1) <= int64(*calls) {
				_, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
					Model:    *model,
					Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Say hello.")},
				})
				if err != nil {
					failed.add(err)
					continue
				}
				ok.Add(1)
			}
		})
	}
	wg.Wait()

	took := time.Since(start)
	s := guard.Stats()
	fmt.Fprintf(out, "%d of %d calls succeeded in %.1f s (%.0f a second); limit %d, %d refused and sent again, %d waited\n",
		ok.Load(), *calls, took.Seconds(), float64(ok.Load())/took.Seconds(), s.Limit,
		s.Counts.Outcomes[feedback.Throttled], s.Counts.Waited)
	if demo != nil {
		served, refused, most := demo.seen()
		fmt.Fprintf(out, "the server served %d, refused %d, and had at most %d in flight\n", served, refused, most)
	}
	return failed.err()
}

// failures counts the calls that failed and keeps the first error.
type failures struct {
	mu    sync.Mutex
	n     int
	first error
}

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; f.first == nil {
		f.first = err
	}
}

func (f *failures) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 {
		return nil
	}
	return fmt.Errorf("%d calls failed; the first: %w", f.n, f.first)
}
