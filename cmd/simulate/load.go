package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/load"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// loadCommand is simulate load.
func (e *env) loadCommand() *cli.Command {
	return &cli.Command{
		Name: "load", Usage: "send real requests to a real server, through a real guard, and report as a simulation does",
		ArgsUsage: "URL", Action: e.loadAction, OnUsageError: usageError,
		Description: `One controller after the other meets the server. Latencies count from when a request was meant to
start. It sends what you tell it to: aim it only at a server that may be loaded.

Examples:
   simulate load --rate 30 http://127.0.0.1:8080/
   simulate load --clients 50 --duration 1m --controllers ours,none http://127.0.0.1:8080/v1/models
   simulate load --rate 5 --body chat.json --header "Authorization: Bearer $KEY" https://api.example.com/v1/chat/completions`,
		Flags: append(outputFlags("report.html"),
			configFlagOf("the guard's parameters"),
			&cli.StringFlag{Name: "upstream", Usage: "`NAME` of the table [upstream.NAME] in it; [guard] when not given"},
			&cli.StringFlag{Name: "controllers", Usage: "`LIST` with commas between: " + scenario.ControllerNames, Value: "none,ours"},
			&cli.Float64Flag{Name: "rate", Usage: "`N` requests start a second; at random, or planned evenly over --clients"},
			&cli.BoolFlag{Name: "constant", Usage: "at equal intervals instead of at random"},
			&cli.IntFlag{Name: "clients", Usage: "`N` clients, each of which waits for its answer before it asks again"},
			&cli.DurationFlag{Name: "think", Usage: "how long a client waits before it asks again, without --rate"},
			&cli.DurationFlag{Name: "duration", Usage: "how long requests start", Value: 30 * time.Second},
			&cli.DurationFlag{Name: "drain", Usage: "how much longer answers are waited for, at most", Value: 30 * time.Second},
			&cli.DurationFlag{Name: "timeout", Usage: "how long a caller waits for its answer, from when it was meant to ask", DefaultText: "duration + drain"},
			&cli.DurationFlag{Name: "rest", Usage: "how long the server is left alone between two controllers", Value: 2 * time.Second},
			&cli.StringFlag{Name: "method", Usage: "HTTP `METHOD`", DefaultText: "GET, or POST with a body"},
			&cli.StringSliceFlag{Name: "header", Usage: "`\"NAME: VALUE\"` of each request; may be repeated"},
			&cli.StringFlag{Name: "body", Usage: "`FILE` with the body of each request"},
			&cli.Uint64Flag{Name: "seed", Usage: "`N` of the instants at which requests start", Value: 1},
		),
	}
}

// loadPlan is what a command line of load says.
type loadPlan struct {
	cfg         load.Config
	controllers []scenario.Controller
	upstream    config.Upstream
	file        *config.File
	rest        time.Duration
}

func (e *env) loadAction(c *cli.Context) error {
	p, err := e.loadPlan(c)
	if err != nil {
		return misuse(err)
	}
	if err := listens(c.Context, p.cfg.URL); err != nil {
		return misuse(err)
	}
	r := &report.Report{Title: "flyball load", Command: loadLine(c), Seed: c.Uint64("seed"), Seeds: 1}
	u, _ := url.Parse(p.cfg.URL)
	sc := report.Scenario{Name: u.Host, Intent: fmt.Sprintf("Real requests to %s://%s%s.", u.Scheme, u.Host, u.Path), Duration: p.cfg.Duration}
	var results []*load.Result
	interrupted := false
	for i, ctl := range p.controllers {
		if i > 0 && limiter.Sleep(c.Context, p.rest) != nil {
			interrupted = true
			break
		}
		fmt.Fprintf(e.stderr, "simulate: %s, %d of %d, %v\n", ctl.Name, i+1, len(p.controllers), p.cfg.Duration)
		res, err := p.run(c.Context, ctl)
		if err != nil {
			return misuse(err)
		}
		if c.Context.Err() != nil {
			interrupted = true // what was measured until then is no run of the whole duration
			break
		}
		results = append(results, res)
		sc.Runs = append(sc.Runs, res.Run(ctl.Name, ctl.Ours, p.cfg.Duration))
		if res.Broken > 0 {
			fmt.Fprintf(e.stderr, "simulate: %s: %d answers were a success with an error in the body, and count as failed\n", ctl.Name, res.Broken)
		}
		plan, send := res.Gap()
		if res.OK > 0 {
			fmt.Fprintf(e.stderr, "simulate: %s: statuses %v; p99 %v from the intended start, %v from the send; the latest request started %v late\n",
				ctl.Name, res.Statuses, plan.Round(time.Millisecond), send.Round(time.Millisecond), res.Late.Round(time.Millisecond))
		} else {
			fmt.Fprintf(e.stderr, "simulate: %s: no request succeeded; statuses %v (0: no answer)\n", ctl.Name, res.Statuses)
		}
	}
	if len(sc.Runs) == 0 {
		return &exitError{exitInterrupted, errors.New("interrupted before the first controller was done; nothing was written")}
	}
	if !c.Bool("json") {
		fmt.Fprintln(e.stderr, "simulate: goodput is the share of what was asked for; nobody knows what the server could have done")
	}
	sc.Oracle = load.Oracle(results, p.cfg.Duration)
	sc.Interrupted, r.Interrupted = interrupted, interrupted
	r.Scenarios = []report.Scenario{sc}
	if err := e.publish(c, r); err != nil {
		return err
	}
	if interrupted {
		return &exitError{exitInterrupted, fmt.Errorf("interrupted after %d of %d controllers; what is finished is above", len(sc.Runs), len(p.controllers))}
	}
	return nil
}

