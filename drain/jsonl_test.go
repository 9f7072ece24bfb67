package drain_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/drain/draintest"
)

func TestJSONLSource(t *testing.T) {
	draintest.Run(t, func(t *testing.T) *draintest.Fixture {
		path := filepath.Join(t.TempDir(), "in.jsonl")
		return &draintest.Fixture{
			Publish: func(t *testing.T, bodies ...string) {
				write(t, path, strings.Join(bodies, "\n")+"\n")
			},
			Open: func(t *testing.T) drain.Source {
				s, err := drain.OpenJSONL(path, drain.JSONLConfig{})
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Crash: func(t *testing.T, s drain.Source) { s.(*drain.JSONL).Close() }, // it has nothing to flush
			Close: func(t *testing.T, s drain.Source) {
				if err := s.(*drain.JSONL).Close(); err != nil {
					t.Error(err)
				}
			},
			Letters: func(t *testing.T, n int) (all []draintest.Letter) {
				for _, l := range deadLines(t, strings.TrimSuffix(path, ".jsonl")+".dead.jsonl") {
					body := []byte(l.Input)
					var s string
					if json.Unmarshal(l.Input, &s) == nil {
						body = []byte(s)
					}
					all = append(all, draintest.Letter{Body: body, Reason: l.Error.Code, Detail: l.Error.Message})
				}
				return all
			},
			Forgets: true,
		}
	})
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func deadLines(t testing.TB, path string) (all []drain.DeadLine) {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var l drain.DeadLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, l)
	}
	return all
}

