package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/record"
	"github.com/flyball-go/flyball/internal/trace"
)

// recordCommand is simulate record.
func (e *env) recordCommand() *cli.Command {
	return &cli.Command{
		Name: "record", Usage: "write down what passes to an upstream, for replay and fit; or convert a log",
		Action: e.recordAction, OnUsageError: usageError,
		Description: `With --to it is a reverse proxy: point a client's base URL at it. It writes when each request came, its tokens, and what
became of it; never a body, a path or a credential (keys are numbered). Ctrl-C ends it and sorts the file.
With --from it converts a log to the same format.

Examples:
   simulate record --to https://api.example.com --out trace.jsonl
   simulate record --from BurstGPT_1.csv --out trace.jsonl
   simulate record --from log.csv --columns t=start:ms,in=prompt,latency=took:ms,status=code --out trace.jsonl`,
		Flags: append(traceFlags(),
			&cli.StringFlag{Name: "to", Usage: "`URL` of the upstream"},
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` to listen on; port 0 takes a free one", Value: "127.0.0.1:8088"},
			&cli.StringFlag{Name: "from", Usage: "`FILE` to convert; - is stdin"},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`FILE` for the trace; it must not exist yet"},
		),
	}
}

func (e *env) recordAction(c *cli.Context) error {
	to, from, out := c.String("to"), c.String("from"), c.String("out")
	switch {
	case c.NArg() > 0:
		return misuse(fmt.Errorf("%q is no option of record; see simulate record --help", c.Args().First()))
	case (to == "") == (from == ""):
		return misuse(errors.New("give either --to URL, to record what passes, or --from FILE, to convert a log"))
	case out == "":
		return misuse(errors.New("--out is missing: name the file for the trace, such as --out trace.jsonl"))
	case from != "":
		return e.convert(c, from, out)
	}
	target, err := url.Parse(to)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" || target.User != nil {
		return misuse(errors.New("--to is no URL of an upstream: write one such as https://api.example.com, without a user"))
	}
	return e.record(c, target, out)
}

// convert writes a trace of any format in ours.
func (e *env) convert(c *cli.Context, from, out string) error {
	t, err := e.trace(c, from)
	if err != nil {
		return misuse(err)
	}
	if t.Format != trace.Flyball { // whose keys are numbered already
		numberKeys(t.Rows)
	}
	f, err := create(out)
	if err != nil {
		return misuse(err)
	}
	if err = f.Close(); err == nil { // half a trace looks like a whole one
		err = writeFile(out, func(w io.Writer) error { return trace.Write(w, t.Rows) })
	}
	if err != nil {
		os.Remove(out)
		return internal(fmt.Errorf("the trace could not be written: %w", err))
	}
	fmt.Fprintf(e.stderr, "simulate: wrote %d requests in %v to %s\n", len(t.Rows), t.Span().Round(time.Millisecond), out)
	return nil
}

// numberKeys gives keys the names that a recording gives them: a log may have credentials there.
func numberKeys(rows []trace.Row) {
	names := map[string]string{"": ""}
	for i := range rows {
		r := &rows[i]
		if _, ok := names[r.Key]; !ok {
			names[r.Key] = fmt.Sprintf("key-%d", len(names))
		}
		r.Key = names[r.Key]
	}
}

// create makes a file that must not exist: a recording is not lightly lost. What is written goes to its end, also after somebody else has shortened it.
func create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("--out: %s exists: name another file, or remove it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("--out: %w", err)
	}
	return f, nil
}

// A recording is a file that says it when it cannot be written: the traffic goes on for hours.
type recording struct {
	*os.File
	failed func(error)
}

func (r *recording) Write(b []byte) (int, error) {
	n, err := r.File.Write(b)
	if err != nil {
		r.failed(err)
	}
	return n, err
}

// is reports whether a path still leads to the recording.
func (r *recording) is(path string) bool {
	own, err := r.Stat()
	at, err2 := os.Stat(path)
	return err == nil && err2 == nil && os.SameFile(own, at)
}

// record is a proxy until it is interrupted.
func (e *env) record(c *cli.Context, target *url.URL, out string) error {
	f, err := create(out)
	if err != nil {
		return misuse(err)
	}
	defer f.Close()
	listener, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		os.Remove(out)
		return misuse(fmt.Errorf("--listen: %w; take another port, or 0 for a free one", err))
	}
	log := &recording{f, func(err error) {
		fmt.Fprintf(e.stderr, "simulate: the trace cannot be written: %v; nothing more is recorded, and requests still pass\n", err)
	}}
	proxy := record.New(target, log, nil)
	web := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	fmt.Fprintf(e.stdout, "http://%s\n", listener.Addr())
	fmt.Fprintf(e.stderr, "simulate: http://%s passes to %s://%s%s; Ctrl-C ends it\n", listener.Addr(), target.Scheme, target.Host, target.Path) // a query may be a key
	select {
	case err = <-served:
		return internal(fmt.Errorf("the proxy ended: %w", err))
	case <-c.Context.Done():
	}
	// What is under way may end; what takes longer is cut off, and written down so.
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cut := 0
	if web.Shutdown(end) != nil {
		_, _, cut, _ = proxy.Counts()
		_ = web.Close()
		for range 100 {
			if _, _, open, _ := proxy.Counts(); open == 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	rows, refused, _, err := proxy.Counts()
	if err != nil {
		return internal(fmt.Errorf("the trace could not be written: %w; what came before is in %s (read it with --sort)", err, out))
	}
	if !log.is(out) {
		return internal(fmt.Errorf("%s is not the file that was begun, which was moved or removed: %d requests are in that one, in the order of their ends (read it with --sort)", out, rows))
	}
	if rows == 0 {
		os.Remove(out)
		return misuse(errors.New("no request came; nothing was written"))
	}
	has, err := sorted(out)
	if err != nil {
		return internal(fmt.Errorf("the trace is complete, but could not be sorted: %w; read it with --sort", err))
	}
	fmt.Fprintf(e.stderr, "simulate: wrote %d requests to %s, %d of them refused; %d were cut off\n", rows, out, refused, cut)
	if int64(has) < rows {
		fmt.Fprintf(e.stderr, "simulate: %s was shortened meanwhile, and has %d of them\n", out, has)
	}
	return nil
}

// sorted sorts a recording by the instants at which requests came, and returns how many it has.
func sorted(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	at, err := f.Stat()
	if err == nil && at.Size() == 0 {
		return 0, f.Close()
	}
	t, err := trace.Read(path, f, trace.Options{Format: trace.Flyball, Sort: true})
	_ = f.Close()
	if err != nil {
		return 0, err
	}
	return len(t.Rows), writeFile(path, func(w io.Writer) error { return trace.Write(w, t.Rows) })
}