// listens returns an error when nobody takes a connection at the host of a URL: a whole run, and the time in which callers try
// again, would say no more.
func listens(ctx context.Context, raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme // net knows the ports of http and https
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return fmt.Errorf("no server takes connections for %s://%s: %w; start it first, or see simulate serve", u.Scheme, u.Host, err)
	}
	return conn.Close()
}

// loadPlan reads flags and files, and reports all that is wrong with them together.
func (e *env) loadPlan(c *cli.Context) (*loadPlan, error) {
	var errs []error
	p := &loadPlan{rest: c.Duration("rest"), cfg: load.Config{
		URL: c.Args().First(), Method: strings.ToUpper(c.String("method")), Header: http.Header{},
		Rate: c.Float64("rate"), Constant: c.Bool("constant"), Clients: c.Int("clients"), Think: c.Duration("think"),
		Duration: c.Duration("duration"), Drain: c.Duration("drain"), Timeout: c.Duration("timeout"), Seed: c.Uint64("seed"),
	}}
	if c.NArg() != 1 {
		errs = append(errs, fmt.Errorf("%d arguments, must be one URL, as in simulate load --rate 30 http://127.0.0.1:8080/", c.NArg()))
	}
	for _, h := range c.StringSlice("header") {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			errs = append(errs, fmt.Errorf("--header has no name and value with a colon between: write \"Name: value\"")) // it may be a secret
			continue
		}
		p.cfg.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if path := c.String("body"); path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("--body: %w", err))
		}
		p.cfg.Body = data
		if p.cfg.Header.Get("Content-Type") == "" {
			p.cfg.Header.Set("Content-Type", "application/json")
		}
	}
	var err error
	if p.controllers, err = scenario.ParseControllers(c.String("controllers")); err != nil {
		errs = append(errs, fmt.Errorf("--controllers: %w", err))
	}
	errs = append(errs, oneOf(c, "json", "csv", "svg"))
	if p.file, err = loadConfig(c); err != nil {
		errs = append(errs, err)
	} else if name := c.String("upstream"); name != "" {
		var ok bool
		if p.upstream, ok = p.file.Upstream(name); !ok {
			errs = append(errs, fmt.Errorf("--upstream: there is no [upstream.%s], only %s", name, strings.Join(p.file.Names(), ", ")))
		}
	} else {
		p.upstream, _ = p.file.Upstream("default")
	}
	if p.cfg.Rate == 0 && p.cfg.Clients == 0 {
		errs = append(errs, errors.New("nothing says how much to send: add --rate 10, for 10 requests a second, or --clients 8, for 8 that wait for their answers"))
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, p.cfg.Check())
	}
	return p, errors.Join(errs...)
}

// run lets one controller meet the server.
func (p *loadPlan) run(ctx context.Context, ctl scenario.Controller) (*load.Result, error) {
	cfg := p.cfg
	cfg.Caller = ctl.Caller()
	cfg.Transport = httplimit.Config{Provider: p.upstream.Provider, Rules: p.file.FeedbackRules()} // what an answer means is the same without a guard
	if law := ctl.Law(&p.upstream.Settings, cfg.Seed); law != nil {
		gc := p.upstream.Config()
		if !ctl.Ours {
			// As in a simulation: the others stand in the same guard, and pause for nobody.
			gc.Law, gc.IgnoreRetryAfter, gc.Budget = law, true, nil
		}
		guard, err := limiter.New(gc)
		if err != nil {
			return nil, err
		}
		defer guard.Close()
		cfg.Guard = guard
	}
	return load.Run(ctx, cfg)
}

// loadLine returns the command that was run, without what may hold a secret: header fields, and the user and the query of the URL.
func loadLine(c *cli.Context) string {
	words := []string{"go run ./cmd/simulate load"}
	for _, name := range []string{"config", "upstream", "controllers", "rate", "constant", "clients", "think", "duration", "drain", "timeout", "rest", "method", "body", "seed"} {
		if c.IsSet(name) {
			if v, ok := c.Value(name).(bool); ok {
				if v {
					words = append(words, "--"+name)
				}
				continue
			}
			words = append(words, "--"+name, quote(fmt.Sprint(c.Value(name))))
		}
	}
	if len(c.StringSlice("header")) > 0 {
		words = append(words, "--header …")
	}
	u, query, _ := strings.Cut(c.Args().First(), "?")
	if parsed, err := url.Parse(u); err == nil {
		parsed.User = nil
		u = parsed.String()
	}
	if query != "" {
		u += "?…"
	}
	return strings.Join(append(words, quote(u)), " ")
}
