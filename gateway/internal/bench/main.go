// Command bench measures what the gateway adds to a call, beside a bare httputil.ReverseProxy in the same run.
//
//	go run ./gateway/internal/bench
//
// Upstream, proxies and callers share the machine, and the two proxies take turns in short rounds, so that what else the machine does
// meets both.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/server"
)

func main() {
	rounds := flag.Int("rounds", 20, "rounds of each proxy")
	round := flag.Duration("round", 500*time.Millisecond, "how long a round is")
	callers := flag.Int("callers", 32, "callers at a time")
	streams := flag.Int("streams", 0, "instead, hold so many streams open, and print memory")
	last := flag.Duration("for", 10*time.Minute, "how long to hold streams")
	child := flag.String("child", "", "be the gateway of -streams, before this upstream")
	profile := flag.String("cpuprofile", "", "write a profile of the processor to this file")
	three := flag.Bool("overload", false, "instead, offer three times what upstreams allow, and count what fails")
	law := flag.String("law", "fixed", "the law of -streams: fixed, which allows all of them, or adaptive, which learns that it may")
	only := flag.String("only", "", "measure only the loads whose name begins with this")
	flag.Parse()
	var err error
	if *profile != "" {
		f, perr := os.Create(*profile)
		if perr == nil {
			perr = pprof.StartCPUProfile(f)
		}
		if perr != nil {
			fmt.Fprintln(os.Stderr, "bench:", perr)
			os.Exit(1)
		}
		defer pprof.StopCPUProfile()
	}
	if *child != "" {
		err = serveChild(*child, *streams, *law)
	} else if *three {
		err = overload()
	} else if *streams > 0 {
		err = hold(*streams, *last, *law)
	} else {
		err = compare(*rounds, *round, *callers, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		pprof.StopCPUProfile()
		os.Exit(1)
	}
}

// A load is what callers ask for.
type load struct {
	name, path, body string
	handler          http.HandlerFunc
}

func discard(r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }

var loads = []load{
	{"answer at once", "/chat/completions", chat, func(w http.ResponseWriter, r *http.Request) {
		discard(r)
		answer(w)
	}},
	{"answer after 20 ms", "/chat/completions", chat, func(w http.ResponseWriter, r *http.Request) {
		discard(r)
		time.Sleep(20 * time.Millisecond)
		answer(w)
	}},
	{"stream of 50 events at once", "/chat/completions", stream, func(w http.ResponseWriter, r *http.Request) {
		discard(r)
		w.Header().Set("Content-Type", "text/event-stream")
		for range 50 {
			_, _ = w.Write(event)
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}},
	{"stream of 20 events, 5 ms apart", "/chat/completions", stream, func(w http.ResponseWriter, r *http.Request) {
		discard(r)
		w.Header().Set("Content-Type", "text/event-stream")
		for range 20 {
			_, _ = w.Write(event)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Millisecond)
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}},
}

var (
	text   = string(bytes.Repeat([]byte("All work and no play makes Jack a dull boy. "), 24))
	chat   = `{"model":"m","messages":[{"role":"user","content":"` + text + `"}]}`
	stream = `{"model":"m","stream":true,"messages":[{"role":"user","content":"` + text + `"}]}`
	event  = []byte("data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n")
)

func answer(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"`+text+`"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":100,"total_tokens":200}}`)
}

// serve serves h on the loopback address.
func serve(h http.Handler) (base string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(l) }()
	return "http://" + l.Addr().String(), func() { _ = s.Close() }, nil
}

// gateway starts a gateway in front of upstream that may have so many places, and has them from the start unless it is to learn that; with none it
// has the law's defaults.
func gateway(upstream string, places int, law string, learn bool) (base string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "flyball-bench")
	if err != nil {
		return "", nil, err
	}
	file := filepath.Join(dir, "limits.toml")
	text := fmt.Sprintf("[upstream.up]\nbase_url = %q\n", upstream+"/v1")
	if places > 0 {
		text += fmt.Sprintf("law = %q\nmax_limit = %d\n", law, max(places, 1024))
		if !learn {
			text += fmt.Sprintf("initial_limit = %d\n", places)
		}
	}
	text += fmt.Sprintf("[gateway.log]\nfile = %q\n", filepath.Join(dir, "log"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", nil, err
	}
	s, err := server.New(server.Options{Config: file, Listen: "127.0.0.1:0"})
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan bool)
	go func() { defer close(ended); _ = s.Run(ctx) }()
	return "http://" + s.Addr(), func() { cancel(); <-ended; _ = os.RemoveAll(dir) }, nil
}

