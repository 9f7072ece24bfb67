package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve, record, fit, run and replay belong together: what is recorded at a served upstream is fitted, and what was fitted is run.
func TestServeRecordFitRunReplay(t *testing.T) {
	dir := t.TempDir()
	scenario, log, fitted := filepath.Join(dir, "up.toml"), filepath.Join(dir, "trace.jsonl"), filepath.Join(dir, "fitted.toml")
	text := `name = "up"
intent = "Five in flight."
duration = "1m"
[workload]
kind = "poisson"
rate = 1.0
[upstream.concurrency]
limit = 5
[upstream.server]
service = { mean = "60ms" }
`
	if err := os.WriteFile(scenario, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	upstream, stop := background(t, "serve", "--listen", "127.0.0.1:0", "--output", "5", scenario)
	proxy, end := background(t, "record", "--to", upstream, "--listen", "127.0.0.1:0", "--out", log)
	var wg sync.WaitGroup
	at := time.Now() // at instants of their own: sleeps that take longer on a busy machine would leave nothing to refuse
	for i := range 400 {
		time.Sleep(time.Until(at))
		at = at.Add(time.Duration(5+7*(i%3)) * time.Millisecond)
		wg.Go(func() {
			resp, err := http.Post(proxy+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"secret text"}]}`))
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		})
	}
	wg.Wait()
	errs, code := end()
	if code != exitOK || !strings.Contains(errs, "wrote 400 requests") {
		t.Fatalf("record: exit code %d\n%s", code, errs)
	}
	stop()
	if text, _ := os.ReadFile(log); strings.Contains(string(text), "secret") || strings.Count(string(text), "\n") != 400 {
		t.Errorf("the trace has %d lines: %.300s", strings.Count(string(text), "\n"), text)
	}

	_, errs, code = simulate(t.Context(), "", "fit", "--out", fitted, log)
	if code != exitOK || !strings.Contains(errs, "the model is") {
		t.Fatalf("fit: exit code %d\n%s", code, errs)
	}
	model, _ := os.ReadFile(fitted)
	// The proxy sees a call begin and end a little before and after the upstream does, by more on a machine that others use.
	if !regexp.MustCompile(`\[upstream.concurrency\]\nlimit = [456]\n`).Match(model) {
		t.Errorf("fitted:\n%s\n%s", model, errs)
	}
	for _, args := range [][]string{
		{"run", "--seeds", "1", "--controllers", "none,ours", "--html", "", fitted},
		{"replay", "--controllers", "none,ours", "--html", "", "--upstream", fitted, log},
	} {
		if out, errs, code := simulate(t.Context(), "", args...); code != exitOK || !strings.Contains(out, "ours") {
			t.Errorf("%v: exit code %d\n%s%s", args, code, out, errs)
		}
	}
}

// Whoever moves the file of a recording, or shortens it, as those do who keep logs short, loses nothing of it, and nothing of a file that has its name now.
func TestRecordOfMovedFile(t *testing.T) {
	upstream, _ := background(t, "serve", "--listen", "127.0.0.1:0")
	for _, requests := range []int{0, 1} {
		log := filepath.Join(t.TempDir(), "trace.jsonl")
		proxy, end := background(t, "record", "--to", upstream, "--listen", "127.0.0.1:0", "--out", log)
		if err := os.Rename(log, log+".1"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(log, []byte("of another one"), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(log+".1", os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString("another line\n")
		f.Close()
		for range requests {
			resp, err := http.Get(proxy + "/v1/models")
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if errs, code := end(); code != exitInternal || !strings.Contains(errs, "moved or removed: "+strconv.Itoa(requests)+" requests") {
			t.Errorf("%d requests: exit code %d, %s", requests, code, errs)
		}
		if text, err := os.ReadFile(log); string(text) != "of another one" {
			t.Errorf("the other file has %q, %v", text, err)
		}
		if text, err := os.ReadFile(log + ".1"); !strings.HasPrefix(string(text), "another line\n") || strings.Count(string(text), "\n") != 1+requests {
			t.Errorf("the recording has %q, %v", text, err)
		}
	}
}

// A file that was shortened is sorted as it is, and what it has is told.
func TestRecordOfShortenedFile(t *testing.T) {
	upstream, _ := background(t, "serve", "--listen", "127.0.0.1:0")
	for _, left := range []int{0, 1} {
		log := filepath.Join(t.TempDir(), "trace.jsonl")
		proxy, end := background(t, "record", "--to", upstream, "--listen", "127.0.0.1:0", "--out", log)
		for i := range 2 + left {
			resp, err := http.Get(proxy + "/v1/models")
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if i != 1 {
				continue
			}
			for lines := 0; lines < 2; { // a line is written when its answer has ended
				text, err := os.ReadFile(log)
				if err != nil {
					t.Fatal(err)
				}
				lines = strings.Count(string(text), "\n")
			}
			if err := os.Truncate(log, 0); err != nil {
				t.Fatal(err)
			}
		}
		if errs, code := end(); code != exitOK || !strings.Contains(errs, "shortened meanwhile, and has "+strconv.Itoa(left)+" of them") {
			t.Errorf("%d left: exit code %d, %s", left, code, errs)
		}
		if text, err := os.ReadFile(log); strings.Count(string(text), "\n") != left {
			t.Errorf("%d left: the recording has %q, %v", left, text, err)
		}
	}
}

// A disk that is full is told of when it is, and not hours later.
func TestRecordSaysThatItCannot(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "trace.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	told := 0
	r := &recording{f, func(err error) { told++ }}
	if _, err := r.Write([]byte("{}\n")); err == nil || told != 1 {
		t.Errorf("error %v, told %d times", err, told)
	}
}

func TestRecordMisuse(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, stdin, want string }{
		{"record", "", "give either --to"},
		{"record --to http://x --from y", "", "give either --to"},
		{"record --to http://x", "", "--out is missing"},
		{"record --to nowhere --out x", "", "--to is no URL"},
		{"record --to http://user:pass@x --out x", "", "without a user"},
		{"record --to http://x --out " + there, "", "exists: name another file"},
		{"record --from - --out " + there, azureTrace(3), "exists: name another file"},
		{"record --from - --out /nowhere/x", azureTrace(3), "--out:"},
		{"record --from - --out x", "a,b\n", `no column "t"`},
		{"record --to http://x --listen nowhere:x --out " + there + "2", "", "--listen:"},
		{"fit", "", "must be one trace"},
		{"fit -", azureTrace(100), "0 requests with an end"},
		{"fit /nowhere/x", "", "cannot be read"},
	} {
		out, errs, code := simulate(t.Context(), c.stdin, strings.Fields(c.args)...)
		if code != exitMisuse || !strings.Contains(errs, c.want) || out != "" || strings.Contains(errs, "pass@") {
			t.Errorf("simulate %s: exit code %d, %q, want %q", c.args, code, errs, c.want)
		}
	}
	if text, _ := os.ReadFile(there); string(text) != "kept" {
		t.Errorf("a file was overwritten: %q", text)
	}
}

func TestConvert(t *testing.T) {
	out := filepath.Join(t.TempDir(), "t.jsonl")
	if _, errs, code := simulate(t.Context(), azureTrace(3), "record", "--from", "-", "--out", out); code != exitOK || !strings.Contains(errs, "wrote 3 requests in 2s") {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	if text, _ := os.ReadFile(out); string(text) != "{\"t\":0,\"in\":100,\"out\":10}\n{\"t\":1,\"in\":101,\"out\":11}\n{\"t\":2,\"in\":102,\"out\":12}\n" {
		t.Errorf("%s", text)
	}
	logged := filepath.Join(t.TempDir(), "l.jsonl")
	if _, errs, code := simulate(t.Context(), "ts,who\n0,sk-a\n1,\n2,sk-b\n3,sk-a\n", "record", "--from", "-", "--columns", "t=ts,key=who", "--out", logged); code != exitOK {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	if text, _ := os.ReadFile(logged); string(text) != "{\"t\":0,\"key\":\"key-1\"}\n{\"t\":1}\n{\"t\":2,\"key\":\"key-2\"}\n{\"t\":3,\"key\":\"key-1\"}\n" {
		t.Errorf("%s", text)
	}
}
