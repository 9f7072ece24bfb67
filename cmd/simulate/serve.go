package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/modelserver"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/upstream"
	"github.com/flyball-go/flyball/limiter"
)

// serveCommand is simulate serve.
func (e *env) serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "be the upstream of a scenario, as an HTTP server in real time, shaped like OpenAI's and Anthropic's APIs",
		ArgsUsage: "[scenario.toml | name]", Action: e.serveAction, OnUsageError: usageError,
		Description: `Only the upstream of the scenario is used, and what changes in it; the callers are yours. Without a
scenario it is a language model on one machine with 120 requests a minute and 20 in flight.

Examples:
   simulate serve
   simulate serve --listen 127.0.0.1:9000 rpm-bucket
   curl -i http://127.0.0.1:8089/v1/chat/completions -d '{"model":"m","messages":[{"role":"user","content":"Hello"}],"stream":true}'`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` to listen on; port 0 takes a free one", Value: "127.0.0.1:8089"},
			&cli.StringFlag{Name: "dialect", Usage: "`NAME` of the provider whose words and header fields are used: generic, openai, azure, anthropic, gemini", DefaultText: "the scenario's, or openai"},
			&cli.StringSliceFlag{Name: "key", Usage: "`CREDENTIAL` that is accepted, for each key of the scenario's upstream in turn; any when none is given"},
			&cli.Float64Flag{Name: "output", Usage: "mean `TOKENS` of an answer whose request does not say", DefaultText: "the scenario's, or 100"},
			&cli.Uint64Flag{Name: "seed", Usage: "`N` of the random numbers", Value: 1},
		},
	}
}

// demonstration is what is served when no scenario is named.
func demonstration() (upstream.Config, []sim.Change) {
	llm, _ := upstream.Profile("llama-8b-a100")
	exact := upstream.Answer{RetryAfter: upstream.RetryAfter{Mode: upstream.RetryExact}}
	return upstream.Config{
		Dialect:     upstream.OpenAI,
		Quotas:      []upstream.Quota{{Counter: upstream.Requests, Limit: 120, Burst: 20, Answer: exact}},
		Concurrency: upstream.Concurrency{Limit: 20},
		Server:      upstream.Server{Kind: upstream.Batch, LLM: llm},
	}, nil
}

func (e *env) serveAction(c *cli.Context) error {
	cfg, changes, name, err := e.servePlan(c)
	if err != nil {
		return misuse(err)
	}
	server, err := modelserver.New(cfg)
	if err != nil {
		return misuse(err)
	}
	defer server.Close()
	listener, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return misuse(fmt.Errorf("--listen: %w; take another port, or 0 for a free one", err))
	}
	web := &http.Server{Handler: server, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	fmt.Fprintf(e.stdout, "http://%s\n", listener.Addr())
	fmt.Fprintf(e.stderr, "simulate: serving %s at http://%s; it ends with Ctrl-C\n", name, listener.Addr())

	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	go follow(ctx, server, changes)
	select {
	case err = <-served:
		return internal(fmt.Errorf("the server ended: %w", err))
	case <-c.Context.Done():
	}
	// Close ends the calls and waits for their handlers, one of which may be writing to somebody who does not read.
	closed := make(chan struct{})
	go func() {
		_ = server.Close()
		close(closed)
	}()
	end, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if web.Shutdown(end) != nil {
		_ = web.Close()
	}
	<-closed
	total, byKey := server.Stats()
	fmt.Fprintf(e.stderr, "simulate: %d calls with %d keys: %d served, %d refused %v, %d hung up; at most %d in flight and %d being served; %d requests were none\n",
		total.Calls, len(byKey), total.Accepted, total.Refused, total.Status, total.Canceled, total.MaxInFlight, total.MaxBusy, total.Invalid+total.Unknown)
	return nil // to be stopped is how it ends
}

// follow makes the changes of a scenario at their instants.
func follow(ctx context.Context, s *modelserver.Server, changes []sim.Change) {
	began := time.Now()
	for _, ch := range changes {
		if ch.Param == sim.ParamRate {
			continue // of the callers, who are not here
		}
		if limiter.Sleep(ctx, ch.At-time.Since(began)) != nil {
			return
		}
		s.Set(ch.Param, ch.To)
	}
}

// servePlan reads flags and the scenario.
func (e *env) servePlan(c *cli.Context) (cfg modelserver.Config, changes []sim.Change, name string, err error) {
	var errs []error
	switch c.NArg() {
	case 0:
		name = "the demonstration"
		cfg.Upstream, changes = demonstration()
	case 1:
		var s *scenario.Scenario
		if s, err = e.scenario(c, c.Args().First()); err != nil {
			errs = append(errs, err)
			break
		}
		name = "the upstream of " + s.Name
		cfg.Upstream, changes, cfg.Network = s.World.Upstream, s.World.Changes, s.World.RTT
		cfg.Output = s.World.Workload.Output
		if cfg.Upstream.Dialect == upstream.Generic && !c.IsSet("dialect") {
			cfg.Upstream.Dialect = upstream.OpenAI // somebody who calls it wants a body to read
		}
	default:
		errs = append(errs, fmt.Errorf("%d arguments, must be one scenario or none, as in simulate serve --listen 127.0.0.1:9000 rpm-bucket", c.NArg()))
	}
	if d := c.String("dialect"); d != "" {
		var ok bool
		if cfg.Upstream.Dialect, ok = upstream.ParseDialect(d); !ok {
			errs = append(errs, fmt.Errorf("--dialect is %q, must be one of %v", d, upstream.DialectNames()))
		}
	}
	if n := c.Float64("output"); c.IsSet("output") {
		if !(n >= 1 && n <= 1e6) {
			errs = append(errs, fmt.Errorf("--output is %v, must be 1 to 1000000 tokens", n))
		}
		cfg.Output = draw.Dist{Mean: n}
	}
	if keys := c.StringSlice("key"); len(keys) > 0 {
		if n := max(1, len(cfg.Upstream.Keys)); len(keys) != n && cfg.Upstream.Keys != nil {
			errs = append(errs, fmt.Errorf("--key is given %d times, but the upstream has %d keys: give it once for each", len(keys), n))
		} else if cfg.Upstream.Keys == nil {
			cfg.Upstream.Keys = slices.Repeat([]upstream.Key{{}}, len(keys))
		}
		cfg.Keys = keys
	} else if n := len(cfg.Upstream.Keys); n > 0 {
		for i := range n {
			cfg.Keys = append(cfg.Keys, fmt.Sprintf("key-%d", i+1))
		}
		name += fmt.Sprintf(" (credentials key-1 to key-%d)", n)
	}
	cfg.Upstream.Seed = c.Uint64("seed")
	return cfg, changes, name, errors.Join(errs...)
}
