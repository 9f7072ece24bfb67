package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/contrib/kafka"
	"github.com/flyball-go/flyball/contrib/rabbitmq"
	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/gateway/internal/stuck"
	"github.com/flyball-go/flyball/limiter"
)

// drainCommand sends a queue of requests through a guard.
func (e *env) drainCommand() *cli.Command {
	return &cli.Command{
		Name: "drain", Usage: "send a queue of requests, each once, as fast as the upstream allows", ArgsUsage: "[FILE]", OnUsageError: usageError,
		Description: `FILE has a request on each line, in the format of OpenAI's batch API; - is standard input. A run that was ended, whatever ended it,
goes on where it was when it is started again with the same --out. See docs/drain.md.

Exit codes: 0 every request has a result; 1 some are dead letters, the run stopped, or a broker cannot be reached, and the message says why; 2 misuse.

Examples:
   gateway drain requests.jsonl --out results.jsonl --base-url https://api.openai.com/v1 --key-env OPENAI_API_KEY
   gateway drain requests.jsonl --out results.jsonl --config limits.toml --upstream openai
   gateway drain --from 'amqp://guest:guest@127.0.0.1/?queue=requests' --out results.jsonl --config limits.toml
   gateway drain --from 'kafka://127.0.0.1:9092/requests?group=drain' --out results.jsonl --config limits.toml`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "take requests from a `QUEUE`: amqp://host/vhost?queue=NAME&prefetch=N&key_header=NAME or kafka://host:port,host:port/TOPIC?group=NAME"},
			&cli.StringFlag{Name: "out", Usage: "the `FILE` of results, which is also the memory of what is done"},
			&cli.StringFlag{Name: "reply", Usage: "send each result to a `QUEUE`, too: amqp://host/vhost?queue=NAME or kafka://host:port/TOPIC"},
			&cli.StringFlag{Name: "dead", Usage: "the `FILE` of dead letters, for a FILE of requests; requests.dead.jsonl by default, and needed with -"},
			&cli.BoolFlag{Name: "retry-dead", Usage: "try again what an earlier run put aside"},
			&cli.StringFlag{Name: "config", Usage: "the `FILE` with upstreams and guards, such as limits.toml"},
			&cli.StringFlag{Name: "upstream", Usage: "the `NAME` of the upstream in it; not needed when there is one only"},
			&cli.StringFlag{Name: "base-url", Usage: "the `URL` of the upstream, without --config"},
			&cli.StringFlag{Name: "key-env", Usage: "the environment `VARIABLE` with its key, without --config"},
			&cli.BoolFlag{Name: "idempotent", Usage: "send again also after time-outs and server errors, and tell the upstream by Idempotency-Key that it is the same request"},
			&cli.BoolFlag{Name: "ordered", Usage: "send requests of one key one after another (Kafka's record key, or key_header)"},
			&cli.StringFlag{Name: "price", Usage: "what a million tokens cost: `INPUT,OUTPUT` or INPUT,CACHED,OUTPUT"},
			&cli.DurationFlag{Name: "grace", Value: 30 * time.Second, Usage: "how `LONG` calls in flight may take to end after SIGINT, SIGTERM or SIGHUP"},
			&cli.DurationFlag{Name: "timeout", Value: 10 * time.Minute, Usage: "how `LONG` one call may take"},
			&cli.DurationFlag{Name: "quota-pause", Usage: "wait so `LONG`, again and again, when the upstream says that money or a quota is used up; by default the run stops"},
			&cli.BoolFlag{Name: "progress", Usage: "show progress although standard error is no terminal"},
		},
		Action: e.drainAction,
	}
}

