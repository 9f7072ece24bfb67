// Package draintest holds implementations of drain.Source to what package drain promises.
//
//	func TestSource(t *testing.T) {
//		draintest.Run(t, func(t *testing.T) *draintest.Fixture { ... })
//	}
package draintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/flyball-go/flyball/drain"
)

// Fixture is a queue of its own, empty at first.
type Fixture struct {
	// Publish puts jobs at the end of the queue. It is called before Open.
	Publish func(t *testing.T, bodies ...string)
	// Open starts a consumer. There is one at a time.
	Open func(t *testing.T) drain.Source
	// Crash ends a consumer as the death of its process would: nothing is flushed or handed back.
	Crash func(t *testing.T, s drain.Source)
	// Close ends a consumer in order.
	Close func(t *testing.T, s drain.Source)
	// Letters returns the dead letters, once there are n of them.
	Letters func(t *testing.T, n int) []Letter
	// Forgets says that the source does not remember across consumers what was acknowledged, because it is read from the start each
	// time and the Store knows. A job that was handed back for later is then delivered by the same consumer only.
	Forgets bool
	// Prefix says that what is remembered is how far the queue is done: after a crash, jobs behind the first one that is not
	// done may come again although they were.
	Prefix bool
	// Wait is how long something may take that must happen. Zero means 10 s.
	Wait time.Duration
}

func (f *Fixture) wait() time.Duration {
	if f.Wait == 0 {
		return 10 * time.Second
	}
	return f.Wait
}

// quiet is for how long nothing must come, where nothing may.
const quiet = 300 * time.Millisecond

// Run runs the suite; open returns a fixture that is used by one test of it.
func Run(t *testing.T, open func(t *testing.T) *Fixture) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *harness)
	}{
		{"delivers each once", deliversOnce},
		{"acknowledged is done", ackIsDone},
		{"a crash loses nothing", crashLosesNothing},
		{"acknowledged out of order", ackOutOfOrder},
		{"retry comes later, with one attempt more", retryComesLater},
		{"dead letters keep the job and the reason", deadKeeps},
		{"release hands back", releaseHandsBack},
		{"fetch ends with its context", fetchEnds},
		{"settles while it fetches", settlesWhileFetching},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(t, &harness{t: t, Fixture: open(t)})
		})
	}
}

type harness struct {
	t *testing.T
	*Fixture
}

func body(i int) string {
	return fmt.Sprintf(`{"custom_id":"job-%d","method":"POST","url":"/v1/x","body":{"n":%d}}`, i, i)
}

func (h *harness) publish(n int) []string {
	h.t.Helper()
	var all []string
	for i := range n {
		all = append(all, body(i))
	}
	h.Publish(h.t, all...)
	return all
}

// fetch fetches until n jobs are there.
func (h *harness) fetch(s drain.Source, n int) []*drain.Delivery {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), h.wait())
	defer cancel()
	var all []*drain.Delivery
	for len(all) < n {
		ds, err := s.Fetch(ctx, n-len(all))
		if err != nil {
			h.t.Fatalf("after %d of %d jobs: %v", len(all), n, err)
		}
		if len(ds) > n-len(all) {
			h.t.Fatalf("Fetch(%d) returned %d jobs", n-len(all), len(ds))
		}
		all = append(all, ds...)
	}
	return all
}

// nothing checks that no job comes.
func (h *harness) nothing(s drain.Source) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), quiet)
	defer cancel()
	ds, err := s.Fetch(ctx, 10)
	if len(ds) > 0 {
		h.t.Fatalf("%d jobs came that should not, the first %s: %s", len(ds), ds[0].Where, ds[0].Body)
	}
	if err == nil {
		h.t.Fatal("Fetch returned neither jobs nor an error")
	}
}

func bodies(ds []*drain.Delivery) []string {
	var all []string
	for _, d := range ds {
		all = append(all, string(d.Body))
	}
	slices.Sort(all)
	return all
}

