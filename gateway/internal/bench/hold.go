package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// serveChild is the gateway of hold, in a process of its own: it prints its address, and ends when its input does.
func serveChild(upstream string, streams int, law string) error {
	base, stop, err := gateway(upstream, streams, law, law == "adaptive")
	if err != nil {
		return err
	}
	fmt.Println(base)
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	stop()
	return nil
}

// hold keeps streams open through a gateway in a process of its own, an event a second each, and prints what memory that process takes.
func hold(streams int, d time.Duration, law string) error {
	up, stopUp, err := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		discard(r)
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for r.Context().Err() == nil {
			if _, err := w.Write(event); err != nil || rc.Flush() != nil {
				return
			}
			select {
			case <-tick.C:
			case <-r.Context().Done():
			}
		}
	}))
	if err != nil {
		return err
	}
	defer stopUp()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "-child", up, "-streams", fmt.Sprint(streams), "-law", law)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	base, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the gateway does not start: %w", err)
	}
	base = strings.TrimSpace(base)

	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var open, events, failed atomic.Int64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: streams}}
	var all sync.WaitGroup
	for i := range streams {
		if i%100 == 0 {
			time.Sleep(20 * time.Millisecond)
		}
		all.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, "POST", base+"/up/chat/completions", bytes.NewReader([]byte(stream)))
			req.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(req)
			if err != nil || resp.StatusCode != 200 {
				failed.Add(1)
				return
			}
			defer resp.Body.Close()
			first := true
			defer func() {
				if !first {
					open.Add(-1)
				}
			}()
			buf := make([]byte, 4<<10)
			for {
				n, err := resp.Body.Read(buf)
				if m := bytes.Count(buf[:n], []byte("data:")); m > 0 { // what says that it waits is none
					events.Add(int64(m))
					if first {
						first = false
						open.Add(1)
					}
				}
				if err != nil {
					if ctx.Err() == nil {
						failed.Add(1)
					}
					return
				}
			}
		})
	}
	fmt.Printf("%d streams, an event a second each, for %v; memory is of the gateway's process\n", streams, d)
	began := time.Now()
	for ctx.Err() == nil {
		select {
		case <-time.After(min(max(d/10, time.Second), time.Minute)):
		case <-ctx.Done():
		}
		fmt.Printf("%8v  %6d open  %9d events  %4d failed  %7.1f MiB resident\n", time.Since(began).Round(time.Second), open.Load(), events.Load(), failed.Load(), resident(cmd.Process.Pid))
	}
	all.Wait()
	return nil
}

// resident returns the resident memory of a process in MiB, on Linux.
func resident(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kib / 1024
		}
	}
	return 0
}