func (e *env) drainAction(c *cli.Context) error {
	if args := permuted(c); args != nil {
		return c.App.RunContext(c.Context, args)
	}
	if c.NArg() > 1 {
		return misuse(fmt.Errorf("there are %d files; give one", c.NArg()))
	}
	out := c.String("out")
	if out == "" {
		return misuse(errors.New("give the file of results: --out results.jsonl"))
	}
	if (c.String("from") == "") == (c.NArg() == 0) {
		return misuse(errors.New("give a FILE of requests or --from a queue, one of the two"))
	}
	if c.Args().First() == "-" && c.String("dead") == "" {
		return misuse(errors.New("standard input has no name by which to call the file of dead letters: give it, --dead requests.dead.jsonl"))
	}
	if g := c.Duration("grace"); g < time.Millisecond {
		return misuse(fmt.Errorf("--grace is %v, must be 1ms or more", g)) // 0 would be the default
	}
	ctx, stop := untilHangup(c.Context)
	defer stop()
	up, err := drainUpstream(c)
	if err != nil {
		return misuse(err)
	}
	defer up.close()
	prices, err := parsePrices(c.String("price"))
	if err != nil {
		return misuse(err)
	}
	store, err := drain.OpenFile(out)
	if err != nil {
		return misuse(err)
	}
	defer store.Close()
	if store.Torn() != "" {
		fmt.Fprintf(e.stderr, "the end of %s was half written when an earlier run died; it is in %s now\n", out, store.Torn())
	}
	if n := store.Damaged(); n > 0 {
		fmt.Fprintf(e.stderr, "%d lines of %s cannot be read: something has changed them, or the power failed. The results in them are not known, and their requests are sent again\n", n, out)
	}
	src, closeSource, dead, err := e.drainSource(c)
	if err != nil {
		return opening(err)
	}
	defer closeSource()
	reply, closeReply, err := e.drainReply(c.String("reply"))
	if err != nil {
		return opening(err)
	}
	defer closeReply()

	bar := &bar{w: e.stderr, on: c.Bool("progress") || terminal(e.stderr)}
	r, err := drain.New(drain.Config{
		Source: src, Store: store, Upstream: up.up, Guard: up.guard, Pool: up.pool, Reply: reply,
		Idempotent: c.Bool("idempotent"), Ordered: c.Bool("ordered"), Grace: c.Duration("grace"), QuotaPause: c.Duration("quota-pause"),
		Prices: prices, OnProgress: bar.show,
	})
	if err != nil {
		return misuse(err)
	}
	err = r.Run(ctx)
	p := r.Progress()
	bar.end()
	fmt.Fprintln(e.stderr, summary(p))
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("stopped; the same command goes on where it was")
	case err != nil:
		return err
	case p.Dead+p.LeftOut > 0:
		return fmt.Errorf("%d requests are dead letters, with their reasons: %s", p.Dead+p.LeftOut, dead)
	}
	return nil
}

// opening returns why a queue could not be opened. A broker that cannot be reached is no misuse: the same command may do later.
func opening(err error) error {
	var op *net.OpError
	var dns *net.DNSError
	var closed *amqp.Error
	switch {
	case errors.As(err, &op), errors.As(err, &dns), errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.EOF):
		return err
	case errors.As(err, &closed):
		switch closed.Code {
		case amqp.FrameError, amqp.ChannelError, // what the client calls a connection that broke as it was opened
			amqp.ConnectionForced, amqp.InternalError: // the broker ends, or its virtual host is down
			return err
		}
	}
	return misuse(err)
}

// permuted returns the command line with its options before the file, where the flag package looks for them; nil when they are there.
func permuted(c *cli.Context) []string {
	rest := c.Args().Slice()
	first := slices.IndexFunc(rest, func(a string) bool { return strings.HasPrefix(a, "-") && a != "-" })
	if first < 0 {
		return nil
	}
	args := []string{c.App.Name, c.Command.Name}
	for _, name := range c.LocalFlagNames() {
		args = append(args, fmt.Sprintf("--%s=%v", name, c.Value(name)))
	}
	return append(append(args, rest[first:]...), rest[:first]...)
}

// target is where requests go, with the guard before it, or the pool of its keys.
type target struct {
	up    drain.Upstream
	guard *limiter.Guard
	pool  *limiter.Pool
	below string // what the urls of its API begin with, when that is known
}

func (t *target) close() {
	if t.pool != nil {
		t.pool.Close()
	} else {
		t.guard.Close()
	}
}