// bare starts a reverse proxy with a transport that is set up as the gateway's.
func bare(upstream string, places int) (base string, stop func(), err error) {
	to, err := url.Parse(upstream)
	if err != nil {
		return "", nil, err
	}
	p := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &http.Transport{MaxIdleConnsPerHost: places, DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	return serve(p)
}

func compare(rounds int, round time.Duration, callers int, only string) error {
	fmt.Printf("%s, %d processors, %d callers, %d rounds of %v each\n\n", runtime.Version(), runtime.GOMAXPROCS(0), callers, rounds, round)
	fmt.Printf("%-32s %10s %12s %12s %12s %12s %12s\n", "", "", "p50", "p99", "calls/s", "cpu/call", "failed")
	for _, l := range loads {
		if !strings.HasPrefix(l.name, only) {
			continue
		}
		up, stopUp, err := serve(l.handler)
		if err != nil {
			return err
		}
		direct, stopDirect, err := bare(up, callers)
		if err != nil {
			return err
		}
		ours, stopOurs, err := gateway(up, callers, "adaptive", false)
		if err != nil {
			return err
		}
		names := []string{"bare", "gateway"}
		targets := []string{direct + "/v1" + l.path, ours + "/up" + l.path}
		tallies := []*tally{{}, {}}
		for i := range targets { // connections
			run(targets[i], l.body, callers, round, &tally{})
		}
		for r := range rounds {
			for i := range targets {
				i = (i + r) % len(targets) // neither is always the first
				run(targets[i], l.body, callers, round, tallies[i])
			}
		}
		for i, t := range tallies {
			fmt.Printf("%-32s %10s %12v %12v %12.0f %12v %12d\n", l.name, names[i], t.quantile(0.5), t.quantile(0.99), float64(len(t.took))/t.time.Seconds(), t.perCall(), t.failed)
		}
		b, g := tallies[0], tallies[1]
		fmt.Printf("%-32s %10s %+11.1f%% %+11.1f%% %+11.1f%% %+11.1f%%\n\n", "", "difference",
			100*(float64(g.quantile(0.5))/float64(b.quantile(0.5))-1), 100*(float64(g.quantile(0.99))/float64(b.quantile(0.99))-1),
			100*((float64(len(g.took))/g.time.Seconds())/(float64(len(b.took))/b.time.Seconds())-1), 100*(float64(g.perCall())/float64(b.perCall())-1))
		stopOurs()
		stopDirect()
		stopUp()
	}
	return nil
}

// tally is what callers measured.
type tally struct {
	mu     sync.Mutex
	took   []time.Duration
	time   time.Duration
	cpu    time.Duration // of the whole process
	failed int
	sorted bool
}

// perCall returns the processor time of a call, of its caller, the proxy and the upstream together. What else the machine does changes it
// much less than the time by the clock.
func (t *tally) perCall() time.Duration {
	return (t.cpu / time.Duration(max(1, len(t.took)))).Round(100 * time.Nanosecond)
}

func (t *tally) quantile(q float64) time.Duration {
	if len(t.took) == 0 {
		return 0
	}
	if !t.sorted {
		slices.Sort(t.took)
		t.sorted = true
	}
	return t.took[int(math.Ceil(q*float64(len(t.took))))-1].Round(time.Microsecond)
}

// transports are kept, so that rounds find connections.
var transports sync.Map

// run has callers call url, one call after the other each, for a while.
func run(url, body string, callers int, d time.Duration, t *tally) {
	v, _ := transports.LoadOrStore(url, &http.Transport{MaxIdleConnsPerHost: callers, DisableCompression: true})
	client := &http.Client{Transport: v.(*http.Transport)}
	began, cpu := time.Now(), cpuTime()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			var took []time.Duration
			failed := 0
			buf := make([]byte, 32<<10)
			for time.Since(began) < d {
				start := time.Now()
				resp, err := client.Post(url, "application/json", bytes.NewReader([]byte(body)))
				if err != nil {
					failed++
					continue
				}
				for err == nil {
					_, err = resp.Body.Read(buf)
				}
				_ = resp.Body.Close()
				if err != io.EOF || resp.StatusCode != 200 {
					failed++
					continue
				}
				took = append(took, time.Since(start))
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			t.took, t.failed = append(t.took, took...), t.failed+failed
		})
	}
	all.Wait()
	t.time += time.Since(began)
	t.cpu += cpuTime() - cpu
	t.sorted = false
}