// Trying dead letters again loses none of those of before, and never takes the jobs for dead letters.
func TestRetryDeadKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.jsonl")
	dead := strings.TrimSuffix(path, ".jsonl") + ".dead.jsonl"
	write(t, path, "nonsense\n")
	for _, text := range []string{"first\n", "second\n"} {
		write(t, dead, text)
		s, err := drain.OpenJSONL(path, drain.JSONLConfig{RetryDead: true})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	for name, want := range map[string]string{dead + ".old": "first\n", dead + ".old-2": "second\n"} {
		if data, err := os.ReadFile(name); err != nil || string(data) != want {
			t.Errorf("%s has %q, %v; want %q", name, data, err, want)
		}
	}
	if _, err := drain.OpenJSONL(path, drain.JSONLConfig{Dead: path, RetryDead: true}); err == nil {
		t.Error("the jobs were taken for dead letters")
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// Lines that are too long are dead letters each, also when they begin alike, and whatever is in them.
func TestJSONLTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.jsonl")
	same := strings.Repeat("x", 6000)
	long := []string{same + "1", same + "2", strings.Repeat(" ", 5000) + "x", strings.Repeat(" ", 7000)}
	write(t, path, strings.Join(long, "\n")+"\n"+string(line("a", 1))+"\n")
	for run := range 2 {
		s, err := drain.OpenJSONL(path, drain.JSONLConfig{MaxLine: 1024})
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, 4)
		w.cfg.Source = s
		p, err := w.run(t)
		if err != nil {
			t.Error(err)
		}
		if want := int64(4 * (1 - run)); p.Dead != want || p.Done != 1 {
			t.Errorf("run %d: %d dead, %d done, want %d and 1", run, p.Dead, p.Done, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	dead := deadLines(t, strings.TrimSuffix(path, ".jsonl")+".dead.jsonl")
	if len(dead) != 4 {
		t.Errorf("%d dead letters, want 4", len(dead))
	}
}

// Who sent the jobs goes by their ids, also by those of what is no request.
func TestJSONLDeadLettersHaveTheirIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.jsonl")
	write(t, path, strings.Join([]string{
		`{"custom_id":"host","url":"http://elsewhere/v1/x","body":{}}`,
		`{"url":"/x","body":{},"priority":9,"custom_id":"zw\u00f6lf"}`,
		`{"custom_id":"bare","url":"/x"}`,
		`{"custom_id":"half","url":"/x","bo`,
		`{"custom_id":"long","url":"/x","body":"` + strings.Repeat("x", 2000) + `"}`,
		`{"custom_id":"` + strings.Repeat("i", 1025) + `","url":"/x","body":{}}`,
		`{"custom_id":7,"url":"/x","body":{}}`,
	}, "\n"))
	s, err := drain.OpenJSONL(path, drain.JSONLConfig{MaxLine: 1100})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, 4)
	w.cfg.Source = s
	if _, err := w.run(t); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	got := map[string]int{}
	for _, l := range deadLines(t, strings.TrimSuffix(path, ".jsonl")+".dead.jsonl") {
		got[l.ID]++
	}
	if want := (map[string]int{"host": 1, "zwölf": 1, "bare": 1, "half": 1, "long": 1, "": 2}); !maps.Equal(got, want) {
		t.Errorf("ids of dead letters %v, want %v", got, want)
	}
}

// A file of jobs that somebody cuts or writes anew while it is read does not end as if all of it were done.
func TestJSONLCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.jsonl")
	const n = 100_000 // more than is read at once
	write(t, path, strings.Repeat("{\"url\":\"/v1/x\"}\n\n", n))
	s, err := drain.OpenJSONL(path, drain.JSONLConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := 0; err == nil; i++ {
		var ds []*drain.Delivery
		if ds, err = s.Fetch(t.Context(), 100); i == 0 {
			write(t, path, "")
		}
		for _, d := range ds {
			if err := s.Ack(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !strings.Contains(err.Error(), "was cut while it was read: it had 100000 lines") {
		t.Error(err)
	}
}

// A file is whole that has lines with nothing for people on them.
func TestJSONLBlank(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.jsonl")
	write(t, path, "\xef\xbb\xbf\n\u00a0\n \t\r\n\v\n{}\n\n\u2003\n"+strings.Repeat(" ", 2000))
	s, err := drain.OpenJSONL(path, drain.JSONLConfig{MaxLine: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	for err == nil {
		var ds []*drain.Delivery
		ds, err = s.Fetch(t.Context(), 100)
		for _, d := range ds {
			n++
			if err := s.Ack(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err != io.EOF || n != 2 { // the last line is too long
		t.Errorf("%d jobs, %v", n, err)
	}
}

// A job that was handed back comes again although nothing is to be read, from a pipe that is open or has ended.
func TestJSONLPipeHandedBack(t *testing.T) {
	for _, ends := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			in, feed := io.Pipe()
			s, err := drain.NewJSONL(in, "pipe", drain.JSONLConfig{Dead: filepath.Join(t.TempDir(), "dead.jsonl")})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			go func() {
				_, _ = io.WriteString(feed, "1\n\n2\n3")
				if ends {
					feed.Close()
				}
			}()
			ds, err := s.Fetch(t.Context(), 1)
			if err != nil || len(ds) != 1 {
				t.Fatalf("%d deliveries, %v", len(ds), err)
			}
			began := time.Now()
			if err := s.Retry(t.Context(), ds[0], time.Minute, ""); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			var got []string
			for len(ds) > 0 && string(ds[0].Body) != "1" || len(got) == 0 {
				if ds, err = s.Fetch(ctx, 1); err != nil {
					t.Fatalf("after %q: %v", got, err)
				}
				got = append(got, string(ds[0].Body))
			}
			if want := map[bool]string{false: "2 1", true: "2 3 1"}[ends]; strings.Join(got, " ") != want || time.Since(began) != time.Minute {
				t.Errorf("%q came within %v, want %s", got, time.Since(began), want)
			}
		})
	}
}

// A job of a pipe does not wait for the rest of the next one: who writes blocks of bytes ends most of them in the middle of a line.
func TestJSONLPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, feed := io.Pipe()
		s, err := drain.NewJSONL(in, "pipe", drain.JSONLConfig{Dead: filepath.Join(t.TempDir(), "dead.jsonl")})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		go feed.Write([]byte(`{"custom_id":"a","url":"/x","body":{}}` + "\n" + `{"custom_id":"b","url":"/x","bo`))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ds, err := s.Fetch(ctx, 10)
		if err != nil || len(ds) != 1 || ds[0].Where != "pipe:1" {
			t.Fatalf("Fetch returned %d jobs and %v, want the first", len(ds), err)
		}
		go func() {
			feed.Write([]byte(`dy":{}}` + "\n"))
			feed.Close()
		}()
		if ds, err = s.Fetch(ctx, 10); err != nil || len(ds) != 1 || string(ds[0].Body) != `{"custom_id":"b","url":"/x","body":{}}` {
			t.Fatalf("Fetch returned %d jobs and %v, want the second", len(ds), err)
		}
	})
}

// A file is not read ahead by more bytes than that, whatever the number of jobs that are asked for.
func TestJSONLLargeLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.jsonl")
	line := `{"url":"/x","body":{"pad":"` + strings.Repeat("x", 1<<20) + "\"}}\n"
	if err := os.WriteFile(path, []byte(strings.Repeat(line, 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := drain.OpenJSONL(path, drain.JSONLConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for total := 0; total < 40; {
		ds, err := s.Fetch(t.Context(), 1000)
		if err != nil || len(ds) > 16 {
			t.Fatalf("Fetch returned %d jobs of a MiB and %v, want 16 at the most", len(ds), err)
		}
		total += len(ds)
	}
}