// drainUpstream returns where requests go.
func drainUpstream(c *cli.Context) (*target, error) {
	h := drain.HTTP{Header: http.Header{}, IdempotencyKey: c.Bool("idempotent"), Timeout: c.Duration("timeout")}
	var guard limiter.Config
	var pool limiter.PoolConfig
	switch {
	case h.Timeout < time.Millisecond:
		return nil, fmt.Errorf("--timeout is %v, must be 1ms or more", h.Timeout) // 0 would be the default
	case c.String("config") != "" && c.String("base-url") != "":
		return nil, errors.New("give --config or --base-url, one of the two")
	case c.String("config") != "" && c.String("key-env") != "":
		return nil, errors.New("--key-env is for --base-url: with --config, write a table [[upstream.NAME.key]] with env")
	case c.String("base-url") != "" && c.String("upstream") != "":
		return nil, errors.New("--upstream names one of --config, and --base-url is given")
	case c.String("config") != "":
		file, err := config.Load(c.String("config"))
		if err != nil {
			return nil, err
		}
		if len(file.Names()) == 0 {
			return nil, fmt.Errorf("%s has no upstream: write a table [upstream.NAME] with a base_url", c.String("config"))
		}
		name := c.String("upstream")
		if name == "" {
			if names := file.Names(); len(names) != 1 {
				return nil, fmt.Errorf("%s has %d upstreams (%s); say which with --upstream", c.String("config"), len(names), strings.Join(names, ", "))
			}
			name = file.Names()[0]
		}
		u, ok := file.Upstream(name)
		if !ok {
			return nil, fmt.Errorf("%s has no upstream %q, but %s", c.String("config"), name, strings.Join(file.Names(), ", "))
		}
		if len(u.Keys.Sources) > 0 {
			if pool, err = u.Pool(); err != nil {
				return nil, err
			}
		}
		h.KeyHeader, h.KeyPrefix = u.Keys.Header, u.Keys.Prefix
		h.BaseURL, h.Provider, h.Rules, guard = u.BaseURL, u.Provider, file.FeedbackRules(), u.Config()
	case c.String("base-url") != "":
		h.BaseURL = c.String("base-url")
		guard.Name = "drain"
		if name := c.String("key-env"); name != "" {
			key, err := config.KeySource{Env: name}.Read()
			if err != nil {
				return nil, fmt.Errorf("--key-env: %w", err)
			}
			h.Header.Set("Authorization", "Bearer "+key.Reveal())
		}
	default:
		return nil, errors.New("say where requests go: --config limits.toml, or --base-url https://api.openai.com/v1")
	}
	// The lines' urls begin with /v1, as does what others call the base URL.
	t, versioned := &target{}, false
	if h.BaseURL, versioned = strings.CutSuffix(strings.TrimSuffix(h.BaseURL, "/"), "/v1"); versioned {
		t.below = "/v1/"
	}
	for _, g := range []*limiter.Config{&guard, &pool.Guard} {
		// Nobody is at the other end who would rather hear a no.
		g.MaxWait, g.MaxPause, g.Queue = 24*time.Hour, 24*time.Hour, 1_000_000
		g.Retry.MaxAttempts = 1 // the runner's business
	}
	up, err := drain.NewHTTP(h)
	if err != nil {
		return nil, err
	}
	t.up = up
	if len(pool.Keys) > 0 {
		t.pool, err = limiter.NewPool(pool)
	} else {
		t.guard, err = limiter.New(guard)
	}
	return t, err
}

// queue is what a URL of a queue says.
type queue struct {
	url   string // without our own parameters
	host  string
	name  string // of the path
	query url.Values
}

func parseQueue(s string, ours ...string) (q queue, err error) {
	u, err := url.Parse(s)
	if err != nil {
		return q, errors.New("the queue's URL cannot be read") // its text may have a password
	}
	if u.Scheme == "kafka" && u.User != nil {
		return q, errors.New("a kafka URL has no user and password: SASL and TLS are in contrib/kafka only, Config.Options, for a program of your own")
	}
	q.query, q.host, q.name = u.Query(), u.Host, strings.Trim(u.Path, "/")
	left := u.Query()
	for _, name := range ours {
		left.Del(name)
	}
	if u.Scheme == "kafka" && len(left) > 0 {
		return q, fmt.Errorf("a kafka URL may have the parameters %s, not %s", strings.Join(ours, ", "), left.Encode())
	}
	u.RawQuery = left.Encode()
	q.url = u.String()
	return q, nil
}