func (h *harness) same(got []*drain.Delivery, want []string) {
	h.t.Helper()
	want = slices.Sorted(slices.Values(want))
	if g := bodies(got); !slices.Equal(g, want) {
		h.t.Fatalf("got the jobs\n%s\nwant\n%s", g, want)
	}
}

func (h *harness) ack(s drain.Source, ds ...*drain.Delivery) {
	h.t.Helper()
	for _, d := range ds {
		if err := s.Ack(h.t.Context(), d); err != nil {
			h.t.Fatalf("Ack of %s: %v", d.Where, err)
		}
	}
}

func deliversOnce(t *testing.T, h *harness) {
	want := h.publish(20)
	s := h.Open(t)
	defer h.Close(t, s)
	got := h.fetch(s, len(want))
	h.same(got, want)
	h.nothing(s)
	for _, d := range got {
		if d.Attempts != 0 {
			t.Errorf("%s: %d attempts, want 0", d.Where, d.Attempts)
		}
		if d.Where == "" {
			t.Error("Where is empty")
		}
	}
	h.ack(s, got...)
}

func ackIsDone(t *testing.T, h *harness) {
	want := h.publish(5)
	s := h.Open(t)
	h.ack(s, h.fetch(s, len(want))...)
	if !h.Forgets {
		h.nothing(s)
	}
	h.Close(t, s)
	s = h.Open(t)
	defer h.Close(t, s)
	if h.Forgets {
		h.same(h.fetch(s, len(want)), want)
		return
	}
	h.nothing(s)
}

func crashLosesNothing(t *testing.T, h *harness) {
	want := h.publish(10)
	s := h.Open(t)
	got := h.fetch(s, len(want))
	h.ack(s, got[:4]...)
	left := bodies(got[4:])
	keeper, keeps := s.(drain.Keeper)
	if keeps && keeper.Lost(got[4]) {
		t.Error("a delivery is lost before the crash")
	}
	h.Crash(t, s)
	if keeps {
		for end := time.Now().Add(h.wait()); !keeper.Lost(got[4]); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("a delivery is not known to be lost within %v after the crash", h.wait())
			}
		}
	}
	s = h.Open(t)
	defer h.Close(t, s)
	if h.Forgets {
		h.same(h.fetch(s, len(want)), want)
		return
	}
	// What was acknowledged just before a crash may come again where acknowledgements are sent in the background.
	seen := map[string]bool{}
	for len(seen) < len(left) {
		for _, d := range h.fetch(s, 1) {
			if slices.Contains(left, string(d.Body)) {
				seen[string(d.Body)] = true
			}
			h.ack(s, d)
		}
	}
}

func ackOutOfOrder(t *testing.T, h *harness) {
	want := h.publish(6)
	s := h.Open(t)
	got := h.fetch(s, len(want))
	// All but the third, from the last to the first.
	for i := len(got) - 1; i >= 0; i-- {
		if i != 2 {
			h.ack(s, got[i])
		}
	}
	h.Close(t, s)
	s = h.Open(t)
	defer h.Close(t, s)
	switch {
	case h.Forgets:
		h.same(h.fetch(s, len(want)), want)
	case h.Prefix:
		again := h.fetch(s, 1)
		for string(again[len(again)-1].Body) != string(got[2].Body) {
			again = append(again, h.fetch(s, 1)...)
		}
		if slices.Contains(bodies(again), string(got[0].Body)) && len(again) > 1 {
			t.Errorf("a job came again that was done before the first that was not: %s", bodies(again))
		}
	default:
		h.same(h.fetch(s, 1), []string{string(got[2].Body)})
		h.nothing(s)
	}
}

