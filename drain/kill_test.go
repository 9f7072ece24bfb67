package drain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/limiter"
)

// childEnv, when set, makes the test's binary a process that drains: input, results and upstream, with newlines between.
const childEnv = "FLYBALL_DRAIN_CHILD"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		if err := child(strings.Split(args, "\n")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(args []string) error {
	src, err := drain.OpenJSONL(args[0], drain.JSONLConfig{})
	if err != nil {
		return err
	}
	defer src.Close()
	store, err := drain.OpenFile(args[1])
	if err != nil {
		return err
	}
	defer store.Close()
	up, err := drain.NewHTTP(drain.HTTP{BaseURL: args[2]})
	if err != nil {
		return err
	}
	guard, err := limiter.New(limiter.Config{MaxWait: time.Hour})
	if err != nil {
		return err
	}
	r, err := drain.New(drain.Config{Source: src, Store: store, Upstream: up, Guard: guard})
	if err != nil {
		return err
	}
	return r.Run(context.Background())
}

// A process that is killed at ten random moments, and started again each time, leaves each id exactly once in the results,
// and sends nothing whose result was in the file when it was killed.
func TestKilledAndResumed(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: not starting processes")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const jobs, kills = 3000, 10
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))

	var mu sync.Mutex
	durable := map[string]bool{} // in the file when a process was killed
	sent := map[string]int{}
	var wrong []string
	// A process must not come to its end before it is killed, however late that is: so many calls are answered until then, of this one.
	left, process := 0, 0
	mayAnswer := func(of int) (yes, gone bool) {
		mu.Lock()
		defer mu.Unlock()
		if left > 0 && of == process {
			left--
			return true, false
		}
		return false, of != process
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			ID string `json:"id"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			w.WriteHeader(400)
			return
		}
		mu.Lock()
		sent[in.ID]++
		if durable[in.ID] {
			wrong = append(wrong, in.ID)
		}
		of := process
		mu.Unlock()
		for {
			yes, gone := mayAnswer(of)
			if gone {
				return
			}
			if yes {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(5+len(in.ID)%3) * time.Millisecond) // a call takes its time
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"echo":%q}`, in.ID)
	}))
	defer srv.Close()

	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.jsonl"), filepath.Join(dir, "out.jsonl")
	var text bytes.Buffer
	for i := range jobs {
		fmt.Fprintf(&text, `{"custom_id":"id-%d","method":"POST","url":"/v1/x","body":{"id":"id-%d"}}`+"\n", i, i)
		if i%100 == 99 {
			fmt.Fprintf(&text, "poison %d\n", i)
		}
	}
	write(t, in, text.String())

	results := func() (ids []string, torn bool) {
		data, err := os.ReadFile(out)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(data)) {
			if !strings.HasSuffix(l, "\n") {
				return ids, true
			}
			var o struct {
				ID       string `json:"custom_id"`
				Response struct {
					Body struct{ Echo string }
				}
			}
			if err := json.Unmarshal([]byte(l), &o); err != nil || o.Response.Body.Echo != o.ID {
				t.Fatalf("%v in the result %s", err, l)
			}
			ids = append(ids, o.ID)
		}
		return ids, false
	}

	for kill := 0; ; kill++ {
		before, _ := results()
		more := len(before) + random.IntN(jobs/kills-50)
		mu.Lock()
		process++
		if left = more - len(before) + 40; kill == kills {
			left = 2 * jobs
		}
		mu.Unlock()
		var stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), childEnv+"="+in+"\n"+out+"\n"+srv.URL)
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if kill == kills {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("the last process: %v\n%s", err, stderr.Bytes())
				}
			case <-time.After(time.Minute):
				_ = cmd.Process.Kill()
				t.Fatal("the last process does not come to its end")
			}
			break
		}
		// Killed once some results more are there: at a random moment of the work, however slow the machine.
		for early := false; !early; {
			select {
			case err := <-ended:
				t.Fatalf("it ended before it was killed: %v\n%s", err, stderr.Bytes())
			case <-time.After(time.Duration(random.IntN(2000)) * time.Microsecond):
			}
			ids, _ := results()
			early = len(ids) >= more
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-ended
		ids, torn := results()
		t.Logf("killed with %d results, torn: %v", len(ids), torn)
		mu.Lock()
		for _, id := range ids {
			durable[id] = true
		}
		mu.Unlock()
	}

	ids, torn := results()
	times := map[string]int{}
	for _, id := range ids {
		times[id]++
	}
	if torn || len(ids) != jobs || len(times) != jobs {
		t.Errorf("%d results for %d ids, want each of %d once; torn: %v", len(ids), len(times), jobs, torn)
	}
	again := 0
	for _, n := range sent {
		again += n - 1
	}
	t.Logf("%d jobs were sent again because they were in flight when a process was killed", again)
	if len(wrong) > 0 {
		t.Errorf("%d jobs were sent although their results were durable, such as %s", len(wrong), wrong[0])
	}
	if n := len(deadLines(t, filepath.Join(dir, "in.dead.jsonl"))); n != jobs/100 {
		t.Errorf("%d dead letters, want %d", n, jobs/100)
	}
}