// drainSource opens the source, and says where its dead letters are.
func (e *env) drainSource(c *cli.Context) (src drain.Source, end func(), dead string, err error) {
	none := func() {}
	from := c.String("from")
	log := func(format string, args ...any) { fmt.Fprintf(e.stderr, format+"\n", args...) }
	if from != "" && (c.String("dead") != "" || c.Bool("retry-dead")) {
		return nil, none, "", errors.New("--dead and --retry-dead are for a FILE; a queue has dead letters of its own")
	}
	switch {
	case from == "" && c.Bool("ordered"):
		return nil, none, "", errors.New("--ordered is for a queue: requests of a FILE have no key by which some of them belong together")
	case from == "" && c.Args().First() == "-":
		// What waits for standard input cannot be interrupted; what waits for a pipe of our own can.
		in, feed := io.Pipe()
		go func() {
			_, err := io.Copy(feed, e.stdin)
			feed.CloseWithError(err)
		}()
		s, err := drain.NewJSONL(in, "standard input", drain.JSONLConfig{Dead: c.String("dead"), RetryDead: c.Bool("retry-dead")})
		if err != nil {
			return nil, none, "", err
		}
		return s, func() { _ = s.Close() }, s.DeadPath(), nil
	case from == "":
		s, err := drain.OpenJSONL(c.Args().First(), drain.JSONLConfig{Dead: c.String("dead"), RetryDead: c.Bool("retry-dead")})
		if err != nil {
			return nil, none, "", err
		}
		return s, func() { _ = s.Close() }, s.DeadPath(), nil
	case strings.HasPrefix(from, "amqp://"), strings.HasPrefix(from, "amqps://"):
		q, err := parseQueue(from, "queue", "prefetch", "key_header")
		if err != nil {
			return nil, none, "", err
		}
		prefetch := 0
		if p := q.query.Get("prefetch"); p != "" {
			if prefetch, err = strconv.Atoi(p); err != nil {
				return nil, none, "", fmt.Errorf("prefetch is %q, must be a number", p)
			}
		}
		if c.Bool("ordered") && q.query.Get("key_header") == "" {
			return nil, none, "", errors.New("--ordered needs the header that has the key of a request: key_header=NAME in the queue's URL")
		}
		s, err := rabbitmq.Open(rabbitmq.Config{
			URL: q.url, Queue: q.query.Get("queue"), Prefetch: prefetch, KeyHeader: q.query.Get("key_header"), Log: log,
		})
		if err != nil {
			return nil, none, "", err
		}
		return s, func() { _ = s.Close() }, "the queue " + q.query.Get("queue") + ".dead", nil
	case strings.HasPrefix(from, "kafka://"):
		q, err := parseQueue(from, "group")
		if err != nil {
			return nil, none, "", err
		}
		group := q.query.Get("group")
		if group == "" {
			group = "flyball-drain"
		}
		s, err := kafka.Open(kafka.Config{Brokers: strings.Split(q.host, ","), Topic: q.name, Group: group, Log: log})
		if err != nil {
			return nil, none, "", err
		}
		return s, func() { _ = s.Close() }, "the topic " + q.name + ".dead", nil
	}
	return nil, none, "", errors.New("--from must begin with amqp://, amqps:// or kafka://")
}

// drainReply opens the sink for replies; nil when none is wanted.
func (e *env) drainReply(to string) (drain.Sink, func(), error) {
	none := func() {}
	log := func(format string, args ...any) { fmt.Fprintf(e.stderr, format+"\n", args...) }
	switch {
	case to == "":
		return nil, none, nil
	case strings.HasPrefix(to, "amqp://"), strings.HasPrefix(to, "amqps://"):
		q, err := parseQueue(to, "queue")
		if err != nil {
			return nil, none, err
		}
		r, err := rabbitmq.OpenReplies(rabbitmq.ReplyConfig{URL: q.url, Queue: q.query.Get("queue"), Log: log})
		if err != nil {
			return nil, none, err
		}
		return r, func() { _ = r.Close() }, nil
	case strings.HasPrefix(to, "kafka://"):
		q, err := parseQueue(to)
		if err != nil {
			return nil, none, err
		}
		r, err := kafka.OpenReplies(kafka.ReplyConfig{Brokers: strings.Split(q.host, ","), Topic: q.name})
		if err != nil {
			return nil, none, err
		}
		return r, func() { _ = r.Close() }, nil
	}
	return nil, none, errors.New("--reply must begin with amqp://, amqps:// or kafka://")
}

