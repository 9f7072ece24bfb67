package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/gateway/internal/batches"
	"github.com/flyball-go/flyball/gateway/internal/proxy"
)

// batchesCommand is a durable queue with OpenAI's Batch API.
func (e *env) batchesCommand() *cli.Command {
	return &cli.Command{
		Name: "batches", Usage: "serve OpenAI's Batch API from a directory, for any upstream", OnUsageError: usageError,
		Description: `Files of requests are uploaded and made into batches, as with OpenAI's API; they are kept in --dir, sent as fast as the upstream
allows, and go on where they were after a restart. See docs/drain.md.

Examples:
   gateway batches --dir spool --config limits.toml --upstream openai
   curl http://127.0.0.1:8090/v1/files -F purpose=batch -F file=@requests.jsonl
   curl http://127.0.0.1:8090/v1/batches -d '{"input_file_id":"file-...","endpoint":"/v1/chat/completions","completion_window":"24h"}'`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "the `DIRECTORY` that keeps files and batches"},
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8090", Usage: "the `ADDRESS` that callers connect to"},
			&cli.StringFlag{Name: "token-env", Usage: "the environment `VARIABLE` with the bearer token that callers must send; needed where others can connect"},
			&cli.StringFlag{Name: "config", Usage: "the `FILE` with upstreams and guards, such as limits.toml"},
			&cli.StringFlag{Name: "upstream", Usage: "the `NAME` of the upstream in it; not needed when there is one only"},
			&cli.StringFlag{Name: "base-url", Usage: "the `URL` of the upstream, without --config"},
			&cli.StringFlag{Name: "key-env", Usage: "the environment `VARIABLE` with its key, without --config"},
			&cli.BoolFlag{Name: "idempotent", Usage: "send again also after time-outs and server errors, and tell the upstream by Idempotency-Key that it is the same request"},
			&cli.DurationFlag{Name: "grace", Value: 30 * time.Second, Usage: "how `LONG` calls in flight may take to end after SIGINT, SIGTERM or SIGHUP"},
			&cli.DurationFlag{Name: "timeout", Value: 10 * time.Minute, Usage: "how `LONG` one call may take"},
		},
		Action: e.batchesAction,
	}
}

func (e *env) batchesAction(c *cli.Context) error {
	if c.String("dir") == "" || c.NArg() > 0 {
		return misuse(errors.New("give the directory: gateway batches --dir spool"))
	}
	if g := c.Duration("grace"); g < time.Millisecond {
		return misuse(fmt.Errorf("--grace is %v, must be 1ms or more", g)) // with less, every batch would fail
	}
	told, stop := untilHangup(c.Context)
	defer stop()
	up, err := drainUpstream(c)
	if err != nil {
		return misuse(err)
	}
	defer up.close()
	token := ""
	if name := c.String("token-env"); name != "" {
		if token = strings.TrimSpace(os.Getenv(name)); len(token) < 16 {
			return misuse(fmt.Errorf("the environment variable %s of --token-env has less than 16 characters", name))
		}
	}
	host, _, err := net.SplitHostPort(c.String("listen"))
	if err != nil {
		return misuse(err)
	}
	if ip := net.ParseIP(host); token == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return misuse(fmt.Errorf("others can connect to %s, so callers must send a token: --token-env", c.String("listen")))
	}
	way := batches.Way{Upstream: up.up, Guard: up.guard, Pool: up.pool, Below: up.below}
	q, err := batches.Open(batches.Config{
		Dir: c.String("dir"), Way: func() (batches.Way, error) { return way, nil }, Token: token, Idempotent: c.Bool("idempotent"), Grace: c.Duration("grace"),
		Log: func(format string, args ...any) { fmt.Fprintf(e.stderr, format+"\n", args...) },
	})
	if err != nil {
		return misuse(err)
	}
	l, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return misuse(err)
	}
	fmt.Fprintf(e.stdout, "http://%s/v1/batches\n", l.Addr())
	srv := &http.Server{Handler: ownName(q, token != ""), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	served := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(told)
	go func() {
		err := srv.Serve(l)
		cancel(err)
		served <- err
	}()
	err = q.Run(ctx) // until the program is told to end, and calls in flight have
	_ = srv.Close()
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		return serveErr
	}
	if told.Err() != nil {
		return nil
	}
	return err
}

// ownName lets only those in, unless they send a token, who call this machine by an address or as localhost: a page of another site may have
// its own name lead here.
func ownName(h http.Handler, token bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !token && !proxy.LocalHost(r.Host) {
			http.Error(w, "without a token this is for callers of 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}