func retryComesLater(t *testing.T, h *harness) {
	h.publish(3)
	s := h.Open(t)
	defer h.Close(t, s)
	got := h.fetch(s, 3)
	start := time.Now()
	const after = 1500 * time.Millisecond
	if err := s.Retry(t.Context(), got[1], after, "throttled"); err != nil {
		t.Fatal(err)
	}
	h.ack(s, got[0], got[2])
	h.nothing(s)
	again := h.fetch(s, 1)
	if d := time.Since(start); d < after-50*time.Millisecond {
		t.Errorf("it came back after %v, want at least %v", d, after)
	}
	h.same(again, []string{string(got[1].Body)})
	if n := again[0].Retries; n != got[1].Retries+1 {
		t.Errorf("%d retries, want %d", n, got[1].Retries+1)
	}
	if d := again[0].Since.Sub(got[1].Since).Abs(); again[0].Since.IsZero() || d > 2*time.Millisecond {
		t.Errorf("it was first delivered at %v, at the retry %v later", got[1].Since, d)
	}
	if again[0].Attempts != got[1].Attempts+1 {
		t.Errorf("%d attempts, want %d", again[0].Attempts, got[1].Attempts+1)
	}
	h.ack(s, again...)
	h.nothing(s)
}

func deadKeeps(t *testing.T, h *harness) {
	const bad = "no JSON at all \" \\ \x01"
	h.Publish(t, body(0), bad, body(1))
	s := h.Open(t)
	got := h.fetch(s, 3)
	for _, d := range got {
		if string(d.Body) == body(0) {
			h.ack(s, d)
			continue
		}
		letter := &drain.DeadLetter{
			Fault: drain.Fault{Reason: drain.ReasonRefused, Detail: `status 400: "no"` + "\n"},
			ID:    "job-1", Status: 400, RequestID: "req-1", Attempts: 2, Answer: []byte(`{"error":{}}`), At: time.Now(),
		}
		if err := s.Dead(t.Context(), d, letter); err != nil {
			t.Fatal(err)
		}
	}
	letters := h.Letters(t, 2)
	if len(letters) != 2 {
		t.Fatalf("%d dead letters, want 2", len(letters))
	}
	var all []string
	for _, l := range letters {
		all = append(all, string(l.Body))
		if l.Reason != drain.ReasonRefused || l.Detail != `status 400: "no"`+"\n" {
			t.Errorf("a dead letter with the reason %q, %q", l.Reason, l.Detail)
		}
	}
	slices.Sort(all)
	if want := slices.Sorted(slices.Values([]string{bad, body(1)})); !slices.Equal(all, want) {
		t.Errorf("dead letters %q, want %q", all, want)
	}
	h.Close(t, s)
	s = h.Open(t)
	defer h.Close(t, s)
	if h.Forgets {
		h.same(h.fetch(s, 1), []string{body(0)}) // the dead are remembered
	}
	h.nothing(s)
}

func releaseHandsBack(t *testing.T, h *harness) {
	want := h.publish(3)
	s := h.Open(t)
	for _, d := range h.fetch(s, 3) {
		if err := s.Release(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	h.Close(t, s)
	s = h.Open(t)
	defer h.Close(t, s)
	got := h.fetch(s, 3)
	h.same(got, want)
	h.ack(s, got...)
}

func fetchEnds(t *testing.T, h *harness) {
	h.publish(1)
	s := h.Open(t)
	defer h.Close(t, s)
	got := h.fetch(s, 1)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	start := time.Now()
	ds, err := s.Fetch(ctx, 1)
	if len(ds) > 0 || !errors.Is(err, cause) && err != io.EOF {
		t.Errorf("Fetch returned %d jobs and %v, want the context's cause", len(ds), err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("Fetch returned %v after its context ended", d)
	}
	h.ack(s, got...)
}

func settlesWhileFetching(t *testing.T, h *harness) {
	want := h.publish(100)
	s := h.Open(t)
	defer h.Close(t, s)
	var got []*drain.Delivery
	errs := make(chan error, len(want))
	for len(got) < len(want) {
		ds := h.fetch(s, 1)
		got = append(got, ds...)
		for _, d := range ds {
			go func() { errs <- s.Ack(t.Context(), d) }()
		}
	}
	for range want {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	h.same(got, want)
}
