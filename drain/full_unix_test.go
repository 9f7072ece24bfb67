//go:build unix

package drain_test

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/flyball-go/flyball/drain"
)

// Results of which a full disk took a part only leave nothing behind: neither half a line nor a whole one that was said not to be kept.
func TestFileFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	f := openFile(t, path)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	full := before
	full.Cur = 4 << 20 // no file may be larger, nor the one in which go test notes what was looked at
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	put := func(i, size int) error {
		return f.Put(t.Context(), &drain.Result{ID: fmt.Sprint("id-", i), Status: 200, Body: fmt.Appendf(nil, "%0*d", size, i)})
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	kept, refused := map[string]bool{}, []int{}
	for i := range 200 {
		all.Go(func() {
			err := put(i, 40_000)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				kept[fmt.Sprint("id-", i)] = true
			} else {
				refused = append(refused, i)
			}
		})
	}
	all.Wait()
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || len(text) > 0 && text[len(text)-1] != '\n' || bytes.Count(text, []byte("\n")) != len(kept) {
		t.Errorf("the file of %d results that were kept has %d lines, and ends with %q, %v", len(kept), bytes.Count(text, []byte("\n")), text[max(0, len(text)-20):], err)
	}
	if len(refused) == 0 {
		t.Fatal("the disk was not full")
	}
	if err := put(refused[0], 1); err != nil { // shorter than what was there
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	f = openFile(t, path)
	defer f.Close()
	if f.Len() != len(kept)+1 || f.Torn() != "" || f.Damaged() != 0 {
		t.Errorf("%d results, want %d; torn %q, damaged %d", f.Len(), len(kept)+1, f.Torn(), f.Damaged())
	}
}
