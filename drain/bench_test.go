//go:build unix

package drain_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/drain/draintest"
	"github.com/flyball-go/flyball/limiter"
)

// instant is an upstream that answers at once, so that what is measured is the runner.
type instant struct{ body []byte }

func (u instant) Send(context.Context, *drain.Job) drain.Answer {
	return drain.Answer{Status: 200, Body: u.body}
}

// cpu returns the processor time that this process has used, in nanoseconds.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkRunner measures what a job costs besides its call: to read, admit, and make its result durable. Processor
// time (cpu-ns/op) says what it costs on a machine that others use, too.
//
//	go test ./drain -run '^$' -bench Runner -benchtime 200000x
func BenchmarkRunner(b *testing.B) {
	answer := []byte(`{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat("word ", 100) + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":100,"total_tokens":109}}`)
	job := func(i int) []byte {
		return fmt.Appendf(nil, `{"custom_id":"request-%d","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"%s"}],"max_tokens":100}}`,
			i, strings.Repeat("word ", 80))
	}
	run := func(b *testing.B, src drain.Source, store drain.Store) {
		guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(64)})
		if err != nil {
			b.Fatal(err)
		}
		r, err := drain.New(drain.Config{Source: src, Store: store, Upstream: instant{answer}, Guard: guard})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.ResetTimer()
		before := cpu(b)
		if err := r.Run(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
		if n := r.Progress().Done; n != int64(b.N) {
			b.Fatalf("%d done, want %d", n, b.N)
		}
	}
	b.Run("memory", func(b *testing.B) {
		src := &draintest.Memory{}
		for i := range b.N {
			src.Publish(&drain.Delivery{Body: job(i), Where: "memory"})
		}
		src.Finish()
		run(b, src, &draintest.Results{})
	})
	b.Run("jsonl", func(b *testing.B) {
		var in bytes.Buffer
		for i := range b.N {
			in.Write(job(i))
			in.WriteByte('\n')
		}
		dir := b.TempDir()
		src, err := drain.NewJSONL(io.NopCloser(&in), "in.jsonl", drain.JSONLConfig{Dead: filepath.Join(dir, "dead.jsonl")})
		if err != nil {
			b.Fatal(err)
		}
		store, err := drain.OpenFile(filepath.Join(dir, "out.jsonl"))
		if err != nil {
			b.Fatal(err)
		}
		defer store.Close()
		run(b, src, store)
	})
}