// parsePrices reads --price.
func parsePrices(s string) (map[string]drain.Price, error) {
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(s, ",")
	var n []float64
	for _, p := range parts {
		v, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
		if err != nil || !(v >= 0 && v < 1e9) {
			return nil, fmt.Errorf("--price is %q, must be INPUT,OUTPUT or INPUT,CACHED,OUTPUT for a million tokens", s)
		}
		n = append(n, v)
	}
	switch len(n) {
	case 2:
		return map[string]drain.Price{"": {Input: n[0], CachedInput: n[0], Output: n[1]}}, nil
	case 3:
		return map[string]drain.Price{"": {Input: n[0], CachedInput: n[1], Output: n[2]}}, nil
	}
	return nil, fmt.Errorf("--price has %d numbers, must have 2 or 3", len(n))
}

// terminal reports whether somebody looks.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// bar is a line of progress that is written over and over. Where nobody looks at it, it says when nothing gets through.
type bar struct {
	w    io.Writer
	on   bool
	last int

	watch stuck.Watch
}

func (b *bar) show(p drain.Progress) {
	if said := b.watch.Look(p); said != "" {
		b.end()
		b.last = 0
		fmt.Fprintln(b.w, said)
	}
	if !b.on {
		return
	}
	s := progressLine(p)
	pad := max(0, b.last-len(s))
	b.last = len(s)
	fmt.Fprintf(b.w, "\r%s%s", s, strings.Repeat(" ", pad))
}

func (b *bar) end() {
	if b.on && b.last > 0 {
		fmt.Fprintln(b.w)
	}
}

// progressLine is the progress in a line.
func progressLine(p drain.Progress) string {
	var b strings.Builder
	ended := p.Known + p.Done + p.Dead + p.LeftOut
	if p.Total > 0 {
		share := float64(min(ended, p.Total)) / float64(p.Total)
		full := int(share * 20)
		fmt.Fprintf(&b, "[%s%s] %3.0f%% %d/%d", strings.Repeat("#", full), strings.Repeat(".", 20-full), 100*share, ended, p.Total)
	} else {
		fmt.Fprintf(&b, "%d done", ended)
	}
	fmt.Fprintf(&b, "  %.1f/s", p.Rate)
	if p.ETA >= 0 && !p.Final {
		fmt.Fprintf(&b, "  %v left", p.ETA.Round(time.Second))
	}
	fmt.Fprintf(&b, "  %d of %d in flight  %d refused", p.InFlight, p.Limit, p.Throttled)
	if p.Paused > 0 {
		fmt.Fprintf(&b, "  paused for %v", p.Paused.Round(time.Second))
	}
	if p.Dead > 0 {
		fmt.Fprintf(&b, "  %d dead", p.Dead)
	}
	if p.Input+p.Output > 0 {
		fmt.Fprintf(&b, "  %d+%d tokens", p.Input, p.Output)
	}
	if p.Cost > 0 {
		fmt.Fprintf(&b, "  cost %.4f", p.Cost)
	}
	return b.String()
}

// summary is what a run came to.
func summary(p drain.Progress) string {
	dead := fmt.Sprintf("%d dead", p.Dead)
	if p.LeftOut > 0 {
		dead += fmt.Sprintf(" and %d put aside before", p.LeftOut)
	}
	s := fmt.Sprintf("%d done in %v, %d known from before, %s, %d handed back; %d refusals (429, 503, no connection)",
		p.Done, p.Elapsed.Round(time.Millisecond), p.Known, dead, p.Retried+p.Released, p.Throttled)
	if p.Trouble != "" {
		s += ", the last: " + stuck.OneLine(p.Trouble)
	}
	if p.Input+p.Output > 0 {
		s += fmt.Sprintf("; %d input tokens (%d cached), %d output tokens", p.Input, p.CachedInput, p.Output)
	}
	if p.Cost > 0 {
		s += fmt.Sprintf("; cost %.4f", p.Cost)
	}
	return s
}
